package syscache_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

// A move is what happens to an install between Open and Current, and what
// Current says then: "true", "false", or the kind of its error.
type move struct {
	name  string
	do    func(t *testing.T, root string)
	fresh string // of a Reader opened without AllowStale
	any   string // of one opened with it
}

var moves = []move{
	{"nothing", func(*testing.T, string) {}, "true", "true"},
	{"another generation", func(t *testing.T, root string) { publish(t, root, witnessed("2")) }, "false", "false"},
	{"the witness touched", func(t *testing.T, root string) { touch(t, root+"/share/MANIFEST") }, "true", "true"},
	{"certified anew, of the same key", func(t *testing.T, root string) {
		touch(t, root+"/share/MANIFEST")
		publish(t, root, witnessed("1"))
	}, "true", "true"},
	{"the same pointer written anew", func(t *testing.T, root string) {
		current := cacheDir(root) + "/" + format.Current
		b, err := os.ReadFile(current)
		must(t, err)
		write(t, current+".new", string(b), 0o644)
		must(t, os.Rename(current+".new", current))
	}, "true", "true"},
	{"published and taken back", func(t *testing.T, root string) {
		publish(t, root, witnessed("2"))
		publish(t, root, witnessed("1"))
	}, "true", "true"},
	{"other bytes of the same key, from a builder that does not keep I9", func(t *testing.T, root string) {
		other := witnessed("2")
		other.BuildVersion = witnessed("1").BuildVersion
		must(t, os.RemoveAll(cacheDir(root)))
		publish(t, root, other)
	}, "false", "false"},
	{"a contradiction", func(t *testing.T, root string) { write(t, root+"/share/MANIFEST", "version 2\n", 0o644) }, "stale", "false"},
	{"the witness gone", func(t *testing.T, root string) { must(t, os.Remove(root+"/share/MANIFEST")) }, "stale", "false"},
	{"invalidated", invalidate, "stale", "false"},
	{"no pointer", func(t *testing.T, root string) { must(t, os.Remove(cacheDir(root)+"/"+format.Current)) }, "missing", "missing"},
	{"no cache_dir", func(t *testing.T, root string) { must(t, os.RemoveAll(filepath.Dir(cacheDir(root)))) }, "missing", "missing"},
	{"no root", func(t *testing.T, root string) { must(t, os.RemoveAll(root)) }, "missing", "missing"},
	{"the pointer open to all", func(t *testing.T, root string) {
		must(t, os.Chmod(cacheDir(root)+"/"+format.Current, 0o666))
	}, "untrusted", "untrusted"},
	{"the pointer a link", func(t *testing.T, root string) {
		current := cacheDir(root) + "/" + format.Current
		must(t, os.Rename(current, current+".away"))
		must(t, os.Symlink(current+".away", current))
	}, "untrusted", "untrusted"},
	{"the pointer cut", func(t *testing.T, root string) {
		must(t, os.Truncate(cacheDir(root)+"/"+format.Current, 40))
	}, "corrupt", "corrupt"},
	{"another pointer, without its generation", func(t *testing.T, root string) {
		publish(t, root, witnessed("2"))
		must(t, os.RemoveAll(filepath.Dir(tablePath(t, root))))
	}, "missing", "missing"},
}

// TestCurrent: what Current says after each move is what Open would, whether
// the pointer could be told by its times or was too young for that.
func TestCurrent(t *testing.T) {
	for _, m := range moves {
		for _, young := range []bool{true, false} {
			root := newRoot(t)
			publish(t, root, witnessed("1"))
			if !young {
				syscache.SetSettled(t, 0)
			}
			fresh, lenient := open(t, root), openStale(t, root)
			m.do(t, root)
			for range 2 { // the second finds what the first noted
				if got := current(fresh); got != m.fresh {
					t.Errorf("%s (young %v): Current() = %s, want %s", m.name, young, got, m.fresh)
				}
				if got := current(lenient); got != m.any {
					t.Errorf("%s (young %v), allowing stale: Current() = %s, want %s", m.name, young, got, m.any)
				}
			}
			checkAgainstOpen(t, m.name, root, fresh, nil)
			checkAgainstOpen(t, m.name, root, lenient, &syscache.ReadOptions{AllowStale: true})
		}
	}
}

