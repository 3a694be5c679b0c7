//go:build !(linux && (amd64 || arm64 || ppc64le || riscv64 || s390x))

package syscache

import (
	"errors"

	"github.com/syscache/syscache/internal/unix"
)

// A path is one of which an lstat is asked often.
type path []byte

func newPath(p string) path { return path(p) }

func (p path) lstat(st *unix.Stat_t) (errno unix.Errno) {
	errors.As(lstat(string(p), st), &errno)
	return errno
}
