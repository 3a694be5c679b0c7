//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// both runs a test under each package manager that is here.
func both(t *testing.T, test func(t *testing.T, m *manager)) {
	for _, m := range []*manager{dpkg, rpm} {
		t.Run(m.kind, func(t *testing.T) {
			require(t, m.needs...)
			test(t, m)
		})
	}
}

// Without a declaration the package does nothing and says nothing.
func TestToolAlone(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		r := newBareRoot(t, m)
		r.install(t, m.tool(t, "1.0"))
		if _, err := os.Lstat(r.path("var/cache/syscache")); err == nil {
			t.Error("there is a cache_dir")
		}
		r.remove(t, "syscache")
		r.wantNothingOfOurs(t)
	})
}

func TestToolThenPayload(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		r := newBareRoot(t, m)
		r.install(t, m.tool(t, "1.0"))
		r.declare(t)
		r.install(t, m.demo(t, "1"))
		r.wantFresh(t, version1)
	})
}

func TestPayloadThenTool(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		r := newRoot(t, m)
		r.install(t, m.demo(t, "1"))
		r.wantStale(t)
		r.install(t, m.tool(t, "1.0"))
		r.wantFresh(t, version1)
	})
}

func TestOneTransaction(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		for _, packages := range [][]string{
			{m.tool(t, "1.0"), m.demo(t, "1")},
			{m.demo(t, "1"), m.tool(t, "1.0")},
		} {
			r := newRoot(t, m)
			r.install(t, packages...)
			r.wantFresh(t, version1)
		}
	})
}

func TestUpgradeDowngradeReinstall(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		r := newBareRoot(t, m)
		r.install(t, m.tool(t, "1.0"))
		r.declare(t)
		r.install(t, m.demo(t, "1"))
		before := r.witness(t)
		r.install(t, m.demo(t, "2"))
		r.wantFresh(t, version2)
		// The hardest upgrade to notice: a witness that looks the same.
		if after := r.witness(t); before != after {
			t.Errorf("the payload's witness has other size and time: %s, then %s", before, after)
		}
		r.install(t, m.demo(t, "1"))
		r.wantFresh(t, version1)
		r.install(t, m.demo(t, "1"))
		r.wantFresh(t, version1)
	})
}

// witness returns the size and time of demo's witness.
func (r *root) witness(t *testing.T) string {
	fi, err := os.Stat(r.path("opt/demo/MANIFEST"))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(fi.Size(), fi.ModTime())
}

// The declaration is the administrator's here, so it stays when the payload
// goes: its command is gone, which the hook tells in one line, and the cache of
// files is of none.
func TestRemovePayload(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		r := newRoot(t, m)
		r.install(t, m.tool(t, "1.0"), m.demo(t, "2"))
		r.wantFresh(t, version2)
		r.remove(t, "demo") // and with it its declaration: nothing to tell
		r.wantStaleCache(t, "demo")
		if out, code := r.read(t, "get", "demo-files", "opt/demo/plugins/alpha"); out != "" || code != 3 {
			t.Errorf("get demo-files alpha: %q, exit %d; want no such row", out, code)
		}
		r.install(t, m.demo(t, "1"))
		r.wantFresh(t, version1)
	})
}

// wantLines checks what hooks said of the cache demo: a line for each refresh.
func (r *root) wantLines(t *testing.T, stderr string, refreshes int) {
	t.Helper()
	n := 0
	for line := range strings.Lines(stderr) {
		if n++; !strings.HasPrefix(line, "syscache: build demo: ") && !strings.HasPrefix(line, "syscache: refresh demo: ") {
			t.Errorf("stderr: %s", line)
		}
	}
	if n != refreshes {
		t.Errorf("%d lines on stderr from %d refreshes:\n%s", n, refreshes, stderr)
	}
}

// No hook runs: readers notice by themselves, until one does.
func TestWithoutHooks(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		r := newBareRoot(t, m)
		r.install(t, m.tool(t, "1.0"))
		r.declare(t)
		r.install(t, m.demo(t, "1"))
		r.run(t, m.withoutHooks(r, m.demo(t, "2")))
		r.wantStale(t)
		r.install(t, m.plugin(t, "p01")) // the next hook heals
		r.wantFresh(t, version2)

		r.run(t, m.withoutHooks(r, m.demo(t, "1")))
		r.wantStale(t)
		r.refresh(t) // and so does a refresh
		r.wantFresh(t, version1)

		r.run(t, m.withoutHooks(r, m.plugin(t, "p02")))
		r.wantStale(t)
	})
}

