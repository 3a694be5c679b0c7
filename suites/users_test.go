//go:build linux

package suites

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// pure is a builder whose result and recipe are the same in every root: so the
// bytes of the generation must be too (I9). It builds files where $SYSCACHE_OUT
// has them expected, and rows otherwise.
const pure = `#!/bin/sh
set -e
if [ "$SYSCACHE_CACHE" = f ]; then
	mkdir "$SYSCACHE_OUT/deep"
	cp lib/one "$SYSCACHE_OUT/deep/one"
	printf '#!/bin/sh\n' >"$SYSCACHE_OUT/run"
	chmod 700 "$SYSCACHE_OUT/run"
	ln -s deep/one "$SYSCACHE_OUT/link"
	exit
fi
printf '{"key":"one","value":"%s"}\n{"key_base64":"/w==","value_base64":"AP8="}\n' "$(cat lib/one)"
`

func newPure(t *testing.T) *root {
	r := newRoot(t, admin)
	r.fill()
	r.write("libexec/build", pure)
	r.must(os.Chmod(r.dir+"/libexec/build", 0o755))
	const settings = "inputs = [\"lib/**\"]\nbuild = [\"libexec/build\"]\nrecipe = [\"libexec/*\"]\nenv = { PATH = \"/usr/bin:/bin\" }\n"
	r.write("etc/syscache.toml", "[cache.c]\n"+settings+"[cache.f]\nkind = \"files\"\n"+settings)
	return r
}

// Whatever the caller's umask, PATH, HOME, TMPDIR and standard input: the same
// modes and the same bytes, for everybody (I9, I11). LESSONS: "umask 077 root
// makes caches nobody can read, umask 000 ones anyone can write".
func TestCallersEnvironmentChangesNothing(t *testing.T) {
	type published struct {
		Modes map[string]fs.FileMode
		Bytes map[string]string
	}
	var first *published
	for _, umask := range []string{"022", "077", "000"} {
		t.Run("umask "+umask, func(t *testing.T) {
			r := newPure(t)
			tmp, err := os.MkdirTemp("/dev/shm", "syscache-tmp-")
			r.must(err)
			defer os.RemoveAll(tmp)
			cmd := as(admin, "/bin/sh", "-c", "umask "+umask+`; exec "$0" --root "$1" refresh --json <&-`, tool, r.dir)
			cmd.Env = []string{"PATH=", "TMPDIR=" + tmp}
			r.succeeded(run(t, cmd))
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("left in TMPDIR: %v, %v", left, err)
			}
			got := &published{map[string]fs.FileMode{}, map[string]string{}}
			r.must(filepath.WalkDir(r.dir+"/var", func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				fi, err := d.Info()
				rel := path[len(r.dir):]
				got.Modes[rel] = fi.Mode()
				if d.Type().IsRegular() && strings.Contains(rel, "/g/") {
					got.Bytes[rel] = r.readFile(path)
				}
				return err
			}))
			for path, mode := range got.Modes {
				private := strings.Contains("lock inventory state seen", base(path))
				want := fs.FileMode(0o644)
				switch {
				case mode.Type() == fs.ModeSymlink:
					continue
				case mode.IsDir():
					want = fs.ModeDir | 0o755
				case private:
					want = 0o600
				case base(path) == "run":
					want = 0o755
				}
				if mode != want {
					t.Errorf("%s has mode %v, want %v", path, mode, want)
				}
			}
			if first == nil {
				first = got
			}
			if diff := cmp.Diff(first, got); diff != "" {
				t.Errorf("not what umask 022 publishes:\n%s", diff)
			}
			readsAll(t, r)
		})
	}
}

