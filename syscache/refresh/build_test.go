package refresh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix/unixtest"
	"github.com/syscache/syscache/syscache"
)

// load loads an install with one cache, "c", which share/** is the input of.
func load(t testing.TB, root string, c Cache) *Install {
	t.Helper()
	c.Name = "c"
	if c.Inputs == nil {
		c.Inputs = []string{"share/**"}
	}
	in, err := Load(root, &LoadOptions{Caches: []Cache{c}})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// refreshed refreshes "c" and verifies it.
func refreshed(t testing.TB, in *Install) Result {
	t.Helper()
	res, err := in.Refresh(context.Background(), "c", nil)
	if err == nil {
		err = in.Verify(context.Background(), "c")
	}
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// script writes an executable of the install and returns a cache that it
// builds.
func script(t testing.TB, root, text string) Cache {
	t.Helper()
	writeFile(t, root+"/libexec/build", "#!/bin/sh\n"+text, 0o755)
	return Cache{Command: []string{"libexec/build"}, Recipe: []string{"libexec/build"}, Witness: []string{}}
}

// get returns the value of a row key of "c", or what went wrong.
func get(t testing.TB, in *Install, key string) string {
	t.Helper()
	r, err := syscache.Open(in.root, "c", in.readOptions(false))
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	v, err := r.Get([]byte(key))
	if err != nil {
		return err.Error()
	}
	return string(v)
}

func TestStaysInside(t *testing.T) {
	for _, tc := range []struct {
		to, target string
		want       bool
	}{
		{"files/l", "a", true},
		{"files/l", "a/b", true},
		{"files/l", ".", true},
		{"files/l", "./a//b/", true},
		{"files/l", "nowhere", true},
		{"files/a/l", "..", true},
		{"files/a/l", "../b", true},
		{"files/a/l", "./../b", true},
		{"files/a/b/l", "../../c", true},
		{"files/l", "..", false},
		{"files/l", "../files/a", false},
		{"files/l", "../../meta", false},
		{"files/a/l", "../../meta", false},
		{"files/a/b/l", "../../..", false},
		{"files/a/l", "x/..", false}, // x may be a link to anywhere
		{"files/l", "a/../..", false},
		{"files/a/b/l", "../x/../y", false},
		{"files/l", "/etc/passwd", false},
		{"files/l", "/", false},
		{"files/l", "//a", false},
		{"files/l", "", true}, // no file system has such a link
		{"files/l", "...", true},
		{"files/l", "..a", true},
	} {
		if got := staysInside(tc.to, tc.target); got != tc.want {
			t.Errorf("staysInside(%q, %q) = %v", tc.to, tc.target, got)
		}
	}
}

// TestCommandEnv: a builder has exactly what was configured, and our five
// variables (I11).
func TestCommandEnv(t *testing.T) {
	c := &Cache{Name: "c", Env: map[string]string{"B": "b=2", "A": "", "PATH": "/x"}}
	got := commandEnv(c, Inputs{Root: "/r", Key: syscache.Key{0xab}, Out: "/o"}, "/list")
	want := []string{
		"A=", "B=b=2", "PATH=/x", "SYSCACHE_CACHE=c", "SYSCACHE_INPUTS=/list",
		"SYSCACHE_KEY=ab" + strings.Repeat("0", 62), "SYSCACHE_OUT=/o", "SYSCACHE_ROOT=/r",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestBuilderSees asks a real builder what it was given.
func TestBuilderSees(t *testing.T) {
	t.Setenv("SECRET", "of the caller")
	root := newRoot(t)
	c := script(t, root, `exec 9<"$SYSCACHE_INPUTS"
e() { printf '{"key": "%s", "value": "%s"}\n' "$1" "$2"; }
e arg "$1|$2"
e dir "$(pwd)"
e env "$(/usr/bin/env | /usr/bin/cut -d= -f1 | /usr/bin/sort | /usr/bin/tr '\n' ' ')"
e list "$(/usr/bin/tr '\0' '\n' <"$SYSCACHE_INPUTS" | /usr/bin/cut -c65- | /usr/bin/tr '\n' '|')"
e stdin "$(/bin/cat | /usr/bin/wc -c)"
e fds "$(ls -l /proc/self/fd 2>/dev/null | /bin/grep -c 'var/cache/syscache/c/lock')"
e group "$(/usr/bin/cut -d' ' -f5 /proc/$$/stat) $$"
e umask "$(umask)"
`)
	c.Command = append(c.Command, "one two", "$HOME")
	c.Env = map[string]string{"MINE": "1"}
	in := load(t, root, c)
	old := unixtest.Umask(0o077)
	defer unixtest.Umask(old)
	refreshed(t, in)
	for key, want := range map[string]string{
		"arg":   `"one two|$HOME"`,
		"dir":   `"` + in.root + `"`,
		"env":   `"MINE PWD SYSCACHE_CACHE SYSCACHE_INPUTS SYSCACHE_KEY SYSCACHE_OUT SYSCACHE_ROOT "`, // PWD is the shell's
		"list":  `"  share/MANIFEST|"`,
		"stdin": `"0"`,
		"fds":   `"0"`,
		"umask": `"0077"`,
	} {
		got := get(t, in, key)
		if key == "env" {
			got = strings.NewReplacer("OLDPWD ", "", "SHLVL ", "", " _ ", " ").Replace(got)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	if f := strings.Fields(strings.Trim(get(t, in, "group"), `"`)); len(f) != 2 || f[0] != f[1] {
		t.Errorf("the builder leads no process group of its own: %q", f)
	}
}

// TestModes: the umask changes nothing that others see (I11).
func TestModes(t *testing.T) {
	for _, umask := range []int{0, 0o077} {
		root := newRoot(t)
		c := script(t, root, `mkdir "$SYSCACHE_OUT/d"; echo x >"$SYSCACHE_OUT/d/f"; cp "$0" "$SYSCACHE_OUT/x"; chmod 4711 "$SYSCACHE_OUT/x"; ln -s d/f "$SYSCACHE_OUT/l"`)
		c.Files, c.Env = true, map[string]string{"PATH": "/usr/bin:/bin"}
		in := load(t, root, c)
		old := unixtest.Umask(umask)
		res := refreshed(t, in)
		unixtest.Umask(old)
		got := map[string]string{}
		dir := root + "/" + format.CacheDir
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			fi, _ := d.Info()
			got[strings.ReplaceAll(path[len(dir):], res.Key.String(), "KEY")] = fi.Mode().String()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"": "drwxr-xr-x", "/c": "drwxr-xr-x", "/c/lock": "-rw-------", "/c/current": "-rw-r--r--", "/c/inventory": "-rw-------", "/c/seen": "-rw-------",
			"/c/state": "-rw-------", "/c/g": "drwxr-xr-x", "/c/g/KEY": "drwxr-xr-x",
			"/c/g/KEY/meta": "-rw-r--r--", "/c/g/KEY/manifest": "-rw-r--r--", "/c/g/KEY/files": "drwxr-xr-x",
			"/c/g/KEY/files/d": "drwxr-xr-x", "/c/g/KEY/files/d/f": "-rw-r--r--", "/c/g/KEY/files/x": "-rwxr-xr-x",
			"/c/g/KEY/files/l": "Lrwxrwxrwx",
		}
		if got["/c/state"] == "" {
			delete(want, "/c/state")
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("umask %04o (-want +got):\n%s", umask, d)
		}
	}
}

// TestBuildFails: what is wrong with a builder is told, with the end of its
// stderr.
func TestBuildFails(t *testing.T) {
	for name, tc := range map[string]struct {
		script, want, stderr string
		files                bool
		timeout              time.Duration
	}{
		"exit code":       {"echo it broke >&2; exit 3", "build c: it failed: exit status 3", "it broke", false, 0},
		"signal":          {"kill -9 $$", "build c: it failed: signal: killed", "", false, 0},
		"bad line":        {"echo '{\"key\":\"a\",\"value\":1}'; echo nonsense; echo oops >&2", "build c: line 2 of its output: ", "oops", false, 0},
		"duplicate":       {"for k in a b a; do echo '{\"key\":\"'$k'\",\"value\":1}'; done", `build c: row 3 has the key "a" of row 1`, "", false, 0},
		"bad line, exits": {"echo nonsense; exit 4", "build c: it failed: exit status 4", "", false, 0},
		"timeout":         {"echo late >&2; exec sleep 60", "build c: not finished after 300ms", "late", false, 300 * time.Millisecond},
		"left behind":     {"sleep 60 & echo '{\"key\":\"a\",\"value\":1}'", "build c: it left a process behind that holds its output open", "", false, 0},
		"rows for files":  {"echo '{\"key\":\"a\",\"value\":1}'", "build c: it printed a row, and is to make files", "", true, 0},
		"escaping link":   {`ln -s ../../meta "$SYSCACHE_OUT/l"`, `build c: output "l" is a symbolic link to "../../meta", outside the generation`, "", true, 0},
		"FIFO":            {`mkfifo "$SYSCACHE_OUT/f"`, `build c: output "f" is neither a file, a directory nor a symbolic link`, "", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := newRoot(t)
			c := script(t, root, tc.script)
			c.Files, c.Timeout, c.Env = tc.files, tc.timeout, map[string]string{"PATH": "/usr/bin:/bin"}
			in := load(t, root, c)
			_, err := in.Refresh(t.Context(), "c", nil)
			var b *BuildError
			if !errors.As(err, &b) || !strings.HasPrefix(err.Error(), tc.want) || b.Stderr != tc.stderr {
				t.Errorf("got %v, want %s (stderr %q)", err, tc.want, tc.stderr)
			}
			s := in.Status("c")
			if s.Failure == nil || s.Failure.Message != err.Error() || s.Failure.Stderr != tc.stderr || time.Since(s.Failure.Time) > time.Minute {
				t.Errorf("recorded: %+v", s.Failure)
			}
			noLitter(t, in)
		})
	}
	root := newRoot(t)
	in := load(t, root, Cache{Command: []string{"libexec/none"}})
	if _, err := in.Refresh(t.Context(), "c", nil); err == nil || err.Error() != "build c: cannot run libexec/none: no such file or directory" {
		t.Error(err)
	}
}

// noLitter checks that nothing half done is left in the directory of "c".
func noLitter(t testing.TB, in *Install) {
	t.Helper()
	for _, pattern := range []string{"/c/" + format.TokenPrefix + "*", "/c/" + format.ScratchPrefix + "*", "/c/g/" + format.ScratchPrefix + "*"} {
		if found, _ := filepath.Glob(in.cacheDir + pattern); len(found) > 0 {
			t.Errorf("left behind: %q", found)
		}
	}
	names, _ := filepath.Glob(in.cacheDir + "/c/*")
	for _, n := range names {
		if !slices.Contains([]string{"lock", "current", "stale", "inventory", "state", "seen", "g", "latest"}, filepath.Base(n)) {
			t.Errorf("left behind: %s", n)
		}
	}
}

// TestCopied guards I5: what the builder still holds open, or linked
// elsewhere, is not what was published.
func TestCopied(t *testing.T) {
	root := newRoot(t)
	kept := filepath.Join(filepath.Dir(root), "kept")
	in := load(t, root, Cache{Files: true, Witness: []string{}, Build: func(_ context.Context, in Inputs, _ func(k, v []byte) error) error {
		return errors.Join(os.WriteFile(in.Out+"/f", []byte("published"), 0o600), os.Link(in.Out+"/f", kept))
	}})
	refreshed(t, in)
	if err := os.WriteFile(kept, []byte("rewritten"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := in.Verify(t.Context(), "c"); err != nil {
		t.Error(err)
	}
}

// TestBuilderWithNothing: kinds without a row or a file are whole too.
func TestBuilderWithNothing(t *testing.T) {
	for _, files := range []bool{false, true} {
		root := newRoot(t)
		in := load(t, root, Cache{Files: files, Witness: []string{}, Build: func(context.Context, Inputs, func(k, v []byte) error) error { return nil }})
		if res := refreshed(t, in); res.Rows != 0 || res.Outcome != Built {
			t.Errorf("%+v", res)
		}
		if res := refreshed(t, in); res.Outcome != Unchanged {
			t.Errorf("%+v", res)
		}
	}
}

// TestBuiltinFiles: the built-in table.
func TestBuiltinFiles(t *testing.T) {
	root := newRoot(t)
	writeFile(t, root+"/bin/x", "hello", 0o755)
	writeFile(t, root+"/secret", "s", 0o600)
	if err := os.Symlink("bin/x", root+"/l"); err != nil {
		t.Fatal(err)
	}
	d, err := hashing.Sum(strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	in := load(t, root, Cache{Inputs: []string{"**"}})
	refreshed(t, in)
	for key, want := range map[string]string{
		"bin/x":                        fmt.Sprintf(`{"type":"file","size":5,"mode":"0755","digest":"%s"}`, d),
		"l":                            fmt.Sprintf(`{"type":"symlink","size":5,"mode":"0000","digest":"%s"}`, hashing.Target("bin/x")),
		"secret":                       "get c: row key not found",
		"bin":                          "get c: row key not found",
		format.CacheDir + "/c/lock":    "get c: row key not found",
		format.CacheDir + "/c/current": "get c: row key not found",
	} {
		if got := get(t, in, key); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
}

// TestSlowReading: what a builder printed before its end is waited for, however
// slowly we take it in. (On a disk that is busy, rows that are spilled take
// seconds.)
func TestSlowReading(t *testing.T) {
	defer func(was time.Duration) { grace = was }(grace)
	grace = 10 * time.Millisecond
	for output, left := range map[string]bool{"echo row": false, "sleep 1000 & echo row": true} {
		p, err := start(&exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", output}})
		if err != nil {
			t.Fatal(err)
		}
		rows := make(chan error, 1)
		go func() {
			<-p.gone
			time.Sleep(10 * grace) // as a disk does
			_, err := io.Copy(io.Discard, p.stdout)
			rows <- err
		}()
		_, err = p.finish(t.Context(), rows)
		if (err != nil) != left {
			t.Errorf("%s: %v", output, err)
		}
		p.kill()
	}
}

// TestStartedSideBySide: a builder that is between fork and exec, which has all
// that is open here, is not one that another left behind.
func TestStartedSideBySide(t *testing.T) {
	defer func(was time.Duration) { grace = was }(grace)
	grace = 0
	var all errgroup.Group
	for range 8 {
		all.Go(func() error {
			for range 25 {
				p, err := start(&exec.Cmd{Path: "/bin/true", Args: []string{"true"}})
				if err != nil {
					return err
				}
				rows := make(chan error, 1)
				go func() {
					_, err := io.Copy(io.Discard, p.stdout)
					rows <- err
				}()
				_, err = p.finish(t.Context(), rows)
				p.kill()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}

// TestKilledIsOurs: what a builder has left of its group ends with it, and
// another group that has its number by then does not.
func TestKilledIsOurs(t *testing.T) {
	// Else a builder may be given the thread that starts the other, which then
	// ends with it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	other := &exec.Cmd{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, SysProcAttr: ownSession()}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	for _, reused := range []bool{false, true} {
		p, err := start(&exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", "sleep 1000 2>/dev/null & exit"}})
		if err != nil {
			t.Fatal(err)
		}
		<-p.gone
		stdout := p.stdout
		p.stdout = nil // kill closes it: of nil, that is an error
		group := p.cmd.Process.Pid
		if reused {
			p.cmd.Process.Pid = other.Process.Pid
		}
		p.kill()
		if reused {
			killRest(group)
		}
		io.Copy(io.Discard, stdout) // until what was left has ended
		stdout.Close()
	}
	other.Process.Signal(os.Interrupt)
	if err := other.Wait(); err == nil || err.Error() != "signal: interrupt" {
		t.Errorf("another's process: %v", err)
	}
}
