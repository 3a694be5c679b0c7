//go:build linux

package suites

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Those who maintain an install together: its group.
const maintainers = 61010

var (
	dora = user{"dora", 61011}
	emil = user{"emil", 61012}
)

// newShared returns an install that the group may write, with a cache that
// dora refreshed.
func newShared(t *testing.T) *root {
	t.Helper()
	r := newLines(t, admin)
	r.own(r.dir, admin)
	r.refreshedBy(dora)
	return r
}

// refreshedBy has a maintainer refresh.
func (r *root) refreshedBy(u user, flags ...string) {
	r.t.Helper()
	r.must(os.Chmod(r.side, 0o777))
	r.must(os.WriteFile(r.side+"/log", nil, 0o666))
	r.must(os.Chmod(r.side+"/log", 0o666)) // what builders write to
	ok(r.t, run(r.t, asMember(u, r.syscache(append(flags, "refresh")...)...)))
}

// own gives a tree to a maintainer as their work leaves it: of the group,
// directories that the group may write and hand on.
func (r *root) own(top string, u user) {
	r.t.Helper()
	r.must(filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		r.must(os.Lchown(path, u.uid, maintainers))
		if d.IsDir() {
			r.must(os.Chmod(path, 0o775|fs.ModeSetgid))
		}
		return nil
	}))
}

// What any maintainer refreshed is read by everybody.
func TestEveryMaintainerIsTrusted(t *testing.T) {
	r := newShared(t)
	r.fresh(bob, dora, emil)
	// By a real refresh, in the other's directories, whatever the umask.
	r.must(os.Chmod(r.side, 0o777))
	r.must(os.Remove(r.side + "/log"))
	for i, u := range []user{emil, dora, emil} {
		r.write("lib/one", fmt.Sprintln(u.name, i))
		r.misses(bob)
		cmd := as(u, "/bin/sh", "-c", ``+[]string{"umask 000", "umask 022", "umask 077"}[i]+`; exec "$0" --root "$1" refresh`, tool, r.dir)
		cmd.SysProcAttr.Credential.Groups = []uint32{maintainers}
		if o := run(t, cmd); o.code != 0 {
			t.Fatalf("%s: %v", u.name, o)
		}
		r.must(os.RemoveAll(r.side + "/log"))
		r.fresh(bob, dora, emil)
		r.check("c")
		fi, err := os.Stat(r.cache("current"))
		r.must(err)
		if st := fi.Sys().(*syscall.Stat_t); st.Uid != uint32(u.uid) || st.Gid != maintainers {
			t.Errorf("%s's pointer belongs to %d:%d", u.name, st.Uid, st.Gid)
		}
	}
}

// A directory of files, too.
func TestMaintainersFiles(t *testing.T) {
	r := newPure(t)
	r.own(r.dir, admin)
	r.refreshedBy(dora)
	readsAll(t, r)
	r.must(os.Chmod(r.path("var/cache/syscache/f"), 0o777))
	for _, how := range readers {
		if o := r.read(bob, how, "list", "f"); o.code != 7 || o.stdout != "" {
			t.Errorf("%s: %v", how.name, o)
		}
	}
}

