//go:build unix

package survey

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

// A change is what somebody does to a tree.
type change func(t *testing.T, root string)

// write writes files below the root: a path and a text, and so on.
func write(files ...string) change {
	return func(t *testing.T, root string) {
		t.Helper()
		for i := 0; i < len(files); i += 2 {
			full := root + "/" + files[i]
			if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(files[i+1]), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func both(changes ...change) change {
	return func(t *testing.T, root string) {
		t.Helper()
		for _, c := range changes {
			c(t, root)
		}
	}
}

func run(name string, args ...string) change {
	return func(t *testing.T, root string) {
		t.Helper()
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("skipped: no %s", name)
		}
		cmd := exec.Command(name, args...)
		cmd.Dir = root
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + root, "GIT_CONFIG_NOSYSTEM=1",
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a",
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
	}
}

const site = "lib/python3.11/site-packages/"

// TestKinds: what is proposed loads, refreshes and is fresh; the change that is
// said not to show does not, and the one that is said to show does.
func TestKinds(t *testing.T) {
	commit := both(run("git", "add", "-A"), run("git", "commit", "-qm", "x"))
	linked := both(write("../outside", "1"), func(t *testing.T, root string) {
		if err := os.Symlink("../outside", root+"/behind"); err != nil {
			t.Fatal(err)
		}
	})
	behind := write("../outside", "2")
	for name, tc := range map[string]struct {
		make    change
		caches  []string // "-" before one that is commented out
		witness []string
		hides   change
		shows   change
		says    string // what stands beside it
	}{
		"python": {
			write(site+"a/__init__.py", "", site+"a-1.dist-info/RECORD", ""),
			[]string{"python"},
			[]string{site},
			write(site+"a/__init__.py", "x = 1"),
			write(site+"b-1.dist-info/RECORD", ""),
			"an edit in place below a package",
		},
		"a real venv": {
			run("python3", "-m", "venv", "--without-pip", "."),
			[]string{"python"},
			nil,
			write("bin/x", ""),
			func(t *testing.T, root string) {
				sites, err := filepath.Glob(root + "/lib/python3*/site-packages")
				if err != nil || len(sites) != 1 {
					t.Fatal(sites, err)
				}
				write(strings.TrimPrefix(sites[0], root)+"/b-1.dist-info/RECORD", "")(t, root)
			},
			"Costs each reader: one stat",
		},
		"dist-packages": {
			write("usr/lib/python3/dist-packages/a.py", ""),
			[]string{"python"},
			[]string{"usr/lib/python3/dist-packages/"},
			write("usr/bin/x", ""),
			write("usr/lib/python3/dist-packages/a.py", "x = 1"),
			"an edit in place below a package",
		},
		"conda": {
			write(site+"a.py", "", "conda-meta/a-1.json", "{}", "conda-meta/history", "1"),
			[]string{"python"},
			[]string{"conda-meta/history", site},
			write("bin/x", ""),
			write("conda-meta/history", "2"),
			"every transaction of conda or mamba",
		},
		"conda without Python": {
			write("conda-meta/a-1.json", "{}", "conda-meta/history", "1"),
			[]string{"conda"},
			[]string{"conda-meta/history"},
			write("conda-meta/a-1.json", "{ }"),
			write("conda-meta/history", "2"),
			"an edit by anything else",
		},
		"Spack": {
			write("opt/spack/linux-zen3/zlib-1-abc/.spack/spec.json", "{}", "opt/spack/.spack-db/index.json", "1"),
			[]string{"spack"},
			[]string{"opt/spack/.spack-db/index.json"},
			write("opt/spack/linux-zen3/zlib-1-abc/.spack/spec.json", "{ }"),
			write("opt/spack/.spack-db/index.json", "2"),
			"without Spack",
		},
		"Spack's store": {
			write("linux/gcc/zlib-1-abc/.spack/spec.json", "{}", ".spack-db/index.json", "1"),
			[]string{"spack"},
			[]string{".spack-db/index.json"},
			write("linux/gcc/zlib-1-abc/lib/x", ""),
			write(".spack-db/index.json", "2"),
			"without Spack",
		},
		"dpkg": {
			write("var/lib/dpkg/status", "", "var/lib/dpkg/info/a.list", "/a\n", "a", ""),
			[]string{"dpkg"},
			[]string{"var/lib/dpkg/info/"},
			write("var/lib/dpkg/status", "1", "a", "1"),
			write("var/lib/dpkg/info/b.list", "/b\n"),
			"(var/lib/dpkg/status is not: it is rewritten after the hooks have run.)",
		},
		"a real git": {
			both(run("git", "init", "-q"), write("a", "1"), commit),
			[]string{"git"},
			[]string{".git/logs/HEAD"},
			write("a", "2"),
			commit,
			"an uncommitted edit",
		},
		"git without a log": {
			both(run("git", "init", "-q"), run("git", "config", "core.logAllRefUpdates", "false"), write("a", "1"), commit, linked),
			[]string{"git"},
			nil,
			behind,
			write("a", "2"),
			"a change behind a symbolic link",
		},
		"a repository elsewhere": {
			both(write(".git", "gitdir: /nowhere\n", "a", "1"), linked),
			[]string{"git"},
			nil,
			behind,
			write("a", "2"),
			"a change behind a symbolic link",
		},
		"Python in git": {
			both(run("git", "init", "-q"), write(site+"a.py", "1"), commit),
			[]string{"python", "-git"},
			[]string{site},
			write("README", ""),
			write(site+"b.py", ""),
			"Commented out: it would have the files of python once more",
		},
		"modulefiles": {
			both(write("modulefiles/gcc/12.lua", "whatis('')\n", "modulefiles/x", ""), linked),
			[]string{"modules"},
			nil,
			behind,
			write("modulefiles/gcc/13.lua", ""),
			"a change behind a symbolic link",
		},
		"a module tree": {
			write("Core/gcc/12.lua", "prepend_path('PATH', '/x')\n", "lua/5.4/x.lua", "return 1\n", "tcl/gcc/12", "#%Module1.0\n"),
			[]string{"modules"},
			nil,
			write("lua/5.4/x.lua", ""),
			write("tcl/gcc/12", "#%Module\n"),
			"a change behind a symbolic link",
		},
		"EasyBuild's": {
			write("modules/all/gcc/12.lua", "whatis()", "share/modulefiles/gcc/12.lua", "whatis()", "share/x", ""),
			[]string{"modules"},
			nil,
			write("share/y", ""),
			write("modules/all/gcc/13.lua", ""),
			"[cache.spider]",
		},
		"modulefiles of a system": {
			both(write("usr/share/modulefiles/gcc/12.lua", "whatis()", "opt/gcc/12.lua", "whatis()"), linked),
			[]string{"modules"},
			nil,
			write("opt/gcc/12.lua", ""),
			write("usr/share/modulefiles/gcc/13.lua", ""),
			"[cache.spider]",
		},
		"plain": {
			both(write("lib/a", "1"), linked),
			[]string{"files"},
			nil,
			behind,
			write("lib/a", "2"),
			"Costs each reader: 4 stats",
		},
		"a manifest": {
			write("lib/a", "1", "share/app/MANIFEST", "1"),
			[]string{"files"},
			[]string{"share/app/MANIFEST"},
			write("lib/a", "2"),
			write("share/app/MANIFEST", "2"),
			"an edit that leaves it alone",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir() + "/root"
			if err := os.Mkdir(root, 0o755); err != nil {
				t.Fatal(err)
			}
			tc.make(t, root)
			caches := proposed(t, root)
			var names []string
			for _, c := range caches {
				off := ""
				if c.Off != "" {
					off = "-"
				}
				names = append(names, off+c.Name)
			}
			if d := cmp.Diff(tc.caches, names); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if tc.witness != nil && !cmp.Equal(tc.witness, caches[0].Witness) {
				t.Errorf("witness %q, want %q", caches[0].Witness, tc.witness)
			}
			text := strings.ReplaceAll(string(Config(root, caches)), "\n# ", " ")
			if !strings.Contains(text, tc.says) {
				t.Errorf("it does not say %q:\n%s", tc.says, text)
			}
			refreshAll(t, root)
			if err := open(root, caches[0].Name); err != nil {
				t.Error(err)
			}
			tc.hides(t, root)
			if err := open(root, caches[0].Name); err != nil {
				t.Errorf("what is said not to show: %v", err)
			}
			tc.shows(t, root)
			if err := open(root, caches[0].Name); !errors.Is(err, syscache.ErrStale) {
				t.Errorf("what is said to show: %v", err)
			}
		})
	}
}

// proposed writes what is proposed for root as its configuration.
func proposed(t *testing.T, root string) []Cache {
	t.Helper()
	caches, err := Look(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := refresh.WriteConfig(root, Config(root, caches)); err != nil {
		t.Fatal(err)
	}
	return caches
}

func refreshAll(t *testing.T, root string) {
	t.Helper()
	in, err := refresh.Load(root, nil)
	if err != nil || in.Unconfigured() {
		t.Fatalf("load: %v", err)
	}
	for _, name := range in.Names() {
		if _, err := in.Refresh(context.Background(), name, nil); err != nil {
			t.Error(err)
		}
	}
}

func open(root, cache string) error {
	r, err := syscache.Open(root, cache, nil)
	if err != nil {
		return err
	}
	return r.Close()
}

func TestModuleTrees(t *testing.T) {
	root := t.TempDir()
	write("modules/all/gcc/12.lua", "whatis()", "modules/gcc/12.lua", "whatis()", "modulefiles/x", "", "Core/x", "")(t, root)
	tr, err := newTree(root)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"modulefiles", "modules/all"}, tr.moduleTrees()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestSketches: each sketch is right once it is uncommented.
func TestSketches(t *testing.T) {
	root := t.TempDir()
	both(write("mod ule's\"/x/1.lua", "whatis()", "modulefiles/x", ""), write(".git/HEAD", ""))(t, root)
	caches, err := Look(root)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(Config(root, caches))) {
		bare := strings.TrimPrefix(line, "# ")
		if strings.HasPrefix(bare, "[cache.") || strings.Contains(bare, " = ") && !strings.Contains(bare, "libexec/derive") {
			line = bare
		}
		lines = append(lines, line)
	}
	write("etc/syscache.toml", strings.Join(lines, ""))(t, root)
	in, err := refresh.Load(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"git", "modules", "spider"}, in.Names()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// hostile are names of directories that somebody may have made.
var hostile = []string{
	"python3\"\n[cache.evil]\ninputs = [\"**\"]\n#", "python3'", "python3{a,b}", "python3{", "python3*", "python3**", "python3[", "python3]", "python3\\",
	"python3\xff", "python3\u202e\u2028", "python3\t\x1b[2J", "python3\a\v", "python3\x7f", "python3 # x", "python3#", "python3$(x)", "python3\r",
}

// TestHostileNames: no name breaks out of a string or a comment, and each that
// can be named is found as itself, and nothing else.
func TestHostileNames(t *testing.T) {
	for _, name := range hostile {
		root := t.TempDir()
		module := "mod" + name
		write("lib/"+name+"/site-packages/a.py", "", module+"/x/1.lua", "whatis()", "lib/python3zz/x.py", "")(t, root)
		proposed(t, root)
		in, err := refresh.Load(root, nil)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		refreshAll(t, root)
		if name == "python3\xff" {
			if !cmp.Equal(in.Names(), []string{"files"}) {
				t.Errorf("%q: %q", name, in.Names())
			}
			continue
		}
		if d := cmp.Diff([]string{"modules", "python"}, in.Names()); d != "" {
			t.Errorf("%q: (-want +got):\n%s", name, d)
		}
		for cache, want := range map[string]string{"python": "lib/" + name + "/site-packages/a.py", "modules": module + "/x/1.lua"} {
			if got := keys(t, root, cache); !cmp.Equal(got, []string{want}) {
				t.Errorf("%q: %s has %q", name, cache, got)
			}
		}
	}
}

func keys(t *testing.T, root, cache string) (keys []string) {
	t.Helper()
	r, err := syscache.Open(root, cache, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for row, err := range r.Scan(nil) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, string(row.Key))
	}
	return keys
}

// TestHostileTrees: links are not followed, FIFOs not opened, and what others
// cannot look at is no witness.
func TestHostileTrees(t *testing.T) {
	const log = ".git/logs/HEAD"
	outside := t.TempDir()
	write(site+"a.py", "", "HEAD", "", "index.json", "", "MANIFEST", "")(t, outside)
	for name, tc := range map[string]struct {
		make func(root string) error
		want string
	}{
		"lib is a link":           {func(r string) error { return os.Symlink(outside+"/lib", r+"/lib") }, "files"},
		"site-packages is a link": {func(r string) error { return mkLink(outside+"/"+site, r+"/lib/python3.11/site-packages") }, "files"},
		"index is a link":         {func(r string) error { return mkLink(outside+"/index.json", r+"/.spack-db/index.json") }, "files"},
		"MANIFEST is a link":      {func(r string) error { return mkLink(outside+"/MANIFEST", r+"/MANIFEST") }, "files"},
		"MANIFEST is a FIFO":      {func(r string) error { return unix.Mkfifo(r+"/MANIFEST", 0o644) }, "files"},
		"share is a loop":         {func(r string) error { return os.Symlink("share", r+"/share") }, "files"},
		".git is a link":          {func(r string) error { return os.Symlink(outside, r+"/.git") }, "files"},
		"a private log": {func(r string) error {
			write(".git/HEAD", "", log, "")(t, r)
			return os.Chmod(r+"/.git", 0o700)
		}, "git"},
		"a modulefile is a FIFO": {func(r string) error {
			return errors.Join(os.Mkdir(r+"/m", 0o755), unix.Mkfifo(r+"/m/x.lua", 0o644))
		}, "files"},
		"a later file": {func(r string) error {
			write("VERSION", "")(t, r)
			return later(r)
		}, "files"},
	} {
		root := t.TempDir() + "/root"
		if err := errors.Join(os.Mkdir(root, 0o755), tc.make(root)); err != nil {
			t.Fatal(err)
		}
		caches := proposed(t, root)
		if len(caches) != 1 || caches[0].Name != tc.want || caches[0].Witness != nil {
			t.Errorf("%s: %+v", name, caches)
		}
		refreshAll(t, root)
	}
}

func mkLink(target, path string) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path))
}

