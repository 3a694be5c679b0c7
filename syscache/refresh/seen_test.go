package refresh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/corpus"
	"github.com/syscache/syscache/internal/format"
)

// TestSeen makes one change after a refresh that left its memo. Whatever it is,
// the next refresh sees all of it: with the memo gone, one more changes nothing.
func TestSeen(t *testing.T) {
	write := func(path, text string) func(root string, c *Cache) error {
		return func(root string, _ *Cache) error { return os.WriteFile(root+path, []byte(text), 0o644) }
	}
	declare := func(f func(c *Cache)) func(string, *Cache) error {
		return func(_ string, c *Cache) error { f(c); return nil }
	}
	changes := map[string]func(root string, c *Cache) error{
		"nothing":         func(string, *Cache) error { return nil },
		"an edit":         write("/lib/sub/a", "edited"),
		"the same bytes":  write("/lib/sub/a", "a"),
		"a new file":      write("/lib/sub/new", "new"),
		"a removal":       func(root string, _ *Cache) error { return os.Remove(root + "/lib/sub/a") },
		"a mode":          func(root string, _ *Cache) error { return os.Chmod(root+"/lib/sub/a", 0o755) },
		"an unreadable":   func(root string, _ *Cache) error { return os.Chmod(root+"/lib/sub/a", 0o600) },
		"a renamed dir":   func(root string, _ *Cache) error { return os.Rename(root+"/lib/sub", root+"/lib/other") },
		"a shut dir":      func(root string, _ *Cache) error { return os.Chmod(root+"/lib/sub", 0o700) },
		"a shut passage":  func(root string, _ *Cache) error { return os.Chmod(root+"/lib", 0o700) },
		"a shut root":     func(root string, _ *Cache) error { return os.Chmod(root, 0o700) },
		"a literal":       write("/one/f", "edited"),
		"the recipe":      write("/libexec/b", "edited"),
		"outside":         write("/../outside", "edited"),
		"an alternative":  func(root string, _ *Cache) error { return relink("outside2", root+"/../alternative") },
		"a version":       func(root string, _ *Cache) error { return relink("v2", root+"/../current") },
		"the manifest":    write("/share/MANIFEST", "version 2"),
		"inputs":          declare(func(c *Cache) { c.Inputs = append(c.Inputs, "libexec/*") }),
		"exclude":         declare(func(c *Cache) { c.Exclude = []string{"lib/**/b"} }),
		"recipes":         declare(func(c *Cache) { c.Recipe = c.Recipe[:1] }),
		"version":         declare(func(c *Cache) { c.BuildVersion = "2" }),
		"witness":         declare(func(c *Cache) { c.Witness = []string{"libexec/b"} }),
		"no witness":      declare(func(c *Cache) { c.Witness = []string{} }),
		"inputs' witness": declare(func(c *Cache) { c.Witness = nil }),
	}
	for what, change := range changes {
		for _, w := range [][]string{nil, {}, {"share/MANIFEST"}, {"lib/sub"}, {"nowhere"}} {
			root := newRoot(t)
			for path, text := range map[string]string{"/lib/sub/a": "a", "/lib/sub/b": "b", "/one/f": "f", "/libexec/b": "1", "/../outside": "o", "/../outside2": "2", "/../v1/t": "1", "/../v2/t": "2"} {
				writeFile(t, root+path, text, 0o644)
			}
			above := filepath.Dir(root)
			for name, to := range map[string]string{"alternative": "outside", "name": "./alternative", "current": above + "/v1"} {
				if err := os.Symlink(to, above+"/"+name); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(root, 0o755); err != nil {
				t.Fatal(err)
			}
			c := Cache{
				Inputs: []string{"lib/sub/**", "one/f"}, Witness: w, Recipe: []string{"libexec/b", above + "/outside", above + "/name", above + "/current/t"},
				Build: func(_ context.Context, in Inputs, emit func(k, v []byte) error) error {
					return buildFiles(context.Background(), in, emit)
				},
			}
			refreshed(t, load(t, root, c))
			if err := change(root, &c); err != nil {
				t.Fatal(err)
			}
			in := load(t, root, c)
			first := refreshed(t, in)
			none := []string{"nothing", "inputs' witness", "no witness", "the manifest", "a shut root"} // it is the owner's, who may
			builds := []string{"an alternative", "a version", "an edit", "the recipe", "outside", "version", "exclude", "inputs", "a removal"}
			if first.Outcome == Unchanged && (w == nil && !slices.Contains(none, what) || slices.Contains(builds, what)) {
				t.Errorf("%s, witness %q: %+v", what, w, first)
			}
			if err := os.Remove(in.cacheDir + "/c/seen"); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if again := refreshed(t, in); again.Outcome != Unchanged || again.Inputs != first.Inputs || again.Key != first.Key || again.Rows != first.Rows {
				t.Errorf("%s, witness %q: the memo hid something: %+v, then %+v", what, w, first, again)
			}
		}
	}
}

// relink makes path a symbolic link to another target.
func relink(target, path string) error { return errors.Join(os.Remove(path), os.Symlink(target, path)) }

// TestSeenBehindALink: a scan goes through no link, so one in the place of a
// directory that was only gone through is a mistake, with the memo too.
func TestSeenBehindALink(t *testing.T) {
	for _, c := range []Cache{{Inputs: []string{"lib/sub/*"}}, {Inputs: []string{"one/*"}, Witness: []string{"lib/sub/a"}}} {
		root := newRoot(t)
		writeFile(t, root+"/lib/sub/a", "a", 0o644)
		writeFile(t, root+"/one/f", "f", 0o644)
		c.Name = "c"
		c.Build = func(ctx context.Context, in Inputs, emit func(k, v []byte) error) error {
			return buildFiles(ctx, in, emit)
		}
		in := load(t, root, c)
		refreshed(t, in)
		if err := errors.Join(os.Rename(root+"/lib", root+"/moved"), os.Symlink("moved", root+"/lib")); err != nil {
			t.Fatal(err)
		}
		if res, err := in.Refresh(t.Context(), "c", nil); err == nil || !strings.Contains(err.Error(), "through the sym") {
			t.Errorf("%q: %+v, %v", c.Witness, res, err)
		}
	}
}

// TestSeenOfAnotherPointer: an older pointer, put back, is not what was seen.
func TestSeenOfAnotherPointer(t *testing.T) {
	root := newRoot(t)
	in := load(t, root, Cache{Inputs: []string{"share/**"}, Witness: []string{}, Build: func(ctx context.Context, in Inputs, emit func(k, v []byte) error) error {
		return buildFiles(ctx, in, emit)
	}})
	refreshed(t, in)
	current := in.cacheDir + "/c/current"
	old, err := os.ReadFile(current)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, root+"/share/MANIFEST", "version 2", 0o644)
	want := refreshed(t, in)
	writeFile(t, current+".new", string(old), 0o644)
	if err := os.Rename(current+".new", current); err != nil {
		t.Fatal(err)
	}
	if res := refreshed(t, in); res.Outcome != Recertified || res.Key != want.Key {
		t.Errorf("%+v, want %+v", res, want)
	}
}

