package refresh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix/unixtest"
	"github.com/syscache/syscache/syscache"
)

// A faultyDisk is the real one up to the operation fail (from 0; negative:
// for ever), which returns err. If it is dead, all that follow do too: the
// machine went down. What is not synced stays: power loss is another test's.
type faultyDisk struct {
	disk realDisk
	fail int
	err  error
	dies bool

	ops []string
}

func (d *faultyDisk) op(format string, args ...any) error {
	i := len(d.ops)
	d.ops = append(d.ops, fmt.Sprintf(format, args...))
	if d.fail >= 0 && (i == d.fail || d.dies && i > d.fail) {
		return &fs.PathError{Op: d.ops[i], Path: "fake", Err: d.err}
	}
	return nil
}

func (d *faultyDisk) Mkdir(path string, mode fs.FileMode) error {
	if err := d.op("mkdir"); err != nil {
		return err
	}
	return d.disk.Mkdir(path, mode)
}

func (d *faultyDisk) Create(path string) (file, error) {
	if err := d.op("create"); err != nil {
		return nil, err
	}
	f, err := d.disk.Create(path)
	if err != nil {
		return nil, err
	}
	return &faultyFile{d, f}, nil
}

func (d *faultyDisk) Symlink(target, path string) error {
	if err := d.op("symlink"); err != nil {
		return err
	}
	return d.disk.Symlink(target, path)
}

func (d *faultyDisk) Link(from, to string) error {
	if err := d.op("link"); err != nil {
		return err
	}
	return d.disk.Link(from, to)
}

func (d *faultyDisk) Rename(from, to string) error {
	if err := d.op("rename"); err != nil {
		return err
	}
	return d.disk.Rename(from, to)
}

func (d *faultyDisk) Exchange(a, b string) error {
	if err := d.op("exchange"); err != nil {
		return err
	}
	return d.disk.Exchange(a, b)
}

func (d *faultyDisk) Chmod(path string, mode fs.FileMode) error {
	if err := d.op("chmod"); err != nil {
		return err
	}
	return d.disk.Chmod(path, mode)
}

func (d *faultyDisk) Chown(path string, gid uint32) error {
	if err := d.op("chown"); err != nil {
		return err
	}
	return d.disk.Chown(path, gid)
}

func (d *faultyDisk) Remove(path string) error {
	if err := d.op("remove"); err != nil {
		return err
	}
	return d.disk.Remove(path)
}

func (d *faultyDisk) SyncDir(path string) error {
	if err := d.op("syncdir"); err != nil {
		return err
	}
	return nil // the machine stays up: a test need not wait for its disk
}

type faultyFile struct {
	d *faultyDisk
	f file
}

// Write fails half-way.
func (f *faultyFile) Write(b []byte) (int, error) {
	if err := f.d.op("write"); err != nil {
		n, _ := f.f.Write(b[:len(b)/2])
		return n, err
	}
	return f.f.Write(b)
}

func (f *faultyFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.d.op("writeat"); err != nil {
		return 0, err
	}
	return f.f.WriteAt(b, off)
}

func (f *faultyFile) Chmod(mode fs.FileMode) error {
	if err := f.d.op("chmod"); err != nil {
		return err
	}
	return f.f.Chmod(mode)
}

func (f *faultyFile) Sync() error {
	if err := f.d.op("sync"); err != nil {
		return err
	}
	return nil
}

func (f *faultyFile) Close() error {
	return errors.Join(f.d.op("close"), f.f.Close())
}

