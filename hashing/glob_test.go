package hashing

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/bmatcuk/doublestar/v4"
)

func TestCheckPattern(t *testing.T) {
	for pattern, want := range map[string]string{
		"":             "it is empty",
		"/etc/*":       "absolute",
		"a/":           "ends in a slash",
		"a/**/":        "ends in a slash",
		"a/../b":       "component",
		"../b":         "component",
		"a/**/../b":    "component",
		"./a":          "component",
		"a//b":         "component",
		"a/**//b":      "component",
		`a/\.\./b`:     "component",
		"a\x00b":       "NUL",
		"a\xffb":       "UTF-8",
		"[a":           "match up",
		"{a":           "match up",
		"a}":           "match up",
		`a\`:           "match up",
		"a":            "",
		"a/b.c":        "",
		"**":           "",
		"*/**/*.{a,b}": "",
		"{a/b,c}/d":    "",
		`\*/[!x]?`:     "",
		"a..b/...":     "",
	} {
		err := CheckPattern(pattern)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("CheckPattern(%q) = %v, want %q", pattern, err, want)
		}
	}
}

// walked says whether a walk takes path, and whether it even comes to where it
// lies.
func walked(g *glob, path string) (file, reached bool) {
	states := initial([]*glob{g})
	dir := ""
	for {
		name, rest, more := strings.Cut(path, "/")
		s := advance(states, dir, name)
		if !more {
			return s.file, true
		}
		if len(s.below) == 0 {
			return false, false
		}
		states, dir, path = s.below, s.path, rest
	}
}

// TestWalkMatchesAsDoublestar: to match on the way down is an optimization.
func TestWalkMatchesAsDoublestar(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(list []string, most int) string {
		n := 1 + r.IntN(most)
		parts := make([]string, n)
		for i := range parts {
			parts[i] = list[r.IntN(len(list))]
		}
		return strings.Join(parts, "/")
	}
	parts := []string{
		"a", "b", "ab", "*", "a*", "?", "**", "**", "{a,b}", "{a/b,ab}", "{a/**,b}", "[ab]", "[!a]", "[a/b]", `\a`, `a\/b`,
		"a**", "**b", "*.c", ".*", "{,a}b", "é", "{**,a}", "{,a}", "{a,**/b}", "a{/**,/b}", "{**,**}", "[{]**", "**{,a}",
	}
	names := []string{"a", "b", "ab", "x.c", ".c", "é", "\xff", "a\nb", "aab"}
	matched := 0
	for range 200_000 {
		pattern, path := pick(parts, 4), pick(names, 5)
		g, err := newGlob(pattern)
		if err != nil {
			t.Fatalf("%q: %v", pattern, err)
		}
		want := doublestar.MatchUnvalidated(pattern, path)
		if got, _ := walked(g, path); got != want {
			t.Fatalf("walk: pattern %q, path %q: %v, want %v", pattern, path, got, want)
		}
		if got := g.match(path); got != want {
			t.Fatalf("match: pattern %q, path %q: %v, want %v", pattern, path, got, want)
		}
		if want {
			matched++
		}
	}
	if matched < 1000 {
		t.Errorf("only %d matches: the test shows little", matched)
	}
}

func TestWalkPrunes(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		reached       bool
	}{
		{"lib/python3*/site-packages/**/*.py", "lib/x", true},
		{"lib/python3*/site-packages/**/*.py", "bin/x", false},
		{"lib/python3*/site-packages/**/*.py", "lib/python2/x", false},
		{"lib/python3*/site-packages/**/*.py", "lib/python3/x", true},
		{"lib/python3*/site-packages/**/*.py", "lib/python3/other/x", false},
		{"lib/python3*/site-packages/**/*.py", "lib/python3/site-packages/a/b/c", true},
		{"*/x", "a/b/c", false},
		{"lib/{a/b,c}/d", "lib/anything/x", true}, // a slash in braces: given up
		{"lib/{a/b,c}/d", "bin/x", false},
	} {
		g, err := newGlob(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if _, reached := walked(g, c.path); reached != c.reached {
			t.Errorf("%s: %s reached: %v", c.pattern, c.path, reached)
		}
	}
}
