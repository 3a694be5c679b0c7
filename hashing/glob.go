package hashing

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
)

// A glob is a compiled pattern. What stands before its first "**" is matched
// component by component on the way down, so that nothing is read that cannot
// match; from there on the tail is matched against whole paths.
type glob struct {
	pattern string
	parts   []part
	tail    string // "" if the parts are all of it
	// base is set where the tail is "**/base": base alone then decides, by
	// the last component. It is what nearly every pattern comes to.
	base string
}

// A part is one component of a pattern.
type part struct {
	text    string // of a literal its name, unescaped
	literal bool
}

const meta = "*?[{"

// CheckPattern returns an error that says why if a Scan does not take pattern.
func CheckPattern(pattern string) error {
	_, err := newGlob(pattern)
	return err
}

// compile compiles patterns, which are relative to the root.
func compile(patterns []string) ([]*glob, error) {
	globs := make([]*glob, 0, len(patterns))
	for _, p := range patterns {
		g, err := newGlob(p)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", p, err)
		}
		globs = append(globs, g)
	}
	return globs, nil
}

func newGlob(pattern string) (*glob, error) {
	switch {
	case pattern == "":
		return nil, fmt.Errorf("it is empty")
	case strings.IndexByte(pattern, 0) >= 0:
		return nil, fmt.Errorf("it contains a NUL byte")
	case !utf8.ValidString(pattern):
		// doublestar takes one invalid byte for any other.
		return nil, fmt.Errorf("it is not valid UTF-8; name the bytes by ? or *")
	case pattern[0] == '/':
		return nil, fmt.Errorf("it is absolute; patterns are relative to the root")
	case strings.HasSuffix(pattern, "/"):
		return nil, fmt.Errorf("it ends in a slash; append ** for all that lies below")
	case !doublestar.ValidatePattern(pattern):
		return nil, fmt.Errorf("brackets, braces or backslashes do not match up")
	}
	g := &glob{pattern: pattern}
	offset := 0
	for offset < len(pattern) {
		text, nested := component(pattern[offset:])
		if text == "**" || nested {
			g.setTail(pattern[offset:])
			break
		}
		p := part{text: text, literal: !hasMeta(text)}
		if p.literal {
			p.text = unescape(text)
		}
		switch p.text {
		case "", ".", "..":
			return nil, fmt.Errorf("it has an empty, \".\" or \"..\" component")
		}
		g.parts = append(g.parts, p)
		offset += len(text) + 1
	}
	for rest := g.tail; rest != ""; {
		text, _ := component(rest)
		switch text {
		case "", ".", "..":
			return nil, fmt.Errorf("it has an empty, \".\" or \"..\" component")
		}
		rest = strings.TrimPrefix(rest[len(text):], "/")
	}
	return g, nil
}

func (g *glob) setTail(tail string) {
	g.tail = tail
	base, ok := strings.CutPrefix(tail, "**/")
	if text, nested := component(base); ok && text == base && !nested && base != "**" {
		g.base = base
	}
}

// component returns the first component of a pattern, and whether it may be
// more than one: if a slash is nested in its braces or brackets, or escaped, or
// if one of its alternatives may be **.
func component(pattern string) (text string, nested bool) {
	braces, class := 0, false
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\':
			i++
			nested = nested || pattern[i] == '/'
		case class:
			class = c != ']'
			nested = nested || c == '/'
		case c == '[':
			class = true
		case c == '{':
			braces++
		case c == '}':
			braces--
		case c == '/' && braces > 0:
			nested = true
		case c == '/':
			pattern = pattern[:i]
		}
	}
	nested = nested || strings.Contains(pattern, "{") && strings.Contains(pattern, "**")
	return pattern, nested
}

// hasMeta says whether text is more than a name.
func hasMeta(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' {
			i++
		} else if strings.IndexByte(meta, text[i]) >= 0 {
			return true
		}
	}
	return false
}

func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' {
			i++
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

func (p *part) match(name string) bool {
	if p.literal {
		return p.text == name
	}
	return doublestar.MatchUnvalidated(p.text, name)
}

// match says whether the whole pattern matches a whole path.
func (g *glob) match(path string) bool {
	if len(g.parts) == 0 {
		return g.matchTail(path)
	}
	return doublestar.MatchUnvalidated(g.pattern, path)
}