// TestFaults fails each operation of a refresh, one run each: I1 and I10.
func TestFaults(t *testing.T) {
	type mode struct {
		name string
		err  error
		dies bool
	}
	eio, enospc, dies := mode{"EIO", syscall.EIO, false}, mode{"ENOSPC", syscall.ENOSPC, false}, mode{"dies", syscall.EIO, true}
	for _, kind := range []string{"table", "files"} {
		for scene, modes := range map[string][]mode{
			"first": {eio, dies}, "next": {eio, enospc, dies}, "recertify": {eio}, "forced": {eio, dies}, "collect": {eio, dies},
		} {
			for _, m := range modes {
				t.Run(kind+"/"+scene+"/"+m.name, func(t *testing.T) {
					t.Parallel()
					run := func(fail int) int {
						d := &faultyDisk{fail: fail, err: m.err, dies: m.dies}
						faultyRun(t, kind == "files", scene, d)
						return len(d.ops)
					}
					n := run(-1)
					if n < 5 {
						t.Errorf("%d operations", n)
					}
					var wg sync.WaitGroup
					for first := range 32 { // they mostly wait for the clock
						wg.Go(func() {
							for i := first; i < n; i += 32 {
								run(i)
							}
						})
					}
					wg.Wait()
				})
			}
		}
	}
}

// faultyRun refreshes on d. It checks what readers have then, and that the
// next refresh puts all right.
func faultyRun(t *testing.T, files bool, scene string, d *faultyDisk) {
	root := newRoot(t)
	v := "old"
	c := faultyCache(files, &v)
	in := load(t, root, c)
	in.disk = &faultyDisk{fail: -1}
	if scene != "first" {
		refreshed(t, in)
	}
	want := "new"
	if files && scene == "forced" {
		want = "old" // published files never change: TestForceFiles
	}
	switch scene {
	case "recertify":
		want = "old"
		writeFile(t, root+"/share/n", "version 1\n", 0o644)
		if err := os.Rename(root+"/share/n", root+"/share/MANIFEST"); err != nil {
			t.Fatal(err)
		}
	case "collect":
		v, c.Keep = "between", 1
		writeFile(t, root+"/share/MANIFEST", "version 1.5\n", 0o644)
		in = load(t, root, c)
		in.disk = &faultyDisk{fail: -1}
		refreshed(t, in)
		fallthrough
	case "next":
		writeFile(t, root+"/share/MANIFEST", "version 2\n", 0o644)
	}
	v = want
	in = load(t, root, c)
	in.disk = d
	_, err := in.Refresh(context.Background(), "c", &Options{Force: scene == "forced"})
	if d.fail < 0 {
		if got, cerr := content(in, files); err != nil || got != want {
			t.Errorf("nothing failed: %v, %q, %v", err, got, cerr)
		}
		return
	}
	if d.fail >= len(d.ops) {
		t.Errorf("operation %d of %d", d.fail, len(d.ops))
		return
	}
	failing := d.ops[d.fail]
	if err != nil && !errors.Is(err, d.err) {
		t.Errorf("op %d, %s: the error is %v", d.fail, failing, err)
	}
	in = load(t, root, c)
	in.disk = &faultyDisk{fail: -1}
	check := func(when string, fresh bool) {
		t.Helper()
		got, err := content(in, files)
		stale := errors.Is(err, syscache.ErrStale)
		missing := errors.Is(err, syscache.ErrMissing) && scene == "first"
		switch {
		case err == nil && got == want, !fresh && err == nil && got == "old" && scene == "forced", !fresh && (stale || missing):
		default:
			t.Errorf("op %d, %s, %s: %q, %v", d.fail, failing, when, got, err)
		}
		if stale && scene == "forced" {
			// What stale names may be the other result of the same key by now,
			// and it must be there (I10).
			if r, err := syscache.Open(root, "c", in.readOptions(true)); err != nil {
				t.Errorf("op %d, %s, %s: stale data: %v", d.fail, failing, when, err)
			} else {
				r.Close()
			}
		} else if err == nil || stale {
			if err := in.Verify(context.Background(), "c"); err != nil {
				t.Errorf("op %d, %s, %s: %v", d.fail, failing, when, err)
			}
		}
	}
	check("after the failure", err == nil)
	if _, err := os.Readlink(in.cacheDir + "/c/latest"); err == nil {
		// It never leads nowhere.
		if _, err := os.ReadFile(in.cacheDir + "/c/latest/l"); err != nil {
			t.Errorf("op %d, %s: latest: %v", d.fail, failing, err)
		}
	}
	if _, err := in.Refresh(context.Background(), "c", &Options{Force: scene == "forced"}); err != nil {
		t.Errorf("op %d, %s: the next refresh: %v", d.fail, failing, err)
	}
	check("after the next refresh", true)
	if got, err := os.ReadFile(in.cacheDir + "/c/latest/l"); files && (err != nil || string(got) != want) {
		t.Errorf("op %d, %s: latest is %q, %v", d.fail, failing, got, err)
	}
	noLitter(t, in)
	if _, err := os.Lstat(in.cacheDir + "/c/stale"); err == nil {
		t.Errorf("op %d, %s: stale is left", d.fail, failing)
	}
	if f := in.Status("c").Failure; f != nil {
		t.Errorf("op %d, %s: the failure is remembered: %+v", d.fail, failing, f)
	}
}

