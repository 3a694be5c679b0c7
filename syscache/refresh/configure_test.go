package refresh

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix/unixtest"
)

const someConfig = "[cache.c]\ninputs = [\"share/**\"]\n"

// TestWriteConfigUmask: what is written loads, and the umask decides no mode.
func TestWriteConfigUmask(t *testing.T) {
	for _, umask := range []int{0, 0o077} {
		root := newRoot(t)
		old := unixtest.Umask(umask)
		file, err := WriteConfig(root, []byte(someConfig))
		unixtest.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]os.FileMode{file: 0o644, filepath.Dir(file): 0o755 | os.ModeDir} {
			if fi, err := os.Lstat(path); err != nil || fi.Mode() != want {
				t.Errorf("umask %04o: %s: %v, %v, want %v", umask, path, fi.Mode(), err, want)
			}
		}
		if in, err := Load(root, nil); err != nil || in.Names()[0] != "c" {
			t.Error(err)
		}
		if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 1 {
			t.Errorf("left beside it: %v, %v", entries, err)
		}
	}
}

// TestWriteConfigRefuses: whatever is there already stays as it is, and what
// its reader would refuse is not written.
func TestWriteConfigRefuses(t *testing.T) {
	const already = "is configured already"
	for name, tc := range map[string]struct {
		make func(root string) error
		want string // "" for none
	}{
		"a file":      {func(r string) error { return put(r, "etc/syscache.toml", "") }, already},
		"a drop-in":   {func(r string) error { return put(r, "etc/syscache.d/a.toml", someConfig) }, already},
		"a package's": {func(r string) error { return put(r, "usr/lib/syscache.d/a.toml", someConfig) }, already},
		"a masked drop-in": {func(r string) error {
			return errors.Join(put(r, "usr/lib/syscache.d/a.toml", someConfig), put(r, "etc/syscache.d/a.toml", ""))
		}, ""},
		"a link to /dev/null": {func(r string) error {
			return errors.Join(put(r, "etc/syscache.d/x", ""), os.Symlink("/dev/null", r+"/etc/syscache.d/a.toml"))
		}, ""},
		"only comments": {func(r string) error { return put(r, "etc/syscache.d/a.toml", "# x\n") }, ""},
		"a bad drop-in": {func(r string) error { return put(r, "etc/syscache.d/a.toml", "x = 1\n") }, `a.toml:1:5: unknown key "x"`},
		"another file":  {func(r string) error { return put(r, "etc/syscache.d/README", "x") }, ""},
		"a dangling link": {func(r string) error {
			return errors.Join(os.Mkdir(r+"/etc", 0o755), os.Symlink("/nowhere", r+"/etc/syscache.toml"))
		}, already},
		"a FIFO": {func(r string) error {
			return errors.Join(os.Mkdir(r+"/etc", 0o755), unixtest.Mkfifo(r+"/etc/syscache.toml", 0o644))
		}, already},
		"etc is a link":      {func(r string) error { return os.Symlink(filepath.Dir(r), r+"/etc") }, "is not a directory"},
		"etc is a file":      {func(r string) error { return put(r, "etc", "") }, "is not a directory"},
		"etc is everybody's": {func(r string) error { return errors.Join(os.Mkdir(r+"/etc", 0o755), os.Chmod(r+"/etc", 0o777)) }, "everyone can write"},
		"the root is":        {func(r string) error { return os.Chmod(r, 0o777) }, "everyone can write it"},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			if err := tc.make(root); err != nil {
				t.Fatal(err)
			}
			before := tree(t, root)
			_, err := WriteConfig(root, []byte(someConfig))
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %s", err, tc.want)
			}
			for path, st := range tree(t, root) {
				if before[path] != st {
					t.Errorf("%s was touched", path)
				}
			}
		})
	}
}

func put(root, path, text string) error {
	full := root + "/" + path
	return errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(text), 0o644))
}

// TestWriteConfigRace: of many at once one writes, and the others say so.
func TestWriteConfigRace(t *testing.T) {
	root := newRoot(t)
	var wins sync.Map
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			text := someConfig + strings.Repeat("#", i)
			if _, err := WriteConfig(root, []byte(text)); err == nil {
				wins.Store(text, true)
			} else if !strings.Contains(err.Error(), "is configured already") {
				t.Error(err)
			}
		})
	}
	all.Wait()
	text, err := os.ReadFile(root + "/" + format.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	wins.Range(func(won, _ any) bool {
		if n++; won != string(text) {
			t.Error("one was overwritten")
		}
		return true
	})
	if n != 1 {
		t.Errorf("%d wrote it", n)
	}
}

// TestWriteConfigFails: whichever operation fails, the file is whole or not
// there, and what stood beside it is gone.
func TestWriteConfigFails(t *testing.T) {
	for fail := 0; ; fail++ {
		root := newRoot(t)
		d := failing(fail, syscall.EIO)
		in := &Install{disk: d}
		if err := in.locate(root, ""); err != nil {
			t.Fatal(err)
		}
		_, err := in.writeConfig([]byte(someConfig))
		if text, e := os.ReadFile(root + "/" + format.ConfigFile); e == nil && string(text) != someConfig {
			t.Errorf("operation %d: torn: %q", fail, text)
		}
		op := ""
		if fail < len(d.ops) {
			op = d.ops[fail]
		}
		if op == "" {
			want := []string{"mkdir", "syncdir", "create", "write", "fchmod", "sync", "close", "link", "remove", "syncdir"}
			if d := cmp.Diff(want, d.ops); err != nil || d != "" {
				t.Errorf("%v (-want +got):\n%s", err, d)
			}
			return
		}
		if err == nil {
			t.Errorf("operation %d, %s, failed, and nobody was told", fail, op)
		}
		if entries, _ := os.ReadDir(root + "/etc"); op != "remove" && (len(entries) > 1 || len(entries) == 1 && entries[0].Name() != "syscache.toml") {
			t.Errorf("operation %d, %s: left %v", fail, op, entries)
		}
	}
}