// A builder that fails fails no transaction.
func TestBuilderFails(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		r := newRoot(t, m)
		r.install(t, m.tool(t, "1.0"), m.demo(t, "1"))
		// rpm: demo came and went, as far as file triggers are concerned.
		r.wantLines(t, r.exec(t, condition{}, m.install(r, m.demo(t, "3"))), map[string]int{"deb": 1, "rpm": 4}[m.kind])
		r.wantStaleCache(t, "demo")
		if s := r.state(t, "demo-files"); s != fresh {
			t.Errorf("the other cache is %v, too", s)
		}
		if m == dpkg {
			r.wantInstalled(t, "syscache", "demo")
		}
		r.install(t, m.demo(t, "2"))
		r.wantFresh(t, version2)
	})
}

// The manager's own programs are found, but where they are is not known in the
// chroot; nor is anything else that the hooks might be tempted to rely on.
func TestUmaskAndEmptyPath(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		path := filepath.Join(tempDir(t), "only-these")
		for _, name := range []string{"dpkg", "dpkg-deb", "dpkg-split", "tar", "rm", "rpm", "chroot"} {
			if program, err := exec.LookPath(name); err == nil {
				write(t, path+"/.keep", "")
				if err := os.Symlink(program, filepath.Join(path, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, umask := range []string{"077", "000"} {
			c := condition{umask: umask, env: []string{
				"PATH=" + path, "SYSCACHE_ROOT=/nonexistent", "SYSCACHE_CACHE_DIR=/nonexistent", "TMPDIR=/nonexistent",
			}}
			r := newRoot(t, m)
			do := func(argv []string) {
				t.Helper()
				if m == dpkg { // which has its own idea of a good PATH
					argv = slices.Insert(argv, 1, "--force-bad-path")
				}
				r.exec(t, c, argv)
			}
			do(m.install(r, m.tool(t, "1.0"), m.demo(t, "1")))
			r.wantFresh(t, version1)
			do(m.install(r, m.demo(t, "2")))
			r.wantFresh(t, version2)
			do(m.remove(r, "syscache"))
			r.wantNothingOfOurs(t)
		}
	})
}

// What no package declares is refreshed too, when the command comes.
func TestInstallWithoutPackages(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		r := newBareRoot(t, m)
		write(t, r.path("etc/syscache.toml"), "[cache.local]\ninputs = [\"opt/local/**\"]\n")
		write(t, r.path("opt/local/file"), "")
		r.install(t, m.tool(t, "1.0"))
		if _, code := r.read(t, "get", "local", "opt/local/file"); code != 0 {
			t.Errorf("get exits %d", code)
		}
	})
}

// The new version of the command refreshes what came in the same transaction,
// and what was there before.
func TestToolUpgrade(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		r := newRoot(t, m)
		r.install(t, m.tool(t, "1.0"), m.demo(t, "1"))
		r.install(t, m.tool(t, "1.1"), m.demo(t, "2"))
		r.wantFresh(t, version2)
		before := r.cacheDir(t)
		r.wantRefreshed(t, func() { r.install(t, m.tool(t, "1.0")) })
		if !os.SameFile(before, r.cacheDir(t)) {
			t.Error("the cache_dir was made anew")
		}
		r.install(t, m.demo(t, "1"))
		r.wantFresh(t, version1)
	})
}

func (r *root) cacheDir(t *testing.T) os.FileInfo {
	t.Helper()
	fi, err := os.Stat(r.path("var/cache/syscache"))
	if err != nil {
		t.Fatal(err)
	}
	return fi
}

func TestRemoveTool(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		r := newRoot(t, m)
		r.install(t, m.tool(t, "1.0"), m.demo(t, "1"))
		r.remove(t, "syscache")
		r.wantNothingOfOurs(t)
		r.wantStale(t)
		// The payload does not need it.
		r.install(t, m.demo(t, "2"))
		r.wantStale(t)
		r.install(t, m.tool(t, "1.0"))
		r.wantFresh(t, version2)
		r.remove(t, "syscache", "demo")
		r.wantNothingOfOurs(t)
		if _, err := os.Lstat(r.path("usr/lib/syscache.d")); err == nil {
			t.Error("usr/lib/syscache.d is left")
		}
	})
}

// A package that registers nothing but ships a declaration sets off a refresh
// when it comes and when it goes. One beside the directory does not.
func TestDeclarationsAreWatched(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		r := newRoot(t, m)
		r.install(t, m.tool(t, "1.0"), m.demo(t, "1"))
		for i, dir := range []string{"/usr/lib/syscache.d", "/etc/syscache.d"} {
			name := fmt.Sprint("declaration", i)
			r.wantRefreshed(t, func() { r.install(t, m.files(t, name, dir+"/"+name+".toml")) })
			r.wantRefreshed(t, func() { r.remove(t, name) })
		}
		must(t, exec.Command(r.command, "--root", r.dir, "invalidate"))
		r.install(t, m.files(t, "neighbour", "/usr/lib/syscache.d-not/x.toml"))
		r.wantStale(t)
	})
}

