package hashing

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// A walk goes through the directories that may hold inputs, one after the
// other, and hands what matches to readers, in batches.
type walk struct {
	*finding
	exclude []*glob
	avoid   []place
	batches chan []job
	batch   []job // not yet sent
	buf     []byte
	root    *level
	open    []*level // those with a handle, from the root down
}

// A job is a file or link to be read.
type job struct {
	dir     *handle
	name    string
	path    string
	regular bool // by its directory: it may be something else by now
}

// A place is what a directory is, whatever its path.
type place struct{ dev, ino uint64 }

func placeOf(st *unix.Stat_t) place { return place{uint64(st.Dev), uint64(st.Ino)} }

// A level is a directory on the way from the root to where the walk is.
type level struct {
	up         *level
	name, path string
	place      place
	searchable bool // by the audience, without being readable
	access     Access
	recorded   bool
	h          *handle
}

// A subdir is a directory that is to be entered.
type subdir struct {
	name, path string
	states     []state
}

// batchSize is how many files a reader is handed at once. One by one, the
// handing over would take a quarter of the time.
const batchSize = 16

// maxOpen bounds the directories that a walk holds open, and the length of the
// queue those that wait in it: a tree may be deeper than there are descriptors.
const maxOpen = 64

// maxPath is the length of the longest path that is an input. A reader names it
// with the root in front, and the kernel takes 4096 bytes.
const maxPath = 3840

// errAgain says that what was looked at changed, and is worth another look.
var errAgain = errors.New("again")

func newWalk(f *finding, exclude []*glob) (*walk, error) {
	root := f.scan.Root
	fd, err := openat(unix.AT_FDCWD, root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	st, err := fstat(fd)
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "stat", Path: root, Err: err}
	}
	f.audience, f.ctimes = audienceOf(&st), ctimesOf(fd)
	w := &walk{
		finding: f, exclude: exclude,
		batches: make(chan []job, maxOpen/batchSize), buf: make([]byte, direntBuffer),
		root: &level{place: placeOf(&st), access: accessOf("", &st), searchable: !f.audience.may(&st, mayRead), h: newHandle(fd)},
	}
	w.open = []*level{w.root}
	for _, dir := range f.scan.Avoid {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err == nil {
			w.avoid = append(w.avoid, placeOf(&st))
		}
	}
	return w, nil
}

// run walks, and closes w.batches.
func (w *walk) run(include []*glob) error {
	defer close(w.batches)
	defer w.shut(w.root)
	defer w.pass(w.root)
	err := w.visit(w.root, initial(include))
	if err == nil {
		err = w.send()
	}
	for _, j := range w.batch {
		j.dir.release()
	}
	return err
}

// send hands over the batch.
func (w *walk) send() error {
	select {
	case w.batches <- w.batch:
		w.batch = nil
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// visit goes through the directory l and all below it that may match.
func (w *walk) visit(l *level, states []state) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	var below []subdir
	var err error
	switch {
	case onlyNames(states):
		below, err = w.lookUp(l, states)
	case l.searchable:
		w.leave(l.path, "not readable by "+w.audience.name)
	default:
		below, err = w.list(l, states)
	}
	if err != nil {
		return err
	}
	slices.SortFunc(below, func(a, b subdir) int { return strings.Compare(a.name, b.name) })
	below = slices.CompactFunc(below, func(a, b subdir) bool { return a.name == b.name })
	for i := range below {
		if err := w.enter(l, &below[i]); err != nil {
			return err
		}
	}
	return nil
}

// list reads the directory l.
func (w *walk) list(l *level, states []state) (below []subdir, err error) {
	if err := w.record(l); err != nil {
		return nil, err
	}
	err = list(l.h.fd, w.buf, func(b []byte, typ byte) error {
		name := string(b)
		s := advance(states, l.path, name)
		if !s.file && len(s.below) == 0 {
			return nil
		}
		if typ == typeUnknown {
			st, err := fstatat(l.h.fd, name)
			if err != nil && err != unix.ENOENT {
				return w.failed("stat", s.path, err)
			}
			typ = entryType(&st) // what is gone a reader will miss
		}
		sub, err := w.take(l, name, typ, &s)
		if sub {
			below = append(below, subdir{name, s.path, s.below})
		}
		return err
	})
	errno, ok := err.(unix.Errno)
	switch {
	case errno == unix.ENOENT: // it was removed
		err = changing(l.path)
	case ok:
		err = w.failed("list", l.path, errno)
	}
	return below, err
}

// lookUp looks for the names that are all that is wanted of the directory l.
func (w *walk) lookUp(l *level, states []state) (below []subdir, err error) {
	var names []string
	var steps []step
	byName(states, func(name string, states []state) {
		names = append(names, name)
		steps = append(steps, advance(states, l.path, name))
	})
	types, all, err := w.probe(l, names, steps)
	if err == nil && !all {
		// What is missing may come: the directory certifies that it has not.
		// Its identity must be older than the look.
		if err = w.record(l); err == nil {
			types, _, err = w.probe(l, names, steps)
		}
	}
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		if types[i] == typeNone {
			continue
		}
		sub, err := w.take(l, name, types[i], &steps[i])
		if err != nil {
			return nil, err
		}
		if sub {
			below = append(below, subdir{name, steps[i].path, steps[i].below})
		}
	}
	return below, nil
}

