package hashing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/internal/unix/unixtest"
)

// plant makes a root with files, whose contents are their paths. A path that
// ends in a slash is a directory; "a -> b" is a symbolic link.
func plant(t testing.TB, paths ...string) string {
	t.Helper()
	root := t.TempDir()
	check(t, os.Chmod(root, 0o755))
	for _, p := range paths {
		add(t, root, p)
	}
	return root
}

func add(t testing.TB, root, p string) {
	t.Helper()
	path, target, link := strings.Cut(p, " -> ")
	full := filepath.Join(root, path)
	check(t, os.MkdirAll(filepath.Dir(full), 0o755))
	switch {
	case link:
		check(t, os.Symlink(target, full))
	case strings.HasSuffix(path, "/"):
		check(t, os.MkdirAll(full, 0o755))
	default:
		check(t, os.WriteFile(full, []byte(path), 0o644))
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func scan(t testing.TB, s Scan) *Tree {
	t.Helper()
	tree, err := s.Run(t.Context())
	check(t, err)
	return tree
}

func paths(tree *Tree) (files, dirs []string) {
	for _, f := range tree.Files {
		files = append(files, f.Path)
	}
	for _, d := range tree.Dirs {
		dirs = append(dirs, d.Path)
	}
	return files, dirs
}

func words(s string) []string { return strings.Fields(s) }

func content(s string) Digest {
	d, err := Sum(strings.NewReader(s))
	if err != nil {
		panic(err)
	}
	return d
}

func TestScanPatterns(t *testing.T) {
	t.Parallel()
	root := plant(t, "top", "bin/tool", "bin/tool.py", "lib/a.py", "lib/.hidden/b.py", "lib/tests/c.py", "lib/x/tests/d.py", "lib/x/y/e.so",
		"lib/x/tests.py", "lib/empty/", "share/MANIFEST", "share/doc/f", "lib64 -> lib", "lib/link.py -> nowhere", "lib/dir.py -> x")
	for _, c := range []struct {
		include, exclude string
		files, dirs      string // "." for the root
	}{
		{"**", "lib/** share/**", "bin/tool bin/tool.py lib64 top", ". bin"},
		{"lib/**/*.py", "", "lib/.hidden/b.py lib/a.py lib/dir.py lib/link.py lib/tests/c.py lib/x/tests.py lib/x/tests/d.py", "lib lib/.hidden lib/empty lib/tests lib/x lib/x/tests lib/x/y"},
		{"lib/**/*.py", "**/tests/**", "lib/.hidden/b.py lib/a.py lib/dir.py lib/link.py lib/x/tests.py", "lib lib/.hidden lib/empty lib/x lib/x/y"},
		{"lib/**/*.py", "**/tests/*", "lib/.hidden/b.py lib/a.py lib/dir.py lib/link.py lib/x/tests.py", "lib lib/.hidden lib/empty lib/tests lib/x lib/x/tests lib/x/y"},
		{"lib/*/*.py", "**/tests lib/.hidden", "lib/.hidden/b.py lib/tests/c.py lib/x/tests.py", "lib lib/.hidden lib/empty lib/tests lib/x"},
		{"lib/*.py", "lib/a.*", "lib/dir.py lib/link.py", "lib"},
		{"*/*.py", "", "bin/tool.py lib/a.py lib/dir.py lib/link.py", ". bin lib share"},
		{"*/x/*/*", "", "lib/x/tests/d.py lib/x/y/e.so", ". bin lib/x lib/x/tests lib/x/y share"},
		// Without wild-cards: no directory is read, and none need be.
		{"share/MANIFEST", "", "share/MANIFEST", ""},
		{"share/MANIFEST bin/tool top", "", "bin/tool share/MANIFEST top", ""},
		{"share/MANIFEST", "share/**", "", ""},
		{`share/\MANIFEST`, "", "share/MANIFEST", ""},
		{"lib/link.py", "", "lib/link.py", ""},
		// What is not there is certified by the last directory that is.
		{"share/nothing", "", "", "share"},
		{"share/no/such/*", "", "", "share"},
		{"no/such/**", "", "", "."},
		{"top/**", "", "top", ""},
		{"top/x/**", "", "", "."},
		{"share/nothing share/MANIFEST", "", "share/MANIFEST", "share"},
		{strings.Repeat("n", 300) + "/x", "", "", "."},
		// A directory in both ways.
		{"share/MANIFEST share/*", "", "share/MANIFEST", "share"},
		{"lib/x/y/e.so lib/*", "", "lib/a.py lib/dir.py lib/link.py lib/x/y/e.so", "lib"},
		{"{bin,share/doc}/*", "", "bin/tool bin/tool.py share/doc/f", ". bin lib lib/.hidden lib/empty lib/tests lib/x lib/x/tests lib/x/y share share/doc"},
		{"", "", "", ""},
	} {
		t.Run(c.include+" - "+c.exclude, func(t *testing.T) {
			files, dirs := paths(scan(t, Scan{Root: root, Include: words(c.include), Exclude: words(c.exclude)}))
			if i := slices.Index(dirs, ""); i >= 0 {
				dirs[i] = "."
			}
			if d := cmp.Diff(words(c.files), files, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("files (-want +got):\n%s", d)
			}
			if d := cmp.Diff(words(c.dirs), dirs, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("directories (-want +got):\n%s", d)
			}
		})
	}
}

func TestScanRefusesPatterns(t *testing.T) {
	root := plant(t, "lib/a", "lib64 -> lib", "usr/lib64 -> ../lib")
	for _, c := range []struct {
		s    Scan
		want string
	}{
		{Scan{Include: []string{"a", "b//c"}}, `pattern "b//c": it has an empty`},
		{Scan{Include: []string{"a"}, Exclude: []string{"/b"}}, `pattern "/b": it is absolute`},
		{Scan{Include: []string{"lib64/**"}}, `pattern "lib64/**" goes through the symlink lib64; name the real path`},
		{Scan{Include: []string{"lib64/a"}}, "goes through the symlink lib64;"},
		{Scan{Include: []string{"usr/lib64/*"}}, "goes through the symlink usr/lib64;"},
		{Scan{Include: []string{"*", "usr/lib64/x"}}, "goes through the symlink usr/lib64;"},
		{Scan{Include: []string{"usr/*", "usr/lib64/x"}}, "goes through the symlink usr/lib64;"},
	} {
		c.s.Root = root
		_, err := c.s.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.s.Include, err, c.want)
		}
	}
	// Behind a wild-card a link is no mistake; it is just not followed.
	files, _ := paths(scan(t, Scan{Root: root, Include: []string{"*/lib64/**", "lib*"}}))
	if d := cmp.Diff([]string{"lib64", "usr/lib64"}, files); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	if _, err := (Scan{Root: root + "/none", Include: []string{"a"}}).Run(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a root that does not exist: %v", err)
	}
}