// One refresh serves a transaction of twenty packages.
func TestTwentyPackages(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		require(t, "strace")
		var packages, names []string
		for i := range 20 {
			name := fmt.Sprintf("p%02d", i)
			packages = append(packages, m.plugin(t, name))
			names = append(names, "demo-plugin-"+name)
		}
		r := newRoot(t, m)
		// dpkg: configures the command, then demo, which activates the trigger
		// again. rpm: the command's %posttrans, its file trigger, and demo's.
		first := map[string]int{"deb": 2, "rpm": 3}[m.kind]
		all := append([]string{m.tool(t, "1.0"), m.demo(t, "1")}, packages...)
		r.wantRuns(t, "install the command, demo and 20 plugins", m.install(r, all...), first, 1)
		r.wantFresh(t, version1)
		r.wantRuns(t, "remove 20 plugins", m.remove(r, names...), 1, 1)
		r.wantFresh(t, version1)
		// The generation that had them is still there.
		r.wantRuns(t, "install 20 plugins", m.install(r, packages...), 1, 0)
		r.wantFresh(t, version1)
		// rpm: file triggers of what came and of what went, of the command and of
		// demo. Nothing tells one script that the other runs too.
		upgrade := map[string]int{"deb": 1, "rpm": 4}[m.kind]
		r.wantRuns(t, "upgrade demo", m.install(r, m.demo(t, "2")), upgrade, 1)
		r.wantFresh(t, version2)
	})
}

// wantRuns runs argv and counts how often it runs refresh, which may be less
// often with another version of the manager, and how often that runs demo's
// builder.
func (r *root) wantRuns(t *testing.T, what string, argv []string, refreshes, builds int) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	r.run(t, append([]string{"strace", "-f", "-qq", "-z", "-e", "trace=execve", "-e", "signal=none", "-s", "200", "-o", trace}, argv...))
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	gotRefreshes := len(regexp.MustCompile(`bin/syscache", \[.*"refresh", "--hook"`).FindAll(b, -1))
	gotBuilds := strings.Count(string(b), `libexec/build-index", [`)
	t.Logf("%s: %d refreshes, %d builds", what, gotRefreshes, gotBuilds)
	if gotRefreshes < 1 || gotRefreshes > refreshes || gotBuilds != builds {
		t.Errorf("%s: %d refreshes and %d builds, want %d and %d", what, gotRefreshes, gotBuilds, refreshes, builds)
	}
}

// The same source gives the same package, whoever builds it where.
func TestReproducible(t *testing.T) {
	both(t, func(t *testing.T, m *manager) {
		build := func(umask, zone string) []byte {
			dir := t.TempDir()
			script := exec.Command("/bin/sh", "-c", "umask "+umask+`; exec "$@"`, "sh", "../"+m.kind+"/build", dir)
			script.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+epoch, "VERSION=1.0", "TZ="+zone, "TMPDIR="+t.TempDir())
			b, err := os.ReadFile(strings.TrimSpace(must(t, script)))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		if a, b := build("022", "UTC"), build("077", "Asia/Tokyo"); !slices.Equal(a, b) {
			t.Error("two builds differ")
		}
	})
}

// The README's example is the one that is tested.
func TestReadmeExample(t *testing.T) {
	readme := read(t, "../README.md")
	declaration := read(t, "demo/common/usr/lib/syscache.d/demo.toml")
	if !strings.Contains(readme, "```toml\n"+declaration+"```") {
		t.Error("README.md and demo.toml differ")
	}
	spec := read(t, "demo/demo.spec")
	var triggers strings.Builder
	for line := range strings.Lines(spec[strings.Index(spec, "%transfiletriggerin"):]) {
		switch {
		case line == "\n":
			triggers.WriteString(line)
		case line[0] != '#':
			triggers.WriteString("    " + line)
		}
	}
	if !strings.Contains(readme, triggers.String()) {
		t.Errorf("README.md does not have demo.spec's triggers:\n%s", triggers.String())
	}
	const activate = "activate-noawait syscache-refresh"
	for _, text := range []string{readme, read(t, "demo/build")} {
		if !strings.Contains(text, activate) {
			t.Errorf("README.md or demo/build lacks %q", activate)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