// TestSeenAndOvertaken: a refresh that recognizes the install, and is overtaken
// by an invalidate then, publishes: that has to be durable when it returns.
func TestSeenAndOvertaken(t *testing.T) {
	root := newRoot(t)
	for i := range 300 { // a moment passes while they are looked at
		writeFile(t, fmt.Sprintf("%s/lib/%d", root, i), "", 0o644)
	}
	c := Cache{Inputs: []string{"lib/*"}, Build: func(ctx context.Context, in Inputs, emit func(k, v []byte) error) error {
		return buildFiles(ctx, in, emit)
	}}
	in, other := load(t, root, c), load(t, root, c)
	d := &tracedDisk{}
	published, synced := false, false
	d.after = func(op *operation) error {
		switch {
		case op.name == "rename" && filepath.Base(op.to) == format.Current:
			published, synced = true, false
		case op.name == "syncdir" && filepath.Base(op.path) == "c":
			synced = true
		}
		return nil
	}
	in.disk = d
	refreshed(t, in)
	for i := range 200 {
		published, synced = false, false
		d.ops = nil
		done := make(chan error)
		go func() {
			time.Sleep(time.Duration(i%40) * 50 * time.Microsecond)
			done <- other.Invalidate("c")
		}()
		res, err := in.Refresh(t.Context(), "c", nil)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		switch {
		case err != nil && !errors.Is(err, errOvertaken):
			t.Fatal(err)
		case err == nil && published && !synced:
			t.Fatalf("%d: published, and not durable: %+v, %q", i, res, d.ops)
		}
		if _, err := other.Refresh(t.Context(), "c", nil); err != nil { // for the next to recognize
			t.Fatal(err)
		}
	}
}

// TestSeenIsUsed: a refresh that has nothing to say again, and only that, leaves
// a memo, and with it reads no directory.
func TestSeenIsUsed(t *testing.T) {
	for _, c := range []struct {
		name  string
		cache Cache
		used  bool
	}{
		{"inputs", Cache{}, true},
		{"a file", Cache{Witness: []string{"share/MANIFEST"}}, true},
		{"none", Cache{Witness: []string{}}, true},
		{"what is missing is told", Cache{Witness: []string{"nowhere"}}, false},
		{"files outside may come", Cache{Recipe: []string{"/etc/pass*d"}}, false},
	} {
		root := newRoot(t)
		v := "1"
		c.cache.Build = value(&v).Build
		in := load(t, root, c.cache)
		refreshed(t, in)
		p := &Progress{}
		if _, err := in.Refresh(t.Context(), "c", &Options{Progress: p}); err != nil {
			t.Fatal(err)
		}
		if used := p.scan.Load() == nil; used != c.used {
			t.Errorf("%s: used %v", c.name, used)
		}
	}
}

func FuzzSeen(f *testing.F) {
	m := &seen{inputs: 3, passed: []hashing.Access{{Path: "", Mode: 0o40755}, {Path: "lib", Mode: 0o40711, UID: 1, GID: 2}}}
	full := *m
	full.stats = format.EncodeStats([]format.StatDir{{Path: "lib", Check: true}})
	corpus.Seeds(f, map[string][]byte{"pointers": m.encode(), "own": full.encode(), "none": (&seen{}).encode()})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 { // so that what lies behind the checksum is reached
			b = sealed(slices.Clone(b[:len(b)-4]))
		}
		m, err := decodeSeen(b)
		if err == nil && !slices.Equal(m.encode(), b) {
			t.Errorf("%x decodes, and encodes to %x", b, m.encode())
		}
	})
}
