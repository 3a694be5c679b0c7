package hashing

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// A Scan finds and digests the files under Root that match one of Include and
// none of Exclude.
//
// # Patterns
//
// Patterns are those of github.com/bmatcuk/doublestar, relative to Root: *, ?,
// [class], {a,b}, and ** for any number of directories. Wild-cards match names
// that begin with a dot. Only files and symbolic links are inputs; a link is
// digested by its target and never followed. An exclude is matched against the
// paths of files: to exclude all below a directory it must end in /**.
//
// A scan looks only where a pattern can match: below its literal prefix, and
// component by component until its first **. A pattern without wild-cards
// needs no directory to be read. A prefix that goes through a symbolic link is
// a *ThroughLinkError, since nothing would ever match; name the real path.
//
// # What is left out
//
// Of what matches, this is left out and told in Tree.Left: what is neither file
// nor link; what has a path of more than 3,840 bytes; directories on another file system (on btrfs, in another
// subvolume); and what not everybody who can enter Root can read, namely
// others if its mode lets them enter, else its group if it lets that enter,
// else its owner. It is asked of the mode alone: what an access control list
// takes from some is not seen.
//
// # Racy times
//
// A file that was changed less than a clock granularity ago could change
// again without its identity showing it. The scan waits that long before it
// reads: twice the kernel's tick and at least 10 ms, or 2 s where the file's
// times have no fraction of a second. Where a time is 0 or more than a second
// in the future, or on an image such as squashfs, which has no ctime, the input
// is digested every time and its identity is zero.
type Scan struct {
	Root             string
	Include, Exclude []string
	Avoid            []string   // directories that are never entered, as absolute paths; one need not exist
	Known            *Inventory // of an earlier scan, or nil
	Workers          int        // how many files are read at once; 0: GOMAXPROCS
	Progress         *Progress  // added to, if not nil

	clock clock // of a test; zero: the file systems'
	// Of a test: called before a file is opened, and after a file or link was
	// read but not looked at again.
	hook func(path string, read bool)
}

// A Tree is what a scan found.
type Tree struct {
	Files []File // sorted by path
	// Dirs are the directories that decided what matches, sorted by path: all
	// that were listed, and those in which something that is named without
	// wild-cards was missing.
	Dirs []Dir
	// Passed are the root and the directories below it that were only gone
	// through, with who may do so, sorted by path: what else decided.
	Passed []Access
	Left   []Left // sorted by path
	Hashed int    // files whose content was read
	Bytes  uint64 // and how much that was
}

// A File is an input with the identity it was read under.
type File struct {
	Input
	ID format.Identity // zero: its times certify nothing
}

// A Dir is a directory with the identity that it had before it was read.
type Dir struct {
	Path string          // "" for the root
	ID   format.Identity // zero: its times certify nothing
}

// Access is who may go through a directory.
type Access struct {
	Path           string // "" for the root
	Mode, UID, GID uint32
}

// AccessOf returns who may go through the directory at path, now. A symbolic link
// in its place is another: a scan goes through none below the root.
func AccessOf(root, path string) (Access, error) {
	look := unix.Lstat
	if path == "" {
		look = unix.Stat
	}
	var st unix.Stat_t
	if err := look(format.Join(root, path), &st); err != nil {
		return Access{}, &os.PathError{Op: "stat", Path: format.Join(root, path), Err: err}
	}
	return accessOf(path, &st), nil
}

func accessOf(path string, st *unix.Stat_t) Access {
	return Access{path, uint32(st.Mode), st.Uid, st.Gid}
}

// Left is something that matches, or a directory with what may match in it,
// that was left out.
type Left struct {
	Path   string // "." for the root
	Reason string
}

// Manifest returns the files of t as they stand in a manifest.
func (t *Tree) Manifest() []Input {
	inputs := make([]Input, len(t.Files))
	for i := range t.Files {
		inputs[i] = t.Files[i].Input
	}
	return inputs
}

