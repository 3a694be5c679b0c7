//go:build linux

package suites

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/hashing"
)

const secret = "the secret of root\n"

// canary makes a tree of root's beside the install, in which everything has a
// name that syscache opens, makes, renames or removes, and returns what checks
// that it is as it was and that nobody was told the secret.
func (r *root) canary(without ...string) (dir string, untouched func(said ...outcome)) {
	r.t.Helper()
	dir = r.side + "/canary"
	for _, name := range []string{
		"secret", "lock", "current", "stale", "state", "inventory", "seen", ".pending-1", ".new-1/f", "g/.new-1/f",
		"g/" + strings.Repeat("0", 64) + "/table", "c/lock", "c/current", "c/.pending-1", "c/g/.new-1/f",
		"syscache.toml", "syscache.d/x.toml", "etc/syscache.toml", "lib/one", "one", "build", "libexec/build",
		"cache/syscache/c/current", "cache/syscache/c/.pending-1", "syscache/c/current", "var/cache/syscache/c/current",
	} {
		if slices.Contains(without, name) {
			continue
		}
		r.must(os.MkdirAll(filepath.Dir(dir+"/"+name), 0o755))
		r.must(os.WriteFile(dir+"/"+name, []byte(secret), 0o600))
	}
	before := r.walk(dir)
	return dir, func(said ...outcome) {
		r.t.Helper()
		if diff := cmp.Diff(before, r.walk(dir)); diff != "" {
			r.t.Errorf("what is root's was touched (-before +after):\n%s", diff)
		}
		for _, o := range said {
			r.keeps(o.String(), "a message")
		}
		r.must(filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			if fi, err := d.Info(); err != nil || fi.Size() > 1<<20 || fi.Sys().(*syscall.Stat_t).Nlink > 1 {
				return err
			}
			r.keeps(r.readFile(path), path)
			return nil
		}))
	}
}

// keeps checks that a text has neither the secret nor a digest of it.
func (r *root) keeps(text, where string) {
	r.t.Helper()
	blake, err := hashing.Sum(strings.NewReader(secret))
	r.must(err)
	sha := sha256.Sum256([]byte(secret))
	for _, s := range []string{strings.TrimSpace(secret), blake.String(), string(blake[:]), fmt.Sprintf("%x", sha), string(sha[:])} {
		if strings.Contains(text, s) {
			r.t.Errorf("the secret, or its digest, is in %s", where)
		}
	}
}

func init() { parts["swap"] = swap }

// swap exchanges pairs of names, as fast as it can, until its standard input
// ends. Then each is what it was.
func swap(pairs []string) error {
	exchange := func() error {
		for i := 0; i < len(pairs); i += 2 {
			err := unix.Renameat2(unix.AT_FDCWD, pairs[i], unix.AT_FDCWD, pairs[i+1], unix.RENAME_EXCHANGE)
			if err != nil && err != unix.ENOENT { // what it lies in may be away
				return fmt.Errorf("exchange %s: %w", pairs[i], err)
			}
		}
		return nil
	}
	if err := errors.Join(exchange(), exchange()); err != nil {
		return err
	}
	fmt.Println("swapping")
	var ended atomic.Bool
	go func() {
		io.Copy(io.Discard, os.Stdin)
		ended.Store(true)
	}()
	for !ended.Load() {
		if err := errors.Join(exchange(), exchange()); err != nil {
			return err
		}
	}
	return nil
}

// swapping has u exchange pairs of names until what it returns is called.
func (r *root) swapping(u user, groups []uint32, pairs ...string) (stop func()) {
	r.t.Helper()
	cmd := asPart(u, "swap", pairs...)
	cmd.SysProcAttr.Credential.Groups = groups
	in, err := cmd.StdinPipe()
	r.must(err)
	out, w, err := os.Pipe()
	r.must(err)
	cmd.Stdout = w
	p := start(r.t, cmd)
	w.Close()
	defer out.Close()
	if n, err := out.Read(make([]byte, 16)); err != nil || n == 0 {
		r.t.Fatalf("nothing is swapped: %v", p.wait())
	}
	return func() {
		in.Close()
		ok(r.t, p.wait())
	}
}

