package syscache

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