// faultyCache returns a cache of either kind, which holds *v.
func faultyCache(files bool, v *string) Cache {
	return Cache{Files: files, Latest: files, Witness: []string{"share/MANIFEST"}, Build: func(_ context.Context, in Inputs, emit func(k, v []byte) error) error {
		if !files {
			return emit([]byte("k"), []byte(*v))
		}
		return errors.Join(os.Mkdir(in.Out+"/d", 0o755), os.WriteFile(in.Out+"/d/k", []byte(*v), 0o644), os.Symlink("d/k", in.Out+"/l"))
	}}
}

// content returns what "c" holds for a reader.
func content(in *Install, files bool) (string, error) {
	r, err := syscache.Open(in.root, "c", in.readOptions(false))
	if err != nil {
		return "", err
	}
	defer r.Close()
	if files {
		b, err := os.ReadFile(r.Dir() + "/l")
		return string(b), err
	}
	b, err := r.Get([]byte("k"))
	return string(bytes.Clone(b)), err
}

// TestUnchangedWritesNothing: not one operation, so that a hook on a
// read-only file system does no harm.
func TestUnchangedWritesNothing(t *testing.T) {
	for _, kind := range []bool{false, true} {
		root := newRoot(t)
		v := "1"
		in := load(t, root, faultyCache(kind, &v))
		refreshed(t, in)
		d := &faultyDisk{fail: -1}
		in.disk = d
		if res := refreshed(t, in); res.Outcome != Unchanged || len(d.ops) > 0 {
			t.Errorf("%+v: %q", res, d.ops)
		}
	}
}

// TestDurableOrder guards I6: what the pointer names is synced before it is
// renamed, and the directories that name it are.
func TestDurableOrder(t *testing.T) {
	root := newRoot(t)
	v := "1"
	in := load(t, root, faultyCache(true, &v))
	d := &orderDisk{t: t, dirty: map[string]bool{}, dir: in.cacheDir + "/c"}
	in.disk = d
	refreshed(t, in)
	if d.published != 1 {
		t.Errorf("published %d times", d.published)
	}
}

// An orderDisk knows what was not synced yet.
type orderDisk struct {
	realDisk
	t         *testing.T
	dir       string
	dirty     map[string]bool // files, and directories whose names changed
	published int
}

func parent(path string) string { return path[:strings.LastIndexByte(path, '/')] }

func (d *orderDisk) Mkdir(path string, mode fs.FileMode) error {
	d.dirty[path], d.dirty[parent(path)] = true, true
	return d.realDisk.Mkdir(path, mode)
}

func (d *orderDisk) Symlink(target, path string) error {
	d.dirty[parent(path)] = true
	return d.realDisk.Symlink(target, path)
}

func (d *orderDisk) Create(path string) (file, error) {
	f, err := d.realDisk.Create(path)
	d.dirty[path], d.dirty[parent(path)] = true, true
	return &orderFile{f, d, path}, err
}

func (d *orderDisk) SyncDir(path string) error {
	delete(d.dirty, path)
	return d.realDisk.SyncDir(path)
}

