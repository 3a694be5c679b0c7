package hashing

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/syscache/syscache/internal/corpus"
	"github.com/syscache/syscache/internal/format"
)

func FuzzDecodeManifest(f *testing.F) {
	good := golden().Encode()
	seeds := map[string][]byte{"full": good, "empty": (&Manifest{}).Encode(), "cut": good[:len(good)-1]}
	for name, m := range invalid {
		if b := encodeAnyway(m); len(b) < 1000 {
			seeds[strings.ReplaceAll(name, " ", "-")] = b
		}
	}
	corpus.Seeds(f, seeds)
	f.Fuzz(func(t *testing.T, b []byte) {
		corpus.Bounded(t, len(b), func() {
			m, err := DecodeManifest(b)
			if err != nil {
				return
			}
			if got := m.Encode(); !bytes.Equal(got, b) {
				t.Errorf("decoded and encoded again:\n%x\n%x", b, got)
			}
			if m.Key() != KeyOf(b) {
				t.Error("Key is not KeyOf")
			}
		})
	})
}

func FuzzDecodeInventory(f *testing.F) {
	bad := badInventories()
	seeds := map[string][]byte{"full": known().Encode(), "empty": (&Inventory{}).Encode()}
	for _, name := range slices.Collect(maps.Keys(bad)) {
		if !strings.HasPrefix(name, "cut") {
			seeds[strings.ReplaceAll(name, " ", "-")] = bad[name]
		}
	}
	corpus.Seeds(f, seeds)
	f.Fuzz(func(t *testing.T, b []byte) {
		// Few mutations would ever pass the checksum.
		if len(b) >= 4 {
			b = reseal(bytes.Clone(b))
		}
		corpus.Bounded(t, len(b), func() {
			v, err := DecodeInventory(b)
			if err != nil {
				return
			}
			if got := v.Encode(); !bytes.Equal(got, b) {
				t.Errorf("decoded and encoded again:\n%x\n%x", b, got)
			}
			offset := uint32(inventoryHeader)
			for range v.Len() {
				path, rest := v.entry(offset)
				d, ok := v.Digest(string(path), format.DecodeIdentity(rest))
				if !ok || !bytes.Equal(d[:], rest[format.IdentitySize:]) {
					t.Errorf("%q is not found", path)
				}
				offset += uint32(inventoryFixed + len(path))
			}
		})
	})
}

// FuzzGlob: a pattern is refused, or a walk takes what doublestar matches. The
// input is a pattern, a NUL and a path.
func FuzzGlob(f *testing.F) {
	corpus.Seeds(f, map[string][]byte{
		"usual":   []byte("lib/python3*/**/*.{py,so}\x00lib/python3.12/a/b.py"),
		"nested":  []byte("a/{b/**,c}/[d/e]\x00a/c/d"),
		"escaped": []byte(`\*/[!x]?/\{` + "\x00*/ab/{"),
		"bytes":   []byte("?/*\x00\xff/\xfe"),
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		pattern, path, _ := strings.Cut(string(b), "\x00")
		if len(pattern) > 60 || len(path) > 60 { // braces multiply what is to be tried
			return
		}
		g, err := newGlob(pattern)
		if err != nil || !format.ValidPath(path) {
			return
		}
		want := doublestar.MatchUnvalidated(pattern, path)
		if got, _ := walked(g, path); got != want {
			t.Errorf("walk: pattern %q, path %q: %v, want %v", pattern, path, got, want)
		}
		if got := g.match(path); got != want {
			t.Errorf("match: pattern %q, path %q: %v, want %v", pattern, path, got, want)
		}
		if excluded := []*glob{g}; prunes(excluded, path) && !excludes(excluded, path+"/below/it") {
			t.Errorf("prune: pattern %q, directory %q: and what is below is not excluded", pattern, path)
		}
	})
}
