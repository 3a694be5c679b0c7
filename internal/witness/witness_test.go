package witness

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/internal/unix/unixtest"
)

// newRoot returns a root with one of each type of witness.
func newRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(root+"/d/sub", 0o755),
		os.WriteFile(root+"/f", []byte("content"), 0o644),
		os.WriteFile(root+"/d/a", []byte("a"), 0o644),
		os.Symlink("a", root+"/d/l"),
		os.Symlink("f", root+"/l"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestCheck changes a root after a witness was observed. What the identity
// shows, a witness without one may not.
func TestCheck(t *testing.T) {
	write := func(path, text string) func(root string) error {
		return func(root string) error { return os.WriteFile(root+path, []byte(text), 0o644) }
	}
	remove := func(path string) func(root string) error {
		return func(root string) error { return os.RemoveAll(root + path) }
	}
	relink := func(path, target string) func(root string) error {
		return func(root string) error { return errors.Join(os.Remove(root+path), os.Symlink(target, root+path)) }
	}
	const changed, gone, another = " changed since the last refresh", " is gone", " is of another type than at the last refresh"
	for _, tc := range []struct {
		path   string
		change func(root string) error
		want   string // "" if it holds
	}{
		{"f", func(string) error { return nil }, ""},
		{"f", write("/f", "CONTENT"), "witness f" + changed},
		{"f", write("/f", "content"), ""}, // the same bytes: only the identity moved
		{"f", remove("/f"), "witness f" + gone},
		{"f", relink("/f", "d/a"), "witness f" + another},
		{"f", func(r string) error { return errors.Join(os.Remove(r+"/f"), unixtest.Mkfifo(r+"/f", 0o644)) }, "witness f" + another},
		{"f", write("/d/a", "A"), ""},
		{"d", func(string) error { return nil }, ""},
		{"d", write("/d/b", ""), "witness d" + changed},
		{"d", write("/d/a", "A"), "witness d" + changed},
		{"d", remove("/d/a"), "witness d" + changed},
		{"d", remove("/d/sub"), "witness d" + changed},
		{"d", relink("/d/l", "b"), "witness d" + changed},
		{"d", relink("/d/a", "a"), "witness d" + changed},
		{"d", func(r string) error { return os.Rename(r+"/d/a", r+"/d/A") }, "witness d" + changed},
		{"d", func(r string) error { return errors.Join(os.Remove(r+"/d/a"), unixtest.Mkfifo(r+"/d/a", 0o644)) }, "witness d" + changed},
		{"d", write("/d/sub/x", ""), ""}, // not below subdirectories: said in the documentation
		{"d", remove("/d"), "witness d" + gone},
		{"d", func(r string) error { return errors.Join(os.Rename(r+"/d", r+"/e"), os.Symlink("e", r+"/d")) }, "witness d" + another},
		{"l", func(string) error { return nil }, ""},
		{"l", relink("/l", "F"), "witness l" + changed},
		{"l", relink("/l", "f"), ""},
		{"l", write("/f", "CONTENT"), ""}, // the link, not what it leads to
		{"l", func(r string) error { return os.Rename(r+"/f", r+"/l") }, "witness l" + another},
		{"n", func(string) error { return nil }, ""},
		{"n", write("/n", ""), "witness n: it was absent at the last refresh and is there now"},
		{"n", func(r string) error { return os.Symlink("nowhere", r+"/n") }, "witness n: it was absent at the last refresh and is there now"},
		{"f/n", func(string) error { return nil }, ""}, // ENOTDIR
		{"d/n/m", func(r string) error { return os.MkdirAll(r+"/d/n/m", 0o755) }, "witness d/n/m: it was absent at the last refresh and is there now"},
	} {
		for _, identity := range []bool{true, false} {
			root := newRoot(t)
			w, err := Observe(root, tc.path)
			if err != nil {
				t.Fatal(err)
			}
			if !identity {
				w.Identity = [32]byte{}
			}
			if err := tc.change(root); err != nil {
				t.Fatal(err)
			}
			if err := Check(root, &w); tc.want == "" && err != nil || tc.want != "" && (err == nil || err.Error() != tc.want) {
				t.Errorf("%s, identity %v: %v, want %s", tc.path, identity, err, tc.want)
			}
		}
	}
}

// TestIdentityIsEnough: while the identity agrees, the content is not read.
func TestIdentityIsEnough(t *testing.T) {
	root := newRoot(t)
	for _, path := range []string{"f", "d", "l"} {
		w, err := Observe(root, path)
		if err != nil {
			t.Fatal(err)
		}
		w.Digest = [32]byte{1}
		if err := Check(root, &w); err != nil {
			t.Error(err)
		}
		w.Identity[0]++
		if err := Check(root, &w); err == nil {
			t.Errorf("%s: neither identity nor content agree, and it holds", path)
		}
	}
}

// TestBytes: identities and digests are FORMAT.md's, computed another way.
func TestBytes(t *testing.T) {
	root := newRoot(t)
	id := func(path string) (b []byte) {
		var st unix.Stat_t
		if err := unix.Lstat(root+path, &st); err != nil {
			t.Fatal(err)
		}
		for _, v := range []uint64{uint64(st.Size), uint64(st.Mtim.Nano()), uint64(st.Ctim.Nano()), st.Ino} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		return b
	}
	sum := func(parts ...[]byte) [32]byte {
		h := sha256.New()
		for _, p := range parts {
			h.Write(p)
		}
		return [32]byte(h.Sum(nil))
	}
	digest := func(s string) []byte { d := sum([]byte(s)); return d[:] }
	for path, want := range map[string]format.Witness{
		"f": {Type: format.WitnessFile, Identity: [32]byte(id("/f")), Digest: sum([]byte("content"))},
		"l": {Type: format.WitnessSymlink, Identity: [32]byte(id("/l")), Digest: sum([]byte("f"))},
		"n": {Type: format.WitnessAbsent},
		"d": {
			Type:     format.WitnessDir,
			Identity: sum(id("/d"), []byte("f\x01\x00a"), id("/d/a"), []byte("l\x01\x00l"), id("/d/l"), []byte("d\x03\x00sub"), id("/d/sub")),
			Digest:   sum([]byte("f\x01\x00a"), digest("a"), []byte("l\x01\x00l"), digest("a"), []byte("d\x03\x00sub"), make([]byte, 32)),
		},
	} {
		want.Path = path
		if got, err := Observe(root, path); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", path, got, err, want)
		}
	}
	if err := unixtest.Mkfifo(root+"/fifo", 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Observe(root, "fifo"); err == nil || !strings.Contains(err.Error(), "neither a file, a directory nor a symbolic link") {
		t.Error(err)
	}
}

// stats returns the stat section of paths, as they are now.
func stats(t *testing.T, root string, check bool, dir string, names ...string) format.Stats {
	t.Helper()
	id := func(path string) format.Identity {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		return format.IdentityOf(&st)
	}
	d := format.StatDir{Path: dir, Check: check}
	full := format.Join(root, dir)
	if check {
		d.ID = id(full)
	}
	for _, n := range names {
		d.Files = append(d.Files, format.StatFile{Name: n, ID: id(full + "/" + n)})
	}
	return format.EncodeStats([]format.StatDir{d})
}

func TestCheckStats(t *testing.T) {
	for _, tc := range []struct {
		check  bool
		dir    string
		names  []string
		change func(root string) error
		want   string
	}{
		{true, "d", []string{"a", "l"}, func(string) error { return nil }, ""},
		{true, "", []string{"f", "l"}, func(string) error { return nil }, ""},
		{true, "d", []string{"a"}, func(r string) error { return os.WriteFile(r+"/d/b", nil, 0o644) }, "directory d changed since the last refresh"},
		{false, "d", []string{"a"}, func(r string) error { return os.WriteFile(r+"/d/b", nil, 0o644) }, ""},
		{true, "d", []string{"a"}, func(r string) error { return os.WriteFile(r+"/d/a", []byte("b"), 0o644) }, "input d/a changed since the last refresh"},
		{true, "", []string{"f"}, func(r string) error { return os.WriteFile(r+"/f", []byte("b"), 0o644) }, "input f changed since the last refresh"},
		{false, "", []string{"f"}, func(r string) error { return os.Remove(r + "/f") }, "input f is gone"},
		{true, "", nil, func(r string) error { return os.Remove(r + "/f") }, "directory . changed since the last refresh"},
		{false, "d", []string{"a"}, func(r string) error { return os.RemoveAll(r + "/d") }, "directory d: no such file or directory"},
		// Files that were moved, with a link in the directory's place.
		{false, "d", []string{"a"}, func(r string) error { return errors.Join(os.Rename(r+"/d", r+"/e"), os.Symlink("e", r+"/d")) }, "directory d: not a directory"},
		{false, "d", []string{"a"}, func(r string) error { return errors.Join(os.Rename(r+"/d/a", r+"/x"), os.Symlink("../x", r+"/d/a")) }, "input d/a changed since the last refresh"},
	} {
		root := newRoot(t)
		s := stats(t, root, tc.check, tc.dir, tc.names...)
		if err := tc.change(root); err != nil {
			t.Fatal(err)
		}
		if err := CheckStats(root, s); tc.want == "" && err != nil || tc.want != "" && (err == nil || err.Error() != tc.want) {
			t.Errorf("%q %q: %v, want %s", tc.dir, tc.names, err, tc.want)
		}
	}

	root := newRoot(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	if err := CheckStats(link, stats(t, root, true, "", "f")); err != nil {
		t.Errorf("a root reached through a link: %v", err)
	}
	if err := CheckStats("/", stats(t, "/", false, root+"/d", "a")); err != nil {
		t.Errorf("an absolute directory: %v", err)
	}
	zero := format.EncodeStats([]format.StatDir{{Path: "d", Files: []format.StatFile{{Name: "a"}}}})
	if err := CheckStats(root, zero); !errors.Is(err, ErrUncertain) || !strings.HasPrefix(err.Error(), "input d/a has times") {
		t.Errorf("an identity of zeros: %v", err)
	}
	bad := stats(t, root, true, "d", "a")
	bad[9] ^= 1
	if err := CheckStats(root, bad); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("a damaged section: %v", err)
	}
	if before := fds(t); CheckStats(root, zero) == nil || CheckStats(root, bad) == nil || fds(t) != before {
		t.Error("descriptors are left open")
	}
}

// TestCheckStatsInParts: of a section in many parts, which are looked at side by
// side, each counts, and the first that does not hold is named.
func TestCheckStatsInParts(t *testing.T) {
	root := t.TempDir()
	const n = 600
	name := func(i int) string { return fmt.Sprintf("d%03d", i) }
	id := func(path string) format.Identity {
		var st unix.Stat_t
		if err := unix.Lstat(root+"/"+path, &st); err != nil {
			t.Fatal(err)
		}
		return format.IdentityOf(&st)
	}
	var dirs []format.StatDir
	for i := range n {
		d := format.StatDir{Path: name(i), Check: true}
		if err := os.Mkdir(root+"/"+d.Path, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"a", "b", "c"} {
			if err := os.WriteFile(root+"/"+d.Path+"/"+f, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			d.Files = append(d.Files, format.StatFile{Name: f, ID: id(d.Path + "/" + f)})
		}
		d.ID = id(d.Path)
		dirs = append(dirs, d)
	}
	whole := format.EncodeStats(dirs)
	if parts, err := whole.Parts(partSize); err != nil || len(parts) < 3 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	if err := CheckStats(root, whole); err != nil {
		t.Error(err)
	}
	for first := range n {
		second := (first + n/2) % n
		for _, i := range []int{first, second} {
			dirs[i].Files[2].ID.Inode++
		}
		want := "input " + name(min(first, second)) + "/c changed since the last refresh"
		if err := CheckStats(root, format.EncodeStats(dirs)); err == nil || err.Error() != want {
			t.Fatalf("%v, want %s", err, want)
		}
		for _, i := range []int{first, second} {
			dirs[i].Files[2].ID.Inode--
		}
	}
}

func fds(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("skipped: no /proc")
	}
	return len(list)
}