func access(t *testing.T, root, path string) Access {
	t.Helper()
	a, err := AccessOf(root, path)
	check(t, err)
	return a
}

// TestPassed: what is gone through, and does not count by its times, is told.
func TestPassed(t *testing.T) {
	root := plant(t, "a/b/c/f", "a/b/d/f", "x/y/f")
	check(t, os.Chmod(root+"/a/b", 0o711))
	for _, c := range []struct {
		include []string
		want    []string
	}{
		{[]string{"**"}, []string{""}}, // a/b is left out: others cannot list it
		{[]string{"a/b/c/f"}, []string{"", "a", "a/b", "a/b/c"}},
		{[]string{"a/b/c/*"}, []string{"", "a", "a/b"}},
		{[]string{"a/b/{c,d}/f", "x/*/f"}, []string{"", "a", "x/y"}}, // so it is here
		{[]string{"a/b/c/gone"}, []string{"", "a", "a/b"}},           // c counts: gone may come
	} {
		var got []string
		for _, p := range scan(t, Scan{Root: root, Include: c.include}).Passed {
			if p != access(t, root, p.Path) {
				t.Errorf("%q: %+v", c.include, p)
			}
			got = append(got, p.Path)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: passed %q, want %q", c.include, got, c.want)
		}
	}
}

