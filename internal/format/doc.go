// Package format is the on-disk format of docs/FORMAT.md: the names of all
// paths, and the encoding and decoding of the pointer, its stat section, the
// table's parts and meta, side by side so that they cannot drift apart.
//
// It does no I/O. Decoders accept exactly what the encoders produce, allocate
// in proportion to their input whatever the lengths in it claim, and never
// panic on any input.
//
// It imports nothing that costs a program time at start: every reader pays
// for what is imported here.
package format

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Version is the format version that this package writes and reads.
const Version = 1

// ErrCorrupt is wrapped by every decoder's error but those of ErrTooNew.
var ErrCorrupt = errors.New("corrupt")

// ErrTooNew is wrapped where data is intact and of a later format version.
var ErrTooNew = errors.New("too new")

var le = binary.LittleEndian

// Checksum is the CRC-32 (IEEE) that guards all bytes a reader reads.
func Checksum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// magicLen is the length of the magic at the head of every file.
const magicLen = 8

// checkMagic checks the magic at the start of b.
func checkMagic(b []byte, magic string) error {
	if len(b) < len(magic) || string(b[:len(magic)]) != magic {
		return corrupt("no %s magic", magic)
	}
	return nil
}

func checkVersion(v uint32) error {
	switch {
	case v > Version:
		return fmt.Errorf("%w: format version %d, and this program reads up to %d", ErrTooNew, v, Version)
	case v < 1:
		return corrupt("format version 0")
	}
	return nil
}

// A Cursor takes fields off the front of Rest. The first that is not wholly
// there sets Bad, and everything from it on is zero.
type Cursor struct {
	Rest []byte
	Bad  bool
}

// Bytes takes n bytes, nil if they are not there. They are those of Rest.
func (c *Cursor) Bytes(n int) []byte {
	if n < 0 || n > len(c.Rest) {
		c.Bad, c.Rest = true, nil
		return nil
	}
	f := c.Rest[:n:n]
	c.Rest = c.Rest[n:]
	return f
}

// U8 takes an integer of 8 bits.
func (c *Cursor) U8() uint8 {
	if f := c.Bytes(1); f != nil {
		return f[0]
	}
	return 0
}

// U16 takes an integer of 16 bits.
func (c *Cursor) U16() uint16 {
	if f := c.Bytes(2); f != nil {
		return le.Uint16(f)
	}
	return 0
}

// U32 takes an integer of 32 bits.
func (c *Cursor) U32() uint32 {
	if f := c.Bytes(4); f != nil {
		return le.Uint32(f)
	}
	return 0
}

// U64 takes an integer of 64 bits.
func (c *Cursor) U64() uint64 {
	if f := c.Bytes(8); f != nil {
		return le.Uint64(f)
	}
	return 0
}

// Hash takes a digest or a key.
func (c *Cursor) Hash() (h [32]byte) {
	copy(h[:], c.Bytes(len(h)))
	return h
}

// Identity takes an Identity.
func (c *Cursor) Identity() Identity {
	if f := c.Bytes(IdentitySize); f != nil {
		return DecodeIdentity(f)
	}
	return Identity{}
}

// Str16 takes a string with its length, 16 bits, before it.
func (c *Cursor) Str16() string { return string(c.Bytes(int(c.U16()))) }

func appendStr16(b []byte, s string) []byte {
	return append(le.AppendUint16(b, uint16(len(s))), s...)
}
