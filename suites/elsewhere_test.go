//go:build linux

package suites

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A cache_dir on another file system than its root, either way round, and TMPDIR
// on a third: nothing is moved from one to another, as it was in the bug that
// began all this (trac 13826): a rename would fail with EXDEV, a copy be seen.
func TestCacheDirElsewhere(t *testing.T) {
	slow(t)
	needs(t, "mkfs.xfs")
	ext4, xfs, tmp := onDisk("mkfs.ext4", "-q")(t), onDisk("mkfs.xfs", "-q")(t), mounted(t, "-t", "tmpfs", "tmpfs")
	for _, c := range []struct{ root, caches string }{{ext4, xfs}, {xfs, ext4}, {ext4, tmp}} {
		r := newRootIn(t, c.root, alice)
		r.fill()
		r.build(lines)
		r.write("etc/syscache.d/files.toml", "[cache.f]\nkind = \"files\"\ninputs = [\"lib/**\"]\nlatest = true\nbuild = [\"/bin/sh\", \"-c\", \"cp -r lib \\\"$SYSCACHE_OUT\\\"\"]\n"+
			"env = { PATH = \"/usr/bin:/bin\" }\n")
		caches, err := os.MkdirTemp(c.caches, "caches-")
		r.must(err)
		r.must(os.Chmod(caches, 0o755))
		r.must(os.Chown(caches, alice.uid, alice.uid))
		for _, content := range []string{"first\n", "second\n"} {
			r.write("lib/one", content)
			cmd := as(admin, "/usr/bin/strace", "-f", "-qq", "-y", "-o", r.side+"/trace", "-e", "trace=rename,renameat,renameat2,link,linkat,openat",
				tool, "--root", r.dir, "--cache-dir", caches, "refresh")
			cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
			if o := run(t, cmd); o.code != 0 {
				t.Fatalf("%v", o)
			}
			for line := range strings.Lines(r.readFile(r.side + "/trace")) {
				if strings.Contains(line, "EXDEV") || strings.Contains(line, "O_CREAT") && !strings.Contains(line, caches) && !strings.Contains(line, r.side+"/log") && !strings.Contains(line, "/dev/null") {
					t.Errorf("outside of the cache_dir: %s", line)
				}
			}
			everybody(t, []user{admin, bob}, func(t *testing.T, u user, how reader) {
				for _, one := range []struct{ args, want string }{
					{"get c lib/one", "\"" + strings.TrimSpace(content) + "\"\n"},
					{"list f", "lib/link\nlib/one\nlib/sub/three\nlib/two\n"},
				} {
					if o := r.read(u, how, append([]string{"--cache-dir", caches}, strings.Fields(one.args)...)...); o.stdout != one.want {
						t.Errorf("%s (%s): %s: %v", u.name, how.name, one.args, o)
					}
				}
			})
		}
		if _, err := os.Lstat(r.dir + "/var"); !os.IsNotExist(err) {
			t.Errorf("something was left in the root: %v", err)
		}
	}
}

// What is mounted inside of the inputs is left out, and told: another disk, and
// a subvolume of btrfs. Readers notice what is mounted over an input.
func TestMountedInputs(t *testing.T) {
	for name, mount := range map[string]func(t *testing.T, r *root){
		"tmpfs": func(t *testing.T, r *root) {
			r.mkdir(r.dir + "/lib/mounted")
			mustRun(t, "mount", "-t", "tmpfs", "tmpfs", r.dir+"/lib/mounted")
			t.Cleanup(func() { unmount(r.dir + "/lib/mounted") })
		},
		"a subvolume": func(t *testing.T, r *root) {
			mustRun(t, "btrfs", "subvolume", "create", r.dir+"/lib/mounted")
		},
	} {
		t.Run(name, func(t *testing.T) {
			if name != "tmpfs" {
				slow(t)
				needs(t, "mkfs.btrfs")
				on(t, onDisk("mkfs.btrfs", "-q")(t))
			}
			r := newLines(t, admin)
			mount(t, r)
			r.write("lib/mounted/more", "more\n")
			o := run(t, as(admin, r.syscache("refresh", "--json")...))
			if got := r.succeeded(o); got.Inputs != 4 || !strings.Contains(o.stderr, `left out \"lib/mounted\": on another file system`) {
				t.Errorf("%v", o)
			}
			if o := r.read(bob, goReader, "get", "c", "lib/one"); o.code != 0 {
				t.Errorf("%v", o)
			}
			mustRun(t, "mount", "-t", "tmpfs", "tmpfs", r.dir+"/lib/sub")
			t.Cleanup(func() { unmount(r.dir + "/lib/sub") })
			r.misses(bob)
		})
	}
}

