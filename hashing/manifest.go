package hashing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/zeebo/blake3"

	"github.com/syscache/syscache/internal/format"
)

// A Manifest is the build manifest: all that decides what a generation holds.
type Manifest struct {
	Recipe []Part  // by label, strictly ascending
	Inputs []Input // by path, strictly ascending
}

// A Part is one thing besides the inputs that decides the result.
type Part struct {
	Label  string
	Digest Digest
}

// An Input is one file that a generation is derived from.
type Input struct {
	Path   string // relative to the root; any bytes but NUL
	Type   Type
	Mode   uint16 // permission bits, mode & 07777; 0 for a symbolic link
	Size   uint64 // bytes
	Digest Digest
}

// Type is the type of an input.
type Type uint8

// The types of input, numbered as the outputs of a generation are.
const (
	RegularFile Type = 1
	Symlink     Type = 3
)

// String returns the type's name in output.
func (t Type) String() string {
	switch t {
	case RegularFile:
		return "file"
	case Symlink:
		return "symlink"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

const (
	manifestMagic   = "SYSC-MAN"
	manifestVersion = 1

	minPart  = 2 + 1 + 32             // encoded, the label one byte long
	minInput = 2 + 1 + 1 + 2 + 8 + 32 // encoded, the path one byte long

	// maxName is the longest path or label that an encoding can hold.
	maxName = math.MaxUint16
)

// Check returns nil if m has an encoding, else an error that says what is
// wrong with it. A Tree's inputs always pass.
func (m *Manifest) Check() error {
	if uint64(len(m.Recipe)) > math.MaxUint32 || uint64(len(m.Inputs)) > math.MaxUint32 {
		return errors.New("manifest: more than 2^32 entries")
	}
	for i := range m.Recipe {
		if i > 0 && m.Recipe[i-1].Label >= m.Recipe[i].Label {
			return fmt.Errorf("manifest: recipe part %q is out of order", m.Recipe[i].Label)
		}
		if err := m.Recipe[i].check(); err != nil {
			return err
		}
	}
	for i := range m.Inputs {
		if i > 0 && m.Inputs[i-1].Path >= m.Inputs[i].Path {
			return fmt.Errorf("manifest: input %q is out of order", m.Inputs[i].Path)
		}
		if err := m.Inputs[i].check(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Part) check() error {
	if p.Label == "" || len(p.Label) > maxName {
		return fmt.Errorf("manifest: a recipe label of %d bytes", len(p.Label))
	}
	return nil
}

func (in *Input) check() error {
	switch {
	case len(in.Path) > maxName:
		return fmt.Errorf("manifest: a path of %d bytes", len(in.Path))
	case !format.ValidPath(in.Path):
		return fmt.Errorf("manifest: path %q", in.Path)
	case in.Type != RegularFile && in.Type != Symlink:
		return fmt.Errorf("manifest: input %q is of %v", in.Path, in.Type)
	case in.Mode > 0o7777 || in.Type == Symlink && in.Mode != 0:
		return fmt.Errorf("manifest: input %q has mode %o", in.Path, in.Mode)
	}
	return nil
}

// Encode returns m's one encoding. It panics where Check returns an error:
// another encoding would be another key for the same manifest.
func (m *Manifest) Encode() []byte { return m.AppendTo(nil) }

// AppendTo appends what Encode returns to b.
func (m *Manifest) AppendTo(b []byte) []byte {
	if grown := len(b) + m.size(); cap(b) < grown {
		b = append(make([]byte, 0, grown), b...)
	}
	m.encode(func(piece []byte) { b = append(b, piece...) })
	return b
}

// Key returns the key of m, without holding the whole encoding. It panics as
// Encode does.
func (m *Manifest) Key() Key {
	h := blake3.NewDeriveKey(manifestContext)
	m.encode(func(piece []byte) { h.Write(piece) })
	var k Key
	h.Sum(k[:0])
	return k
}

func (m *Manifest) size() int {
	n := len(manifestMagic) + 4 + 4 + 4
	n += len(m.Recipe)*(minPart-1) + len(m.Inputs)*(minInput-1)
	for i := range m.Recipe {
		n += len(m.Recipe[i].Label)
	}
	for i := range m.Inputs {
		n += len(m.Inputs[i].Path)
	}
	return n
}

// encode hands out the encoding piece by piece. The bytes are put's only until
// it returns.
func (m *Manifest) encode(put func(piece []byte)) {
	if err := m.Check(); err != nil {
		panic("hashing: " + err.Error())
	}
	b := append(make([]byte, 0, 512), manifestMagic...)
	b = binary.LittleEndian.AppendUint32(b, manifestVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Recipe)))
	for i := range m.Recipe {
		b = appendName(b, m.Recipe[i].Label)
		b = append(b, m.Recipe[i].Digest[:]...)
		put(b)
		b = b[:0]
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Inputs)))
	for i := range m.Inputs {
		in := &m.Inputs[i]
		b = appendName(b, in.Path)
		b = append(b, byte(in.Type))
		b = binary.LittleEndian.AppendUint16(b, in.Mode)
		b = binary.LittleEndian.AppendUint64(b, in.Size)
		b = append(b, in.Digest[:]...)
		put(b)
		b = b[:0]
	}
	put(b)
}

// DecodeManifest decodes what Encode returns, and nothing else.
func DecodeManifest(b []byte) (*Manifest, error) {
	c := format.Cursor{Rest: b}
	if string(c.Bytes(len(manifestMagic))) != manifestMagic {
		return nil, errors.New("manifest: wrong magic")
	}
	if v := c.U32(); v != manifestVersion {
		return nil, fmt.Errorf("manifest: version %d, want %d", v, manifestVersion)
	}
	// A count is believed only as far as the bytes can bear it out: it
	// decides what is allocated.
	m := &Manifest{}
	n := c.U32()
	if int64(n) > int64(len(c.Rest)/minPart) {
		return nil, fmt.Errorf("manifest: %d recipe parts in %d bytes", n, len(c.Rest))
	}
	if n > 0 {
		m.Recipe = make([]Part, n)
	}
	for i := range m.Recipe {
		m.Recipe[i] = Part{Label: c.Str16(), Digest: c.Hash()}
	}
	n = c.U32()
	if int64(n) > int64(len(c.Rest)/minInput) {
		return nil, fmt.Errorf("manifest: %d inputs in %d bytes", n, len(c.Rest))
	}
	if n > 0 {
		m.Inputs = make([]Input, n)
	}
	for i := range m.Inputs {
		m.Inputs[i] = Input{Path: c.Str16(), Type: Type(c.U8()), Mode: c.U16(), Size: c.U64(), Digest: c.Hash()}
	}
	if c.Bad || len(c.Rest) != 0 {
		return nil, errors.New("manifest: lengths do not add up")
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	return m, nil
}

func appendName(b []byte, name string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(name))), name...)
}
