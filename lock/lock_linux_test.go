package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// lockLines returns the lines of /proc/locks with an flock on the inode: of
// those that wait, or of those that hold.
func lockLines(t *testing.T, st syscall.Stat_t, waiting bool) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, fmt.Sprintf(":%d 0 EOF", st.Ino)) && strings.Contains(line, "FLOCK") &&
			strings.Contains(line, "->") == waiting {
			lines = append(lines, line)
		}
	}
	return lines
}

// eventually waits for a condition that nothing announces.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// asleep waits until n waiters for the lock on the inode sleep in the kernel.
func asleep(t *testing.T, st syscall.Stat_t, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d waiters sleep in the kernel", n), func() bool {
		return len(lockLines(t, st, true)) == n
	})
}

// The kernel wakes a waiter: it sleeps there, and does not poll.
func TestWakeUp(t *testing.T) {
	var took []time.Duration
	for range 20 {
		path := lockPath(t)
		l := mustAcquire(t, path, nil)
		p := start(t, "hold", path, "", nil)
		p.expect("waiting")
		asleep(t, inode(t, path), 1)
		released := time.Now()
		mustRelease(t, l)
		ns, err := strconv.ParseInt(p.expect("locked"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Duration(ns-released.UnixNano()))
		p.finish()
	}
	slices.Sort(took)
	t.Logf("from Release to the return of Acquire in another process: median %v, worst of %d %v",
		took[len(took)/2], len(took), took[len(took)-1])
	if worst := took[len(took)-1]; worst > 10*time.Second {
		t.Errorf("a waiter woke after %v", worst)
	}
}

// A waiter that gave up must neither keep the lock when its turn comes nor a
// descriptor after that.
func TestAbandonedWaiter(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // or it closes what was forgotten
	for name, giveUp := range map[string]func(path string) error{
		"cancelled": func(path string) error {
			ctx, cancel := context.WithCancel(t.Context())
			st := inode(t, path)
			_, err := Acquire(ctx, path, &Options{Wait: -1, Waiting: func(Holder) {
				go func() {
					defer cancel()
					for deadline := time.Now().Add(20 * time.Second); len(lockLines(t, st, true)) == 0 && time.Now().Before(deadline); {
						time.Sleep(time.Millisecond)
					}
				}()
			}})
			return err
		},
		"time is up": func(path string) error {
			_, err := Acquire(t.Context(), path, &Options{Wait: 50 * time.Millisecond})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := lockPath(t)
			p := holder(t, path)
			st := inode(t, path)
			if err := giveUp(path); err == nil {
				t.Fatal("locked what another holds")
			}
			asleep(t, st, 1) // still, for nothing can call it back
			p.finish()
			eventually(t, "the abandoned waiter releases and closes", func() bool {
				return len(lockLines(t, st, false))+len(lockLines(t, st, true)) == 0 && openDescriptors(t, path) == 0
			})
			mustAcquire(t, path, nil)
		})
	}
}

func openDescriptors(t *testing.T, path string) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, path) {
			n++
		}
	}
	return n
}

func TestNoDescriptorLeft(t *testing.T) {
	path := lockPath(t)
	l := mustAcquire(t, path, nil)
	if n := openDescriptors(t, path); n != 1 {
		t.Errorf("%d descriptors while held, want 1", n)
	}
	if _, err := Acquire(t.Context(), path, nil); err == nil {
		t.Error("locked twice")
	}
	mustRelease(t, l)
	if n := openDescriptors(t, path); n != 0 {
		t.Errorf("%d descriptors after release, want 0", n)
	}
}

// Whoever waits on a file that is replaced meanwhile must not take the old
// file's lock for the lock.
func TestReplacedWhileWaiting(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"renamed over": func(path string) error {
			if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
		"unlinked and made again": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.WriteFile(path, nil, 0o600)
		},
		"unlinked": os.Remove, // the next holder makes it
	} {
		t.Run(name, func(t *testing.T) {
			path := lockPath(t)
			first := holder(t, path)
			old := inode(t, path)
			waiter := start(t, "hold", path, "", nil)
			waiter.expect("waiting")
			asleep(t, old, 1)

			if err := replace(path); err != nil {
				t.Fatal(err)
			}
			second := holder(t, path) // on the new file
			first.finish()
			asleep(t, inode(t, path), 1) // the waiter: it woke, looked, and waits again
			second.finish()
			waiter.expect("locked")
			if n := len(lockLines(t, inode(t, path), false)); n != 1 {
				t.Errorf("%d locks on the file at the path, want 1", n)
			}
			waiter.finish()
		})
	}
}

