//go:build linux

package suites

import (
	"bufio"
	stdcmp "cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A root is an install of its own, with a directory beside it for what is no
// part of the install.
type root struct {
	t     *testing.T
	dir   string // the install root
	side  string // beside it: builders' logs, what they wait for
	owner user
}

// parent is where newRoot makes installs: a directory that every user can reach,
// on the file system that is to be tested.
var parent = stdcmp.Or(os.Getenv("SUITES_DIR"), "/tmp")

// newRoot returns an empty install of owner that every user can reach. (The
// parents of t.TempDir keep others out.)
func newRoot(t *testing.T, owner user) *root {
	t.Helper()
	return newRootIn(t, parent, owner)
}

func newRootIn(t *testing.T, parent string, owner user) *root {
	t.Helper()
	top, err := os.MkdirTemp(parent, "syscache-root-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	r := &root{t, top + "/root", top + "/side", owner}
	for _, dir := range []string{top, r.dir, r.side} {
		os.Mkdir(dir, 0o755)
		r.must(os.Chmod(dir, 0o755))
		r.must(os.Chown(dir, owner.uid, owner.uid))
	}
	return r
}

// lines is a builder of tables: a row for each file below lib, its first line
// by its path. It appends a line to $LOG each time it runs.
const lines = `#!/bin/sh
set -e
echo built >>"$LOG"
find lib -type f | LC_ALL=C sort | while read -r f; do
	printf '{"key":"%s","value":"%s"}\n' "$f" "$(head -n 1 "$f")"
done
`

// newLines returns an install with one cache, c, that lines builds from a few
// files. More settings may be given.
func newLines(t *testing.T, owner user, settings ...string) *root {
	t.Helper()
	r := newRoot(t, owner)
	r.fill()
	r.build(lines, settings...)
	return r
}

func (r *root) fill() {
	r.write("lib/one", "1111\n")
	r.write("lib/two", "2222\n")
	r.write("lib/sub/three", "3333\n")
	r.must(os.Symlink("one", r.dir+"/lib/link"))
	r.must(os.Lchown(r.dir+"/lib/link", r.owner.uid, r.owner.uid))
}

// build makes script the builder of c, whose inputs are all below lib.
func (r *root) build(script string, settings ...string) {
	r.t.Helper()
	r.write("libexec/build", script)
	r.must(os.Chmod(r.dir+"/libexec/build", 0o755))
	r.config(append([]string{`build = ["libexec/build"]`}, settings...)...)
}

// config declares c with the settings given.
func (r *root) config(settings ...string) {
	r.t.Helper()
	r.write("etc/syscache.toml", fmt.Sprintf(`[cache.c]
inputs = ["lib/**"]
recipe = ["libexec/*"]
env    = { PATH = "/usr/bin:/bin", LOG = "%s/log", SIDE = "%s" }
%s
`, r.side, r.side, strings.Join(settings, "\n")))
}

// write writes a file as the owner would.
func (r *root) write(name, content string) {
	r.t.Helper()
	path := r.path(name)
	r.mkdir(filepath.Dir(path))
	r.must(os.WriteFile(path, []byte(content), 0o644))
	r.must(os.Chown(path, r.owner.uid, r.owner.uid))
}

func (r *root) mkdir(path string) {
	r.t.Helper()
	if _, err := os.Lstat(path); err == nil {
		return
	}
	r.mkdir(filepath.Dir(path))
	r.must(os.Mkdir(path, 0o755))
	r.must(os.Chown(path, r.owner.uid, r.owner.uid))
}

func (r *root) path(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return r.dir + "/" + name
}

// cache returns a path in the directory of c.
func (r *root) cache(name string) string { return r.dir + "/var/cache/syscache/c/" + name }

func (r *root) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *root) readFile(name string) string {
	r.t.Helper()
	b, err := os.ReadFile(r.path(name))
	r.must(err)
	return string(b)
}

// builds returns how often the builder ran.
func (r *root) builds() int {
	b, _ := os.ReadFile(r.side + "/log")
	return strings.Count(string(b), "\n")
}

// contents returns what lines makes of the install as it is.
func (r *root) contents() map[string]string {
	r.t.Helper()
	rows := map[string]string{}
	r.must(filepath.WalkDir(r.dir+"/lib", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rows[path[len(r.dir)+1:]] = firstLine(path)
		}
		return err
	}))
	return rows
}

func firstLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	line, _ := bufio.NewReader(f).ReadString('\n')
	return strings.TrimSuffix(line, "\n")
}

// syscache returns the command with arguments, as root runs it.
func (r *root) syscache(args ...string) []string { return goReader.command(r.dir, args...) }

