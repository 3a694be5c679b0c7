//go:build linux && (amd64 || arm64 || ppc64le || riscv64 || s390x)

package unix

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Path is one as the kernel takes it, with a NUL at its end: to look at it,
// or to open it, allocates nothing.
type Path []byte

// NewPath returns the Path of names with a slash between each.
func NewPath(names ...string) Path {
	n := 0
	for _, name := range names {
		n += len(name) + 1
	}
	p := make(Path, 0, n)
	for _, name := range names {
		p = append(append(p, name...), '/')
	}
	p[n-1] = 0
	return p
}

// Set returns name as a Path, in the place of p if there is room.
func (p Path) Set(name string) Path { return append(append(p[:0], name...), 0) }

// String returns p without the NUL.
func (p Path) String() string { return string(bytes.TrimSuffix(p, []byte{0})) }

// Open opens p. The error 0 is none.
func (p Path) Open(flags int) (fd int, err Errno) {
	if !p.whole() {
		return -1, EINVAL
	}
	cwd := AT_FDCWD
	for {
		fd, _, err := unix.Syscall6(unix.SYS_OPENAT, uintptr(cwd), uintptr(unsafe.Pointer(&p[0])), uintptr(flags), 0, 0, 0)
		if err == 0 {
			return int(fd), 0
		}
		if err != EINTR {
			return -1, err
		}
	}
}

// Lstat is Lstat of p. The error 0 is none.
func (p Path) Lstat(st *Stat_t) Errno { return p.LstatAt(AT_FDCWD, st) }

// LstatAt is Lstat of p in the directory dirfd. The error 0 is none.
func (p Path) LstatAt(dirfd int, st *Stat_t) Errno {
	if !p.whole() {
		return EINVAL
	}
	for {
		_, _, err := unix.Syscall6(unix.SYS_NEWFSTATAT, uintptr(dirfd), uintptr(unsafe.Pointer(&p[0])), uintptr(unsafe.Pointer(st)), AT_SYMLINK_NOFOLLOW, 0, 0)
		if err != EINTR {
			return err
		}
	}
}

// whole says whether the kernel would see all of p: a NUL within would have it
// look at something else.
func (p Path) whole() bool { return bytes.IndexByte(p, 0) == len(p)-1 }
