//go:build linux

package suites

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// answers checks what both libraries answer, in the directory where.
func (r *root) answers(where, want, name string, cacheDirs ...string) {
	r.t.Helper()
	for language, command := range libraries {
		cmd := command("strict", append([]string{name}, cacheDirs...)...)
		cmd.Dir = where
		cmd.Env = append(cmd.Env, "PWD="+where) // as a shell has it, symbolic links and all
		if o := run(r.t, cmd); o.code != 0 || strings.TrimSpace(o.stdout) != want {
			r.t.Errorf("%s, root %q in %s, cache_dirs %v: want %s: %v", language, name, where, cacheDirs, want, o)
		}
	}
}

// newElsewhere returns an install with a cache both inside and in caches,
// beside it.
func newElsewhere(t *testing.T) (r *root, top, caches string) {
	t.Helper()
	r = newLines(t, admin)
	r.refresh()
	top = filepath.Dir(r.dir)
	caches = top + "/caches"
	r.must(os.Mkdir(caches, 0o755))
	if o := run(t, as(admin, r.syscache("--cache-dir", caches, "refresh")...)); o.code != 0 {
		t.Fatal(o)
	}
	return r, top, caches
}

// However a root is named, it is the same root.
func TestNamesOfARoot(t *testing.T) {
	r, top, caches := newElsewhere(t)
	r.must(os.Symlink("root", top+"/link"))
	r.must(os.Symlink(top, r.side+"/up"))
	r.must(os.Symlink(r.dir+"/lib/sub", r.side+"/deep"))
	r.must(os.Symlink("caches", top+"/caches-link"))
	for _, name := range []string{
		r.dir, r.dir + "/", r.dir + "//", "/" + r.dir, strings.ReplaceAll(r.dir, "/", "//"), r.dir + "/.", r.dir + "/lib/..",
		top + "/link", top + "/link/", top + "/link//", r.side + "/up/root", r.side + "/up/link", r.side + "/deep/../..",
	} {
		r.answers("/", `"1111"`, name)
		r.answers("/", `"1111"`, name, caches)
		r.answers("/", `"1111"`, name, top+"/caches-link/")
		r.answers("/", `"1111"`, name, name+"/var/cache/syscache")
		r.answers("/", `"1111"`, name, r.side+"/up/link/var/cache/syscache")
	}
	for _, c := range []struct{ where, name string }{
		{top, "root"},
		{top, "./root/"},
		{top, "link"},
		{r.dir, "."},
		{r.dir, "../root"},
		{r.dir + "/lib", ".."},
		{r.side + "/up", "root"},
		{r.side + "/deep", "../.."},
		{"/", r.dir[1:]},
	} {
		r.answers(c.where, `"1111"`, c.name)
		r.answers(c.where, `"1111"`, c.name, caches)
	}
}

// A root takes its own caches with it when it is renamed; those elsewhere
// name the root that it was.
func TestRenamedRoot(t *testing.T) {
	r, top, caches := newElsewhere(t)
	r.must(os.Rename(r.dir, top+"/moved"))
	r.answers("/", `"1111"`, top+"/moved")
	r.answers("/", "missing", top+"/moved", caches)
	for language, command := range libraries {
		if o := run(t, command("strict", top+"/moved", caches)); !strings.Contains(o.stderr, r.dir) {
			t.Errorf("%s does not say whose it is: %v", language, o)
		}
	}
	// The old name alone makes no other install the one it was.
	o := run(t, as(admin, "/bin/cp", "-a", top+"/moved", top+"/other"))
	if o.code != 0 {
		t.Fatal(o)
	}
	r.must(os.Symlink("other", r.dir))
	r.answers("/", "missing", r.dir, caches)
	r.must(os.Remove(r.dir))
	r.must(os.Rename(top+"/moved", r.dir))
	r.answers("/", `"1111"`, r.dir, caches)
}