// Run scans. It returns promptly when ctx is done. What could not be read
// although it should be readable is an error, and so is what changed each time
// it was looked at: ErrChanging.
func (s Scan) Run(ctx context.Context) (*Tree, error) {
	include, err := compile(s.Include)
	if err != nil {
		return nil, err
	}
	exclude, err := compile(s.Exclude)
	if err != nil {
		return nil, err
	}
	tree := &Tree{}
	if len(include) == 0 {
		return tree, nil
	}
	if s.clock.now == nil {
		s.clock = fileClock()
	}
	if s.Workers <= 0 {
		s.Workers = runtime.GOMAXPROCS(0)
	}
	if s.Progress == nil {
		s.Progress = &Progress{}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &finding{scan: &s, ctx: ctx, tree: tree}
	w, err := newWalk(f, exclude)
	if err != nil {
		return nil, err
	}
	var workers sync.WaitGroup
	for range s.Workers {
		workers.Go(func() { newReader(f).run(w.batches, cancel) })
	}
	if err := w.run(include); err != nil {
		cancel(err)
	}
	workers.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	tree.sort()
	return tree, nil
}

// sort puts t in order. A directory that is changed while it is listed may
// hand out a name twice.
func (t *Tree) sort() {
	slices.SortFunc(t.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(t.Dirs, func(a, b Dir) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(t.Passed, func(a, b Access) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(t.Left, func(a, b Left) int { return strings.Compare(a.Path, b.Path) })
	t.Files = slices.CompactFunc(t.Files, func(a, b File) bool { return a.Path == b.Path })
	t.Left = slices.Compact(t.Left)
}

// A finding is what the walk and the readers of one scan share.
type finding struct {
	scan     *Scan
	ctx      context.Context
	audience audience
	ctimes   ctimes // of the root's file system, which a scan does not leave

	mu   sync.Mutex
	tree *Tree
}

// settlesAt is that of the clock, for what the file system's times certify.
func (f *finding) settlesAt(id format.Identity) (until int64, ok bool) {
	if !f.ctimes.certify(id) {
		return 0, false
	}
	return f.scan.clock.settlesAt(id)
}

func (f *finding) add(file File, read bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tree.Files = append(f.tree.Files, file)
	if read {
		f.tree.Hashed++
		f.tree.Bytes += file.Size
	}
}

func (f *finding) leave(path, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if path == "" {
		path = "."
	}
	f.tree.Left = append(f.tree.Left, Left{path, reason})
}

// An audience is who can enter the root, and so see what is published of it.
type audience struct {
	name     string
	uid, gid uint32 // of the root
	groupOut bool   // others may enter it, and its group may not
}

const (
	others = "everyone"
	group  = "the root's group"
	owner  = "the root's owner"
)

// What an audience may be asked about.
const (
	mayRead   = 4
	maySearch = 1
)

func audienceOf(root *unix.Stat_t) audience {
	a := audience{uid: root.Uid, gid: root.Gid, name: owner}
	switch mode := uint32(root.Mode); {
	case mode&maySearch != 0:
		a.name = others
		a.groupOut = mode>>3&maySearch == 0
	case mode>>3&maySearch != 0:
		a.name = group
	}
	return a
}

// may says whether all of the audience have the rights bits, by the mode.
func (a *audience) may(st *unix.Stat_t, bits uint32) bool {
	mode := uint32(st.Mode)
	switch {
	case a.name == group && st.Gid == a.gid:
		mode >>= 3
	case a.name == owner && a.uid == 0:
		return true
	case a.name == owner && st.Uid == a.uid:
		mode >>= 6
	case a.groupOut && st.Gid == a.gid:
	default:
		// Some of them may be members of its group, for whom what others may
		// does not count.
		mode &= mode >> 3
	}
	return mode&bits == bits
}

func changing(path string) error { return fmt.Errorf("%s: %w", format.Show(path), ErrChanging) }
