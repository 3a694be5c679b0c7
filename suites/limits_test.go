//go:build linux

package suites

import (
	"fmt"
	"strings"
	"testing"
)

// limited runs the command as root under a limit, as prlimit names it.
func (r *root) limited(limit string, n int, args ...string) outcome {
	r.t.Helper()
	argv := append([]string{"/usr/bin/prlimit", fmt.Sprintf("--%s=%d", limit, n)}, r.syscache(args...)...)
	return run(r.t, as(admin, argv...))
}

// TestLimits has the command run under limits that rise until it works: of
// descriptors, of a file's size. Below, it fails with a message, readers have what
// is true or a miss, and the next refresh heals (I1, I6, I10).
func TestLimits(t *testing.T) {
	slow(t)
	for _, l := range []struct {
		name           string
		from, to, step int
		verb           string
	}{
		{"nofile", 5, 64, 1, "refresh"},
		{"fsize", 0, 4096, 64, "refresh"},
		{"nofile", 5, 64, 1, "get"},
	} {
		t.Run(l.verb+" "+l.name, func(t *testing.T) {
			r := newRoot(t, admin)
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
				// Go's runtime ends a process that has no descriptor to wait with.
				own := strings.HasPrefix(o.stderr, "runtime: ") && strings.Contains(o.stderr, "netpoll")
				if !own && (o.code != 1 || !strings.HasPrefix(o.stderr, "syscache: ") || strings.Contains(o.stderr, "goroutine ")) {
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
