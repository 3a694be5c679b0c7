// Package survey looks at an install's root and proposes caches for it: what
// they could be derived from, and by which witness a reader notices a change.
//
// What it proposes loads, and refreshes as it is written, with the built-in
// table of files. What a witness cannot show stands beside it. A witness is
// proposed only where the installer is known to write it last, or where nothing
// in the tree is newer.
//
// The looking is bounded, follows no symbolic link, and believes no name: what
// cannot be written into a configuration as it is gets escaped or left out.
package survey

import (
	"slices"
	"strings"
)

// A Cache is a proposed cache. Its texts are what stands beside it in the
// configuration.
type Cache struct {
	Name            string
	Inputs, Exclude []string
	Witness         []string // nil: every input
	Found           string   // what it is proposed for
	Shows, Hides    string   // which changes the witness shows, and which not
	Costs           string   // what checking it costs a reader
	Sketch          string   // a further cache, as comment lines, or ""
	Off             string   // why it is only a comment, "" if it is not
}

// Look returns what to propose for the root, the most specific first. There is
// always something.
func Look(root string) ([]Cache, error) {
	t, err := newTree(root)
	if err != nil {
		return nil, err
	}
	return t.propose(), nil
}

func (t *tree) propose() (found []Cache) {
	for _, kind := range []func(*tree) *Cache{python, spack, modules, dpkg, git} {
		if c := kind(t); c != nil {
			found = append(found, *c)
		}
	}
	if len(found) == 0 {
		found = []Cache{plain(t)}
	}
	for i := range found {
		if found[i].whole() {
			found[i].Off = t.off(found[:i])
		}
	}
	return found
}

// whole says whether c is derived from all of the root.
func (c *Cache) whole() bool { return slices.Contains(c.Inputs, "**") }

// off says why a cache of all of the root is not to be made unasked.
func (t *tree) off(before []Cache) string {
	if t.root == "/" {
		return "nothing is derived from all of / unasked. Name a part of it."
	}
	if len(before) == 0 {
		return ""
	}
	names := make([]string, len(before))
	for i := range before {
		names[i] = before[i].Name
	}
	return "it would have the files of " + strings.Join(names, " and ") + " once more."
}