// later makes a file that is later than all that is there, however coarse the
// clock is.
func later(root string) error {
	var first, now unix.Stat_t
	if err := unix.Lstat(root+"/VERSION", &first); err != nil {
		return err
	}
	for now.Ctim.Nano() <= first.Ctim.Nano() {
		if err := errors.Join(os.WriteFile(root+"/later", nil, 0o644), unix.Lstat(root+"/later", &now)); err != nil {
			return err
		}
	}
	return nil
}

// TestBounds: a tree that is too large is counted up to the bound, and what is
// said of it is "more than".
func TestBounds(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"a/", "b/", "c/"} {
		for i := range 10 {
			write(dir+strings.Repeat("x", i+1), "")(t, root)
		}
	}
	for files, more := range map[int]bool{5: true, 1000: false} {
		tr, err := newTree(root)
		if err != nil {
			t.Fatal(err)
		}
		tr.files = files
		if n := tr.walk("", nil, ignore); n.more != more || n.n < 5 || !more && n.n != 34 {
			t.Errorf("of %d: %+v", files, n)
		}
	}
	tr, err := newTree(root)
	if err != nil {
		t.Fatal(err)
	}
	if n := tr.walk("", []string{"a", "b/x"}, ignore); n != (count{n: 22}) {
		t.Errorf("without a and b/x: %+v", n)
	}
	tr.until = tr.until.Add(-maxTime)
	if c := plain(tr); !strings.HasPrefix(c.Costs, "more than ") || !strings.Contains(c.Costs, "Name fewer inputs") {
		t.Errorf("out of time: %s", c.Costs)
	}
}

// TestSlash: no cache that is active for / is derived from all of it.
func TestSlash(t *testing.T) {
	tr, err := newTree("/")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range tr.propose() {
		if c.whole() && c.Off == "" {
			t.Errorf("%+v", c)
		}
	}
	if tr.off(nil) == "" { // what is found in this / may hide it
		t.Error("a cache of all of / would be active")
	}
}
