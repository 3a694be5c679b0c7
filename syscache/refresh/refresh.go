package refresh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/lock"
	"github.com/syscache/syscache/syscache"
)

// Options modify Refresh. The zero value is useful.
type Options struct {
	// Force builds even where the key did not change, and so replaces what
	// Verify finds corrupt. What was built before stays if it is the same.
	Force bool
	// Wait is how long to wait for another refresher; zero: not at all,
	// negative: as long as the context allows.
	Wait time.Duration
	// Waiting, if not nil, is told once who holds the lock that is waited for.
	Waiting func(lock.Holder)
	// Progress, if not nil, shows how far the refresh is while it runs.
	Progress *Progress
}

// Outcome says what a refresh did.
type Outcome string

// The outcomes of a refresh.
const (
	Unchanged   Outcome = "unchanged"   // nothing was written
	Recertified Outcome = "recertified" // a generation that was there is certified anew
	Built       Outcome = "built"
)

// A Result is what a refresh did.
type Result struct {
	Cache   string
	Outcome Outcome
	Key     syscache.Key
	Rows    int // of a table
	Files   int // of the kind files
	Inputs  int // all that were found
	// BuiltInputs are those that the builder was given: all, or where each is
	// built for itself only those that are new or changed; none if it did not run.
	BuiltInputs int
	// Changes are the differences from the inputs and recipe that readers had
	// before; nil if what they had is not there any more, or not to be trusted.
	Changes  []hashing.Change
	Hashed   int    // inputs whose content was read
	Bytes    uint64 // of the generation's outputs
	Duration time.Duration
}

// attempts bounds how often a refresh begins again because something changed
// under it.
const attempts = 3

// Refresh brings a cache up to date: when it returns without an error, the
// published generation is that of the inputs as they were at some moment
// during the call, and durable. On an error the state is the old one or, where
// the inputs changed, the old one marked stale; which one Status tells. Of the
// Result only Cache and Duration are then set.
//
// The error wraps ErrUndeclared, ErrNotOwner, a *BuildError, a *lock.HeldError
// where another refresher held the lock for longer than o.Wait, context.Canceled
// where ctx was cancelled, a *HintedError for what a person can mend, or is the
// operating system's. What the cache itself is to blame for is kept for Status
// until the next refresh that succeeds.
func (in *Install) Refresh(ctx context.Context, cache string, o *Options) (Result, error) {
	if o == nil {
		o = &Options{}
	}
	start := time.Now()
	c, err := in.cache(cache)
	if err != nil {
		return Result{Cache: cache}, err
	}
	if err := errors.Join(in.checkSelf(), in.checkRoot()); err != nil {
		return Result{Cache: cache}, err
	}
	r := &refresher{Install: in, c: c, dir: in.cacheDir + "/" + c.Name, force: o.Force, progress: o.Progress, told: map[string]bool{}}
	r.progress.enter(Starting)
	if err := r.prepare(); err != nil {
		return Result{Cache: cache}, err
	}
	result, err := r.locked(ctx, o)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		err = &interruptedError{cache}
	}
	result.Cache, result.Duration = cache, time.Since(start)
	return result, err
}

// locked runs the refresh under the lock.
func (r *refresher) locked(ctx context.Context, o *Options) (Result, error) {
	l, err := lock.Acquire(ctx, r.dir+"/"+format.Lock, &lock.Options{
		Mode: r.owner.lockMode(), Wait: o.Wait, Warn: r.warn,
		Waiting: func(h lock.Holder) {
			r.progress.enter(Waiting)
			if o.Waiting != nil {
				o.Waiting(h)
			}
		},
	})
	if err != nil {
		return Result{}, r.lockError(ctx, err)
	}
	defer l.Release()
	return r.run(ctx)
}

// lockError adds what to do about a lock that could not even be waited for.
func (in *Install) lockError(ctx context.Context, err error) error {
	var held *lock.HeldError
	switch denied := errors.Is(err, fs.ErrPermission); {
	case denied && in.owner.shared && !memberOf(in.owner.gid):
		return &HintedError{err, fmt.Sprintf("join group %d, which manages the install: a member made that file", in.owner.gid)}
	case errors.As(err, &held) || ctx.Err() != nil || errors.As(err, new(syscall.Errno)):
		return err // the operating system's own reason: a read-only root, no space
	}
	return &HintedError{err, "the lock is an empty regular file that refreshers make: remove what else is there"}
}

// An interruptedError is that of a refresh whose context was cancelled,
// whatever it was doing then. The builder's last words do not matter: we ended
// it.
type interruptedError struct{ cache string }

func (e *interruptedError) Error() string { return "refresh " + e.cache + ": interrupted" }

func (e *interruptedError) Unwrap() error { return context.Canceled }

