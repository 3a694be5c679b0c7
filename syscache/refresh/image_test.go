package refresh

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache"
)

// imageCache counts its builds: an image has one, the system that runs it none.
func imageCache(files bool, builds *int) Cache {
	return Cache{
		Name: "c", Files: files, Latest: files, Inputs: []string{"share/**"}, Witness: []string{"share/MANIFEST"},
		Build: func(_ context.Context, in Inputs, emit func(k, v []byte) error) error {
			*builds++
			text, err := os.ReadFile(in.Root + "/share/MANIFEST")
			if files {
				return errors.Join(err, os.WriteFile(in.Out+"/l", text, 0o644))
			}
			return errors.Join(err, emit([]byte("k"), text))
		},
	}
}

func loadAt(t *testing.T, root, cacheDir string, c Cache) *Install {
	t.Helper()
	in, err := Load(root, &LoadOptions{CacheDir: cacheDir, Caches: []Cache{c}})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// ship refreshes the cache that the image at root ships.
func ship(t *testing.T, root string, c Cache) Result {
	t.Helper()
	res, err := loadAt(t, root, root+"/"+format.ImageCacheDir, c).Refresh(t.Context(), c.Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// shipped returns all that is in the image's cache_dir but times.
func shipped(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	dir := root + "/" + format.ImageCacheDir
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		what := fi.Mode().String()
		switch {
		case fi.Mode().IsRegular():
			b, rerr := os.ReadFile(path)
			what, err = fmt.Sprintf("%s %x", what, sha256.Sum256(b)), errors.Join(err, rerr)
		case fi.Mode()&fs.ModeSymlink != 0:
			target, rerr := os.Readlink(path)
			what, err = what+" "+target, errors.Join(err, rerr)
		}
		all[strings.TrimPrefix(path, dir)] = what
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestImage: what an image ships is the same bytes each time (I9), serves where
// it is unpacked, and gives way to what is refreshed there.
func TestImage(t *testing.T) {
	for _, files := range []bool{false, true} {
		t.Run(fmt.Sprintf("files=%v", files), func(t *testing.T) {
			builds := 0
			c := imageCache(files, &builds)
			first, second := newRoot(t), newRoot(t)
			ship(t, first, c)
			// Another path, and another history.
			writeFile(t, second+"/share/MANIFEST", "version 0\n", 0o644)
			ship(t, second, c)
			writeFile(t, second+"/share/MANIFEST", "version 1\n", 0o644)
			ship(t, second, c)
			if d := cmp.Diff(shipped(t, first), shipped(t, second)); d != "" {
				t.Errorf("two builds of an image differ:\n%s", d)
			}

			for _, memo := range []string{format.State, format.Inventory, format.Seen} {
				if what, ok := shipped(t, first)["/c/"+memo]; ok {
					t.Errorf("%s is shipped: %s", memo, what)
				}
			}

			// Unpacked elsewhere: other inodes, other times.
			root := filepath.Join(t.TempDir(), "unpacked")
			if out, err := exec.Command("cp", "-r", first, root).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			in := loadAt(t, root, "", c)
			if got, err := content(in, files); err != nil || got != "version 1\n" {
				t.Errorf("unpacked: %q, %v", got, err)
			}
			if s := in.Status("c"); s.Err != nil || s.Generation == (syscache.Key{}) {
				t.Errorf("%+v", s)
			}
			if err := in.Verify(t.Context(), "c"); err != nil {
				t.Error(err)
			}

			// Refreshed there: certified anew, not built.
			builds = 0
			for _, want := range []Outcome{Recertified, Unchanged} {
				res, err := in.Refresh(t.Context(), "c", nil)
				if err != nil || res.Outcome != want || builds != 0 {
					t.Errorf("%v, %v, %d builds, want %v", res.Outcome, err, builds, want)
				}
			}
			if got, err := content(in, files); err != nil || got != "version 1\n" {
				t.Errorf("adopted: %q, %v", got, err)
			}
			if files {
				if got, err := os.ReadFile(root + "/" + format.CacheDir + "/c/latest/l"); err != nil || string(got) != "version 1\n" {
					t.Errorf("latest: %q, %v", got, err)
				}
			}

			// Changed there: stale, and built into the first cache_dir.
			writeFile(t, root+"/share/MANIFEST", "version 2\n", 0o644)
			if _, err := content(in, files); !errors.Is(err, syscache.ErrStale) {
				t.Errorf("changed: %v", err)
			}
			before := shipped(t, root)
			if res, err := in.Refresh(t.Context(), "c", nil); err != nil || res.Outcome != Built {
				t.Errorf("%v, %v", res.Outcome, err)
			}
			if got, err := content(in, files); err != nil || got != "version 2\n" {
				t.Errorf("built: %q, %v", got, err)
			}
			if d := cmp.Diff(before, shipped(t, root)); d != "" {
				t.Errorf("what was shipped is another:\n%s", d)
			}
		})
	}
}

// TestMaskImage guards I2: what marks a cache stale marks what an image ships
// of it, which is never written to.
func TestMaskImage(t *testing.T) {
	builds := 0
	c := imageCache(false, &builds)
	marks := map[string]func(in *Install) error{
		"invalidate":     func(in *Install) error { return in.Invalidate("c") },
		"invalidate all": func(in *Install) error { _, err := InvalidateAll(in.root, &LoadOptions{}); return err },
		"undeclared": func(in *Install) error {
			in = loadAt(t, in.root, "", Cache{Name: "other", Inputs: []string{"share/**"}})
			for _, want := range []int{1, 0} {
				if gone, err := in.InvalidateUndeclared(); err != nil || len(gone) != want {
					return fmt.Errorf("%q, %w", gone, err)
				}
			}
			return nil
		},
		"a build that fails": func(in *Install) error {
			failing := c
			failing.BuildVersion = "2"
			failing.Build = func(context.Context, Inputs, func(k, v []byte) error) error {
				if _, err := content(in, false); !errors.Is(err, syscache.ErrStale) {
					t.Errorf("while it is built: %v", err)
				}
				return errors.New("no")
			}
			if _, err := loadAt(t, in.root, "", failing).Refresh(t.Context(), "c", nil); err == nil {
				return errors.New("it did not fail")
			}
			return nil
		},
	}
	for name, mark := range marks {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			ship(t, root, c)
			before := shipped(t, root)
			in := loadAt(t, root, "", c)
			if _, err := content(in, false); err != nil {
				t.Fatal(err)
			}
			if err := mark(in); err != nil {
				t.Fatal(err)
			}
			if _, err := content(in, false); !errors.Is(err, syscache.ErrStale) {
				t.Errorf("marked: %v", err)
			}
			r, err := syscache.Open(root, "c", &syscache.ReadOptions{AllowStale: true})
			if err != nil {
				t.Fatal(err)
			}
			if v, err := r.Get([]byte("k")); err != nil || string(v) != "version 1\n" || r.Stale() == nil {
				t.Errorf("stale data: %q, %v, %v", v, err, r.Stale())
			}
			r.Close()
			builds = 0
			if res, err := in.Refresh(t.Context(), "c", nil); err != nil || res.Outcome != Recertified || builds != 0 {
				t.Errorf("refreshed: %v, %v", res.Outcome, err)
			}
			if got, err := content(in, false); err != nil || got != "version 1\n" {
				t.Errorf("refreshed: %q, %v", got, err)
			}
			noLitter(t, in)
			if d := cmp.Diff(before, shipped(t, root)); d != "" {
				t.Errorf("what was shipped is another:\n%s", d)
			}
		})
	}
}

// TestImageNeedsWitness: identities do not survive being copied.
func TestImageNeedsWitness(t *testing.T) {
	root := newRoot(t)
	dir := root + "/" + format.ImageCacheDir
	writeFile(t, root+"/etc/syscache.toml", "[cache.a]\ninputs = [\"share/**\"]\n\n[cache.b]\ninputs = [\"share/**\"]\nwitness = \"inputs\"\n[cache.c]\ninputs = [\"share/**\"]\nwitness = []\n", 0o644)
	in, err := Load(root, &LoadOptions{CacheDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for cache, at := range map[string]string{"a": ":1:1: ", "b": ":6:12: "} {
		_, err := in.Refresh(t.Context(), cache, nil)
		var mistake *ConfigError
		if !errors.As(err, &mistake) || !strings.Contains(err.Error(), at) || mistake.Hint == "" {
			t.Errorf("%s: %v, want a mistake at %s", cache, err, at)
		}
	}
	if _, err := in.Refresh(t.Context(), "c", nil); err != nil {
		t.Error(err)
	}
}
