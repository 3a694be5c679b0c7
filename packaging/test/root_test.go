//go:build linux

package test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A manager is a package manager, and how to make it do things to a root. The
// functions return a command line.
type manager struct {
	kind         string // of its packages
	needs        []string
	prepare      func(t *testing.T, r *root)
	install      func(r *root, files ...string) []string // or upgrade, downgrade, reinstall
	remove       func(r *root, names ...string) []string // with all that belongs to them
	withoutHooks func(r *root, files ...string) []string
	pack         func(t *testing.T, dir, tree, name string) string // builds a package of tree
	noise        []string                                          // what it says itself on stderr

	built map[string]string // packages by what they are
}

// A root is a scratch root: a shell in /bin and, deliberately, no /dev and no
// /proc.
type root struct {
	manager *manager
	dir     string
	command string // to read with, from outside
}

// newRoot returns a root with an empty package database, where the caches are
// declared. When the test ends every byte of them is verified.
func newRoot(t *testing.T, m *manager) *root {
	t.Helper()
	r := newBareRoot(t, m)
	r.declare(t)
	return r
}

// declare declares, as the administrator, one more cache over demo's files, of
// the built-in kind: a witness of every input.
func (r *root) declare(t *testing.T) {
	t.Helper()
	write(t, r.path("etc/syscache.toml"), "[cache.demo-files]\ninputs = [\"opt/demo/**\"]\n")
}