// refreshed is a line of refresh --json.
type refreshed struct {
	Cache, Outcome, Key string
	Rows, Inputs        int
}

// refresh refreshes as root, which must succeed, and has it checked.
func (r *root) refresh(args ...string) refreshed {
	r.t.Helper()
	o := run(r.t, as(admin, r.syscache(append([]string{"refresh", "--json"}, args...)...)...))
	return r.succeeded(o)
}

// succeeded returns the result of a refresh --json that must have succeeded,
// after having it checked.
func (r *root) succeeded(o outcome) refreshed {
	r.t.Helper()
	if o.code != 0 {
		r.t.Fatalf("refresh: %v", o)
	}
	var first refreshed
	for i, line := range strings.Split(strings.TrimSpace(o.stdout), "\n") {
		var res refreshed
		if err := json.Unmarshal([]byte(line), &res); err != nil {
			r.t.Fatalf("refresh printed %q: %v", line, err)
		}
		if i == 0 {
			first = res
		}
		r.check(res.Cache)
	}
	return first
}

// refused refreshes, which must fail with exit code 1.
func (r *root) refused() outcome {
	r.t.Helper()
	o := run(r.t, as(admin, r.syscache("refresh")...))
	if o.code != 1 {
		r.t.Fatalf("refresh should have failed: %v", o)
	}
	return o
}

// check is what follows every refresh that succeeded: both implementations
// verify every byte, and nothing lies about.
func (r *root) check(cache string) {
	r.t.Helper()
	for _, how := range readers {
		if o := run(r.t, as(admin, how.command(r.dir, "verify", cache)...)); o.code != 0 {
			r.t.Errorf("verify (%s): %v", how.name, o)
		}
	}
	r.noLitter(cache)
}

var (
	ownNames   = regexp.MustCompile(`^(lock|current|stale|inventory|state|seen|latest|g)$`)
	generation = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// noLitter checks that a cache's directory holds what it should and no more
// (I10).
func (r *root) noLitter(cache string) {
	r.t.Helper()
	dir := r.dir + "/var/cache/syscache/" + cache
	for dir, allowed := range map[string]*regexp.Regexp{dir: ownNames, dir + "/g": generation} {
		entries, err := os.ReadDir(dir)
		r.must(err)
		for _, e := range entries {
			if !allowed.MatchString(e.Name()) {
				r.t.Errorf("litter: %s/%s", dir, e.Name())
			}
		}
	}
}

// read runs a verb of a reader as a user.
func (r *root) read(u user, how reader, args ...string) outcome {
	r.t.Helper()
	return run(r.t, as(u, how.command(r.dir, args...)...))
}

// list returns the rows of c as u reads them.
func (r *root) list(u user, how reader) map[string]string {
	r.t.Helper()
	o := r.read(u, how, "list", "c")
	if o.code != 0 {
		r.t.Fatalf("list as %s (%s): %v", u.name, how.name, o)
	}
	rows := map[string]string{}
	for line := range strings.SplitSeq(strings.TrimSpace(o.stdout), "\n") {
		var row struct{ Key, Value string }
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			r.t.Fatalf("list as %s (%s): %q: %v", u.name, how.name, line, err)
		}
		rows[row.Key] = row.Value
	}
	return rows
}

// fresh checks that every user has what the install contains now.
func (r *root) fresh(users ...user) {
	r.t.Helper()
	want := r.contents()
	everybody(r.t, users, func(t *testing.T, u user, how reader) {
		t.Helper()
		if diff := cmp.Diff(want, r.list(u, how)); diff != "" {
			t.Errorf("%s (%s) reads other rows than the install has (-want +got):\n%s", u.name, how.name, diff)
		}
	})
}

// misses checks that every user is told, at once, that there is no answer.
func (r *root) misses(users ...user) {
	r.t.Helper()
	everybody(r.t, users, func(t *testing.T, u user, how reader) {
		t.Helper()
		if o := r.read(u, how, "get", "c", "lib/one"); o.code != 4 || o.stdout != "" {
			t.Errorf("%s (%s) should miss with exit 4: %v", u.name, how.name, o)
		}
	})
}

// A trace is what a stat says of a file and a change would move.
type trace struct {
	Mode         uint32
	UID, GID     uint32
	Inode        uint64
	Size         int64
	Mtime, Ctime int64
}

// walk returns the trace of everything at and below path. The time of access
// is left out: the kernel moves it for whoever reads.
func (r *root) walk(path string) map[string]trace {
	r.t.Helper()
	all := map[string]trace{}
	r.must(filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		all[strings.TrimPrefix(p, path)] = trace{
			st.Mode, st.Uid, st.Gid, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano(),
		}
		return nil
	}))
	return all
}
