//go:build linux

package suites

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// An install that goes on while a refresh scans, and ends with its witness, is
// not certified by that refresh: the witness is recorded before the scan.
// LESSONS: "Recording a witness after the scan certifies what was never
// scanned".
func TestWitnessIsRecordedBeforeTheScan(t *testing.T) {
	slow(t)
	r := newLines(t, admin, `witness = ["MANIFEST"]`)
	r.write("MANIFEST", "1\n")
	// Around what takes long to read, so that whatever the order of a walk one
	// of them has been looked at by then.
	around := []string{"lib/a/one", "lib/z/one"}
	for _, name := range around {
		r.write(name, "old\n")
	}
	long := r.dir + "/lib/m/long"
	r.write("lib/m/long", "long\n")
	r.must(os.Truncate(long, 4<<30)) // of holes: it costs nothing but its reading
	r.refresh()

	// The witness moved alone: nothing to build, one scan. That of the long
	// file is certain, for its times moved.
	r.write("MANIFEST", "2\n")
	for _, name := range append(around, "lib/m/long") {
		r.must(os.Chtimes(r.path(name), never, never))
	}
	refresh := start(t, as(admin, r.syscache("refresh", "--json")...))
	eventually(t, "the long file and one beside it are read", func() bool {
		return refresh.ended() || r.reads(refresh.cmd.Process.Pid, long) && (r.wasRead(around[0]) || r.wasRead(around[1]))
	})
	for _, name := range around {
		r.rewrite(name, "new\n")
	}
	r.write("MANIFEST", "3\n")
	if !r.reads(refresh.cmd.Process.Pid, long) {
		t.Fatal("the scan had ended by then: make the file longer")
	}
	if o := refresh.wait(); o.code != 0 {
		t.Fatalf("refresh: %v", o)
	}
	// Stale, or what the install has now; never the old rows.
	everybody(t, []user{admin, bob}, func(t *testing.T, u user, how reader) {
		o := r.read(u, how, "get", "c", around[0])
		if o.code != 4 && o.stdout != "\"new\"\n" {
			t.Errorf("%s (%s) believes what was never scanned: %v", u.name, how.name, o)
		}
		if o := r.read(u, how, "get", "c", around[1]); o.code != 4 && o.stdout != "\"new\"\n" {
			t.Errorf("%s (%s) believes what was never scanned: %v", u.name, how.name, o)
		}
	})
	r.refresh()
	r.fresh(admin, bob)
}

// reads says whether a process has a file open.
func (r *root) reads(pid int, path string) bool {
	fds, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.TrimSuffix(to, " (deleted)") == path {
			return true
		}
	}
	return false
}

// wasRead says whether a file was read since its times were set to never: that
// moves its time of access, even under relatime.
func (r *root) wasRead(name string) bool {
	fi, err := os.Stat(r.path(name))
	r.must(err)
	return fi.Sys().(*syscall.Stat_t).Atim.Nano() != never.UnixNano()
}
