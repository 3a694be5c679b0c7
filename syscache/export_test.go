package syscache

import (
	"os"
	"time"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/internal/unix/unixtest"
)

// Unmapped makes r answer every look-up with pread.
func (r *Reader) Unmapped() *Reader {
	r.table.once.Do(func() {})
	r.table.uses.Store(-1 << 31)
	return r
}

// Mapped makes r answer every look-up from a mapping, and says whether it can.
func (r *Reader) Mapped() bool {
	r.table.use(mapAfter + 1)
	return r.table.mapped() != nil
}

// SetSettled changes, during a test, how old a change must be to be told by
// its times; negative: no change is old enough.
func SetSettled(t interface{ Cleanup(func()) }, d time.Duration) {
	was := settled
	t.Cleanup(func() { settled = was })
	if settled = d; d < 0 {
		settled = 1<<63 - 1
	}
}

// TableOf returns a Reader of the table in a file, of whatever generation:
// what pointer and trust decide is left out.
func TableOf(f *os.File) (*Reader, error) {
	fd, err := unixtest.Dup(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	r := &Reader{table: &table{source: source{fd: fd, size: uint64(st.Size)}}}
	b, err := r.table.read(0, format.TableHeaderSize, nil)
	if err == nil {
		r.table.TableHeader, err = format.DecodeTableHeader(b, r.table.size)
	}
	if err != nil {
		unix.Close(fd)
	}
	return r, err
}