// verbs are all that root may do with an install, c in it.
var verbs = [][]string{
	{"refresh"},
	{"refresh", "--hook", "--force"},
	{"status"},
	{"verify", "c"},
	{"diff", "c"},
	{"doctor"},
	{"config"},
	{"init"},
	{"list", "c"},
	{"gc", "--now"},
	{"invalidate", "--hook"},
}

// everyVerb has root run all verbs, and returns what each said. None may die,
// and none may wait for what is not to come.
func (r *root) everyVerb(flags ...string) (said []outcome) {
	r.t.Helper()
	for _, verb := range verbs {
		o := run(r.t, as(admin, r.syscache(append(flags, verb...)...)...))
		if o.code < 0 || o.code > 7 || strings.Contains(o.stderr, "panic") {
			r.t.Errorf("%s: %v", verb, o)
		}
		if len(verb) > 1 && verb[1] == "--hook" && o.code != 0 {
			r.t.Errorf("a hook failed: %v", o)
		}
		said = append(said, o)
	}
	return said
}

// TestOwnerExchangesEverything: while root works on the install of alice, she
// exchanges each part of it for a link to root's own files, for a FIFO, and for
// a directory. Nothing of root's is changed or told, and root does not wait.
func TestOwnerExchangesEverything(t *testing.T) {
	targets := []struct{ path, leads string }{
		{"lib/one", "secret"},
		{"var/cache/syscache/c", ""},
		{"", ""},
		{"etc", ""},
		{"etc/syscache.toml", "secret"},
		{"usr/lib/syscache.d", "syscache.d"},
		{"var", ""},
		{"var/cache/syscache", ""},
		{"var/cache/syscache/c/g", "g"},
		{"var/cache/syscache/c/lock", "lock"},
		{"var/cache/syscache/c/current", "current"},
		{"var/cache/syscache/c/state", "state"},
		{"var/cache/syscache/c/inventory", "inventory"},
		{"var/cache/syscache/c/.pending-1", "c"},
		{"var/cache/syscache/c/g/.new-1", "g"},
		{"lib", "lib"},
		{"lib/sub", "lib"},
		{"libexec", "libexec"},
		{"libexec/build", "build"},
		{"share/witness", "secret"},
		{"share/list", "secret"},
	}
	for i, target := range targets {
		for kind, plant := range map[string]func(path, canary string) error{
			"a link":      func(path, canary string) error { return os.Symlink(canary+"/"+target.leads, path) },
			"a FIFO":      func(path, _ string) error { return unix.Mkfifo(path, 0o666) },
			"a directory": func(path, _ string) error { return os.Mkdir(path, 0o755) },
		} {
			t.Run(fmt.Sprintf("%q for %s", target.path, kind), func(t *testing.T) {
				if i > 1 || kind != "a link" {
					slow(t)
				}
				r := newLines(t, alice)
				r.write("share/witness", "1\n")
				r.write("share/list", "lib/one\nlib/two\n")
				r.write("usr/lib/syscache.d/d.toml", "[cache.d]\ninputs_from = \"share/list\"\nwitness = [\"share/witness\", \"lib/sub/\"]\n")
				r.refresh()
				r.write("var/cache/syscache/c/.pending-1/d/f", "")
				r.write("var/cache/syscache/c/g/.new-1/d/f", "")
				var marked []string
				if target.path == "" {
					// A link there leads root to an install of root's, which
					// it marks stale for whoever asks: SECURITY.md.
					marked = []string{"var/cache/syscache/c/current"}
				}
				canary, untouched := r.canary(marked...)
				path := filepath.Clean(r.path(target.path))
				evil := r.side + "/evil"
				r.must(plant(evil, canary))
				r.must(os.Lchown(evil, alice.uid, alice.uid))
				stop := r.swapping(alice, nil, path, evil)
				said := r.everyVerb()
				stop()
				untouched(said...)
				r.refresh()
				r.fresh(bob)
			})
		}
	}
}

