package syscache

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/internal/environ"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/witness"
)

// ReadOptions modify Open. The zero value is right for nearly all.
type ReadOptions struct {
	// CacheDirs are consulted in this order instead of the root's own: the
	// first that has the cache decides, the others only supply generations.
	// Nil: $SYSCACHE_CACHE_DIR if it is set and the process is not set-uid,
	// then <root>/var/cache/syscache and <root>/usr/lib/syscache.
	CacheDirs []string

	// AllowStale accepts data that the witnesses contradict or that was
	// marked stale; Reader.Stale then says why it is. Nothing else is let
	// pass.
	AllowStale bool

	// TrustUIDs are trusted to own the cache besides root, the owner of the
	// root, and the caller.
	TrustUIDs []int
}

// Open returns a Reader of the fresh, trusted generation of a cache of the
// install at root, or an *Error that says why there is none.
//
// It writes nothing, takes no lock and needs no privilege. What it costs is
// a dozen system calls and the check of the cache's witnesses.
func Open(root, cache string, o *ReadOptions) (*Reader, error) {
	if o == nil {
		o = &ReadOptions{}
	}
	r := &Reader{root: root, cache: cache, options: *o}
	if !format.ValidCacheName(cache) {
		return nil, &Error{
			Op: "open", Root: root, Cache: cache, Err: ErrMissing,
			Detail: fmt.Sprintf("%q cannot be the name of a cache", cache),
			Hint:   "syscache --root " + format.ShellQuote(root) + " status lists those there are",
		}
	}
	if len(o.CacheDirs) == 0 {
		r.options.CacheDirs = defaultCacheDirs(root)
	}
	err := r.open()
	if errors.As(err, new(movedError)) {
		// A refresher published, and collected the old generation, between
		// our reading the pointer and opening what it names.
		err = r.open()
	}
	if err != nil {
		return nil, r.explain("open", err)
	}
	return r, nil
}

// A movedError is one after which Open tries once more.
type movedError struct{ error }

func (e movedError) Unwrap() error { return e.error }

func defaultCacheDirs(root string) []string {
	if dir := environ.Get("SYSCACHE_CACHE_DIR"); filepath.IsAbs(dir) {
		return []string{dir}
	}
	return []string{format.Join(root, format.CacheDir), format.Join(root, format.ImageCacheDir)}
}

// open is one attempt of Open.
func (r *Reader) open() error {
	r.stale = nil
	for i, dir := range r.options.CacheDirs {
		p, err := r.readPointer(dir)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			continue
		}
		if err == nil {
			err = r.certify(p)
		}
		if err == nil {
			err = r.openGeneration(p, i)
		}
		return err
	}
	return ErrMissing
}

// readPointer reads the pointer in a cache_dir, current or, where that is
// allowed, stale. A bare ENOENT means that the cache is not in this one.
func (r *Reader) readPointer(cacheDir string) (*format.Pointer, error) {
	t := &trust{root: r.root, uids: r.options.TrustUIDs, internal: r.internal(cacheDir)}
	dir := cacheDir + "/" + r.cache
	r.pointerPath = dir + "/" + format.Current
	if err := r.checkDir(t, cacheDir); err != nil {
		return nil, err
	}
	b, err := r.readFile(t, r.pointerPath)
	// Neither there: a refresh may have made one and removed the other between
	// the two looks.
	for range 2 {
		if err == unix.ENOENT {
			b, err = r.readStale(t, dir)
		}
		if err == unix.ENOENT {
			b, err = r.readFile(t, r.pointerPath)
		}
	}
	if err != nil {
		return nil, err
	}
	p, err := format.DecodePointer(b)
	if err != nil {
		return nil, decodeError(r.pointerPath, err)
	}
	if p.Cache != r.cache {
		return nil, corrupt("%s is the pointer of cache %s", r.pointerPath, p.Cache)
	}
	return p, r.checkRoot(p, t)
}

// checkDir checks the cache's directory in cacheDir.
func (r *Reader) checkDir(t *trust, cacheDir string) error {
	dir := cacheDir + "/" + r.cache
	var st unix.Stat_t
	if err := lstat(dir, &st); err != nil {
		return err
	}
	if err := t.check(&st, unix.S_IFDIR, dir); err != nil {
		return untrusted(err)
	}
	return nil
}

// readStale is what there is where there is no current pointer.
func (r *Reader) readStale(t *trust, dir string) ([]byte, error) {
	marked := fmt.Errorf("%w: it was marked stale, and no refresh has finished since", ErrStale)
	path := dir + "/" + format.Stale
	if !r.options.AllowStale {
		var st unix.Stat_t
		if err := lstat(path, &st); err != nil {
			return nil, err
		}
		return nil, marked
	}
	b, err := r.readFile(t, path)
	if err == nil {
		r.stale, r.pointerPath = marked, path
	}
	return b, err
}

// internal says whether cacheDir is one of the two under the root. Only where
// the caller named it, and by another name, does that cost a system call.
func (r *Reader) internal(cacheDir string) bool {
	own := []string{format.Join(r.root, format.CacheDir), format.Join(r.root, format.ImageCacheDir)}
	if slices.Contains(own, cacheDir) {
		return true
	}
	real, err := filepath.EvalSymlinks(cacheDir)
	return err == nil && slices.ContainsFunc(own, func(dir string) bool {
		dir, err := filepath.EvalSymlinks(dir)
		return err == nil && dir == real
	})
}

