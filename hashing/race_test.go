//go:build unix

package hashing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/internal/format"
)

// This file holds the tests of a tree that changes under the scan, and of what
// its times can certify.

func TestScanFileThatChanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(t *testing.T, path string, time int) // between the stat and the content, the time-th time
		want   string                                    // content, "" for ErrChanging
		left   string
	}{
		{"appended to for ever", func(t *testing.T, path string, n int) { write(t, path, strings.Repeat("x", n)) }, "", ""},
		{"same size for ever", func(t *testing.T, path string, n int) { write(t, path, fmt.Sprintf("v%d", n)) }, "", ""},
		{"changed twice", func(t *testing.T, path string, n int) {
			if n <= 2 {
				write(t, path, fmt.Sprintf("v%d", n))
			}
		}, "v2", ""},
		{"replaced once", func(t *testing.T, path string, n int) {
			if n == 1 {
				write(t, path+".new", "v1")
				check(t, os.Rename(path+".new", path))
			}
		}, "v1", ""},
		{"gone", func(t *testing.T, path string, n int) { os.Remove(path) }, "", ""},
		{"gone and back", func(t *testing.T, path string, n int) {
			if n == 1 {
				check(t, os.Remove(path))
				time.AfterFunc(5*time.Millisecond, func() { os.WriteFile(path, []byte("back"), 0o644) })
			}
		}, "back", ""},
		{"a FIFO instead", func(t *testing.T, path string, n int) {
			check(t, os.Remove(path))
			check(t, unix.Mkfifo(path, 0o644))
		}, "", "a FIFO"},
		{"a directory instead", func(t *testing.T, path string, n int) {
			check(t, os.Remove(path))
			check(t, os.Mkdir(path, 0o755))
		}, "", ""},
		{"a link to a secret instead", func(t *testing.T, path string, n int) {
			if n > 1 {
				return
			}
			secret := filepath.Dir(path) + ".secret"
			write(t, secret, "secret")
			t.Cleanup(func() { os.Remove(secret) })
			check(t, os.Remove(path))
			check(t, os.Symlink(secret, path))
		}, "link", ""},
	} {
		for _, when := range []string{"before it is opened", "after it was read"} {
			t.Run(c.name+" "+when, func(t *testing.T) {
				t.Parallel()
				root := plant(t, "f")
				n := 0
				s := Scan{Root: root, Include: []string{"*"}, Workers: 1, hook: func(path string, read bool) {
					if read == (when == "after it was read") && n < attempts {
						n++
						c.change(t, root+"/"+path, n)
					}
				}}
				tree, err := s.Run(t.Context())
				switch {
				case c.left != "":
					check(t, err)
					if len(tree.Left) != 1 || tree.Left[0].Reason != c.left {
						t.Errorf("left %v", tree.Left)
					}
				case c.want == "":
					if !errors.Is(err, ErrChanging) || !strings.HasPrefix(err.Error(), "f: ") {
						t.Errorf("error %v, want ErrChanging of f", err)
					}
				case c.want == "link":
					check(t, err)
					if f := tree.Files[0]; f.Type != Symlink {
						t.Errorf("%v", f)
					}
				default:
					check(t, err)
					if f := tree.Files[0]; f.Digest != content(c.want) || f.Size != uint64(len(c.want)) {
						t.Errorf("%v, want the digest of %q", f, c.want)
					}
				}
			})
		}
	}
}

// TestScanLinkThatChanges: a link is replaced after its target was read.
func TestScanLinkThatChanges(t *testing.T) {
	root := plant(t, "l -> old")
	n := 0
	s := Scan{Root: root, Include: []string{"*"}, hook: func(string, bool) {
		if n++; n == 1 {
			add(t, root, "tmp -> new")
			check(t, os.Rename(root+"/tmp", root+"/l"))
		}
	}}
	if f := scan(t, s).Files[0]; f.Digest != Target("new") {
		t.Errorf("%v", f)
	}
}

// TestScanDirectoryThatChanges: a file comes while its directory is listed. It
// may be missing, but then the directory's identity must not be the one it has
// with the file.
func TestScanDirectoryThatChanges(t *testing.T) {
	root := plant(t)
	for i := range 4 * maxOpen { // more than the queue holds: the listing waits for the reader
		add(t, root, fmt.Sprintf("f%d", i))
	}
	var once atomic.Bool
	s := Scan{Root: root, Include: []string{"*"}, Workers: 1, hook: func(string, bool) {
		if !once.Swap(true) {
			time.Sleep(30 * time.Millisecond)
			add(t, root, "late")
			time.Sleep(30 * time.Millisecond)
		}
	}}
	certifies(t, root, scan(t, s), "late")
}

