package hashing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/internal/format"
)

// A Scan looks at the files below a root that match. Patterns are doublestar's,
// relative to the root; ** crosses directories and matches dot files too.
type Scan struct {
	Root    string // absolute
	Include []string
	Exclude []string
	Avoid   []string   // directories that are never entered, by absolute path
	Known   *Inventory // may be nil
	Workers int        // that hash; 0: as many as processors
}

// A File is an input as a scan found it.
type File struct {
	Input
	ID format.Identity // zero where the file's times certify nothing
}

// A Dir is a directory that a scan has read, or looked in vain for a name in.
type Dir struct {
	Path string          // relative to the root, "" for the root itself
	ID   format.Identity // as it was before the directory was read
}

// A Left is something that a scan came across and left out.
type Left struct{ Path, Reason string }

// A Tree is what a scan saw.
type Tree struct {
	Files  []File // sorted by path
	Dirs   []Dir  // sorted by path
	Left   []Left // sorted by path
	Hashed int    // files whose content was read
	Bytes  int64  // of those files
}

// ErrChanging is wrapped by the error of a scan during which a file changed
// each time it was read.
var ErrChanging = errors.New("it changes while it is read")

// Inputs returns the files as a manifest lists them.
func (t *Tree) Inputs() []Input {
	inputs := make([]Input, len(t.Files))
	for i := range t.Files {
		inputs[i] = t.Files[i].Input
	}
	return inputs
}

// rescans bounds how often a scan waits for times to settle and begins again.
const rescans = 3

// Run scans. On an error there is no tree.
//
// It returns only after the newest time that it saw has settled, which takes
// milliseconds, so that the next change of any file will move its identity.
// Where that cannot be had, because times are in the future or move all the
// time, the identity is zero.
func (s Scan) Run(ctx context.Context) (*Tree, error) {
	include, err := compile(s.Include)
	if err != nil {
		return nil, err
	}
	for _, p := range s.Exclude {
		if err := ValidatePattern(p); err != nil {
			return nil, err
		}
	}
	hashed, bytes := 0, int64(0)
	for i := 1; ; i++ {
		begin := time.Now()
		t, err := s.once(ctx, include)
		if err != nil {
			return nil, err
		}
		hashed, bytes = max(hashed, t.Hashed), max(bytes, t.Bytes)
		wait := t.settle(begin, i == rescans)
		if wait == 0 {
			t.Hashed, t.Bytes = hashed, bytes
			return t, nil
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
		s.Known = NewInventory(t)
	}
}

// once scans without regard to racy times.
func (s *Scan) once(ctx context.Context, include [][]component) (*Tree, error) {
	fd, err := unix.Open(s.Root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Root, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", s.Root, err)
	}
	w := &walk{
		Scan: s, tree: &Tree{}, dev: uint64(st.Dev), readers: readersOf(&st),
		avoid: identities(s.Avoid), jobs: make(chan *directory, 16),
	}
	group, ctx := errgroup.WithContext(ctx)
	workers := s.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	for range workers {
		group.Go(func() error { return w.work(ctx) })
	}
	group.Go(func() error {
		defer close(w.jobs)
		root := newDirectory(fd, "", &st)
		defer root.release()
		return w.enter(ctx, root, start(include))
	})
	if err := group.Wait(); err != nil {
		for d := range w.jobs { // what no worker took
			d.release()
		}
		return nil, err
	}
	slices.SortFunc(w.tree.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(w.tree.Dirs, func(a, b Dir) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(w.tree.Left, func(a, b Left) int { return strings.Compare(a.Path, b.Path) })
	return w.tree, nil
}

// walk is one walk through a tree: one goroutine reads directories, others
// stat and hash the files in them. All look names up in open directories and
// follow no link, so nobody can lead them out of the root.
type walk struct {
	*Scan
	dev     uint64
	readers readers
	avoid   map[[2]uint64]bool
	jobs    chan *directory

	mu   sync.Mutex
	tree *Tree
}

// A directory is one that is open, with the names of the files in it that
// match.
type directory struct {
	fd    int
	path  string
	st    unix.Stat_t
	names []string
	users atomic.Int32
}

func newDirectory(fd int, path string, st *unix.Stat_t) *directory {
	d := &directory{fd: fd, path: path, st: *st}
	d.users.Store(1)
	return d
}

func (d *directory) release() {
	if d.users.Add(-1) == 0 {
		unix.Close(d.fd)
	}
}

func (d *directory) join(name string) string {
	if d.path == "" {
		return name
	}
	return d.path + "/" + name
}

// enter walks through d, in which p is left to match.
func (w *walk) enter(ctx context.Context, d *directory, p position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if names, only := p.literals(); only {
		return w.look(ctx, d, p, names)
	}
	if !w.readers.can(&d.st, 5) {
		w.left(d.path, notReadable)
		return nil
	}
	w.read(d)
	entries, err := readNames(d.fd, w.Root+"/"+d.path)
	if err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	var below []string
	for _, e := range entries {
		name := e.Name()
		switch next, matches := p.step(name); {
		case e.IsDir():
			if len(next) > 0 {
				below = append(below, name)
			}
		case matches && !excluded(w.Exclude, d.join(name)):
			d.names = append(d.names, name)
		}
	}
	if err := w.submit(ctx, d); err != nil {
		return err
	}
	for _, name := range below {
		next, _ := p.step(name)
		if err := w.descend(ctx, d, name, next); err != nil {
			return err
		}
	}
	return nil
}

// look enters a directory of which only some names matter. It is not read, and
// its other entries may change. If one of the names is missing, it is noted,
// for the name may appear.
func (w *walk) look(ctx context.Context, d *directory, p position, names []string) error {
	if !w.readers.can(&d.st, 1) {
		w.left(d.path, notReadable)
		return nil
	}
	slices.Sort(names)
	missing := false
	var below []string
	for _, name := range slices.Compact(names) {
		var st unix.Stat_t
		err := fstatat(d.fd, name, &st)
		if err == unix.ENOENT {
			missing = true
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.join(name), err)
		}
		next, matches := p.step(name)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			if len(next) > 0 {
				below = append(below, name)
			}
			continue
		case unix.S_IFLNK:
			if len(next) > 0 {
				return fmt.Errorf("%s: it is a symbolic link, and none is followed: name what it leads to", d.join(name))
			}
		}
		if matches && !excluded(w.Exclude, d.join(name)) {
			d.names = append(d.names, name)
		}
	}
	if missing {
		w.read(d)
	}
	if err := w.submit(ctx, d); err != nil {
		return err
	}
	for _, name := range below {
		next, _ := p.step(name)
		if err := w.descend(ctx, d, name, next); err != nil {
			return err
		}
	}
	return nil
}

// descend enters the directory name of d.
func (w *walk) descend(ctx context.Context, d *directory, name string, p position) error {
	path := d.join(name)
	if excludedBelow(w.Exclude, path) {
		return nil
	}
	var st unix.Stat_t
	if err := fstatat(d.fd, name, &st); err != nil {
		return gone(path, err)
	}
	switch {
	case w.avoid[[2]uint64{uint64(st.Dev), st.Ino}]:
		return nil
	case uint64(st.Dev) != w.dev:
		w.left(path, "it is on another file system")
		return nil
	case !w.readers.can(&st, 1):
		w.left(path, notReadable)
		return nil
	}
	fd, err := openat(d.fd, name, unix.O_DIRECTORY)
	if err != nil {
		return gone(path, err)
	}
	// Again, of what was opened; before it is read.
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return fmt.Errorf("%s: %w", path, err)
	}
	child := newDirectory(fd, path, &st)
	defer child.release()
	return w.enter(ctx, child, p)
}