// TestGroupExchangesEverything: a member of the group that manages an install
// of root's cannot have root, who only marks caches stale there, change
// anything elsewhere, by whatever they exchange for a link.
func TestGroupExchangesEverything(t *testing.T) {
	slow(t)
	for _, target := range []struct{ path, leads string }{
		{"var/cache/syscache/c/.pending-1/d", ""},
		{"var/cache/syscache/c", "c"},
		{"var/cache/syscache", "syscache"},
		{"var", "var"},
		{"etc", "etc"},
	} {
		t.Run(target.path, func(t *testing.T) {
			r := newShared(t)
			canary, untouched := r.canary()
			r.must(os.Chmod(r.side, 0o777))
			evil := r.side + "/evil"
			r.must(os.Symlink(canary+"/"+target.leads, evil))
			r.must(os.Lchown(evil, dora.uid, maintainers))
			var said []outcome
			for range 3 {
				for i := range 20 { // what there is to remove
					r.must(os.MkdirAll(r.cache(fmt.Sprintf(".pending-%d/d/e", i)), 0o777))
				}
				r.own(r.dir, dora)
				r.must(os.Lchown(r.dir, 0, maintainers))
				stop := r.swapping(dora, []uint32{maintainers}, r.path(target.path), evil)
				said = append(said, r.everyVerb()...)
				stop()
			}
			untouched(said...)
			ok(t, run(t, as(admin, r.syscache("invalidate")...)))
			r.misses(bob)
		})
	}
}

// TestRootsInstallInAnothersDirectory: who owns the directory that an install of
// root's lies in can put theirs in its place at any instant. Root runs nothing
// of it: not once was their builder root's.
func TestRootsInstallInAnothersDirectory(t *testing.T) {
	r := newLines(t, admin)
	top := filepath.Dir(r.dir)
	r.must(os.Chown(top, alice.uid, alice.uid))
	if o := r.refused(); !strings.Contains(o.stderr, top+" belongs to uid 61001") || r.builds() != 0 {
		t.Errorf("%d builds: %v", r.builds(), o)
	}
	hers := newLines(t, alice)
	hers.build("#!/bin/sh\nid -u >>" + r.side + "/ran-as\necho '{\"key\":\"k\",\"value\":1}'\n")
	r.must(os.Chmod(r.side, 0o777))
	canary, untouched := r.canary()
	r.must(os.Rename(hers.dir, top+"/hers"))
	r.must(os.Symlink(r.dir, top+"/link"))
	r.must(os.Symlink(top+"/hers", top+"/evil"))
	r.must(os.Symlink(canary, top+"/hers/link"))
	for _, name := range []string{top + "/link", top + "/evil"} {
		r.must(os.Lchown(name, alice.uid, alice.uid))
	}
	for _, pair := range [][2]string{{r.dir, top + "/hers"}, {top + "/link", top + "/evil"}} {
		stop := r.swapping(alice, nil, pair[0], pair[1])
		named := *r
		named.dir = pair[0]
		said := named.everyVerb()
		for range 5 {
			said = append(said, run(t, as(admin, named.syscache("refresh", "--force")...)))
		}
		stop()
		untouched(said...)
	}
	ran, _ := os.ReadFile(r.side + "/ran-as")
	for line := range strings.Lines(string(ran)) {
		if line != "61001\n" {
			t.Errorf("her builder ran as uid %s", line)
		}
	}
	if r.builds() != 0 {
		t.Error("root's builder ran")
	}
}

