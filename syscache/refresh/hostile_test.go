package refresh

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix/unixtest"
	"github.com/syscache/syscache/syscache"
)

// A builder has no terminal of ours: it could read from it, and with TIOCSTI
// type into the shell of root who refreshes another's install (I11).
func TestBuilderHasItsOwnSession(t *testing.T) {
	root := newRoot(t)
	in := load(t, root, script(t, root, `
read -r pid _ _ _ group session terminal _ < /proc/self/stat
[ $$ = "$group" ] && [ $$ = "$session" ] && own=true || own=false
echo "{\"key\":\"own\",\"value\":$own} "
echo "{\"key\":\"terminal\",\"value\":$terminal}"`))
	refreshed(t, in)
	if own, terminal := get(t, in, "own"), get(t, in, "terminal"); own != "true" || terminal != "0" {
		t.Errorf("a session of its own: %s; its terminal: %s", own, terminal)
	}
}

// Whoever owns the install can put what blocks, or never ends, where root
// reads its memos.
func TestMemosThatBlock(t *testing.T) {
	for _, name := range []string{format.State, format.Inventory, format.Current} {
		for kind, plant := range map[string]func(string) error{
			"FIFO": func(p string) error { return unixtest.Mkfifo(p, 0o644) },
			"link": func(p string) error { return os.Symlink("/dev/zero", p) },
		} {
			t.Run(name+" is a "+kind, func(t *testing.T) {
				root := newRoot(t)
				v := "1"
				in := load(t, root, value(&v))
				refreshed(t, in)
				path := in.cacheDir + "/c/" + name
				if err := errors.Join(os.Remove(path), plant(path)); err != nil {
					t.Fatal(err)
				}
				done := make(chan error, 1)
				go func() {
					in.Status("c")
					_, err := in.Refresh(context.Background(), "c", nil)
					done <- err
				}()
				select {
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
				case <-time.After(20 * time.Second):
					t.Fatal("it hangs")
				}
				if got := get(t, in, "k"); got != "1" {
					t.Errorf("then: %s", got)
				}
			})
		}
	}
}