// checkRoot returns ErrMissing if p is the pointer of another root.
func (r *Reader) checkRoot(p *format.Pointer, t *trust) error {
	switch {
	case p.Root == "" && t.internal, p.Root != "" && p.Root == r.root:
		return nil
	case p.Root == "":
		return fmt.Errorf("%w: %s names no root", ErrMissing, r.pointerPath)
	}
	real, err := filepath.EvalSymlinks(r.root)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil || real != p.Root {
		return fmt.Errorf("%w: %s is of the root %s", ErrMissing, r.pointerPath, p.Root)
	}
	return nil
}

// certify checks p's witnesses and its stat section.
func (r *Reader) certify(p *format.Pointer) error {
	var err error
	for i := range p.Witnesses {
		if err = witness.Check(r.root, &p.Witnesses[i]); err != nil {
			break
		}
	}
	if p.HasStats && err == nil {
		err = witness.CheckStats(r.root, p.Stats)
	} else if p.HasStats {
		// What is stale already need not be looked at, but may be corrupt.
		if bad := p.Stats.Check(); bad != nil {
			err = bad
		}
	}
	if errors.Is(err, ErrCorrupt) {
		return decodeError(r.pointerPath, err)
	}
	r.pointer = p
	switch {
	case err == nil:
		return nil
	case !r.options.AllowStale:
		return fmt.Errorf("%w: %w", ErrStale, err)
	case r.stale == nil:
		r.stale = fmt.Errorf("%w: %w", ErrStale, err)
	}
	return nil
}

// openGeneration opens the generation that p, found in the i-th cache_dir,
// names: there, or in another one.
func (r *Reader) openGeneration(p *format.Pointer, i int) error {
	r.key = p.Key
	name := format.Generation(r.key.String())
	for j := range r.options.CacheDirs {
		dir := r.options.CacheDirs[(i+j)%len(r.options.CacheDirs)]
		t := &trust{root: r.root, uids: r.options.TrustUIDs, internal: r.internal(dir)}
		if j > 0 {
			if err := r.checkDir(t, dir); err != nil {
				continue // no generation of this cache here that can be trusted
			}
		}
		path := dir + "/" + r.cache + "/" + name
		var err error
		if p.Kind == format.KindFiles {
			err = r.openFiles(t, path+"/"+format.Files)
		} else {
			err = r.openTable(t, path+"/"+format.Table)
		}
		if err != unix.ENOENT && err != unix.ENOTDIR && err != unix.ESTALE {
			return err
		}
	}
	return movedError{fmt.Errorf("%w: %s, which %s names", ErrMissing, name, r.pointerPath)}
}

func (r *Reader) openFiles(t *trust, path string) error {
	var st unix.Stat_t
	if err := lstat(path, &st); err != nil {
		return err
	}
	if err := t.check(&st, unix.S_IFDIR, path); err != nil {
		return untrusted(err)
	}
	r.dir = path
	return nil
}

func (r *Reader) openTable(t *trust, path string) error {
	fd, size, err := openTrusted(t, path)
	if err != nil {
		return err
	}
	r.table = &table{source: source{fd: fd, size: size}}
	r.dataPath = path
	if err = r.readHeader(); err != nil {
		r.table.close()
		r.table = nil
		return movedError{decodeError(path, err)}
	}
	return nil
}

func (r *Reader) readHeader() error {
	if r.table.size != r.pointer.TableSize {
		return corrupt("%d bytes, the pointer says %d", r.table.size, r.pointer.TableSize)
	}
	b, err := r.table.read(0, format.TableHeaderSize)
	if err != nil {
		return err
	}
	r.table.TableHeader, err = format.DecodeTableHeader(b, r.table.size)
	if err == nil && r.table.Key != r.key {
		err = corrupt("it is of the generation %s", Key(r.table.Key).Short())
	}
	return err
}

// readFile returns the contents of a trusted pointer.
func (r *Reader) readFile(t *trust, path string) ([]byte, error) {
	fd, size, err := openTrusted(t, path)
	if err != nil {
		return nil, err
	}
	s := source{fd: fd, size: size}
	defer s.close()
	if size > format.MaxPointer {
		return nil, corrupt("%s has %d bytes", path, size)
	}
	b, err := s.read(0, size)
	if err != nil && errors.Is(err, ErrCorrupt) {
		err = decodeError(path, err)
	}
	return b, err
}

// openTrusted opens a regular file that t trusts and returns its length.
func openTrusted(t *trust, path string) (fd int, size uint64, err error) {
	err = ignoringEINTR(func() error {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err
	})
	switch err {
	case nil:
	case unix.ELOOP, unix.EMLINK, unix.ENXIO: // a symbolic link; a socket
		return -1, 0, untrusted(fmt.Errorf("%s is not a regular file", path))
	default:
		return -1, 0, err
	}
	var st unix.Stat_t
	err = ignoringEINTR(func() error { return unix.Fstat(fd, &st) })
	if err == nil {
		if why := t.check(&st, unix.S_IFREG, path); why != nil {
			err = untrusted(why)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	return fd, uint64(st.Size), nil
}

func lstat(path string, st *unix.Stat_t) error {
	return ignoringEINTR(func() error {
		return unix.Fstatat(unix.AT_FDCWD, path, st, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func untrusted(err error) error { return fmt.Errorf("%w: %w", ErrUntrusted, err) }

func corrupt(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(f, args...))
}

// decodeError adds the path to an error of reading or decoding.
func decodeError(path string, err error) error { return fmt.Errorf("%w: in %s", err, path) }