// probe returns the types of names in the directory l, and whether each is
// there and what is wanted.
func (w *walk) probe(l *level, names []string, steps []step) (types []byte, all bool, err error) {
	types, all = make([]byte, len(names)), true
	for i, name := range names {
		st, err := fstatat(l.h.fd, name)
		switch {
		case err == unix.ENOENT || err == unix.ENAMETOOLONG:
			types[i] = typeNone
		case err != nil:
			return nil, false, w.failed("stat", steps[i].path, err)
		default:
			types[i] = entryType(&st)
		}
		switch types[i] {
		case typeNone:
			all = false
		case typeDir:
			all = all && len(steps[i].below) > 0
		default:
			all = all && steps[i].file
		}
	}
	return types, all, nil
}

// take takes an entry of the directory l that matches, or below which
// something may. It returns true if it is a directory to enter.
func (w *walk) take(l *level, name string, typ byte, s *step) (bool, error) {
	if len(s.path) > maxPath {
		w.leave(s.path[:64]+"...", fmt.Sprintf("its path has more than %d bytes", maxPath))
		return false, nil
	}
	if typ == typeDir {
		if s.only != "" {
			w.leave(s.path, "a directory; write "+s.only+"/** for what is in it")
		}
		return len(s.below) > 0 && !prunes(w.exclude, s.path), nil
	}
	if typ == typeLink && s.through != "" {
		return false, &ThroughLinkError{s.through, s.path}
	}
	if !s.file || excludes(w.exclude, s.path) {
		return false, nil
	}
	w.scan.Progress.Found.Add(1)
	w.batch = append(w.batch, job{l.h.retain(), name, s.path, typ == typeRegular})
	if len(w.batch) < batchSize {
		return false, nil
	}
	return false, w.send()
}

// A ThroughLinkError is that of a pattern that nothing would ever match.
type ThroughLinkError struct {
	Pattern string
	Link    string // a symbolic link, relative to the root
}

// Error returns one line.
func (e *ThroughLinkError) Error() string {
	return fmt.Sprintf("pattern %q goes through the symlink %s; name the real path", e.Pattern, format.Show(e.Link))
}

// enter visits a directory in l, unless it is to be left out.
func (w *walk) enter(l *level, sub *subdir) error {
	for i := range attempts {
		if err := w.pause(i); err != nil {
			return err
		}
		child, err := w.descend(l, sub)
		if err == errAgain {
			continue
		}
		if child == nil || err != nil {
			return err
		}
		w.hold(child)
		err = w.visit(child, sub.states)
		w.pass(child)
		w.shut(child)
		return err
	}
	return changing(sub.path)
}

