package syscache

import "time"

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
