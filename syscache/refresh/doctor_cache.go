package refresh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/lock"
	"github.com/syscache/syscache/syscache"
)

// cacheOf looks at one cache.
func (d *doctor) cacheOf(c *Cache) {
	d.cache = c.Name
	defer func() { d.cache = "" }()
	d.state(c)
	d.shut(c)
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
	foreign := d.foreign(c.Name)
	switch {
	case foreign != nil:
		d.find(Problem, "state", d.cacheDir+"/"+c.Name, "two roots that share a cache_dir name their caches differently", "%v", foreign)
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

// shut tells of what of the published generation not all can read.
func (d *doctor) shut(c *Cache) {
	p, found := d.published(c.Name)
	if p == nil {
		return
	}
	d.believers(found)
	if d.owner.reach == theOwner {
		return
	}
	files := []string{found}
	dir, err := d.generationDir(c.Name, p.Key)
	if err != nil { // as far as we may go
		dir = d.cacheDir + "/" + c.Name + "/" + format.Generation(syscache.Key(p.Key).String())
	}
	from := d.cacheDir
	if !strings.HasPrefix(dir, from+"/") {
		from = d.Install.root // an image's, which nobody has looked at yet
	}
	if p.Kind == format.KindFiles {
		d.closed("state", from, dir+"/"+format.Files, "miss")
	} else {
		d.closed("state", from, dir, "miss")
		files = append(files, dir+"/"+format.Table)
	}
	for _, path := range files {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err == nil && !d.lets(&st, 4) {
			d.find(Problem, "state", path, "refresh --force "+c.Name, "not everyone can read %s (mode %04o): the others miss", format.Show(path), uint32(st.Mode)&0o7777)
		}
	}
}

// believers tells of a cache elsewhere that a stranger to the install keeps for
// themselves.
func (d *doctor) believers(pointer string) {
	var st unix.Stat_t
	if err := unix.Lstat(pointer, &st); err != nil || d.internal || st.Uid == 0 || st.Uid == d.owner.uid {
		return
	}
	d.find(Note, "state", pointer, "for all to believe it, refresh as root or as the owner of the install; or let programs name that uid: TrustUIDs",
		"uid %d refreshed it, who neither is root nor owns the install: nobody else believes it", st.Uid)
}

func orRefresh(hint string) string {
	if hint == "" {
		return "refresh again"
	}
	return hint
}

// litter tells of what a refresher left, unless one is at work, and of what is
// no refresher's.
func (d *doctor) litter(c *Cache) {
	dir := d.cacheDir + "/" + c.Name
	left, retired := 0, 0
	for _, name := range namesIn(dir) {
		switch {
		case strings.HasPrefix(name, format.TokenPrefix), strings.HasPrefix(name, format.ScratchPrefix):
			left++
		case !slices.Contains(ownNames, name):
			d.strange(dir + "/" + name)
		case name == format.Lock:
			d.lockFile(dir + "/" + name)
		}
	}
	p, _ := d.published(c.Name)
	for _, name := range namesIn(dir + "/" + format.Generations) {
		key, err := syscache.ParseKey(name)
		switch {
		case strings.HasPrefix(name, format.ScratchPrefix):
			left++
		case err != nil:
			d.strange(dir + "/" + format.Generations + "/" + name)
		case p == nil || key != p.Key:
			retired++
		}
	}
	if left > 0 {
		d.left(dir, left)
	}
	if retired > 0 {
		d.find(Note, "leftovers", dir, "", "%s that readers are no longer led to, kept for %v", counted(retired, "generation", "generations"), keepOf(c))
	}
}

// ownNames are the names in a cache's directory that stay.
var ownNames = []string{format.Lock, format.Current, format.Stale, format.Inventory, format.State, format.Seen, format.Generations, format.Latest}

// namesIn returns the names in a directory, sorted; none where we may not look.
func namesIn(dir string) []string {
	names, _ := namesWith(dir, "")
	slices.Sort(names)
	return names
}

func (d *doctor) strange(path string) {
	d.find(Note, "leftovers", path, "", "%s is nothing of syscache's", format.Show(path))
}

// left tells of n names that a refresher made and nobody has removed yet.
func (d *doctor) left(dir string, n int) {
	switch held, err := d.held(dir + "/" + format.Lock); {
	case err != nil:
		d.find(Note, "leftovers", dir, "", "a refresh is at work or was killed, which only its owner can tell: %s", counted(n, "leftover", "leftovers"))
	case held:
		d.find(Note, "leftovers", dir, "", "it is being refreshed")
	default:
		d.find(Note, "leftovers", dir, "the next refresh removes it, and so does gc", "a refresh was killed: %s", counted(n, "leftover", "leftovers"))
	}
}

// lockFile looks at what refreshers lock.
func (d *doctor) lockFile(path string) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return
	}
	mode := uint32(st.Mode)
	switch {
	case mode&unix.S_IFMT != unix.S_IFREG:
		d.find(Problem, "locking", path, "remove it", "no refresh can lock %s: it is not a regular file", format.Show(path))
	case mode&0o006 != 0:
		d.find(Warning, "locking", path, "chmod o= "+format.ShellQuote(path)+"; the next refresh by its owner does", "everyone can open %s (mode %04o), and so keep all refreshers out", format.Show(path), mode&0o7777)
	}
}

