//go:build unix

package lock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

func TestExclusion(t *testing.T) {
	const processes, each = 30, 10
	path := lockPath(t)
	if err := os.WriteFile(path+".count", []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	var all []*process
	for range processes {
		all = append(all, start(t, "count", path, strconv.Itoa(each), nil))
	}
	for _, p := range all { // the starting signal, to all before any can end
		p.stdin.Close()
	}
	for _, p := range all {
		p.finish()
	}
	b, err := os.ReadFile(path + ".count")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(b), strconv.Itoa(processes*each); got != want {
		t.Errorf("%d processes counted to %s, want %s", processes, got, want)
	}
}

func TestExclusionWithinProcess(t *testing.T) {
	path := lockPath(t)
	l := mustAcquire(t, path, nil)
	var held *HeldError
	if _, err := Acquire(t.Context(), path, nil); !errors.As(err, &held) {
		t.Errorf("second lock in one process: %v, want a HeldError", err)
	}
	mustRelease(t, l)
	mustAcquire(t, path, nil)
}

func TestReleaseTwice(t *testing.T) {
	path := lockPath(t)
	l := mustAcquire(t, path, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := l.Release(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	other := mustAcquire(t, path, nil)
	mustRelease(t, l) // must not release the other
	if _, err := Acquire(t.Context(), path, nil); err == nil {
		t.Error("a second release of one lock released another")
	}
	mustRelease(t, other)
}

func TestKilledHolder(t *testing.T) {
	path := lockPath(t)
	p := holder(t, path)
	killed := false
	l, err := Acquire(t.Context(), path, &Options{Wait: -1, Waiting: func(Holder) {
		killed = true
		if err := p.Process.Kill(); err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if !killed {
		t.Error("locked while another process held the lock")
	}
}

// A builder that leaves a daemon behind must not leave the lock with it; as
// TestLockNotDroppedByExecCommand in cmd/go, the other way round.
func TestChildDoesNotInherit(t *testing.T) {
	path := lockPath(t)
	p := start(t, "abandon", path, "", nil)
	for range 2 { // in either order
		if line, err := p.out.ReadString('\n'); err != nil || line != "locked true\n" && line != "lingering\n" {
			t.Fatal(line, err)
		}
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	l := mustAcquire(t, path, nil)
	mustRelease(t, l)

	p.stdin.Close() // only now may the child end
	p.expect("still there")
}

func TestHeld(t *testing.T) {
	path := lockPath(t)
	holder(t, path)
	for _, tt := range []struct {
		wait    time.Duration
		waiting int
	}{
		{0, 0},
		{20 * time.Millisecond, 1},
	} {
		t.Run(fmt.Sprint(tt.wait), func(t *testing.T) {
			waiting := 0
			_, err := Acquire(t.Context(), path, &Options{Wait: tt.wait, Waiting: func(Holder) { waiting++ }})
			var held *HeldError
			if !errors.As(err, &held) {
				t.Fatalf("error %v, want a HeldError", err)
			}
			if held.Path != path || held.Waited < tt.wait {
				t.Errorf("%+v, want path %s and at least %v waited", held, path, tt.wait)
			}
			if waiting != tt.waiting {
				t.Errorf("Waiting was called %d times, want %d", waiting, tt.waiting)
			}
			if !strings.HasPrefix(err.Error(), "lock "+path+": held by ") {
				t.Errorf("message %q", err)
			}
		})
	}
}

func TestContext(t *testing.T) {
	path := lockPath(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Acquire(ctx, path, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}

	holder(t, path)
	ctx, cancel = context.WithCancel(t.Context())
	_, err := Acquire(ctx, path, &Options{Wait: -1, Waiting: func(Holder) { cancel() }})
	if !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "lock "+path+": held by ") {
		t.Errorf("cancelled while waiting: %v", err)
	}

	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = Acquire(ctx, path, &Options{Wait: time.Hour})
	var held *HeldError
	if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &held) {
		t.Errorf("deadline while waiting: %v", err)
	}
}

func TestMode(t *testing.T) {
	for _, tt := range []struct{ mode, umask, existing, want fs.FileMode }{
		{mode: 0, umask: 0, want: 0o600},
		{mode: 0, umask: 0o077, want: 0o600},
		{mode: 0, umask: 0o777, want: 0o600},
		{mode: 0o660, umask: 0, want: 0o660},
		{mode: 0o660, umask: 0o077, want: 0o660},
		{mode: 0, existing: 0o644, want: 0o600},
		{mode: 0, existing: 0o4600, want: 0o600},
		{mode: 0o660, existing: 0o600, want: 0o660},
	} {
		t.Run(fmt.Sprintf("%04o umask %04o existing %04o", tt.mode, tt.umask, tt.existing), func(t *testing.T) {
			path := lockPath(t)
			if tt.existing != 0 {
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := syscall.Chmod(path, uint32(tt.existing)); err != nil {
					t.Fatal(err)
				}
			}
			start(t, "create", path, fmt.Sprintf("%o %o", tt.mode, tt.umask), nil).finish()
			if got := fs.FileMode(inode(t, path).Mode &^ syscall.S_IFMT); got != tt.want {
				t.Errorf("mode %04o, want %04o", got, tt.want)
			}
		})
	}
}

func TestModeLeftAlone(t *testing.T) {
	setup := map[string]func(path string) error{
		"second name": func(path string) error { return os.Link(path, path+".other") },
		"another's":   func(path string) error { return os.Chown(path, nobody, nobody) },
	}
	for name, prepare := range setup {
		t.Run(name, func(t *testing.T) {
			if name == "another's" && os.Geteuid() != 0 {
				t.Skip("skipped: only root can give a file away")
			}
			path := lockPath(t)
			if err := os.WriteFile(path, nil, 0o640); err != nil {
				t.Fatal(err)
			}
			if err := prepare(path); err != nil {
				t.Fatal(err)
			}
			before := inode(t, path)
			mustRelease(t, mustAcquire(t, path, nil))
			if after := inode(t, path); after != before {
				t.Errorf("changed\nfrom %+v\nto   %+v", before, after)
			}
		})
	}
}

const nobody = 65533

func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can start a process of another user")
	}
	// The user must reach the file, so that nothing but its mode keeps him out.
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "lock")
	mustRelease(t, mustAcquire(t, path, nil))

	try := func(path string) string {
		p := start(t, "try", path, "", func(c *exec.Cmd) {
			// The folder of the test binary is root's alone; this way in needs no folder.
			if _, err := os.Stat("/proc/self/exe"); err == nil {
				c.Path = "/proc/self/exe"
			}
			c.Dir = "/"
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		})
		line, _ := p.out.ReadString('\n')
		p.Wait()
		return line
	}
	if got, want := try(path), "error: lock "+path+": permission denied\n"; got != want {
		t.Errorf("another user locks root's file: %q, want %q", got, want)
	}
	// What the mode guards from: the same user, a file that he may open.
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := try(open); got != "exclusive true\n" {
		t.Errorf("the user could not have locked any file: %q", got)
	}
}

func TestNotRegular(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(path string) error
		want string
	}{
		{"link", func(p string) error {
			if err := os.WriteFile(p+".target", nil, 0o644); err != nil {
				return err
			}
			return os.Symlink(p+".target", p)
		}, "a symbolic link, not a regular file"},
		{"dangling", func(p string) error { return os.Symlink(p+".target", p) }, "a symbolic link, not a regular file"},
		{"directory", func(p string) error { return os.Mkdir(p, 0o700) }, "a directory, not a regular file"},
		{"fifo", func(p string) error { return syscall.Mkfifo(p, 0o600) }, "a named pipe, not a regular file"},
		{"socket", func(p string) error {
			l, err := net.Listen("unix", p)
			if err == nil {
				l.(*net.UnixListener).SetUnlinkOnClose(false)
				l.Close()
			}
			return err
		}, "a socket, not a regular file"},
		{"no directory", func(p string) error { return os.Remove(filepath.Dir(p)) }, "no such file or directory"},
		{"read-only", func(p string) error { return os.WriteFile(p, nil, 0) }, "permission denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "read-only" && os.Geteuid() == 0 {
				t.Skip("skipped: root may open any file; see TestUnprivileged")
			}
			path := lockPath(t)
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			refused(t, path, tt.want)
			target, err := os.Lstat(path + ".target")
			if tt.name == "dangling" && !errors.Is(err, fs.ErrNotExist) {
				t.Error("made the link's target")
			}
			if tt.name == "link" && (err != nil || target.Mode() != 0o644) {
				t.Errorf("the link's target: %v, %v", target, err)
			}
		})
	}
}

