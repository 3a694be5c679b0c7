package refresh

import (
	"bytes"
	"encoding/json"
	"errors"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/syscache/syscache/internal/corpus"
	"github.com/syscache/syscache/internal/format"
)

// forPeople fails if a message is not one line that a terminal can show.
func forPeople(t *testing.T, msg string) {
	t.Helper()
	if msg == "" || strings.ContainsFunc(msg, func(r rune) bool { return r < ' ' || r == 0x7f }) || !utf8.ValidString(msg) {
		t.Errorf("not a line for people: %q", msg)
	}
}

// FuzzReadRows: a builder's output is refused at a line that it has, or every
// line of it is the row that parseRow makes of it.
func FuzzReadRows(f *testing.F) {
	const row = `{"key": "a", "value": 1}` + "\n"
	corpus.Seeds(f, map[string][]byte{
		"rows": []byte(row + row), "crlf": []byte(strings.ReplaceAll(row, "\n", "\r\n")), "empty": []byte(row + "\n" + row),
		"cut": []byte(row + row[:12]), "deep": []byte(`{"key": "a", "value": ` + strings.Repeat("[", 200) + "\n"),
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		lines := bytes.SplitAfter(b, []byte("\n"))
		if len(lines[len(lines)-1]) == 0 {
			lines = lines[:len(lines)-1]
		}
		n := 0
		err := readRows(bytes.NewReader(b), func(r builtRow) error {
			want, err := parseRow(bytes.TrimSuffix(bytes.TrimSuffix(lines[n], []byte("\n")), []byte("\r")))
			if n++; err != nil || uint64(n) != r.line || !bytes.Equal(want.key, r.key) || !bytes.Equal(want.value, r.value) || !bytes.Equal(want.from, r.from) {
				t.Errorf("line %d is the %d-th row, %q: %q", r.line, n, r.key, r.value)
			}
			return nil
		})
		if (err == nil) != (n == len(lines)) {
			t.Errorf("%d rows of %d lines, and %v", n, len(lines), err)
		}
		if err != nil {
			forPeople(t, err.Error())
		}
	})
}

// FuzzConfig: a configuration is accepted, or each mistake has its place in it.
func FuzzConfig(f *testing.F) {
	corpus.Seeds(f, map[string][]byte{
		"full": []byte("[cache.a]\nkind = \"files\"\ninputs = [\"lib/**\"]\nexclude = ['**/t/**']\nwitness = [\"share/\"]\nbuild = [\"libexec/b\", \"x\"]\n" +
			"recipe = [\"/usr/bin/python3\"]\nenv = { LANG = \"C\" }\ntimeout = \"10m\"\nkeep = \"1h\"\nlatest = true\n"),
		"list":   []byte("cache.b.inputs_from = \"share/FILES\"\ncache.b.witness = \"inputs\"\n"),
		"types":  []byte("[cache]\na = 1\n[cache.b]\ninputs = [1]\nenv = { A = 1 }\nlatest = 1979-05-27\ntimeout = \"-1s\"\n[[cache.c]]\nx = {}\n"),
		"syntax": []byte("[cache.a\n"), "control": []byte("\x14"),
		"deep":   []byte("cache.a.inputs = " + strings.Repeat("[", 200)),
		"dotted": []byte("cache." + strings.Repeat("a.", 200) + "a = 1"),
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		caches, mistakes := parseConfig("f.toml", b)
		for _, m := range mistakes {
			forPeople(t, m.Error())
			if m.Hint != "" {
				forPeople(t, m.Hint)
			}
			lines := strings.Split(string(b), "\n")
			if m.Line < 1 || m.Col < 1 || m.Line > len(lines) || m.Col > len(lines[m.Line-1])+2 {
				t.Errorf("%q: there is no %d:%d, where it says %s", b, m.Line, m.Col, m.Msg)
			}
		}
		if len(mistakes) > 0 {
			return
		}
		for i := range caches {
			c := &caches[i]
			if err := c.check(); err != nil {
				t.Errorf("%q: cache %s is accepted: %v", b, c.Name, err)
			}
			if _, line := c.Origin(""); line < 1 {
				t.Errorf("%q: cache %s is nowhere", b, c.Name)
			}
		}
	})
}

// FuzzList: a list of inputs is refused at a line that it has, or each path of
// it is below the root, and is matched by its pattern alone.
func FuzzList(f *testing.F) {
	corpus.Seeds(f, map[string][]byte{
		"lines": []byte("lib/a\n./lib/b\n/opt/app/lib/c\n/lib/d/\n\n.\n/\n"), "zero": []byte("lib/a\x00lib/new\nline\x00"),
		"odd": []byte("a*b\n[x]\n{y}\n\\z\n"), "above": []byte("lib/../../etc/passwd\n"), "bytes": []byte("lib/\xff\n"),
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &refresher{Install: &Install{root: "/opt/app"}}
		l := &fileList{path: "share/FILES", lines: map[string]int{}}
		if err := r.parseList(l, string(b)); err != nil {
			forPeople(t, err.Error())
			return
		}
		for p, line := range l.lines {
			if !format.ValidPath(p) || path.Clean(p) != p || line < 1 || line > len(b) {
				t.Errorf("%q: line %d: %q", b, line, p)
			}
		}
		for _, pattern := range l.patterns() {
			if err := checkPattern(pattern, false); err != nil {
				t.Errorf("%q: %v", b, err)
			}
		}
	})
}

// FuzzState: the refresher's memory is what it wrote, or it is forgotten.
func FuzzState(f *testing.F) {
	whole, _ := json.Marshal(state{Retired: map[string]int64{"k": 1}, Failure: &Failure{Message: "m", Stderr: "s"}, Program: true})
	corpus.Seeds(f, map[string][]byte{"whole": whole, "none": []byte("{}"), "past": []byte(`{"retired": {"k": -9223372036854775808}}`), "deep": []byte(strings.Repeat("[", 200))})
	f.Fuzz(func(t *testing.T, b []byte) {
		corpus.Bounded(t, len(b), func() {
			s, err := decodeState(b)
			if err != nil {
				if s.Retired != nil || s.Failure != nil || s.Program {
					t.Errorf("%q: %v, and yet %+v", b, err, s)
				}
				return
			}
			for name, since := range s.Retired {
				if since < 0 {
					t.Errorf("%q: %s retired at %d", b, name, since)
				}
			}
			again, err := json.Marshal(s)
			if err != nil && !errors.As(err, new(*json.MarshalerError)) { // a time beyond the year 9999
				t.Errorf("%q: %v", again, err)
			}
		})
	})
}
