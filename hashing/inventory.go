package hashing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/syscache/syscache/internal/format"
)

// An Inventory is the refresher's memo: the digest that each regular file had
// under which identity, so that the next scan need not read it again. Symbolic
// links are not in it: reading one costs no more than looking it up.
//
// It believes only identities that certified something when they were
// recorded. Losing it costs time and nothing else. The zero Inventory, and a
// nil one, know nothing.
type Inventory struct {
	// The encoding itself, which is smaller than any map of it, and a hash
	// table of offsets into it: 0 is an empty slot.
	encoded []byte
	count   int
	once    sync.Once // makes what follows
	slots   []uint32
	seed    maphash.Seed
}

const (
	inventoryMagic   = "SYSC-INV"
	inventoryVersion = 1
	inventoryHeader  = len(inventoryMagic) + 4 + 4
	inventoryFixed   = 2 + format.IdentitySize + 32 // of an entry, without its path
)

// NewInventory returns what trees know of their files. Where two hold the
// same path, the first that can certify it counts.
func NewInventory(trees ...*Tree) *Inventory {
	var files []*File
	size := inventoryHeader + 4
	for _, t := range trees {
		for i := range t.Files {
			f := &t.Files[i]
			if f.Type == RegularFile && f.ID != (format.Identity{}) {
				files = append(files, f)
				size += inventoryFixed + len(f.Path)
			}
		}
	}
	if uint64(size) > math.MaxUint32 {
		return &Inventory{} // some twenty million files: offsets have 32 bits
	}
	slices.SortStableFunc(files, func(a, b *File) int { return strings.Compare(a.Path, b.Path) })
	files = slices.CompactFunc(files, func(a, b *File) bool { return a.Path == b.Path })
	return &Inventory{encoded: encodeInventory(files, size), count: len(files)}
}

// Len returns the number of files that v knows.
func (v *Inventory) Len() int {
	if v == nil {
		return 0
	}
	return v.count
}

// Digest returns the digest that the file at path has if its identity is id.
func (v *Inventory) Digest(path string, id format.Identity) (Digest, bool) {
	return v.find(path).digest(id)
}

// A memory is the identity and digest of one file, nil if it is not known.
type memory []byte

func (m memory) digest(id format.Identity) (Digest, bool) {
	if m == nil || id == (format.Identity{}) || format.DecodeIdentity(m) != id {
		return Digest{}, false
	}
	return Digest(m[format.IdentitySize:]), true
}

// find returns what v knows of the file at path.
func (v *Inventory) find(path string) memory {
	if v.Len() == 0 {
		return nil
	}
	v.once.Do(v.index)
	for i := v.home(path); v.slots[i] != 0; i = (i + 1) & (len(v.slots) - 1) {
		if known, rest := v.entry(v.slots[i]); string(known) == path {
			return rest
		}
	}
	return nil
}

// Encode returns v's encoding. The caller must not change it.
func (v *Inventory) Encode() []byte {
	if v.Len() == 0 {
		return encodeInventory(nil, inventoryHeader+4)
	}
	return v.encoded
}

// DecodeInventory decodes what Encode returns, and nothing else. The result
// refers to b, which must not be changed any more.
func DecodeInventory(b []byte) (*Inventory, error) {
	if len(b) < inventoryHeader+4 || string(b[:len(inventoryMagic)]) != inventoryMagic {
		return nil, errors.New("inventory: wrong magic")
	}
	body := b[:len(b)-4]
	if uint64(len(b)) > math.MaxUint32 || crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(b[len(body):]) {
		return nil, errors.New("inventory: wrong checksum")
	}
	c := format.Cursor{Rest: body[len(inventoryMagic):]}
	if version := c.U32(); version != inventoryVersion {
		return nil, fmt.Errorf("inventory: version %d, want %d", version, inventoryVersion)
	}
	n := c.U32()
	last := ""
	for range n {
		path := c.Bytes(int(c.U16()))
		id := c.Bytes(format.IdentitySize)
		c.Hash()
		switch {
		case c.Bad:
			return nil, errors.New("inventory: lengths do not add up")
		case !format.ValidPath(string(path)) || string(path) <= last:
			return nil, fmt.Errorf("inventory: path %q", path)
		case format.DecodeIdentity(id) == format.Identity{}:
			return nil, fmt.Errorf("inventory: %q has no identity", path)
		}
		last = string(path)
	}
	if len(c.Rest) != 0 {
		return nil, errors.New("inventory: lengths do not add up")
	}
	return &Inventory{encoded: b, count: int(n)}, nil
}

func encodeInventory(files []*File, size int) []byte {
	b := append(make([]byte, 0, size), inventoryMagic...)
	b = binary.LittleEndian.AppendUint32(b, inventoryVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(files)))
	for _, f := range files {
		b = appendName(b, f.Path)
		b = f.ID.Append(b)
		b = append(b, f.Digest[:]...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// index makes the hash table, at most half full.
func (v *Inventory) index() {
	n := 2
	for n < 2*v.count {
		n *= 2
	}
	v.slots, v.seed = make([]uint32, n), maphash.MakeSeed()
	offset := uint32(inventoryHeader)
	for range v.count {
		path, _ := v.entry(offset)
		i := v.home(string(path))
		for v.slots[i] != 0 {
			i = (i + 1) & (n - 1)
		}
		v.slots[i] = offset
		offset += uint32(inventoryFixed + len(path))
	}
}

func (v *Inventory) home(path string) int {
	return int(maphash.String(v.seed, path) & uint64(len(v.slots)-1))
}

// entry returns the path of the entry at offset, and its identity and digest.
func (v *Inventory) entry(offset uint32) (path, rest []byte) {
	b := v.encoded[offset:]
	n := 2 + int(binary.LittleEndian.Uint16(b))
	return b[2:n], b[n : n+inventoryFixed-2]
}