// Nobody else can make use of that: what the group might not have written is
// believed by neither reader.
func TestOnlyMaintainersAreTrusted(t *testing.T) {
	chmod := func(mode fs.FileMode, path func(r *root) string) func(r *root) {
		return func(r *root) { r.must(os.Chmod(path(r), mode)) }
	}
	at := func(path string) func(r *root) string { return func(r *root) string { return r.path(path) } }
	for _, c := range []struct {
		name  string
		spoil func(r *root)
		why   string // in Go's words
	}{
		{"a pointer planted in a directory open to all", func(r *root) {
			r.must(os.Chmod(r.cache(""), 0o777|fs.ModeSetgid))
			plant(r, r.cache("current"))
		}, "var/cache/syscache/c can be written by everyone (mode 2777)"},
		{"a table planted in a generation open to all", func(r *root) {
			dir := r.cache("g/" + r.generation())
			r.must(os.Chmod(dir, 0o777|fs.ModeSetgid))
			plant(r, dir+"/table")
		}, "can be written by everyone (mode 2777)"},
		{"generations open to all", func(r *root) { r.must(os.Chmod(r.cache("g"), 0o777|fs.ModeSetgid)) }, "syscache/c/g can be written by everyone"},
		{"var/cache open to all", chmod(0o777|fs.ModeSetgid, at("var/cache")), "var/cache can be written by everyone"},
		{"var open to all, sticky", chmod(0o777|fs.ModeSetgid|fs.ModeSticky, at("var")), "var can be written by everyone"},
		{"a root open to all", chmod(0o777|fs.ModeSetgid, at("")), " can be written by everyone"},
		{"a root that the group may not write", chmod(0o755|fs.ModeSetgid, at("")), "belongs to uid 61011"},
		{"var another's", func(r *root) { r.must(os.Chown(r.path("var"), carol.uid, carol.uid)) }, "var belongs to uid 61003"},
		{"the pointer of another group", func(r *root) { r.must(os.Chown(r.cache("current"), dora.uid, dora.uid)) }, "belongs to uid 61011"},
		{"the pointer open to all", func(r *root) { r.must(os.Chmod(r.cache("current"), 0o666)) }, "can be written by everyone"},
		{"the root of another group", func(r *root) { r.must(os.Chown(r.dir, 0, carol.uid)) }, "belongs to uid 61011"},
		{"nobody's group", func(r *root) {
			r.must(filepath.WalkDir(r.dir, func(path string, _ fs.DirEntry, err error) error {
				r.must(os.Lchown(path, -1, 65534))
				return err
			}))
		}, "belongs to uid 61011"},
		{"var a link", func(r *root) {
			r.must(os.Rename(r.path("var"), r.path("elsewhere")))
			r.must(os.Symlink("elsewhere", r.path("var")))
		}, "var is not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newShared(t)
			c.spoil(r)
			r.untrusted(bob, c.why)
		})
	}
}

// Outside of the root there is no telling by the root's group.
func TestMaintainersOutsideOfTheRoot(t *testing.T) {
	r := newLines(t, admin)
	r.own(r.dir, admin)
	dir := filepath.Dir(r.dir) + "/caches"
	r.must(os.Mkdir(dir, 0o755))
	r.own(dir, dora)
	r.refreshedBy(dora, "--cache-dir", dir)
	r.own(dir, admin)
	for _, how := range readers {
		if o := r.read(bob, how, "--cache-dir", dir, "get", "c", "lib/one"); o.code != 0 {
			t.Errorf("%s: %v", how.name, o)
		}
	}
	r.own(dir, dora)
	r.untrusted(bob, "belongs to uid 61011", "--cache-dir", dir)
}

// plant replaces a file by carol's copy of it, which has the directory's group.
func plant(r *root, path string) {
	r.t.Helper()
	if o := run(r.t, as(carol, "/bin/sh", "-c", `cp "$0" "$0.new" && mv -f "$0.new" "$0"`, path)); o.code != 0 {
		r.t.Fatalf("plant: %v", o)
	}
	fi, err := os.Stat(path)
	r.must(err)
	if st := fi.Sys().(*syscall.Stat_t); st.Uid != uint32(carol.uid) || st.Gid != maintainers {
		r.t.Fatalf("%s belongs to %d:%d", path, st.Uid, st.Gid)
	}
}

// untrusted checks that no reader believes c, and that it is told why.
func (r *root) untrusted(u user, why string, flags ...string) {
	r.t.Helper()
	for _, how := range readers {
		o := r.read(u, how, append(flags, "get", "c", "lib/one")...)
		if o.code != 7 || o.stdout != "" {
			r.t.Errorf("%s (%s) should find it untrusted: %v", u.name, how.name, o)
		}
		if how.name == "go" && !strings.Contains(o.stderr, why) {
			r.t.Errorf("%s (%s) is not told %q: %v", u.name, how.name, why, o)
		}
	}
}

// generation returns the key of the only generation of c.
func (r *root) generation() string {
	r.t.Helper()
	entries, err := os.ReadDir(r.cache("g"))
	r.must(err)
	if len(entries) != 1 {
		r.t.Fatalf("%d generations", len(entries))
	}
	return entries[0].Name()
}
