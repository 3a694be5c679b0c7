//go:build linux

package suites

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
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
		// Another host replaced what was about to be opened, or read. (Of two the
		// kernel bears one itself: it looks again, or reads ahead.)
		{"open", "current", unix.ESTALE, 2, 0, ""},
		{"read", "current", unix.ESTALE, 2, 0, ""},
		{"lookup", "current", unix.ESTALE, 2, 0, ""},
		{"open", "table", unix.ESTALE, 2, 0, ""},
		{"read", "table", unix.ESTALE, 2, 0, ""},
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

// Readers on another host, whose view is a second old, see a publish late, and
// meanwhile whole or not at all.
func TestLateReaders(t *testing.T) {
	slow(t)
	backing := newDir(t)
	ours, theirs := newFUSE(t, backing, 0), newFUSE(t, backing, time.Second)
	on(t, ours.dir)
	storm(t, ours.dir, theirs.dir, 5, 2, 2)
}

// Two refreshers that no lock keeps apart, and that invalidate and collect as
// well, while the install changes: nobody ever has a wrong answer, each refresh
// ends, and the next one alone leaves everything as it should be (I8).
func TestRefreshersWithoutALock(t *testing.T) {
	slow(t)
	const edits = 100
	r, m, _ := onFUSE(t)
	m.refuses(fault{Op: "setlk", Errno: unix.EOPNOTSUPP})
	g := r.gather("", 2, 1)
	var refreshers []*running
	for i := range 2 {
		refreshers = append(refreshers, start(t, asPart(admin, "refresh-unlocked", r.dir, g.counters, fmt.Sprint(i))))
	}
	f, err := os.OpenFile(g.counters, os.O_RDWR, 0)
	r.must(err)
	defer f.Close()
	for v := uint64(1); v <= edits; v++ {
		put(f, editing, v)
		r.write(r.side+"/counter", fmt.Sprint(v))
		r.must(os.Rename(r.side+"/counter", r.dir+"/lib/counter"))
		put(f, published, v) // the inputs are the witness: no older answer is right from now on
		if v%10 == 0 {
			await(f, answered, v)
		}
	}
	await(f, inPython, edits)
	t.Logf("%d edits: %v", edits, g.end())
	for _, one := range refreshers {
		o := one.wait()
		t.Log(o.stdout)
		if o.code != 0 {
			t.Errorf("refresher: %v", o)
		}
	}
	if m.refuses() < edits/4 {
		t.Error("too few refreshes to mean anything")
	}
	// Whoever ends last leaves what the other was about to put in place.
	install, err := stormInstall(r.dir)
	r.must(err)
	_, err = install.Refresh(t.Context(), "storm", nil)
	r.must(err)
	r.check("storm")
	if value, err := stormAnswer(r.dir, 1); value != edits || err != nil {
		t.Errorf("%d, %v in the end", value, err)
	}
}

func init() { parts["refresh-unlocked"] = refreshUnlocked }

// refreshUnlocked refreshes, invalidates and collects until the storm is over,
// and prints how it went. To have been overtaken, by another or by an edit, is
// a refresh's only excuse.
func refreshUnlocked(args []string) error {
	f, err := os.OpenFile(args[1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	install, err := stormInstall(args[0])
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, uint64(args[2][0])))
	went := map[string]int{}
	for get(f, ended) == 0 {
		what, err := "invalidated", error(nil)
		switch random.IntN(12) {
		case 0:
			err = install.Invalidate("storm")
		case 1:
			what = "collected"
			_, err = install.Collect(context.Background(), "storm", &refresh.CollectOptions{Now: true})
		default:
			var result refresh.Result
			result, err = install.Refresh(context.Background(), "storm", nil)
			what = string(result.Outcome)
		}
		switch {
		case err == nil:
		case strings.Contains(err.Error(), "attempts were overtaken"):
			what = "overtaken"
		case errors.Is(err, hashing.ErrChanging):
			what = "changing"
		default:
			return fmt.Errorf("%v after %v", err, went)
		}
		went[what]++
	}
	fmt.Println(went)
	return nil
}

// Who has a table open that is cut under them is told so, and lives: where it is
// mapped, and where it must not be. LESSONS: "mmap of a file that is cut or lost
// gives SIGBUS, fatal in Go by default".
func TestCutWhileOpen(t *testing.T) {
	for _, local := range []bool{true, false} {
		t.Run(fmt.Sprint("local: ", local), func(t *testing.T) {
			behind := func(path string) string { return path }
			if !local {
				_, _, behind = onFUSE(t)
			}
			r := newRoot(t, admin)
			r.fill()
			r.build("#!/bin/sh\nexec awk 'BEGIN { for (i = 0; i < 20000; i++) printf \"{\\\"key\\\":\\\"%d\\\",\\\"value\\\":%d}\\n\", i, i }'\n")
			table := r.cache("g/" + r.refresh().Key + "/table")
			inPython := as(bob, "/usr/bin/python3", "-SBc", holdPython, r.dir)
			inPython.Env = append(inPython.Env, "PYTHONPATH="+path.Dir(python))
			for language, cmd := range map[string]*exec.Cmd{"go": asPart(bob, "hold", r.dir), "python": inPython} {
				c := r.talk(cmd)
				if got := c.current(); got != "20000 rows" {
					t.Fatalf("%s: %q", language, got)
				}
				maps := r.readFile(fmt.Sprintf("/proc/%d/maps", cmd.Process.Pid))
				if got, want := strings.Contains(maps, "/table"), local && language == "go"; got != want {
					t.Errorf("%s: mapped: %v, want %v", language, got, want)
				}
				whole := r.readFile(behind(table))
				r.must(os.Truncate(behind(table), 8192))
				for range 2 {
					if got := c.current(); got != "corrupt" {
						t.Errorf("%s, cut: %q", language, got)
					}
				}
				r.must(os.WriteFile(behind(table), []byte(whole), 0))
			}
		})
	}
}

func init() { parts["hold"] = hold }

// hold holds a cache open and, for each line of input, reads all of it.
func hold(args []string) error {
	r, err := syscache.Open(args[0], "c", nil)
	if err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(rowsOf(r))
	}
	return r.Close()
}

func rowsOf(r *syscache.Reader) string {
	n := 0
	for _, err := range r.Scan(nil) {
		if err != nil {
			return err.(*syscache.Error).Err.Error()
		}
		n++
	}
	return fmt.Sprint(n, " rows")
}

const holdPython = `
import sys, syscache
cache = syscache.open(sys.argv[1], "c")
for line in sys.stdin:
    try:
        print(sum(1 for _ in cache.scan()), "rows", flush=True)
    except syscache.Error as error:
        print(type(error).__name__.lower(), flush=True)
`
