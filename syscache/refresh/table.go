package refresh

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache"
)

// writeTable writes the table of n rows, which come sorted and unique, to a new
// file f. It keeps 8 bytes a row in memory. What it writes depends on the
// rows and the key alone (I9).
//
// The hash index is placed in one pass over the slots in ascending order:
// each at its home position, or after its predecessor. Nothing is ever moved,
// so keys chosen to share one hash cost no more than others.
func writeTable(f tableFile, key [32]byte, n int, rows iter.Seq2[mergedRow, error]) (format.TableHeader, error) {
	h := format.TableHeader{Key: key}
	w := bufio.NewWriterSize(f, 1<<20)
	w.Write(make([]byte, format.TableHeaderSize))
	slots, order, err := writeRows(w, &h, n, rows)
	if err != nil {
		return h, err
	}
	slices.Sort(slots) // by hash, then offset: the order of the keys
	h.Homes = format.Homes(h.Rows)
	h.Slots, h.MaxDisplacement = place(slots, h.Homes)
	p := &pageWriter{w: w}
	next := uint64(0)
	for _, s := range slots {
		at := max(next, format.HomeOf(format.SlotHash(s), h.Homes))
		p.zeros(format.SlotSize * (at - next))
		p.u64(s)
		next = at + 1
	}
	p.zeros(format.SlotSize * (h.Slots - next))
	for _, o := range order {
		p.u32(o)
	}
	if err := p.finish(); err != nil {
		return h, err
	}
	return h, writeAll(io.NewOffsetWriter(f, 0), h.Encode())
}

// A tableFile is what a table is written to.
type tableFile interface {
	io.Writer
	io.WriterAt
}

// checkTable returns an error that wraps format.ErrCorrupt unless the table that
// r reads, at path, is byte for byte what writeTable makes of its rows: then
// every row is found. A digest does not say so, for whoever made a table of lies
// made its digest.
func checkTable(r *syscache.Reader, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	rows := func(yield func(mergedRow, error) bool) {
		var last []byte
		n := uint64(0)
		for row, err := range r.Scan(nil) {
			if err == nil && n > 0 && bytes.Compare(row.Key, last) <= 0 {
				err = fmt.Errorf("%w: rows out of order in %s", format.ErrCorrupt, path)
			}
			n++
			if last = row.Key; !yield(mergedRow{row.Key, row.Value, n}, err) || err != nil {
				return
			}
		}
	}
	_, err = writeTable(&sameBytes{f: f, path: path}, r.Generation(), 0, rows)
	return err
}

// sameBytes is a table that is only compared with what would be written.
type sameBytes struct {
	f      *os.File
	path   string
	offset int64
}

func (s *sameBytes) Write(b []byte) (int, error) {
	skip := min(int64(len(b)), max(0, format.TableHeaderSize-s.offset)) // the header comes last
	_, err := s.WriteAt(b[skip:], s.offset+skip)
	s.offset += int64(len(b))
	return len(b), err
}

func (s *sameBytes) WriteAt(b []byte, off int64) (int, error) {
	there := make([]byte, len(b))
	_, err := s.f.ReadAt(there, off)
	if err == nil && !bytes.Equal(b, there) || err == io.EOF {
		err = fmt.Errorf("%w: %s is not what a refresh makes of its rows", format.ErrCorrupt, s.path)
	}
	return len(b), err
}

// writeRows writes the rows and returns their slots and the order entries.
func writeRows(w io.Writer, h *format.TableHeader, n int, rows iter.Seq2[mergedRow, error]) (slots []uint64, order []uint32, err error) {
	offset := uint64(format.TableHeaderSize)
	slots = make([]uint64, 0, n) // at its size at once: it is most of the memory
	var b []byte
	for r, err := range rows {
		if err != nil {
			return nil, nil, err
		}
		b = format.AppendRow(b[:0], r.key, r.value)
		if !format.RowFits(offset, uint64(len(b))) {
			return nil, nil, fmt.Errorf("the table would be larger than 32 GiB with the row %s", quote(r.key))
		}
		if h.Rows%format.RowsPerOrder == 0 {
			order = append(order, uint32(offset/8))
		}
		slots = append(slots, format.Slot(format.Checksum(r.key), offset))
		if _, err := w.Write(b); err != nil {
			return nil, nil, err
		}
		h.Rows++
		offset += uint64(len(b))
	}
	h.RowsEnd = offset
	return slots, order, nil
}

// place returns how many slots the index needs, and the largest displacement.
func place(slots []uint64, homes uint64) (n uint64, displacement uint32) {
	next := uint64(0)
	for _, s := range slots {
		home := format.HomeOf(format.SlotHash(s), homes)
		at := max(next, home)
		displacement = max(displacement, uint32(at-home))
		next = at + 1
	}
	return max(next, homes), displacement
}

// pageWriter writes the index and keeps the checksum of each page.
type pageWriter struct {
	w    *bufio.Writer
	page []byte
	sums []byte
	err  error
}

func (p *pageWriter) u64(v uint64) {
	p.page = binary.LittleEndian.AppendUint64(p.page, v)
	p.full()
}

func (p *pageWriter) u32(v uint32) {
	p.page = binary.LittleEndian.AppendUint32(p.page, v)
	p.full()
}

// zeros writes n zeros, a multiple of a slot's size.
func (p *pageWriter) zeros(n uint64) {
	for ; n > 0; n -= format.SlotSize {
		p.u64(0)
	}
}

// full ends the page if it has its size. Slots and order entries divide a
// page evenly, so none is split.
func (p *pageWriter) full() {
	if len(p.page) >= format.PageSize {
		p.flush(format.PageSize)
	}
}

func (p *pageWriter) flush(n int) {
	p.sums = binary.LittleEndian.AppendUint32(p.sums, format.Checksum(p.page[:n]))
	if _, err := p.w.Write(p.page[:n]); p.err == nil {
		p.err = err
	}
	p.page = append(p.page[:0], p.page[n:]...)
}

func (p *pageWriter) finish() error {
	if len(p.page) > 0 {
		p.flush(len(p.page))
	}
	p.w.Write(p.sums)
	if err := p.w.Flush(); p.err == nil {
		p.err = err
	}
	return p.err
}
