//go:build linux

package suites

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asMember returns a command that u, a member of the maintainers, runs with a
// hostile umask.
func asMember(u user, argv ...string) *exec.Cmd {
	cmd := as(u, append([]string{"/bin/sh", "-c", `umask 077; exec "$@"`, "sh"}, argv...)...)
	cmd.SysProcAttr.Credential.Groups = []uint32{maintainers}
	return cmd
}

// manage hands the install to the maintainers, with set-group-id on its
// directories or without.
func (r *root) manage(setgid fs.FileMode) {
	r.t.Helper()
	r.must(filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		r.must(err)
		r.must(os.Lchown(path, -1, maintainers))
		if d.IsDir() {
			r.must(os.Chmod(path, 0o775|setgid))
		}
		return nil
	}))
	// What builders log.
	r.must(os.Chmod(r.side, 0o777))
	r.must(os.WriteFile(r.side+"/log", nil, 0o666))
	r.must(os.Chmod(r.side+"/log", 0o666))
}

// ok fails the test unless a process has succeeded.
func ok(t *testing.T, o outcome) {
	t.Helper()
	if o.code != 0 {
		t.Fatal(o)
	}
}

// A group manages an install: each member, and root, refreshes it in turn, and
// whoever reads believes what any of them wrote. Nobody else may.
func TestMaintainersTakeTurns(t *testing.T) {
	for _, setgid := range []fs.FileMode{fs.ModeSetgid, 0} {
		t.Run(fmt.Sprint(setgid), func(t *testing.T) {
			known(t, maintainers) // else root would not refresh in her name
			r := newLines(t, alice, `witness = ["lib/one"]`)
			r.manage(setgid)
			dave := user{"dave", 61004}
			for i, refresher := range []user{bob, alice, carol, bob, admin} {
				text := fmt.Sprintf("turn %d", i)
				cmd := asMember(refresher, "/bin/sh", "-c", `echo "$0" >"$1"`, text, r.path("lib/one"))
				r.must(os.Chmod(r.path("lib/one"), 0o664))
				ok(t, run(t, cmd))
				r.succeeded(run(t, asMember(refresher, r.syscache("refresh", "--json")...)))
				everybody(t, []user{admin, alice, bob, dave}, func(t *testing.T, u user, how reader) {
					if o := r.read(u, how, "get", "c", "lib/one"); o.code != 0 || !strings.Contains(o.stdout, text) {
						t.Errorf("turn %d, %s reads with %s: %v", i, u.name, how.name, o)
					}
				})
				if o := run(t, as(dave, r.syscache("refresh")...)); o.code != 1 || !strings.Contains(o.stderr, "group 61010") || !strings.Contains(o.stderr, "hint: ") {
					t.Errorf("a stranger refreshes: %v", o)
				}
				if o := run(t, as(dave, r.syscache("invalidate")...)); o.code != 1 {
					t.Errorf("a stranger invalidates: %v", o)
				}
			}
			for path, st := range r.walk(r.dir + "/var") {
				if st.GID != maintainers {
					t.Errorf("var%s belongs to group %d", path, st.GID)
				}
			}
			// Each uses the others' memory.
			for _, memo := range []string{"inventory", "state", "seen"} {
				if o := run(t, asMember(carol, "/bin/cat", r.path("var/cache/syscache/c/"+memo))); o.code != 0 {
					t.Errorf("%s: %v", memo, o)
				}
			}
		})
	}
}

// An owner who is none of the group that manages the install is told to join.
func TestOwnerOutsideOfTheGroup(t *testing.T) {
	r := newLines(t, alice)
	r.manage(fs.ModeSetgid)
	ok(t, run(t, asMember(bob, r.syscache("refresh")...)))
	o := run(t, as(alice, r.syscache("refresh")...))
	if o.code != 1 || !strings.Contains(o.stderr, "permission denied") || !strings.Contains(o.stderr, "hint: join group 61010") {
		t.Error(o)
	}
	if o := run(t, as(admin, r.syscache("refresh")...)); o.code != 1 || !strings.Contains(o.stderr, "hint: join group 61010") {
		t.Error(o)
	}
	known(t, maintainers)
	ok(t, run(t, as(admin, r.syscache("refresh")...)))
}

// A maintainer's refresh that was killed is swept by another's, but for what its
// builder made for its own user alone.
func TestMaintainerSweepsAnothers(t *testing.T) {
	for _, private := range []bool{false, true} {
		t.Run(fmt.Sprintf("private=%v", private), func(t *testing.T) { sweepAnothers(t, private) })
	}
}

func sweepAnothers(t *testing.T, private bool) {
	make := "echo x >$SYSCACHE_OUT/x"
	if private {
		make = "mkdir $SYSCACHE_OUT/d; echo x >$SYSCACHE_OUT/d/x"
	}
	r := newLines(t, alice)
	r.build("#!/bin/sh\n"+make+"; echo up >>$LOG; if [ -e $SIDE/block ]; then read x <$SIDE/fifo; fi\n", `kind = "files"`)
	r.manage(fs.ModeSetgid)
	r.must(os.WriteFile(r.side+"/block", nil, 0o644))
	r.must(exec.Command("mkfifo", "-m", "666", r.side+"/fifo").Run())
	p := start(t, asMember(bob, r.syscache("refresh")...))
	eventually(t, "bob's builder runs", func() bool { b, _ := os.ReadFile(r.side + "/log"); return len(b) > 0 })
	r.must(p.cmd.Process.Kill())
	p.wait()
	r.must(os.Remove(r.side + "/block"))
	o := run(t, asMember(carol, r.syscache("refresh")...))
	ok(t, o)
	left, _ := filepath.Glob(r.path("var/cache/syscache/c/g/.new-*"))
	told := strings.Contains(o.stderr, "was left behind by another maintainer")
	if (len(left) > 0) != private || told != private {
		t.Errorf("left: %q\n%v", left, o)
	}
	// Bob can remove what only he can.
	ok(t, run(t, asMember(bob, r.syscache("refresh")...)))
	if left, _ := filepath.Glob(r.path("var/cache/syscache/c/g/.new-*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// In a user namespace whose users are not those of the install, its root can
// become none of them: it may not refresh the install, only a copy of its own.
func TestUserNamespaceRefreshes(t *testing.T) {
	r := newLines(t, admin)
	r.must(os.WriteFile(r.side+"/log", nil, 0o666))
	r.must(os.Chmod(r.side+"/log", 0o666))
	in := func(argv ...string) outcome {
		return run(t, as(carol, append([]string{"/usr/bin/unshare", "-Ur"}, argv...)...))
	}
	if o := in(r.syscache("refresh")...); o.code != 1 || !strings.Contains(o.stderr, "does not map") || !strings.Contains(o.stderr, "hint: ") {
		t.Errorf("the install's own cache: %v", o)
	}
	own := r.side + "/own"
	r.must(os.Mkdir(own, 0o755))
	r.must(os.Chown(own, carol.uid, carol.uid))
	ok(t, in(r.syscache("--cache-dir", own+"/cache", "refresh")...))
	if o := in(r.syscache("--cache-dir", own+"/cache", "get", "c", "lib/one")...); o.code != 0 || !strings.Contains(o.stdout, "1111") {
		t.Errorf("her own: %v", o)
	}
}