// newBareRoot returns a root where no cache is declared.
func newBareRoot(t *testing.T, m *manager) *root {
	t.Helper()
	require(t, m.needs...)
	r := &root{m, tempDir(t), command(t)}
	write(t, r.path("etc/passwd"), "root:x:0:0::/:/bin/sh\n")
	write(t, r.path("etc/group"), "root:x:0:\n")
	write(t, r.path("var/log/.keep"), "")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	write(t, r.path("bin/busybox"), string(b))
	if err := os.Chmod(r.path("bin/busybox"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, applet := range []string{"sh", "rm"} {
		if err := os.Symlink("busybox", r.path("bin/"+applet)); err != nil {
			t.Fatal(err)
		}
	}
	if err := exec.Command("chroot", r.dir, "/bin/sh", "-c", ":").Run(); err != nil {
		t.Fatalf("no shell runs in a chroot (is busybox-static installed?): %v", err)
	}
	m.prepare(t, r)
	t.Cleanup(func() {
		if _, err := os.Lstat(r.path("var/cache/syscache")); err != nil {
			return
		}
		out, err := exec.Command(r.command, "--root", r.dir, "verify").CombinedOutput()
		if code := exitCode(err); code != 0 && code != 4 {
			t.Errorf("verify exits %d:\n%s", code, out)
		}
	})
	return r
}

// tempDir is t.TempDir for the other user too.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(shared, "root-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (r *root) path(rel string) string { return r.dir + "/" + rel }

// install, remove and run run the manager, which must succeed and be silent on
// stderr.
func (r *root) install(t *testing.T, files ...string) {
	t.Helper()
	r.run(t, r.manager.install(r, files...))
}

func (r *root) remove(t *testing.T, names ...string) {
	t.Helper()
	r.run(t, r.manager.remove(r, names...))
}

func (r *root) run(t *testing.T, argv []string) {
	t.Helper()
	r.runWith(t, condition{}, argv)
}

// A condition is what a manager is run under. The zero value is as usual.
type condition struct {
	env   []string // nil: ours
	umask string
}

func (r *root) runWith(t *testing.T, c condition, argv []string) {
	t.Helper()
	if stderr := r.exec(t, c, argv); stderr != "" {
		t.Errorf("%s says on stderr:\n%s", strings.Join(argv, " "), stderr)
	}
}

// exec runs argv, which must succeed, and returns its stderr without what the
// manager says of its own accord.
func (r *root) exec(t *testing.T, c condition, argv []string) string {
	t.Helper()
	if c.umask != "" {
		argv = append([]string{"/bin/sh", "-c", "umask " + c.umask + `; exec "$@"`, "sh"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = c.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(argv, " "), err, &stdout, &stderr)
	}
	var ours strings.Builder
	for line := range strings.Lines(stderr.String()) {
		if !r.isNoise(line) {
			ours.WriteString(line)
		}
	}
	return ours.String()
}

func (r *root) isNoise(line string) bool {
	for _, noise := range r.manager.noise {
		if strings.HasPrefix(line, noise) {
			return true
		}
	}
	return false
}

// nobody is a user who owns nothing here.
var nobody = &syscall.Credential{Uid: 65533, Gid: 65533}

// read runs the command on the root as another user and returns its standard
// output, less the newline, and its exit code.
func (r *root) read(t *testing.T, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(r.command, append([]string{"--root", r.dir}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}
	cmd.Env, cmd.Dir = []string{}, "/"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	code := exitCode(err)
	if code != 0 && stderr.Len() == 0 && args[0] != "status" {
		t.Errorf("%s exits %d without a reason", strings.Join(args, " "), code)
	}
	return strings.TrimSuffix(string(out), "\n"), code
}

// refresh runs an administrator's refresh from outside.
func (r *root) refresh(t *testing.T) {
	t.Helper()
	must(t, exec.Command(r.command, "--root", r.dir, "refresh"))
}

// exitCode returns the exit code of a command, or -1 if it was not run.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// A state is an exit code of status.
type state int

const (
	fresh state = 0
	stale state = 4 // or missing
)

func (r *root) state(t *testing.T, cache string) state {
	t.Helper()
	_, code := r.read(t, "status", cache)
	return state(code)
}

// The rows of the cache demo for the payload's versions.
var (
	version1 = map[string]string{"alpha": "alpha of version 1", "beta": "beta of version 1"}
	version2 = map[string]string{"alpha": "alpha of version 2", "zeta": "zeta of version 2"}
)

// wantFresh checks that the other user finds both caches fresh: demo with these
// rows and none of the payload's other ones.
func (r *root) wantFresh(t *testing.T, rows map[string]string) {
	t.Helper()
	for _, cache := range []string{"demo", "demo-files"} {
		if out, code := r.read(t, "status", cache); code != 0 {
			t.Errorf("status %s exits %d: %s", cache, code, out)
		}
	}
	for _, key := range []string{"alpha", "beta", "zeta"} {
		value, exists := rows[key]
		wantOut, wantCode := `"`+value+`"`, 0
		if !exists {
			wantOut, wantCode = "", 3
		}
		if out, code := r.read(t, "get", "demo", key); out != wantOut || code != wantCode {
			t.Errorf("get demo %s: %q, exit %d; want %q, exit %d", key, out, code, wantOut, wantCode)
		}
		wantCode = 0
		if !exists {
			wantCode = 3
		}
		if out, code := r.read(t, "get", "demo-files", "opt/demo/plugins/"+key); code != wantCode {
			t.Errorf("get demo-files %s: %q, exit %d; want exit %d", key, out, code, wantCode)
		}
	}
}

// wantStale checks that the other user is told, and given nothing.
func (r *root) wantStale(t *testing.T) {
	t.Helper()
	r.wantStaleCache(t, "demo")
	r.wantStaleCache(t, "demo-files")
}

func (r *root) wantStaleCache(t *testing.T, cache string) {
	t.Helper()
	if out, code := r.read(t, "status", cache); code != int(stale) {
		t.Errorf("status %s exits %d, want 4: %s", cache, code, out)
	}
	for _, key := range []string{"alpha", "beta", "zeta", "opt/demo/plugins/alpha"} {
		if out, code := r.read(t, "get", cache, key); out != "" || code != int(stale) {
			t.Errorf("get %s %s: %q, exit %d; want nothing, exit 4", cache, key, out, code)
		}
	}
}

// wantRefreshed checks that something makes a hook refresh.
func (r *root) wantRefreshed(t *testing.T, something func()) {
	t.Helper()
	must(t, exec.Command(r.command, "--root", r.dir, "invalidate"))
	r.wantStale(t)
	something()
	if s := r.state(t, "demo"); s != fresh {
		t.Error("no hook refreshed")
	}
}

// wantNothingOfOurs checks that nothing of syscache's is left but what is the
// administrator's or the payload's.
func (r *root) wantNothingOfOurs(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, r.dir+"/")
		if rel == "usr/lib/syscache.d" {
			return fs.SkipDir // the payload's
		}
		if strings.Contains(d.Name(), "syscache") && rel != "etc/syscache.toml" && path != r.dir {
			t.Errorf("%s is left", rel)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
