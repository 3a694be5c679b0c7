package refresh

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"github.com/syscache/syscache/internal/format"
)

// sortMemory is how many bytes of rows a rowSorter keeps before it spills
// them into a file.
const sortMemory = 48 << 20

// A builtRow is a row as its builder gave it.
type builtRow struct {
	key, value []byte
	from       []byte // the input that it is tagged with; nil: none
	line       uint64 // of a command's output, or the how-manieth of a function
}

// check returns an error for what no table can hold.
func (r *builtRow) check() error {
	switch {
	case len(r.key) > format.MaxKey:
		return fmt.Errorf("row %d: the key is %d bytes long, and at most %d are allowed", r.line, len(r.key), format.MaxKey)
	case len(r.value) > format.MaxValue:
		return fmt.Errorf("row %d: the value is %d bytes long, and at most %d are allowed", r.line, len(r.value), format.MaxValue)
	}
	return nil
}

// A rowSorter sorts any number of rows by key, in bounded memory.
type rowSorter struct {
	disk   disk
	dir    string // where runs are spilled
	memory int
	used   int // of it
	chunks [][]byte
	rows   []sortedRow
	runs   []string
	count  int // of all rows
}

// A sortedRow is a row in a chunk, its key and then its value.
type sortedRow struct {
	chunk, at uint32
	key, val  uint32 // how long they are
	from      uint64
}

// chunkSize is what is asked for at once: one piece that grows would be copied
// again and again, and take twice the memory. A row that is larger has one of
// its own.
const chunkSize = 1 << 20

func newRowSorter(d disk, dir string) *rowSorter {
	return &rowSorter{disk: d, dir: dir, memory: sortMemory}
}

// add adds a row, which check has passed. from says where it is from, and
// decides between rows of one key: the number of the row or, where each input is
// built for itself, of the input.
func (s *rowSorter) add(key, value []byte, from uint64) error {
	const overhead = 24
	size := len(key) + len(value)
	if len(s.rows) > 0 && s.used+size > s.memory {
		if err := s.spill(); err != nil {
			return err
		}
	}
	last := len(s.chunks) - 1
	if last < 0 || len(s.chunks[last])+size > cap(s.chunks[last]) {
		s.addChunk(size)
		last++
	}
	c := &s.chunks[last]
	s.rows = append(s.rows, sortedRow{uint32(last), uint32(len(*c)), uint32(len(key)), uint32(len(value)), from})
	*c = append(append(*c, key...), value...)
	s.used += size + overhead
	s.count++
	return nil
}

// addChunk adds an empty chunk for size bytes or more: one that was spilled, if
// there is one.
func (s *rowSorter) addChunk(size int) {
	n := len(s.chunks)
	if n < cap(s.chunks) {
		if spilled := s.chunks[:n+1][n]; cap(spilled) >= size {
			s.chunks = append(s.chunks, spilled[:0])
			return
		}
	}
	s.chunks = append(s.chunks, make([]byte, 0, max(min(chunkSize, s.memory), size)))
}

func (s *rowSorter) bytesOf(r sortedRow) []byte {
	return s.chunks[r.chunk][r.at : r.at+r.key+r.val]
}

func (s *rowSorter) keyOf(r sortedRow) []byte { return s.bytesOf(r)[:r.key] }

func (s *rowSorter) valueOf(r sortedRow) []byte { return s.bytesOf(r)[r.key:] }

func (s *rowSorter) sort() {
	byKey := func(a, b sortedRow) int {
		if c := bytes.Compare(s.keyOf(a), s.keyOf(b)); c != 0 {
			return c
		}
		return cmp.Compare(a.from, b.from)
	}
	if !slices.IsSortedFunc(s.rows, byKey) {
		slices.SortFunc(s.rows, byKey)
	}
}

// spill writes the rows in memory to a run of their own, sorted.
func (s *rowSorter) spill() error {
	s.sort()
	path := fmt.Sprintf("%s/run-%d", s.dir, len(s.runs))
	f, err := s.disk.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for _, r := range s.rows {
		var h [16]byte
		binary.LittleEndian.PutUint32(h[0:], r.key)
		binary.LittleEndian.PutUint32(h[4:], r.val)
		binary.LittleEndian.PutUint64(h[8:], r.from)
		w.Write(h[:])
		w.Write(s.bytesOf(r))
	}
	err = w.Flush()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	s.runs = append(s.runs, path)
	s.chunks, s.rows, s.used = s.chunks[:0], s.rows[:0], 0
	return err
}

// A mergedRow is a row at the head of a run.
type mergedRow struct {
	key, value []byte
	from       uint64
}

// before is the order of a table, and of the rows with one key.
func (r *mergedRow) before(other *mergedRow) bool {
	if c := bytes.Compare(r.key, other.key); c != 0 {
		return c < 0
	}
	return r.from < other.from
}

// sorted yields all rows in the order of their keys. The slices are valid until
// the next row.
func (s *rowSorter) sorted() iter.Seq2[mergedRow, error] {
	return func(yield func(mergedRow, error) bool) {
		s.sort()
		if len(s.runs) == 0 {
			s.inMemory()(yield)
			return
		}
		m := &merge{}
		defer m.close()
		for _, path := range s.runs {
			if err := m.open(path); err != nil {
				yield(mergedRow{}, err)
				return
			}
		}
		next, stop := iter.Pull2(s.inMemory())
		defer stop()
		if err := m.add(func() (mergedRow, bool, error) { r, err, ok := next(); return r, ok, err }); err != nil {
			yield(mergedRow{}, err)
			return
		}
		s.complete(m.all())(yield)
	}
}

