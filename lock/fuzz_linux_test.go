package lock

import (
	"strings"
	"testing"
	"unicode"

	"github.com/syscache/syscache/internal/corpus"
)

// FuzzHolder: whatever a process says of itself, and /proc of it, is a line for
// people, or nothing. Nobody else than the holder is ever named.
func FuzzHolder(f *testing.F) {
	corpus.Seeds(f, map[string][]byte{
		"locks":   []byte("1: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 4243 08:01:131 0 EOF\n"),
		"guess":   []byte("2: FLOCK  ADVISORY  WRITE 7 00:1f:131 0 EOF\n3: FLOCK  ADVISORY  WRITE 0 00:1f:131 0 EOF\n"),
		"stat":    []byte("1 (evil) S 1 1 (x) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 1"),
		"command": []byte("/usr/bin/\x1b[31msyscache\x00--root\x00list\x00refresh\x00\u202e"),
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		text := string(b)
		corpus.Bounded(t, len(b), func() {
			if pid := findHolder(strings.NewReader(text), 0x801, 131); pid < 0 || pid > 0 && !strings.Contains(text, ":131") {
				t.Errorf("%q: held by pid %d", text, pid)
			}
			if ticks, ok := startTicks(text); ok && !strings.Contains(text, ")") {
				t.Errorf("%q: started at %d", text, ticks)
			}
			if s := commandOf(text); len([]rune(s)) > 64 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q: command %q", text, s)
			}
		})
	})
}