// TestLinkedFiles: another name of a file of root's, where the kernel lets
// others make one (fs.protected_hardlinks=0), is none of the install's files.
func TestLinkedFiles(t *testing.T) {
	for _, name := range []string{"lock", "current", "stale", "state", "inventory", "seen", ".pending-1", "/etc/syscache.toml", "/lib/one", "/libexec/build"} {
		t.Run(name, func(t *testing.T) {
			if name != "lock" {
				slow(t)
			}
			r := newLines(t, alice)
			r.refresh()
			canary, _ := r.canary()
			path := r.cache(name)
			if name[0] == '/' {
				path = r.dir + name
			}
			os.Remove(path)
			r.must(os.Link(canary+"/secret", path))
			fi, err := os.Stat(canary + "/secret")
			r.must(err)
			said := r.everyVerb()
			now, err := os.Stat(canary + "/secret")
			r.must(err)
			if now.Mode() != fi.Mode() || now.Sys().(*syscall.Stat_t).Uid != 0 || r.readFile(canary+"/secret") != secret {
				t.Errorf("it was %v, is %v", fi.Mode(), now.Mode())
			}
			for _, o := range said {
				r.keeps(o.String(), "a message")
			}
		})
	}
}

// TestStrangersCacheDir: a cache_dir that a stranger made first, or could
// exchange, is refused; and nothing is made in it.
func TestStrangersCacheDir(t *testing.T) {
	for name, plant := range map[string]func(r *root, dir, canary string) error{
		"his own":              func(_ *root, dir, _ string) error { return os.Mkdir(dir, 0o777) },
		"a link to root's":     func(_ *root, dir, canary string) error { return os.Symlink(canary, dir) },
		"a FIFO":               func(_ *root, dir, _ string) error { return unix.Mkfifo(dir, 0o666) },
		"his, with c of all's": func(_ *root, dir, _ string) error { return os.MkdirAll(dir+"/c/g", 0o777) },
		"nothing, in a directory for all": func(r *root, dir, _ string) error {
			return os.Chmod(filepath.Dir(dir), 0o777)
		},
	} {
		for _, owner := range []user{admin, alice} {
			t.Run(name+", for "+owner.name, func(t *testing.T) {
				r := newLines(t, owner)
				canary, _ := r.canary()
				r.must(os.Chmod(canary, 0o755))
				r.must(os.Chown(r.side, 0, 0))
				parent := filepath.Dir(r.dir) + "/sticky"
				r.must(os.Mkdir(parent, 0o755))
				r.must(os.Chmod(parent, 0o777|fs.ModeSticky))
				dir := parent + "/caches"
				r.must(plant(r, dir, canary))
				filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error {
					return errors.Join(os.Lchown(path, bob.uid, bob.uid))
				})
				_, untouched := r.canary()
				before := r.walk(parent)
				said := r.everyVerb("--cache-dir", dir)
				if said[0].code != 1 || !strings.Contains(said[0].stderr, "hint: ") {
					t.Errorf("refresh: %v", said[0])
				}
				untouched(said...)
				if diff := cmp.Diff(before, r.walk(parent)); diff != "" {
					t.Errorf("the stranger's directory was touched:\n%s", diff)
				}
				if r.builds() != 0 {
					t.Error("the builder ran")
				}
			})
		}
	}
}