// matchTail says whether the tail matches a path that is relative to where
// the parts end.
func (g *glob) matchTail(path string) bool {
	switch {
	case g.tail == "**":
		return true
	case g.base != "":
		return doublestar.MatchUnvalidated(g.base, path[strings.LastIndexByte(path, '/')+1:])
	}
	return doublestar.MatchUnvalidated(g.tail, path)
}

// excludes says whether one of globs matches path.
func excludes(globs []*glob, path string) bool {
	for _, g := range globs {
		if g.match(path) {
			return true
		}
	}
	return false
}

// prunes says whether one of globs matches all that could lie below the
// directory at path.
func prunes(globs []*glob, path string) bool {
	for _, g := range globs {
		if (g.pattern == "**" || strings.HasSuffix(g.pattern, "/**")) && g.match(path) {
			return true
		}
	}
	return false
}

// A state is how far one pattern has matched the path of a directory.
type state struct {
	glob *glob
	at   int  // parts matched
	from int  // once all have: where in a path the tail begins
	deep bool // all parts have matched, and there is a tail
}

// initial returns the states of the root.
func initial(globs []*glob) []state {
	states := make([]state, len(globs))
	for i, g := range globs {
		states[i] = state{glob: g, deep: len(g.parts) == 0}
	}
	return states
}

// onlyNames says whether all that states ask of a directory is some names: it
// need not be listed then.
func onlyNames(states []state) bool {
	for i := range states {
		if st := &states[i]; st.deep || !st.glob.parts[st.at].literal {
			return false
		}
	}
	return true
}

// byName calls f for each of the names that states, of which onlyNames holds,
// ask for, with the states that ask for it. Patterns may be many: a list of
// files is a pattern each.
func byName(states []state, f func(name string, states []state)) {
	name := func(st state) string { return st.glob.parts[st.at].text }
	sorted := slices.SortedFunc(slices.Values(states), func(a, b state) int { return strings.Compare(name(a), name(b)) })
	for len(sorted) > 0 {
		n := 1
		for n < len(sorted) && name(sorted[n]) == name(sorted[0]) {
			n++
		}
		f(name(sorted[0]), sorted[:n])
		sorted = sorted[n:]
	}
}

// literalSoFar says whether the part that st wants next belongs to the literal
// prefix of its pattern.
func (st *state) literalSoFar() bool {
	for _, p := range st.glob.parts[:st.at+1] {
		if !p.literal {
			return false
		}
	}
	return true
}

// A step is what patterns make of one name in a directory.
type step struct {
	path  string
	file  bool    // it is an input, if it is a file or a link
	below []state // what may lie below it, if it is a directory
	// The patterns that name it without wild-cards, "" if none does: as a
	// directory to go through, and as a file.
	through, only string
}

// advance returns what states make of name in the directory at dir.
func advance(states []state, dir, name string) step {
	s := step{path: join(dir, name)}
	if allDeep(states) { // the usual case: nothing to allocate
		s.below = states
		for i := 0; i < len(states) && !s.file; i++ {
			s.file = states[i].glob.matchTail(s.path[states[i].from:])
		}
		return s
	}
	for i := range states {
		if st := &states[i]; st.deep {
			s.file = s.file || st.glob.matchTail(s.path[st.from:])
			s.below = append(s.below, *st)
		} else if st.glob.parts[st.at].match(name) {
			s.take(st)
		}
	}
	return s
}

// take takes the part that st wants next, which has matched.
func (s *step) take(st *state) {
	last := st.at+1 == len(st.glob.parts) && st.glob.tail == ""
	if st.literalSoFar() {
		if last {
			s.only = st.glob.pattern
		} else {
			s.through = st.glob.pattern
		}
	}
	if last {
		s.file = true
		return
	}
	next := state{glob: st.glob, at: st.at + 1}
	if next.at == len(st.glob.parts) {
		next.deep, next.from = true, len(s.path)+1
		// As doublestar has it: a/** matches a, but a*/** does not.
		s.file = s.file || st.glob.tail == "**" && st.glob.match(s.path)
	}
	s.below = append(s.below, next)
}

func allDeep(states []state) bool {
	for i := range states {
		if !states[i].deep {
			return false
		}
	}
	return true
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
