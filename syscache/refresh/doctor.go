package refresh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// A Finding is what Doctor found in one place.
type Finding struct {
	Check   string // what was looked at: one of the names that the command documents
	Level   Level
	Cache   string // "" for the install as a whole
	Path    string // may be empty
	Message string
	Hint    string // what to do; never empty for a warning or a problem
}

// Level says how bad a finding is.
type Level string

// The levels, from good to bad.
const (
	OK      Level = "ok"
	Note    Level = "note"    // good to know
	Warning Level = "warning" // works, and will cost somebody something
	Problem Level = "problem" // does not work, or not for everybody
)

// Doctor looks for what would go wrong with this install, from where the
// process stands: what only others may look at is left out. It changes nothing
// that lasts; where the process may write the cache_dir, it tries locks and
// clock on a file there.
func (in *Install) Doctor(ctx context.Context) []Finding {
	d := &doctor{Install: in}
	var st unix.Stat_t
	if err := unix.Stat(in.root, &st); err == nil {
		d.rootMode = uint32(st.Mode)
	}
	for _, look := range []func(){
		d.namespace, d.above, d.audience, d.rootFS, d.keeper, d.probe, d.space, d.mistakes, d.unknown,
	} {
		look()
	}
	for i := range d.caches {
		if ctx.Err() != nil {
			break
		}
		d.cacheOf(&d.caches[i])
	}
	return d.findings
}

// A doctor collects findings.
type doctor struct {
	*Install
	rootMode uint32
	cache    string // that is looked at
	findings []Finding
}

func (d *doctor) find(level Level, check, path, hint, f string, args ...any) {
	d.findings = append(d.findings, Finding{check, level, d.cache, path, fmt.Sprintf(f, args...), hint})
}

// namespace tells of an owner whom this user namespace does not show.
func (d *doctor) namespace() {
	if unmapped(d.owner.uid) {
		d.find(Note, "namespace", d.Install.root, "refresh from outside of the namespace, or keep caches of your own: --cache-dir",
			"its owner is not mapped in this user namespace: nobody here can refresh its caches, everybody can read them")
	}
}

// above looks at the directories above the root: who can write one of them can
// put another install in its place, and who cannot enter one cannot read.
func (d *doctor) above() {
	bad := false
	for dir := filepath.Dir(d.Install.root); ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if err := unix.Lstat(dir, &st); err == nil {
			bad = !d.aboveOne(dir, st) || bad
		}
		if dir == "/" {
			break
		}
	}
	if !bad {
		d.find(OK, "above", filepath.Dir(d.Install.root), "", "all users can reach the root, and none can replace it")
	}
}

// aboveOne looks at one of them, and says whether it is as it should be.
func (d *doctor) aboveOne(dir string, st unix.Stat_t) bool {
	good := true
	mode := uint32(st.Mode)
	if mode&unix.S_ISVTX != 0 { // others can add to it, but not replace
		st.Mode &^= unix.S_IWOTH | unix.S_IWGRP
	}
	if unmapped(st.Uid) { // root, most likely: nobody here can be sure
		st.Uid = 0
	}
	if err := d.owner.check(&st, unix.S_IFDIR, format.Show(dir)); err != nil {
		good = false
		level := Problem
		// As /usr/local is, where its group may write it: those are meant to.
		if st.Mode &^= unix.S_IWGRP; d.owner.check(&st, unix.S_IFDIR, dir) == nil {
			level = Warning
		}
		d.find(level, "above", dir, trustHint(d.Install.root, err), "%v: who can write it can put another install in the place of this", err)
	}
	if mode&unix.S_IXOTH == 0 {
		good = false
		d.find(Warning, "above", dir, "chmod o+x "+format.ShellQuote(dir)+", if all users are to read the caches",
			"not everyone can enter %s (mode %04o): for the others every cache is missing", format.Show(dir), mode&0o7777)
	}
	return good
}

// lets says whether mode lets all those read (bit 4) or enter (bit 1) whom the
// root lets in. Where it keeps users out, they are not meant to.
func (d *doctor) lets(st *unix.Stat_t, bit uint32) bool {
	mode := uint32(st.Mode)
	switch {
	case d.rootMode&0o011 == 0:
		return true
	case d.rootMode&0o001 == 0 && st.Gid == d.owner.gid:
		return mode&(bit<<3) != 0
	}
	return mode&(mode>>3)&bit != 0 // a member of its group has the group's rights, not the others'
}

