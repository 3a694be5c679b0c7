package hashing

import "strings"

// A Change is one difference between two manifests.
type Change struct {
	Path   string // of an input; of a recipe part its label
	Recipe bool   // it is a recipe part
	How    How
	// Old and New are the input as it was and as it is; zero where there was
	// or is none, and for recipe parts.
	Old, New Input
}

// How says in which ways something changed: bits, of which Added and Removed
// stand alone.
type How uint8

// The ways to change.
const (
	Added How = 1 << iota
	Removed
	Content
	Mode
	Kind // a file became a symbolic link, or the reverse
)

// String returns the ways by name: "added", "content, mode".
func (h How) String() string {
	var names []string
	for i, name := range []string{"added", "removed", "content", "mode", "type"} {
		if h&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Diff returns what changed from one manifest to the next: the recipe parts,
// then the inputs, each in their order. It returns nothing exactly if the keys
// are equal.
func Diff(old, to *Manifest) []Change {
	var changes []Change
	merge(old.Recipe, to.Recipe, func(p *Part) string { return p.Label }, func(a, b *Part) {
		c := Change{Recipe: true, Path: labelOf(a, b)}
		switch {
		case a == nil:
			c.How = Added
		case b == nil:
			c.How = Removed
		case a.Digest != b.Digest:
			c.How = Content
		default:
			return
		}
		changes = append(changes, c)
	})
	merge(old.Inputs, to.Inputs, func(in *Input) string { return in.Path }, func(a, b *Input) {
		if c := compare(a, b); c.How != 0 {
			changes = append(changes, c)
		}
	})
	return changes
}

func labelOf(a, b *Part) string {
	if a != nil {
		return a.Label
	}
	return b.Label
}

func compare(a, b *Input) Change {
	switch {
	case a == nil:
		return Change{Path: b.Path, How: Added, New: *b}
	case b == nil:
		return Change{Path: a.Path, How: Removed, Old: *a}
	}
	c := Change{Path: a.Path, Old: *a, New: *b}
	if a.Type != b.Type {
		// Of another type all else is another too: nothing to tell.
		c.How = Kind
		return c
	}
	if a.Digest != b.Digest || a.Size != b.Size {
		c.How |= Content
	}
	if a.Mode != b.Mode {
		c.How |= Mode
	}
	return c
}

// merge calls f for each name in one or both of two sorted lists, with what
// has the name in each or nil.
func merge[T any](old, to []T, name func(*T) string, f func(a, b *T)) {
	for len(old) > 0 || len(to) > 0 {
		order := 0
		switch {
		case len(old) == 0:
			order = 1
		case len(to) == 0:
			order = -1
		default:
			order = strings.Compare(name(&old[0]), name(&to[0]))
		}
		var a, b *T
		if order <= 0 {
			a, old = &old[0], old[1:]
		}
		if order >= 0 {
			b, to = &to[0], to[1:]
		}
		f(a, b)
	}
}
