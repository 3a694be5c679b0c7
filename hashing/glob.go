package hashing

import (
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/syscache/syscache/internal/format"
)

// ValidatePattern returns an error if pattern cannot select inputs: patterns
// are relative, in the syntax of doublestar, and have no slash in braces.
//
// They are matched component by component, so that a scan enters only the
// directories in which something could match.
func ValidatePattern(pattern string) error {
	switch {
	case !format.ValidPath(pattern):
		return fmt.Errorf("pattern %q is not a relative path that stays under the root", pattern)
	case !doublestar.ValidatePattern(pattern):
		return fmt.Errorf("pattern %q is malformed", pattern)
	}
	for c := range strings.SplitSeq(pattern, "/") {
		if !doublestar.ValidatePattern(c) {
			return fmt.Errorf("pattern %q has a slash in braces: write a pattern for each", pattern)
		}
	}
	return nil
}

// A component matches one name of a path.
type component struct {
	text    string
	literal bool // text is the name
	any     bool // **: any number of names
}

func (c *component) match(name string) bool {
	if c.literal {
		return c.text == name
	}
	ok, err := doublestar.Match(c.text, name)
	return ok && err == nil
}

// compile splits patterns into components.
func compile(patterns []string) ([][]component, error) {
	list := make([][]component, len(patterns))
	for i, p := range patterns {
		if err := ValidatePattern(p); err != nil {
			return nil, err
		}
		for text := range strings.SplitSeq(p, "/") {
			list[i] = append(list[i], component{text, !strings.ContainsAny(text, `*?[{\`), text == "**"})
		}
	}
	return list, nil
}

// A position is a set of places in patterns: what is left to match below a
// directory. Each element is a pattern's remaining components, never none.
type position [][]component

// start returns the position of the root.
func start(patterns [][]component) position { return closure(patterns) }

// closure adds what follows each ** that matches no name at all.
func closure(p position) position {
	for i := 0; i < len(p); i++ {
		if p[i][0].any && len(p[i]) > 1 {
			p = append(p, p[i][1:])
		}
	}
	return p
}

// literals returns the names that alone could match here, or false if any
// might.
func (p position) literals() (names []string, only bool) {
	for _, rest := range p {
		if !rest[0].literal {
			return nil, false
		}
		names = append(names, rest[0].text)
	}
	return names, true
}

// step returns the position below the entry name, empty if nothing can match
// there, and whether the entry itself matches.
func (p position) step(name string) (below position, matches bool) {
	for _, rest := range p {
		switch {
		case rest[0].any:
			below = append(below, rest)
			matches = matches || len(rest) == 1
		case rest[0].match(name):
			if len(rest) == 1 {
				matches = true
			} else {
				below = append(below, rest[1:])
			}
		}
	}
	return closure(below), matches
}

// excluded says whether a path matches one of the patterns.
func excluded(patterns []string, path string) bool {
	for _, p := range patterns {
		if ok, err := doublestar.Match(p, path); ok && err == nil {
			return true
		}
	}
	return false
}

// excludedBelow says whether everything below a directory is excluded.
func excludedBelow(patterns []string, dir string) bool {
	for _, p := range patterns {
		if above, all := strings.CutSuffix(p, "/**"); p == "**" || all {
			if ok, err := doublestar.Match(above, dir); ok && err == nil {
				return true
			}
		}
	}
	return false
}