// closed tells of each directory below from, down to dir, that keeps out whom
// the root lets in: its owner, as whom refreshers and root look, notices nothing.
func (d *doctor) closed(check, from, dir, loses string) {
	for path := range way(from, dir) {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return
		}
		if uint32(st.Mode)&unix.S_IFMT == unix.S_IFDIR && !d.lets(&st, 1) {
			who, hint := "everyone", "chmod a+x "+format.ShellQuote(path)
			if d.rootMode&unix.S_IXOTH == 0 {
				who = fmt.Sprintf("all of group %d", d.owner.gid)
				hint = fmt.Sprintf("chgrp %d %s && chmod g+x %[2]s", d.owner.gid, format.ShellQuote(path))
			}
			if !d.internal {
				hint += "; or keep the caches where they can: --cache-dir"
			}
			d.find(Problem, check, path, hint, "not %s can enter %s (mode %04o): the others %s", who, format.Show(path), uint32(st.Mode)&0o7777, loses)
		}
	}
}

// audience says who can do what.
func (d *doctor) audience() {
	refreshes := fmt.Sprintf("uid %d and root refresh", d.owner.uid)
	switch {
	case d.owner.uid == 0:
		refreshes = "root refreshes"
	case unmapped(d.owner.uid):
		refreshes = "its owner refreshes"
	}
	switch {
	case d.owner.shared && d.owner.uid == 0: // see checkRoot
		refreshes = fmt.Sprintf("the members of group %d refresh, but not root", d.owner.gid)
	case d.owner.shared:
		refreshes += fmt.Sprintf(", and so do the members of group %d", d.owner.gid)
	}
	reads := "everyone can read"
	switch mode := d.rootMode; {
	case mode&unix.S_IXOTH != 0:
	case mode&unix.S_IXGRP != 0:
		reads = fmt.Sprintf("group %d can read, others cannot enter it (mode %04o)", d.owner.gid, mode&0o7777)
	default:
		reads = fmt.Sprintf("nobody else can enter it (mode %04o)", mode&0o7777)
	}
	d.find(OK, "audience", d.Install.root, "", "%s; %s; you are uid %d", refreshes, reads, unix.Geteuid())
}

// rootFS looks at the root's file system.
func (d *doctor) rootFS() { d.fileSystem("the root", d.Install.root) }

// fileSystem tells what a directory lies on.
func (d *doctor) fileSystem(what, dir string) {
	on, err := statFS(dir)
	if err != nil {
		d.find(Problem, "file-system", dir, "look at its owner and mode", "%s: %v", format.Show(dir), err)
		return
	}
	name := on.name
	if device(dir) != device(d.Install.root) {
		name += ", another than the root's"
	}
	switch {
	case on.network:
		d.find(Warning, "file-system", dir, "refresh from one host; readers on the others are right within a minute",
			"%s is on %s: other clients may see a publish up to 60 s later, and a lock, as where it is mounted with local_lock, may not keep their refreshers out", what, name)
	case on.readOnly:
		d.find(Note, "file-system", dir, "", "%s is on %s, read-only", what, name)
	default:
		d.find(OK, "file-system", dir, "", "%s is on %s", what, name)
	}
}

func device(path string) uint64 {
	var st unix.Stat_t
	unix.Stat(path, &st) // 0 for what is not there is as good as any
	return uint64(st.Dev)
}

