// Package lock is the advisory, exclusive lock of one cache: a file, by name
// "lock" in the cache's directory, that only one refresher at a time holds.
//
// The lock only saves duplicate work (invariant I8). Nothing that a reader
// relies on depends on it: two refreshers that both believe they hold it waste
// time and lose no data. Readers never take it (I3).
//
// # Promised
//
//   - Where [Lock.Exclusive] is true, no other process of this host, and no
//     other call of [Acquire] in this one, holds the lock on the file that path
//     names at the moment Acquire returns.
//   - The kernel drops the lock with its holder, however that dies. A child of
//     the holder does not inherit it.
//   - A waiter sleeps in the kernel, which wakes it when the lock is released.
//     No one polls.
//   - The file stays empty, and its inode and times stay as they are: locking,
//     waiting and releasing write nothing. It is never unlinked (an unlinked
//     lock file lets two holders in) and never truncated. Only a mode that is
//     not the wanted one is put right, once.
//
// # Not promised
//
//   - Exclusion between hosts. An NFS mount with local_lock=all or
//     local_lock=flock, and some cluster file systems, lock for one host each
//     and say nothing of it. A file system without locks does say so: Acquire
//     then warns and goes on without.
//   - Exclusion after somebody who may write the directory replaced the lock
//     file. Acquire looks once more at the path after it got the lock; what
//     happens to the path later is not seen.
//   - Fairness: who asks at the right instant can overtake who waits.
//   - Protection from those who may open the file. On Linux even a read-only
//     descriptor can take the lock and keep all refreshers out, so the file's
//     mode is 0600 (0660 where a group shares the root). A hard link to the file elsewhere
//     opens it to nobody else, since the mode is the inode's, and is allowed:
//     trees copied with cp -al share a lock, which costs a wait at worst.
//   - Any of this on systems whose locks belong to a process (AIX, Solaris).
package lock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// Options say how to acquire. The zero value, and nil, mean: a lock file of
// mode 0600, do not wait, tell nobody.
type Options struct {
	// Mode is the exact mode of the lock file, whatever the umask: 0 means
	// 0600; 0660 is for a root that its group may write. The file's group is
	// the one that its directory gives it.
	Mode fs.FileMode

	// Wait bounds the wait for another holder: 0 means do not wait, a negative
	// value wait for as long as the context allows.
	Wait time.Duration

	// Waiting, if not nil, is called at most once, before the first wait, with
	// whoever holds the lock then.
	Waiting func(Holder)

	// Warn, if not nil, is called with a message where locking does nothing,
	// at most once per process.
	Warn func(string)
}

// A Lock is held from [Acquire] to [Lock.Release]. It must be kept until then:
// an unreachable Lock is released whenever the garbage collector finds it.
type Lock struct {
	path string
	held *flock.Flock // nil if the file system has no locks
}

// Exclusive reports whether the lock keeps others out. It is false where the
// file system has no locks: the caller then goes on without (I8).
func (l *Lock) Exclusive() bool { return l.held != nil }

// Release gives the lock up. Calling it again, or from several goroutines, is
// harmless.
func (l *Lock) Release() error {
	if l.held == nil {
		return nil
	}
	if err := l.held.Unlock(); err != nil {
		return fmt.Errorf("unlock %s: %w", l.path, err)
	}
	return nil
}

// HeldError is returned by [Acquire] when the lock was not free within
// [Options.Wait].
type HeldError struct {
	Path   string
	Holder Holder // at the end of the wait
	Waited time.Duration
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("lock %s: held by %v", e.Path, e.Holder)
}

// Acquire takes the exclusive lock on the file at path, and creates the file,
// empty, if it is absent; its directory must exist. Anything else than a
// regular file at path is an error, a symbolic link too.
//
// If the lock is held for longer than o.Wait, the error is a [*HeldError]. If
// ctx ends first, the error wraps ctx.Err().
//
// The kernel cannot be told to forget a waiter. One that gave up leaves a
// thread and a descriptor behind until its turn comes, and then releases at
// once (for microseconds the lock is then held by a process that has no use
// for it). So wait once and long rather than often and briefly.
func Acquire(ctx context.Context, path string, o *Options) (*Lock, error) {
	a := acquisition{path: path, start: time.Now()}
	if o != nil {
		a.Options = *o
	}
	if a.Mode = a.Mode.Perm(); a.Mode == 0 {
		a.Mode = 0o600
	}
	if a.Wait > 0 {
		t := time.NewTimer(a.Wait)
		defer t.Stop()
		a.timeout = t.C
	}
	// Our own kind never replaces the file, so one more attempt nearly always
	// does; without a bound a hostile writer could keep us here for ever.
	for range 100 {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		l, err := a.attempt(ctx)
		if err != errReplaced {
			return l, err
		}
	}
	return nil, fmt.Errorf("lock %s: %w", path, errReplaced)
}

var (
	errReplaced = errors.New("another process keeps replacing the file")
	errBusy     = errors.New("busy")
)

// The two ways to lock are variables so that tests can fail them as file
// systems do that cannot be had in a test.
var (
	tryLock  = (*flock.Flock).TryLock
	waitLock = (*flock.Flock).Lock
)

// acquisition is the state of one call of Acquire.
type acquisition struct {
	Options
	path    string
	start   time.Time
	timeout <-chan time.Time // nil: never
	told    bool             // Waiting was called
}

