//go:build linux

package suites

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// gated is lines, but waits for a line from $SIDE/gate before it is done: a
// FIFO, so that a test decides when. Its value for "run" is how often it ran.
const gated = `#!/bin/sh
set -e
echo built >>"$LOG"
run=$(wc -l <"$LOG")
read -r go <"$SIDE/gate"
printf '{"key":"run","value":"%d"}\n{"key":"one","value":"%s"}\n' "$run" "$(cat lib/one)"
`

func newGated(t *testing.T, settings ...string) *root {
	t.Helper()
	r := newRoot(t, admin)
	r.fill()
	r.build(gated, settings...)
	r.must(syscall.Mkfifo(r.side+"/gate", 0o600))
	return r
}

// pass lets one builder that waits at the gate pass, or the next to come.
func (r *root) pass() {
	r.t.Helper()
	r.must(os.WriteFile(r.side+"/gate", []byte("go\n"), 0))
}

// running waits until the builder has been started n times.
func (r *root) running(n int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("build %d runs", n), func() bool { return r.builds() == n })
}

// waiters returns how many processes wait for the lock of c.
func (r *root) waiters() (n int) {
	r.t.Helper()
	fi, err := os.Stat(r.cache("lock"))
	r.must(err)
	inode := fmt.Sprintf(":%d ", fi.Sys().(*syscall.Stat_t).Ino)
	for line := range strings.Lines(r.readFile("/proc/locks")) {
		if strings.Contains(line, "-> FLOCK") && strings.Contains(line, inode) {
			n++
		}
	}
	return n
}

// Fifty refreshers of one stale cache: one builds, and all of them succeed.
// LESSONS: "After waiting, check again before building".
func TestFiftyRefreshersBuildOnce(t *testing.T) {
	slow(t)
	r := newGated(t)
	var all []*running
	for range 50 {
		all = append(all, start(t, as(admin, r.syscache("refresh", "--json")...)))
	}
	r.running(1)
	eventually(t, "the others wait for the lock", func() bool { return r.waiters() == 49 })
	r.pass()
	outcomes := map[string]int{}
	for _, one := range all {
		o := one.wait()
		if o.code != 0 {
			t.Errorf("a refresher: %v", o)
		}
		for _, outcome := range []string{"built", "recertified", "unchanged"} {
			if strings.Contains(o.stdout, `"outcome":"`+outcome+`"`) {
				outcomes[outcome]++
			}
		}
	}
	r.check("c")
	if r.builds() != 1 || outcomes["built"] != 1 || outcomes["unchanged"] != 49 {
		t.Errorf("%d builds; outcomes: %v", r.builds(), outcomes)
	}
}

// One that waits no longer than told says who holds the lock, and exits with 5.
func TestHeldLock(t *testing.T) {
	r := newGated(t)
	first := start(t, as(admin, r.syscache("refresh", "--json")...))
	r.running(1)
	o := run(t, as(admin, r.syscache("refresh", "--wait", "10ms")...))
	if o.code != 5 || !strings.Contains(o.stderr, fmt.Sprintf("pid %d (syscache refresh)", first.cmd.Process.Pid)) {
		t.Errorf("second refresh: %v", o)
	}
	r.pass()
	r.succeeded(first.wait())
}

// An invalidate during a build: what that build makes is never believed, and
// the refresh builds again (I2). Whatever made somebody invalidate, the builder
// may have seen half of it.
func TestInvalidateDuringABuild(t *testing.T) {
	for _, witness := range []string{``, `witness = []`} {
		for _, edit := range []string{"", "edited\n"} {
			t.Run(witness+edit, func(t *testing.T) {
				r := newGated(t, witness)
				refresh := start(t, as(admin, r.syscache("refresh", "--json")...))
				r.running(1)
				if edit != "" {
					r.write("lib/one", edit)
				}
				r.invalidate()
				r.pass()
				eventually(t, "the second build runs", func() bool { return r.builds() == 2 || refresh.ended() })
				if refresh.ended() {
					o := r.read(bob, goReader, "get", "c", "run")
					t.Fatalf("not built again: %v\nbelieved: %v", refresh.wait(), o)
				}
				r.misses(admin, bob)
				r.pass()
				r.succeeded(refresh.wait())
				r.holds("run", `"2"`)
			})
		}
	}
}

// What a refresh has seen to be old nobody believes from then on, not only when
// the build, which may take an hour, is done (I2).
func TestStaleWhileItIsBuilt(t *testing.T) {
	r := newGated(t, `witness = []`)
	first := start(t, as(admin, r.syscache("refresh", "--json")...))
	r.pass()
	r.succeeded(first.wait())
	r.write("lib/one", "edited\n")
	r.holds("one", `"1111"`) // no witness tells
	next := start(t, as(admin, r.syscache("refresh", "--json")...))
	r.running(2)
	r.misses(admin, bob)
	r.pass()
	r.succeeded(next.wait())
	r.holds("one", `"edited"`)
}

