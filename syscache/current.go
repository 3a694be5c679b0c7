package syscache

import (
	"bytes"
	"errors"
	"strings"
	"time"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/internal/witness"
)

// Current says whether Open with the same arguments would now return this
// generation, as fresh or as stale as it is. Where Open would return none it
// returns false and that *Error: missing, stale, corrupt, untrusted.
//
// It is made to be asked often. While nothing moves it costs one lstat of the
// pointer, the check of the witnesses (of a file, one lstat), and one lstat
// for each cache_dir that was looked into before in vain; with files as
// witnesses it opens nothing and allocates nothing. In the first two seconds
// after a publish, and once after anything moved, it costs what Open costs.
//
// It does not look again at the modes of the directories above the pointer,
// nor whether the generation, which r holds open, is still in its place.
func (r *Reader) Current() (bool, error) {
	s := r.seen.Load()
	if !s.unmoved() {
		return r.lookAgain(s)
	}
	if s.marked != nil {
		return true, nil
	}
	err := s.contradiction(r.root)
	if err != nil && !r.options.AllowStale {
		return false, r.explain("open", staleBy(err))
	}
	return (err == nil) == (r.stale == nil), nil
}

// lookAgain is Current after something moved, or might have. The generation is
// opened only if the pointer is another one.
func (r *Reader) lookAgain(was *sighting) (bool, error) {
	now := &Reader{root: r.root, cache: r.cache, options: r.options}
	t := now.trust()
	s, err := now.look(&t)
	_, moved := errors.AsType[movedError](err)
	if err != nil && !moved {
		return false, now.explain("open", err)
	}
	if moved || s.place != was.place || !bytes.Equal(s.bytes, was.bytes) {
		if now, err = Open(r.root, r.cache, &r.options); err != nil {
			return false, err
		}
		defer now.Close()
		s = now.seen.Load()
	}
	if s.pointer.Key != r.key || s.pointer.Meta != r.meta || (now.stale == nil) != (r.stale == nil) {
		return false, nil
	}
	r.seen.Store(s)
	return true, nil
}

// A sighting is what a look for the pointer found, and what tells that another
// look would find the same.
type sighting struct {
	at     time.Time // before the first stat
	passed []sight   // the cache's directory in the cache_dirs before the one that decided
	place  int       // of the cache_dir that decided
	file   sight     // the pointer
	marked unix.Path // of the pointer current that was not there, if file is stale

	bytes     []byte // of the pointer
	pointer   *format.Pointer
	witnesses []unix.Path // of its witnesses, as many
}

func (s *sighting) decoded(root string, b []byte, p *format.Pointer) {
	s.bytes, s.pointer = b, p
	root = strings.TrimSuffix(root, "/")
	s.witnesses = make([]unix.Path, len(p.Witnesses))
	for i := range p.Witnesses {
		s.witnesses[i] = unix.NewPath(root, p.Witnesses[i].Path)
	}
}

// unmoved says whether a look would find the same pointer. False may be wrong.
func (s *sighting) unmoved() bool {
	for i := range s.passed {
		if !s.passed[i].unmoved() {
			return false
		}
	}
	if s.marked != nil {
		var st unix.Stat_t
		if s.marked.Lstat(&st) != unix.ENOENT {
			return false
		}
	}
	return s.file.unmoved()
}

// contradiction returns nil, or what contradicts the pointer: a witness, or
// its stat section.
func (s *sighting) contradiction(root string) error {
	p := s.pointer
	for i := range p.Witnesses {
		w := &p.Witnesses[i]
		if holds(s.witnesses[i], w) {
			continue
		}
		if err := witness.Check(root, w); err != nil {
			if p.HasStats {
				// What is stale need not be looked at, but may be corrupt.
				if bad := p.Stats.Check(); bad != nil {
					return bad
				}
			}
			return err
		}
	}
	if p.HasStats {
		return witness.CheckStats(root, p.Stats)
	}
	return nil
}

// holds says whether one lstat shows that w holds. False may be wrong.
func holds(path unix.Path, w *format.Witness) bool {
	none := w.Identity == [format.IdentitySize]byte{}
	if none || w.Type == format.WitnessDir {
		return false
	}
	var st unix.Stat_t
	if path.Lstat(&st) != 0 {
		return false
	}
	want := uint32(unix.S_IFREG)
	if w.Type == format.WitnessSymlink {
		want = unix.S_IFLNK
	}
	return uint32(st.Mode)&unix.S_IFMT == want && format.IdentityOf(&st) == format.DecodeIdentity(w.Identity[:])
}

// A sight is what an lstat said of a path.
type sight struct {
	path  unix.Path
	dev   uint64
	id    format.Identity // zero: there was nothing
	young bool            // a file made after it may look the same
}

// settled is how old a change must be so that a later one has another time:
// longer than the coarsest granularity of a file system's clock, FAT's 2 s.
// Until then, an inode number that is used again makes two files look the same.
var settled = 2 * time.Second

func (s *sight) saw(st *unix.Stat_t, at time.Time) {
	s.dev, s.id = uint64(st.Dev), format.IdentityOf(st)
	s.young = s.id.Ctime > at.Add(-settled).UnixNano()
}

// unmoved says whether there is the same now. False may be wrong.
func (s *sight) unmoved() bool {
	var st unix.Stat_t
	err := s.path.Lstat(&st)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return s.id == format.Identity{}
	}
	return err == 0 && !s.young && uint64(st.Dev) == s.dev && format.IdentityOf(&st) == s.id
}