// descend opens a directory in l. It returns nil if it is to be left out.
func (w *walk) descend(l *level, sub *subdir) (*level, error) {
	if err := w.reopen(l); err != nil {
		return nil, err
	}
	st, err := fstatat(l.h.fd, sub.name)
	switch {
	case err == unix.ENOENT:
		return nil, errAgain
	case err != nil:
		return nil, w.failed("stat", sub.path, err)
	case entryType(&st) != typeDir:
		return nil, errAgain
	case slices.Contains(w.avoid, placeOf(&st)):
		return nil, nil
	case uint64(st.Dev) != w.root.place.dev:
		w.leave(sub.path, "on another file system")
		return nil, nil
	case !w.audience.may(&st, maySearch):
		w.leave(sub.path, "not readable by "+w.audience.name)
		return nil, nil
	}
	searchable := !w.audience.may(&st, mayRead)
	if searchable && !onlyNames(sub.states) {
		w.leave(sub.path, "not readable by "+w.audience.name)
		return nil, nil
	}
	fd, err := w.openSame(l.h.fd, sub.name, sub.path, placeOf(&st))
	if err != nil {
		return nil, err
	}
	return &level{up: l, name: sub.name, path: sub.path, place: placeOf(&st), access: accessOf(sub.path, &st), searchable: searchable, h: newHandle(fd)}, nil
}

// openSame opens the directory name in dirfd, which must be at p.
func (w *walk) openSame(dirfd int, name, path string, p place) (int, error) {
	fd, err := openDir(dirfd, name)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EMLINK: // EMLINK: FreeBSD's for a link
		return -1, errAgain
	default:
		return -1, w.failed("open", path, err)
	}
	st, err := fstat(fd)
	if err == nil && placeOf(&st) == p {
		return fd, nil
	}
	unix.Close(fd)
	if err != nil {
		return -1, w.failed("stat", path, err)
	}
	return -1, errAgain
}

// pass notes a directory whose own times do not count.
func (w *walk) pass(l *level) {
	if l.recorded && l != w.root {
		return
	}
	w.mu.Lock()
	w.tree.Passed = append(w.tree.Passed, l.access)
	w.mu.Unlock()
}

// hold keeps l open, and at most maxOpen levels with it. The root always is.
func (w *walk) hold(l *level) {
	w.open = append(w.open, l)
	if len(w.open) > maxOpen {
		first := w.open[1]
		w.open = slices.Delete(w.open, 1, 2)
		first.h.release()
		first.h = nil
	}
}

// shut closes l, the last of the open levels if it is open.
func (w *walk) shut(l *level) {
	if l.h == nil {
		return
	}
	w.open = w.open[:len(w.open)-1]
	l.h.release()
	l.h = nil
}

// reopen opens l again if hold closed it, from the nearest level above that
// is open. By ".." from below would be shorter, and lead astray where a
// directory was moved.
func (w *walk) reopen(l *level) error {
	if l.h != nil {
		return nil
	}
	var way []*level
	for up := l; up.h == nil; up = up.up {
		way = append(way, up)
	}
	from := way[len(way)-1].up.h.retain()
	for _, next := range slices.Backward(way) {
		fd, err := w.openSame(from.fd, next.name, next.path, next.place)
		from.release()
		if err == errAgain {
			return changing(next.path)
		}
		if err != nil {
			return err
		}
		from = newHandle(fd)
	}
	l.h = from
	w.hold(l)
	return nil
}

// record records the directory l, before it is read.
func (w *walk) record(l *level) error {
	for range attempts {
		st, err := fstat(l.h.fd)
		if err != nil {
			return w.failed("stat", l.path, err)
		}
		id := format.IdentityOf(&st)
		until, ok := w.settlesAt(id)
		if until == 0 {
			if !ok {
				id = format.Identity{}
			}
			w.mu.Lock()
			w.tree.Dirs = append(w.tree.Dirs, Dir{l.path, id})
			l.recorded = true
			w.mu.Unlock()
			return nil
		}
		if err := w.scan.clock.waitUntil(w.ctx, until); err != nil {
			return err
		}
	}
	return changing(l.path)
}

// pause gives whoever replaces something the time to finish.
func (f *finding) pause(attempt int) error {
	if attempt == 0 {
		return nil
	}
	return sleep(f.ctx, time.Duration(attempt)*2*time.Millisecond)
}

func (f *finding) failed(op, path string, err error) error {
	return fmt.Errorf("%s %s: %w", op, format.Show(path), err)
}

// typeNone is that of a name that does not exist.
const typeNone = 255

// entryType returns what a directory would give as the type, as far as the
// walk makes a difference.
func entryType(st *unix.Stat_t) byte {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return typeDir
	case unix.S_IFLNK:
		return typeLink
	}
	return typeUnknown
}
