package format

import (
	"encoding/binary"

	"github.com/syscache/syscache/internal/unix"
)

// Identity is what one stat says of a file: the reader's cheap evidence that
// the file is the one the refresher read.
//
// It leaves out the device number, which btrfs and NFS change on remount. Of
// its four fields only Ctime cannot be set by a program: an unpacked tar with
// clamped times reproduces the others, inode included.
//
// The zero Identity certifies nothing: no file has inode 0.
type Identity struct {
	Size  int64  // bytes
	Mtime int64  // nanoseconds since the epoch
	Ctime int64  // nanoseconds since the epoch
	Inode uint64 // as the file system numbers it
}

// IdentitySize is the encoded length of an Identity in bytes.
const IdentitySize = 32

// IdentityOf returns the identity in st.
func IdentityOf(st *unix.Stat_t) Identity {
	return Identity{
		Size:  st.Size,
		Mtime: st.Mtim.Nano(),
		Ctime: st.Ctim.Nano(),
		Inode: uint64(st.Ino),
	}
}

// Append appends the encoding of id to b.
func (id Identity) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(id.Size))
	b = binary.LittleEndian.AppendUint64(b, uint64(id.Mtime))
	b = binary.LittleEndian.AppendUint64(b, uint64(id.Ctime))
	return binary.LittleEndian.AppendUint64(b, id.Inode)
}

// DecodeIdentity decodes the first IdentitySize bytes of b, which must have
// that many.
func DecodeIdentity(b []byte) Identity {
	_ = b[IdentitySize-1]
	return Identity{
		Size:  int64(binary.LittleEndian.Uint64(b)),
		Mtime: int64(binary.LittleEndian.Uint64(b[8:])),
		Ctime: int64(binary.LittleEndian.Uint64(b[16:])),
		Inode: binary.LittleEndian.Uint64(b[24:]),
	}
}
