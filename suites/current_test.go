//go:build linux

package suites

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/syscache"
)

// What Current costs while nothing moves: an lstat of the pointer, one of each
// file that is a witness, and one for a cache_dir that was passed over.
func TestCallsOfCurrent(t *testing.T) {
	r := newLines(t, admin, `witness = ["lib/one", "lib/two"]`)
	r.refresh()
	r.settled(r.cache("current"))
	own := []string{r.cache("current"), r.dir + "/lib/one", r.dir + "/lib/two"}
	if got := r.statted(); !slices.Equal(got, own) {
		t.Errorf("Current looks at\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(own, "\n"))
	}
	image := r.dir + "/usr/lib"
	r.must(os.MkdirAll(image, 0o755))
	r.must(os.Rename(r.dir+"/var/cache/syscache", image+"/syscache"))
	r.settled(image + "/syscache/c/current")
	shipped := append([]string{r.dir + "/var/cache/syscache/c", image + "/syscache/c/current"}, own[1:]...)
	for _, there := range []bool{false, true} { // the first cache_dir, empty
		if there {
			r.must(os.MkdirAll(r.cache(""), 0o755))
			r.settled(r.cache(""))
		}
		if got := r.statted(); !slices.Equal(got, shipped) {
			t.Errorf("Current looks at\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(shipped, "\n"))
		}
	}
}

// statted returns the paths that Current looks at, which it must do with no
// other call.
func (r *root) statted() (paths []string) {
	r.t.Helper()
	trace := r.side + "/trace"
	cmd := as(admin, "/usr/bin/strace", "-f", "-qq", "-o", trace, "-s", "4096", "/usr/bin/setpriv", "--reuid", "61002", "--regid", "61002",
		"--clear-groups", "/usr/bin/env", partEnv+"=current", self, r.dir)
	if o := run(r.t, cmd); o.code != 0 {
		r.t.Fatalf("%v", o)
	}
	for _, call := range calls(r.t, r.readFile(trace)) {
		rest, ok := strings.CutPrefix(call, `newfstatat(AT_FDCWD, "`)
		path, _, _ := strings.Cut(rest, `"`)
		if !ok {
			r.t.Errorf("Current calls %s", call)
		}
		paths = append(paths, path)
	}
	return paths
}

func init() { parts["current"] = askCurrent }

// askCurrent marks the trace of one Current.
func askCurrent(args []string) error {
	runtime.LockOSThread() // the trace is read by thread
	r, err := syscache.Open(args[0], "c", nil)
	if err != nil {
		return err
	}
	defer r.Close()
	unix.Getpgid(mark)
	ok, err := r.Current()
	unix.Getpgid(mark)
	if !ok || err != nil {
		return fmt.Errorf("Current() = %v, %v", ok, err)
	}
	return nil
}

// settled waits until the files are old enough to be told by their times.
func (r *root) settled(paths ...string) {
	r.t.Helper()
	for _, path := range paths {
		eventually(r.t, path+" is two seconds old", func() bool {
			var st unix.Stat_t
			r.must(unix.Lstat(path, &st))
			return time.Since(time.Unix(st.Ctim.Unix())) > 2*time.Second
		})
	}
}
