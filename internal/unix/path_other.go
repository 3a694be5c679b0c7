//go:build !(linux && (amd64 || arm64 || ppc64le || riscv64 || s390x))

package unix

import "errors"

// A Path is one that is looked at often.
type Path []byte

// NewPath returns p as a Path.
func NewPath(p string) Path { return Path(p) }

// Set returns name as a Path, in the place of p if there is room.
func (p Path) Set(name string) Path { return append(p[:0], name...) }

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
