//go:build linux

package suites

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syscache/syscache/syscache"
)

// libraries are the two implementations as programs import them. Their
// arguments are a root and its cache_dirs, if others than its own; mode is
// "strict" or "lenient", which allows stale data. They print a row's value,
// and "stale" if it is, or which error there is; then, for each line of input,
// what current says.
var libraries = map[string]func(mode string, args ...string) *exec.Cmd{
	"go": func(mode string, args ...string) *exec.Cmd {
		return asPart(bob, "library", append([]string{mode}, args...)...)
	},
	"python": func(mode string, args ...string) *exec.Cmd {
		cmd := as(bob, append([]string{"/usr/bin/python3", "-SBc", libraryPython, mode}, args...)...)
		cmd.Env = append(cmd.Env, "PYTHONPATH="+filepath.Dir(python))
		return cmd
	},
}

func init() { parts["library"] = library }

func library(args []string) error {
	r, err := syscache.Open(args[1], "c", &syscache.ReadOptions{CacheDirs: args[2:], AllowStale: args[0] == "lenient"})
	if e, ok := err.(*syscache.Error); ok {
		fmt.Println(e.Err)
		fmt.Fprintln(os.Stderr, e)
		return nil
	}
	value, err := r.Get([]byte("lib/one"))
	if r.Stale() != nil {
		value = append(value, " stale"...)
	}
	fmt.Printf("%s\n", value)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if ok, err := r.Current(); err != nil {
			fmt.Println(err.(*syscache.Error).Err)
		} else {
			fmt.Println(ok)
		}
	}
	return err
}

const libraryPython = `
import sys, syscache
def name(error):
    return {"TooNew": "too new"}.get(type(error).__name__, type(error).__name__.lower())
mode, root, *cache_dirs = sys.argv[1:]
try:
    cache = syscache.open(root, "c", cache_dirs=cache_dirs or None, allow_stale=mode == "lenient")
    print(cache.get(b"lib/one").decode() + " stale" * bool(cache.stale), flush=True)
    for line in sys.stdin:
        try:
            print(str(cache.current()).lower(), flush=True)
        except syscache.Error as error:
            print(name(error), flush=True)
except syscache.Error as error:
    print(name(error))
    print(error, file=sys.stderr)
`

// A talk is with a library that holds a cache open.
type talk struct {
	in  io.Writer
	out *bufio.Scanner
}

func (r *root) talk(cmd *exec.Cmd) *talk {
	r.t.Helper()
	in, err := cmd.StdinPipe()
	r.must(err)
	out, w, err := os.Pipe()
	r.must(err)
	cmd.Stdout = w
	start(r.t, cmd)
	w.Close()
	r.t.Cleanup(func() { in.Close(); out.Close() })
	return &talk{in, bufio.NewScanner(out)}
}

// hears returns the next line.
func (c *talk) hears() string {
	c.out.Scan()
	return c.out.Text()
}

// current asks what current says.
func (c *talk) current() string {
	fmt.Fprintln(c.in)
	return c.hears()
}

