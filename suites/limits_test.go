//go:build linux

package suites

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// limited runs the command as the owner under a limit, as prlimit names it.
func (r *root) limited(limit string, n int, args ...string) outcome {
	r.t.Helper()
	argv := append([]string{"/usr/bin/prlimit", fmt.Sprintf("--%s=%d", limit, n)}, r.syscache(args...)...)
	return run(r.t, as(r.owner, argv...))
}

// How the kernel, the loader, or Go's runtime ends a process that it cannot serve.
const (
	byNone   = `a^`
	noPoll   = `stderr: runtime: (?s:.*)netpoll`
	noMemory = `^exit -1\n|stderr: .*(out of memory|reserve|cannot allocate|Cannot allocate)`
	atExec   = `^exit (-1\n|1\nstdout: \nstderr: prlimit: )`
	noThread = `stderr: runtime: failed to create new OS thread`
)

// TestLimits has the command run under limits that rise until it works: of
// descriptors, of a file's size. Below, it fails with a message, readers have what
// is true or a miss, and the next refresh heals (I1, I6, I10).
func TestLimits(t *testing.T) {
	slow(t)
	for _, l := range []struct {
		name           string
		from, to, step int
		verb           string
		owner          user
		ended          string // what the outcome may be instead of a message
	}{
		{"nofile", 0, 64, 1, "refresh", admin, noPoll},
		{"nofile", 0, 64, 1, "get", admin, noPoll},
		{"fsize", 0, 4096, 64, "refresh", admin, byNone},
		{"as", 0, 4 << 30, 128 << 20, "refresh", admin, noMemory},
		{"as", 0, 4 << 30, 128 << 20, "get", admin, noMemory},
		{"stack", 0, 1 << 20, 16 << 10, "refresh", admin, atExec},
		{"nproc", 0, 256, 1, "refresh", alice, noThread}, // root has no such limit
		{"nproc", 0, 256, 1, "get", alice, noThread},
	} {
		t.Run(l.verb+" "+l.name, func(t *testing.T) {
			r := newRoot(t, l.owner)
			r.fill()
			r.write("libexec/any", "") // a recipe
			r.config()
			r.refresh()
			failed := 0
			for n := l.from; ; n += l.step {
				if n > l.to {
					t.Fatalf("%d is not enough", n)
				}
				args := []string{"get", "c", "lib/one"}
				if l.verb == "refresh" {
					args = []string{"refresh"}
					r.write("lib/one", fmt.Sprintln("edit", n))
				}
				o := r.limited(l.name, n, args...)
				if o.code == 0 {
					break
				}
				failed++
				ended := regexp.MustCompile(l.ended).MatchString(o.String())
				if !ended && (o.code != 1 || !strings.HasPrefix(o.stderr, "syscache: ") || strings.Contains(o.stderr, "goroutine ")) {
					t.Errorf("%s, %d: %v", l.name, n, o)
				}
				if l.verb == "refresh" {
					r.misses(bob)
					r.refresh()
				}
			}
			r.answered()
			r.check("c")
			t.Logf("failed %d times, then worked", failed)
			if failed == 0 {
				t.Error("no limit was too low")
			}
		})
	}
}

// memoryCgroups is where version 1 of the kernel's control groups limits memory.
const memoryCgroups = "/sys/fs/cgroup/memory"

// TestMemoryRunsOut has the kernel kill a refresh that needs more memory than its
// control group may have: readers miss, or have the old if they accept it, and the
// next refresh heals. A look-up in the large table needs none of that memory.
func TestMemoryRunsOut(t *testing.T) {
	slow(t)
	group, err := os.MkdirTemp(memoryCgroups, "syscache-suites-")
	if err != nil {
		lacking(t, "control groups of version 1 that limit memory")
	}
	t.Cleanup(func() { os.Remove(group) })
	r := newRoot(t, admin)
	r.fill()
	r.build("#!/bin/sh\nread -r rows <lib/one\nexec seq -f '{\"key\":\"%.0f\",\"value\":\"row\"}' 1 \"$rows\"\n")
	r.write("lib/one", "10\n")
	r.refresh()
	within := func(megabytes int, args ...string) outcome {
		r.must(os.WriteFile(group+"/memory.limit_in_bytes", fmt.Append(nil, megabytes<<20), 0))
		inside := append([]string{"/bin/sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, group}, r.syscache(args...)...)
		return run(t, as(admin, inside...))
	}
	r.write("lib/one", "600000\n")
	if o := within(32, "refresh"); o.code == 0 || strings.Contains(o.stderr, "goroutine ") {
		t.Errorf("600,000 rows in 32 MiB: %v", o)
	}
	r.misses(bob)
	if o := r.read(bob, goReader, "get", "--stale", "c", "7"); o.code != 0 {
		t.Errorf("the old, for who accepts it: %v", o)
	}
	r.refresh()
	if o := within(16, "get", "c", "599999"); o.code != 0 || o.stdout != "\"row\"\n" {
		t.Errorf("a look-up in 16 MiB: %v", o)
	}
}
