//go:build linux

package suites

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// rewrite replaces the content of a file in place, and puts size and mtime
// back: only ctime, which nobody can set, tells.
func (r *root) rewrite(name, content string) {
	r.t.Helper()
	path := r.path(name)
	fi, err := os.Stat(path)
	r.must(err)
	if int64(len(content)) != fi.Size() {
		r.t.Fatalf("%q has not the %d bytes of %s", content, fi.Size(), name)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	r.must(err)
	defer f.Close()
	_, err = f.WriteString(content)
	r.must(err)
	r.must(os.Chtimes(path, fi.ModTime(), fi.ModTime()))
}

// With the default witness every change of the inputs is noticed at once, by
// every user and in both languages; and once refreshed everybody has the new
// data (I2). LESSONS, Staleness: each of these fooled somebody.
func TestEveryChangeIsNoticedAtOnce(t *testing.T) {
	for i, c := range []struct {
		name    string
		change  func(r *root) error
		outcome string
	}{
		{"edited in place, size and mtime put back", func(r *root) error {
			r.rewrite("lib/one", "9999\n")
			return nil
		}, "built"},
		{"file added with an old mtime", func(r *root) error {
			// Spack: "a new package is invisible".
			r.write(r.side+"/new", "new\n")
			if err := os.Chtimes(r.side+"/new", never, never); err != nil {
				return err
			}
			return os.Rename(r.side+"/new", r.dir+"/lib/sub/new")
		}, "built"},
		{"file removed", func(r *root) error { return os.Remove(r.dir + "/lib/two") }, "built"},
		{"mode changed", func(r *root) error { return os.Chmod(r.dir+"/lib/two", 0o755) }, "built"},
		{"link re-pointed", func(r *root) error {
			return relink(r.dir+"/lib/link", "two")
		}, "built"},
		{"file turned directory", func(r *root) error {
			if err := os.Remove(r.dir + "/lib/two"); err != nil {
				return err
			}
			r.write("lib/two/within", "within\n")
			return nil
		}, "built"},
		{"directory turned link", func(r *root) error {
			if err := os.Rename(r.dir+"/lib/sub", r.side+"/sub"); err != nil {
				return err
			}
			return os.Symlink(r.side+"/sub", r.dir+"/lib/sub")
		}, "built"},
		{"tar unpacked over it with clamped times", unpackOver, "built"},
		{"directory renamed away", func(r *root) error { return os.Rename(r.dir+"/lib/sub", r.side+"/sub") }, "built"},
		{"all inputs renamed away", func(r *root) error { return os.Rename(r.dir+"/lib", r.side+"/lib") }, ""},
		{"copied over in place", func(r *root) error {
			r.write(r.side+"/other", "6666\n")
			return exec.Command("/bin/cp", r.side+"/other", r.dir+"/lib/one").Run()
		}, "built"},
		{"recipe edited", func(r *root) error {
			r.write("libexec/build", lines+"#\n")
			return nil
		}, "built"},
		{"recipe added", func(r *root) error {
			r.write("libexec/more", "")
			return nil
		}, "built"},
		// The same contents under another identity: no reader can know.
		{"hard link added", func(r *root) error { return os.Link(r.dir+"/lib/one", r.side+"/one") }, "recertified"},
		{"touched", func(r *root) error { return os.Chtimes(r.dir+"/lib/one", never, never) }, "recertified"},
		{"edited and taken back", func(r *root) error {
			r.rewrite("lib/one", "9999\n")
			r.rewrite("lib/one", "1111\n")
			return nil
		}, "recertified"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if i%5 != 0 {
				slow(t)
			}
			r := newLines(t, alice)
			r.refresh()
			r.fresh(admin)
			r.must(c.change(r))
			r.misses(admin, alice, bob)
			if c.outcome == "" {
				return
			}
			if got := r.refresh(); got.Outcome != c.outcome {
				t.Errorf("refresh: %s, want %s", got.Outcome, c.outcome)
			}
			if want := map[string]int{"built": 2, "recertified": 1}[c.outcome]; r.builds() != want {
				t.Errorf("%d builds, want %d", r.builds(), want)
			}
			r.fresh(admin, alice, bob)
		})
	}
}

// never is a time at which nothing here happened.
var never = time.Unix(1e9, 0)

func relink(path, target string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Symlink(target, path)
}

// unpackOver unpacks a tar of the same names, sizes and times, but another
// content. LESSONS: "tar with clamped mtimes and ext4's inode reuse kept size,
// mtime AND inode while the content changed".
func unpackOver(r *root) error {
	for _, step := range [][]string{
		{"/bin/cp", "-a", r.dir + "/lib", r.side + "/lib"},
		{"/bin/sh", "-c", "echo 7777 >" + r.side + "/lib/one"},
		{"/bin/tar", "-C", r.side, "--mtime=2001-02-03", "--owner=61001", "--group=61001", "-cf", r.side + "/t.tar", "lib"},
		{"/bin/tar", "-C", r.dir, "-xf", r.side + "/t.tar"},
	} {
		if err := exec.Command(step[0], step[1:]...).Run(); err != nil {
			return err
		}
	}
	return nil
}

// An edit that is taken back after the build of it failed leaves the cache
// fresh again, and nothing is built for it.
func TestEditTakenBackAfterAFailedBuild(t *testing.T) {
	r := newLines(t, admin)
	r.build("#!/bin/sh\nset -e\n[ ! -e lib/bad ] || { echo bad >&2; exit 1; }\n" + lines[len("#!/bin/sh\n"):])
	r.refresh()
	r.write("lib/bad", "")
	r.refused()
	r.misses(admin, bob)
	r.must(os.Remove(r.dir + "/lib/bad"))
	r.misses(admin, bob)
	if got := r.refresh(); got.Outcome != "recertified" || r.builds() != 1 {
		t.Errorf("refresh: %s, %d builds", got.Outcome, r.builds())
	}
	r.fresh(admin, bob)
}

