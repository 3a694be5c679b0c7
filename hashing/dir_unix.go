//go:build unix

package hashing

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
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
