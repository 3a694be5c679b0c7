//go:build linux

package suites

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// onFUSE returns an install on a file system of our own, and its other side:
// what is behind dir.
func onFUSE(t *testing.T, settings ...string) (r *root, m *fuseMount, behind func(path string) string) {
	t.Helper()
	backing := newDir(t)
	m = newFUSE(t, backing, 0)
	on(t, m.dir)
	return newLines(t, admin, settings...), m, func(path string) string { return backing + strings.TrimPrefix(path, m.dir) }
}

// What a file system refuses a reader is a miss or an error that says what, in
// both languages, and is gone with it. LESSONS: "ESTALE and ENOENT between
// pointer and file: reopen once, then a miss".
func TestReadersOfAFailingFileSystem(t *testing.T) {
	r, m, _ := onFUSE(t, `witness = ["lib/one"]`)
	r.refresh()
	for _, c := range []struct {
		op, name string
		errno    syscall.Errno
		times    int
		code     int
		says     string
	}{
		// Another host replaced what was about to be opened, or read.
		{"open", "current", unix.ESTALE, 1, 0, ""},
		{"read", "current", unix.ESTALE, 1, 0, ""},
		{"lookup", "current", unix.ESTALE, 1, 0, ""},
		{"open", "table", unix.ESTALE, 1, 0, ""},
		{"read", "table", unix.ESTALE, 1, 0, ""},
		{"open", "current", unix.ESTALE, 0, 4, "current"},
		{"read", "current", unix.ESTALE, 0, 4, "current"},
		{"lookup", "current", unix.ESTALE, 0, 4, "current"},
		{"getattr", "current", unix.ESTALE, 0, 4, "current"},
		{"open", "table", unix.ESTALE, 0, 4, "g/"},
		{"read", "table", unix.ESTALE, 0, 4, "g/"},
		{"getattr", "table", unix.ESTALE, 0, 4, "g/"},
		{"open", "current", unix.EIO, 0, 1, "current"},
		{"read", "current", unix.EIO, 0, 1, "current"},
		{"getattr", "current", unix.EIO, 0, 1, "current"},
		{"lookup", "c", unix.EIO, 0, 1, "syscache/c"},
		{"open", "table", unix.EIO, 0, 1, "table"},
		{"read", "table", unix.EIO, 0, 1, "table"},
		// A witness that cannot be looked at does not hold.
		{"lookup", "one", unix.EIO, 0, 4, "lib/one"},
		{"lookup", "one", unix.ESTALE, 0, 4, "lib/one"},
	} {
		t.Run(fmt.Sprint(c.op, " ", c.name, " ", c.errno, " ", c.times), func(t *testing.T) {
			everybody(t, []user{bob}, func(t *testing.T, u user, how reader) {
				t.Helper()
				m.refuses(fault{c.op, c.name, c.errno, c.times})
				o := r.read(u, how, "get", "c", "lib/one")
				if m.refuses() == 0 {
					t.Errorf("%s: nothing was refused", how.name)
				}
				if o.code != c.code || c.code == 0 && o.stdout != "\"1111\"\n" || c.code != 0 && o.stdout != "" {
					t.Errorf("%s: want exit %d: %v", how.name, c.code, o)
				}
				if !strings.Contains(o.stderr, c.says) || strings.Contains(o.stderr, "panic") || strings.Contains(o.stderr, "Traceback") {
					t.Errorf("%s: it does not say %q: %v", how.name, c.says, o)
				}
			})
			r.fresh(bob)
		})
	}
}

// A file system without locks: a warning, and everything else.
func TestRefreshWithoutLocks(t *testing.T) {
	r, m, _ := onFUSE(t)
	for _, errno := range []syscall.Errno{unix.ENOSYS, unix.EOPNOTSUPP, unix.ENOLCK, unix.EINVAL} {
		m.refuses(fault{Op: "setlk", Errno: errno})
		r.write("lib/one", fmt.Sprintln(errno))
		o := run(t, as(admin, r.syscache("refresh", "--json")...))
		if got := r.succeeded(o); got.Outcome != "built" || strings.Count(o.stderr, "locking is not supported") != 1 {
			t.Errorf("%v: %v", errno, o)
		}
		if m.refuses() == 0 {
			t.Errorf("%v: no lock was asked for", errno)
		}
		r.fresh(admin, bob)
	}
}

// What a file system cannot do, and a refresh can do without.
func TestRefreshWithout(t *testing.T) {
	for _, c := range []struct {
		op    string
		errno syscall.Errno
	}{
		{"fsyncdir", unix.EINVAL},
		{"fsyncdir", unix.EOPNOTSUPP},
		{"fsyncdir", unix.ENOSYS},
		{"exchange", unix.EINVAL},
		{"exchange", unix.ENOSYS},
		{"link", unix.EPERM},
		{"symlink", unix.EPERM},
	} {
		t.Run(fmt.Sprint(c.op, " ", c.errno), func(t *testing.T) {
			r, m, _ := onFUSE(t)
			m.refuses(fault{Op: c.op, Errno: c.errno})
			first := r.refresh()
			// A generation that is corrupt is replaced, which its name is not
			// free for.
			r.must(os.Truncate(r.cache("g/"+first.Key+"/table"), 50))
			if got := r.refresh(); got.Outcome != "built" || got.Key != first.Key {
				t.Errorf("%+v", got)
			}
			if met := m.refuses(); met == 0 && c.op != "link" && c.op != "symlink" {
				t.Error("nothing was refused")
			}
			r.fresh(admin, bob)
		})
	}
}

// A directory that cannot be synced because the disk fails is a failure: the
// data would not be durable.
func TestDirectorySyncFails(t *testing.T) {
	r, m, _ := onFUSE(t)
	m.refuses(fault{Op: "fsyncdir", Errno: unix.EIO})
	if o := r.refused(); !strings.Contains(o.stderr, "input/output error") {
		t.Errorf("%v", o)
	}
	m.refuses()
	r.refresh()
	r.fresh(admin, bob)
}

// init and latest, where there are no links: an error, and nothing is left.
func TestWithoutLinks(t *testing.T) {
	r, m, _ := onFUSE(t)
	m.refuses(fault{Op: "link", Errno: unix.EPERM}, fault{Op: "symlink", Errno: unix.EPERM})
	r.must(os.Remove(r.dir + "/etc/syscache.toml"))
	if o := run(t, as(admin, r.syscache("init")...)); o.code != 1 || !strings.Contains(o.stderr, "link") {
		t.Errorf("init: %v", o)
	}
	if left, err := os.ReadDir(r.dir + "/etc"); err != nil || len(left) > 0 {
		t.Errorf("left in etc: %v, %v", left, err)
	}
	r.build("#!/bin/sh\necho one >\"$SYSCACHE_OUT/one\"\n", `kind = "files"`, `latest = true`)
	if o := run(t, as(admin, r.syscache("refresh")...)); o.code != 1 || !strings.Contains(o.stderr, "symlink") {
		t.Errorf("refresh: %v", o)
	}
	r.noLitter("c")
}