// keeper looks at the cache_dir, or what there is of the way to it.
func (d *doctor) keeper() {
	dir := d.existing()
	if _, err := os.Lstat(d.cacheDir); errors.Is(err, fs.ErrNotExist) {
		d.find(Note, "cache-dir", d.cacheDir, "", "%s does not exist yet: the first refresh makes it", format.Show(d.cacheDir))
	}
	if err := d.checkKept(dir); err != nil {
		d.find(Problem, "cache-dir", dir, trustHint(d.Install.root, err), "%v", err)
	}
	if d.owner.reach != theOwner {
		d.closed("cache-dir", d.Install.root, dir, "find no cache")
	}
	d.fileSystem("the cache_dir", dir)
	if on, err := statFS(dir); err == nil && on.readOnly && d.internal && !d.image {
		d.find(Warning, "cache-dir", dir, "keep the caches elsewhere: --cache-dir, or ship them with the image: --cache-dir "+format.ShellQuote(format.Join(d.Install.root, format.ImageCacheDir)),
			"nobody can refresh: %s is read-only", format.Show(dir))
	}
}

// existing returns the cache_dir, or the nearest directory above it that
// exists.
func (d *doctor) existing() string {
	dir := d.cacheDir
	for dir != "/" {
		if _, err := os.Lstat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

// space compares what is free with what a refresh of all caches needs.
func (d *doctor) space() {
	dir := d.existing()
	on, err := statFS(dir)
	if err != nil {
		return
	}
	var bytes, files uint64
	for i := range d.caches {
		s := d.Status(d.caches[i].Name)
		bytes += s.Bytes
		files += uint64(s.Files)
	}
	hint := "make room, or run gc --now, or keep the caches elsewhere: --cache-dir"
	switch {
	case on.readOnly:
	case on.files > 0 && on.freeFiles < max(2*files, 1000):
		d.find(Warning, "space", dir, hint, "%s has %d inodes left; what is published takes %d, and a refresh as many again", format.Show(dir), on.freeFiles, files)
	case on.free < max(2*bytes, 1<<20):
		d.find(Warning, "space", dir, hint, "%s has %d bytes free; what is published takes %d, and a refresh as many again", format.Show(dir), on.free, bytes)
	default:
		d.find(OK, "space", dir, "", "%d MiB free, %d MiB published", on.free>>20, bytes>>20)
	}
}

func (d *doctor) mistakes() {
	for _, m := range d.Mistakes() {
		if unix.Access(m.File, unix.R_OK) == unix.EACCES && unix.Geteuid() != int(d.owner.uid) {
			d.find(Note, "configuration", m.File, "", "you may not read %s: who refreshes may", format.Show(m.File))
			continue
		}
		d.find(Problem, "configuration", m.File, m.Hint, "%v", m)
	}
	switch {
	case d.Unconfigured() && d.Install.root == "/":
		d.find(Note, "configuration", "", "declare one in /"+format.ConfigFile+" (init proposes one), or name the install's directory with --root", "%v", ErrUnconfigured)
	case d.Unconfigured():
		d.find(Note, "configuration", "", "", "nothing is configured: there is one cache, the built-in table of files")
	case len(d.Mistakes()) == 0:
		d.find(OK, "configuration", "", "", "%s in %s", counted(len(d.caches), "cache", "caches"), counted(len(d.sources), "file", "files"))
	}
}

// unknown tells of what is in the cache_dir and belongs to no cache.
func (d *doctor) unknown() {
	entries, _ := listDir(d.cacheDir)
	for _, e := range entries {
		path := d.cacheDir + "/" + e.Name()
		switch {
		case strings.HasPrefix(e.Name(), format.ScratchPrefix):
			d.find(Note, "leftovers", path, "remove it", "%s is of a doctor that was killed, or is at work", format.Show(path))
		case !e.IsDir() || !format.ValidCacheName(e.Name()):
			d.strange(path)
		}
	}
	names, _ := d.built()
	for _, name := range names {
		if c, _ := d.Install.cache(name); c != nil {
			continue
		}
		path := d.cacheDir + "/" + name
		r := &refresher{Install: d.Install, dir: path}
		switch {
		case d.foreign(name) != nil:
			d.find(Note, "leftovers", path, "", "%s is a cache of another root", format.Show(path))
		case r.readState().Program:
			d.find(Note, "leftovers", path, "", "cache %s is declared by a program, not by the configuration", name)
		case len(d.Mistakes()) == 0:
			d.find(Note, "leftovers", path, "", "cache %s is not configured: a refresh marks it stale, and gc removes it a day later", name)
		}
	}
}

// clockTolerance is how far the clock of a file system may be from ours.
const clockTolerance = 2 * time.Second
