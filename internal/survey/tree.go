package survey

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// Bounds of the looking: whoever made the tree may have made it endless.
const (
	maxFiles   = 200_000
	maxTime    = 2 * time.Second
	maxEntries = 10_000 // of one directory that is looked through for names
)

// A tree is the root that is looked at. What it holds is anybody's, so no
// symbolic link is followed, and nothing is opened but directories and regular
// files.
type tree struct {
	root  string
	stat  unix.Stat_t // of the root
	files int         // that may still be visited
	until time.Time
}

func newTree(root string) (*tree, error) {
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, err
	}
	t := &tree{root: real, files: maxFiles, until: time.Now().Add(maxTime)}
	if err := unix.Lstat(real, &t.stat); err != nil {
		return nil, &os.PathError{Op: "stat", Path: real, Err: err}
	}
	return t, nil
}

// look returns what is at a path, or nil if that cannot be a witness or the way
// to an input: if it is reached through a symbolic link, or not everybody who
// can enter the root can look at it.
func (t *tree) look(path string) *unix.Stat_t {
	for i, c := range path {
		if c != '/' {
			continue
		}
		if st := t.lstat(path[:i]); st == nil || !isType(st, unix.S_IFDIR) || !t.open(st, 0o1) {
			return nil
		}
	}
	return t.lstat(path)
}

// late says whether the time is up.
func (t *tree) late() bool { return time.Now().After(t.until) }

func (t *tree) lstat(path string) *unix.Stat_t {
	var st unix.Stat_t
	if unix.Lstat(format.Join(t.root, path), &st) != nil {
		return nil
	}
	return &st
}

func isType(st *unix.Stat_t, want uint32) bool { return uint32(st.Mode)&unix.S_IFMT == want }

// open says whether all who can enter the root have the rights bits.
func (t *tree) open(st *unix.Stat_t, bits uint32) bool {
	switch root := uint32(t.stat.Mode); {
	case root&0o1 != 0:
	case root&0o10 != 0:
		bits <<= 3
	default:
		bits <<= 6
	}
	return uint32(st.Mode)&bits == bits
}

func (t *tree) isDir(path string) bool {
	st := t.look(path)
	return st != nil && isType(st, unix.S_IFDIR) && t.open(st, 0o5)
}

func (t *tree) isFile(path string) bool {
	st := t.look(path)
	return st != nil && isType(st, unix.S_IFREG) && t.open(st, 0o4)
}

// names returns the first entries of a directory, sorted.
func (t *tree) names(dir string) []string {
	f, err := t.openDir(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(maxEntries)
	slices.Sort(names)
	return names
}

func (t *tree) openDir(dir string) (*os.File, error) {
	return unix.OpenFile(format.Join(t.root, dir), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// head returns how a regular file begins.
func (t *tree) head(path string) string {
	f, err := unix.OpenFile(format.Join(t.root, path), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return ""
	}
	b := make([]byte, 8<<10)
	n, _ := f.Read(b)
	return string(b[:n])
}

// entries counts the entries of a directory.
func (t *tree) entries(dir string) count {
	f, err := t.openDir(dir)
	if err != nil {
		return count{}
	}
	defer f.Close()
	n := 0
	for {
		names, err := f.Readdirnames(1024)
		n += len(names)
		if err != nil || n > maxFiles || t.late() {
			return count{n, err == nil}
		}
	}
}

// A count is how many there are, or at least are.
type count struct {
	n    int
	more bool
}

// walk visits what lies below dir and is no directory, without the paths to
// skip, and counts it together with the directories. What cannot be listed is
// not counted.
func (t *tree) walk(dir string, skip []string, visit func(path string, st *unix.Stat_t)) (c count) {
	below := []string{dir}
	for len(below) > 0 && !c.more {
		dir := below[len(below)-1]
		below = below[:len(below)-1]
		f, err := t.openDir(dir)
		if err != nil {
			continue
		}
		c.n++
		for err == nil && !c.more {
			var names []string
			names, err = f.Readdirnames(1024)
			for _, name := range names {
				path := strings.TrimPrefix(dir+"/"+name, "/")
				st := t.lstat(path)
				switch {
				case st == nil || slices.Contains(skip, path):
				case isType(st, unix.S_IFDIR) && st.Dev == t.stat.Dev:
					below = append(below, path)
				case !isType(st, unix.S_IFDIR):
					c.n++
					visit(path, st)
				}
			}
			t.files -= len(names)
			c.more = t.files <= 0 || t.late()
		}
		f.Close()
	}
	return c
}
