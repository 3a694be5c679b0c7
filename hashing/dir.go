package hashing

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
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
	typeLink    = 10
)

// direntBuffer is as much of a directory as is read at once.
const direntBuffer = 64 << 10

// list calls f for each entry of the directory at fd but "." and "..", in the
// order of the directory. buf is used to read it. The name is a view into buf
// unless f keeps a copy.
func list(fd int, buf []byte, f func(name []byte, typ byte) error) error {
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			return err
		}
		for b := buf[:n]; len(b) > 0; {
			name, typ, length := dirent(b)
			if length == 0 {
				return unix.EIO
			}
			b = b[length:]
			if len(name) == 0 || string(name) == "." || string(name) == ".." {
				continue
			}
			if err := f(name, typ); err != nil {
				return err
			}
		}
	}
}

// dirent parses the first entry in b and returns its length, 0 if it is none.
// x/sys's ParseDirent leaves out the type, which saves a stat for each entry.
func dirent(b []byte) (name []byte, typ byte, length int) {
	const (
		lengthAt = int(unsafe.Offsetof(unix.Dirent{}.Reclen))
		typeAt   = int(unsafe.Offsetof(unix.Dirent{}.Type))
		nameAt   = int(unsafe.Offsetof(unix.Dirent{}.Name))
	)
	if len(b) < nameAt {
		return nil, 0, 0
	}
	length = int(binary.NativeEndian.Uint16(b[lengthAt:]))
	if length < nameAt || length > len(b) {
		return nil, 0, 0
	}
	// The inode number comes first everywhere; 0 marks a removed entry.
	if binary.NativeEndian.Uint64(b) == 0 {
		return nil, 0, length
	}
	name = b[nameAt:length]
	for i, c := range name {
		if c == 0 {
			name = name[:i]
			break
		}
	}
	return name, b[typeAt], length
}

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
