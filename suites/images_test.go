//go:build linux

package suites

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mounted on dir, an image of what r has now.
func (r *root) squash(dir string) {
	r.t.Helper()
	needs(r.t, "mksquashfs")
	image := r.side + "/image"
	if err := os.Remove(image); err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	mustRun(r.t, "mksquashfs", r.dir, image, "-quiet", "-no-progress")
	mustRun(r.t, "mount", "-o", "loop,ro", "-t", "squashfs", image, dir)
}

// at returns r as it is seen in another directory.
func (r *root) at(dir string) *root {
	other := *r
	other.dir = dir
	return &other
}

// readOnly are the ways in which an install cannot be written.
var readOnly = map[string]func(r *root) *root{
	"squashfs": func(r *root) *root {
		dir := mountPoint(r.t)
		r.squash(dir)
		return r.at(dir)
	},
	"a read-only bind mount": func(r *root) *root {
		dir := mounted(r.t, "--bind", r.dir)
		mustRun(r.t, "mount", "-o", "remount,bind,ro", dir)
		return r.at(dir)
	},
}

// An install that cannot be written is read as any other; who would refresh it
// is told what to do, in one line, and nothing is written. LESSONS: "Readers
// that try to write, lock or touch fail on read-only installs".
func TestReadOnlyInstall(t *testing.T) {
	for name, mount := range readOnly {
		for _, place := range []string{"/var/cache/syscache", "/usr/lib/syscache"} {
			t.Run(name+" "+place, func(t *testing.T) {
				r := newLines(t, admin, `witness = ["lib/one"]`)
				if o := run(t, as(admin, r.syscache("--cache-dir", r.dir+place, "refresh")...)); o.code != 0 {
					t.Fatal(o)
				}
				ro := mount(r)
				before := ro.walk(ro.dir)
				ro.fresh(admin, alice, bob)
				for verb, code := range map[string]int{"refresh": 1, "refresh --hook": 0, "invalidate": 1, "verify": 0, "status": 0, "doctor": 0} {
					o := run(t, as(admin, ro.syscache(strings.Fields(verb)...)...))
					if o.code != code || code == 1 && !strings.Contains(o.stderr, "hint: keep the caches of a read-only install elsewhere: --cache-dir") {
						t.Errorf("%s: %v", verb, o)
					}
					if strings.HasPrefix(verb, "refresh") && strings.Count(o.stderr, "read-only") == 0 {
						t.Errorf("%s does not say why: %v", verb, o)
					}
				}
				if diff := cmp.Diff(before, ro.walk(ro.dir)); diff != "" {
					t.Errorf("something was written (-before +after):\n%s", diff)
				}
				ro.fresh(admin, bob)
			})
		}
	}
}

// An image has no ctime, only the time that its maker gave it: when another
// image comes to its place, a file of the same size and time is another all the
// same, and neither a reader nor a refresh takes the one for the other (I2).
func TestImageReplaced(t *testing.T) {
	for name, mount := range map[string]func(r *root, dir string){
		"squashfs": (*root).squash,
		"an overlay of squashfs": func(r *root, dir string) {
			lower := mountPoint(r.t)
			r.squash(lower)
			mustRun(r.t, "mount", "--bind", newOverlay(r.t, lower).dir, dir)
		},
	} {
		for _, witness := range []string{``, `witness = ["lib/one"]`, `witness = ["lib/"]`} {
			t.Run(name+" "+witness, func(t *testing.T) {
				r := newLines(t, admin, witness)
				caches := newDir(t)
				dir := mountPoint(t)
				mount(r, dir)
				ro := r.at(dir)
				refresh := func() outcome {
					t.Helper()
					o := run(t, as(admin, ro.syscache("--cache-dir", caches, "refresh")...))
					if o.code != 0 {
						t.Fatal(o)
					}
					return o
				}
				// Where only times could certify anything, nothing does.
				get := func(value string) {
					t.Helper()
					everybody(t, []user{admin, bob}, func(t *testing.T, u user, how reader) {
						t.Helper()
						o := ro.read(u, how, "--cache-dir", caches, "get", "c", "lib/one")
						if witness == "" && o.code != 4 || witness != "" && o.stdout != value {
							t.Errorf("%s (%s): want %s: %v", u.name, how.name, value, o)
						}
					})
				}
				if o := refresh(); (witness == "") != strings.Contains(o.stderr, "every reader will miss") {
					t.Errorf("refresh: %v", o)
				}
				get("\"1111\"\n")
				refresh()
				get("\"1111\"\n")

				unmount(dir)
				r.rewrite("lib/one", "9999\n")
				mount(r, dir)
				get("")
				refresh()
				get("\"9999\"\n")
			})
		}
	}
}