// A refresher refreshes one cache, once.
type refresher struct {
	*Install
	c     *Cache
	dir   string // the cache's directory
	force bool

	progress *Progress // nil: nobody looks

	token *token
	state state
	told  map[string]bool    // warnings: a refresh looks at everything twice
	known *hashing.Inventory // nil until it is read
	saved []byte             // what of it is on disk
	given int                // inputs that the builder was given
	seen  *seen              // to be saved; nil: nothing that may be

	durable bool // the pointer that stays is, by what an earlier refresh saw
}

// errOvertaken says that something changed under an attempt: an input, or the
// published state.
var errOvertaken = errors.New("overtaken")

// A HintedError is an error with what to do about it.
type HintedError struct {
	Err  error
	Hint string
}

// Error returns one line without the hint.
func (e *HintedError) Error() string { return e.Err.Error() }

// Unwrap returns e.Err.
func (e *HintedError) Unwrap() error { return e.Err }

func overtaken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errOvertaken, fmt.Sprintf(format, args...))
}

func (r *refresher) run(ctx context.Context) (Result, error) {
	r.state = r.readState()
	if err := errors.Join(r.sweep(), r.heal()); err != nil {
		return Result{}, err
	}
	var err error
	for range attempts {
		var result Result
		var g *generation
		result, g, err = r.attempt(ctx)
		err = r.byAnother(err)
		r.dropToken()
		if err == nil {
			if err = r.tidy(g); err == nil {
				r.saveSeen()
			}
			return result, err
		}
		r.sweep() // what the attempt left; it is the attempt's error that counts
		if !errors.Is(err, errOvertaken) || ctx.Err() != nil {
			break
		}
	}
	if errors.Is(err, errOvertaken) {
		hint := busyHint
		if hinted := (*HintedError)(nil); errors.As(err, &hinted) {
			hint = hinted.Hint
		}
		err = &HintedError{fmt.Errorf("%s: %d attempts were %w", r.c.Name, attempts, err), hint}
	}
	if ctx.Err() == nil { // else it was not the cache that failed
		r.recordFailure(err)
	}
	return Result{}, err
}

// byAnother tells an error of missing what this refresh itself has made: only
// another refresher, which no lock stopped (I8), can have removed it.
func (r *refresher) byAnother(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	gone := ""
	switch {
	case !errors.Is(err, fs.ErrNotExist) || errors.Is(err, errOvertaken):
	case errors.As(err, &path):
		gone = path.Path
	case errors.As(err, &link):
		gone = link.Old
	}
	if !strings.HasPrefix(gone, r.dir+"/") {
		return err
	}
	return overtaken("another refresher, which no lock stopped, removed %s", gone)
}

// attempt is one refresh from scan to publish, of the generation that it
// returns. An error that wraps errOvertaken means: begin again.
func (r *refresher) attempt(ctx context.Context) (Result, *generation, error) {
	before, err := r.readCurrent()
	if err != nil {
		return Result{}, nil, err
	}
	// As long as the pointer that we found is still in its place, nobody has
	// invalidated or published: it serves as our token, and a refresh that
	// changes nothing writes nothing. Without one, our own has to be there
	// before we look at the first input.
	if before == nil {
		if err := r.takeToken(); err != nil {
			return Result{}, nil, err
		}
	}
	if g, inputs := r.recognized(before); g != nil {
		if !r.stillCurrent(before) {
			return Result{}, nil, overtaken("it was invalidated meanwhile")
		}
		r.durable = true
		return Result{Outcome: Unchanged, Inputs: inputs, Changes: []hashing.Change{}}.of(g), g, nil
	}
	s, err := r.observe(ctx)
	if err != nil {
		return Result{}, nil, err
	}
	r.saveInventory()
	if !r.force {
		if g := r.unchanged(before, s); g != nil {
			if !r.stillCurrent(before) {
				return Result{}, nil, overtaken("it was invalidated meanwhile")
			}
			r.remember(before.bytes, s)
			return result(Unchanged, s, g, []hashing.Change{}), g, nil
		}
	}
	if before != nil {
		if err := r.takeToken(); err != nil {
			return Result{}, nil, err
		}
		if !r.stillCurrent(before) {
			return Result{}, nil, overtaken("it was invalidated meanwhile")
		}
	}
	outcome := Recertified
	g := r.existing(ctx, s.key)
	if g == nil || r.force {
		if g, s, err = r.rebuild(ctx, s, g, before); err != nil {
			return Result{}, nil, err
		}
		outcome = Built
	}
	changes := r.changes(before, s)
	r.progress.enter(Publishing)
	if err := r.syncWay(g); err != nil {
		return Result{}, nil, err
	}
	b, err := r.publish(r.pointer(s, g))
	if err != nil {
		if g.installed && errors.Is(err, errOvertaken) {
			// Whoever invalidated meant this build, and it must not be found
			// and believed by the next refresh.
			err = errors.Join(err, r.discard(r.dir+"/"+format.Generation(s.key.String())))
		}
		return Result{}, nil, err
	}
	r.warnUncertified(s)
	r.remember(b, s)
	res := result(outcome, s, g, changes)
	if outcome == Built {
		res.BuiltInputs = r.given
	}
	return res, g, nil
}

