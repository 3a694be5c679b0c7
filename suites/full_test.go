//go:build linux

package suites

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// newSmall returns an install on an ext4 of its own of 8 MiB, with the cache c
// that the tool itself makes of lib.
func newSmall(t *testing.T, mkfs ...string) *root {
	t.Helper()
	needs(t, "mkfs.ext4")
	image := newDir(t) + "/disk"
	mustRun(t, "truncate", "--size", "8M", image)
	mustRun(t, append(append([]string{"mkfs.ext4", "-q", "-m", "0"}, mkfs...), image)...)
	r := newRootIn(t, mounted(t, "-o", "loop", image), admin)
	r.fill()
	r.write("libexec/any", "") // a recipe
	r.config()
	return r
}

// fillUp writes until the disk has no room left, and returns the file.
func (r *root) fillUp() string {
	r.t.Helper()
	name := r.side + "/filler"
	f, err := os.Create(name)
	r.must(err)
	defer f.Close()
	for size := 1 << 16; size > 0; {
		if n, err := f.Write(make([]byte, size)); err != nil && n == 0 {
			size /= 2
		}
	}
	r.must(f.Sync())
	return name
}

// noRoom refreshes, which must fail for want of room and say what to do; readers
// then have nothing that is not true, and those who accept stale data the row
// that was there.
func (r *root) noRoom(old string) {
	r.t.Helper()
	o := r.refused()
	if !strings.HasPrefix(o.stderr, "syscache: ") || !strings.Contains(o.stderr, "no space left on device") || !strings.Contains(o.stderr, "\nhint: make room") {
		r.t.Errorf("refresh on a full disk: %v", o)
	}
	r.misses(admin, bob)
	if o := r.read(bob, goReader, "get", "--stale", "c", "lib/one"); o.code != 0 || o.stdout != old {
		r.t.Errorf("who accepts stale data should have %q: %v", old, o)
	}
}

// TestDiskFillsUp has tables grow until one does not fit: what was published
// stays, and heals with room (I1, I6, I10).
func TestDiskFillsUp(t *testing.T) {
	slow(t)
	r := newSmall(t, "-N", "8192")
	r.refresh()
	full := false
	for n := 0; !full && n < 7000; n++ {
		name := fmt.Sprintf("lib/more/%d-%s", n, strings.Repeat("x", 240))
		r.write(name, "")
		if n%250 > 0 {
			continue
		}
		old := r.read(bob, goReader, "get", "--stale", "c", "lib/one").stdout
		o := run(t, as(admin, r.syscache("refresh", "--json")...))
		if full = o.code != 0; full {
			r.noRoom(old)
		}
	}
	if !full {
		t.Fatal("the disk never filled up")
	}
	r.must(os.RemoveAll(r.dir + "/lib/more"))
	r.refresh()
	r.answered()
}

// TestFullDisk has not a byte left: a cache can still be marked stale.
func TestFullDisk(t *testing.T) {
	slow(t)
	r := newSmall(t)
	r.refresh()
	old := r.read(bob, goReader, "get", "c", "lib/one").stdout
	r.must(os.Remove(r.cache("seen"))) // to remove it would make room enough for a pointer
	filler := r.fillUp()
	if o := run(t, as(admin, r.syscache("invalidate", "c")...)); o.code != 0 {
		t.Errorf("invalidate on a full disk: %v", o)
	}
	r.misses(admin, bob)
	r.noRoom(old)
	r.must(os.Remove(filler))
	r.refresh()
	r.answered()
}

// TestNoInodes has no inode left.
func TestNoInodes(t *testing.T) {
	slow(t)
	r := newSmall(t, "-N", "64")
	old := ""
	for n := 0; ; n++ {
		if err := os.WriteFile(fmt.Sprint(r.side, "/", n), nil, 0o644); err != nil {
			break
		}
		if n == 0 {
			r.refresh()
			old = r.read(bob, goReader, "get", "c", "lib/one").stdout
		}
	}
	if o := run(t, as(admin, r.syscache("invalidate", "c")...)); o.code != 0 {
		t.Errorf("invalidate without inodes: %v", o)
	}
	r.misses(admin, bob)
	r.noRoom(old)
	r.must(os.RemoveAll(r.side))
	r.refresh()
	r.answered()
}

// TestBuilderFillsTheDisk has a builder write more than there is room for, to its
// output or to a file that it says nothing of: that is not taken for a mistake in
// what it printed, and all of it is gone afterwards (I10).
func TestBuilderFillsTheDisk(t *testing.T) {
	slow(t)
	r := newSmall(t)
	r.refresh()
	old := r.read(bob, goReader, "get", "c", "lib/one").stdout
	for _, b := range []struct{ script, kind string }{
		{`awk 'BEGIN { s = sprintf("%5000s", ""); for (i = 0; ; i++) printf "{\"key\":\"%d\",\"value\":\"%s\"}\n", i, s }'`, "table"},
		{`head -c 5M /dev/zero >"$SYSCACHE_OUT/x"`, "files"}, // its copy has no room
		{`cat /dev/zero >"$SYSCACHE_OUT/x"; exit 0`, "files"},
	} {
		r.build("#!/bin/sh\n"+b.script+"\n", fmt.Sprintf("kind = %q", b.kind))
		r.noRoom(old)
		r.noLitter("c")
	}
	r.build(lines)
	r.refresh()
	r.answered()
}

// answered checks that every reader has an answer.
func (r *root) answered() {
	r.t.Helper()
	everybody(r.t, []user{admin, bob}, func(t *testing.T, u user, how reader) {
		t.Helper()
		if o := r.read(u, how, "get", "c", "lib/one"); o.code != 0 {
			t.Errorf("%s (%s): %v", u.name, how.name, o)
		}
	})
}

// TestOutputFails has nowhere to print to.
func TestOutputFails(t *testing.T) {
	r := newLines(t, admin)
	r.refresh()
	to := func(stdout string, args ...string) outcome {
		return run(t, as(admin, append([]string{"/bin/sh", "-c", `exec "$@" >` + stdout, "sh"}, r.syscache(args...)...)...))
	}
	if o := to("/dev/full", "get", "c", "lib/one"); o.code != 1 || !strings.HasPrefix(o.stderr, "syscache: write /dev/stdout: no space left on device\nhint: ") {
		t.Errorf("get >/dev/full: %v", o)
	}
	// Go's runtime opens /dev/null in the place of a closed descriptor: what is
	// printed is lost, and no file of the cache takes its number.
	r.write("lib/one", "edit\n")
	if o := to("&-", "refresh"); o.code != 0 {
		t.Errorf("refresh >&-: %v", o)
	}
	r.check("c")
	for n := range 2000 {
		r.write(fmt.Sprintf("lib/many/%d-%s", n, strings.Repeat("x", 100)), "")
	}
	r.refresh()
	o := run(t, as(bob, "/bin/bash", "-c", `"$@" | head -1; exit "${PIPESTATUS[0]}"`, "bash", tool, "--root", r.dir, "list", "c"))
	if strings.Count(o.stdout, "\n") != 1 || o.stderr != "" {
		t.Errorf("list | head -1: %v", o)
	}
}