// checkAgainstOpen compares Current with its definition.
func checkAgainstOpen(t *testing.T, name, root string, r *syscache.Reader, o *syscache.ReadOptions) {
	t.Helper()
	ok, err := r.Current()
	now, openErr := syscache.Open(root, "c", o)
	if openErr != nil {
		if ok || err == nil || err.Error() != openErr.Error() {
			t.Errorf("%s: Current() = %v, %v; Open says %v", name, ok, err, openErr)
		}
		return
	}
	defer now.Close()
	was, _ := r.Get([]byte("a"))
	is, _ := now.Get([]byte("a"))
	if want := now.Generation() == r.Generation() && bytes.Equal(was, is) && (now.Stale() == nil) == (r.Stale() == nil); err != nil || ok != want {
		t.Errorf("%s: Current() = %v, %v; by Open %v", name, ok, err, want)
	}
}

// TestCurrentOfStale: a Reader of stale data is current for as long as that is
// all there is.
func TestCurrentOfStale(t *testing.T) {
	for _, settled := range []time.Duration{-1, 0} {
		syscache.SetSettled(t, settled)
		root := newRoot(t)
		publish(t, root, witnessed("1"))
		write(t, root+"/share/MANIFEST", "version 2\n", 0o644)
		contradicted := openStale(t, root)
		invalidate(t, root)
		marked := openStale(t, root)
		for name, r := range map[string]*syscache.Reader{"contradicted": contradicted, "marked": marked} {
			if got := current(r); got != "true" {
				t.Errorf("%s: Current() = %s", name, got)
			}
		}
		// While a publish is about to remove it, both are there.
		b, err := os.ReadFile(cacheDir(root) + "/" + format.Stale)
		must(t, err)
		write(t, cacheDir(root)+"/"+format.Current, string(b), 0o644)
		write(t, root+"/share/MANIFEST", "version 1\n", 0o644)
		if got := current(marked); got != "false" {
			t.Errorf("with a pointer beside the mark: Current() = %s", got)
		}
		for name, change := range map[string]func(){
			"published anew": func() { publish(t, root, witnessed("1")) },
			"another":        func() { publish(t, root, witnessed("2")) },
		} {
			change()
			for _, r := range []*syscache.Reader{contradicted, marked} {
				if got := current(r); got != "false" {
					t.Errorf("%s: Current() = %s", name, got)
				}
			}
		}
	}
}

// TestCurrentOfAnImage: a Reader of the second cache_dir's follows what
// appears in the first.
func TestCurrentOfAnImage(t *testing.T) {
	image := func(root string) string { return root + "/" + format.ImageCacheDir + "/c" }
	for name, tc := range map[string]struct {
		do   func(t *testing.T, root string)
		want string
	}{
		"nothing":      {func(*testing.T, string) {}, "true"},
		"an empty one": {func(t *testing.T, root string) { must(t, os.MkdirAll(cacheDir(root), 0o755)) }, "true"},
		"a mark": {func(t *testing.T, root string) {
			write(t, cacheDir(root)+"/"+format.Stale, "anything", 0o644)
		}, "stale"},
		"the same pointer": {func(t *testing.T, root string) {
			b, err := os.ReadFile(image(root) + "/" + format.Current)
			must(t, err)
			write(t, cacheDir(root)+"/"+format.Current, string(b), 0o644)
		}, "true"},
		"another pointer": {func(t *testing.T, root string) { publish(t, root, witnessed("2")) }, "false"},
		"no trust in the first": {func(t *testing.T, root string) {
			must(t, os.MkdirAll(cacheDir(root), 0o755))
			must(t, os.Chmod(cacheDir(root), 0o777))
		}, "untrusted"},
		"the image's gone":     {func(t *testing.T, root string) { must(t, os.RemoveAll(image(root))) }, "missing"},
		"the image's replaced": {func(t *testing.T, root string) { toImage(t, root, "2") }, "false"},
	} {
		for _, settled := range []time.Duration{-1, 0} {
			for _, there := range []bool{false, true} {
				syscache.SetSettled(t, settled)
				root := newRoot(t)
				toImage(t, root, "1")
				if there { // what a refresh that failed leaves
					must(t, os.MkdirAll(cacheDir(root), 0o755))
				}
				r := open(t, root)
				if got := current(r); got != "true" {
					t.Errorf("Current() = %s", got)
				}
				tc.do(t, root)
				for range 2 {
					if got := current(r); got != tc.want {
						t.Errorf("%s (settled %v, directory there %v): Current() = %s, want %s", name, settled, there, got, tc.want)
					}
				}
				checkAgainstOpen(t, name, root, r, nil)
			}
		}
	}
}