// Two roots that keep their caches in one directory do not undo each other's.
func TestOneCacheDirForTwoRoots(t *testing.T) {
	shared := newRoot(t)
	v := "1"
	one, other := newRoot(t), newRoot(t)
	c, d := value(&v), value(&v)
	c.Name, d.Name = "c", "d"
	c.Inputs, d.Inputs = []string{"**"}, []string{"**"}
	installs := map[string]*Install{}
	for root, cache := range map[string]Cache{one: c, other: d} {
		in, err := Load(root, &LoadOptions{CacheDir: shared, Caches: []Cache{cache}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Refresh(t.Context(), cache.Name, nil); err != nil {
			t.Fatal(err)
		}
		installs[root] = in
	}
	if gone, err := installs[other].InvalidateUndeclared(); err != nil || len(gone) > 0 {
		t.Errorf("invalidated %v, %v", gone, err)
	}
	if _, err := InvalidateAll(other, &LoadOptions{CacheDir: shared}); err != nil {
		t.Error(err)
	}
	if r, err := syscache.Open(one, "c", &syscache.ReadOptions{CacheDirs: []string{shared}}); err != nil {
		t.Errorf("one's cache, after other was invalidated: %v", err)
	} else {
		r.Close()
	}
	same, err := Load(other, &LoadOptions{CacheDir: shared, Caches: []Cache{c}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := same.Refresh(t.Context(), "c", nil); !errors.Is(err, errForeign) || !strings.Contains(err.Error(), one) {
		t.Errorf("other refreshes one's cache: %v", err)
	}
	if err := same.Invalidate("c"); !errors.Is(err, errForeign) {
		t.Errorf("other invalidates one's cache: %v", err)
	}
}

// We run no builder that others can write.
func TestBuilderThatOthersCanWrite(t *testing.T) {
	for name, spoil := range map[string]func(file string) error{
		"the file":      func(f string) error { return os.Chmod(f, 0o777) },
		"its directory": func(f string) error { return os.Chmod(filepath.Dir(f), 0o777) },
		"where it leads": func(f string) error {
			return errors.Join(os.Rename(f, f+"2"), os.Symlink(filepath.Base(f)+"2", f), os.Chmod(f+"2", 0o757))
		},
	} {
		root := newRoot(t)
		c := script(t, root, `echo '{"key":"k","value":1}'`)
		in := load(t, root, c)
		refreshed(t, in)
		if err := spoil(root + "/" + c.Command[0]); err != nil {
			t.Fatal(err)
		}
		_, err := in.Refresh(t.Context(), "c", &Options{Force: true})
		var hinted *HintedError
		if !errors.As(err, &hinted) || !strings.Contains(err.Error(), "everyone can write") || !strings.Contains(hinted.Hint, "chmod go-w") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Of the directories that a reader checks none is let pass for being sticky.
func TestStickyCacheDirectory(t *testing.T) {
	for _, name := range []string{"", "/g"} {
		root := newRoot(t)
		v := "1"
		in := load(t, root, value(&v))
		refreshed(t, in)
		if err := os.Chmod(in.cacheDir+"/c"+name, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Refresh(t.Context(), "c", nil); err == nil || !strings.Contains(err.Error(), "everyone can write") {
			t.Errorf("c%s is sticky: %v", name, err)
		}
	}
}

// TestPlantedForDirectories: a FIFO, a link or a directory that the owner of an
// install puts where root lists or removes neither blocks nor leads astray.
func TestPlantedForDirectories(t *testing.T) {
	for name, plant := range map[string]func(dir string) error{
		"a FIFO for g":                func(dir string) error { return errors.Join(os.RemoveAll(dir+"/g"), unixtest.Mkfifo(dir+"/g", 0o644)) },
		"a link for g":                func(dir string) error { return errors.Join(os.RemoveAll(dir+"/g"), os.Symlink("/etc", dir+"/g")) },
		"a token that is a directory": func(dir string) error { return os.MkdirAll(dir+"/.pending-x/y", 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			v := "1"
			in := load(t, root, value(&v))
			refreshed(t, in)
			if err := plant(in.cacheDir + "/c"); err != nil {
				t.Fatal(err)
			}
			done := make(chan bool)
			go func() {
				defer close(done)
				in.Collect(t.Context(), "c", &CollectOptions{Now: true})
				in.Statuses()
				in.Doctor(t.Context())
				if err := in.Invalidate("c"); err != nil {
					t.Error(err)
				}
			}()
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Fatal("it hangs")
			}
		})
	}
}

// TestRootRunsNothingOfAGroup: who may write root's install as one of a group
// must not thereby become root.
func TestRootRunsNothingOfAGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: not root")
	}
	root := newRoot(t)
	v := "1"
	in := load(t, root, value(&v))
	refreshed(t, in)
	for _, err := range []error{os.Chown(root, 0, 61010), os.Chmod(root, 0o2775)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	in = load(t, root, value(&v))
	_, err := in.Refresh(t.Context(), "c", nil)
	_, derr := in.Diff(t.Context(), "c")
	var hinted *HintedError
	if !errors.Is(err, ErrNotOwner) || !errors.Is(derr, ErrNotOwner) || !errors.As(err, &hinted) {
		t.Errorf("%v, %v", err, derr)
	}
	if err := in.Invalidate("c"); err != nil {
		t.Error(err)
	}
}

// TestConfined: what a link leads to outside of the root is none of root's to
// change where others can put links.
func TestConfined(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: not root")
	}
	root, outside := newRoot(t), newRoot(t)
	v := "1"
	in := load(t, root, value(&v))
	refreshed(t, in)
	if err := errors.Join(os.MkdirAll(outside+"/c/.pending-1/d", 0o755), os.WriteFile(outside+"/c/current", nil, 0o644), os.Chmod(root, 0o775)); err != nil {
		t.Fatal(err)
	}
	in = load(t, root, value(&v))
	err := in.confine(func(in *Install) error {
		// After every check, as at the worst instant.
		if err := errors.Join(os.Rename(in.cacheDir, root+"/away"), os.Symlink(outside, in.cacheDir)); err != nil {
			return err
		}
		if err := invalidate(in.disk, in.cacheDir+"/c"); err == nil {
			t.Error("it was led outside")
		}
		if err := removeAll(in.disk, in.cacheDir+"/c/.pending-1"); err == nil {
			t.Error("it removed something outside")
		}
		_, err := in.disk.Create(in.cacheDir + "/x")
		if err == nil || in.disk.Mkdir(in.cacheDir+"/y", 0o755) == nil {
			t.Error("it made something outside")
		}
		return errors.Join(os.Remove(in.cacheDir), os.Rename(root+"/away", in.cacheDir))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/c/current", "/c/.pending-1/d"} {
		if _, err := os.Lstat(outside + name); err != nil {
			t.Error(err)
		}
	}
	if err := in.Invalidate("c"); err != nil {
		t.Error(err)
	}
	if _, err := syscache.Open(root, "c", nil); !errors.Is(err, syscache.ErrStale) {
		t.Error(err)
	}
}

// TestRecipeThatIsNoFile: a device or FIFO by an absolute path is not opened,
// and not passed over as if it had been read.
func TestRecipeThatIsNoFile(t *testing.T) {
	root := newRoot(t)
	fifo := newRoot(t) + "/fifo"
	if err := unixtest.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fifo, "/dev/null"} {
		v := "1"
		c := value(&v)
		c.Recipe = []string{name}
		_, err := load(t, root, c).Refresh(t.Context(), "c", nil)
		if err == nil || !strings.Contains(err.Error(), "is not a regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
