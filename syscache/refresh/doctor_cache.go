package refresh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/lock"
	"github.com/syscache/syscache/syscache"
)

// cacheOf looks at one cache.
func (d *doctor) cacheOf(c *Cache) {
	d.cache = c.Name
	defer func() { d.cache = "" }()
	d.state(c)
	d.litter(c)
	if c.Witness == nil {
		d.inputsWitness(c)
	}
	for _, w := range c.Witness {
		d.witness(c, strings.TrimSuffix(w, "/"))
	}
	if c.Witness != nil && len(c.Witness) == 0 {
		d.find(Note, "witness", "", "", "it has no witness: only refresh and invalidate tell readers of a change")
	}
	d.cost(c)
	if len(c.Command) > 0 {
		d.builder(c)
	}
}

// state tells what readers find.
func (d *doctor) state(c *Cache) {
	s := d.Status(c.Name)
	var e *syscache.Error
	switch {
	case s.Err == nil:
		d.find(OK, "state", "", "", "fresh: generation %s", s.Generation.Short())
	case !errors.As(s.Err, &e):
		d.find(Problem, "state", "", "look at owners and modes", "%v", s.Err)
	case errors.Is(e, syscache.ErrMissing), errors.Is(e, syscache.ErrStale):
		d.find(Note, "state", "", e.Hint, "%v", e)
	default:
		d.find(Problem, "state", "", orRefresh(e.Hint), "%v", e)
	}
	if s.Failure != nil {
		d.find(Warning, "state", "", "mend that and refresh again", "the last refresh failed at %s: %s", s.Failure.Time.Format(time.RFC3339), s.Failure.Message)
	}
}

func orRefresh(hint string) string {
	if hint == "" {
		return "refresh again"
	}
	return hint
}

// litter tells of what a refresher left, unless one is at work.
func (d *doctor) litter(c *Cache) {
	dir := d.cacheDir + "/" + c.Name
	n := 0
	for _, place := range []struct{ dir, prefix string }{
		{dir, format.TokenPrefix}, {dir, format.ScratchPrefix}, {dir + "/" + format.Generations, format.ScratchPrefix},
	} {
		names, _ := namesWith(place.dir, place.prefix)
		n += len(names)
	}
	if n > 0 {
		var held *lock.HeldError
		l, err := lock.Acquire(context.Background(), dir+"/"+format.Lock, &lock.Options{Mode: d.owner.lockMode()})
		if err == nil {
			l.Release()
		}
		if errors.As(err, &held) {
			d.find(Note, "leftovers", dir, "", "it is being refreshed")
		} else {
			d.find(Note, "leftovers", dir, "the next refresh removes it, and so does gc", "a refresh was killed: %s", counted(n, "leftover", "leftovers"))
		}
	}
	entries, _ := os.ReadDir(dir + "/" + format.Generations)
	retired := len(slices.DeleteFunc(entries, func(e os.DirEntry) bool { _, err := syscache.ParseKey(e.Name()); return err != nil })) - 1
	if retired > 0 {
		d.find(Note, "leftovers", dir, "", "%s that readers are no longer led to, kept for %v", counted(retired, "generation", "generations"), keepOf(c))
	}
}

func keepOf(c *Cache) time.Duration {
	if c.Keep == 0 {
		return DefaultKeep
	}
	return c.Keep
}

// manyStats is how many stats a reader should rather not make: some 30 ms.
const manyStats = 20_000

// inputsWitness looks at what a reader checks where all inputs are witnesses.
func (d *doctor) inputsWitness(c *Cache) {
	p := d.published(c.Name)
	if p == nil || !p.HasStats {
		return
	}
	if dirs, files := p.Stats.Counts(); dirs+files > manyStats {
		d.find(Warning, "witness", "", "name a file that the installer writes last: witness = [\"share/app/MANIFEST\"]",
			"each reader stats %d files and directories", dirs+files)
	}
	for dir := range p.Stats.All() {
		void := ""
		if dir.Check && dir.ID == (format.Identity{}) {
			void = dir.Path
		}
		for _, f := range dir.Files {
			if f.ID == (format.Identity{}) {
				void = strings.TrimPrefix(dir.Path+"/"+f.Name, "/")
			}
		}
		if void != "" {
			d.find(Problem, "times", void, "look at the clock, touch it, and refresh",
				"every reader misses: the times of %s certified nothing at the last refresh (0, or in the future)", format.Show(void))
			return
		}
	}
}

// published returns the pointer that readers find first, nil if there is none.
func (d *doctor) published(cache string) *format.Pointer {
	for _, dir := range d.readDirs() {
		for _, name := range []string{format.Current, format.Stale} {
			if b, err := d.owner.readPublished(dir + "/" + cache + "/" + name); err == nil {
				p, _ := format.DecodePointer(b)
				return p
			}
		}
	}
	return nil
}

// rewritten are files of package managers and of git that change after, or
// without, what they stand for. See LESSONS: dpkg's and rpm's were measured.
var rewritten = []struct{ pattern, hint string }{
	{"var/lib/dpkg/status", `name "var/lib/dpkg/info/", or a file that the package ships: dpkg rewrites this after the hooks have run`},
	{"{var/lib/rpm,usr/lib/sysimage/rpm}{,/**}", "name a file that the package ships: rpm rewrites its database after the hooks have run"},
	{"var/lib/pacman/{local,sync}{,/**}", "name a file that the package ships: pacman's hooks run before it is done with this"},
	{"lib/apk/db/*", "name a file that the package ships: apk rewrites this after the scripts have run"},
	{"**/.git/{HEAD,index,packed-refs,refs/**}", `name ".git/logs/HEAD": this does not change on a pull, or vanishes, or changes on a git status`},
}