// TestReplays: a pointer is believed only as that of its cache, its root, and an
// install that is as it was.
func TestReplays(t *testing.T) {
	cp := func(r *root, from, to string) { r.t.Helper(); mustRun(r.t, "cp", "-a", from, to) }
	for _, c := range []struct {
		name     string
		settings string
		replay   func(r *root)
		code     int // of both readers
	}{
		{"another cache's directory", "", func(r *root) { cp(r, r.path("var/cache/syscache/d")+"/.", r.cache("")) }, 6},
		{"another cache's pointer", "", func(r *root) { cp(r, r.path("var/cache/syscache/d/current"), r.cache("current")) }, 6},
		{"another root's cache", "", func(r *root) {
			other := newLines(r.t, admin)
			other.refresh()
			r.must(os.RemoveAll(r.cache("")))
			cp(r, strings.TrimSuffix(other.cache(""), "/"), r.cache(""))
		}, 4},
		{"an older pointer, every input a witness", "", older, 4},
		{"an older pointer, a file the witness", `witness = ["lib/one"]`, older, 4},
		{"an older pointer, a directory the witness", `witness = ["lib/"]`, older, 4},
		{"an older pointer without witness", `witness = []`, older, 0}, // nothing contradicts it: SECURITY.md
		{"all of the root copied, every input a witness", "", elsewhere("cp", "-a"), 4},
		{"all of the root copied, a file the witness", `witness = ["lib/one"]`, elsewhere("cp", "-a"), 0},
		{"all of the root in a tar, a directory the witness", `witness = ["lib/"]`, elsewhere("sh", "-c", `mkdir "$1" && tar -C "$0" -cf - . | tar -C "$1" -xf -`), 0},
		{"all of the root copied, and edited, a file the witness", `witness = ["lib/one"]`, func(r *root) {
			elsewhere("cp", "-a")(r)
			r.write("lib/one", "9999\n")
		}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newLines(t, admin, c.settings)
			text := r.readFile("etc/syscache.toml")
			r.write("etc/syscache.d/d.toml", strings.Replace(text, "[cache.c]", "[cache.d]", 1))
			r.refresh()
			c.replay(r)
			everybody(t, []user{admin, bob}, func(t *testing.T, u user, how reader) {
				if o := r.read(u, how, "get", "c", "lib/one"); o.code != c.code {
					t.Errorf("%s (%s): want exit %d: %v", u.name, how.name, c.code, o)
				}
			})
			r.refresh() // which heals it
			r.fresh(bob)
		})
	}
}

// older puts the pointer back that there was before a change.
func older(r *root) {
	r.t.Helper()
	mustRun(r.t, "cp", "-a", r.cache("current"), r.side+"/old")
	r.write("lib/one", "2222\n")
	r.refresh()
	mustRun(r.t, "cp", "-a", "--remove-destination", r.side+"/old", r.cache("current"))
}

// elsewhere goes on with a copy of the root, which a command makes.
func elsewhere(argv ...string) func(r *root) {
	return func(r *root) {
		r.t.Helper()
		to := r.dir + "-copy"
		mustRun(r.t, append(argv, r.dir, to)...)
		r.dir = to
	}
}

// TestOddFiles: what is no file blocks nobody wherever it lies, and is told; of
// a file that is too big no more is read than makes sense.
func TestOddFiles(t *testing.T) {
	const huge = 4 << 30
	kinds := map[string]func(path string) error{
		"a FIFO": func(path string) error { return unix.Mkfifo(path, 0o666) },
		"a FIFO that somebody writes": func(path string) error {
			err := unix.Mkfifo(path, 0o666)
			f, e := os.OpenFile(path, os.O_RDWR, 0)
			if e == nil {
				t.Cleanup(func() { f.Close() })
			}
			return errors.Join(err, e)
		},
		"a socket": func(path string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			dir, err := os.Open(filepath.Dir(path)) // by way of which the name is short enough
			if err != nil {
				return err
			}
			defer dir.Close()
			return unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))})
		},
		"/dev/zero":   func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) },
		"a terminal":  func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(5, 2))) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"4 GiB":       func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, huge)) },
	}
	for kind, plant := range kinds {
		for _, place := range []string{"lib/odd", "etc/syscache.toml", "etc/syscache.d/d.toml", "share/list", "share/witness", "libexec/more", "var/cache/syscache/c/current", "var/cache/syscache/c/state"} {
			t.Run(strings.ReplaceAll(place+" is "+kind, "/", "."), func(t *testing.T) {
				slow(t)
				if kind == "4 GiB" && (strings.HasPrefix(place, "lib") || place == "share/witness") {
					return // they are read: see TestHugeInput
				}
				r := newLines(t, alice)
				r.write("etc/syscache.d/e.toml", "[cache.e]\ninputs_from = \"share/list\"\nwitness = [\"share/witness\"]\nrecipe = [\"share/more\"]\n")
				for _, name := range []string{"witness", "list", "more"} {
					r.write("share/"+name, "lib/one\n")
				}
				r.refresh()
				os.Remove(r.path(place))
				r.must(plant(r.path(place)))
				r.must(os.Lchown(r.path(place), alice.uid, alice.uid))
				r.everyVerb()
				r.must(os.RemoveAll(r.path(place)))
			})
		}
	}
}