func TestScanRecords(t *testing.T) {
	root := plant(t, "a", "l -> somewhere/else", "d/b")
	check(t, os.Chmod(root+"/a", os.ModeSetuid|0o755))
	tree := scan(t, Scan{Root: root, Include: []string{"**"}})
	id := func(path string) format.Identity {
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(root, path), &st))
		return format.IdentityOf(&st)
	}
	want := &Tree{
		Files: []File{
			{Input{"a", RegularFile, 0o4755, 1, content("a")}, id("a")},
			{Input{"d/b", RegularFile, 0o644, 3, content("d/b")}, id("d/b")},
			{Input{"l", Symlink, 0, 14, Target("somewhere/else")}, id("l")},
		},
		Dirs:   []Dir{{"", id("")}, {"d", id("d")}},
		Passed: []Access{access(t, root, "")},
		Hashed: 2, Bytes: 4,
	}
	if d := cmp.Diff(want, tree); d != "" {
		t.Errorf("tree (-want +got):\n%s", d)
	}
	m := &Manifest{Inputs: tree.Manifest()}
	check(t, m.Check())
	if len(m.Inputs) != 3 || m.Inputs[1] != tree.Files[1].Input {
		t.Errorf("Manifest = %v", m.Inputs)
	}
}

func TestScanTwiceIsTheSame(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 300 {
		names = append(names, fmt.Sprintf("d%d/e%d/f%d", i%7, i%31, i))
	}
	root := plant(t, names...)
	s := Scan{Root: root, Include: []string{"**"}, Workers: 1}
	first := scan(t, s)
	s.Workers = 8
	second := scan(t, s)
	if d := cmp.Diff(first, second); d != "" {
		t.Errorf("second scan (-first +second):\n%s", d)
	}
	s.Known = NewInventory(first)
	third := scan(t, s)
	if third.Hashed != 0 || third.Bytes != 0 || first.Hashed != 300 {
		t.Errorf("hashed %d files, then %d", first.Hashed, third.Hashed)
	}
	third.Hashed, third.Bytes = first.Hashed, first.Bytes
	if d := cmp.Diff(first, third); d != "" {
		t.Errorf("third scan, with an inventory (-first +third):\n%s", d)
	}
}

// TestTreeSort: a directory that is changed while it is listed may hand out a
// name twice, and a manifest may not have it twice.
func TestTreeSort(t *testing.T) {
	tree := &Tree{
		Files: []File{file("b", 1), file("a", 2), file("b", 1), file("a/b", 3), file("a-b", 4)},
		Left:  []Left{{"z", "why"}, {"y", "why"}, {"z", "why"}},
	}
	tree.sort()
	files, _ := paths(tree)
	if !slices.Equal(files, []string{"a", "a-b", "a/b", "b"}) || len(tree.Left) != 2 || tree.Left[0].Path != "y" {
		t.Errorf("files %q, left %v", files, tree.Left)
	}
}

