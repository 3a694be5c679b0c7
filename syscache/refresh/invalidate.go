package refresh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// Invalidate marks a cache stale: a refresh that is under way will not
// publish, and no reader believes the cache until the next one. It takes no
// lock and waits for nothing. When it returns without an error the mark is
// durable. A cache that was never built is no error, nor one that is not
// declared. The error wraps ErrNotOwner or is the operating
// system's; the cache may then be believed still.
func (in *Install) Invalidate(cache string) error {
	if !format.ValidCacheName(cache) {
		return fmt.Errorf("invalidate: %q cannot be the name of a cache", cache)
	}
	if err := in.checkSelf(); err != nil {
		return fmt.Errorf("invalidate %s: %w", cache, err)
	}
	err := in.confine(func(in *Install) error { return in.invalidate(cache) })
	if err != nil {
		return fmt.Errorf("invalidate %s: %w", cache, err)
	}
	return nil
}

func (in *Install) invalidate(cache string) error {
	dir := in.cacheDir + "/" + cache
	err := in.checkKept(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &HintedError{err, trustHint(in.root, err)}
	}
	if err == nil {
		err = in.foreign(cache)
	}
	if err == nil {
		err = invalidate(in.disk, dir)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = in.maskImage(cache)
	}
	return err
}

// confine calls f with the install, or, where others could have root change
// something elsewhere, with one that cannot. To mark a cache stale is all that
// root does in an install that it would not refresh.
func (in *Install) confine(f func(*Install) error) error {
	exposed := in.checkRoot()
	if exposed == nil {
		return f(in)
	}
	if !in.internal {
		return exposed
	}
	root, err := os.OpenRoot(in.root)
	if err != nil {
		return err
	}
	defer root.Close()
	kept := *in
	kept.disk = confined{root, in.root}
	return f(&kept)
}

// InvalidateAll invalidates every cache in an install's cache_dir, and returns
// their names. It reads no configuration, so that a mistake there does not keep
// old data believed. Of o it uses CacheDir alone.
//
// It is for who manages all of the install. A program invalidates its own
// caches by their names.
func InvalidateAll(root string, o *LoadOptions) ([]string, error) {
	if o == nil {
		o = &LoadOptions{}
	}
	in := &Install{disk: realDisk{}}
	if err := in.locate(root, o.CacheDir); err != nil {
		return nil, err
	}
	return in.invalidateAll()
}

func (in *Install) invalidateAll() ([]string, error) {
	var done []string
	names, err := in.built()
	for _, name := range names {
		if in.foreign(name) != nil {
			continue
		}
		if e := in.Invalidate(name); e != nil {
			err = errors.Join(err, e)
		} else {
			done = append(done, name)
		}
	}
	return done, err
}

// InvalidateUndeclared invalidates every cache in the cache_dir that the
// configuration declared and declares no more, and returns their names. Those
// that programs declare are theirs to invalidate.
func (in *Install) InvalidateUndeclared() ([]string, error) {
	var gone []string
	names, err := in.built()
	for _, name := range names {
		ref := &refresher{Install: in, dir: in.cacheDir + "/" + name}
		if _, undeclared := in.cache(name); undeclared == nil || in.foreign(name) != nil || ref.readState().Program {
			continue
		}
		if _, e := os.Lstat(ref.dir + "/" + format.Current); e != nil && !in.unmasked(name) {
			// It is marked. Who did it may have been killed before it synced.
			err = errors.Join(err, ignoreNotExist(in.disk.SyncDir(ref.dir)))
			continue
		}
		gone = append(gone, name)
		err = errors.Join(err, in.Invalidate(name))
	}
	return gone, err
}

// errForeign is the error of touching what another root keeps in the cache_dir.
var errForeign = errors.New("the cache_dir holds a cache of this name of another root")

// foreign returns errForeign if the cache in the cache_dir is of another root.
// In the root's own cache_dir there is no other.
func (in *Install) foreign(cache string) error {
	if in.internal {
		return nil
	}
	for _, name := range []string{format.Current, format.Stale} {
		b, err := in.owner.readPublished(in.cacheDir + "/" + cache + "/" + name)
		switch {
		case unknown(err):
			return err
		case err != nil:
			continue
		}
		if p, err := format.DecodePointer(b); err == nil && p.Root != in.root {
			return &HintedError{fmt.Errorf("%w, %s", errForeign, format.Show(p.Root)), "choose another cache_dir, or another name"}
		}
	}
	return nil
}

// Built says whether anything of a cache but its lock is in the cache_dir, or
// shipped by an image.
func (in *Install) Built(cache string) bool {
	names, _ := in.built()
	return slices.Contains(names, cache)
}

// built returns the names of the caches of which there is anything, sorted.
func (in *Install) built() ([]string, error) {
	var names []string
	var failed error
	for _, dir := range in.readDirs() {
		entries, err := listDir(dir)
		for _, e := range entries {
			if e.IsDir() && format.ValidCacheName(e.Name()) && !onlyLock(dir+"/"+e.Name()) {
				names = append(names, e.Name())
			}
		}
		if !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) { // it is told where it is in the way
			failed = errors.Join(failed, ignoreNotExist(err))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), failed
}

// onlyLock says whether a cache's directory is as gc leaves that of a cache
// which is no longer declared.
func onlyLock(dir string) bool {
	entries, err := listDir(dir)
	return err == nil && len(entries) == 1 && entries[0].Name() == format.Lock
}

// unmasked says whether readers of a cache look at what an image ships.
func (in *Install) unmasked(cache string) bool {
	return !decides(in.cacheDir+"/"+cache) && in.shipped(cache)
}

// decides says whether readers look no further than to a cache's directory.
func decides(dir string) bool {
	for _, name := range []string{format.Current, format.Stale} {
		if _, err := os.Lstat(dir + "/" + name); err == nil {
			return true
		}
	}
	return false
}

// shipped says whether an image ships a cache to where readers look second.
func (in *Install) shipped(cache string) bool {
	dirs := in.readDirs()
	if len(dirs) < 2 {
		return false
	}
	_, err := os.Lstat(dirs[1] + "/" + cache + "/" + format.Current)
	return err == nil
}
