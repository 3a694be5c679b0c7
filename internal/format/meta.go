package format

import (
	"math"
	"slices"
	"strings"
)

// OutputType is the type of a file that a generation consists of.
type OutputType uint8

// The types of output.
const (
	OutputFile    OutputType = 1
	OutputDir     OutputType = 2
	OutputSymlink OutputType = 3
)

// An Output is one file, directory or link of a generation.
type Output struct {
	Path   string // below the generation's directory
	Type   OutputType
	Mode   uint16 // permission bits
	Size   uint64 // bytes
	Digest [32]byte
}

// A GenerationMeta lists what a generation consists of.
type GenerationMeta struct {
	Kind     Kind
	Key      [32]byte
	Manifest [32]byte // SHA-256
	Rows     uint64
	Outputs  []Output // sorted by path
}

// Output returns the output at path, nil if there is none.
func (m *GenerationMeta) Output(path string) *Output {
	i, ok := slices.BinarySearchFunc(m.Outputs, path, func(o Output, path string) int { return strings.Compare(o.Path, path) })
	if !ok {
		return nil
	}
	return &m.Outputs[i]
}

const metaMagic = "SYSC-MET"

// Encode returns m's bytes.
func (m *GenerationMeta) Encode() []byte {
	b := append(make([]byte, 0, 128+64*len(m.Outputs)), metaMagic...)
	b = le.AppendUint32(b, Version)
	b = append(b, byte(m.Kind), 0, 0, 0)
	b = append(b, m.Key[:]...)
	b = append(b, m.Manifest[:]...)
	b = le.AppendUint64(b, m.Rows)
	b = le.AppendUint32(b, uint32(len(m.Outputs)))
	for _, o := range m.Outputs {
		b = append(b, byte(o.Type), 0)
		b = le.AppendUint16(b, o.Mode)
		b = le.AppendUint64(b, o.Size)
		b = append(b, o.Digest[:]...)
		b = appendStr16(b, o.Path)
	}
	return le.AppendUint32(b, Checksum(b))
}

// DecodeMeta decodes the whole of a meta file.
func DecodeMeta(b []byte) (*GenerationMeta, error) {
	if err := checkMagic(b, metaMagic); err != nil {
		return nil, err
	}
	if len(b) < magicLen+8 || Checksum(b[:len(b)-4]) != le.Uint32(b[len(b)-4:]) {
		return nil, corrupt("meta checksum")
	}
	c := Cursor{Rest: b[magicLen : len(b)-4]}
	if v := c.U32(); v != Version { // the pointer's speaks for all that it names
		return nil, corrupt("meta of format version %d", v)
	}
	m := &GenerationMeta{Kind: Kind(c.U8())}
	zeros := string(c.Bytes(3))
	m.Key, m.Manifest = c.Hash(), c.Hash()
	m.Rows = c.U64()
	for range c.U32() {
		o := c.output()
		if c.Bad || !o.valid() || len(m.Outputs) > 0 && o.Path <= m.Outputs[len(m.Outputs)-1].Path {
			return nil, corrupt("meta outputs")
		}
		m.Outputs = append(m.Outputs, o)
	}
	if c.Bad || len(c.Rest) != 0 || zeros != "\x00\x00\x00" || m.Kind != KindTable && m.Kind != KindFiles {
		return nil, corrupt("meta structure")
	}
	return m, nil
}

func (c *Cursor) output() (o Output) {
	o.Type = OutputType(c.U8())
	if c.U8() != 0 {
		c.Bad = true
	}
	o.Mode = c.U16()
	o.Size = c.U64()
	o.Digest = c.Hash()
	o.Path = c.Str16()
	return o
}

func (o *Output) valid() bool {
	return o.Type >= OutputFile && o.Type <= OutputSymlink && o.Mode <= 0o777 &&
		o.Size <= math.MaxInt64 && ValidPath(o.Path)
}
