package refresh

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/syscache"
)

// A base is the generation from which a refresh carries over the rows of
// unchanged inputs.
type base struct {
	*generation
	install *Install
	cache   string
	now     []int // by index in its manifest: the index of the same input now, or -1
}

// A baseError is that of a base that was whole when it was found. All is built
// then.
type baseError struct{ err error }

func (e *baseError) Error() string { return "carry over: " + e.err.Error() }

func (e *baseError) Unwrap() error { return e.err }

// findBase returns the base of the generation of s: what readers had before, if
// every byte of it is as it was written and the same recipe made it. It returns
// nil where everything is to be built.
func (r *refresher) findBase(ctx context.Context, s *snapshot, before *published) *base {
	if !r.c.each() || r.force {
		return nil
	}
	p := r.had(before)
	if p == nil {
		return nil
	}
	g := r.existing(ctx, p.Key)
	if g == nil || g.digest != p.Meta || g.meta.Output(format.Origins) == nil {
		return nil
	}
	old, err := r.manifest(r.c.Name, p.Key)
	if err != nil || !slices.Equal(r.parts(old), r.parts(s.manifest)) {
		return nil
	}
	b := &base{generation: g, install: r.Install, cache: r.c.Name, now: make([]int, len(old.Inputs))}
	now := s.manifest.Inputs
	for i := range old.Inputs {
		j, ok := slices.BinarySearchFunc(now, old.Inputs[i].Path, func(in hashing.Input, path string) int { return strings.Compare(in.Path, path) })
		if b.now[i] = -1; ok && now[j] == old.Inputs[i] {
			b.now[i] = j
		}
	}
	return b
}

// parts returns the recipe of m without the list that names the inputs, unless
// that is named in the recipe too: what it lists are the inputs of m.
func (r *refresher) parts(m *hashing.Manifest) []hashing.Part {
	matches := func(pattern string) bool { return doublestar.MatchUnvalidated(pattern, r.c.InputsFrom) }
	if r.c.InputsFrom == "" || slices.ContainsFunc(r.c.Recipe, matches) {
		return m.Recipe
	}
	return slices.DeleteFunc(slices.Clone(m.Recipe), func(p hashing.Part) bool { return p.Label == "file "+r.c.InputsFrom })
}

// missing returns the indices of the inputs, of n, that b has no rows of. Of no
// base these are all.
func (b *base) missing(n int) []int {
	has := make([]bool, n)
	if b != nil {
		for _, j := range b.now {
			if j >= 0 {
				has[j] = true
			}
		}
	}
	var all []int
	for i := range has {
		if !has[i] {
			all = append(all, i)
		}
	}
	return all
}

// rows yields the rows of the inputs that are the same, in their order, each with
// the index that its input has now. What is wrong with them is a *baseError.
func (b *base) rows() iter.Seq2[mergedRow, error] {
	return func(yield func(mergedRow, error) bool) {
		for r, err := range b.carry() {
			if err != nil {
				yield(mergedRow{}, &baseError{err})
				return
			}
			if now := b.now[r.from]; now >= 0 {
				if r.from = uint64(now); !yield(r, nil) {
					return
				}
			}
		}
	}
}

// carry yields all rows, each with the index that its input had.
func (b *base) carry() iter.Seq2[mergedRow, error] {
	return func(yield func(mergedRow, error) bool) {
		fail := func(err error) { yield(mergedRow{}, err) }
		r, err := syscache.Open(b.install.root, b.cache, b.install.readOptions(true))
		if err != nil {
			fail(err)
			return
		}
		defer r.Close()
		if r.Generation() != b.meta.Key || uint64(r.Len()) != b.meta.Rows {
			fail(fmt.Errorf("%w: another table than %s/%s tells of", format.ErrCorrupt, b.dir, format.Meta))
			return
		}
		f, err := unix.OpenFile(b.dir+"/"+format.Origins, readOnly, 0)
		if err != nil {
			fail(err)
			return
		}
		defer f.Close()
		origins, err := format.ReadOrigins(f, b.meta.Rows, len(b.now))
		if err != nil {
			fail(err)
			return
		}
		var last []byte
		for row, err := range r.Scan(nil) {
			var input uint32
			if err == nil {
				input, err = origins.Next()
			}
			if err == nil && last != nil && bytes.Compare(row.Key, last) <= 0 {
				err = fmt.Errorf("%w: rows out of order in %s", format.ErrCorrupt, b.dir)
			}
			if !yield(mergedRow{row.Key, row.Value, uint64(input)}, err) || err != nil {
				return
			}
			last = row.Key
		}
	}
}
