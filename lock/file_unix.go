//go:build unix

package lock

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFlags: O_NONBLOCK and O_NOCTTY, for a FIFO or a terminal planted at the
// path must neither hold us up nor become ours; on a regular file neither does
// anything, and a lock waits in spite of O_NONBLOCK. Read-write, for NFS gives
// EBADF to an exclusive lock on a read-only descriptor. Package os adds O_CLOEXEC.
const openFlags = os.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY

// setMode gives f the mode wanted, if that is ours to do. What another owns is
// as good as it is: whoever checks the trust in the cache judges it. A file with
// a second name may be anything (a system file, linked here by a member of the
// group that may write the root), so its mode is not touched.
func setMode(f *os.File, fi fs.FileInfo, mode fs.FileMode) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || fi.Mode() == mode || int(st.Uid) != os.Geteuid() || st.Nlink != 1 {
		return nil
	}
	if err := f.Chmod(mode); err != nil {
		return fmt.Errorf("chmod %04o: %w", mode, reason(err))
	}
	return nil
}