func refused(t *testing.T, path, why string) {
	t.Helper()
	l, err := Acquire(t.Context(), path, &Options{Wait: -1})
	if err == nil {
		l.Release()
		t.Fatal("no error")
	}
	if got, want := err.Error(), "lock "+path+": "+why; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
}

// replaceTryLock lets a test stand in the way of gofrs/flock.
func replaceTryLock(t *testing.T, try func(*flock.Flock) (bool, error)) {
	t.Helper()
	t.Cleanup(func() { tryLock = (*flock.Flock).TryLock })
	tryLock = try
}

// A file that changes between our look at it and the lock on it must be looked
// at again: here one that all may open takes its place.
func TestReplacedBeforeLocked(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"replaced": func(path string) error {
			if err := os.WriteFile(path+".new", nil, 0o644); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
		"unlinked": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			path := lockPath(t)
			tries := 0
			replaceTryLock(t, func(f *flock.Flock) (bool, error) {
				if tries++; tries <= 3 {
					if err := replace(path); err != nil {
						t.Fatal(err)
					}
				}
				return f.TryLock()
			})
			l := mustAcquire(t, path, nil)
			held, err := l.held.Stat()
			if err != nil {
				t.Fatal(err)
			}
			now, err := os.Lstat(path)
			if err != nil || !os.SameFile(held, now) {
				t.Errorf("path does not name the locked file: %v", err)
			}
			if held.Mode() != 0o600 {
				t.Errorf("locked a file of mode %v", held.Mode())
			}
			if tries != 4 {
				t.Errorf("%d attempts, want 4", tries)
			}
		})
	}
}

