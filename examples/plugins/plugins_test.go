//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	owner  = 61001
	reader = 61002
	strace = "/usr/bin/strace"
)

// An install has fifty plugins and belongs to owner.
type install struct {
	*testing.T
	root string
}

func newInstall(t *testing.T) *install {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: not root, so it cannot become other users")
	}
	top, err := os.MkdirTemp("/tmp", "syscache-plugins-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	i := &install{t, top + "/app"}
	for n := range 50 {
		name := fmt.Sprintf("p%02d", n)
		i.write(name, fmt.Sprintf("name = %q\nversion = \"1\"\ncommands = [%q]\n", name, name+"-run"))
	}
	i.program("1")
	err = filepath.WalkDir(i.root, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, owner, owner))
	})
	if err = errors.Join(err, os.Chmod(top, 0o755)); err != nil {
		t.Fatal(err)
	}
	return i
}

// program installs the program with a version of derive.
func (i *install) program(version string) {
	i.Helper()
	dir := i.TempDir()
	text, err := os.ReadFile("derive.go")
	if err != nil {
		i.Fatal(err)
	}
	other := bytes.Replace(text, []byte(`deriveVersion = "1"`), []byte(`deriveVersion = "`+version+`"`), 1)
	here, _ := filepath.Abs("derive.go")
	overlay, _ := json.Marshal(map[string]any{"Replace": map[string]string{here: dir + "/derive.go"}})
	err = errors.Join(
		os.WriteFile(dir+"/derive.go", other, 0o644),
		os.WriteFile(dir+"/overlay.json", overlay, 0o644),
	)
	if err != nil {
		i.Fatal(err)
	}
	build := exec.Command("go", "build", "-overlay", dir+"/overlay.json", "-o", i.root+"/bin/plugins", ".")
	if out, err := build.CombinedOutput(); err != nil {
		i.Fatalf("%v\n%s", err, out)
	}
}

// write writes a plugin's manifest in place.
func (i *install) write(plugin, text string) {
	i.Helper()
	path := filepath.Join(i.root, pluginDir, plugin, manifest)
	err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	if err != nil {
		i.Fatal(err)
	}
}

func (i *install) command(uid uint32, name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return c
}

