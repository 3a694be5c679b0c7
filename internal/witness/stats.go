package witness

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// CheckStats returns nil if every directory and file in stats still has its
// identity, else an error that names the first that has not. The error wraps
// format.ErrCorrupt if stats cannot be read: all of it is verified before
// anything is looked at.
func CheckStats(root string, stats format.Stats) error {
	parts, err := stats.Parts(partSize)
	if err != nil {
		return err
	}
	c := &statCheck{root: root, parts: parts}
	c.failed.Store(int64(len(parts)))
	c.whys = make([]error, len(parts))
	var others sync.WaitGroup
	for range min(len(parts), runtime.GOMAXPROCS(0), maxLookers) - 1 {
		others.Go(c.run)
	}
	c.run()
	others.Wait()
	if first := c.failed.Load(); first < int64(len(parts)) {
		return c.whys[first]
	}
	return nil
}

// A small tree is looked at by one goroutine. More than a few only wait for
// each other in the kernel.
const (
	partSize   = 32 << 10
	maxLookers = 4
)

// A statCheck is a check of a stat section by several goroutines, each of which
// takes the next part.
type statCheck struct {
	root   string
	parts  []format.StatsPart
	next   atomic.Int64
	failed atomic.Int64 // the first part that does not hold
	whys   []error      // of each part
}

func (c *statCheck) run() {
	l := &looker{root: c.root}
	for {
		i := c.next.Add(1) - 1
		if i >= c.failed.Load() { // all of them, or one that decides
			return
		}
		for d := range c.parts[i].All() {
			if c.whys[i] = l.dir(d); c.whys[i] != nil {
				c.failAt(i)
				return
			}
		}
	}
}

func (c *statCheck) failAt(i int64) {
	for first := c.failed.Load(); i < first && !c.failed.CompareAndSwap(first, i); first = c.failed.Load() {
	}
}

// A looker looks at one directory after the other, without garbage.
type looker struct {
	root string
	path unix.Path
	st   unix.Stat_t
}

func (l *looker) dir(d *format.StatDir) error {
	// One descriptor a directory: the kernel then resolves each name in one
	// step instead of from the root.
	full := format.Join(l.root, d.Path)
	if d.Path == "" {
		full += "/." // the root itself may be reached through a symbolic link
	}
	fd, err := openPath(full)
	if err != nil {
		return fmt.Errorf("directory %s: %w", format.Show(d.Path), err)
	}
	defer unix.Close(fd)
	if d.Check {
		if err := unix.Fstat(fd, &l.st); err != nil {
			return fmt.Errorf("directory %s: %w", format.Show(d.Path), err)
		}
		if err := compare(&l.st, d.ID); err != nil {
			return fmt.Errorf("directory %s %w", format.Show(d.Path), err)
		}
	}
	for i := range d.Files {
		f := &d.Files[i]
		l.path = l.path.Set(f.Name)
		switch errno := l.path.LstatAt(fd, &l.st); {
		case absent(errno):
			return fmt.Errorf("input %s is gone", format.Show(join(d.Path, f.Name)))
		case errno != 0:
			return fmt.Errorf("input %s %w", format.Show(join(d.Path, f.Name)), errno)
		}
		if err := compare(&l.st, f.ID); err != nil {
			return fmt.Errorf("input %s %w", format.Show(join(d.Path, f.Name)), err)
		}
	}
	return nil
}

// ErrUncertain is why an input without an identity contradicts: when it was read,
// a clock was wrong, or the file system has no times that mean anything. A refresh
// alone may find it so again.
var ErrUncertain = errors.New("has times that certified nothing when it was refreshed: 0, in the future, or an image's")

func compare(st *unix.Stat_t, want format.Identity) error {
	switch {
	case want == format.Identity{}:
		return ErrUncertain
	case format.IdentityOf(st) != want:
		return fmt.Errorf("changed since the last refresh")
	}
	return nil
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func openPath(path string) (int, error) {
	for {
		fd, err := unix.Open(path, openDirectory, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
