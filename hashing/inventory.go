package hashing

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/syscache/syscache/internal/format"
)

// An Inventory remembers the digests of files by their identity, so that a
// file that did not change is not read again. Only identities that had
// settled are in it. The zero Inventory is empty.
type Inventory struct {
	files []File // sorted by path
}

const (
	inventoryMagic = "SYSC-INV"
	minKnown       = minInput + format.IdentitySize
)

// NewInventory returns what trees know.
func NewInventory(trees ...*Tree) *Inventory {
	v := &Inventory{}
	for _, t := range trees {
		for i := range t.Files {
			if t.Files[i].ID != (format.Identity{}) {
				v.files = append(v.files, t.Files[i])
			}
		}
	}
	byPath := func(a, b File) int { return strings.Compare(a.Path, b.Path) }
	slices.SortFunc(v.files, byPath)
	v.files = slices.CompactFunc(v.files, func(a, b File) bool { return a.Path == b.Path })
	return v
}

// find returns what is known of path, if its identity is id.
func (v *Inventory) find(path string, id format.Identity) *File {
	if v == nil || id == (format.Identity{}) {
		return nil
	}
	i, found := slices.BinarySearchFunc(v.files, path, func(f File, path string) int { return strings.Compare(f.Path, path) })
	if !found || v.files[i].ID != id {
		return nil
	}
	return &v.files[i]
}

// Encode returns v's encoding, which is the refresher's own.
func (v *Inventory) Encode() []byte {
	b := append(make([]byte, 0, 20+len(v.files)*(minKnown+64)), inventoryMagic...)
	b = binary.LittleEndian.AppendUint32(b, format.Version)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(v.files)))
	for i := range v.files {
		f := &v.files[i]
		b = appendString(b, f.Path)
		b = append(b, byte(f.Type))
		b = binary.LittleEndian.AppendUint16(b, f.Mode)
		b = binary.LittleEndian.AppendUint64(b, f.Size)
		b = append(b, f.Digest[:]...)
		b = f.ID.Append(b)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// DecodeInventory decodes what Encode returned. After an error the caller
// begins with an empty one.
func DecodeInventory(b []byte) (*Inventory, error) {
	if len(b) < 4 || crc32.ChecksumIEEE(b[:len(b)-4]) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, errors.New("decode inventory: checksum")
	}
	d := decoder{b: b[:len(b)-4]}
	if string(d.take(len(inventoryMagic))) != inventoryMagic || d.u32() != format.Version {
		return nil, errors.New("decode inventory: not an inventory of this version")
	}
	v := &Inventory{files: make([]File, 0, d.count(minKnown))}
	for range cap(v.files) {
		var f File
		f.Path, f.Type, f.Mode, f.Size = d.str(), Type(d.u8()), d.u16(), d.u64()
		copy(f.Digest[:], d.take(32))
		f.ID = format.DecodeIdentity(d.fixed(format.IdentitySize))
		if !f.valid() || f.ID == (format.Identity{}) || len(v.files) > 0 && f.Path <= v.files[len(v.files)-1].Path {
			d.bad = true
			break
		}
		v.files = append(v.files, f)
	}
	if d.bad || len(d.b) > 0 {
		return nil, errors.New("decode inventory: structure")
	}
	return v, nil
}
