package refresh

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache"
)

// A world is an install with the cache c at the moment before an operation
// that changes something. It can be had again and again, in microseconds: the
// inputs stay, what refreshers wrote is put back.
type world struct {
	t     *testing.T
	root  string
	where string // the cache_dir; "": the usual one
	c     Cache
	value string                  // what a build gives
	op    func(in *Install) error // the operation
	load  func() *Install         // for the operation
	heal  Options                 // of the refresh after it
	start map[string]*node        // below the root, what refreshers wrote

	plain bool                    // no names can be exchanged
	again func(in *Install) error // the second operation; nil: op
	open  bool                    // it does not bring new about

	old, new string // what c holds before and after; old is "" where there is nothing
	holds    bool   // no witness contradicts old
	marks    bool   // afterwards c is not believed
	forgets  bool   // nothing may be left of c
	damaged  bool   // c, before
	fails    error  // what op returns though nothing went wrong
}

func newWorld(t *testing.T, files bool, scene func(w *world)) *world {
	w := &world{t: t, root: inMemory(t), new: "new"}
	w.c = faultyCache(files, &w.value)
	w.load = w.install
	w.op = func(in *Install) error { _, err := in.Refresh(context.Background(), "c", &w.heal); return err }
	scene(w)
	w.value = w.new
	w.start = map[string]*node{}
	for _, top := range []string{"var", "usr"} {
		if n := readTree(t, w.root+"/"+top); n != nil {
			w.start[top] = n
		}
	}
	return w
}

// inMemory is newRoot where no disk makes thousands of installs wait.
func inMemory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "syscache-")
	if err != nil {
		return newRoot(t)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	writeFile(t, dir+"/root/share/MANIFEST", "version 1\n", 0o644)
	return dir + "/root"
}

func (w *world) install() *Install {
	in := loadAt(w.t, w.root, w.where, w.named())
	in.disk = &tracedDisk{}
	return in
}

func (w *world) named() Cache {
	c := w.c
	c.Name, c.Inputs = "c", []string{"share/**"}
	return c
}

// refresh makes value what readers have.
func (w *world) refresh(value string) {
	w.t.Helper()
	w.value, w.old = value, value
	if _, err := w.install().Refresh(context.Background(), "c", nil); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) edit(text string) {
	writeFile(w.t, w.root+"/share/MANIFEST", text, 0o644)
}

// restore puts back what refreshers wrote: tops, or what there was at the start.
func (w *world) restore(tops map[string]*node) {
	w.t.Helper()
	for _, top := range []string{"var", "usr"} {
		err := os.RemoveAll(w.root + "/" + top)
		if n := tops[top]; n != nil && err == nil {
			err = n.write(w.root + "/" + top)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// read returns what c holds for a reader.
func (w *world) read(stale bool) (string, error) {
	return contentOf(w.install(), w.c.Files, stale)
}

// believed checks what readers have after the operation, of which done says
// that it returned without an error.
func (w *world) believed(what string, done bool) {
	w.t.Helper()
	got, err := w.read(false)
	missing, stale := errors.Is(err, syscache.ErrMissing), errors.Is(err, syscache.ErrStale)
	right := err == nil && got == w.new
	switch {
	case w.marks:
		right = stale || missing && w.forgets || !done && err == nil && got == w.old
	case !done:
		right = right || err == nil && got == w.old && w.holds || stale && w.old != "" || missing && w.old == ""
	}
	if !right {
		w.t.Errorf("%s: a reader has %q, %v", what, got, err)
	}
	if missing && w.old == "" || w.forgets {
		return
	}
	// Who accepts stale data has some: a failure loses nothing (I10).
	got, err = w.read(true)
	if errors.Is(err, syscache.ErrMissing) && w.plain && !done {
		return // the place is empty for a moment
	}
	if err != nil || got != w.new && got != w.old {
		w.t.Errorf("%s: who accepts stale data has %q, %v", what, got, err)
	}
	if w.damaged && !done || stale && w.heal.Force {
		return // or the mark may be of the other result of the same key
	}
	if err := w.install().Verify(context.Background(), "c"); err != nil {
		w.t.Errorf("%s: %v", what, err)
	}
}

// heals checks that the next refresh puts all right.
func (w *world) heals(what string) {
	w.t.Helper()
	in := w.install()
	if _, err := in.Refresh(context.Background(), "c", &w.heal); err != nil {
		w.t.Errorf("%s: the next refresh: %v", what, err)
		return
	}
	if got, err := w.read(false); err != nil || got != w.new {
		w.t.Errorf("%s: after the next refresh a reader has %q, %v", what, got, err)
	}
	if err := in.Verify(context.Background(), "c"); err != nil {
		w.t.Errorf("%s: after the next refresh: %v", what, err)
	}
	noLitter(w.t, in)
	if _, err := os.Lstat(in.cacheDir + "/c/" + format.Stale); err == nil {
		w.t.Errorf("%s: the mark is left", what)
	}
	if f := in.Status("c").Failure; f != nil {
		w.t.Errorf("%s: the failure is remembered: %+v", what, f)
	}
	if got, err := os.ReadFile(in.cacheDir + "/c/latest/l"); w.c.Latest && !in.image && (err != nil || string(got) != w.new) {
		w.t.Errorf("%s: latest is %q, %v", what, got, err)
	}
	for dir := range way(w.root, in.cacheDir+"/c/"+format.Generations) { // others are let in
		if fi, err := os.Lstat(dir); err != nil || fi.Mode().Perm() != 0o755 {
			w.t.Errorf("%s: %s: %v, %v", what, dir, fi.Mode(), err)
		}
	}
}

// leads checks that latest does not lead nowhere.
func (w *world) leads(what string) {
	w.t.Helper()
	link := w.install().cacheDir + "/c/" + format.Latest
	if _, err := os.Readlink(link); err == nil && !w.forgets {
		if _, err := os.ReadFile(link + "/l"); err != nil {
			w.t.Errorf("%s: latest: %v", what, err)
		}
	}
}

// A node is a file, a directory or a symbolic link.
type node struct {
	mode  fs.FileMode
	data  string // a link's: where it leads
	names map[string]*node
}

// readTree returns what is at path, nil if there is nothing.
func readTree(t *testing.T, path string) *node {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	n := &node{}
	var b []byte
	switch {
	case err != nil:
	case fi.IsDir():
		n.names = map[string]*node{}
		var entries []os.DirEntry
		entries, err = os.ReadDir(path)
		for _, e := range entries {
			n.names[e.Name()] = readTree(t, path+"/"+e.Name())
		}
	case fi.Mode()&fs.ModeSymlink != 0:
		n.data, err = os.Readlink(path)
	default:
		b, err = os.ReadFile(path)
		n.data = string(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	n.mode = fi.Mode()
	return n
}

func (n *node) write(path string) error {
	switch {
	case n.mode&fs.ModeSymlink != 0:
		return os.Symlink(n.data, path)
	case !n.mode.IsDir():
		return errors.Join(os.WriteFile(path, []byte(n.data), 0o600), os.Chmod(path, n.mode))
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	for name := range maps.Keys(n.names) {
		if err := n.names[name].write(filepath.Join(path, name)); err != nil {
			return err
		}
	}
	return os.Chmod(path, n.mode)
}
