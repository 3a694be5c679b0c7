package refresh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/lock"
	"github.com/syscache/syscache/syscache"
)

// Collected is what Collect did of one cache.
type Collected struct {
	Removed int    // generations
	Bytes   uint64 // that they took
	Kept    int    // generations that are superseded, but not for long enough
}

// CollectOptions modify Collect. The zero value is useful.
type CollectOptions struct {
	// Now removes every superseded generation, however lately it was: whoever
	// was given a directory's path, or is between reading the pointer and
	// opening what it names, then misses.
	Now bool
	// Wait and Waiting are those of Options.
	Wait    time.Duration
	Waiting func(lock.Holder)
}

// Collect removes what a cache no longer needs: generations that were
// superseded longer ago than its configuration keeps them, and what a refresh
// that was killed left behind. A refresh does the same at its end. Of a cache
// that is no longer declared nothing but its lock is left, once its last
// generation has been superseded for a day.
func (in *Install) Collect(ctx context.Context, cache string, o *CollectOptions) (Collected, error) {
	if o == nil {
		o = &CollectOptions{}
	}
	if err := errors.Join(in.checkSelf(), in.checkRoot()); err != nil {
		return Collected{}, fmt.Errorf("collect %s: %w", quoteName(cache), err)
	}
	r, err := in.collector(cache)
	if r == nil || err != nil {
		return Collected{}, err
	}
	l, err := lock.Acquire(ctx, r.dir+"/"+format.Lock, &lock.Options{
		Mode: in.owner.lockMode(), Wait: o.Wait, Waiting: o.Waiting, Warn: in.warn,
	})
	if err != nil {
		return Collected{}, in.lockError(ctx, err)
	}
	defer l.Release()
	done, err := r.collectAll(o.Now)
	if err != nil {
		err = fmt.Errorf("collect %s: %w", cache, err)
	}
	return done, err
}

// collector returns a refresher for a cache of which there is something; else
// nil.
func (in *Install) collector(cache string) (*refresher, error) {
	c, undeclared := in.cache(cache)
	if undeclared != nil {
		if !in.Built(cache) {
			return nil, undeclared
		}
		c = &Cache{Name: cache}
	}
	r := &refresher{Install: in, c: c, dir: in.cacheDir + "/" + cache, told: map[string]bool{}}
	err := in.checkKept(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &HintedError{fmt.Errorf("collect %s: %w", cache, err), trustHint(in.root, err)}
	}
	if err := in.foreign(cache); err != nil {
		return nil, fmt.Errorf("collect %s: %w", cache, err)
	}
	return r, nil
}

// collectAll is called under the lock.
func (r *refresher) collectAll(now bool) (Collected, error) {
	if _, err := os.Lstat(r.dir + "/" + format.Generations); err == nil {
		if err := r.sweep(); err != nil {
			return Collected{}, err
		}
	}
	r.state = r.readState()
	keep := r.c.Keep
	if keep == 0 {
		keep = DefaultKeep
	}
	if now {
		keep = 0
	}
	needed, gone, err := r.needed()
	if err != nil {
		return Collected{}, err
	}
	// A refresh that was killed may have led readers to it, and neither moved
	// the link nor made that durable. It has to be before what they were led to
	// is removed.
	if g := r.present(needed); g != nil {
		if err := r.linkLatest(g); err != nil {
			return Collected{}, err
		}
	}
	if err := r.disk.SyncDir(r.dir); err != nil {
		return Collected{}, err
	}
	retired, done, err := r.collectAfter(needed, keep)
	if err != nil {
		return done, err
	}
	if gone && done.Kept == 0 {
		return done, r.forget()
	}
	s := r.state
	s.Retired = retired
	r.saveState(s)
	return done, nil
}

// needed returns the generation that readers are led to, be it by a pointer
// that is marked stale; and whether they are led nowhere any more, because the
// cache is no longer declared.
func (r *refresher) needed() (key syscache.Key, gone bool, err error) {
	_, undeclared := r.cache(r.c.Name)
	for _, name := range []string{format.Current, format.Stale} {
		b, err := r.owner.readPublished(r.dir + "/" + name)
		switch {
		case unknown(err):
			return key, false, err
		case err != nil:
			continue
		}
		p, err := format.DecodePointer(b)
		switch {
		case name == format.Stale && errors.Is(undeclared, ErrUndeclared) && len(r.Mistakes()) == 0 && !r.state.Program:
			return key, true, nil
		case err == nil:
			return p.Key, false, nil
		}
	}
	return key, false, nil
}

// forget removes what is left of a cache but its lock: another refresher may
// be waiting for it.
func (r *refresher) forget() error {
	for _, name := range []string{format.Latest, format.Stale, format.Inventory, format.State, format.Seen} {
		if name == format.Stale && r.shipped(r.c.Name) {
			continue // it is what marks the image's
		}
		if err := ignoreNotExist(lstatAndRemove(r.disk, r.dir+"/"+name)); err != nil {
			return err
		}
	}
	return ignoreNotExist(lstatAndRemove(r.disk, r.dir+"/"+format.Generations))
}

// sizeOf returns how many bytes a generation has.
func (r *refresher) sizeOf(name string) (n uint64) {
	filepath.WalkDir(r.dir+"/"+format.Generation(name), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if fi, err := d.Info(); err == nil {
				n += uint64(fi.Size())
			}
		}
		return nil
	})
	return n
}
