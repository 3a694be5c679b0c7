package refresh

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/unix/unixtest"
	"github.com/syscache/syscache/syscache"
)

// keysOf returns the row keys of a cache.
func keysOf(t *testing.T, root, cache string) []string {
	t.Helper()
	r, err := syscache.Open(root, cache, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var keys []string
	for row, err := range r.Scan(nil) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, string(row.Key))
	}
	return keys
}

// listed returns an install whose cache c has the inputs that share/FILES lists.
func listed(t *testing.T, root string, exclude ...string) *Install {
	t.Helper()
	in, err := Load(root, &LoadOptions{Caches: []Cache{{Name: "c", InputsFrom: "share/FILES", Exclude: exclude}}})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// TestInputsFrom: a list in each form that installers write.
func TestInputsFrom(t *testing.T) {
	root := newRoot(t)
	for _, f := range []string{"a", "b", "d/c", "d/e", "d/[{x*", "d/skip.o"} {
		writeFile(t, root+"/lib/"+f, f, 0o644)
	}
	const odd = "lib/d/[{x*"
	for name, tc := range map[string]struct {
		list string
		want []string
	}{
		"relative":     {"lib/a\nlib/d/c\n", []string{"lib/a", "lib/d/c"}},
		"no last line": {"lib/a\n\nlib/b", []string{"lib/a", "lib/b"}},
		"find":         {"./lib\n./lib/a\n./lib/d\n.\n./lib/d/c\n", []string{"lib/a", "lib/d/c"}},
		"NUL":          {"lib/a\x00lib/d/e\x00", []string{"lib/a", "lib/d/e"}},
		"dpkg":         {"/.\n/lib\n/lib/a\n/lib/d\n/lib/d/c\n", []string{"lib/a", "lib/d/c"}},
		"cmake":        {"ROOT/lib/a\nROOT/lib/d/e", []string{"lib/a", "lib/d/e"}},
		"an odd name":  {odd + "\n", []string{odd}},
		"excluded":     {"lib/a\nlib/d/skip.o\n", []string{"lib/a"}},
		"twice":        {"lib/a\nlib/a\n", []string{"lib/a"}},
		"itself":       {"share/FILES\n", []string{"share/FILES"}},
	} {
		t.Run(name, func(t *testing.T) {
			writeFile(t, root+"/share/FILES", strings.ReplaceAll(tc.list, "ROOT", root), 0o644)
			in := listed(t, root, "**/*.o")
			in.warn = func(msg string) { t.Error(msg) }
			if _, err := in.Refresh(t.Context(), "c", nil); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, keysOf(t, root, "c")); d != "" {
				t.Error(d)
			}
		})
	}

	// What is listed, and the list, is certified; what is beside it is not.
	writeFile(t, root+"/share/FILES", "lib/a\nlib/d/c\n", 0o644)
	in := listed(t, root)
	for _, change := range []struct {
		path  string
		stale bool
	}{{"lib/a", true}, {"share/FILES", true}, {"lib/new", false}, {"lib/d/e", false}} {
		if _, err := in.Refresh(t.Context(), "c", nil); err != nil {
			t.Fatal(err)
		}
		text, _ := os.ReadFile(root + "/" + change.path)
		writeFile(t, root+"/"+change.path, string(text)+"\n", 0o644)
		if _, err := syscache.Open(root, "c", nil); errors.Is(err, syscache.ErrStale) != change.stale {
			t.Errorf("%s: %v", change.path, err)
		}
	}
}

// TestBadList: what is wrong with a list is told with its line.
func TestBadList(t *testing.T) {
	for want, bad := range map[string]func(root string) error{
		"FILES:2: lib/none does not exist": func(root string) error {
			return os.WriteFile(root+"/share/FILES", []byte("lib/a\nlib/none\nlib/none2\n"), 0o644)
		},
		`FILES:1: "../a" is no path under the root`: func(root string) error {
			return os.WriteFile(root+"/share/FILES", []byte("../a\n"), 0o644)
		},
		`FILES:3: "lib//a" is no path under the root`: func(root string) error {
			return os.WriteFile(root+"/share/FILES", []byte("lib/a\n\nlib//a\n"), 0o644)
		},
		`FILES:1: "lib/\xff" is no path under the root`: func(root string) error {
			return os.WriteFile(root+"/share/FILES", []byte("lib/\xff\n"), 0o644)
		},
		"share/FILES: no such file or directory": func(root string) error { return os.Remove(root + "/share/FILES") },
		"share/FILES: not a regular file": func(root string) error {
			return errors.Join(os.Remove(root+"/share/FILES"), unixtest.Mkfifo(root+"/share/FILES", 0o644))
		},
		"too many levels of symbolic links": func(root string) error {
			return errors.Join(os.Remove(root+"/share/FILES"), os.Symlink("../lib/a", root+"/share/FILES"))
		},
		"goes through the symbolic link share": func(root string) error {
			return errors.Join(os.Rename(root+"/share", root+"/share2"), os.Symlink("share2", root+"/share"))
		},
	} {
		root := newRoot(t)
		writeFile(t, root+"/lib/a", "a", 0o644)
		writeFile(t, root+"/share/FILES", "lib/a\n", 0o644)
		in := listed(t, root)
		if err := bad(root); err != nil {
			t.Fatal(err)
		}
		_, err := in.Refresh(t.Context(), "c", nil)
		var hinted *HintedError
		if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, &hinted) || hinted.Hint == "" {
			t.Errorf("%v, want %s and a hint", err, want)
		}
	}
}

// TestUnmatched: a pattern that matches nothing is told, with its place.
func TestUnmatched(t *testing.T) {
	root := newRoot(t)
	writeFile(t, root+"/lib/a.py", "a", 0o644)
	writeFile(t, root+"/etc/syscache.toml", "[cache.c]\ninputs = [\"lib/**\", \"lib64/**\", \"li*/*.{py,so}\", \"share/*.x\", \"lib/a.py\"]\n", 0o644)
	var told []string
	in, err := Load(root, &LoadOptions{Warn: func(msg string) { told = append(told, strings.ReplaceAll(msg, root, "")) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Refresh(t.Context(), "c", nil); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`c: /etc/syscache.toml:2:11: no file matches its inputs "lib64/**"`,
		`c: /etc/syscache.toml:2:11: no file matches its inputs "share/*.x"`,
	}
	if d := cmp.Diff(want, told); d != "" {
		t.Error(d)
	}

	writeFile(t, root+"/etc/syscache.toml", "[cache.c]\ninputs = [\"lib/**\"]\nrecipe = [\"none\"]\n", 0o644)
	if in, err = Load(root, nil); err != nil {
		t.Fatal(err)
	}
	_, err = in.Refresh(t.Context(), "c", nil)
	var mistake *ConfigError
	if !errors.As(err, &mistake) || mistake.Line != 3 || mistake.Hint == "" {
		t.Errorf("%v", err)
	}
}

// TestListChanges: a list that is another when it is certified than when it was
// read is read again.
func TestListChanges(t *testing.T) {
	root := newRoot(t)
	writeFile(t, root+"/lib/a", "a", 0o644)
	writeFile(t, root+"/share/FILES", "lib/a\n", 0o644)
	in := listed(t, root)
	r := &refresher{Install: in, c: &in.caches[0], told: map[string]bool{}}
	list, err := r.readList()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"lib/a\n", "share/FILES\n"} {
		writeFile(t, root+"/share/FILES", text, 0o644)
		_, _, err := r.recipeParts(t.Context(), &snapshot{}, list, &hashing.Inventory{})
		if errors.Is(err, errOvertaken) != (text != "lib/a\n") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
