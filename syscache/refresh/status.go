package refresh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache"
)

// Status is what a reader finds of one cache, and what a refresher left.
type Status struct {
	Cache      string
	Err        error        // nil: fresh; else the *syscache.Error a reader gets
	Generation syscache.Key // zero if there is none
	Rows       int          // of a table
	Files      int          // of kind files, symbolic links too
	Bytes      uint64       // of all outputs
	Published  time.Time    // when the pointer was written; zero if there is none
	Witness    string       // what certifies it, in words
	Declared   bool         // by the configuration, be it with a mistake; by a program; or nobody here can say
	Failure    *Failure     // of the last refresh; nil also where we may not read it
}

// Status returns the status of a cache, from a reader's point of view: it
// does not scan the inputs. It needs no privilege and changes nothing. Of a
// cache that is not there, Err wraps syscache.ErrMissing.
func (in *Install) Status(cache string) Status {
	s := Status{Cache: cache}
	_, err := in.cache(cache)
	s.Declared = !errors.Is(err, ErrUndeclared) || in.unread()
	r, err := syscache.Open(in.root, cache, in.readOptions(false))
	s.Err = err
	if err != nil {
		// What is there all the same, for who accepts it.
		r, err = syscache.Open(in.root, cache, in.readOptions(true))
	}
	if err == nil {
		s.Generation, s.Rows = r.Generation(), r.Len()
		r.Close()
		in.measure(&s)
	}
	if format.ValidCacheName(cache) {
		state := (&refresher{Install: in, dir: in.cacheDir + "/" + cache}).readState()
		s.Failure = state.Failure
		s.Declared = s.Declared || state.Program
		s.Witness = in.describeWitness(cache)
	}
	return s
}

// measure sets what the generation's meta and the pointer's time tell.
func (in *Install) measure(s *Status) {
	dir, err := in.generationDir(s.Cache, s.Generation)
	if err != nil {
		return
	}
	g, err := in.owner.openGeneration(dir, s.Generation)
	if err != nil {
		return
	}
	for i := range g.meta.Outputs {
		out := &g.meta.Outputs[i]
		if s.Bytes += out.Size; g.meta.Kind == format.KindFiles && out.Type != format.OutputDir {
			s.Files++
		}
	}
	for _, d := range in.readDirs() {
		for _, name := range []string{format.Current, format.Stale} {
			if fi, err := os.Lstat(d + "/" + s.Cache + "/" + name); err == nil && s.Published.IsZero() {
				s.Published = fi.ModTime().UTC()
			}
		}
	}
}

// unread says whether there is a file of the configuration of which nothing is
// known, not even which caches it declares.
func (in *Install) unread() bool {
	return slices.ContainsFunc(in.sources, func(s Source) bool { return len(s.Mistakes) > 0 && len(s.caches) == 0 })
}

// Statuses returns the status of every cache that is declared or there.
func (in *Install) Statuses() ([]Status, error) {
	names, err := in.AllNames()
	all := make([]Status, len(names))
	for i, name := range names {
		all[i] = in.Status(name)
	}
	return all, err
}

// Known returns the names of the caches of the install at root that are
// declared, with mistakes or without, or there, sorted. It is for suggestions:
// what cannot be found out is left out.
func Known(root string, o *LoadOptions) []string {
	if o == nil {
		o = &LoadOptions{}
	}
	in := &Install{}
	if err := in.locate(root, o.CacheDir); err != nil {
		return nil
	}
	in.sources = in.readSources()
	names, _ := in.AllNames()
	if len(names) == 0 && in.root != "/" {
		names = []string{builtinCache}
	}
	return names
}

