//go:build linux

package suites

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// findings runs doctor and returns a line a finding: level, check, message.
func findings(t *testing.T, cmd *exec.Cmd) (lines string, code int) {
	t.Helper()
	o := run(t, cmd)
	for line := range strings.Lines(o.stdout) {
		var f struct{ Check, Level, Message, Hint string }
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("doctor: %v\n%v", err, o)
		}
		if f.Hint == "" && (f.Level == "warning" || f.Level == "problem") {
			t.Errorf("without a hint: %s", line)
		}
		lines += f.Level + " " + f.Check + ": " + f.Message + "\n"
	}
	return lines, o.code
}

func (r *root) doctor(u user) (lines string, code int) {
	r.t.Helper()
	return findings(r.t, as(u, r.syscache("doctor", "--json")...))
}

// A good install is good from wherever one looks, and is as it was afterwards.
func TestDoctorOfGoodHealth(t *testing.T) {
	r := newLines(t, alice, `witness = ["lib/one"]`)
	r.refresh()
	before := r.walk(r.dir)
	for _, u := range []user{admin, alice, bob} {
		found, code := r.doctor(u)
		if code != 0 || strings.Contains(found, "problem") || strings.Contains(found, "warning") {
			t.Errorf("%s finds, exit %d:\n%s", u.name, code, found)
		}
		self := u
		if u == admin {
			self = alice // whom root becomes
		}
		if !strings.Contains(found, fmt.Sprintf("uid 61001 and root refresh; everyone can read; you are uid %d\n", self.uid)) {
			t.Errorf("%s is not told who can do what:\n%s", u.name, found)
		}
		tried := strings.Contains(found, "ok locking") && strings.Contains(found, "ok clock")
		if untried := strings.Contains(found, "locks and clock were not tried: you may not write the cache_dir"); tried != (u != bob) || untried != (u == bob) {
			t.Errorf("%s tries locks and clock: %v\n%s", u.name, tried, found)
		}
	}
	// But for the times of the directory in which locks were tried.
	after := r.walk(r.dir)
	for path, was := range before {
		is := after[path]
		if path == "/var/cache/syscache" {
			is.Mtime, is.Ctime = was.Mtime, was.Ctime
		}
		if is != was {
			t.Errorf("%s was %+v, is %+v", path, was, is)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d names, were %d", len(after), len(before))
	}
}

// What keeps others out is told to the owner, who does not notice, and to the
// others.
func TestDoctorOfClosedDoors(t *testing.T) {
	for _, dir := range []string{"var", "var/cache/syscache/c/g"} {
		r := newLines(t, alice, `witness = ["lib/one"]`)
		r.refresh()
		r.must(os.Chmod(r.path(dir), 0o700))
		for _, u := range []user{admin, alice, bob} {
			found, code := r.doctor(u)
			if code != 1 || !strings.Contains(found, "not everyone can enter "+r.path(dir)+" (mode 0700)") || strings.Contains(found, "does not exist") {
				t.Errorf("%s: %s finds, exit %d:\n%s", dir, u.name, code, found)
			}
		}
	}
}

// What is nobody else's to look at is no problem of theirs.
func TestDoctorOfPrivateMatters(t *testing.T) {
	r := newLines(t, alice, `witness = ["lib/one"]`)
	r.refresh()
	r.must(os.Chmod(r.path("libexec"), 0o700))
	if found, code := r.doctor(bob); code != 0 || !strings.Contains(found, "note builder: you may not look at ") {
		t.Errorf("of a builder bob finds, exit %d:\n%s", code, found)
	}
	// A refresher at work, and one that was killed, look the same.
	r.write("var/cache/syscache/c/.pending-1", "")
	if found, code := r.doctor(bob); code != 0 || !strings.Contains(found, "which only its owner can tell: 1 leftover") {
		t.Errorf("of a token bob finds, exit %d:\n%s", code, found)
	}
	if found, _ := r.doctor(alice); !strings.Contains(found, "a refresh was killed: 1 leftover") {
		t.Errorf("of a token alice finds:\n%s", found)
	}
	r.must(os.Chmod(r.path("etc/syscache.toml"), 0o600))
	if found, code := r.doctor(bob); code != 0 || !strings.Contains(found, "note configuration: you may not read ") {
		t.Errorf("of a configuration bob finds, exit %d:\n%s", code, found)
	}
}

// What others could have written, or put in the place of what there is.
func TestDoctorOfTrust(t *testing.T) {
	for what, change := range map[string]func(r *root) error{
		"problem above: ":         func(r *root) error { return os.Chown(r.dir+"/..", carol.uid, 0) },
		"warning above: group":    func(r *root) error { return os.Chmod(r.dir+"/..", 0o775) },
		"problem cache-dir: ":     func(r *root) error { return os.Chown(r.path("var/cache"), carol.uid, 0) },
		"problem state: open c: ": func(r *root) error { return os.Chown(r.cache("current"), carol.uid, 0) },
		"problem builder: ":       func(r *root) error { return os.Chown(r.path("libexec/build"), carol.uid, 0) },
		"problem configuration: ": func(r *root) error { return os.Chown(r.path("etc/syscache.toml"), carol.uid, 0) },
	} {
		r := newLines(t, alice, `witness = ["lib/one"]`)
		r.refresh()
		r.must(os.Chown(r.dir+"/..", alice.uid, carol.uid))
		r.must(change(r))
		for _, u := range []user{admin, alice, bob} {
			found, code := r.doctor(u)
			if !strings.Contains(found, what) || (code == 1) != strings.HasPrefix(what, "problem") {
				t.Errorf("%s finds no %s, exit %d:\n%s", u.name, what, code, found)
			}
		}
	}
}

// In a user namespace the owner of the install, and of what is above it, is
// nobody.
func TestDoctorInAUserNamespace(t *testing.T) {
	r := newLines(t, alice, `witness = ["lib/one"]`)
	r.refresh()
	for _, ns := range namespaces {
		found, code := findings(t, ns.enter(bob, r.syscache("doctor", "--json")...))
		if code != 0 || !strings.Contains(found, "note namespace: its owner is not mapped in this user namespace") || !strings.Contains(found, "ok state: fresh") {
			t.Errorf("%s: exit %d\n%s", ns.name, code, found)
		}
	}
	r = newRootIn(t, newRoot(t, alice).dir, bob) // which he keeps, as far as he can see, below nobody's
	r.fill()
	r.build(lines)
	r.refresh()
	found, code := findings(t, namespaces[0].enter(bob, r.syscache("doctor", "--json")...))
	if code != 0 || strings.Contains(found, "problem") {
		t.Errorf("of his own: exit %d\n%s", code, found)
	}
}

// Of / without a configuration there is something to say all the same.
func TestDoctorOfSlash(t *testing.T) {
	r := newRoot(t, admin)
	r.must(copyFile(whole, r.dir+"/syscache"))
	cmd := as(admin, "/syscache", "--root", "/", "doctor", "--json")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: r.dir, Setpgid: true}
	if found, code := findings(t, cmd); code != 0 || !strings.Contains(found, "note configuration: no cache is configured, and a table of all of / is not made unasked") {
		t.Errorf("exit %d\n%s", code, found)
	}
}
