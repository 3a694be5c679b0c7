//go:build linux

package suites

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/syscache/syscache/syscache"
)

// A namespace is a way into a user namespace in which others' uids are not
// mapped: a container without privilege.
type namespace struct {
	name  string
	enter func(u user, argv ...string) *exec.Cmd
}

var namespaces = []namespace{
	{"unshare -Ur", func(u user, argv ...string) *exec.Cmd {
		return as(u, append([]string{"/usr/bin/unshare", "-Ur"}, argv...)...)
	}},
	{"unshare --map-current-user", func(u user, argv ...string) *exec.Cmd {
		return as(u, append([]string{"/usr/bin/unshare", "--user", "--map-current-user"}, argv...)...)
	}},
	{"unshare --user", func(u user, argv ...string) *exec.Cmd { // nobody is mapped: the reader is 65534 itself
		return as(u, append([]string{"/usr/bin/unshare", "--user"}, argv...)...)
	}},
	{"setpriv, unshare --map-root-user", func(u user, argv ...string) *exec.Cmd {
		id := fmt.Sprint(u.uid)
		return as(admin, append([]string{
			"/usr/bin/setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--no-new-privs",
			"/usr/bin/unshare", "--user", "--map-root-user",
		}, argv...)...)
	}},
	// As unshare --map-users does with newuidmap, which need not be here.
	{"two users mapped", func(u user, argv ...string) *exec.Cmd {
		cmd := as(user{"root", 0}, argv...)
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: u.uid, Size: 1}, {ContainerID: 1, HostID: carol.uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: u.uid, Size: 1}}
		return cmd
	}},
}

// inside runs a verb of a reader in a namespace of bob's.
func (r *root) inside(ns namespace, how reader, args ...string) outcome {
	r.t.Helper()
	return run(r.t, ns.enter(bob, how.command(r.dir, args...)...))
}

// An install is read in a container that maps its owner to nobody: what is
// inside of it is as good as it is itself. LESSONS: "in a user namespace every
// unmapped owner shows as 65534".
func TestInstallInAUserNamespace(t *testing.T) {
	for _, owner := range []user{admin, alice, bob} {
		r := newLines(t, owner)
		r.refresh()
		each(t, func(t *testing.T, ns namespace, how reader) {
			if o := r.inside(ns, how, "get", "c", "lib/one"); o.code != 0 || o.stdout != "\"1111\"\n" {
				t.Errorf("of %s: %v", owner.name, o)
			}
		})
	}
}

// Root of a namespace that does not map the owner cannot become them, wherever
// the cache is to be: and it may be root outside, too.
func TestRootOfANamespaceRunsNoBuilder(t *testing.T) {
	r := newLines(t, alice)
	dir := r.side + "/caches"
	r.must(os.Mkdir(dir, 0o755))
	for _, args := range [][]string{{"refresh"}, {"--cache-dir", dir, "refresh"}} {
		o := run(t, as(admin, append([]string{"/usr/bin/unshare", "-Ur"}, r.syscache(args...)...)...))
		if o.code != 1 || !strings.Contains(o.stderr, "belongs to a user that this user namespace does not map") || r.builds() != 0 {
			t.Errorf("%q: %v, %d builds", args, o, r.builds())
		}
	}
}

// Elsewhere, nobody is somebody: anyone's directory looks the same.
func TestNobodyIsUntrusted(t *testing.T) {
	r := newLines(t, admin)
	dir := r.side + "/caches"
	r.must(os.Mkdir(dir, 0o755))
	if o := run(t, as(admin, r.syscache("--cache-dir", dir, "refresh")...)); o.code != 0 {
		t.Fatal(o)
	}
	each(t, func(t *testing.T, ns namespace, how reader) {
		if o := r.inside(ns, how, "--cache-dir", dir, "get", "c", "lib/one"); o.code != 7 || o.stdout != "" {
			t.Errorf("%v", o)
		}
	})
	// The caller's word for 65534 is the word for everybody.
	for _, ns := range namespaces {
		cmd := ns.enter(bob, self, r.dir, dir)
		cmd.Env = append(cmd.Env, partEnv+"=trust-nobody")
		if o := run(t, cmd); o.stdout != "untrusted\n" {
			t.Errorf("%s (go): %v", ns.name, o)
		}
		cmd = ns.enter(bob, "/usr/bin/python3", "-SBc", trustNobodyPython, r.dir, dir)
		cmd.Env = append(cmd.Env, "PYTHONPATH="+strings.TrimSuffix(python, "/syscache.py"))
		if o := run(t, cmd); o.stdout != "untrusted\n" {
			t.Errorf("%s (python): %v", ns.name, o)
		}
	}
}

// A group that is not mapped is nobody's, so what it may write is believed in
// no namespace that does not map it.
func TestUnmappedGroup(t *testing.T) {
	r := newShared(t)
	r.fresh(bob)
	each(t, func(t *testing.T, ns namespace, how reader) {
		if o := r.inside(ns, how, "get", "c", "lib/one"); o.code != 7 || o.stdout != "" {
			t.Errorf("%v", o)
		}
	})
}

// each calls f for each namespace and reader.
func each(t *testing.T, f func(t *testing.T, ns namespace, how reader)) {
	t.Helper()
	for _, ns := range namespaces {
		for _, how := range readers {
			t.Run(ns.name+" "+how.name, func(t *testing.T) { f(t, ns, how) })
		}
	}
}

func init() { parts["trust-nobody"] = trustNobody }

func trustNobody(args []string) error {
	r, err := syscache.Open(args[0], "c", &syscache.ReadOptions{CacheDirs: args[1:], TrustUIDs: []int{65534}})
	if err == nil {
		return r.Close()
	}
	fmt.Println(err.(*syscache.Error).Err)
	return nil
}

const trustNobodyPython = `
import sys, syscache
try:
    syscache.open(sys.argv[1], "c", cache_dirs=sys.argv[2:], trust_uids=[65534]).close()
except syscache.Untrusted:
    print("untrusted")
`
