//go:build unix

package refresh

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func killGroup(pgid int) { syscall.Kill(-pgid, syscall.SIGKILL) }

// killRest ends what is left of a group whose leader was waited for. If a
// process has that number, it is another one, and so is its group: nothing was
// left of ours.
func killRest(pgid int) {
	if syscall.Kill(pgid, 0) == syscall.ESRCH {
		killGroup(pgid)
	}
}

// unread says whether a pipe holds something, or its end, that was not read.
func unread(pipe *os.File) bool {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return false
	}
	ready := false
	err = conn.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		ready = err == nil && n > 0
	})
	return err == nil && ready
}
