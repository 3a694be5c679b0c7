package syscache

import (
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/internal/witness"
)

// A Reader reads one generation, which stays whole and unchanged for as long
// as the Reader is open, whatever refreshers do meanwhile (I1, I5).
//
// Its methods may be called by several goroutines at once, Close by one and
// last.
type Reader struct {
	root    string
	cache   string
	options ReadOptions

	pointerPath unix.Path
	seen        atomic.Pointer[sighting] // what Current compares with
	key         Key
	meta        [32]byte
	stale       error
	table       *table    // kind table
	dataPath    unix.Path // of the table or the files, once it is known
	dir         string    // kind files
}

// A Row is one row of a table. Key and Value are valid until the Reader is
// closed and must not be written to; of what Get says of a value, all is true
// of them.
type Row struct{ Key, Value []byte }

// errKind is the misuse of a Reader of the other kind.
var errKind = errors.New("this cache consists of files and has no rows")

// Get returns the value of a row key. It is valid until Close and must not be
// written to. The error is an *Error that wraps ErrNotFound or ErrCorrupt, or
// one of the operating system's; ErrNotFound is only said of an intact index.
//
// A table that is used much and lies on a local file system is mapped into
// memory, and the value is then a part of the mapping. No refresh cuts a
// published file (I5). If something else does, Get and Scan return ErrCorrupt
// from then on; but to look at a value that they returned before ends the
// program. Who must survive that keeps bytes.Clone of it.
func (r *Reader) Get(key []byte) (value []byte, err error) {
	if r.table == nil {
		return nil, r.fail("get", errKind, nil)
	}
	r.table.use(1)
	if value, err = r.table.get(key); err != nil {
		return nil, r.explain("get", err)
	}
	return value, nil
}

// Scan yields the rows whose key begins with prefix, all rows if it is empty,
// in the order of the keys' bytes. It ends after the first error. A Row stays
// valid when the next is yielded: see Row.
func (r *Reader) Scan(prefix []byte) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		if r.table == nil {
			yield(Row{}, r.fail("scan", errKind, nil))
			return
		}
		r.table.use(mapAfter + 1)
		s, err := r.table.scan(prefix)
		for err == nil {
			var row Row
			var more bool
			if row, more, err = s.next(); !more {
				break
			}
			if !yield(row, nil) {
				return
			}
		}
		if err != nil {
			yield(Row{}, r.explain("scan", err))
		}
	}
}

// Dir returns the directory of a files generation, or "" of a table. What is
// in it never changes, and stays after it is superseded for as long as the
// cache's configuration says, a day by default.
func (r *Reader) Dir() string { return r.dir }

// Len returns the number of rows of a table.
func (r *Reader) Len() int {
	if r.table == nil {
		return 0
	}
	return int(r.table.Rows)
}

// Generation returns the key of the generation that r reads.
func (r *Reader) Generation() Key { return r.key }

// Stale returns nil, or why the generation is only what AllowStale accepts.
func (r *Reader) Stale() error { return r.stale }

// Close releases r. Everything that Get and Scan returned is invalid after it.
func (r *Reader) Close() error {
	if r.table == nil {
		return nil
	}
	return r.table.close()
}

// fail returns the *Error for a sentinel and an optional reason.
func (r *Reader) fail(op string, sentinel, why error) error {
	e := &Error{Op: op, Root: r.root, Cache: r.cache, Err: sentinel}
	if why != nil {
		e.Detail = why.Error()
	}
	e.Hint = r.hint(sentinel)
	return e
}

// explain turns an error that wraps a sentinel, and begins with its text, into
// an *Error.
func (r *Reader) explain(op string, err error) error {
	for _, s := range []error{ErrNotFound, ErrMissing, ErrStale, ErrUntrusted, ErrTooNew, ErrCorrupt} {
		if errors.Is(err, s) {
			detail, _ := strings.CutPrefix(err.Error(), s.Error())
			detail = strings.TrimPrefix(detail, ": ")
			if s == ErrCorrupt && r.table != nil {
				detail += ": in " + r.dataPath.String()
			}
			e := &Error{Op: op, Root: r.root, Cache: r.cache, Detail: detail, Err: s, Hint: r.hint(s)}
			switch {
			case s == ErrStale && errors.Is(err, unix.EACCES):
				e.Hint = "what is named, and every directory above it, must be open to all users of the install: look at their modes"
			case errors.Is(err, witness.ErrUncertain):
				e.Hint = "look at the clock, touch what is named (in an image, have a file of the install as the witness); then " + e.Hint
			}
			return e
		}
	}
	path := r.dataPath.String()
	if path == "" {
		path = r.pointerPath.String()
	}
	if errors.Is(err, unix.ESTALE) { // another host removed it, and nobody here holds it
		return r.fail(op, ErrMissing, fmt.Errorf("%w: %s", err, path))
	}
	return &Error{Op: op, Root: r.root, Cache: r.cache, Detail: path, Err: err, Hint: r.hint(err)}
}

func (r *Reader) hint(sentinel error) string {
	refresh := "syscache --root " + format.ShellQuote(r.root)
	if len(r.options.CacheDirs) == 1 { // not the root's own two
		refresh += " --cache-dir " + format.ShellQuote(r.options.CacheDirs[0])
	}
	refresh += " refresh "
	switch sentinel {
	case ErrMissing, ErrStale:
		return "who may write the install can run: " + refresh + r.cache
	case ErrCorrupt:
		return "who may write the install can run: " + refresh + "--force " + r.cache
	case ErrUntrusted:
		return "make it belong to the owner of " + r.root + " and writable by nobody else, or remove " + filepath.Dir(r.pointerPath.String()) + " and refresh as that owner, or as root"
	case ErrTooNew:
		return "upgrade this program, or refresh with the version that it has"
	case unix.EACCES:
		return "the cache, and every directory above it, must be open to all users of the install: look at their modes"
	}
	return ""
}