// A snapshot of btrfs is another subvolume with the same inodes and times. Where
// the install is rolled back to one and the cache is not, the cache is stale.
func TestSnapshot(t *testing.T) {
	slow(t)
	needs(t, "mkfs.btrfs")
	top := onDisk("mkfs.btrfs", "-q")(t)
	on(t, top)
	r := newLines(t, admin)
	mustRun(t, "btrfs", "subvolume", "create", r.dir+".new")
	mustRun(t, "cp", "-a", "--", r.dir+"/.", r.dir+".new")
	r.must(os.Rename(r.dir, r.dir+".plain"))
	r.must(os.Rename(r.dir+".new", r.dir))
	caches := filepath.Dir(r.dir) + "/caches"
	r.must(os.Mkdir(caches, 0o755))
	elsewhere := []string{"--cache-dir", caches}
	get := func(args ...string) map[string]bool {
		t.Helper()
		said := map[string]bool{}
		everybody(t, []user{admin, bob}, func(_ *testing.T, u user, how reader) {
			said[r.read(u, how, append(args, "get", "c", "lib/one")...).stdout] = true
		})
		return said
	}
	r.refresh()
	mustRun(t, "btrfs", "subvolume", "snapshot", r.dir, r.dir+".snapshot")
	r.rewrite("lib/one", "9999\n")
	r.refresh()
	if o := run(t, as(admin, r.syscache(append(elsewhere, "refresh")...)...)); o.code != 0 {
		t.Fatal(o)
	}
	r.must(os.Rename(r.dir, r.dir+".later"))
	r.must(os.Rename(r.dir+".snapshot", r.dir))
	if diff := cmp.Diff(map[string]bool{"\"1111\"\n": true}, get()); diff != "" {
		t.Errorf("its own cache was rolled back with it:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]bool{"": true}, get(elsewhere...)); diff != "" {
		t.Errorf("the cache elsewhere was not:\n%s", diff)
	}
}

// Times of whole seconds, as of ext3: a change in the second of the refresh is
// noticed all the same, for the refresh waits until no such change can come.
func TestWholeSeconds(t *testing.T) {
	slow(t)
	needs(t, "mkfs.ext4")
	on(t, onDisk("mkfs.ext4", "-q", "-I", "128")(t))
	for _, witness := range []string{``, `witness = ["lib/one"]`} {
		r := newLines(t, admin, witness)
		var st unix.Stat_t
		r.must(unix.Stat(r.dir+"/lib/one", &st))
		if st.Ctim.Nsec != 0 {
			t.Fatal("the times have a fraction: this tests nothing")
		}
		for range 2 {
			r.write("lib/one", "1111\n")
			r.refresh()
			r.rewrite("lib/one", "9999\n")
			r.misses(admin, bob)
		}
		r.refresh()
		r.fresh(admin, bob)
	}
}

// An install that is shipped in the lower layer of a container: what it brings
// is read, a change in the container copies up, and no copy is mistaken for what
// it was copied from.
func TestCopyUp(t *testing.T) {
	slow(t)
	for _, c := range []struct {
		name, place string
		settings    []string
		shipped     bool // readers believe what was shipped, before anything is refreshed
	}{
		{"an image's cache", "/usr/lib/syscache", []string{`witness = ["lib/one"]`}, true},
		{"a cache that digests certify", "/var/cache/syscache", []string{`witness = ["lib/one"]`}, true},
		{"a cache that inodes and times certify", "/var/cache/syscache", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			lower := newLines(t, admin, c.settings...)
			if o := run(t, as(admin, lower.syscache("--cache-dir", lower.dir+c.place, "refresh")...)); o.code != 0 {
				t.Fatal(o)
			}
			before := lower.walk(lower.dir)
			r := lower.at(newOverlay(t, lower.dir).dir)
			if c.shipped {
				r.fresh(admin, bob)
			}
			// Copied up without a change, or with one that no content shows.
			for _, change := range []func() error{
				func() error { return os.Chmod(r.dir+"/lib/one", 0o644) },
				func() error { return os.Chtimes(r.dir+"/lib/two", never, never) },
				func() error {
					f, err := os.OpenFile(r.dir+"/lib/sub/three", os.O_RDWR, 0)
					if err == nil {
						err = f.Close()
					}
					return err
				},
			} {
				r.must(change())
				if got := r.refresh(); got.Outcome == "built" {
					t.Errorf("built again for the same contents")
				}
				r.fresh(admin, bob)
			}
			r.rewrite("lib/one", "9999\n")
			r.misses(admin, bob)
			if got := r.refresh(); got.Outcome != "built" {
				t.Errorf("refresh: %s", got.Outcome)
			}
			r.fresh(admin, bob)
			if got := r.refresh(); got.Outcome != "unchanged" {
				t.Errorf("refresh: %s", got.Outcome)
			}
			r.must(os.Remove(r.dir + "/lib/two")) // a whiteout
			if c.settings == nil {
				r.misses(admin, bob)
			}
			r.refresh()
			r.fresh(admin, bob)
			if diff := cmp.Diff(before, lower.walk(lower.dir)); diff != "" {
				t.Errorf("the lower layer changed (-before +after):\n%s", diff)
			}
		})
	}
}
