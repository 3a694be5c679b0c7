package syscache

import (
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/syscache/syscache/internal/unix"
)

// mapAfter is the number of look-ups answered with pread before the file is
// mapped: a mapping's first faults cost more than a few reads do, and less
// than many.
const mapAfter = 16

// source is a published file that is open for reading: first with pread,
// after some use mapped, unless a mapping could be cut under us.
type source struct {
	fd    int
	size  uint64
	uses  atomic.Int32
	once  sync.Once
	bytes atomic.Pointer[[]byte] // the mapping, once there is one
}

// mapped returns the mapping, or nil while there is none.
func (s *source) mapped() []byte {
	if b := s.bytes.Load(); b != nil {
		return *b
	}
	return nil
}

// use counts n uses and maps the file when it is worth it.
func (s *source) use(n int32) {
	if s.bytes.Load() == nil && s.uses.Load() >= 0 && s.uses.Add(n) > mapAfter {
		s.once.Do(s.mmap)
	}
}

func (s *source) mmap() {
	s.uses.Store(-1 << 31) // no more counting, whatever comes of it
	if s.size == 0 || s.size != uint64(int(s.size)) || !mappable(s.fd) {
		return
	}
	b, err := unix.Mmap(s.fd, 0, int(s.size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return // pread serves as well
	}
	s.bytes.Store(&b)
}

// read returns n bytes at off, or what there is of them: less only at the end
// of the file. They are part of the mapping or, while there is none, in buf, or
// in a new one if that is too small.
func (s *source) read(off, n uint64, buf []byte) ([]byte, error) {
	if off >= s.size {
		return nil, nil
	}
	n = min(n, s.size-off)
	if b := s.mapped(); b != nil {
		return b[off : off+n : off+n], nil
	}
	if uint64(len(buf)) < n {
		buf = make([]byte, n)
	}
	return buf[:n:n], s.pread(buf[:n], off)
}

func (s *source) pread(b []byte, off uint64) error {
	for len(b) > 0 {
		n, err := unix.Pread(s.fd, b, int64(off))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return errCut
		}
		b, off = b[n:], off+uint64(n)
	}
	return nil
}

func (s *source) close() error {
	var err error
	if b := s.bytes.Swap(nil); b != nil {
		err = unix.Munmap(*b)
	}
	if s.fd >= 0 {
		err = errors.Join(err, unix.Close(s.fd))
		s.fd = -1
	}
	return err
}

// guard is to be deferred, with debug.SetPanicOnFault(true), by what reads a
// source. It makes a fault in a mapping (a file cut by something that does not
// keep I5, a disk that fails) the error instead of the program's death. While a
// source is not mapped, another goroutine may map it at any instant.
func guard(was bool, err *error) {
	debug.SetPanicOnFault(was)
	if p := recover(); p != nil {
		if _, fault := p.(interface{ Addr() uintptr }); !fault {
			panic(p)
		}
		*err = errCut
	}
}

// errCut is not made by corrupt: at the start of every program that imports us
// fmt would cost more than all else of ours.
var errCut error = cutError{}

type cutError struct{}

func (cutError) Error() string { return "corrupt: the file became shorter while it was open" }

func (cutError) Unwrap() error { return ErrCorrupt }