// toImage publishes into the root's second cache_dir.
func toImage(t *testing.T, root, version string) {
	t.Helper()
	publish(t, root, witnessed(version))
	must(t, os.MkdirAll(root+"/usr/lib", 0o755))
	must(t, os.RemoveAll(root+"/"+format.ImageCacheDir))
	must(t, os.Rename(filepath.Dir(cacheDir(root)), root+"/"+format.ImageCacheDir))
}

// TestCurrentDuringPublishes: however fast inode numbers and times are used
// again, Current never takes another generation for the Reader's own.
func TestCurrentDuringPublishes(t *testing.T) {
	for _, dir := range []string{"/dev/shm", t.TempDir()} {
		top, err := os.MkdirTemp(dir, "syscache-current-")
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(top) })
		root := top + "/root"
		write(t, root+"/share/MANIFEST", "version 1\n", 0o644)
		var pointers [2]string
		for i := range pointers { // both generations stay
			c := cacheOf(map[string]string{"a": fmt.Sprint(i)})
			publish(t, root, c)
			b, err := os.ReadFile(cacheDir(root) + "/" + format.Current)
			must(t, err)
			pointers[i] = string(b)
		}
		if len(pointers[0]) != len(pointers[1]) {
			t.Fatal("pointers of two lengths are told apart too easily")
		}
		reused, path := 0, cacheDir(root)+"/"+format.Current
		const publishes = 1000 // each of five pointers
		for i := range publishes {
			put := func(p string) uint64 {
				must(t, os.WriteFile(path+".new", []byte(p), 0o644))
				must(t, os.Rename(path+".new", path))
				return inode(t, path)
			}
			before := put(pointers[i%2])
			r := open(t, root)
			put(pointers[i%2])
			if before == put(pointers[(i+1)%2]) {
				reused++
			}
			if got := current(r); got != "false" {
				t.Fatalf("%s: publish %d of %d: Current() = %s of another generation", dir, i, publishes, got)
			}
			put(pointers[i%2])
			if got := current(r); got != "true" {
				t.Fatalf("%s: publish %d of %d: Current() = %s of its own generation", dir, i, publishes, got)
			}
			must(t, r.Close())
		}
		t.Logf("%s: an inode number was used again in %d of %d publishes", dir, reused, publishes)
	}
}

// TestCurrentAllocatesNothing, when files are the witnesses: it has nothing to
// open. Only a pointer too young to be told by its times is read again.
func TestCurrentAllocatesNothing(t *testing.T) {
	root := newRoot(t)
	publish(t, root, witnessed("1"))
	allocations := func(r *syscache.Reader) float64 {
		return testing.AllocsPerRun(100, func() {
			if ok, err := r.Current(); !ok || err != nil {
				t.Fatal(ok, err)
			}
		})
	}
	if n := allocations(open(t, root)); n == 0 {
		t.Error("a pointer just published was believed by its times")
	}
	syscache.SetSettled(t, 0)
	if n := allocations(open(t, root)); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestCurrentByMany: one Reader, many goroutines, and a publish meanwhile.
func TestCurrentByMany(t *testing.T) {
	root := newRoot(t)
	publish(t, root, witnessed("1"))
	r := open(t, root)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				ok, err := r.Current()
				if err != nil && !errors.Is(err, syscache.ErrStale) {
					t.Error(err)
				}
				if !ok && err == nil {
					return
				}
			}
		})
	}
	touch(t, root+"/share/MANIFEST")
	publish(t, root, witnessed("1"))
	publish(t, root, witnessed("2"))
	wg.Wait()
}

// witnessed declares c with a file as its witness.
func witnessed(version string) refresh.Cache {
	c := cacheOf(map[string]string{"a": version})
	c.Witness = []string{"share/MANIFEST"}
	return c
}

func invalidate(t *testing.T, root string) {
	t.Helper()
	c := witnessed("1")
	in, err := refresh.Load(root, &refresh.LoadOptions{Caches: []refresh.Cache{c}})
	must(t, err)
	must(t, in.Invalidate(c.Name))
}

func openStale(t *testing.T, root string) *syscache.Reader {
	t.Helper()
	r, err := syscache.Open(root, "c", &syscache.ReadOptions{AllowStale: true})
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

// current is Current in a word.
func current(r *syscache.Reader) string {
	ok, err := r.Current()
	if err != nil && !ok {
		return kindOf(err)
	}
	return strings.TrimSpace(fmt.Sprint(ok, " ", kindOfNil(err)))
}

func kindOfNil(err error) string {
	if err == nil {
		return ""
	}
	return kindOf(err)
}

func touch(t *testing.T, path string) {
	t.Helper()
	must(t, os.Chtimes(path, time.Now(), time.Now()))
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return uint64(st.Ino)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