// TestHugeInput: 4 GiB of nothing among the inputs are read, and no more.
func TestHugeInput(t *testing.T) {
	slow(t)
	r := newLines(t, alice)
	r.write("etc/syscache.toml", "[cache.c]\ninputs = [\"lib/**\"]\n")
	r.write("lib/huge", "")
	r.must(os.Truncate(r.path("lib/huge"), 4<<30))
	if got := r.refresh(); got.Inputs != 5 {
		t.Errorf("%+v", got)
	}
	everybody(t, []user{bob}, func(t *testing.T, u user, how reader) {
		if o := r.read(u, how, "get", "c", "lib/huge"); !strings.Contains(o.stdout, `"size":4294967296`) {
			t.Error(o)
		}
	})
}

// names that somebody may give a file to be believed, or to draw on a terminal.
var badNames = []string{
	"two\nlines", "syscache: f: built", "-rf", "--root=", "\xff\xfe", "\x1b[2J\x1b]0;title\a", "\u202egnp.exe", "tab\ttab", " ", "\\", `"`, "'",
	strings.Repeat("x", 255), "\u2028", "\x7f", "{a,b}*?[c]",
}

// TestBadNames: whatever a file is called, it is an input and a row like any
// other, in both languages; and no message has a line, or a character, of its.
func TestBadNames(t *testing.T) {
	slow(t)
	r := newRoot(t, alice)
	deep := "lib" + strings.Repeat("/d", 500)
	for _, name := range badNames {
		r.write("lib/"+name, "1\n")
	}
	r.write(deep+"/"+badNames[0], "1\n")
	r.write("libexec/build", `#!/usr/bin/python3 -ISB
import base64, os
for entry in open(os.environ["SYSCACHE_INPUTS"], "rb").read().split(b"\0")[:-1]:
    digest, path = entry.split(b"  ", 1)
    print('{"key_base64": "%s", "value": %d}' % (base64.b64encode(path).decode(), len(digest)))
`)
	r.must(os.Chmod(r.path("libexec/build"), 0o755))
	r.write("etc/syscache.toml", "[cache.built-in]\ninputs = [\"lib/**\"]\n[cache.c]\ninputs = [\"lib/**\"]\nbuild = [\"libexec/build\"]\n")
	r.refresh()
	for _, cache := range []string{"built-in", "c"} {
		lists := map[string]string{}
		for _, how := range readers {
			o := r.read(bob, how, "list", cache)
			if n := strings.Count(o.stdout, "\n"); o.code != 0 || n != len(badNames)+1 {
				t.Errorf("%s lists %d rows of %s: %v", how.name, n, cache, o)
			}
			for _, name := range badNames {
				if o := r.read(bob, how, "get", cache, "lib/"+name); o.code != 0 {
					t.Errorf("%s of %q: %v", how.name, name, o)
				}
			}
			lists[how.name] = o.stdout
		}
		for line := range strings.Lines(lists["go"]) {
			if !json.Valid([]byte(line)) {
				t.Errorf("no JSON: %q", line)
			}
		}
	}
	name := deep[4:] + "/" + badNames[0] // the worst of all: deep, and with what ends a line
	r.write("lib/"+name, "2\n")
	for _, how := range readers {
		r.oneLine(run(t, as(bob, how.command(r.dir, "get", "c", "lib/one")...)), 4)
	}
	r.oneLine(run(t, as(bob, r.syscache("status", "c")...)), 4)
	r.oneLine(run(t, as(bob, r.syscache("diff", "c")...)), 0)
	r.must(os.Chmod(r.path("lib/"+name), 0o600)) // which leaves it out, with a warning
	r.oneLine(run(t, as(admin, r.syscache("refresh", "c")...)), 0)
	r.must(os.Chmod(r.path("lib/"+name), 0o644))
	r.must(os.WriteFile(r.path("libexec/build"), []byte("#!/bin/sh\nexit 1\n"), 0o755))
	o := run(t, as(admin, r.syscache("refresh", "--hook", "--force", "c")...))
	if strings.Count(o.stderr, "\n") != 1 {
		t.Errorf("not one line: %v", o)
	}
}

