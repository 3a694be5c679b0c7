package refresh

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/syscache/syscache/internal/unix/unixtest"
	"github.com/syscache/syscache/syscache"
)

// An operation is a call of a disk, or of a file that it made.
type operation struct {
	name     string
	path, to string // to: of what has two
	mode     fs.FileMode
	file     *tracedFile // of a file's
	data     []byte      // that is written
	off      int64
}

// A tracedDisk is the real one, but that it does not wait for any disk: the
// machine stays up. What is lost when it goes down is TestPowerLoss's.
type tracedDisk struct {
	realDisk
	ops    []string
	plain  bool                   // it cannot exchange names
	before func(*operation) error // may be nil; if it fails the operation does, undone
	after  func(*operation) error // may be nil; what it returns is the operation's error
}

// errShort is what a test's disk fails a write with that is cut and not told:
// io.Writer forbids it.
var errShort = errors.New("short")

func (d *tracedDisk) do(op *operation, run func() error) error {
	i := len(d.ops)
	d.ops = append(d.ops, op.name)
	if d.before != nil {
		if err := d.before(op); err != nil {
			return &fs.PathError{Op: d.ops[i], Path: op.path, Err: err}
		}
	}
	err := run()
	if err == nil && d.after != nil {
		if err = d.after(op); err != nil {
			err = &fs.PathError{Op: d.ops[i], Path: op.path, Err: err}
		}
	}
	return err
}

func (d *tracedDisk) Mkdir(path string, mode fs.FileMode) error {
	return d.do(&operation{name: "mkdir", path: path, mode: mode}, func() error { return d.realDisk.Mkdir(path, mode) })
}

func (d *tracedDisk) Create(path string) (file, error) {
	f := &tracedFile{d: d, path: path}
	err := d.do(&operation{name: "create", path: path, file: f}, func() (err error) {
		f.f, err = d.realDisk.Create(path)
		return err
	})
	if err != nil {
		if f.f != nil {
			f.f.Close()
		}
		return nil, err
	}
	return f, nil
}

func (d *tracedDisk) Symlink(target, path string) error {
	return d.do(&operation{name: "symlink", path: path, to: target}, func() error { return d.realDisk.Symlink(target, path) })
}

func (d *tracedDisk) Link(from, to string) error {
	return d.do(&operation{name: "link", path: from, to: to}, func() error { return d.realDisk.Link(from, to) })
}

func (d *tracedDisk) Rename(from, to string) error {
	return d.do(&operation{name: "rename", path: from, to: to}, func() error { return d.realDisk.Rename(from, to) })
}

func (d *tracedDisk) Exchange(a, b string) error {
	return d.do(&operation{name: "exchange", path: a, to: b}, func() error {
		if d.plain {
			return errors.ErrUnsupported
		}
		return d.realDisk.Exchange(a, b)
	})
}

func (d *tracedDisk) Chmod(path string, mode fs.FileMode) error {
	return d.do(&operation{name: "chmod", path: path, mode: mode}, func() error { return d.realDisk.Chmod(path, mode) })
}

func (d *tracedDisk) Chown(path string, gid uint32) error {
	return d.do(&operation{name: "chown", path: path}, func() error { return d.realDisk.Chown(path, gid) })
}

func (d *tracedDisk) Remove(path string) error {
	return d.do(&operation{name: "remove", path: path}, func() error { return d.realDisk.Remove(path) })
}

func (d *tracedDisk) SyncDir(path string) error {
	return d.do(&operation{name: "syncdir", path: path}, func() error { _, err := os.Lstat(path); return err })
}

type tracedFile struct {
	d     *tracedDisk
	f     file
	path  string
	inode *inode // of a machine
}

// write is half done when it fails.
func (f *tracedFile) write(op *operation, do func(b []byte) (int, error)) (n int, err error) {
	err = f.d.do(op, func() (err error) { n, err = do(op.data); return err })
	if err != nil && n == 0 {
		n, _ = do(op.data[:len(op.data)/2])
	}
	if errors.Is(err, errShort) {
		err = nil
	}
	return n, err
}

func (f *tracedFile) Write(b []byte) (int, error) {
	return f.write(&operation{name: "write", path: f.path, file: f, data: b, off: -1}, f.f.Write)
}

func (f *tracedFile) WriteAt(b []byte, off int64) (int, error) {
	return f.write(&operation{name: "writeat", path: f.path, file: f, data: b, off: off}, func(b []byte) (int, error) { return f.f.WriteAt(b, off) })
}

func (f *tracedFile) Chmod(mode fs.FileMode) error {
	return f.d.do(&operation{name: "fchmod", path: f.path, file: f, mode: mode}, func() error { return f.f.Chmod(mode) })
}

func (f *tracedFile) Sync() error {
	return f.d.do(&operation{name: "sync", path: f.path, file: f}, func() error { return nil })
}

func (f *tracedFile) Close() error {
	err := f.d.do(&operation{name: "close", path: f.path, file: f}, func() error { return nil })
	return errors.Join(err, f.f.Close())
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
func content(in *Install, files bool) (string, error) { return contentOf(in, files, false) }

func contentOf(in *Install, files, stale bool) (string, error) {
	r, err := syscache.Open(in.root, "c", in.readOptions(stale))
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

// TestUnchangedWritesNothing: a hook on a read-only file system does no harm.
// Without the memo a sync of what is there is all, and the memo is back.
func TestUnchangedWritesNothing(t *testing.T) {
	for _, kind := range []bool{false, true} {
		root := newRoot(t)
		v := "1"
		in := load(t, root, faultyCache(kind, &v))
		refreshed(t, in)
		d := &tracedDisk{}
		in.disk = d
		if res := refreshed(t, in); res.Outcome != Unchanged || len(d.ops) > 0 {
			t.Errorf("%+v: %q", res, d.ops)
		}
		if err := os.Remove(in.cacheDir + "/c/seen"); err != nil {
			t.Fatal(err)
		}
		if res := refreshed(t, in); res.Outcome != Unchanged || len(d.ops) == 0 || d.ops[0] != "syncdir" {
			t.Errorf("without the memo: %+v: %q", res, d.ops)
		}
		d.ops = nil
		if res := refreshed(t, in); res.Outcome != Unchanged || len(d.ops) > 0 {
			t.Errorf("with it again: %+v: %q", res, d.ops)
		}
	}
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
