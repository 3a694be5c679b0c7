package syscache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/syscache/syscache/internal/environ"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// ReadOptions modify Open. The zero value is right for nearly all.
type ReadOptions struct {
	// CacheDirs are consulted in this order instead of the root's own: the
	// first that has the cache decides, the others only supply generations.
	// Nil: $SYSCACHE_CACHE_DIR if it is an absolute path and the process is
	// not set-uid, then <root>/var/cache/syscache and <root>/usr/lib/syscache.
	CacheDirs []string

	// AllowStale accepts data that the witnesses contradict or that was
	// marked stale; Reader.Stale then says why it is. Nothing else is let
	// pass.
	AllowStale bool

	// TrustUIDs are trusted to own the cache besides root, the owner of the
	// root, the caller and, in a root that its group may write, the group.
	// 65534, as which a user namespace shows all that it does not map, is not.
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
	if _, moved := errors.AsType[movedError](err); moved {
		// A refresher published, and collected the old generation, between
		// our reading the pointer and opening what it names. Or, where another
		// host did, while we read the pointer itself: ESTALE.
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
	t := r.trust()
	s, err := r.look(&t)
	if err == nil {
		err = r.openGeneration(s, &t)
	}
	if err == nil {
		r.seen.Store(s)
	}
	return err
}

// look finds the pointer that decides, and checks it and its witnesses.
func (r *Reader) look(t *trust) (*sighting, error) {
	r.stale, r.dataPath = nil, nil
	s := &sighting{at: time.Now()}
	for i, dir := range r.options.CacheDirs {
		s.place = i
		t.cacheDir, t.internal = dir, r.internal(dir)
		home, err := r.readPointer(s, t)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			s.passed = append(s.passed, home)
			continue
		}
		if err == nil {
			err = r.certify(s)
		}
		if err == unix.ESTALE {
			err = movedError{err}
		}
		return s, err
	}
	return nil, ErrMissing
}

// readPointer reads the pointer in the cache_dir of t, current or, where that is
// allowed, stale. A bare ENOENT means that the cache is not in this one; home
// is the cache's directory as it was before it was looked into.
func (r *Reader) readPointer(s *sighting, t *trust) (home sight, err error) {
	current := unix.NewPath(t.cacheDir, r.cache, format.Current)
	r.pointerPath = current
	if home, err = r.checkDir(s, t); err != nil {
		return home, err
	}
	b, err := r.readFile(s, t, current)
	// Neither there: a refresh may have made one and removed the other between
	// the two looks.
	for range 2 {
		if err == unix.ENOENT {
			b, err = r.readStale(s, t, current)
		}
		if err == unix.ENOENT {
			b, err = r.readFile(s, t, current)
		}
	}
	if err != nil {
		return home, err
	}
	p, err := format.DecodePointer(b)
	if err != nil {
		return home, decodeError(r.pointerPath, err)
	}
	if p.Cache != r.cache {
		return home, corrupt("%s is the pointer of cache %s", r.pointerPath, p.Cache)
	}
	s.decoded(r.root, b, p)
	return home, r.checkRoot(p, t)
}

// trust returns what decides whom to believe, in one attempt of Open.
func (r *Reader) trust() trust { return trust{root: r.root, uids: r.options.TrustUIDs} }

// checkDir checks the cache's directory.
func (r *Reader) checkDir(s *sighting, t *trust) (sight, error) {
	home := sight{path: unix.NewPath(t.cacheDir, r.cache)}
	var st unix.Stat_t
	if err := home.path.Lstat(&st); err != 0 {
		return home, err
	}
	if err := t.check(&st, unix.S_IFDIR, home.path); err != nil {
		return home, untrusted(err)
	}
	home.saw(&st, s.at)
	return home, nil
}

// readStale is what there is where there is no current pointer.
func (r *Reader) readStale(s *sighting, t *trust, current unix.Path) ([]byte, error) {
	marked := fmt.Errorf("%w: it was marked stale, and no refresh has finished since", ErrStale)
	path := unix.NewPath(t.cacheDir, r.cache, format.Stale)
	if !r.options.AllowStale {
		var st unix.Stat_t
		if err := path.Lstat(&st); err != 0 {
			return nil, err
		}
		return nil, marked
	}
	b, err := r.readFile(s, t, path)
	if err == nil {
		r.stale, r.pointerPath = marked, path
		s.marked = current
	}
	return b, err
}

// internal returns which of the two under the root cacheDir is, relative to
// it, or "". Only where the caller named it, and by another name, does that
// cost a system call.
func (r *Reader) internal(cacheDir string) string {
	own := []string{format.CacheDir, format.ImageCacheDir}
	for _, dir := range own {
		if format.Joined(cacheDir, r.root, dir) {
			return dir
		}
	}
	real, err := filepath.EvalSymlinks(cacheDir)
	for _, dir := range own {
		if err == nil {
			if d, err := filepath.EvalSymlinks(format.Join(r.root, dir)); err == nil && d == real {
				return dir
			}
		}
	}
	return ""
}

// checkRoot returns ErrMissing if p is the pointer of another root.
func (r *Reader) checkRoot(p *format.Pointer, t *trust) error {
	switch {
	case p.Root == "" && t.internal != "":
		return nil
	case p.Root == "":
		return fmt.Errorf("%w: %s names no root", ErrMissing, r.pointerPath)
	}
	// The same name is not the same root: it may be a symbolic link by now.
	real, err := realPath(r.root)
	if err != nil || real != p.Root {
		return fmt.Errorf("%w: %s is of the root %s", ErrMissing, r.pointerPath, p.Root)
	}
	return nil
}

