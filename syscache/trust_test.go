package syscache_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix/unixtest"
	"github.com/syscache/syscache/syscache"
)

// TestUntrusted: what anybody else could have written is not believed, by
// either reader, and the reason is told.
func TestUntrusted(t *testing.T) {
	chmod := func(mode os.FileMode) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	replace := func(by func(path string) error) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.Rename(path, path+".away"); err != nil {
				t.Fatal(err)
			}
			if err := by(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	chown := func(uid, gid int) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if os.Geteuid() != 0 {
				t.Skip("skipped: not root")
			}
			if err := os.Lchown(path, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
	}
	link := func(path string) error { return os.Symlink(filepath.Base(path)+".away", path) }
	fifo := func(path string) error { return unixtest.Mkfifo(path, 0o644) }
	mkdir := func(path string) error { return os.Mkdir(path, 0o755) }
	empty := func(path string) error { return os.WriteFile(path, nil, 0o644) }
	py := newPython(t)
	for name, tc := range map[string]struct {
		change func(t *testing.T, path string)
		dir    bool // of the cache's directory too; else of files alone
		file   bool
		reason string
	}{
		"group may write":    {chmod(0o775), true, true, "can be written by group"},
		"everyone may write": {chmod(0o757), true, true, "can be written by everyone (mode 0757)"},
		"a link":             {replace(link), true, true, "is not a "},
		"a FIFO":             {replace(fifo), true, true, "is not a "},
		"a directory":        {replace(mkdir), false, true, "is not a regular file"},
		"a file":             {replace(empty), true, false, "is not a directory"},
		"another's":          {chown(12345, 12345), true, true, "belongs to uid 12345, who is neither root, nor the owner of "},
		"nobody's":           {chown(65534, 65534), true, true, "belongs to uid 65534"},
	} {
		for _, what := range []string{"directory", "pointer", "table"} {
			if what == "directory" && !tc.dir || what != "directory" && !tc.file {
				continue
			}
			t.Run(name+", "+what, func(t *testing.T) {
				root := newRoot(t)
				publish(t, root, cacheOf(map[string]string{"a": "1"}))
				path := map[string]string{
					"directory": cacheDir(root), "pointer": cacheDir(root) + "/" + format.Current, "table": tablePath(t, root),
				}[what]
				tc.change(t, path)
				_, err := syscache.Open(root, "c", nil)
				var e *syscache.Error
				if !errors.As(err, &e) || e.Err != syscache.ErrUntrusted || !strings.Contains(e.Detail, tc.reason) || !strings.Contains(e.Detail, path) {
					t.Errorf("got %v, want untrusted: %s ... %s", err, path, tc.reason)
				}
				if e != nil && !strings.Contains(e.Hint, "make it belong to the owner of "+root) {
					t.Errorf("hint: %s", e.Hint)
				}
				if got := py.ask(question{Root: root, Cache: "c"}).Open; got != "untrusted" {
					t.Errorf("in Python %s, want untrusted", got)
				}
			})
		}
	}
}

// TestTrusted: the root's owner and group may write the cache, and nobody
// more.
func TestTrusted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: not root")
	}
	chown := func(uid, gid int, paths ...string) {
		for _, p := range paths {
			if err := os.Lchown(p, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
	}
	chmod := func(mode os.FileMode, paths ...string) {
		for _, p := range paths {
			if err := os.Chmod(p, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tc := range map[string]struct {
		change func(root string, files []string)
		uids   []int
		want   string
	}{
		"the root's owner": {func(root string, files []string) { chown(12345, 0, append(files, root)...) }, nil, "<nil>"},
		"a named owner":    {func(_ string, files []string) { chown(12345, 0, files...) }, []int{1, 12345}, "<nil>"},
		"the root's group": {func(root string, files []string) {
			chown(0, 777, append(files, root)...)
			chmod(0o775, append(files, root)...)
		}, nil, "<nil>"},
		"another group": {func(root string, files []string) {
			chown(0, 777, append(files, root)...)
			chmod(0o775, append(files, root)...)
			chown(0, 778, files[1])
			chmod(0o775, files[1])
		}, nil, "untrusted"},
		"a member of the root's group": {func(root string, files []string) {
			chown(0, 777, root)
			chmod(0o775, root)
			chown(12345, 777, files...)
		}, nil, "<nil>"},
		"a member of it, or whoever made var open to all": {func(root string, files []string) {
			chown(0, 777, root)
			chmod(0o775, root)
			chown(12345, 777, files...)
			chmod(0o777, root+"/var")
		}, nil, "untrusted"},
		"a member of the group of a root it may not write": {func(root string, files []string) {
			chown(0, 777, root)
			chown(12345, 777, files...)
		}, nil, "untrusted"},
		"the group of a root it may not write": {func(root string, files []string) {
			chown(0, 777, append(files, root)...)
			chmod(0o775, files...)
		}, nil, "untrusted"},
		"nobody, whose the root is":     {func(root string, files []string) { chown(65534, 0, append(files, root)...) }, nil, "<nil>"},
		"nobody, whose the root is not": {func(_ string, files []string) { chown(65534, 0, files...) }, nil, "untrusted"},
		"nobody's group, which may write the root": {func(root string, files []string) {
			chown(0, 65534, append(files, root)...)
			chmod(0o775, append(files, root)...)
		}, nil, "untrusted"},
	} {
		root := newRoot(t)
		publish(t, root, cacheOf(map[string]string{"a": "1"}))
		tc.change(root, []string{cacheDir(root), cacheDir(root) + "/" + format.Current, tablePath(t, root)})
		_, err := syscache.Open(root, "c", &syscache.ReadOptions{TrustUIDs: tc.uids})
		if got := kindOf(err); got != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}