func (r *root) invalidate() {
	r.t.Helper()
	if o := run(r.t, as(admin, r.syscache("invalidate", "c")...)); o.code != 0 {
		r.t.Fatalf("invalidate: %v", o)
	}
}

// holds checks a row as root and bob have it.
func (r *root) holds(key, value string) {
	r.t.Helper()
	everybody(r.t, []user{admin, bob}, func(t *testing.T, u user, how reader) {
		t.Helper()
		if o := r.read(u, how, "get", "c", key); o.code != 0 || o.stdout != value+"\n" {
			t.Errorf("%s (%s) should have %s for %s: %v", u.name, how.name, value, key, o)
		}
	})
}

// Overtaken in each of its attempts a refresh gives up with one message, and
// nobody believes anything of it.
func TestOvertakenEachTime(t *testing.T) {
	r := newGated(t, `witness = []`)
	refresh := start(t, as(admin, r.syscache("refresh", "--json")...))
	for n := 1; n <= 3; n++ {
		r.running(n)
		r.write("lib/one", fmt.Sprintln("edit", n))
		r.invalidate()
		r.pass()
	}
	if o := refresh.wait(); o.code != 1 || !strings.Contains(o.stderr, "3 attempts") {
		t.Errorf("refresh: %v", o)
	}
	r.misses(admin, bob)
	r.noLitter("c")
	next := start(t, as(admin, r.syscache("refresh", "--json")...))
	r.pass()
	r.succeeded(next.wait())
	r.holds("run", `"4"`)
}

// slowed returns cmd run so that each rename from or to one of paths, and each
// chmod of one, is begun only after the kernel has waited: moments of
// microseconds last for seconds.
func slowed(r *root, seconds int, paths []string, argv ...string) *running {
	strace := []string{"/usr/bin/strace", "-f", "-qq", "-o", "/dev/null"}
	for _, p := range paths {
		strace = append(strace, "-P", p)
	}
	calls := "rename,renameat,renameat2,chmod,fchmodat"
	strace = append(strace, "-e", "trace="+calls, "-e", fmt.Sprintf("inject=%s:delay_enter=%d", calls, seconds*1e6))
	return start(r.t, as(admin, append(strace, argv...)...))
}

// observed waits until a refresh has looked at all inputs: it is about to
// rename its new inventory, slowly.
func (r *root) observed() {
	r.t.Helper()
	eventually(r.t, "the inputs have been looked at", func() bool {
		found, _ := filepath.Glob(r.cache(".new-*"))
		return len(found) > 0
	})
}

// An invalidate between the look at the inputs and the end of a refresh that
// finds nothing to do: the refresh looks again, and leaves the cache fresh.
func TestInvalidateWhileNothingIsBuilt(t *testing.T) {
	slow(t)
	r := newLines(t, admin, "witness = []")
	r.refresh()
	r.must(os.Chtimes(r.dir+"/lib/one", never, never)) // a new inventory, the same key
	refresh := slowed(r, 1, []string{r.cache("inventory")}, r.syscache("refresh", "--json")...)
	r.observed()
	r.invalidate()
	if got := r.succeeded(refresh.wait()); got.Outcome != "recertified" {
		t.Errorf("refresh: %s", got.Outcome)
	}
	r.fresh(admin, bob)
}

// An invalidate is not lost on a refresh that took its token while the
// invalidate was between its steps: what is published after the invalidate is
// not what was looked at before it began (I2).
func TestInvalidateIsNotLost(t *testing.T) {
	slow(t)
	r := newLines(t, admin, "witness = []")
	r.write("lib/one", "AAAA\n")
	r.refresh()
	r.write("lib/one", "BBBB\n")
	r.refresh()
	r.write("lib/one", "AAAA\n") // a generation that is there: nothing to build
	refresh := slowed(r, 2, []string{r.cache("inventory"), r.cache("current")}, r.syscache("refresh", "--json")...)
	r.observed()
	r.write("lib/one", "CCCC\n")
	invalidate := slowed(r, 3, []string{r.cache("current")}, r.syscache("invalidate", "c")...)
	if o := invalidate.wait(); o.code != 0 {
		t.Fatalf("invalidate: %v", o)
	}
	r.succeeded(refresh.wait())
	r.fresh(admin, bob)
}

// While the first refresh runs the cache is not built yet, to everybody: from
// its directory's first moment on they may look into it (I7).
func TestMissingUntilItIsBuilt(t *testing.T) {
	slow(t)
	r := newLines(t, admin)
	home := filepath.Clean(r.cache(""))
	refresh := slowed(r, 1, []string{home}, r.syscache("refresh", "--json")...)
	eventually(t, "the cache's directory is there", func() bool {
		_, err := os.Stat(home)
		return err == nil
	})
	r.misses(bob)
	r.succeeded(refresh.wait())
	r.fresh(bob)
}