func (d *orderDisk) Rename(from, to string) error {
	moved := map[string]bool{parent(from): true, parent(to): true}
	for path := range d.dirty {
		if rest, ok := strings.CutPrefix(path, from); ok && (rest == "" || rest[0] == '/') {
			path = to + rest
		}
		moved[path] = true
	}
	if to == d.dir+"/"+format.Current {
		d.published++
		for path := range d.dirty {
			own := path == d.dir // it holds tokens and memos, and is synced after
			memo := strings.HasPrefix(path, d.dir+"/") && !strings.HasPrefix(path, d.dir+"/g/") && path != from
			scratch := strings.HasPrefix(path, d.dir+"/g/"+format.ScratchPrefix)
			if !own && !memo && !scratch {
				d.t.Errorf("%s is not synced when the pointer is renamed", path)
			}
		}
	}
	d.dirty = moved
	return d.realDisk.Rename(from, to)
}

type orderFile struct {
	file
	d    *orderDisk
	path string
}

func (f *orderFile) Write(b []byte) (int, error) {
	f.d.dirty[f.path] = true
	return f.file.Write(b)
}

func (f *orderFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.dirty[f.path] = true
	return f.file.WriteAt(b, off)
}

func (f *orderFile) Chmod(mode fs.FileMode) error {
	f.d.dirty[f.path] = true
	return f.file.Chmod(mode)
}

func (f *orderFile) Sync() error {
	delete(f.d.dirty, f.path)
	return f.file.Sync()
}

// TestRealDisk: exact modes, no file over another, no link followed.
func TestRealDisk(t *testing.T) {
	dir := t.TempDir()
	old := unixtest.Umask(0o077)
	defer unixtest.Umask(old)
	var d realDisk
	if err := d.Mkdir(dir+"/d", fs.ModeSetgid|0o775); err != nil {
		t.Fatal(err)
	}
	f, err := d.Create(dir + "/f")
	if err != nil {
		t.Fatal(err)
	}
	check := func(name, want string) {
		t.Helper()
		if fi, err := os.Lstat(dir + name); err != nil || fi.Mode().String() != want {
			t.Errorf("%s: %v, %v, want %s", name, fi.Mode(), err, want)
		}
	}
	check("/d", "dgrwxrwxr-x")
	check("/f", "-rw-------")
	if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
		t.Fatal(err)
	}
	check("/f", "-rw-r--r--")
	if f, err := d.Create(dir + "/f"); err == nil || f != nil {
		t.Error("created twice")
	}
	if err := os.Symlink("target", dir+"/l"); err != nil {
		t.Fatal(err)
	}
	if f, err := d.Create(dir + "/l"); err == nil || f != nil {
		t.Error("created through a link")
	}
	if err := d.Rename(dir+"/none", dir+"/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// A meddler does something right before the operation that removes path.
type meddler struct {
	realDisk
	path string
	do   func()
}

func (d *meddler) Remove(path string) error {
	if path == d.path && d.do != nil {
		do := d.do
		d.do = nil
		do()
	}
	return d.realDisk.Remove(path)
}

// TestMarkBetween: an invalidate that comes when a refresh is about to remove
// the old mark has its own mark in that place, which must not be lost.
func TestMarkBetween(t *testing.T) {
	root := newRoot(t)
	v := "1"
	refreshed(t, load(t, root, value(&v)))
	in := load(t, root, value(&v))
	if err := in.Invalidate("c"); err != nil {
		t.Fatal(err)
	}
	in.disk = &meddler{path: in.cacheDir + "/c/stale", do: func() {
		if err := load(t, root, value(&v)).Invalidate("c"); err != nil {
			t.Error(err)
		}
	}}
	if _, err := in.Refresh(t.Context(), "c", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := content(in, false); !errors.Is(err, syscache.ErrStale) {
		t.Errorf("%v, want stale", err)
	}
	r, err := syscache.Open(root, "c", &syscache.ReadOptions{AllowStale: true})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	refreshed(t, load(t, root, value(&v)))
	noLitter(t, in)
}
