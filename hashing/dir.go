package hashing

import (
	"sync/atomic"

	"github.com/syscache/syscache/internal/unix"
)

// A handle is an open directory, shared by the walk and the files in it that
// are yet to be read. The last to release it closes it.
type handle struct {
	fd   int
	refs atomic.Int32
}

func newHandle(fd int) *handle {
	h := &handle{fd: fd}
	h.refs.Store(1)
	return h
}

func (h *handle) retain() *handle {
	h.refs.Add(1)
	return h
}

func (h *handle) release() {
	if h.refs.Add(-1) == 0 {
		unix.Close(h.fd)
	}
}

// The types of directory entry as directories give them; the same on every
// system.
const (
	typeUnknown = 0
	typeDir     = 4
	typeRegular = 8
	typeLink    = 10
)

// openDir opens the directory name in dirfd, and nothing that is no directory.
func openDir(dirfd int, name string) (int, error) {
	return openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
}

func openat(dirfd int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func fstatat(dirfd int, name string) (st unix.Stat_t, err error) {
	for {
		err = unix.Fstatat(dirfd, name, &st, statFlags)
		if err != unix.EINTR {
			return st, err
		}
	}
}

func fstat(fd int) (st unix.Stat_t, err error) {
	for {
		err = unix.Fstat(fd, &st)
		if err != unix.EINTR {
			return st, err
		}
	}
}

func readlinkat(dirfd int, name string) (string, error) {
	for size := 256; ; size *= 2 {
		b := make([]byte, size)
		n, err := unix.Readlinkat(dirfd, name, b)
		switch {
		case err == unix.EINTR:
			size /= 2
		case err != nil:
			return "", err
		case n < size:
			return string(b[:n]), nil
		}
	}
}
