package format

import "math/bits"

const (
	tableMagic = "SYSC-TAB"

	// TableHeaderSize is the length of a table's header; rows begin there.
	TableHeaderSize = 128
	// RowHeaderSize is the length of a row before its key.
	RowHeaderSize = 12
	// SlotSize is the length of a slot of the hash index.
	SlotSize = 8
	// OrderSize is the length of an entry of the order.
	OrderSize = 4
	// RowsPerOrder is the number of rows from one order entry to the next.
	RowsPerOrder = 64
	// PageSize is what one checksum of the index covers.
	PageSize = 4096

	// MaxKey and MaxValue bound what a row holds, in bytes.
	MaxKey   = 1<<16 - 1
	MaxValue = 1 << 30

	// maxOffset keeps every offset within a slot's 32 bits of 8-byte units.
	maxOffset = 8 * (1<<32 - 1)
)

// A TableHeader says where the parts of a table are.
type TableHeader struct {
	Key             [32]byte
	Rows            uint64
	RowsEnd         uint64 // offset
	Homes           uint64 // home positions
	Slots           uint64
	MaxDisplacement uint32
}

// Homes returns the number of home positions for rows: a load of 0.8.
func Homes(rows uint64) uint64 { return rows + rows/4 + 1 }

// Home returns the home position of hash.
func (h *TableHeader) Home(hash uint32) uint64 {
	return HomeOf(hash, h.Homes)
}

// HomeOf returns the home position of hash among homes.
func HomeOf(hash uint32, homes uint64) uint64 {
	hi, lo := bits.Mul64(uint64(hash), homes)
	return hi<<32 | lo>>32
}

// Orders returns the number of order entries.
func (h *TableHeader) Orders() uint64 { return (h.Rows + RowsPerOrder - 1) / RowsPerOrder }

// IndexSize returns the length of slots and order together, in bytes.
func (h *TableHeader) IndexSize() uint64 { return SlotSize*h.Slots + OrderSize*h.Orders() }

// Order returns the offset of the first order entry.
func (h *TableHeader) Order() uint64 { return h.RowsEnd + SlotSize*h.Slots }

// Pages returns the offset of the first page checksum.
func (h *TableHeader) Pages() uint64 { return h.RowsEnd + h.IndexSize() }

// Size returns the length of the whole table in bytes.
func (h *TableHeader) Size() uint64 {
	return h.Pages() + 4*((h.IndexSize()+PageSize-1)/PageSize)
}

// Encode returns the header's bytes.
func (h *TableHeader) Encode() []byte {
	b := append(make([]byte, 0, TableHeaderSize), tableMagic...)
	b = le.AppendUint32(b, Version)
	b = le.AppendUint32(b, TableHeaderSize)
	b = append(b, h.Key[:]...)
	b = le.AppendUint64(b, h.Size())
	b = le.AppendUint64(b, h.Rows)
	b = le.AppendUint64(b, h.RowsEnd)
	b = le.AppendUint64(b, h.Homes)
	b = le.AppendUint64(b, h.Slots)
	b = le.AppendUint32(b, h.MaxDisplacement)
	b = le.AppendUint32(b, RowsPerOrder)
	b = append(b, make([]byte, TableHeaderSize-4-len(b))...)
	return le.AppendUint32(b, Checksum(b))
}