// oneLine checks that each line of what was said is one of ours.
func (r *root) oneLine(o outcome, code int) {
	r.t.Helper()
	if o.code != code {
		r.t.Errorf("want exit %d: %v", code, o)
	}
	for line := range strings.Lines(o.stderr + o.stdout) {
		for _, c := range line[:len(line)-1] {
			if c < ' ' && c != '\t' || c == 0x7f || c == utf8.RuneError || c == '\u202e' || c == '\u2028' {
				r.t.Errorf("a control character in %q", line)
			}
		}
		if line == "lines\n" || strings.HasPrefix(line, "lines ") {
			r.t.Errorf("a file's name made a line of its own: %v", o)
		}
	}
}

// TestCallersOfAHook: whatever surrounds a package manager's hook, it ends with
// exit code 0, and what others see is the same.
func TestCallersOfAHook(t *testing.T) {
	hook := `"$0" --root "$1" refresh --hook`
	want := ""
	for _, c := range []struct {
		name, script string
		env          []string
	}{
		{"nothing", "exec " + hook, nil},
		{"a hostile environment", "exec " + hook, []string{
			"SYSCACHE_ROOT=/etc", "SYSCACHE_CACHE_DIR=/tmp", "SYSCACHE_OUT=/tmp", "PATH=/nonexistent", "HOME=/nonexistent", "TMPDIR=/nonexistent",
			"LD_LIBRARY_PATH=/tmp", "LD_BIND_NOW=1", "GODEBUG=asyncpreemptoff=1,madvdontneed=1", "GOTRACEBACK=crash", "GOMAXPROCS=1",
			"GOMEMLIMIT=1MiB", "GOGC=1", "GOCOVERDIR=/nonexistent", "LC_ALL=tr_TR.UTF-8", "XDG_CACHE_HOME=/tmp", "TZ=/etc/shadow", "NO_COLOR=", "COLUMNS=-1",
			"MALLOC_PERTURB_=7", "PYTHONPATH=/tmp", "BASH_ENV=/etc/passwd", "ENV=/etc/passwd", "IFS=/", "CDPATH=/", "SHELLOPTS=xtrace", "PS4=$(id)",
		}},
		{"no descriptors", "exec " + hook + " 0<&- 1>&- 2>&-", nil},
		{"no descriptors but one", "exec " + hook + " 0<&- 1>&-", nil},
		{"a directory that is gone", `d=$(mktemp -d); cd "$d"; rmdir "$d"; exec ` + hook, nil},
		{"umask 777", "umask 777; exec " + hook, nil},
		{"signals ignored", `trap "" CHLD PIPE HUP INT TERM QUIT; exec ` + hook, nil},
		{"a full standard error", "exec " + hook + " 2>/dev/full >/dev/full", nil},
		{"no core, no stack to speak of", "ulimit -c 0; ulimit -s 256; exec " + hook, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newPure(t)
			cmd := as(admin, append([]string{"/bin/sh", "-c", `exec env "$@"`, "sh"}, append(c.env, "/bin/sh", "-c", c.script, tool, r.dir)...)...)
			if o := run(t, cmd); o.code != 0 || o.stdout+o.stderr != "" {
				t.Error(o)
			}
			got := ""
			r.must(filepath.WalkDir(r.dir+"/var", func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				fi, err := d.Info()
				got += fmt.Sprintln(path[len(r.dir):], fi.Mode())
				if d.Type().IsRegular() && strings.Contains(path, "/g/") {
					got += r.readFile(path)
				}
				return err
			}))
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("others see something else:\n%s", cmp.Diff(want, got))
			}
			readsAll(t, r)
		})
	}
}