func TestScanLeavesOut(t *testing.T) {
	root := plant(t, "file", "dir/", "secret", "closed/file", "unlisted/file", "unsearchable/file", "socket/", "no-group", "no-groups/file")
	check(t, unixtest.Mkfifo(root+"/fifo", 0o644))
	t.Chdir(root) // a socket's path has a limit
	l, err := net.Listen("unix", "socket/s")
	check(t, err)
	defer l.Close()
	check(t, os.Chmod("secret", 0o640))
	check(t, os.Chmod("closed", 0o750))
	check(t, os.Chmod("unlisted", 0o711))
	check(t, os.Chmod("unsearchable", 0o744))
	check(t, os.Chmod("no-group", 0o604))
	check(t, os.Chmod("no-groups", 0o705))
	want := []Left{
		{"closed", "not readable by everyone"},
		{"dir", "a directory; write dir/** for what is in it"},
		{"fifo", "a FIFO"},
		{"no-group", "not readable by everyone"},
		{"no-groups", "not readable by everyone"},
		{"secret", "not readable by everyone"},
		{"socket/s", "a socket"},
		{"unlisted", "not readable by everyone"},
		{"unsearchable", "not readable by everyone"},
	}
	done := make(chan *Tree, 1)
	go func() { done <- scan(t, Scan{Root: root, Include: []string{"**", "dir"}}) }()
	select {
	case tree := <-done:
		if d := cmp.Diff(want, tree.Left); d != "" {
			t.Errorf("left (-want +got):\n%s", d)
		}
		if files, _ := paths(tree); !slices.Equal(files, []string{"file"}) {
			t.Errorf("files: %q", files)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the scan blocks")
	}
	// Who knows a name needs no more than search permission.
	files, _ := paths(scan(t, Scan{Root: root, Include: []string{"unlisted/file", "unsearchable/file"}}))
	if !slices.Equal(files, []string{"unlisted/file"}) {
		t.Errorf("files: %q", files)
	}
	// What does not match is not told.
	if tree := scan(t, Scan{Root: root, Include: []string{"f*e", "soc*/x"}}); len(tree.Left) != 0 {
		t.Errorf("left: %v", tree.Left)
	}
}

func TestScanAudience(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root to give files away")
	}
	root := plant(t, "o", "g", "n", "other group", "other group o", "owner", "strange")
	modes := map[string]os.FileMode{"o": 0o604, "g": 0o640, "n": 0o600, "other group": 0o640, "other group o": 0o644, "owner": 0o400, "strange": 0o400}
	for name, mode := range modes {
		check(t, os.Chmod(root+"/"+name, mode))
		check(t, os.Chown(root+"/"+name, 1000, 2000))
	}
	check(t, os.Chown(root+"/other group", 1000, 2001))
	check(t, os.Chown(root+"/other group o", 1000, 2001))
	check(t, os.Chown(root+"/strange", 1001, 2000))
	check(t, os.Chown(root, 1000, 2000))
	for mode, want := range map[os.FileMode][]string{
		0o755: {"other group o"},      // members of 2000 cannot read "o"
		0o705: {"o", "other group o"}, // they are kept out
		0o750: {"g", "other group o"},
		0o700: {"g", "n", "o", "other group", "other group o", "owner"},
	} {
		check(t, os.Chmod(root, mode))
		tree := scan(t, Scan{Root: root, Include: []string{"**"}})
		files, _ := paths(tree)
		if d := cmp.Diff(want, files); d != "" {
			t.Errorf("root %v (-want +got):\n%s", mode, d)
		}
		if len(files)+len(tree.Left) != len(modes) {
			t.Errorf("root %v: left %v", mode, tree.Left)
		}
	}
	check(t, os.Chmod(root, 0o711))
	if tree := scan(t, Scan{Root: root, Include: []string{"**"}}); len(tree.Files) != 0 || len(tree.Left) != 1 || tree.Left[0].Path != "." {
		t.Errorf("root 0711: %v, left %v", tree.Files, tree.Left)
	}
	if tree := scan(t, Scan{Root: root, Include: []string{"other group o"}}); len(tree.Files) != 1 {
		t.Errorf("root 0711, by name: %v, left %v", tree.Files, tree.Left)
	}
}

func TestScanAvoids(t *testing.T) {
	root := plant(t, "file", "var/cache/syscache/c/current", "var/cache/x", "link -> var/cache/syscache")
	tree := scan(t, Scan{Root: root, Include: []string{"**", "var/cache/syscache/c/current"}, Avoid: []string{root + "/link", root + "/none"}})
	files, dirs := paths(tree)
	if d := cmp.Diff([]string{"file", "link", "var/cache/x"}, files); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"", "var", "var/cache"}, dirs); d != "" {
		t.Errorf("directories (-want +got):\n%s", d)
	}
}