// complete passes all rows on, and then an error if they are fewer than were
// added: a run that was cut at the end of a row looks whole, and readers would
// be told of the rest that there is no such row (I7).
func (s *rowSorter) complete(rows iter.Seq2[mergedRow, error]) iter.Seq2[mergedRow, error] {
	return func(yield func(mergedRow, error) bool) {
		n := 0
		for r, err := range rows {
			if n++; !yield(r, err) {
				return
			}
		}
		if n != s.count {
			yield(mergedRow{}, fmt.Errorf("read %s: %d rows of %d", s.dir, n, s.count))
		}
	}
}

func (s *rowSorter) inMemory() iter.Seq2[mergedRow, error] {
	return func(yield func(mergedRow, error) bool) {
		for _, r := range s.rows {
			if !yield(mergedRow{s.keyOf(r), s.valueOf(r), r.from}, nil) {
				return
			}
		}
	}
}

// unique passes rows on, with an error for the first whose key is that of the
// row before.
func unique(rows iter.Seq2[mergedRow, error]) iter.Seq2[mergedRow, error] {
	return func(yield func(mergedRow, error) bool) {
		var last mergedRow
		first := true
		for r, err := range rows {
			if err == nil && !first && bytes.Equal(r.key, last.key) {
				err = &duplicateError{quote(r.key), last.from, r.from}
			}
			if !yield(r, err) || err != nil {
				return
			}
			last.key, last.from, first = append(last.key[:0], r.key...), r.from, false
		}
	}
}

// merged yields the rows of two sequences, each in the order of a table, in that
// order.
func merged(a, b iter.Seq2[mergedRow, error]) iter.Seq2[mergedRow, error] {
	return func(yield func(mergedRow, error) bool) {
		next, stop := iter.Pull2(b)
		defer stop()
		rb, errB, more := next()
		for ra, errA := range a {
			for errA == nil && more && (errB != nil || rb.before(&ra)) {
				if !yield(rb, errB) || errB != nil {
					return
				}
				rb, errB, more = next()
			}
			if !yield(ra, errA) || errA != nil {
				return
			}
		}
		for more {
			if !yield(rb, errB) || errB != nil {
				return
			}
			rb, errB, more = next()
		}
	}
}

// A duplicateError is a builder's mistake: two rows with one key.
type duplicateError struct {
	key           string
	first, second uint64
}

func (e *duplicateError) Error() string {
	return fmt.Sprintf("row %d has the key %s of row %d", e.second, e.key, e.first)
}

// merge is a heap of the runs' heads.
type merge struct {
	heads []*head
	files []*os.File
}

type head struct {
	mergedRow
	next func() (mergedRow, bool, error)
}

func (m *merge) Len() int      { return len(m.heads) }
func (m *merge) Swap(i, j int) { m.heads[i], m.heads[j] = m.heads[j], m.heads[i] }
func (m *merge) Push(x any)    { m.heads = append(m.heads, x.(*head)) }
func (m *merge) Pop() any {
	last := m.heads[len(m.heads)-1]
	m.heads = m.heads[:len(m.heads)-1]
	return last
}

func (m *merge) Less(i, j int) bool {
	return m.heads[i].before(&m.heads[j].mergedRow)
}

func (m *merge) add(next func() (mergedRow, bool, error)) error {
	r, ok, err := next()
	if ok && err == nil {
		heap.Push(m, &head{r, next})
	}
	return err
}

func (m *merge) open(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	m.files = append(m.files, f)
	br := bufio.NewReaderSize(f, 256<<10)
	var b []byte
	return m.add(func() (mergedRow, bool, error) {
		var h [16]byte
		if _, err := io.ReadFull(br, h[:]); err == io.EOF {
			return mergedRow{}, false, nil
		} else if err != nil {
			return mergedRow{}, false, err
		}
		k, v := binary.LittleEndian.Uint32(h[0:]), binary.LittleEndian.Uint32(h[4:])
		b = slices.Grow(b[:0], int(k)+int(v))[:int(k)+int(v)]
		_, err := io.ReadFull(br, b)
		return mergedRow{b[:k], b[k:], binary.LittleEndian.Uint64(h[8:])}, true, err
	})
}

func (m *merge) all() iter.Seq2[mergedRow, error] {
	return func(yield func(mergedRow, error) bool) {
		for len(m.heads) > 0 {
			h := m.heads[0]
			if !yield(h.mergedRow, nil) {
				return
			}
			r, ok, err := h.next()
			switch {
			case err != nil:
				yield(mergedRow{}, err)
				return
			case ok:
				h.mergedRow = r
				heap.Fix(m, 0)
			default:
				heap.Pop(m)
			}
		}
	}
}

func (m *merge) close() {
	for _, f := range m.files {
		f.Close()
	}
}

// quote shows a key in a message: harmless, and not longer than a line.
func quote(key []byte) string {
	if len(key) > 60 {
		return fmt.Sprintf("%q...", key[:60])
	}
	return fmt.Sprintf("%q", key)
}
