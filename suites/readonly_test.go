//go:build linux

package suites

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/syscache"
)

// What a reader may cost, in system calls. Not a wish: what it costs today, so
// that a change which costs more says so here.
const (
	// Open, Get of a row that is there, and Close: a table with a file as its
	// only witness, all owned by root.
	libraryCalls = 12
	// `syscache get` and the Python reader, from the first look at the
	// cache_dir to the end; the runtimes' own calls vary, so this has slack.
	getCalls    = 32
	pythonCalls = 46
)

// On a read-only root an unprivileged reader issues no call that writes, locks
// or sets a time (I3). LESSONS: "Readers that try to write, lock or touch fail
// on read-only installs."
func TestReadersOnlyRead(t *testing.T) {
	for _, witness := range []string{``, `witness = ["lib/one"]`, `witness = ["lib/"]`} {
		r := newLines(t, admin, witness)
		r.refresh()
		for _, how := range readers {
			t.Run(how.name+" "+witness, func(t *testing.T) {
				r.t = t
				calls := r.traceReadOnly(how.command(r.dir, "get", "c", "lib/one"))
				after := fromCacheDir(calls, r.dir)
				for _, call := range after {
					if why := writes(call); why != "" {
						t.Errorf("%s: %s", why, call)
					}
				}
				bound := map[string]int{"go": getCalls, "python": pythonCalls}[how.name]
				t.Logf("%d calls from the first look at the cache_dir on, at most %d", len(after), bound)
				if len(after) == 0 || len(after) > bound {
					t.Errorf("%d calls, want at most %d:\n%s", len(after), bound, strings.Join(after, "\n"))
				}
			})
		}
	}
}

// traceReadOnly runs a command as bob with the root mounted read-only, where
// nobody else sees that mount, and returns its system calls.
func (r *root) traceReadOnly(argv []string) []string {
	r.t.Helper()
	trace := r.side + "/trace"
	const script = `set -e
mount --make-rprivate /
mount -o bind "$1" "$1"
mount -o remount,bind,ro "$1"
if (: >"$1/probe") 2>/dev/null; then echo not read-only >&2; exit 99; fi
trace=$2; shift 2
exec strace -f -qq -y -s 256 -o "$trace" setpriv --reuid 61002 --regid 61002 --clear-groups "$@"
`
	argv = append([]string{"/usr/bin/unshare", "-m", "/bin/sh", "-c", script, "sh", r.dir, trace}, argv...)
	if o := run(r.t, as(admin, argv...)); o.code != 0 || o.stdout != "\"1111\"\n" {
		r.t.Fatalf("get on a read-only root: %v", o)
	}
	return strings.Split(strings.TrimSpace(r.readFile(trace)), "\n")
}

// fromCacheDir returns the calls from the first that names the cache_dir on.
func fromCacheDir(calls []string, root string) []string {
	for i, call := range calls {
		if strings.Contains(call, root+"/var/cache/syscache") && !strings.Contains(call, "execve(") {
			return slices.DeleteFunc(calls[i:], func(c string) bool {
				_, what, _ := strings.Cut(c, " ")
				what = strings.TrimSpace(what)
				return strings.Contains(c, "resumed>") || strings.Contains(c, "+++ exited") || ofTheRuntime.MatchString(what)
			})
		}
	}
	return nil
}

var (
	changing = regexp.MustCompile(`^\d+ +(?:open\w*\(.*O_(WRONLY|RDWR|CREAT|TRUNC)|(flock|fallocate|p?writev?\d*|ftruncate|truncate|` +
		`(?:f|l)?chmod\w*|(?:f|l)?chown\w*|utime\w*|futimesat|rename\w*|unlink\w*|link\w*|symlink\w*|mk(?:dir|nod)\w*|rmdir|` +
		`(?:f|l)?setxattr|(?:f|l)?removexattr|f?sync\w*|fdatasync|sendfile|copy_file_range)\(|fcntl\(.*(F_\w*SETLK\w*))`)
	harmless = regexp.MustCompile(`write\((1|2|\d+<anon_inode:\[eventfd\]>)[<,]`)
)

// writes returns which forbidden thing a call does, or "".
func writes(call string) string {
	m := changing.FindStringSubmatch(call)
	if m == nil || harmless.MatchString(call) {
		return ""
	}
	return "it changes something: " + strings.Join(m[1:], "")
}

// TestWhatCountsAsWriting guards the guard.
func TestWhatCountsAsWriting(t *testing.T) {
	for call, bad := range map[string]bool{
		`7 openat(AT_FDCWD</>, "/r/lock", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3`: true,
		`7 openat(AT_FDCWD</>, "/r/current", O_RDONLY|O_CLOEXEC) = 3`:          false,
		`7 flock(3</r/lock>, LOCK_EX) = 0`:                                     true,
		`7 utimensat(3</r/lock>, NULL, NULL, 0) = 0`:                           true,
		`7 write(3</r/lock>, "x", 1) = 1`:                                      true,
		`7 write(1<pipe:[7]>, "x", 1) = 1`:                                     false,
		`7 write(5<anon_inode:[eventfd]>, "x", 8) = 8`:                         false,
		`7 fcntl(3</r/lock>, F_OFD_SETLKW, {}) = 0`:                            true,
		`7 fcntl(3</r/lock>, F_GETFL) = 0`:                                     false,
		`7 unlinkat(3, "x", 0) = 0`:                                            true,
	} {
		if (writes(call) != "") != bad {
			t.Errorf("%s: %q", call, writes(call))
		}
	}
}

