//go:build linux && (amd64 || arm64 || ppc64le || riscv64 || s390x)

package syscache

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// A path is one as the kernel takes it, with a NUL at its end: made once, so
// that an lstat of it allocates nothing.
type path []byte

func newPath(p string) path { return append([]byte(p), 0) }

func (p path) lstat(st *unix.Stat_t) unix.Errno {
	here := unix.AT_FDCWD
	for {
		_, _, err := unix.Syscall6(unix.SYS_NEWFSTATAT, uintptr(here), uintptr(unsafe.Pointer(&p[0])), uintptr(unsafe.Pointer(st)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
		if err != unix.EINTR {
			return err
		}
	}
}
