package syscache

import (
	"errors"

	"github.com/syscache/syscache/internal/format"
)

// Why a cache cannot be used. Test with errors.Is; the caller then derives
// the data for itself.
var (
	ErrMissing   = errors.New("missing")           // never built here; no cause for a warning
	ErrStale     = errors.New("stale")             // the install changed since
	ErrCorrupt   = format.ErrCorrupt               // its bytes are not what was written
	ErrUntrusted = errors.New("untrusted")         // somebody else could have written it
	ErrTooNew    = format.ErrTooNew                // written in a later format version
	ErrNotFound  = errors.New("row key not found") // the cache is good and has no such row
)

// An Error says why a cache cannot be used and what to do about it.
type Error struct {
	Op     string // "open", "get", "scan"
	Root   string
	Cache  string
	Detail string // the check that decided it
	Hint   string // what to do; may be empty
	Err    error  // one of the sentinels above, or an operating system's error
}

// Error returns one line without the hint.
func (e *Error) Error() string {
	s := e.Op + " " + e.Cache + ": " + e.Err.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }
