package hashing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/syscache/syscache/internal/format"
)

// A Manifest is the canonical list of all that decides a cache's content.
type Manifest struct {
	Recipe []Part  // sorted by label, unique
	Inputs []Input // sorted by path, unique
}

// A Part is a part of the recipe.
type Part struct {
	Label  string
	Digest Digest
}

// An Input is a file that a cache is derived from.
type Input struct {
	Path   string // relative to the root, any bytes but NUL
	Type   Type
	Mode   uint16 // permission bits, 0 for links
	Size   uint64 // bytes
	Digest Digest // of the content, or of a link's target
}

// Type is the type of an input.
type Type uint8

// The types of input.
const (
	Regular Type = 1
	Symlink Type = 3
)

// String returns "file" or "symlink".
func (t Type) String() string {
	switch t {
	case Regular:
		return "file"
	case Symlink:
		return "symlink"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

const (
	manifestMagic = "SYSC-MAN"
	// The least that a part and an input take, which bounds what a hostile
	// count can make the decoder allocate.
	minPart  = 2 + 1 + 32
	minInput = 2 + 1 + 1 + 2 + 8 + 32
)

// Encode returns m's one encoding. Recipe and Inputs must be sorted, unique
// and valid.
func (m *Manifest) Encode() []byte {
	n := len(manifestMagic) + 12
	for i := range m.Recipe {
		n += minPart + len(m.Recipe[i].Label)
	}
	for i := range m.Inputs {
		n += minInput + len(m.Inputs[i].Path)
	}
	b := append(make([]byte, 0, n), manifestMagic...)
	b = binary.LittleEndian.AppendUint32(b, format.Version)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Recipe)))
	for i := range m.Recipe {
		p := &m.Recipe[i]
		b = appendString(b, p.Label)
		b = append(b, p.Digest[:]...)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Inputs)))
	for i := range m.Inputs {
		in := &m.Inputs[i]
		b = appendString(b, in.Path)
		b = append(b, byte(in.Type))
		b = binary.LittleEndian.AppendUint16(b, in.Mode)
		b = binary.LittleEndian.AppendUint64(b, in.Size)
		b = append(b, in.Digest[:]...)
	}
	return b
}

// Key returns m's key.
func (m *Manifest) Key() Key { return KeyOf(m.Encode()) }

// DecodeManifest decodes an encoded manifest. It accepts only what Encode
// produces.
func DecodeManifest(b []byte) (*Manifest, error) {
	d := decoder{b: b}
	if string(d.take(len(manifestMagic))) != manifestMagic {
		return nil, errors.New("decode manifest: no magic")
	}
	if v := d.u32(); v != format.Version {
		return nil, fmt.Errorf("decode manifest: format version %d", v)
	}
	m := &Manifest{}
	m.Recipe = make([]Part, 0, d.count(minPart))
	for range cap(m.Recipe) {
		p := Part{Label: d.str()}
		copy(p.Digest[:], d.take(32))
		if p.Label == "" || len(m.Recipe) > 0 && p.Label <= m.Recipe[len(m.Recipe)-1].Label {
			d.bad = true
			break
		}
		m.Recipe = append(m.Recipe, p)
	}
	m.Inputs = make([]Input, 0, d.count(minInput))
	for range cap(m.Inputs) {
		in := Input{Path: d.str(), Type: Type(d.u8()), Mode: d.u16(), Size: d.u64()}
		copy(in.Digest[:], d.take(32))
		if !in.valid() || len(m.Inputs) > 0 && in.Path <= m.Inputs[len(m.Inputs)-1].Path {
			d.bad = true
			break
		}
		m.Inputs = append(m.Inputs, in)
	}
	if d.bad || len(d.b) > 0 {
		return nil, errors.New("decode manifest: not in canonical form")
	}
	return m, nil
}

func (in *Input) valid() bool {
	switch in.Type {
	case Regular:
		return in.Mode <= 0o7777 && format.ValidPath(in.Path)
	case Symlink:
		return in.Mode == 0 && format.ValidPath(in.Path)
	}
	return false
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
}

// A decoder takes fields off the front of b. What is not wholly there is zero
// and sets bad.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	f := d.b[:n]
	d.b = d.b[n:]
	return f
}

func (d *decoder) fixed(n int) []byte {
	if f := d.take(n); f != nil {
		return f
	}
	return make([]byte, n)
}

func (d *decoder) u8() uint8   { return d.fixed(1)[0] }
func (d *decoder) u16() uint16 { return binary.LittleEndian.Uint16(d.fixed(2)) }
func (d *decoder) u32() uint32 { return binary.LittleEndian.Uint32(d.fixed(4)) }
func (d *decoder) u64() uint64 { return binary.LittleEndian.Uint64(d.fixed(8)) }
func (d *decoder) str() string { return string(d.take(int(d.u16()))) }

// count reads the number of elements of which each takes at least size bytes.
func (d *decoder) count(size int) int {
	n := int(d.u32())
	if n > len(d.b)/size {
		d.bad, d.b = true, nil
		return 0
	}
	return n
}

// A Change is a difference between two manifests.
type Change struct {
	Path   string // of an input, or the label of a part of the recipe
	Recipe bool
	Kind   ChangeKind
}

// ChangeKind says how an entry changed.
type ChangeKind string

// The kinds of change.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
)

// Diff returns what is different in newer, the recipe first, each in order.
func Diff(older, newer *Manifest) []Change {
	label := func(p Part) string { return p.Label }
	path := func(in Input) string { return in.Path }
	return slices.Concat(
		diff(older.Recipe, newer.Recipe, label, true),
		diff(older.Inputs, newer.Inputs, path, false),
	)
}

// diff merges two sorted lists.
func diff[T comparable](older, newer []T, name func(T) string, recipe bool) (changes []Change) {
	for len(older) > 0 || len(newer) > 0 {
		c := 0
		switch {
		case len(older) == 0:
			c = 1
		case len(newer) == 0:
			c = -1
		default:
			c = strings.Compare(name(older[0]), name(newer[0]))
		}
		switch {
		case c < 0:
			changes = append(changes, Change{name(older[0]), recipe, Removed})
		case c > 0:
			changes = append(changes, Change{name(newer[0]), recipe, Added})
		case older[0] != newer[0]:
			changes = append(changes, Change{name(newer[0]), recipe, Changed})
		}
		if c <= 0 {
			older = older[1:]
		}
		if c >= 0 {
			newer = newer[1:]
		}
	}
	return changes
}