// rebuild builds the generation of s, and returns it with a snapshot that was
// taken after it was built. old is the intact generation of the same key, if
// there is one.
func (r *refresher) rebuild(ctx context.Context, s *snapshot, old *generation, before *published) (*generation, *snapshot, error) {
	if old == nil {
		// From here on what readers have is known to be old.
		if err := r.markStale(before); err != nil {
			return nil, nil, err
		}
	}
	staged, err := r.build(ctx, s, r.findBase(ctx, s, before))
	if err != nil {
		return nil, nil, err
	}
	// Also where the builder reads no file: a scan takes its time, and only what
	// has not moved since its end was ever there at one moment.
	after := s
	if !r.unmoved(s) {
		if after, err = r.observe(ctx); err != nil {
			return nil, nil, err
		}
		if changed := s.changed(after); changed != "" {
			return nil, nil, &HintedError{overtaken("%s changed while the cache was built", changed), builtHint}
		}
		after.hashed = max(after.hashed, s.hashed)
	}
	g, err := r.keep(staged, old, before)
	return g, after, err
}

// published is a pointer as it is on disk.
type published struct {
	bytes   []byte
	pointer *format.Pointer
	id      format.Identity
}

// readCurrent returns the present pointer, nil if there is none. One that is of
// no use has no pointer.
func (r *refresher) readCurrent() (*published, error) {
	path := r.dir + "/" + format.Current
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == unix.ENOENT {
		return nil, nil
	} else if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	cur := &published{id: format.IdentityOf(&st)}
	if uint32(st.Mode)&0o7777 != publicMode {
		return cur, nil
	}
	if b, err := r.owner.readPublished(path); err == nil {
		cur.bytes = b
		cur.pointer, _ = format.DecodePointer(b)
	}
	return cur, nil
}

// stillCurrent says whether the pointer is still the one that was read.
func (r *refresher) stillCurrent(before *published) bool {
	var st unix.Stat_t
	err := unix.Lstat(r.dir+"/"+format.Current, &st)
	return err == nil && format.IdentityOf(&st) == before.id
}

// unchanged returns the published generation if the present pointer is, byte for
// byte, the one that would be published now, and the generation is there.
func (r *refresher) unchanged(before *published, s *snapshot) *generation {
	if before == nil || before.pointer == nil || before.pointer.Key != s.key {
		return nil
	}
	g := r.present(s.key)
	if g == nil {
		return nil
	}
	if b, err := r.pointer(s, g).Encode(); err != nil || !bytes.Equal(b, before.bytes) {
		return nil
	}
	return g
}

// pointer returns the pointer that certifies g with s.
func (r *refresher) pointer(s *snapshot, g *generation) *format.Pointer {
	p := &format.Pointer{
		Kind:      r.c.kind(),
		Cache:     r.c.Name,
		Key:       s.key,
		Meta:      g.digest,
		Witnesses: s.witnesses,
		HasStats:  r.c.Witness == nil,
	}
	if p.HasStats {
		p.Stats = s.stats
	}
	if !r.internal {
		p.Root = r.root
	}
	if p.Kind == format.KindTable {
		p.TableSize = g.meta.Output(format.Table).Size
	}
	return p
}

// changes returns what changed from the manifest of the generation that
// readers had: that of before or, if it was marked stale, of the mark. It
// returns nil if there is none to be trusted.
func (r *refresher) changes(before *published, s *snapshot) []hashing.Change {
	p := r.had(before)
	if p == nil {
		return nil
	}
	old, err := r.manifest(r.c.Name, p.Key)
	if err != nil {
		return nil
	}
	return append([]hashing.Change{}, hashing.Diff(old, s.manifest)...)
}

// had returns the pointer that readers had: before or, if it was marked stale,
// the mark; nil if there is none to be trusted.
func (r *refresher) had(before *published) *format.Pointer {
	if before != nil {
		return before.pointer
	}
	b, err := r.owner.readPublished(r.dir + "/" + format.Stale)
	if err != nil {
		return nil
	}
	p, _ := format.DecodePointer(b)
	return p
}

func result(o Outcome, s *snapshot, g *generation, changes []hashing.Change) Result {
	return Result{Outcome: o, Inputs: len(s.manifest.Inputs), Changes: changes, Hashed: s.hashed}.of(g)
}

// of returns r with what it says of a generation.
func (r Result) of(g *generation) Result {
	r.Key, r.Rows = g.meta.Key, int(g.meta.Rows)
	for _, out := range g.meta.Outputs {
		r.Bytes += out.Size
		if g.meta.Kind == format.KindFiles && out.Type != format.OutputDir {
			r.Files++
		}
	}
	return r
}