// readsAll has a user without privilege read a table and files in every way
// that there is.
func readsAll(t *testing.T, r *root) {
	t.Helper()
	everybody(t, []user{bob}, func(t *testing.T, u user, how reader) {
		t.Helper()
		for _, c := range []struct {
			args []string
			want string // "": anything
		}{
			{[]string{"get", "c", "one"}, "\"1111\"\n"},
			{[]string{"list", "c", "one"}, ""},
			{[]string{"list", "f"}, "deep/one\nlink\nrun\n"},
			{[]string{"path", "f"}, ""},
			{[]string{"verify", "c"}, ""},
			{[]string{"verify", "f"}, ""},
		} {
			o := r.read(u, how, c.args...)
			if o.code != 0 || o.stderr != "" || c.want != "" && o.stdout != c.want {
				t.Errorf("%s (%s) %v: %v", u.name, how.name, c.args, o)
			}
		}
		// A row that is not text is the same bytes in both.
		o := r.read(u, how, "list", "c")
		_, last, _ := strings.Cut(o.stdout, "\n")
		var row map[string]string
		if err := json.Unmarshal([]byte(last), &row); err != nil || row["key_base64"] != "/w==" || row["value_base64"] != "AP8=" {
			t.Errorf("%s (%s) lists %q", u.name, how.name, last)
		}
	})
}

// Who may not write the install can create, change, move, remove and lock
// nothing in its cache, and holding all of it open, locked where that is
// allowed, delays no refresh (I4). LESSONS: "a lock file that others can open
// lets any user block root".
func TestNobodyElseCanDamageOrDelay(t *testing.T) {
	r := newLines(t, admin)
	r.refresh()
	cmd := asPart(bob, "attack", r.dir+"/var/cache/syscache", r.side)
	stdin, err := cmd.StdinPipe()
	r.must(err)
	stdout, err := os.Create(r.side + "/attack")
	r.must(err)
	defer stdout.Close()
	cmd.Stdout = stdout
	attacker := start(t, cmd)
	said := ""
	eventually(t, "the attacker has tried everything", func() bool {
		said = r.readFile(r.side + "/attack")
		return strings.HasSuffix(said, "holding\n") || attacker.ended()
	})
	if said != "holding\n" {
		t.Errorf("bob succeeded:\n%s%s", said, attacker.err.String())
	}
	r.write("lib/one", "changed\n")
	r.misses(bob)
	began := time.Now()
	if got := r.refresh(); got.Outcome != "built" {
		t.Errorf("refresh: %s", got.Outcome)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the refresh took %v", took)
	}
	r.fresh(bob, carol)
	stdin.Close()
	attacker.wait()
}

func init() { parts["attack"] = attack }

// attack tries all that a user can think of against a cache_dir and prints
// what succeeded. Then it holds open and locks whatever it can, says so, and
// stays until its standard input ends.
func attack(args []string) error {
	cacheDir, mine := args[0], args[1]
	did := func(what string, err error) {
		if err == nil {
			fmt.Println(what)
		}
	}
	var all []string
	filepath.WalkDir(cacheDir, func(path string, _ fs.DirEntry, _ error) error {
		all = append(all, path)
		return nil
	})
	for _, p := range all {
		did("chmod "+p, os.Chmod(p, 0o777))
		did("chown "+p, os.Lchown(p, bob.uid, bob.uid))
		did("times "+p, os.Chtimes(p, time.Now(), time.Now()))
		did("rename "+p, os.Rename(p, p+"x"))
		did("rename away "+p, os.Rename(p, mine+"/x"))
		did("replace "+p, os.Rename(mine+"/log", p))
		did("remove "+p, os.Remove(p))
		did("mkdir "+p, os.Mkdir(p+"/d", 0o777))
		did("link "+p, os.Link(p, cacheDir+"/l"))
		did("symlink "+p, os.Symlink("/etc/passwd", p+"/s"))
		did("truncate "+p, os.Truncate(p, 0))
		for _, name := range []string{p, p + "/current", p + "/stale", p + "/lock", p + "/.pending-0", p + "/new"} {
			f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
			did("write "+name, err)
			f.Close()
		}
		if base(p) == "lock" {
			_, err := os.Open(p)
			did("open "+p, err)
		}
	}
	var held []*os.File
	for _, p := range all {
		if f, err := os.Open(p); err == nil {
			unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			held = append(held, f)
		}
	}
	fmt.Println("holding")
	io.Copy(io.Discard, bufio.NewReader(os.Stdin))
	for _, f := range held {
		f.Close()
	}
	return nil
}