// What each declared witness shows, and what it does not, as README.md has it
// under "What keeps it honest". A row that is not shown documents a limit, not
// a wish.
func TestWhatAWitnessShows(t *testing.T) {
	slow(t)
	write := func(name, content string) func(*root) error {
		return func(r *root) error {
			r.write(name, content)
			return nil
		}
	}
	for _, c := range []struct {
		name, witness string
		change        func(r *root) error
		shown         bool
	}{
		{"file: rewritten", `["MANIFEST"]`, write("MANIFEST", "2\n"), true},
		{"file: rewritten, size and mtime put back", `["MANIFEST"]`, func(r *root) error { r.rewrite("MANIFEST", "2\n"); return nil }, true},
		{"file: gone", `["MANIFEST"]`, func(r *root) error { return os.Remove(r.dir + "/MANIFEST") }, true},
		{"file: now a directory", `["MANIFEST"]`, func(r *root) error {
			os.Remove(r.dir + "/MANIFEST")
			return os.Mkdir(r.dir+"/MANIFEST", 0o755)
		}, true},
		{"file: now a FIFO", `["MANIFEST"]`, func(r *root) error {
			os.Remove(r.dir + "/MANIFEST")
			return syscall.Mkfifo(r.dir+"/MANIFEST", 0o644)
		}, true},
		// The content decides where the identity moved: a copied tree is fresh.
		{"file: touched", `["MANIFEST"]`, func(r *root) error { return os.Chtimes(r.dir+"/MANIFEST", time.Now(), time.Now()) }, false},
		{"file: the edit of an input", `["MANIFEST"]`, write("lib/one", "edit\n"), false},
		{"directory: entry added", `["lib/"]`, write("lib/new", ""), true},
		{"directory: entry removed", `["lib/"]`, func(r *root) error { return os.Remove(r.dir + "/lib/two") }, true},
		{"directory: entry edited in place", `["lib/"]`, func(r *root) error { r.rewrite("lib/one", "9999\n"); return nil }, true},
		{"directory: link re-pointed", `["lib/"]`, func(r *root) error { return relink(r.dir+"/lib/link", "two") }, true},
		{"directory: an edit below a subdirectory", `["lib/"]`, write("lib/sub/three", "edit\n"), false},
		{"directory: a file added below a subdirectory", `["lib/"]`, write("lib/sub/new", ""), false},
		{"absent: it appears", `["reboot-needed"]`, write("reboot-needed", ""), true},
		{"absent: its directory appears, and it", `["flags/needed"]`, write("flags/needed", ""), true},
		{"absent: its directory appears alone", `["flags/needed"]`, write("flags/other", ""), false},
		{"absent: the edit of an input", `["reboot-needed"]`, write("lib/one", "edit\n"), false},
		{"none: the edit of an input", `[]`, write("lib/one", "edit\n"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newLines(t, admin, "witness = "+c.witness)
			r.write("MANIFEST", "1\n")
			r.refresh()
			r.must(c.change(r))
			if c.shown {
				r.misses(admin, bob)
				return
			}
			everybody(t, []user{admin, bob}, func(t *testing.T, u user, how reader) {
				if o := r.read(u, how, "get", "c", "lib/one"); o.code != 0 || o.stdout != "\"1111\"\n" {
					t.Errorf("%s (%s) notices, and README.md says it would not: %v", u.name, how.name, o)
				}
			})
			r.refresh()
			r.fresh(bob)
		})
	}
}

// A witness that moved while the inputs stayed: certified anew, nothing built.
// LESSONS: '"Key unchanged: write nothing" leaves readers stale for ever when
// only the witness moved'.
func TestWitnessMovedAlone(t *testing.T) {
	r := newLines(t, admin, `witness = ["MANIFEST"]`)
	r.write("MANIFEST", "1\n")
	r.refresh()
	r.write("MANIFEST", "2\n")
	r.misses(admin, bob)
	if got := r.refresh(); got.Outcome != "recertified" || r.builds() != 1 {
		t.Errorf("refresh: %s, %d builds", got.Outcome, r.builds())
	}
	r.fresh(admin, bob)
}

// Without a witness only invalidate tells, and every user at once. It needs no
// configuration that can be read, and no lock.
func TestInvalidate(t *testing.T) {
	r := newLines(t, alice, "witness = []")
	r.refresh()
	r.write("lib/one", "edit\n")
	if o := run(t, as(admin, r.syscache("invalidate")...)); o.code != 0 || o.stdout+o.stderr != "" {
		t.Fatalf("invalidate: %v", o)
	}
	r.misses(admin, alice, bob)
	if o := r.read(bob, goReader, "get", "--stale", "c", "lib/one"); o.code != 0 || o.stdout != "\"1111\"\n" {
		t.Errorf("get --stale: %v", o)
	}
	if got := r.refresh(); got.Outcome != "built" {
		t.Errorf("refresh: %s", got.Outcome)
	}
	if o := run(t, as(bob, r.syscache("invalidate")...)); o.code != 1 {
		t.Errorf("bob invalidates: %v", o)
	}
	r.fresh(admin, alice, bob)
	r.write("etc/syscache.toml", "[[[\n")
	if o := run(t, as(alice, r.syscache("invalidate")...)); o.code != 0 {
		t.Fatalf("invalidate with a bad configuration: %v", o)
	}
	r.misses(admin, alice, bob)
}