func TestReplacedForEver(t *testing.T) {
	path := lockPath(t)
	replaceTryLock(t, func(f *flock.Flock) (bool, error) {
		ok, err := f.TryLock()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return ok, err
	})
	for _, wait := range []time.Duration{0, time.Hour, -1} {
		_, err := Acquire(t.Context(), path, &Options{Wait: wait})
		if want := "lock " + path + ": another process keeps replacing the file"; err == nil || err.Error() != want {
			t.Errorf("wait %v: error %v, want %q", wait, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	replaceTryLock(t, func(f *flock.Flock) (bool, error) {
		cancel()
		ok, err := f.TryLock()
		os.Remove(path)
		return ok, err
	})
	if _, err := Acquire(ctx, path, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestUnsupported(t *testing.T) {
	for _, tt := range []struct {
		err         error
		unsupported bool
	}{
		{syscall.ENOLCK, true},
		{syscall.ENOSYS, true},
		{syscall.ENOTSUP, true},
		{syscall.EOPNOTSUPP, true},
		{syscall.EINVAL, true},
		{syscall.EIO, false},
		{&fs.PathError{Op: "open", Path: "lock", Err: syscall.EINVAL}, false},
		{&fs.PathError{Op: "open", Path: "lock", Err: syscall.EROFS}, false},
	} {
		t.Run(fmt.Sprint(tt.err), func(t *testing.T) {
			warned.Store(false)
			replaceTryLock(t, func(*flock.Flock) (bool, error) { return false, tt.err })
			path := lockPath(t)
			if !tt.unsupported {
				if _, err := Acquire(t.Context(), path, nil); !errors.Is(err, reason(tt.err)) {
					t.Errorf("error %v, want %v", err, tt.err)
				}
				return
			}
			// Who says nothing must not use up the warning.
			if _, err := Acquire(t.Context(), path, nil); err != nil {
				t.Fatal(err)
			}
			var warnings []string
			for range 3 {
				l, err := Acquire(t.Context(), path, &Options{Warn: func(s string) { warnings = append(warnings, s) }})
				if err != nil {
					t.Fatal(err)
				}
				if l.Exclusive() {
					t.Error("says that it is exclusive")
				}
				mustRelease(t, l)
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0], path) {
				t.Errorf("warnings %q, want one that names the path", warnings)
			}
		})
	}
}

func TestInterrupted(t *testing.T) {
	path := lockPath(t)
	t.Cleanup(func() { waitLock = (*flock.Flock).Lock })
	tries, waits := 0, 0
	replaceTryLock(t, func(f *flock.Flock) (bool, error) {
		if tries++; tries == 1 {
			return false, syscall.EINTR
		}
		return f.TryLock()
	})
	p := holder(t, path)
	waitLock = func(f *flock.Flock) error {
		if waits++; waits == 1 {
			return syscall.EINTR
		}
		return f.Lock()
	}
	mustAcquire(t, path, &Options{Wait: -1, Waiting: func(Holder) { p.stdin.Close() }})
	if tries != 2 || waits != 2 {
		t.Errorf("%d tries and %d waits, want 2 and 2", tries, waits)
	}
}