func TestReplacedByLinkWhileWaiting(t *testing.T) {
	path := lockPath(t)
	l := mustAcquire(t, path, nil)
	p := start(t, "hold", path, "", nil)
	p.expect("waiting")
	asleep(t, inode(t, path), 1)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("elsewhere", path); err != nil {
		t.Fatal(err)
	}
	mustRelease(t, l)
	if got, want := p.expect("error:"), "lock "+path+": a symbolic link, not a regular file"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
}

func TestDevice(t *testing.T) {
	path := lockPath(t)
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Skip("skipped: cannot make a device here: ", err)
	}
	refused(t, path, "a device, not a regular file")
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Skip("skipped: cannot mount here: ", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	refused(t, filepath.Join(dir, "lock"), "read-only file system")
}

// The real system call fails here, not a stand-in of ours.
func TestUnsupportedForReal(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("skipped: strace is not installed")
	}
	if out, err := exec.Command(strace, "-o/dev/null", "true").CombinedOutput(); err != nil {
		t.Skipf("skipped: strace may not trace here: %v: %s", err, out)
	}
	for _, errno := range []string{"ENOLCK", "ENOSYS", "EOPNOTSUPP"} {
		t.Run(errno, func(t *testing.T) {
			path := lockPath(t)
			p := start(t, "try", path, "", func(c *exec.Cmd) {
				c.Args = []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error=" + errno, c.Path}
				c.Path = strace
			})
			if got, want := p.expect("warning:"), "locking is not supported on the file system of "+path+
				" (no locks available): going on without; refreshes may do the same work twice"; got != want {
				t.Errorf("warning %q, want %q", got, want)
			}
			p.expect("exclusive false")
			p.expect("exclusive false") // and no second warning
			p.finish()
		})
	}
}

func TestHolderOfRealProcess(t *testing.T) {
	path := lockPath(t)
	began := time.Now()
	p := holder(t, path)
	var told Holder
	_, err := Acquire(t.Context(), path, &Options{Wait: time.Millisecond, Waiting: func(h Holder) { told = h }})
	var held *HeldError
	if !errors.As(err, &held) {
		t.Fatal(err)
	}
	for _, h := range []Holder{told, held.Holder} {
		if h.PID != p.Process.Pid || h.UID != os.Geteuid() || h.Command != "syscache refresh" {
			t.Errorf("holder %+v, want pid %d, uid %d, syscache refresh", h, p.Process.Pid, os.Geteuid())
		}
		// Started since then, but for the tick to which the kernel rounds down.
		if h.Since.Before(began.Add(-time.Second)) || h.Since.After(time.Now()) {
			t.Errorf("since %v, want between %v and now", h.Since, began)
		}
	}
	want := fmt.Sprintf(`^lock %s: held by pid %d \(syscache refresh\) of uid %d, started \d+ s ago$`, regexp.QuoteMeta(path), p.Process.Pid, os.Geteuid())
	if !regexp.MustCompile(want).MatchString(err.Error()) {
		t.Errorf("message %q, want %s", err, want)
	}
}

