//go:build linux && (amd64 || arm64 || ppc64le || riscv64 || s390x)

package unix

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Path is one as the kernel takes it, with a NUL at its end: a look at it
// allocates nothing.
type Path []byte

// NewPath returns p as a Path.
func NewPath(p string) Path { return Path(nil).Set(p) }

// Set returns name as a Path, in the place of p if there is room.
func (p Path) Set(name string) Path { return append(append(p[:0], name...), 0) }

// Lstat is Lstat of p. The error 0 is none.
func (p Path) Lstat(st *Stat_t) Errno { return p.LstatAt(AT_FDCWD, st) }

// LstatAt is Lstat of p in the directory dirfd. The error 0 is none.
func (p Path) LstatAt(dirfd int, st *Stat_t) Errno {
	for {
		_, _, err := unix.Syscall6(unix.SYS_NEWFSTATAT, uintptr(dirfd), uintptr(unsafe.Pointer(&p[0])), uintptr(unsafe.Pointer(st)), AT_SYMLINK_NOFOLLOW, 0, 0)
		if err != EINTR {
			return err
		}
	}
}
