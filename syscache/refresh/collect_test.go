package refresh

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/lock"
	"github.com/syscache/syscache/syscache"
)

// superseded returns an install whose cache c has a generation that is
// published and one that is not any more.
func superseded(t *testing.T, root string) *Install {
	t.Helper()
	v := "1"
	refreshed(t, load(t, root, value(&v)))
	writeFile(t, root+"/share/MANIFEST", "version 2\n", 0o644)
	in := load(t, root, value(&v))
	refreshed(t, in)
	if n := len(generations(t, in)); n != 2 {
		t.Fatalf("%d generations", n)
	}
	return in
}

// TestGC: what is superseded goes when its time has come or is not waited for;
// what readers are led to never does.
func TestGC(t *testing.T) {
	root := newRoot(t)
	in := superseded(t, root)
	for _, step := range []struct {
		o             CollectOptions
		removed, kept int
	}{{CollectOptions{}, 0, 1}, {CollectOptions{Now: true}, 1, 0}, {CollectOptions{Now: true}, 0, 0}} {
		done, err := in.Collect(t.Context(), "c", &step.o)
		if err != nil || done.Removed != step.removed || done.Kept != step.kept || (done.Bytes > 0) != (step.removed > 0) {
			t.Errorf("%+v: %+v, %v", step.o, done, err)
		}
		if err := in.Verify(t.Context(), "c"); err != nil {
			t.Error(err)
		}
	}
	if err := in.Invalidate("c"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Collect(t.Context(), "c", &CollectOptions{Now: true}); err != nil {
		t.Error(err)
	}
	if r, err := syscache.Open(root, "c", &syscache.ReadOptions{AllowStale: true}); err != nil {
		t.Errorf("stale data: %v", err)
	} else {
		r.Close()
	}
	if _, err := in.Collect(t.Context(), "none", nil); !errors.Is(err, ErrUndeclared) {
		t.Error(err)
	}
}

// TestGCSweeps: what a killed refresh left goes, and what another refresh works
// on does not.
func TestGCSweeps(t *testing.T) {
	root := newRoot(t)
	in := superseded(t, root)
	dir := in.cacheDir + "/c/"
	writeFile(t, dir+format.TokenPrefix+"1", "", 0o600)
	writeFile(t, dir+"g/"+format.ScratchPrefix+"1/gen/table", "", 0o600)
	l, err := lock.Acquire(t.Context(), dir+format.Lock, nil)
	if err != nil {
		t.Fatal(err)
	}
	var held *lock.HeldError
	if _, err := in.Collect(t.Context(), "c", nil); !errors.As(err, &held) {
		t.Errorf("under another's lock: %v", err)
	}
	if _, err := os.Lstat(dir + format.TokenPrefix + "1"); err != nil {
		t.Error(err)
	}
	l.Release()
	if _, err := in.Collect(t.Context(), "c", &CollectOptions{Wait: time.Minute}); err != nil {
		t.Error(err)
	}
	noLitter(t, in)
}

// TestGCUndeclared: of what no configuration declares nothing is left, unless a
// program declares it, or a mistake may be why.
func TestGCUndeclared(t *testing.T) {
	const declared = "[cache.c]\ninputs = [\"share/**\"]\n"
	for name, tc := range map[string]struct {
		program bool
		config  string
		left    bool
	}{
		"gone":              {false, "[cache.other]\ninputs = [\"share/**\"]\n", false},
		"with a mistake":    {false, declared + "x = 1", true},
		"perhaps a mistake": {false, "nonsense", true},
		"a program's":       {true, "[cache.other]\ninputs = [\"share/**\"]\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			v := "1"
			if tc.program {
				refreshed(t, load(t, root, value(&v)))
			} else {
				writeFile(t, root+"/etc/syscache.toml", declared, 0o644)
				in, err := Load(root, nil)
				if err != nil {
					t.Fatal(err)
				}
				refreshed(t, in)
			}
			writeFile(t, root+"/etc/syscache.toml", tc.config, 0o644)
			in, err := Load(root, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := in.Invalidate("c"); err != nil {
				t.Fatal(err)
			}
			if _, err := in.Collect(t.Context(), "c", &CollectOptions{Now: true}); err != nil {
				t.Error(err)
			}
			r, err := syscache.Open(root, "c", &syscache.ReadOptions{AllowStale: true})
			if err == nil {
				r.Close()
			}
			if tc.left != (err == nil) {
				t.Errorf("stale data: %v, want it %v", err, tc.left)
			}
			if entries, _ := os.ReadDir(in.cacheDir + "/c"); !tc.left && (len(entries) != 1 || entries[0].Name() != format.Lock) {
				t.Errorf("left: %v", entries)
			}
		})
	}
}

// TestGCKeepsMask: the mark over what an image ships is not taken away.
func TestGCKeepsMask(t *testing.T) {
	builds := 0
	root := newRoot(t)
	ship(t, root, imageCache(false, &builds))
	in := loadAt(t, root, "", Cache{Name: "other", Inputs: []string{"share/**"}})
	if _, err := in.InvalidateUndeclared(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := in.Collect(t.Context(), "c", &CollectOptions{Now: true}); err != nil {
			t.Error(err)
		}
		if _, err := content(in, false); !errors.Is(err, syscache.ErrStale) {
			t.Errorf("%v", err)
		}
	}
}