// What a look-up costs a program: Open, Get and Close, counted exactly. In an
// install that is not root's it asks once who owns the root.
func TestCallsOfALookUp(t *testing.T) {
	for owner, most := range map[user]int{admin: libraryCalls, alice: libraryCalls + 1} {
		t.Run(owner.name, func(t *testing.T) {
			r := newLines(t, owner, `witness = ["lib/one"]`)
			r.refresh()
			trace := r.side + "/trace"
			cmd := as(admin, "/usr/bin/strace", "-f", "-qq", "-o", trace, "/usr/bin/setpriv", "--reuid", "61002", "--regid", "61002",
				"--clear-groups", "/usr/bin/env", partEnv+"=look-up", self, r.dir)
			if o := run(t, cmd); o.code != 0 {
				t.Fatalf("%v", o)
			}
			made := calls(t, r.readFile(trace))
			t.Logf("Open, Get and Close: %d system calls, at most %d\n%s", len(made), most, strings.Join(made, "\n"))
			if len(made) > most {
				t.Errorf("%d calls, want at most %d", len(made), most)
			}
		})
	}
}

// calls returns the system calls between the two marks of a trace, in the
// thread that made them, without those of Go's runtime.
func calls(t *testing.T, trace string) (made []string) {
	t.Helper()
	thread, marks := "", 0
	for line := range strings.Lines(trace) {
		id, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		call = strings.TrimSpace(call)
		switch {
		case strings.Contains(call, fmt.Sprintf("getpgid(%d", mark)):
			thread = id
			marks++
		case marks == 1 && id == thread && !strings.Contains(call, "resumed>") && !ofTheRuntime.MatchString(call):
			made = append(made, call)
		}
	}
	if marks != 2 || len(made) == 0 {
		t.Fatalf("%d calls between %d marks", len(made), marks)
	}
	return made
}

// ofTheRuntime matches what Go's runtime does in any program.
var ofTheRuntime = regexp.MustCompile(`^(futex|madvise|mmap\(NULL, \d+, PROT_NONE|mmap\(0xc|rt_sig|sched_|sigaltstack|nanosleep|tgkill|clone|epoll_|gettid|getpid|---|<\.\.\. futex)`)

// mark is no process: asking for its group stands out in a trace.
const mark = 0x7ffffffe

func init() {
	parts["look-up"] = lookUp
	parts["cycles"] = cycles
}

func lookUp(args []string) error {
	runtime.LockOSThread() // the trace is read by thread
	unix.Getpgid(mark)
	r, err := syscache.Open(args[0], "c", nil)
	if err != nil {
		return err
	}
	if _, err := r.Get([]byte("lib/one")); err != nil {
		return err
	}
	err = r.Close()
	unix.Getpgid(mark)
	return err
}

// Opening and closing, whatever comes of it, leaks no descriptor.
func TestDescriptors(t *testing.T) {
	r := newLines(t, admin)
	r.refresh()
	for _, c := range []struct {
		name  string
		spoil func()
	}{
		{"fresh", func() {}},
		{"stale", func() { r.write("lib/new", "") }},
		{"corrupt", func() { r.must(os.Truncate(r.cache("current"), 30)) }},
		{"corrupt table", func() {
			r.must(os.RemoveAll(r.cache("")))
			r.must(os.Truncate(r.cache("g/"+r.refresh().Key+"/table"), 50))
		}},
		{"missing", func() { r.must(os.RemoveAll(r.cache(""))) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spoil()
			for _, cmd := range [][]string{
				{"/usr/bin/env", partEnv + "=cycles", self, r.dir},
				{"/usr/bin/env", "PYTHONPATH=" + strings.TrimSuffix(python, "/syscache.py"), "/usr/bin/python3", "-SBc", cyclesPython, r.dir},
			} {
				if o := run(t, as(bob, cmd...)); o.code != 0 {
					t.Errorf("%v", o)
				}
			}
		})
	}
}

func descriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

func cycles(args []string) error {
	before := 0
	for i := range 300 {
		if i == 1 { // the first opens what the runtime keeps
			before = descriptors()
		}
		r, err := syscache.Open(args[0], "c", nil)
		if err != nil {
			continue
		}
		r.Get([]byte("lib/one"))
		for range r.Scan(nil) {
			break
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	if after := descriptors(); after != before {
		return fmt.Errorf("%d descriptors before, %d after", before, after)
	}
	return nil
}

const cyclesPython = `
import os, sys, syscache
for i in range(300):
    if i == 1:
        before = len(os.listdir("/proc/self/fd"))
    try:
        with syscache.open(sys.argv[1], "c") as cache:
            cache.get(b"lib/one")
            next(cache.scan())
    except syscache.Error:
        pass
after = len(os.listdir("/proc/self/fd"))
if before != after:
    sys.exit("%d descriptors before, %d after" % (before, after))
`