func TestScanOddNames(t *testing.T) {
	names := []string{"\x01", " ", "*", "-rf", "[a]", "a\nb", "a\\b", "new\n", "é", "\xff", "\xff\xfe", strings.Repeat("x", 255)}
	root := plant(t)
	for _, n := range names {
		check(t, os.Mkdir(root+"/"+n, 0o755))
		check(t, os.WriteFile(root+"/"+n+"/"+n, []byte(n), 0o644))
	}
	tree := scan(t, Scan{Root: root, Include: []string{"**"}})
	slices.Sort(names)
	for i, n := range names {
		if i >= len(tree.Files) || tree.Files[i].Path != n+"/"+n || tree.Files[i].Digest != content(n) {
			t.Fatalf("%q is missing or wrong", n)
		}
	}
	m := &Manifest{Inputs: tree.Manifest()}
	got, err := DecodeManifest(m.Encode())
	check(t, err)
	if d := cmp.Diff(m, got); d != "" {
		t.Errorf("decoded (-want +got):\n%s", d)
	}
	files, _ := paths(scan(t, Scan{Root: root, Include: []string{`\*/*`, "?/\\*", "[é]/**"}}))
	if d := cmp.Diff([]string{"*/*", "é/é"}, files); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
}

// TestScanLeaksNothing: no descriptor stays open, however a scan ends.
func TestScanLeaksNothing(t *testing.T) {
	fds := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(list)
	}
	root := plant(t, "a/b/c/d", "a/b/e", "z -> a", "a/f")
	for i := range 200 {
		add(t, root, fmt.Sprintf("a/many/%d/file", i))
	}
	scan(t, Scan{Root: root, Include: []string{"**"}})
	before := fds()
	for i := range 20 {
		scan(t, Scan{Root: root, Include: []string{"**"}})
		Scan{Root: root, Include: []string{"**", "z/x"}}.Run(t.Context())
		var seen atomic.Int32
		ctx, cancel := context.WithCancel(t.Context())
		Scan{Root: root, Include: []string{"**"}, Workers: 1, hook: func(string, bool) {
			if seen.Add(1) == int32(5*i) {
				cancel()
			}
		}}.Run(ctx)
		cancel()
	}
	if after := fds(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func TestScanCancel(t *testing.T) {
	t.Parallel()
	root := plant(t, "huge")
	check(t, os.Truncate(root+"/huge", 1<<42))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := Scan{Root: root, Include: []string{"**"}}.Run(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("it took %v to stop", d)
	}
	for _, c := range []clock{{now: func() int64 { return 0 }, granularity: 1}, {}} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := (Scan{Root: root, Include: []string{"**"}, clock: c}).Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	}
}

func TestScanBigFile(t *testing.T) {
	root := plant(t)
	b := bytes.Repeat([]byte("0123456789abcdef"), 3*bufferSize/16+7)
	check(t, os.WriteFile(root+"/big", b, 0o644))
	want, err := Sum(bytes.NewReader(b))
	check(t, err)
	f := scan(t, Scan{Root: root, Include: []string{"big"}}).Files[0]
	if f.Digest != want || f.Size != uint64(len(b)) {
		t.Errorf("%d bytes, digest %v; want %d, %v", f.Size, f.Digest, len(b), want)
	}
}

// TestScanManyNames: a list of files is a pattern each. It must not take time
// in the square of their number.
func TestScanManyNames(t *testing.T) {
	root := plant(t, "d/99")
	include := make([]string, 100_000)
	for i := range include {
		include[i] = fmt.Sprintf("d/%d", i)
	}
	start := time.Now()
	files, dirs := paths(scan(t, Scan{Root: root, Include: include}))
	if !slices.Equal(files, []string{"d/99"}) || !slices.Equal(dirs, []string{"d"}) {
		t.Errorf("files %q, directories %q", files, dirs)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
}