// Witnesses of these sizes are costly where their identity does not serve.
const (
	bigWitness  = 1 << 20 // bytes, of a file
	manyEntries = 1000    // of a directory
)

// witness looks at one witness.
func (d *doctor) witness(c *Cache, w string) {
	for _, r := range rewritten {
		if ok, _ := doublestar.Match(r.pattern, strings.TrimPrefix(w, "./")); ok {
			d.find(Warning, "witness", w, r.hint, "%s is a bad witness", format.Show(w))
		}
	}
	if err := noLinks(d.Install.root, "witness", w); err != nil {
		d.find(Problem, "witness", w, "name it by its real path", "%v", err)
		return
	}
	d.reachable(w)
	full := format.Join(d.Install.root, w)
	fi, err := os.Lstat(full)
	if err != nil {
		d.find(Warning, "witness", w, "correct it, unless it is to come", "witness %s does not exist: all that readers notice is that it appears", format.Show(w))
		return
	}
	if p := d.published(c.Name); p != nil && !d.image && slices.ContainsFunc(p.Witnesses, func(x format.Witness) bool {
		return x.Path == w && x.Type != format.WitnessAbsent && x.Identity == [format.IdentitySize]byte{}
	}) {
		d.find(Warning, "times", w, "look at the clock, touch it, and refresh",
			"the times of witness %s certified nothing at the last refresh (0, or in the future): each reader reads all of it", format.Show(w))
	}
	switch {
	case fi.Mode()&os.ModeSymlink != 0:
		d.find(Note, "witness", w, "", "witness %s is a symbolic link: it shows a change of where it leads, not of what is there", format.Show(w))
	case fi.IsDir():
		if entries, _ := os.ReadDir(full); len(entries) > manyEntries {
			d.find(Note, "witness", w, "", "witness %s has %d entries, each of which each reader stats", format.Show(w), len(entries))
		}
	case fi.Size() > bigWitness:
		d.find(Note, "witness", w, "", "witness %s has %d bytes: a reader reads them all where its times moved, or do not serve, as in an image", format.Show(w), fi.Size())
	}
}

// reachable tells of a directory above a witness that keeps readers out.
func (d *doctor) reachable(w string) {
	for dir := filepath.Dir(w); dir != "."; dir = filepath.Dir(dir) {
		fi, err := os.Lstat(format.Join(d.Install.root, dir))
		if err == nil && fi.IsDir() && fi.Mode()&unix.S_IXOTH == 0 {
			d.find(Problem, "witness", dir, "chmod o+x "+format.ShellQuote(format.Join(d.Install.root, dir))+", or name another witness",
				"not everyone can enter %s (mode %04o): the others miss, for they cannot check witness %s", format.Show(dir), fi.Mode().Perm(), format.Show(w))
		}
	}
}

// cost measures what readers pay.
func (d *doctor) cost(c *Cache) {
	var times []time.Duration
	for range 10 {
		start := time.Now()
		r, err := syscache.Open(d.Install.root, c.Name, d.readOptions(false))
		if err != nil {
			return
		}
		r.Close()
		times = append(times, time.Since(start))
	}
	times = times[1:] // the first warms up
	slices.Sort(times)
	d.find(OK, "cost", "", "", "to open it takes a reader %v; its witness: %s", times[len(times)/2].Round(time.Microsecond/10), d.describeWitness(c.Name))
}

// builder looks at the command that builds.
func (d *doctor) builder(c *Cache) {
	command := format.Join(d.Install.root, c.Command[0])
	bad := func(hint, f string, args ...any) {
		d.find(Problem, "builder", command, hint, "%s", c.at("build")+fmt.Sprintf(f, args...))
	}
	fi, err := os.Stat(command)
	switch {
	case err != nil:
		bad("install it, or correct build", "%s: %v", format.Show(command), errors.Unwrap(err))
		return
	case !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0:
		bad("chmod +x "+format.ShellQuote(command), "%s is not an executable file (mode %v)", format.Show(command), fi.Mode())
		return
	}
	r := &refresher{Install: d.Install, c: c}
	if err := r.checkCommand(); err != nil {
		bad(trustHint(d.Install.root), "%v", err)
	}
	if interpreter, err := interpreterOf(command); err != nil {
		bad("begin it with a line such as #!/bin/sh", "%s: %v", format.Show(command), err)
	} else if _, err := os.Stat(interpreter); interpreter != "" && err != nil {
		bad("install that, or correct the first line of the script", "%s is run by %s: %v", format.Show(command), format.Show(interpreter), errors.Unwrap(err))
	}
	named := slices.ContainsFunc(c.Recipe, func(p string) bool {
		ok, _ := doublestar.Match(p, c.Command[0])
		return ok
	})
	if !named {
		d.find(Note, "builder", command, "", "%s is not in recipe: another version of it would not make a refresh build", format.Show(c.Command[0]))
	}
}

// interpreterOf returns what runs a script, "" for a program.
func interpreterOf(command string) (string, error) {
	f, err := os.OpenFile(command, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", nil // who refreshes may read it, or need not
	}
	defer f.Close()
	first, _ := bufio.NewReader(f).Peek(256)
	if script, ok := strings.CutPrefix(string(first), "#!"); ok {
		line, _, _ := strings.Cut(script, "\n")
		if words := strings.Fields(line); len(words) > 0 {
			return words[0], nil
		}
	}
	if strings.HasPrefix(string(first), "\x7fELF") || len(first) >= 4 && first[0] >= 0xca {
		return "", nil
	}
	return "", errors.New("a script without a first line that says what runs it")
}