// TestScanNameThatComes: the same of a name that was looked for in vain.
func TestScanNameThatComes(t *testing.T) {
	root := plant(t, "f")
	n := 0
	c := fileClock()
	real := c.now
	c.now = func() int64 {
		if n++; n == 1 {
			now := real()
			add(t, root, "late") // while the scan waits for the root to settle
			return now
		}
		return real()
	}
	check(t, os.Chtimes(root, time.Time{}, time.Now()))
	certifies(t, root, scan(t, Scan{Root: root, Include: []string{"late"}, clock: c}), "late")
	if n < 2 {
		t.Errorf("the scan did not wait: the test shows nothing")
	}
}

// certifies checks that tree, of the directory root, does not certify that name
// is not there.
func certifies(t *testing.T, root string, tree *Tree, name string) {
	t.Helper()
	if files, _ := paths(tree); slices.Contains(files, name) {
		return
	}
	var st unix.Stat_t
	check(t, unix.Stat(root, &st))
	if tree.Dirs[0].ID == format.IdentityOf(&st) {
		t.Errorf("%s is missing, and nothing shows it", name)
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	check(t, os.WriteFile(path, []byte(content), 0o644))
}

// TestScanNoticesRestoredTimes: size, mtime and inode are as before; only ctime
// cannot be set.
func TestScanNoticesRestoredTimes(t *testing.T) {
	root := plant(t, "f", "g")
	s := Scan{Root: root, Include: []string{"*"}}
	first := scan(t, s)
	s.Known = NewInventory(first)
	var st unix.Stat_t
	check(t, unix.Stat(root+"/f", &st))
	write(t, root+"/f", "F")
	check(t, os.Chtimes(root+"/f", time.Unix(st.Atim.Unix()), time.Unix(st.Mtim.Unix())))
	second := scan(t, s)
	a, b := first.Files[0].ID, second.Files[0].ID
	if a.Ctime == b.Ctime {
		t.Fatal("ctime did not move: the test shows nothing")
	}
	if a.Ctime = b.Ctime; a != b {
		t.Fatalf("more than ctime moved: %v, %v", a, b)
	}
	if second.Files[0].Digest != content("F") || second.Hashed != 1 {
		t.Errorf("digest %v, %d hashed", second.Files[0].Digest, second.Hashed)
	}
}

// TestScanRacyEdit: a file is written, scanned at once, and written again with
// the same size within the same tick of the clock. Git's race.
func TestScanRacyEdit(t *testing.T) {
	t.Parallel()
	root := plant(t, "f")
	same := 0
	var known *Inventory
	for i := range 200 {
		write(t, root+"/f", fmt.Sprintf("%03da", i))
		tree := scan(t, Scan{Root: root, Include: []string{"f"}, Known: known})
		if tree.Files[0].Digest != content(fmt.Sprintf("%03da", i)) {
			t.Fatalf("round %d: the digest is of older content", i)
		}
		past(t, tree.Files[0].ID)
		write(t, root+"/f", fmt.Sprintf("%03db", i))
		var st unix.Stat_t
		check(t, unix.Stat(root+"/f", &st))
		if format.IdentityOf(&st) == tree.Files[0].ID {
			same++
		}
		tree = scan(t, Scan{Root: root, Include: []string{"f"}, Known: NewInventory(tree)})
		if tree.Files[0].Digest != content(fmt.Sprintf("%03db", i)) {
			t.Fatalf("round %d: the digest is of the content before", i)
		}
		known = NewInventory(tree)
	}
	if same > 0 {
		t.Errorf("%d identities did not move with the content", same)
	}
}

// past checks that the clock has moved on since id. Kernels from 6.13 on tell
// changes within a tick apart once somebody looked, so that there the race
// itself does not show.
func past(t *testing.T, id format.Identity) {
	t.Helper()
	c := fileClock()
	if age := time.Duration(c.now() - id.Ctime); age <= 10*time.Millisecond {
		t.Fatalf("an identity is recorded %v after the change", age)
	}
}

// TestScanRacyDirectory: the same for a directory and the names in it.
func TestScanRacyDirectory(t *testing.T) {
	t.Parallel()
	root := plant(t)
	for i := range 50 {
		check(t, os.WriteFile(fmt.Sprintf("%s/%d", root, i), nil, 0o644))
		tree := scan(t, Scan{Root: root, Include: []string{"*", "missing/x"}})
		past(t, tree.Dirs[0].ID)
		check(t, os.WriteFile(fmt.Sprintf("%s/again%d", root, i), nil, 0o644))
		var st unix.Stat_t
		check(t, unix.Stat(root, &st))
		now := format.IdentityOf(&st)
		if now.Size = tree.Dirs[0].ID.Size; now == tree.Dirs[0].ID {
			t.Fatalf("round %d: the directory's identity did not move", i)
		}
	}
}

// at is a clock that stands still.
func at(ns int64) clock { return clock{now: func() int64 { return ns }, granularity: minGranularity} }

// TestScanUselessTimes: times in the future certify nothing, but the input is
// digested nevertheless.
func TestScanUselessTimes(t *testing.T) {
	root := plant(t, "f", "l -> f", "d/")
	hourAgo := time.Now().Add(-time.Hour).UnixNano()
	tree := scan(t, Scan{Root: root, Include: []string{"**"}, clock: at(hourAgo)})
	for _, f := range tree.Files {
		if f.ID != (format.Identity{}) || f.Digest == (Digest{}) {
			t.Errorf("%s: %v %v", f.Path, f.ID, f.Digest)
		}
	}
	for _, d := range tree.Dirs {
		if d.ID != (format.Identity{}) {
			t.Errorf("directory %s: %v", d.Path, d.ID)
		}
	}
	if len(tree.Files) != 2 || len(tree.Dirs) != 2 || NewInventory(tree).Len() != 0 {
		t.Errorf("%v", tree)
	}
	// What an inventory knows of them it must not be asked.
	settled := scan(t, Scan{Root: root, Include: []string{"**"}})
	known := NewInventory(settled)
	if n := scan(t, Scan{Root: root, Include: []string{"**"}, Known: known, clock: at(hourAgo)}).Hashed; n != 1 {
		t.Errorf("%d hashed, want 1", n)
	}
	if n := scan(t, Scan{Root: root, Include: []string{"**"}, Known: known}).Hashed; n != 0 {
		t.Errorf("%d hashed, want 0", n)
	}
}

// TestScanOpensOnlyWhatChanged: an identity that an inventory knows is enough.
func TestScanOpensOnlyWhatChanged(t *testing.T) {
	root := plant(t, "f", "g")
	s := Scan{Root: root, Include: []string{"*"}}
	first := scan(t, s)
	first.Files[0].Digest = Digest{1}
	s.Known = NewInventory(first)
	if tree := scan(t, s); tree.Files[0].Digest != (Digest{1}) || tree.Hashed != 0 {
		t.Errorf("the inventory was not believed: %v", tree)
	}
	check(t, os.Chmod(root+"/f", 0o600))
	check(t, os.Chmod(root+"/f", 0o755))
	if f := scan(t, s).Files[0]; f.Digest != content("f") || f.Mode != 0o755 {
		t.Errorf("the inventory was believed: %v", f)
	}
}

func TestSettlesAt(t *testing.T) {
	const sec, ms = int64(time.Second), int64(time.Millisecond)
	now := 1000*sec + 500*ms
	c := clock{now: func() int64 { return now }, granularity: 10 * ms}
	for _, x := range []struct {
		name         string
		ctime, mtime int64
		until        int64
		ok           bool
	}{
		{"old", 900*sec + 1, 1, 0, true},
		{"old, no fraction", 900 * sec, 0, 0, true},
		{"just settled", now - 10*ms - 1, 1, 0, true},
		{"just not", now - 10*ms, 1, now + 1, true},
		{"now", now, 1, now + 10*ms + 1, true},
		{"a little ahead", now + sec, 1, now + sec + 10*ms + 1, true},
		{"too far ahead", now + sec + 1, 1, 0, false},
		{"zero", 0, 1, 0, false},
		{"before the epoch", -1, 1, 0, false},
		{"no fraction", 1000 * sec, 0, 1002*sec + 1, true},
		{"a fraction in mtime", 1000 * sec, 1, 0, true},
		{"no fraction, just settled", 998 * sec, 3 * sec, 0, true},
		{"no fraction, ahead", 1001 * sec, sec, 1003*sec + 1, true},
	} {
		until, ok := c.settlesAt(format.Identity{Ctime: x.ctime, Mtime: x.mtime})
		if until != x.until || ok != x.ok {
			t.Errorf("%s: %d, %v; want %d, %v", x.name, until, ok, x.until, x.ok)
		}
	}
}

func TestFileClock(t *testing.T) {
	c := fileClock()
	if c.granularity < int64(10*time.Millisecond) || c.granularity > int64(100*time.Millisecond) {
		t.Errorf("granularity %v", time.Duration(c.granularity))
	}
	if d := time.Since(time.Unix(0, c.now())); d < -time.Millisecond || d > time.Second {
		t.Errorf("the clock is off by %v", d)
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	root := plant(t, "d/e/f", "l -> nowhere")
	for i := range 20 {
		path := []string{"d", "d/e/f", "l"}[i%3]
		add(t, root, fmt.Sprintf("d/new%d", i))
		check(t, os.Chtimes(root+"/d/e/f", time.Time{}, time.Now()))
		ok, err := Settle(t.Context(), root, path)
		if !ok || err != nil {
			t.Fatalf("Settle(%s) = %v, %v", path, ok, err)
		}
		c := fileClock()
		if until, ok, err := c.settles(root + "/" + path); until != 0 || !ok || err != nil {
			t.Errorf("%s has not settled: %v, %v, %v", path, until, ok, err)
		}
	}
	for _, path := range []string{"none", "d/none", "l/none"} {
		if ok, err := Settle(t.Context(), root, path); !ok || err != nil {
			t.Errorf("Settle(%s) = %v, %v", path, ok, err)
		}
	}
	// An entry that was changed just now makes a directory unsettled, whose own
	// times do not move.
	if ok, err := Settle(t.Context(), root, "d"); !ok || err != nil {
		t.Fatalf("Settle(d) = %v, %v", ok, err)
	}
	add(t, root, "d/new0")
	c := at(time.Now().UnixNano())
	if until, ok, err := c.settles(root + "/d"); until == 0 || !ok || err != nil {
		t.Errorf("settles = %v, %v, %v", until, ok, err)
	}
	c = at(time.Now().Add(-time.Hour).UnixNano())
	if until, ok, err := c.settles(root + "/d"); until != 0 || ok || err != nil {
		t.Errorf("settles = %v, %v, %v", until, ok, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	add(t, root, "d/later")
	if _, err := Settle(ctx, root, "d"); !errors.Is(err, context.Canceled) {
		t.Errorf("Settle = %v", err)
	}
}

// asNobody runs the calling test again in a process without privilege.
func asNobody(t *testing.T, root string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root to become somebody else")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "HASHING_TEST_ROOT="+root, "TMPDIR=/tmp")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

// TestScanUnreadableToUs: what others may read and we may not is an error that
// names it; what they may not either is left out, whether or not we could.
func TestScanUnreadableToUs(t *testing.T) {
	if root := os.Getenv("HASHING_TEST_ROOT"); root != "" {
		_, err := Scan{Root: root, Include: []string{"odd/**"}}.Run(t.Context())
		if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "odd/f") {
			t.Errorf("error %v, want permission denied for odd/f", err)
		}
		_, err = Scan{Root: root, Include: []string{"odddir/**"}}.Run(t.Context())
		if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "odddir") {
			t.Errorf("error %v, want permission denied for odddir", err)
		}
		tree := scan(t, Scan{Root: root, Include: []string{"private/**", "unlisted/**", "secret", "fine"}})
		if files, _ := paths(tree); !slices.Equal(files, []string{"fine"}) || len(tree.Left) != 3 {
			t.Errorf("files %q, left %v", files, tree.Left)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("skipped: not root, so it cannot give files away")
	}
	root := plant(t, "fine", "secret", "private/f", "unlisted/f", "odd/f", "odddir/f")
	for dir := root; dir != "/" && dir != "/tmp"; dir = filepath.Dir(dir) {
		check(t, os.Chmod(dir, 0o755))
	}
	// Others may read these; 65534, who owns them, may not.
	for path, mode := range map[string]os.FileMode{"odd/f": 0o044, "odddir": 0o055} {
		check(t, os.Chown(root+"/"+path, 65534, 65534))
		check(t, os.Chmod(root+"/"+path, mode))
	}
	check(t, os.Chmod(root+"/secret", 0o600))
	check(t, os.Chmod(root+"/private", 0o700))
	check(t, os.Chmod(root+"/unlisted", 0o711))
	asNobody(t, root)
}

// TestScanWhileInstalling: files come, go and are replaced all the while. Each
// scan gives a tree that can be encoded, or says that it cannot.
func TestScanWhileInstalling(t *testing.T) {
	t.Parallel()
	root := plant(t, "a/b/c", "a/d")
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; !stop.Load(); i++ {
			dir := fmt.Sprintf("%s/a/n%d", root, i%10)
			os.RemoveAll(dir)
			os.MkdirAll(dir+"/x", 0o755)
			os.WriteFile(dir+"/x/f", []byte(dir), 0o644)
			os.Rename(dir+"/x/f", dir+"/x/g")
			os.Rename(dir, dir+"moved")
			os.RemoveAll(dir + "moved")
			if i%20 == 0 {
				time.Sleep(15 * time.Millisecond)
			}
		}
	}()
	complete := 0
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		tree, err := Scan{Root: root, Include: []string{"**"}}.Run(t.Context())
		if err != nil {
			if !errors.Is(err, ErrChanging) {
				t.Fatal(err)
			}
			continue
		}
		complete++
		check(t, (&Manifest{Inputs: tree.Manifest()}).Check())
		if _, err := DecodeInventory(NewInventory(tree).Encode()); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	<-done
	t.Logf("%d complete", complete)
}