// held says whether somebody holds a lock. It neither makes the file nor
// changes its mode.
func (d *doctor) held(path string) (bool, error) {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err := d.checkMake(); err != nil {
		return false, err
	}
	l, err := lock.Acquire(context.Background(), path, &lock.Options{Mode: fi.Mode()})
	if errors.As(err, new(*lock.HeldError)) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	return false, l.Release()
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
	p, _ := d.published(c.Name)
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

// published returns the pointer that readers find first, and its path; nil if
// there is none.
func (d *doctor) published(cache string) (*format.Pointer, string) {
	for _, dir := range d.readDirs() {
		for _, name := range []string{format.Current, format.Stale} {
			path := dir + "/" + cache + "/" + name
			if b, err := d.owner.readPublished(path); err == nil {
				p, _ := format.DecodePointer(b)
				return p, path
			}
		}
	}
	return nil, ""
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
	full := format.Join(d.Install.root, w)
	d.closed("witness", d.Install.root, filepath.Dir(full), "miss, for they cannot check witness "+format.Show(w))
	fi, err := os.Lstat(full)
	if err != nil {
		d.find(Warning, "witness", w, "correct it, unless it is to come", "witness %s does not exist: all that readers notice is that it appears", format.Show(w))
		return
	}
	p, found := d.published(c.Name)
	// An image's pointer has no identities, whoever looks.
	image := d.image || strings.HasPrefix(found, format.Join(d.Install.root, format.ImageCacheDir)+"/")
	if p != nil && !image && slices.ContainsFunc(p.Witnesses, func(x format.Witness) bool {
		return x.Path == w && x.Type != format.WitnessAbsent && x.Identity == [format.IdentitySize]byte{}
	}) {
		d.find(Warning, "times", w, "look at the clock, touch it, and refresh",
			"the times of witness %s certified nothing at the last refresh (0, or in the future): each reader reads all of it", format.Show(w))
	}
	d.readable(w, full, fi.IsDir(), image)
	switch {
	case fi.Mode()&os.ModeSymlink != 0:
		d.find(Note, "witness", w, "", "witness %s is a symbolic link: it shows a change of where it leads, not of what is there", format.Show(w))
	case fi.IsDir():
		if entries, _ := listDir(full); len(entries) > manyEntries {
			d.find(Note, "witness", w, "", "witness %s has %d entries, each of which each reader stats", format.Show(w), len(entries))
		}
	case fi.Size() > bigWitness:
		d.find(Note, "witness", w, "", "witness %s has %d bytes: a reader reads them all where its times moved, or do not serve, as in an image", format.Show(w), fi.Size())
	}
}

// readable tells of a witness that not all can read: a directory is always
// read, a file only where its identity does not serve.
func (d *doctor) readable(w, full string, dir, image bool) {
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil || d.lets(&st, 4) && (!dir || d.lets(&st, 1)) {
		return
	}
	mode, hint := uint32(st.Mode)&0o7777, "chmod a+rX "+format.ShellQuote(full)+", or name another witness"
	switch {
	case dir:
		d.find(Problem, "witness", w, hint, "not everyone can list witness %s (mode %04o): the others miss", format.Show(w), mode)
	case image:
		d.find(Problem, "witness", w, hint, "not everyone can read witness %s (mode %04o): the others miss, for in an image its contents are compared", format.Show(w), mode)
	default:
		d.find(Note, "witness", w, hint, "not everyone can read witness %s (mode %04o): the others miss where its times moved", format.Show(w), mode)
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
	d.find(OK, "cost", "", "", "to open it takes a reader %.1f µs; its witness: %s (%s)",
		float64(times[len(times)/2])/float64(time.Microsecond), d.describeWitness(c.Name), counted(d.stats(c.Name), "stat", "stats"))
}

// stats counts what a reader looks at to check the witnesses.
func (d *doctor) stats(cache string) int {
	p, _ := d.published(cache)
	if p == nil {
		return 0
	}
	n := len(p.Witnesses)
	for _, w := range p.Witnesses {
		if w.Type == format.WitnessDir {
			n += len(namesIn(format.Join(d.Install.root, w.Path)))
		}
	}
	if p.HasStats {
		dirs, files := p.Stats.Counts()
		n += dirs + files
	}
	return n
}

// builder looks at the command that builds.
func (d *doctor) builder(c *Cache) {
	command := format.Join(d.Install.root, c.Command[0])
	bad := func(hint, f string, args ...any) {
		d.find(Problem, "builder", command, hint, "%s", c.at("build")+fmt.Sprintf(f, args...))
	}
	var st unix.Stat_t
	switch err := unix.Stat(command, &st); {
	case err == unix.EACCES && unix.Geteuid() != int(d.owner.uid):
		d.find(Note, "builder", command, "", "you may not look at %s: who refreshes may", format.Show(command))
		return
	case err != nil:
		bad("install it, or correct build", "%s: %v", format.Show(command), err)
		return
	case !d.executable(&st):
		bad("correct build, or chmod +x "+format.ShellQuote(command), "%s is not a file that the owner of the install can execute (uid %d, mode %04o)", format.Show(command), st.Uid, uint32(st.Mode)&0o7777)
		return
	}
	r := &refresher{Install: d.Install, c: c}
	if err := r.checkCommand(); err != nil {
		bad(trustHint(d.Install.root, err), "%v", err)
	}
	if interpreter, err := interpreterOf(command); err != nil {
		bad("begin it with a line such as #!/bin/sh", "%s: %v", format.Show(command), err)
	} else if interpreter != "" {
		if err := unix.Stat(format.Join(d.Install.root, interpreter), &st); err == nil && !d.executable(&st) {
			bad("correct the first line of the script", "%s is run by %s, which cannot be executed", format.Show(command), format.Show(interpreter))
		} else if err != nil {
			bad("install that, or correct the first line of the script", "%s is run by %s: %v", format.Show(command), format.Show(interpreter), err)
		}
	}
	named := slices.ContainsFunc(c.Recipe, func(p string) bool {
		ok, _ := doublestar.Match(p, c.Command[0])
		return ok
	})
	if !named {
		d.find(Note, "builder", command, "", "%s is not in recipe: another version of it would not make a refresh build", format.Show(c.Command[0]))
	}
}

// executable says whether st is that of a file which the install's owner, as
// whom builders run, may execute.
func (d *doctor) executable(st *unix.Stat_t) bool {
	mode := uint32(st.Mode)
	switch {
	case mode&unix.S_IFMT != unix.S_IFREG:
		return false
	case d.owner.uid == 0, unmapped(d.owner.uid):
		return mode&0o111 != 0
	case st.Uid == d.owner.uid:
		return mode&0o100 != 0
	case st.Gid == d.owner.gid:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

// interpreterOf returns what runs a script, "" for a program. The kernel takes
// all up to a space, a tab or the end of the line: a carriage return too.
func interpreterOf(command string) (string, error) {
	f, err := unix.OpenFile(command, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "", nil // who refreshes may read it, or need not
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return "", nil // it was when it was looked at
	}
	first, _ := bufio.NewReader(f).Peek(256)
	if script, ok := strings.CutPrefix(string(first), "#!"); ok {
		line, _, _ := strings.Cut(script, "\n")
		if words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' }); len(words) > 0 {
			return words[0], nil
		}
	}
	if strings.HasPrefix(string(first), "\x7fELF") || len(first) >= 4 && first[0] >= 0xca {
		return "", nil
	}
	return "", errors.New("a script without a first line that says what runs it")
}
