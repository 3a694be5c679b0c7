package syscache

import (
	"bytes"
	"encoding/binary"
	"runtime/debug"

	"github.com/syscache/syscache/internal/format"
)

// table looks rows up. Every byte that decides an answer is checksummed: the
// header when it is opened, a row before it is handed out, and the pages of
// the index before "not found" (I7).
type table struct {
	source
	format.TableHeader
}

// probe is the number of slots read at once: more than the largest
// displacement of a table whose hashes nobody chose.
const probe = 64

// get returns the value of key, or ErrNotFound.
func (t *table) get(key []byte) (value []byte, err error) {
	defer guard(debug.SetPanicOnFault(true), &err)
	return t.find(key)
}

func (t *table) find(key []byte) ([]byte, error) {
	hash := format.Checksum(key)
	home := t.Home(hash)
	end := min(home+uint64(t.MaxDisplacement)+1, t.Slots)
	var buf []byte
	if t.mapped() == nil {
		buf = make([]byte, probe*format.SlotSize) // of this call: it does not escape
	}
	slots, err := t.slots(home, min(probe, end-home), buf)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(slots); i += format.SlotSize {
		s := binary.LittleEndian.Uint64(slots[i:])
		if s == 0 || format.SlotHash(s) > hash {
			return nil, t.absent(home, uint64(i)/format.SlotSize+1)
		}
		if format.SlotHash(s) < hash {
			continue
		}
		value, order, err := t.compare(s, key)
		if err != nil || order == 0 {
			return value, err
		}
		if order > 0 {
			return nil, t.absent(home, uint64(i)/format.SlotSize+1)
		}
	}
	if home+probe < end {
		return t.search(key, hash, home, end)
	}
	return nil, t.absent(home, end-home)
}

// search is find for a run of slots too long to walk: somebody chose many keys
// with one hash. The slots ascend up to the first empty one, so the run is
// searched by halves, and each slot's page is verified as it is read.
func (t *table) search(key []byte, hash uint32, home, end uint64) ([]byte, error) {
	lo, hi := home+probe, end
	for lo < hi {
		mid := lo + (hi-lo)/2
		if err := t.verify(format.SlotSize*mid, format.SlotSize); err != nil {
			return nil, err
		}
		slot, err := t.slots(mid, 1, nil)
		if err != nil {
			return nil, err
		}
		s := binary.LittleEndian.Uint64(slot)
		switch {
		case s == 0 || format.SlotHash(s) > hash:
			hi = mid
			continue
		case format.SlotHash(s) < hash:
			lo = mid + 1
			continue
		}
		value, order, err := t.compare(s, key)
		switch {
		case err != nil || order == 0:
			return value, err
		case order > 0:
			hi = mid
		default:
			lo = mid + 1
		}
	}
	return nil, t.absent(home, probe)
}

// compare returns the value of the row in slot s and how its key compares to
// key.
func (t *table) compare(s uint64, key []byte) (value []byte, order int, err error) {
	k, value, _, err := t.row(format.SlotOffset(s))
	if err != nil {
		return nil, 0, err
	}
	return value, bytes.Compare(k, key), nil
}

// slots returns n slots from slot i on, in buf unless they are mapped.
func (t *table) slots(i, n uint64, buf []byte) ([]byte, error) {
	return t.exactly(t.RowsEnd+format.SlotSize*i, format.SlotSize*n, buf)
}

// row returns the verified row at offset, and its length.
func (t *table) row(offset uint64) (key, value []byte, size uint64, err error) {
	if offset < format.TableHeaderSize || offset >= t.RowsEnd {
		return nil, nil, 0, corrupt("row at %d, outside the rows", offset)
	}
	most := t.RowsEnd - offset
	first := most
	if t.mapped() == nil {
		first = min(most, 512) // most rows are small: one read
	}
	b, err := t.exactly(offset, first, nil)
	if err != nil {
		return nil, nil, 0, err
	}
	if len(b) >= format.RowHeaderSize {
		k, v := format.RowLengths(b)
		sane := k <= format.MaxKey && v <= format.MaxValue // else format.Row refuses it
		if whole := format.RowSize(int(k), int(v)); sane && whole > first && whole <= most {
			if b, err = t.exactly(offset, whole, nil); err != nil {
				return nil, nil, 0, err
			}
		}
	}
	return format.Row(b)
}