func TestHolderWithHostileTitle(t *testing.T) {
	path := lockPath(t)
	p := start(t, "hold", path, "", func(c *exec.Cmd) {
		c.Args = []string{"/x/\x1b]0;owned\x07\x1b[2J\r\nroot# \u202etxt\u2028\xff" + strings.Repeat("A", 100000), "re\x1bfresh", "\nrm"}
	})
	p.expect("locked")
	_, err := Acquire(t.Context(), path, nil)
	if err == nil {
		t.Fatal("no error")
	}
	msg := strings.TrimPrefix(err.Error(), "lock "+path+": held by ")
	if !strings.Contains(msg, "?]0;owned??[2J??root# ?txt??AAA") || strings.Contains(msg, "fresh") {
		t.Errorf("message %q", msg)
	}
	if i := strings.IndexFunc(msg, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 || len(msg) > 120 {
		t.Errorf("message with an unprintable character at %d of %d: %q", i, len(msg), msg)
	}
}

func TestFindHolder(t *testing.T) {
	const locks = `1: POSIX  ADVISORY  WRITE 11 08:01:131 0 EOF
2: OFDLCK ADVISORY  WRITE -1 08:01:131 0 EOF
3: -> FLOCK  ADVISORY  WRITE 12 08:01:131 0 EOF
4: FLOCK  ADVISORY  WRITE 13 08:02:131 0 EOF
5: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF
5: -> FLOCK  ADVISORY  WRITE 14 08:01:131 0 EOF
6: FLOCK  ADVISORY  WRITE 0 08:01:132 0 EOF
7: FLOCK  ADVISORY  READ 15 103:10ab:133 0 EOF
8: FLOCK  ADVISORY  WRITE 16 00:1f:140 0 EOF
9: FLOCK  ADVISORY  WRITE 17 00:1f:141 0 EOF
10: FLOCK  ADVISORY  WRITE 18 00:20:141 0 EOF
11: FLOCK  ADVISORY  WRITE 19 <none>:142 0 EOF
12: FLOCK
13: FLOCK  ADVISORY  WRITE x 08:01:143 0 EOF
`
	for _, tt := range []struct {
		name         string
		major, minor uint32
		ino          uint64
		want         int
	}{
		{"exact", 8, 1, 131, 4242},
		{"same inode on another device", 8, 3, 131, 0},
		{"holder not visible", 8, 1, 132, 0},
		{"large numbers, shared lock", 0x103, 0x10ab, 133, 15},
		{"anonymous, exact", 0, 0x1f, 140, 16},
		{"anonymous, by the one inode", 0, 0x2a, 140, 16},
		{"anonymous, two candidates", 0, 0x2a, 141, 0},
		{"anonymous, but the device is known", 0, 0x1f, 133, 0},
		{"real device, never by inode", 9, 1, 140, 0},
		{"malformed pid", 8, 1, 143, 0},
		{"absent", 8, 1, 999, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := findHolder(strings.NewReader(locks), unix.Mkdev(tt.major, tt.minor), tt.ino); got != tt.want {
				t.Errorf("pid %d, want %d", got, tt.want)
			}
		})
	}
}

// An overlay of two file systems is where stat and /proc/locks name different devices.
func TestHolderOnOverlay(t *testing.T) {
	dir := t.TempDir()
	mount := func(kind, name, opts string) {
		at := filepath.Join(dir, name)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(kind, at, kind, 0, opts); err != nil {
			t.Skip("skipped: cannot mount here: ", err)
		}
		t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	}
	mount("tmpfs", "lower", "")
	mount("tmpfs", "upper", "")
	for _, d := range []string{"upper/files", "upper/work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount("overlay", "merged", fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper/files,workdir=%[1]s/upper/work,xino=off", dir))

	path := filepath.Join(dir, "merged", "lock")
	p := holder(t, path)
	var held *HeldError
	if _, err := Acquire(t.Context(), path, nil); !errors.As(err, &held) || held.Holder.PID != p.Process.Pid {
		t.Errorf("%v, want held by pid %d", err, p.Process.Pid)
	}
	p.finish()
}

func TestStartTicks(t *testing.T) {
	const tail = " S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 1"
	for _, tt := range []struct {
		stat string
		want int64
		ok   bool
	}{
		{"1 (sh)" + tail, 98765, true},
		{"1 (evil) S 1 1 (x)" + tail, 98765, true},
		{"1 (sh) S 1", 0, false},
		{"", 0, false},
	} {
		if got, ok := startTicks(tt.stat); got != tt.want || ok != tt.ok {
			t.Errorf("startTicks(%q) = %d, %v; want %d, %v", tt.stat, got, ok, tt.want, tt.ok)
		}
	}
}

func TestUnchangedFile(t *testing.T) {
	path := lockPath(t)
	mustRelease(t, mustAcquire(t, path, nil))
	old := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	before := inode(t, path)
	// A change within one tick of the file system's clock would not show.
	eventually(t, "the clock ticks", func() bool {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		now := inode(t, f.Name())
		return now.Ctim != before.Ctim
	})

	p := holder(t, path)
	l := mustAcquire(t, path, &Options{Wait: -1, Waiting: func(Holder) { p.stdin.Close() }})
	mustRelease(t, l)
	if after := inode(t, path); after != before {
		t.Errorf("locking, waiting and releasing changed the file\nfrom %+v\nto   %+v", before, after)
	}
	if before.Size != 0 {
		t.Errorf("the lock file has %d bytes", before.Size)
	}
}

// With thousands of locks on a host /proc/locks is long; it is read once for each wait.
func TestHolderAmongMany(t *testing.T) {
	path := lockPath(t)
	for i := range 300 {
		f := flock.New(path + strconv.Itoa(i))
		if ok, err := f.TryLock(); !ok || err != nil {
			t.Fatal(ok, err)
		}
		defer f.Unlock()
	}
	p := holder(t, path)
	var held *HeldError
	if _, err := Acquire(t.Context(), path, nil); !errors.As(err, &held) || held.Holder.PID != p.Process.Pid {
		t.Errorf("%v, want held by pid %d", err, p.Process.Pid)
	}
}