// realPath returns the absolute path of path without symbolic links. Unlike
// filepath.Abs it does not take ".." for the parent before they are resolved.
func realPath(path string) (string, error) {
	if !filepath.IsAbs(path) {
		dir, err := os.Getwd()
		if err != nil {
			return "", err
		}
		path = dir + "/" + path
	}
	path, err := filepath.EvalSymlinks(path)
	return filepath.ToSlash(path), err
}

// certify checks the witnesses and the stat section of the pointer seen.
func (r *Reader) certify(s *sighting) error {
	err := s.contradiction(r.root)
	if errors.Is(err, ErrCorrupt) {
		return decodeError(r.pointerPath, err)
	}
	switch {
	case err == nil:
		return nil
	case !r.options.AllowStale:
		return staleBy(err)
	case r.stale == nil:
		r.stale = staleBy(err)
	}
	return nil
}

// openGeneration opens the generation that the pointer seen names: in the same
// cache_dir, or in another one.
func (r *Reader) openGeneration(s *sighting, t *trust) error {
	p := s.pointer
	r.key, r.meta = p.Key, p.Meta
	key := r.key.String()
	var passed error // why one that has it, perhaps, was not looked into
	for j := range r.options.CacheDirs {
		cacheDir := r.options.CacheDirs[(s.place+j)%len(r.options.CacheDirs)]
		if j > 0 {
			t.cacheDir, t.internal = cacheDir, r.internal(cacheDir)
			if _, err := r.checkDir(s, t); err != nil {
				if errors.Is(err, ErrUntrusted) {
					passed = err
				}
				continue
			}
		}
		var err error
		if p.Kind == format.KindFiles {
			err = r.openFiles(t, unix.NewPath(cacheDir, r.cache, format.Generations, key, format.Files))
		} else {
			err = r.openTable(t, unix.NewPath(cacheDir, r.cache, format.Generations, key, format.Table), p.TableSize)
		}
		if err != unix.ENOENT && err != unix.ENOTDIR && err != unix.ESTALE {
			return err
		}
	}
	if passed != nil {
		return passed
	}
	return movedError{fmt.Errorf("%w: %s, which %s names", ErrMissing, format.Generation(key), r.pointerPath)}
}

func (r *Reader) openFiles(t *trust, path unix.Path) error {
	r.dataPath = path
	var st unix.Stat_t
	if err := path.Lstat(&st); err != 0 {
		return err
	}
	if err := t.check(&st, unix.S_IFDIR, path); err != nil {
		return untrusted(err)
	}
	r.dir = path.String()
	return nil
}

func (r *Reader) openTable(t *trust, path unix.Path, size uint64) error {
	r.dataPath = path
	fd, st, err := openTrusted(t, path)
	if err != nil {
		return err
	}
	r.table = &table{source: source{fd: fd, size: uint64(st.Size)}}
	if err = r.readHeader(size); err != nil {
		r.table.close()
		r.table = nil
		return movedError{decodeError(path, err)}
	}
	return nil
}

func (r *Reader) readHeader(size uint64) error {
	if r.table.size != size {
		return corrupt("%d bytes, the pointer says %d", r.table.size, size)
	}
	var buf [format.TableHeaderSize]byte
	b, err := r.table.read(0, format.TableHeaderSize, buf[:])
	if err != nil {
		return err
	}
	r.table.TableHeader, err = format.DecodeTableHeader(b, r.table.size)
	if err == nil && r.table.Key != r.key {
		err = corrupt("it is of the generation %s", Key(r.table.Key).Short())
	}
	return err
}

// readFile returns the contents of a trusted pointer, the one seen.
func (r *Reader) readFile(seen *sighting, t *trust, path unix.Path) ([]byte, error) {
	fd, st, err := openTrusted(t, path)
	if err != nil {
		return nil, err
	}
	seen.file = sight{path: path}
	seen.file.saw(&st, seen.at)
	size := uint64(st.Size)
	s := source{fd: fd, size: size}
	defer s.close()
	if size > format.MaxPointer {
		return nil, corrupt("%s has %d bytes", path, size)
	}
	b, err := s.read(0, size, nil)
	if err != nil && errors.Is(err, ErrCorrupt) {
		err = decodeError(path, err)
	}
	return b, err
}

// openTrusted opens a regular file that t trusts.
func openTrusted(t *trust, path unix.Path) (fd int, st unix.Stat_t, err error) {
	fd, errno := path.Open(unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC)
	switch errno {
	case 0:
	case unix.ELOOP, unix.EMLINK, unix.ENXIO: // a symbolic link; a socket
		return -1, st, untrusted(fmt.Errorf("%s is not a regular file", path))
	default:
		return -1, st, errno
	}
	err = ignoringEINTR(func() error { return unix.Fstat(fd, &st) })
	if err == nil {
		if why := t.check(&st, unix.S_IFREG, path); why != nil {
			err = untrusted(why)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

func staleBy(err error) error { return fmt.Errorf("%w: %w", ErrStale, err) }

func untrusted(err error) error { return fmt.Errorf("%w: %w", ErrUntrusted, err) }

func corrupt(f string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(f, args...))
}

// decodeError adds the path to an error of reading or decoding.
func decodeError(path unix.Path, err error) error { return fmt.Errorf("%w: in %s", err, path) }
