package hashing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// ErrChanging is the error of reading something that changed each time it was
// looked at.
var ErrChanging = errors.New("it changes while it is read")

// Settle waits until the time stamps of path, relative to root, and, if it is a
// directory, of its entries are old enough that every later change moves one:
// what is observed after that, and only that, may be recorded under its
// identity. It returns false if nothing may be: the times are zero, lie in the
// future, keep moving or are those of an image. A path that does not exist has
// settled.
func Settle(ctx context.Context, root, path string) (bool, error) {
	c := fileClock()
	for range attempts {
		until, ok, err := c.settles(format.Join(root, path))
		if err != nil {
			return false, fmt.Errorf("settle: %w", err)
		}
		if until == 0 {
			return ok, nil
		}
		if err := c.waitUntil(ctx, until); err != nil {
			return false, err
		}
	}
	return false, nil
}

// Whose doing a file system's ctimes are. What the kernel sets at each change
// cannot be forged. An image has no ctime: it shows the mtime, which is whatever
// its maker says, and the same in the next image that is made reproducibly. A
// file of the same size, time and place in it is then another with the same
// identity.
type ctimes int

const (
	byKernel ctimes = iota
	byMaker
	byEither // an overlay, whose files may be an image's below it
)

// certify says whether an identity means anything.
func (c ctimes) certify(id format.Identity) bool {
	switch c {
	case byMaker:
		return false
	case byEither: // as images have it; of what the kernel sets, one in a billion
		return id.Ctime != id.Mtime || id.Ctime%int64(time.Second) != 0
	}
	return true
}

// settles returns when what is at full and its entries will have settled, 0 if
// they have, and false if they never will.
func (c *clock) settles(full string) (until int64, ok bool, err error) {
	paths := []string{full}
	fi, err := os.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return 0, true, nil
	}
	if err == nil && fi.IsDir() {
		var names []string
		names, err = namesIn(full)
		for _, name := range names {
			paths = append(paths, filepath.Join(full, name))
		}
	}
	if err != nil {
		return 0, false, err
	}
	source := ctimesAt(full)
	for _, p := range paths {
		st, err := fstatat(unix.AT_FDCWD, p)
		if err == unix.ENOENT {
			continue // gone since: its directory's times show it
		}
		if err != nil {
			return 0, false, err
		}
		id := format.IdentityOf(&st)
		when, ok := c.settlesAt(id)
		if !ok || !source.certify(id) {
			return 0, false, nil
		}
		until = max(until, when)
	}
	return until, true, nil
}

// namesIn lists a directory, and does not wait for a FIFO that took its place.
func namesIn(dir string) ([]string, error) {
	fd, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	d := os.NewFile(uintptr(fd), dir)
	defer d.Close()
	return d.Readdirnames(-1)
}

// attempts bounds how often something that changed under us is looked at
// again.
const attempts = 5

// The racy-time problem, as git has it: times have a granularity, so a file
// that is changed twice within it may have the same identity before and after
// the second change. An identity is good only if the clock has moved on by the
// time the content is read; then whatever changes the content moves ctime.
const (
	minGranularity = int64(10 * time.Millisecond)
	// coarseGranularity is that of file systems whose times have no fraction:
	// FAT's is two seconds.
	coarseGranularity = int64(2 * time.Second)
	// future is how far ahead of our clock a time may be and still be waited
	// for.
	future = int64(time.Second)
)

// A clock tells when an identity can be relied on.
type clock struct {
	now         func() int64 // nanoseconds since the epoch
	granularity int64
	// rough is now, but for less than longAgo, without a system call; nil if
	// there is no such.
	rough func() int64
}

// longAgo is more than any clock of file systems lags the precise one.
const longAgo = int64(10 * time.Second)

func preciseNow() int64 { return time.Now().UnixNano() }

// settlesAt returns when the identity will certify what is read from then on,
// 0 if it does now, and false if it never will.
func (c *clock) settlesAt(id format.Identity) (until int64, ok bool) {
	if c.rough != nil && id.Ctime > 0 && c.rough()-id.Ctime > longAgo {
		return 0, true // nearly all files
	}
	now := c.now()
	if id.Ctime <= 0 || id.Ctime > now+future {
		return 0, false
	}
	granularity := c.granularity
	if id.Ctime%int64(time.Second) == 0 && id.Mtime%int64(time.Second) == 0 {
		granularity = max(granularity, coarseGranularity)
	}
	if now > id.Ctime+granularity {
		return 0, true
	}
	return id.Ctime + granularity + 1, true
}

// waitUntil returns when the clock has come to until.
func (c *clock) waitUntil(ctx context.Context, until int64) error {
	for {
		left := until - c.now()
		if left <= 0 {
			return nil
		}
		if err := sleep(ctx, time.Duration(left)); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
