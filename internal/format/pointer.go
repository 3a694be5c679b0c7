package format

import (
	"fmt"
	"path/filepath"
	"slices"
)

// Kind says what a generation consists of.
type Kind uint8

// The kinds of generation.
const (
	KindTable Kind = 1
	KindFiles Kind = 2
)

// String returns the kind's name in configuration and output.
func (k Kind) String() string {
	switch k {
	case KindTable:
		return "table"
	case KindFiles:
		return "files"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// WitnessType says what a witness path must name.
type WitnessType uint8

// The types of witness.
const (
	WitnessFile    WitnessType = 1
	WitnessDir     WitnessType = 2
	WitnessSymlink WitnessType = 3
	WitnessAbsent  WitnessType = 4
)

// A Witness certifies one path below the root.
type Witness struct {
	Type WitnessType
	Path string // relative to the root
	// Identity is an encoded Identity, or for a directory a SHA-256 over
	// those of itself and its entries. All zeros: none was recorded.
	Identity [IdentitySize]byte
	Digest   [32]byte // SHA-256 of the content
}

// A Pointer names the generation that a cache's readers use, and what
// certifies it.
type Pointer struct {
	Kind      Kind
	Cache     string
	Root      string // absolute; "" where the cache_dir lies in its root
	Key       [32]byte
	Meta      [32]byte // SHA-256
	TableSize uint64   // bytes
	Witnesses []Witness
	HasStats  bool  // a stat section follows
	Stats     Stats // decoded on demand: see Stats.All
}

const (
	pointerMagic     = "SYSC-PTR"
	pointerFrame     = 24 // magic, version, length, ..., CRC: kept in every version
	pointerMinHeader = 113
	// MaxPointerHeader bounds the header, so that one small read gets it.
	MaxPointerHeader = 4096
	// MaxPointer bounds what a pointer makes its readers read.
	MaxPointer = MaxPointerHeader + maxStats
	maxStats   = 1 << 30

	minWitness = 5 // bytes: one that is absent, of one letter

	flagStats    = 1
	flagIdentity = 1
)

// Encode returns p's bytes. It fails if the header would be too long: too
// many witnesses.
func (p *Pointer) Encode() ([]byte, error) {
	b := append(make([]byte, 0, 512+len(p.Stats)), pointerMagic...)
	b = le.AppendUint32(b, Version)
	b = le.AppendUint32(b, 0) // header length, below
	flags := byte(0)
	if p.HasStats {
		flags |= flagStats
	}
	b = append(b, byte(p.Kind), flags)
	b = le.AppendUint16(b, uint16(len(p.Witnesses)))
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, p.TableSize)
	b = le.AppendUint64(b, uint64(len(p.Stats)))
	b = append(b, p.Key[:]...)
	b = append(b, p.Meta[:]...)
	b = appendStr16(b, p.Cache)
	b = appendStr16(b, p.Root)
	for _, w := range p.Witnesses {
		b = w.append(b)
	}
	if len(b)+4 > MaxPointerHeader {
		return nil, fmt.Errorf("%d witnesses need a header of %d bytes, more than %d", len(p.Witnesses), len(b)+4, MaxPointerHeader)
	}
	le.PutUint32(b[12:], uint32(len(b)+4))
	b = le.AppendUint32(b, Checksum(b))
	return append(b, p.Stats...), nil
}

func (w *Witness) append(b []byte) []byte {
	flags := byte(0)
	if w.Identity != [IdentitySize]byte{} {
		flags |= flagIdentity
	}
	b = append(b, byte(w.Type), flags)
	b = appendStr16(b, w.Path)
	if w.Type == WitnessAbsent {
		return b
	}
	b = append(b, w.Identity[:]...)
	return append(b, w.Digest[:]...)
}

// DecodePointer decodes the whole of a pointer file. The stat section is not
// looked into; the result refers to b.
func DecodePointer(b []byte) (*Pointer, error) {
	header, err := pointerHeader(b)
	if err != nil {
		return nil, err
	}
	c := Cursor{Rest: header[16 : len(header)-4]}
	p := &Pointer{Kind: Kind(c.U8())}
	flags := c.U8()
	witnesses := int(c.U16())
	reserved := c.U32()
	p.TableSize = c.U64()
	stats := c.U64()
	p.Key, p.Meta = c.Hash(), c.Hash()
	p.Cache, p.Root = c.Str16(), c.Str16()
	p.Witnesses = slices.Grow(p.Witnesses, min(witnesses, len(c.Rest)/minWitness))
	for range witnesses {
		w, err := c.witness()
		if err != nil {
			return nil, err
		}
		p.Witnesses = append(p.Witnesses, w)
	}
	p.Stats = b[len(header):]
	p.HasStats = flags&flagStats != 0
	switch {
	case c.Bad || len(c.Rest) != 0:
		return nil, corrupt("lengths in the header do not add up")
	case p.Kind != KindTable && p.Kind != KindFiles:
		return nil, corrupt("unknown %v", p.Kind)
	case flags&^flagStats != 0 || reserved != 0:
		return nil, corrupt("unknown flags")
	case p.Kind == KindFiles && p.TableSize != 0:
		return nil, corrupt("files with the size of a table")
	case stats != uint64(len(p.Stats)) || p.HasStats != (stats != 0) || stats > maxStats:
		return nil, corrupt("%d bytes after the header, want %d", len(p.Stats), stats)
	case p.Root != "" && !absolute(p.Root):
		return nil, corrupt("root %q is not absolute", p.Root)
	case !ValidCacheName(p.Cache):
		return nil, corrupt("cache name %q", p.Cache)
	}
	return p, nil
}

// pointerHeader returns the header at the start of b after checking all that
// is the same in every version, and then the version.
func pointerHeader(b []byte) ([]byte, error) {
	if err := checkMagic(b, pointerMagic); err != nil {
		return nil, err
	}
	if len(b) < pointerFrame {
		return nil, corrupt("%d bytes", len(b))
	}
	n := le.Uint32(b[12:])
	if n < pointerFrame || n > MaxPointerHeader || int(n) > len(b) {
		return nil, corrupt("header length %d", n)
	}
	header := b[:n]
	if Checksum(header[:n-4]) != le.Uint32(header[n-4:]) {
		return nil, corrupt("header checksum")
	}
	if err := checkVersion(le.Uint32(b[8:])); err != nil {
		return nil, err
	}
	if n < pointerMinHeader {
		return nil, corrupt("header length %d", n)
	}
	return header, nil
}

func (c *Cursor) witness() (w Witness, err error) {
	w.Type = WitnessType(c.U8())
	flags := c.U8()
	w.Path = c.Str16()
	switch w.Type {
	case WitnessFile, WitnessDir, WitnessSymlink:
		w.Identity, w.Digest = c.Hash(), c.Hash()
	case WitnessAbsent:
	default:
		return w, corrupt("unknown witness type %d", w.Type)
	}
	switch {
	case c.Bad:
		return w, corrupt("lengths in the header do not add up")
	case flags&^flagIdentity != 0 || (flags != 0) != (w.Identity != [IdentitySize]byte{}):
		return w, corrupt("witness flags %d", flags)
	case !ValidPath(w.Path):
		return w, corrupt("witness path %q", w.Path)
	}
	return w, nil
}

// absolute says whether a root is an absolute path, which on Windows begins with
// a volume.
func absolute(root string) bool {
	root = root[len(filepath.VolumeName(root)):]
	return root != "" && root[0] == '/' && validStatPath(root)
}