// AllNames returns the names of all caches that are declared, be it in a file
// with a mistake, or of which there is anything, sorted.
func (in *Install) AllNames() ([]string, error) {
	names, err := in.built()
	names = append(names, in.Names()...)
	for _, source := range in.sources {
		for i := range source.caches {
			if name := source.caches[i].Name; format.ValidCacheName(name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

func (in *Install) readOptions(stale bool) *syscache.ReadOptions {
	return &syscache.ReadOptions{AllowStale: stale, CacheDirs: in.readDirs()}
}

// readDirs returns the cache_dirs that readers look into: unless the caller
// named one, the one that an image ships too.
func (in *Install) readDirs() []string {
	if in.named {
		return []string{in.cacheDir}
	}
	return []string{in.cacheDir, format.Join(in.root, format.ImageCacheDir)}
}

// describeWitness says what the published pointer is certified by.
func (in *Install) describeWitness(cache string) string {
	var cur []byte
	for _, d := range in.readDirs() {
		for _, name := range []string{format.Current, format.Stale} {
			if b, err := in.owner.readPublished(d + "/" + cache + "/" + name); err == nil && cur == nil {
				cur = b
			}
		}
	}
	p, err := format.DecodePointer(cur)
	switch {
	case err != nil:
		return ""
	case p.HasStats:
		dirs, files := p.Stats.Counts()
		return counted(files, "file", "files") + " in " + counted(dirs, "directory", "directories")
	case len(p.Witnesses) == 0:
		return "none"
	case len(p.Witnesses) == 1:
		return p.Witnesses[0].Path
	}
	return fmt.Sprintf("%s and %d more", p.Witnesses[0].Path, len(p.Witnesses)-1)
}

func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// Verify reads the whole published generation of a cache and returns nil if
// every byte is as it was written, and every row is found. Whether it is fresh
// is not asked. The error is a *syscache.Error: it wraps syscache.ErrMissing,
// ErrCorrupt, ErrUntrusted, ErrTooNew, the error of ctx, or one of reading.
func (in *Install) Verify(ctx context.Context, cache string) error {
	fail := func(sentinel, err error, hint string) error {
		e := &syscache.Error{Op: "verify", Root: in.root, Cache: quoteName(cache), Err: sentinel, Hint: hint}
		if err != nil {
			e.Detail = strings.Replace(err.Error(), sentinel.Error()+": ", "", 1)
		}
		return e
	}
	r, err := syscache.Open(in.root, cache, in.readOptions(true))
	if err != nil {
		var e *syscache.Error
		if errors.As(err, &e) {
			e.Op = "verify"
		}
		return err
	}
	defer r.Close()
	key := r.Generation()
	dir, err := in.generationDir(cache, key)
	if err != nil {
		return fail(syscache.ErrMissing, err, "")
	}
	hint := "who may write the install can run: syscache --root " + format.ShellQuote(in.root) + " refresh --force " + cache
	g, err := in.owner.openGeneration(dir, key)
	if err == nil {
		err = in.matchesPointer(cache, g)
	}
	if err == nil {
		err = g.verify(ctx, key)
	}
	if err == nil && g.meta.Kind == format.KindTable {
		err = checkTable(r, dir+"/"+format.Table)
		if err == nil && g.meta.Rows != uint64(r.Len()) {
			err = fmt.Errorf("%w: another table than %s/%s tells of", format.ErrCorrupt, dir, format.Meta)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscache.ErrUntrusted):
		return fail(syscache.ErrUntrusted, err, hint)
	case errors.Is(err, syscache.ErrTooNew):
		return fail(syscache.ErrTooNew, err, "")
	case errors.Is(err, syscache.ErrCorrupt):
		return fail(syscache.ErrCorrupt, err, hint)
	}
	return fail(err, nil, "")
}

// generationDir returns where the generation of key is.
func (in *Install) generationDir(cache string, key syscache.Key) (string, error) {
	var err error
	for _, d := range in.readDirs() {
		dir := d + "/" + cache + "/" + format.Generation(key.String())
		if _, e := os.Lstat(dir); e == nil {
			return dir, nil
		} else if err == nil {
			err = e
		}
	}
	return "", err
}

// matchesPointer checks that g's meta is the one that the pointer names.
func (in *Install) matchesPointer(cache string, g *generation) error {
	for _, d := range in.readDirs() {
		for _, name := range []string{format.Current, format.Stale} {
			b, err := in.owner.readPublished(d + "/" + cache + "/" + name)
			if err != nil {
				continue
			}
			p, err := format.DecodePointer(b)
			if err == nil && p.Meta != g.digest {
				err = fmt.Errorf("%w: %s/%s is not the one that %s names", format.ErrCorrupt, g.dir, format.Meta, name)
			}
			return err
		}
	}
	return nil
}