// Whatever becomes of an install's caches, both libraries say the same of it,
// to those who open it then and to those who had it open.
func TestSameAnswers(t *testing.T) {
	const fresh, old = `"1111"`, `"1111" stale`
	mark := func(r *root) { r.must(os.Rename(r.cache("current"), r.cache("stale"))) }
	image := func(r *root) {
		r.must(os.MkdirAll(r.dir+"/usr/lib", 0o755))
		r.must(os.Rename(r.dir+"/var/cache/syscache", r.dir+"/usr/lib/syscache"))
	}
	pointer := func(r *root, name string) { // of the image's, in the first cache_dir
		r.must(os.MkdirAll(r.cache(""), 0o755))
		r.must(copyFile(r.dir+"/usr/lib/syscache/c/current", r.cache(name)))
		r.must(os.Chmod(r.cache(name), 0o644))
	}
	for _, c := range []struct {
		name                 string
		change               func(r *root)
		strict, lenient      string // what Open says
		strictNow, leniently string // what Current says to who had it open
	}{
		{"nothing", func(*root) {}, fresh, fresh, "true", "true"},
		{"the witness changed", func(r *root) { r.write("lib/one", "1112\n") }, "stale", old, "stale", "false"},
		{"marked stale", mark, "stale", old, "stale", "false"},
		{"refreshed", func(r *root) { r.write("lib/one", "1112\n"); r.refresh() }, `"1112"`, `"1112"`, "false", "false"},
		{"certified anew", func(r *root) { r.rewrite("lib/one", "1111\n"); r.refresh() }, fresh, fresh, "true", "true"},
		{"no pointer", func(r *root) { r.must(os.Remove(r.cache("current"))) }, "missing", "missing", "missing", "missing"},
		{"no generation", func(r *root) { r.must(os.RemoveAll(r.cache("g"))) }, "missing", "missing", "true", "true"},
		{"moved to the image's", image, fresh, fresh, "true", "true"},
		{"the image's, and a file for the first", func(r *root) { image(r); r.write("var/cache/syscache", "") }, fresh, fresh, "true", "true"},
		{"the image's, and an empty first", func(r *root) { image(r); r.mkdir(r.dir + "/var/cache/syscache/c") }, fresh, fresh, "true", "true"},
		{"the image's, and an untrusted first", func(r *root) {
			image(r)
			r.mkdir(r.dir + "/var/cache/syscache/c")
			r.must(os.Chmod(r.cache(""), 0o777))
		}, "untrusted", "untrusted", "untrusted", "untrusted"},
		{"the image's, with its pointer in the first", func(r *root) { image(r); pointer(r, "current") }, fresh, fresh, "true", "true"},
		{"the image's, marked stale in the first", func(r *root) { image(r); pointer(r, "stale") }, "stale", old, "stale", "false"},
		{"the image's, marked by anything", func(r *root) { image(r); r.write("var/cache/syscache/c/stale", "x") }, "stale", "corrupt", "stale", "corrupt"},
		{"a pointer here, the generation in an untrusted image's", func(r *root) {
			image(r)
			pointer(r, "current")
			r.must(os.Chmod(r.dir+"/usr/lib/syscache/c", 0o777))
		}, "untrusted", "untrusted", "true", "true"}, // who has it open has it
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newLines(t, admin, `witness = ["lib/one"]`)
			r.refresh()
			type held struct {
				name, want string
				*talk
			}
			var open []held
			for name, command := range libraries {
				open = append(open, held{name + " strict", c.strictNow, r.talk(command("strict", r.dir))}, held{name + " lenient", c.leniently, r.talk(command("lenient", r.dir))})
			}
			for _, h := range open {
				if got := h.hears(); got != fresh {
					t.Fatalf("%s opens %s", h.name, got)
				}
				if got := h.current(); got != "true" {
					t.Errorf("%s: current at first: %s", h.name, got)
				}
			}
			c.change(r)
			for _, h := range open {
				for range 2 {
					if got := h.current(); got != h.want {
						t.Errorf("%s: current: %s, want %s", h.name, got, h.want)
					}
				}
			}
			for name, command := range libraries {
				for mode, want := range map[string]string{"strict": c.strict, "lenient": c.lenient} {
					if o := run(t, command(mode, r.dir)); strings.TrimSpace(o.stdout) != want {
						t.Errorf("%s %s: want %s: %v", name, mode, want, o)
					}
				}
			}
		})
	}
}

// An install that is upgraded by leading a symbolic link elsewhere is followed.
func TestRepointedRoot(t *testing.T) {
	old, next := newLines(t, admin, `witness = []`), newLines(t, admin, `witness = []`)
	next.write("lib/one", "1112\n")
	old.refresh()
	next.refresh()
	same := old.side + "/same" // a copy: the same generation
	if o := run(t, as(admin, "/bin/cp", "-a", old.dir, same)); o.code != 0 {
		t.Fatal(o)
	}
	link := old.side + "/link"
	lead := func(to string) {
		old.must(os.Symlink(to, link+".new"))
		old.must(os.Rename(link+".new", link))
	}
	for name, command := range libraries {
		lead(old.dir)
		c := old.talk(command("strict", link))
		if got := c.hears(); got != `"1111"` {
			t.Fatalf("%s opens %s", name, got)
		}
		for _, step := range []struct{ to, want string }{
			{old.dir, "true"}, {same, "true"}, {next.dir, "false"}, {"/nonexistent", "missing"}, {old.dir, "true"},
		} {
			lead(step.to)
			for range 2 {
				if got := c.current(); got != step.want {
					t.Errorf("%s, of %s: current: %s, want %s", name, step.to, got, step.want)
				}
			}
		}
	}
}