// attempt is one try at whatever file path names now. It returns errReplaced
// itself, not wrapped, if path came to name another file meanwhile.
func (a *acquisition) attempt(ctx context.Context) (*Lock, error) {
	// gofrs/flock neither shows its descriptor nor looks at what it opened. So
	// we open, check and chmod a descriptor of our own first, and compare once
	// the lock is held.
	seen, err := openChecked(a.path, a.Mode)
	if err == errReplaced {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", a.path, reason(err))
	}

	f := flock.New(a.path, flock.SetFlag(openFlags), flock.SetPermissions(a.Mode))
	switch err := a.lock(ctx, f, seen); {
	case err == nil:
	case unsupported(err):
		a.warn()
		return &Lock{path: a.path}, nil
	case errors.Is(err, fs.ErrNotExist): // unlinked since openChecked
		return nil, errReplaced
	default:
		return nil, a.explain(err, seen)
	}

	// Check whether the file was replaced while we were waiting on the lock.
	if !a.names(f, seen) {
		if err := f.Unlock(); err != nil {
			return nil, fmt.Errorf("unlock %s: %w", a.path, err)
		}
		return nil, errReplaced
	}
	return &Lock{path: a.path, held: f}, nil
}

// lock returns a bare error: errBusy, ctx.Err(), or that of gofrs/flock.
func (a *acquisition) lock(ctx context.Context, f *flock.Flock, seen fs.FileInfo) error {
	ok, err := tryLock(f)
	for errors.Is(err, syscall.EINTR) { // NFS and FUSE, even for a lock that does not wait
		ok, err = tryLock(f)
	}
	switch {
	case ok || err != nil:
		return err
	case a.Wait == 0:
		return errBusy
	}
	if !a.told && a.Waiting != nil {
		a.told = true
		a.Waiting(holderOf(seen))
	}
	return a.wait(ctx, f)
}

// wait blocks until f is locked, ctx ends or the time is up. In the last two
// cases f belongs to the goroutine that it leaves behind.
func (a *acquisition) wait(ctx context.Context, f *flock.Flock) error {
	locked := make(chan error) // unbuffered: a lock is handed over to us, or released
	gone := make(chan struct{})
	defer close(gone)
	go func() {
		err := waitLock(f)
		for errors.Is(err, syscall.EINTR) {
			err = waitLock(f)
		}
		select {
		case locked <- err:
		case <-gone:
			if err == nil {
				_ = f.Unlock() // nobody is left to tell
			}
		}
	}()
	select {
	case err := <-locked:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-a.timeout:
		return errBusy
	}
}

// names reports whether path still names the file that f locked, and that file
// is the one that was checked.
func (a *acquisition) names(f *flock.Flock, seen fs.FileInfo) bool {
	locked, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Lstat(a.path)
	return err == nil && os.SameFile(locked, now) && os.SameFile(locked, seen)
}

func (a *acquisition) explain(err error, seen fs.FileInfo) error {
	switch {
	case err == errBusy:
		return &HeldError{Path: a.path, Holder: holderOf(seen), Waited: time.Since(a.start)}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("lock %s: held by %v: %w", a.path, holderOf(seen), err)
	}
	return fmt.Errorf("lock %s: %w", a.path, reason(err))
}

var warned atomic.Bool

func (a *acquisition) warn() {
	if a.Warn == nil || warned.Swap(true) {
		return
	}
	a.Warn("locking is not supported on the file system of " + a.path +
		" (no locks available): going on without; refreshes may do the same work twice")
}

// unsupported reports whether err says that the file system has no locks: ENOLCK
// from NFS without its lock service, ENOSYS and EOPNOTSUPP from what never had
// them, EINVAL from the odd rest. The same numbers from open mean something else.
func unsupported(err error) bool {
	var pe *fs.PathError
	if errors.As(err, &pe) && pe.Op == "open" {
		return false
	}
	return errors.Is(err, errors.ErrUnsupported) ||
		errors.Is(err, syscall.ENOLCK) || errors.Is(err, syscall.EINVAL)
}

// openChecked opens path, creates it if it is absent, and returns what it is
// once that is a regular file with the wanted mode.
func openChecked(path string, mode fs.FileMode) (fs.FileInfo, error) {
	f, err := openOrCreate(path, mode)
	if err != nil {
		// A link, a directory and a socket fail to open, each with a number
		// that says little and differs between systems: look instead.
		if fi, statErr := os.Lstat(path); statErr == nil && !fi.Mode().IsRegular() {
			return nil, notRegular(fi)
		}
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, notRegular(fi)
	}
	return fi, setMode(f, fi, mode)
}

// openOrCreate does not simply pass O_CREATE: with fs.protected_regular Linux
// then refuses another's existing file in a sticky directory that its group
// may write.
func openOrCreate(path string, mode fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, openFlags, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	f, err = os.OpenFile(path, openFlags|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) { // somebody else was quicker
		return nil, errReplaced
	}
	return f, err
}

func notRegular(fi fs.FileInfo) error {
	kind := "a device"
	switch fi.Mode().Type() {
	case fs.ModeSymlink:
		kind = "a symbolic link"
	case fs.ModeDir:
		kind = "a directory"
	case fs.ModeNamedPipe:
		kind = "a named pipe"
	case fs.ModeSocket:
		kind = "a socket"
	case fs.ModeIrregular:
		kind = "something unknown"
	}
	return errors.New(kind + ", not a regular file")
}

// reason strips operation and path, which the caller's message has.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