// run runs the program as a user.
func (i *install) run(uid uint32, args ...string) (code int, stdout, stderr string) {
	i.Helper()
	var out, errs bytes.Buffer
	c := i.command(uid, i.root+"/bin/plugins", args...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		i.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

// want runs the program and compares its output, where "..." stands for
// anything.
func (i *install) want(uid uint32, args string, code int, stdout, stderr string) {
	i.Helper()
	gotCode, gotOut, gotErr := i.run(uid, strings.Fields(args)...)
	if gotCode != code || !matches(gotOut, stdout) || !matches(gotErr, stderr) {
		i.Errorf("plugins %s: exit code %d\n%s%s-- want %d\n%s%s", args, gotCode, gotOut, gotErr, code, stdout, stderr)
	}
}

func matches(got, want string) bool {
	first, rest, found := strings.Cut(want, "...")
	if !found {
		return got == want
	}
	got, ok := strings.CutPrefix(got, first)
	for ok && found {
		first, rest, found = strings.Cut(rest, "...")
		if !found {
			return strings.HasSuffix(got, first)
		}
		_, got, ok = strings.Cut(got, first)
	}
	return ok
}

// postInstall runs it as root, as a package manager does.
func (i *install) postInstall(outcome string) {
	i.Helper()
	i.want(0, "post-install", 0, "", "plugins: "+outcome+": 50 plugins\n")
}

// opened returns how many manifests a user's list opens.
func (i *install) opened() int {
	i.Helper()
	if _, err := os.Stat(strace); err != nil {
		i.Skip("skipped: no " + strace)
	}
	out, err := i.command(reader, strace, "-f", "-e", "trace=open,openat,openat2", i.root+"/bin/plugins", "list").CombinedOutput()
	if err != nil {
		i.Fatalf("%v\n%s", err, out)
	}
	return strings.Count(string(out), "/"+manifest+`"`)
}

// onlyTable returns the path of the one generation's table.
func (i *install) onlyTable() string {
	i.Helper()
	paths, _ := filepath.Glob(i.root + "/var/cache/syscache/plugins/g/*/table")
	if len(paths) != 1 {
		i.Fatalf("%q", paths)
	}
	return paths[0]
}

// warning is what a reader is told whose cache is of no use.
func warning(why string) string {
	return "plugins: going without the cache: open plugins: " + why + "\nhint: who may write the install can run: plugins post-install\n"
}

func TestReadAndPostInstall(t *testing.T) {
	i := newInstall(t)
	const p07 = "p07 1: p07-run\n"
	i.want(reader, "list p07", 0, p07, "") // never built is no reason to warn
	if n := i.opened(); n != 50 {
		t.Errorf("without a cache %d manifests were opened", n)
	}
	i.postInstall("built")
	var st syscall.Stat_t
	if err := syscall.Stat(i.onlyTable(), &st); err != nil || st.Uid != owner {
		t.Errorf("root wrote as uid %d: %v", st.Uid, err)
	}
	i.want(reader, "list p07", 0, p07, "")
	i.want(reader, "which p07-run", 0, "p07\n", "")
	i.want(reader, "which p07", 1, "", "plugins: no plugin has the command \"p07\"\n")
	if n := i.opened(); n != 0 {
		t.Errorf("with the cache %d manifests were opened", n)
	}

	i.write("p07", "name = \"p07\"\nversion = \"2\"\ncommands = [\"walk\"]\n")
	stale := warning("stale: input lib/app/plugins/p07/plugin.toml changed since the last refresh")
	i.want(reader, "list p07", 0, "p07 2: walk\n", stale)
	i.want(reader, "which walk", 0, "p07\n", stale)
	i.want(reader, "which p07-run", 1, "", stale+"plugins: no plugin has the command \"p07-run\"\n")
	i.postInstall("built")
	i.want(reader, "which walk", 0, "p07\n", "")
	if n := i.opened(); n != 0 {
		t.Errorf("after the second post-install %d manifests were opened", n)
	}
	i.postInstall("unchanged")
}

// TestAgree: what the cache answers and what a reader derives is the same,
// also where a scan and a glob might see different things.
func TestAgree(t *testing.T) {
	i := newInstall(t)
	elsewhere := i.root + "/share/linked"
	err := errors.Join(
		os.MkdirAll(elsewhere, 0o755),
		os.WriteFile(elsewhere+"/"+manifest, []byte("name = \"linked\"\n"), 0o644),
		os.Symlink("../../../share/linked", filepath.Join(i.root, pluginDir, "linked")),
		os.WriteFile(filepath.Join(i.root, pluginDir, "README"), nil, 0o644),
	)
	if err != nil {
		t.Fatal(err)
	}
	i.write(".hidden", "name = \"hidden\"\n")
	i.write("private", "name = \"private\"\n")
	if err := os.Chmod(filepath.Join(i.root, pluginDir, "private", manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	_, derived, _ := i.run(reader, "list")
	i.want(0, "post-install", 0, "", "warning: plugins: left out \"lib/app/plugins/private/plugin.toml\": not readable by everyone\nplugins: built: 51 plugins\n")
	_, cached, _ := i.run(reader, "list")
	if derived != cached || !strings.Contains(cached, "p49") || strings.Contains(cached, "private") {
		t.Errorf("derived:\n%s\ncached:\n%s", derived, cached)
	}
}

func TestBuildVersion(t *testing.T) {
	i := newInstall(t)
	i.postInstall("built")
	i.postInstall("unchanged")
	i.program("2")
	i.postInstall("built")
	i.postInstall("unchanged")
}

// TestBuildError: a mistake in a manifest fails the build and is told; what
// was built stays, and no reader believes it.
func TestBuildError(t *testing.T) {
	i := newInstall(t)
	i.postInstall("built")
	before := i.onlyTable()
	good, err := os.ReadFile(filepath.Join(i.root, pluginDir, "p08", manifest))
	if err != nil {
		t.Fatal(err)
	}
	i.write("p08", "name = \"p07\"\n")
	const mistake = "lib/app/plugins/p08/plugin.toml: the name \"p07\" is that of lib/app/plugins/p07/plugin.toml\n"
	i.want(0, "post-install", 1, "", "plugins: build plugins: "+mistake)
	i.want(0, "post-install --hook", 0, "", "plugins: build plugins: "+mistake)
	i.want(reader, "list", 1, "", warning("stale: ...")+"plugins: "+mistake)
	if i.onlyTable() != before {
		t.Error("the old generation is gone")
	}
	i.write("p08", string(good))
	i.postInstall("recertified")
	i.want(reader, "which p08-run", 0, "p08\n", "")
}

// TestCorrupt: the last row is bad, and nothing of the rows before it must be
// printed twice.
func TestCorrupt(t *testing.T) {
	i := newInstall(t)
	i.postInstall("built")
	path := i.onlyTable()
	table, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(table, []byte(`"version":"1"`))
	table[at+11] = '9'
	if err := os.WriteFile(path, table, 0o644); err != nil {
		t.Fatal(err)
	}
	i.want(reader, "list p4", 0, "p40 1: p40-run\n...p49 1: p49-run\n",
		strings.Replace(warning("corrupt: ..."), "open", "scan", 1))
	if _, out, _ := i.run(reader, "list", "p4"); strings.Count(out, "\n") != 10 {
		t.Errorf("ten plugins:\n%s", out)
	}
	i.postInstall("built")
	i.want(reader, "list p49", 0, "p49 1: p49-run\n", "")
}

// TestOthers: what others configured and built is left alone, whatever is
// wrong with it.
func TestOthers(t *testing.T) {
	i := newInstall(t)
	other := i.root + "/var/cache/syscache/other/current"
	config := i.root + "/etc/syscache.toml"
	write := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write(other, "of another program")
	write(config, "[cache.other]\ninptus = []\n")
	err := filepath.WalkDir(i.root+"/var", func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, owner, owner))
	})
	if err != nil {
		t.Fatal(err)
	}
	i.postInstall("built")
	if text, err := os.ReadFile(other); err != nil || string(text) != "of another program" {
		t.Errorf("the other cache: %q, %v", text, err)
	}
	write(config, "[cache.plugins]\ninputs = [\"**\"]\n")
	i.want(0, "post-install", 1, "", "plugins: cache plugins is declared twice: by this program and in "+config+"\nhint: this program builds the cache itself: remove it there\n")
	i.want(reader, "which p07-run", 0, "p07\n", "")
}

// TestHookOfStranger: a hook says one line and exits 0, whatever happened.
func TestHookOfStranger(t *testing.T) {
	i := newInstall(t)
	code, stdout, stderr := i.run(reader, "post-install", "--hook")
	if code != 0 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "belongs to uid 61001") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}

func TestWatch(t *testing.T) {
	i := newInstall(t)
	i.postInstall("built")
	c := i.command(reader, i.root+"/bin/plugins", "watch")
	stdout, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill()
	defer time.AfterFunc(time.Minute, func() { c.Process.Kill() }).Stop()
	lines := bufio.NewScanner(stdout)
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("%q, want %q", lines.Text(), want)
		}
	}
	for n := range 50 {
		next(fmt.Sprintf("+ p%02d 1: p%02d-run", n, n))
	}
	// Renamed into its place, so that the watcher never sees half of it.
	dir := filepath.Join(i.root, pluginDir, "p07/")
	err = errors.Join(
		os.WriteFile(dir+"/new", []byte("name = \"p07\"\nversion = \"2\"\n"), 0o644),
		os.Rename(dir+"/new", dir+"/"+manifest),
	)
	if err != nil {
		t.Fatal(err)
	}
	next("- p07 1: p07-run")
	next("+ p07 2: ")
	i.postInstall("built")
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if lines.Scan() {
		t.Errorf("and then: %q", lines.Text())
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}