// absent is the answer "not found", after the pages of the n slots from slot i
// on were verified: a flipped bit there could have hidden the row.
func (t *table) absent(i, n uint64) error {
	if err := t.verify(format.SlotSize*i, format.SlotSize*n); err != nil {
		return err
	}
	return ErrNotFound
}

// verify checks the checksums of the index pages that hold n bytes of the
// index from off on.
func (t *table) verify(off, n uint64) error {
	for page := off / format.PageSize; page <= (off+n-1)/format.PageSize; page++ {
		start := page * format.PageSize
		b, err := t.exactly(t.RowsEnd+start, min(format.PageSize, t.IndexSize()-start), nil)
		if err != nil {
			return err
		}
		sum, err := t.exactly(t.Pages()+4*page, 4, nil)
		if err != nil {
			return err
		}
		if format.Checksum(b) != binary.LittleEndian.Uint32(sum) {
			return corrupt("checksum of index page %d", page)
		}
	}
	return nil
}

// exactly is read of n bytes at off, all of which the header says are there.
func (t *table) exactly(off, n uint64, buf []byte) ([]byte, error) {
	b, err := t.read(off, n, buf)
	if err == nil && uint64(len(b)) != n {
		err = corrupt("%d bytes at %d are beyond the end", n, off)
	}
	return b, err
}

// order returns the offset of row 64 i.
func (t *table) order(i uint64) (uint64, error) {
	off := t.Order() - t.RowsEnd + format.OrderSize*i
	if err := t.verify(off, format.OrderSize); err != nil {
		return 0, err
	}
	b, err := t.exactly(t.RowsEnd+off, format.OrderSize, nil)
	if err != nil {
		return 0, err
	}
	return 8 * uint64(binary.LittleEndian.Uint32(b)), nil
}

// seek returns an offset at or before the first row whose key is not less
// than prefix, at most 64 rows before it.
func (t *table) seek(prefix []byte) (offset uint64, err error) {
	defer guard(debug.SetPanicOnFault(true), &err)
	lo, hi := uint64(0), t.Orders()
	offset = format.TableHeaderSize
	for lo < hi {
		mid := lo + (hi-lo)/2
		o, err := t.order(mid)
		if err != nil {
			return 0, err
		}
		key, _, _, err := t.row(o)
		if err != nil {
			return 0, err
		}
		if bytes.Compare(key, prefix) <= 0 {
			lo, offset = mid+1, o
		} else {
			hi = mid
		}
	}
	return offset, nil
}

// A scan reads the rows with one prefix in order.
type scan struct {
	t      *table
	prefix []byte
	offset uint64 // of the next row
	start  uint64 // of the window
	window []byte // rows read ahead, where the table is not mapped
}

// scan returns a scan that begins with the first row whose key begins with
// prefix.
func (t *table) scan(prefix []byte) (*scan, error) {
	offset, err := t.seek(prefix)
	return &scan{t: t, prefix: bytes.Clone(prefix), offset: offset}, err
}

// next returns the next row, or false at the end or after an error.
func (s *scan) next() (row Row, more bool, err error) {
	defer guard(debug.SetPanicOnFault(true), &err)
	for s.offset < s.t.RowsEnd {
		key, value, size, err := s.row(s.offset)
		if err != nil {
			return Row{}, false, err
		}
		s.offset += size
		if bytes.HasPrefix(key, s.prefix) {
			return Row{key, value}, true, nil
		}
		if bytes.Compare(key, s.prefix) > 0 {
			break
		}
	}
	return Row{}, false, nil
}

const windowSize = 256 << 10

// row reads the row at offset. Rows that follow one another are read many at
// a time.
func (s *scan) row(offset uint64) (key, value []byte, size uint64, err error) {
	if s.t.mapped() != nil {
		return s.t.row(offset)
	}
	if skip := offset - s.start; s.window != nil && skip < uint64(len(s.window)) {
		if key, value, size, err = format.Row(s.window[skip:]); err == nil {
			return key, value, size, nil
		}
	}
	// Not wholly in the window, or corrupt: a window that begins with it, or
	// the row alone if it is larger than that, decides. A new one each time,
	// for rows handed out refer to the old.
	if s.window, err = s.t.exactly(offset, min(windowSize, s.t.RowsEnd-offset), nil); err != nil {
		return nil, nil, 0, err
	}
	s.start = offset
	if key, value, size, err = format.Row(s.window); err == nil {
		return key, value, size, nil
	}
	return s.t.row(offset)
}
