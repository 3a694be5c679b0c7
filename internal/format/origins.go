package format

import (
	"bufio"
	"io"
)

// Origins say of each row of a table, in its order, which input it is from, as
// the input's index in the manifest. A file of them stands beside the table of
// a cache that is built input by input. Only a refresh reads it, and it has no
// checksum: meta has its digest.
const (
	originsMagic = "SYSC-ORG"

	OriginsHeaderSize = 16
	OriginSize        = 4
)

// OriginsHeader returns the beginning of a file of n origins. The origins
// follow: see AppendOrigin.
func OriginsHeader(n uint32) []byte {
	b := append(make([]byte, 0, OriginsHeaderSize), originsMagic...)
	b = le.AppendUint32(b, Version)
	return le.AppendUint32(b, n)
}

// AppendOrigin appends the origin of the next row to b.
func AppendOrigin(b []byte, input uint32) []byte { return le.AppendUint32(b, input) }

// An OriginsReader reads a file of origins from its beginning to its end.
type OriginsReader struct {
	r      *bufio.Reader
	left   uint32
	inputs int
}

// ReadOrigins reads the header of the origins of a table with that many rows,
// made of that many inputs.
func ReadOrigins(r io.Reader, rows uint64, inputs int) (*OriginsReader, error) {
	o := &OriginsReader{r: bufio.NewReaderSize(r, 64<<10), inputs: inputs}
	b, err := o.take(OriginsHeaderSize)
	if err != nil {
		return nil, err
	}
	if err := checkMagic(b, originsMagic); err != nil {
		return nil, err
	}
	if v := le.Uint32(b[magicLen:]); v != Version { // the pointer's speaks for all that it names
		return nil, corrupt("origins of format version %d", v)
	}
	if o.left = le.Uint32(b[magicLen+4:]); uint64(o.left) != rows {
		return nil, corrupt("origins of %d rows, and there are %d", o.left, rows)
	}
	return o, nil
}

// Next returns the origin of the next row. After the last it returns io.EOF if
// the file ends there.
func (o *OriginsReader) Next() (input uint32, err error) {
	if o.left == 0 {
		if _, err := o.r.ReadByte(); err != nil {
			return 0, err
		}
		return 0, corrupt("origins with something after their end")
	}
	b, err := o.take(OriginSize)
	if err != nil {
		return 0, err
	}
	o.left--
	if input = le.Uint32(b); uint64(input) >= uint64(o.inputs) {
		return 0, corrupt("origins name input %d, and there are %d", input, o.inputs)
	}
	return input, nil
}

func (o *OriginsReader) take(n int) ([]byte, error) {
	b, err := o.r.Peek(n)
	if err == io.EOF {
		return nil, corrupt("origins are cut short")
	}
	o.r.Discard(len(b))
	return b, err
}
