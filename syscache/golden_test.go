package syscache_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/syscache/syscache/syscache"
)

type vector struct {
	Case  string
	Cache string
	Kind  string
	Get   [][2][]byte
	Files map[string][]byte
	Error *string
}

// TestGolden reads every case of testdata/format with both readers.
func TestGolden(t *testing.T) {
	const dir = "../testdata/format/"
	text, err := os.ReadFile(dir + "cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) < 40 {
		t.Errorf("%d cases", len(list))
	}
	py := newPython(t)
	for _, v := range list {
		root := filepath.Join(t.TempDir(), v.Case)
		copyExact(t, dir+v.Case, root)
		q := question{Root: root, Cache: v.Cache, Scan: v.Kind == "table"}
		for _, g := range v.Get {
			q.Get = append(q.Get, g[0])
		}
		for name, a := range map[string]answer{"unmapped": ask(q, false), "mapped": ask(q, true), "Python": py.ask(q)} {
			if d := v.differs(a); d != "" {
				t.Errorf("%s, %s:\n%s", v.Case, name, d)
			}
		}
		if v.Kind == "files" {
			r, err := syscache.Open(root, v.Cache, nil)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(v.Files, filesBelow(t, r.Dir())); d != "" {
				t.Errorf("%s (-want +got):\n%s", v.Case, d)
			}
		}
	}
}

// differs compares an answer with what is expected.
func (v *vector) differs(a answer) string {
	if v.Error != nil && (len(v.Get) == 0 || a.Open != "ok") {
		return cmp.Diff(*v.Error, a.Open)
	}
	want := []string(nil)
	for _, g := range v.Get {
		switch {
		case v.Error != nil:
			want = append(want, *v.Error)
		case g[1] == nil:
			want = append(want, "not found")
		default:
			want = append(want, value(g[1]))
		}
	}
	if v.Error == nil && v.Kind == "table" && a.Scan != "ok" {
		return "scan: " + a.Scan
	}
	return cmp.Diff(append([]string{"ok"}, want...), append([]string{a.Open}, a.Get...))
}

// copyExact copies a tree with the modes that a refresher gives.
func copyExact(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type() == fs.ModeSymlink {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if fi.Mode()&0o100 != 0 {
			mode = 0o755
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func filesBelow(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel := path[len(dir)+1:]
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			all[rel] = []byte(target)
			return err
		}
		all[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