// DecodeTableHeader decodes the first TableHeaderSize bytes of a table whose
// file is size bytes long. Every part that the header names lies in the file.
func DecodeTableHeader(b []byte, size uint64) (h TableHeader, err error) {
	if len(b) < TableHeaderSize {
		return h, corrupt("table of %d bytes", size)
	}
	b = b[:TableHeaderSize]
	if err := checkMagic(b, tableMagic); err != nil {
		return h, err
	}
	if Checksum(b[:TableHeaderSize-4]) != le.Uint32(b[TableHeaderSize-4:]) {
		return h, corrupt("table header checksum")
	}
	c := Cursor{Rest: b[magicLen:]}
	if v := c.U32(); v != Version { // the pointer's speaks for all that it names
		return h, corrupt("table of format version %d", v)
	}
	length := c.U32()
	h.Key = c.Hash()
	whole := c.U64()
	h.Rows, h.RowsEnd, h.Homes, h.Slots = c.U64(), c.U64(), c.U64(), c.U64()
	h.MaxDisplacement = c.U32()
	stride := c.U32()
	zeros := c.Bytes(28)
	switch {
	case length != TableHeaderSize || stride != RowsPerOrder || !allZero(zeros):
		return h, corrupt("table header")
	case whole != size:
		return h, corrupt("table of %d bytes, its header says %d", size, whole)
	// Each of these is below 2^40 before any sum or product is made of them.
	case size > 1<<40 || h.RowsEnd > size || h.RowsEnd < TableHeaderSize || h.RowsEnd%8 != 0,
		h.Rows > size/16 || h.Slots > size/SlotSize || h.RowsEnd < TableHeaderSize+16*h.Rows,
		h.Rows == 0 && h.RowsEnd != TableHeaderSize,
		h.Homes != Homes(h.Rows) || h.Slots < h.Homes || h.Slots > h.Homes+h.Rows,
		uint64(h.MaxDisplacement) >= h.Slots || h.Size() != size:
		return h, corrupt("table header does not fit its file")
	}
	return h, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// Slot returns the slot of a row whose key has this hash, at offset.
func Slot(hash uint32, offset uint64) uint64 { return uint64(hash)<<32 | offset/8 }

// SlotHash returns the hash of the key in slot s, which is not 0.
func SlotHash(s uint64) uint32 { return uint32(s >> 32) }

// SlotOffset returns the offset of the row of slot s. It is a claim: check
// it with Row.
func SlotOffset(s uint64) uint64 { return 8 * (s & (1<<32 - 1)) }

// RowSize returns the length of a row in bytes.
func RowSize(key, value int) uint64 {
	return (RowHeaderSize + uint64(key) + uint64(value) + 7) &^ 7
}

// RowFits says whether a row of size bytes may follow at offset.
func RowFits(offset, size uint64) bool { return offset+size <= maxOffset }

// AppendRow appends the row (key, value), checksum and padding included.
// Neither may be longer than MaxKey and MaxValue.
func AppendRow(b, key, value []byte) []byte {
	start := len(b)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, uint32(len(key)))
	b = le.AppendUint32(b, uint32(len(value)))
	b = append(b, key...)
	b = append(b, value...)
	for len(b)-start < int(RowSize(len(key), len(value))) {
		b = append(b, 0)
	}
	le.PutUint32(b[start:], Checksum(b[start+4:]))
	return b
}

// RowLengths reads the lengths at the start of a row's header. They are a
// claim until Row has verified the row.
func RowLengths(header []byte) (key, value uint32) {
	return le.Uint32(header[4:]), le.Uint32(header[8:])
}

// Row decodes the row at the start of b, verifies its checksum, and returns
// its key, its value and its length.
func Row(b []byte) (key, value []byte, size uint64, err error) {
	if len(b) < RowHeaderSize {
		return nil, nil, 0, corrupt("row beyond the end")
	}
	k, v := RowLengths(b)
	if k > MaxKey || v > MaxValue {
		return nil, nil, 0, corrupt("row lengths %d, %d", k, v)
	}
	size = RowSize(int(k), int(v))
	if size > uint64(len(b)) {
		return nil, nil, 0, corrupt("row beyond the end")
	}
	if Checksum(b[4:size]) != le.Uint32(b) {
		return nil, nil, 0, corrupt("row checksum")
	}
	end := RowHeaderSize + int(k)
	if !allZero(b[end+int(v) : size]) {
		return nil, nil, 0, corrupt("row padding")
	}
	return b[RowHeaderSize:end:end], b[end : end+int(v) : end+int(v)], size, nil
}