// TestHookThatCannotWrite: a limit of a file's size fails the refresh, and the
// cache is invalidated; the hook does not fail.
func TestHookThatCannotWrite(t *testing.T) {
	r := newLines(t, admin)
	r.refresh()
	r.write("lib/one", "changed\n")
	o := run(t, as(admin, "/bin/sh", "-c", `ulimit -f 0; exec "$0" --root "$1" refresh --hook`, tool, r.dir))
	if o.code != 0 || strings.Count(o.stderr, "\n") > 1 {
		t.Error(o)
	}
	r.misses(bob)
	r.refresh()
	r.fresh(bob)
}

// TestPrivilegedReaders: a reader that the kernel made more than who runs it,
// by set-uid, set-gid or a capability, takes no cache_dir from the environment;
// and one from the command line it believes no more than its own trust says.
func TestPrivilegedReaders(t *testing.T) {
	r := newLines(t, alice, `witness = []`)
	r.refresh()
	// What bob says of alice's root, in a cache_dir of his own: there he may.
	caches := r.side + "/caches"
	r.must(os.Mkdir(caches, 0o755))
	r.must(os.Chown(caches, bob.uid, bob.uid))
	r.must(os.Chmod(r.side+"/log", 0o666))
	r.write("lib/one", "forged\n")
	ok(t, run(t, as(bob, r.syscache("--cache-dir", caches, "refresh")...)))

	dir := newDir(t)
	for _, program := range []struct {
		name, file string
		argv       []string
	}{
		{"syscache", whole, []string{"--root", r.dir, "get", "c", "lib/one"}},
		{"its front", tool, []string{"--root", r.dir, "get", "c", "lib/one"}},
		{"a Go program", self, []string{"strict", r.dir}},
		{"Python", "/usr/bin/python3", []string{"-ISB", python, "--root", r.dir, "get", "c", "lib/one"}},
	} {
		for _, how := range []struct {
			name string
			give func(file string)
			want string
		}{
			{"of bob", func(string) {}, `"forged"`},
			{"set-uid of root", func(f string) { r.must(os.Chmod(f, 0o755|fs.ModeSetuid)) }, `"1111"`},
			{"set-uid of alice", func(f string) {
				r.must(os.Chown(f, alice.uid, alice.uid))
				r.must(os.Chmod(f, 0o755|fs.ModeSetuid))
			}, `"1111"`},
			{"set-gid", func(f string) { r.must(os.Chown(f, 0, carol.uid)); r.must(os.Chmod(f, 0o755|fs.ModeSetgid)) }, `"1111"`},
			{"with a capability", func(f string) { mustRun(t, "setcap", "cap_net_raw+ep", f) }, `"1111"`},
		} {
			t.Run(program.name+" "+how.name, func(t *testing.T) {
				file := dir + "/" + strings.ReplaceAll(program.name+how.name, " ", "-")
				r.must(copyFile(program.file, file))
				how.give(file)
				cmd := as(bob, append([]string{file}, program.argv...)...)
				cmd.Env = append(cmd.Env, "SYSCACHE_CACHE_DIR="+caches, partEnv+"=library", "GORACE=atexit_sleep_ms=0")
				if o := run(t, cmd); o.code != 0 || strings.TrimSpace(o.stdout) != how.want {
					t.Errorf("want %s: %v", how.want, o)
				}
				if strings.HasPrefix(how.name, "set-uid") && program.name == "syscache" {
					o := run(t, as(bob, file, "--root", r.dir, "--cache-dir", caches, "get", "c", "lib/one"))
					if o.code != 7 || o.stdout != "" {
						t.Errorf("by the command line: %v", o)
					}
				}
			})
		}
	}
}
