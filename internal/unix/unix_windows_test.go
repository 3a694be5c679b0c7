package unix

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func contains(t *testing.T, path, want string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		t.Errorf("%s: %q, %v; want %q", path, b, err, want)
	}
}

// TestRenameReplaces: who looks meanwhile finds the old or the new, never
// nothing.
func TestRenameReplaces(t *testing.T) {
	dir := t.TempDir()
	to := write(t, dir+"/to", "0")
	stop := make(chan bool)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	wg.Go(func() {
		for {
			f, err := OpenFile(to, os.O_RDONLY|O_NOFOLLOW, 0)
			if err != nil {
				t.Error(err)
				return
			}
			b := make([]byte, 2)
			if n, err := Pread(int(f.Fd()), b, 0); n != 1 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			f.Close()
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond): // Wine cannot replace what is always open
			}
		}
	})
	for range 50 {
		if err := Rename(write(t, dir+"/from", "1"), to); err != nil {
			t.Fatal(err)
		}
		contains(t, to, "1")
	}
}

// TestRenameFails: what is at to stays, and so does what was to take its place.
func TestRenameFails(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir+"/file", "old")
	if err := os.Mkdir(dir+"/full", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/full/file", "old")
	held := write(t, dir+"/held", "old")
	f, err := os.Open(held) // which lets nobody replace it
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	from := write(t, dir+"/from", "new")
	for _, tc := range []struct {
		from, to string
		want     error
	}{
		{dir + "/none", file, ENOENT},
		{dir + "/none", dir + "/none either", ENOENT},
		{from, dir + "/full", syscall.EISDIR},
		{dir + "/full", dir + "/full2", nil},
		{from, held, EBUSY},
		{from, dir + "/none/to", ENOENT},
	} {
		if err := Rename(tc.from, tc.to); err != tc.want {
			t.Errorf("Rename(%s, %s) = %v, want %v", tc.from, tc.to, err, tc.want)
		}
	}
	if err := os.Mkdir(dir+"/empty", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Rename(dir+"/empty", dir+"/full2"); err != ENOTEMPTY {
		t.Errorf("a directory over another: %v", err)
	}
	contains(t, file, "old")
	contains(t, from, "new")
	contains(t, held, "old")
	contains(t, dir+"/full2/file", "old")
}

// TestOpenIsShared: what we have open others rename and remove.
func TestOpenIsShared(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenFile(write(t, dir+"/a", "a"), os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := Rename(dir+"/a", dir+"/b"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(dir + "/b"); err != nil {
		t.Error(err)
	}
	b := make([]byte, 2)
	if n, err := Read(int(f.Fd()), b); n != 1 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	f.Close()
	if err := Lstat(dir+"/b", &Stat_t{}); err != ENOENT {
		t.Errorf("after it was closed: %v", err)
	}
}

func TestStat(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a", "a")
	d, err := Open(dir, O_RDONLY|O_DIRECTORY|O_NOFOLLOW, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(d)
	var before, other, after Stat_t
	if err := Fstatat(d, "a", &before, AT_SYMLINK_NOFOLLOW); err != nil {
		t.Fatal(err)
	}
	if before.Mode != S_IFREG|0o644 || before.Size != 1 || before.Ino == 0 || before.Nlink != 1 {
		t.Errorf("%+v", before)
	}
	if err := Lstat(write(t, dir+"/b", "b"), &other); err != nil || other.Ino == before.Ino || other.Dev != before.Dev {
		t.Errorf("%+v, %v", other, err)
	}
	fd, err := Openat(d, "a", O_RDONLY|O_NOFOLLOW, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(fd)
	if err := Fstat(fd, &after); err != nil || after != before {
		t.Errorf("%+v, then %+v, %v", before, after, err)
	}
	for _, tc := range []struct {
		path  string
		flags int
		want  error
	}{
		{dir + "/none", 0, ENOENT},
		{dir + "/none/a", 0, ENOENT},
		{dir + "/a", O_DIRECTORY, ENOTDIR},
		{dir + "/a\x00", 0, EINVAL},
	} {
		if _, err := Open(tc.path, tc.flags, 0); err != tc.want {
			t.Errorf("Open(%q) = %v, want %v", tc.path, err, tc.want)
		}
	}
	if _, err := OpenFile(dir+"/a", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a new file that is there: %v", err)
	}
}