// gone makes nothing of what vanished since its directory was read, or is no
// longer a directory: the directory's identity tells.
func gone(path string, err error) error {
	switch err {
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return nil
	}
	return fmt.Errorf("%s: %w", path, err)
}

// submit gives the files of d to the workers.
func (w *walk) submit(ctx context.Context, d *directory) error {
	if len(d.names) == 0 {
		return nil
	}
	d.users.Add(1)
	select {
	case w.jobs <- d:
		return nil
	case <-ctx.Done():
		d.release()
		return ctx.Err()
	}
}

func (w *walk) read(d *directory) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tree.Dirs = append(w.tree.Dirs, Dir{d.path, format.IdentityOf(&d.st)})
}

func (w *walk) left(path, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tree.Left = append(w.tree.Left, Left{path, reason})
}

const notReadable = "not all users of the install can read it"

// readers is the class of users who can enter the root: who, of others, the
// group or the owner, must be able to read an input. A digest of what they
// cannot read would be published to them.
type readers struct {
	shift uint // of the permission bits that count
	gid   uint32
}

func readersOf(root *unix.Stat_t) readers {
	for shift := uint(0); shift < 6; shift += 3 {
		if root.Mode>>shift&1 != 0 {
			return readers{shift, root.Gid}
		}
	}
	return readers{6, root.Gid}
}

// can says whether they have the permissions bits (4 read, 1 search).
func (r readers) can(st *unix.Stat_t, bits uint32) bool {
	switch {
	case uint32(st.Mode)&bits == bits: // others can
		return true
	case r.shift == 3:
		return uint32(st.Mode)>>3&bits == bits && st.Gid == r.gid
	}
	return r.shift == 6
}

func identities(dirs []string) map[[2]uint64]bool {
	ids := map[[2]uint64]bool{}
	for _, dir := range dirs {
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil {
			ids[[2]uint64{uint64(st.Dev), st.Ino}] = true
		}
	}
	return ids
}

// readNames lists a directory without closing fd.
func readNames(fd int, name string) ([]os.DirEntry, error) {
	dup, err := openat(fd, ".", unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(dup), name)
	defer f.Close()
	return f.ReadDir(-1)
}

func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func fstatat(dir int, name string, st *unix.Stat_t) error {
	for {
		if err := unix.Fstatat(dir, name, st, unix.AT_SYMLINK_NOFOLLOW); err != unix.EINTR {
			return err
		}
	}
}
