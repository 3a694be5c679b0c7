package refresh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/lock"
)

// probe tries locks and the clock on a file of our own in the cache_dir, unless
// others could have it made elsewhere.
func (d *doctor) probe() {
	path := d.cacheDir + "/" + randomName(format.ScratchPrefix)
	var why error
	if why = d.checkKept(d.cacheDir); why == nil {
		why = d.checkMake()
	}
	if why == nil {
		if err := unix.Access(d.cacheDir, unix.W_OK|unix.X_OK); err != nil {
			why = fmt.Errorf("you may not write the cache_dir: %w", err)
		}
	}
	if errors.Is(why, fs.ErrNotExist) {
		return // as has been said
	} else if why != nil {
		d.find(Note, "locking", d.cacheDir, "", "locks and clock were not tried: %v", why)
		return
	}
	broken := ""
	l, err := lock.Acquire(context.Background(), path, &lock.Options{Warn: func(msg string) { broken = msg }})
	if err != nil {
		d.find(Problem, "locking", d.cacheDir, "look at the owner, mode and free space of the cache_dir", "%v", err)
		return
	}
	defer d.disk.Remove(path)
	defer l.Release()
	var held *lock.HeldError
	second, err := lock.Acquire(context.Background(), path, nil)
	if err == nil {
		second.Release()
	}
	switch {
	case !l.Exclusive():
		d.find(Warning, "locking", d.cacheDir, "refresh from one place at a time, to save the work; nothing else depends on it", "no locks: %s", broken)
	case !errors.As(err, &held):
		d.find(Warning, "locking", d.cacheDir, "refresh from one place at a time, to save the work; nothing else depends on it", "a second refresher was not kept out")
	default:
		d.find(OK, "locking", d.cacheDir, "", "locks keep a second refresher out")
	}
	d.clock(path)
}

// checkMake refuses, as root, to make even a file for a moment where others could
// have it made elsewhere.
func (d *doctor) checkMake() error {
	if os.Geteuid() != 0 {
		return nil
	}
	return errors.Join(d.checkSelf(), d.checkRoot())
}

// clock compares the file system's clock with ours. They are two where a
// server sets the times.
func (d *doctor) clock(path string) {
	now := time.Now()
	fi, err := os.Lstat(path)
	if err != nil {
		return
	}
	off := fi.ModTime().Sub(now).Round(time.Second)
	switch {
	case off > clockTolerance, -off > clockTolerance:
		d.find(Warning, "clock", d.cacheDir, "set both by NTP", "the clock of its file system is %v off ours: what is changed there may look as if it were of the future", off)
	case fi.ModTime().Nanosecond() == 0:
		d.find(Note, "clock", d.cacheDir, "", "the times of its file system have no fraction of a second: a refresh right after a change waits up to 2 s")
	default:
		d.find(OK, "clock", d.cacheDir, "", "the clock of its file system is ours")
	}
}
