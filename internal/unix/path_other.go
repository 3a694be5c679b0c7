//go:build !(linux && (amd64 || arm64 || ppc64le || riscv64 || s390x))

package unix

import (
	"errors"
	"strings"
)

// A Path is one that is looked at often.
type Path []byte

// NewPath returns the Path of names with a slash between each.
func NewPath(names ...string) Path { return Path(strings.Join(names, "/")) }

// Set returns name as a Path, in the place of p if there is room.
func (p Path) Set(name string) Path { return append(p[:0], name...) }

// String returns p.
func (p Path) String() string { return string(p) }

// Open opens p. The error 0 is none.
func (p Path) Open(flags int) (fd int, errno Errno) {
	for {
		fd, err := Open(string(p), flags, 0)
		if err == nil {
			return fd, 0
		}
		errno = EIO // of what is no Errno
		if errors.As(err, &errno); errno != EINTR {
			return -1, errno
		}
	}
}

// Lstat is Lstat of p. The error 0 is none.
func (p Path) Lstat(st *Stat_t) Errno { return p.LstatAt(AT_FDCWD, st) }

// LstatAt is Lstat of p in the directory dirfd. The error 0 is none.
func (p Path) LstatAt(dirfd int, st *Stat_t) Errno {
	for {
		var errno Errno
		if errors.As(Fstatat(dirfd, string(p), st, AT_SYMLINK_NOFOLLOW), &errno); errno != EINTR {
			return errno
		}
	}
}
