//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// An outcome is how a program ended.
type outcome struct {
	Stdout, Stderr string
	Code           int
}

func run(t *testing.T, dir string, env []string, argv ...string) outcome {
	t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	c.Dir, c.Env, c.Stdout, c.Stderr = dir, env, &stdout, &stderr
	if err := c.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return outcome{stdout.String(), stderr.String(), c.ProcessState.ExitCode()}
}

// TestSameAsTheCommand asks the front and the command the same. Nobody can tell
// which has answered; but where the front is to, it does so without the command.
func TestSameAsTheCommand(t *testing.T) {
	programs := t.TempDir()
	if out, err := exec.Command("../../packaging/programs", programs).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	front, command := programs+"/bin/syscache", programs+"/libexec/syscache/syscache"
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/syscache.toml": "[cache.f]\ninputs = [\"lib/*\"]\nwitness = []\nkind = \"files\"\nbuild = [\"build\"]\n[cache.t]\ninputs = [\"lib/*\"]\nwitness = []\n[cache.old]\ninputs = [\"lib/*\"]\n",
		"build":             "#!/bin/sh\necho 1 >$SYSCACHE_OUT/x\n",
		"lib/-a":            "1", "lib/b": "2",
	} {
		if err := errors.Join(os.MkdirAll(root+"/etc", 0o755), os.MkdirAll(root+"/lib", 0o755), os.WriteFile(root+"/"+name, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if o := run(t, root, nil, command, "--root", root, "refresh"); o.Code != 0 {
		t.Fatal(o)
	}
	if o := run(t, root, nil, command, "--root", root, "invalidate", "old"); o.Code != 0 {
		t.Fatal(o)
	}
	caches := root + "/var/cache/syscache"
	all := []struct {
		alone bool // the front answers
		env   string
		args  []string
	}{
		{true, "", []string{"--root", root, "get", "t", "lib/b"}},
		{true, "", []string{"--root", ".", "get", "t", "lib/b"}},
		{true, "", []string{"--cache-dir", caches, "--root", root, "get", "t", "lib/b"}},
		{true, "", []string{"--root", "/nowhere", "--root", root, "get", "t", "lib/b"}},
		{true, "", []string{"--root", root, "path", "f"}},
		{true, "SYSCACHE_ROOT=" + root, []string{"get", "t", "lib/b"}},
		{true, "SYSCACHE_CACHE_DIR=/nowhere", []string{"--root", root, "--cache-dir", caches, "get", "t", "lib/b"}},
		{false, "SYSCACHE_CACHE_DIR=nowhere", []string{"--root", root, "get", "t", "lib/b"}},
		{false, "SYSCACHE_CACHE_DIR=/nowhere", []string{"--root", root, "get", "t", "lib/b"}},
		{false, "", []string{"--root", root, "get", "t", "lib/-a", "lib/b"}},
		{false, "", []string{"--root", root, "--json", "get", "t", "lib/b"}},
		{false, "", []string{"--root", root, "get", "t", "lib/b", "--json"}},
		{false, "", []string{"--root=" + root, "get", "t", "lib/b"}},
		{false, "", []string{"--root", "", "get", "t", "lib/b"}},
		{false, "", []string{"--root", root, "get", "t", "none"}},
		{false, "", []string{"--root", root, "get", "t", ""}},
		{false, "", []string{"--root", root, "get", "t", "-a"}},
		{false, "", []string{"--root", root, "get", "--", "t", "lib/b"}},
		{false, "", []string{"--root", root, "get", "f", "x"}},
		{false, "", []string{"--root", root, "get", "old", "lib/b"}},
		{false, "", []string{"--root", root, "get", "none", "lib/b"}},
		{false, "", []string{"--root", root, "get", "", "lib/b"}},
		{false, "", []string{"--root", root, "path", "t"}},
		{false, "", []string{"--root", root, "path"}},
		{false, "", []string{"--root", root, "status"}},
		{false, "", []string{"--root", "/nowhere", "get", "t", "lib/b"}},
		{false, "", []string{"--root"}},
		{false, "", []string{"version"}},
		{false, "", nil},
	}
	env := func(e string) []string { return append([]string{"PATH=/usr/bin:/bin", "HOME=/"}, e) }
	for _, c := range all {
		want := run(t, root, env(c.env), append([]string{command}, c.args...)...)
		got := run(t, root, env(c.env), append([]string{front}, c.args...)...)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s %q (-command +front):\n%s", c.env, c.args, d)
		}
	}
	if err := os.Remove(command); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		o := run(t, root, env(c.env), append([]string{front}, c.args...)...)
		if alone := o.Code == 0 && o.Stdout != "" && o.Stderr == ""; alone != c.alone {
			t.Errorf("%s %q: answered %v without the command: %+v", c.env, c.args, alone, o)
		}
		if !c.alone && (o.Code != 1 || strings.Count(o.Stderr, "\n") != 2 || !strings.Contains(o.Stderr, "\nhint: install all of syscache")) {
			t.Errorf("%s %q: %+v", c.env, c.args, o)
		}
	}
	if o := run(t, root, nil, front, "get", "t", "--hook"); o.Code != 1 {
		t.Errorf("a look-up is no hook: %+v", o)
	}
	for _, verb := range []string{"refresh", "invalidate"} {
		if o := run(t, root, nil, front, "--root", root, verb, "--hook"); o.Code != 0 || !strings.Contains(o.Stderr, "hint: install all") {
			t.Errorf("%s --hook without the command: %+v", verb, o)
		}
	}
}

// TestSlowReader: who reads from a pipe that does not block, and is slow, gets
// each byte of a value once.
func TestSlowReader(t *testing.T) {
	programs := t.TempDir()
	if out, err := exec.Command("../../packaging/programs", programs).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	root := t.TempDir()
	const n = 400_000
	for name, text := range map[string]string{
		"etc/syscache.toml": "[cache.t]\ninputs = [\"build\"]\nwitness = []\nbuild = [\"build\"]\n",
		"build":             fmt.Sprintf("#!/bin/sh\nprintf '{\"key\":\"k\",\"value\":\"'\nhead -c %d /dev/zero | /usr/bin/tr '\\0' x\nprintf '\"}'\n", n),
	} {
		if err := errors.Join(os.MkdirAll(root+"/etc", 0o755), os.WriteFile(root+"/"+name, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	front := programs + "/bin/syscache"
	if o := run(t, root, nil, front, "--root", root, "refresh"); o.Code != 0 {
		t.Fatal(o)
	}
	var ends [2]int
	if err := syscall.Pipe(ends[:]); err != nil {
		t.Fatal(err)
	}
	r, w := os.NewFile(uintptr(ends[0]), "pipe"), os.NewFile(uintptr(ends[1]), "pipe")
	defer r.Close()
	// After Command has taken it over: its own Fd would make it block again.
	c := exec.Command(front, "--root", root, "get", "t", "k")
	c.Stdout, c.Stderr = w, os.Stderr
	if err := errors.Join(syscall.SetNonblock(ends[1], true), c.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(iotest.HalfReader(r))
	if err = errors.Join(err, c.Wait()); err != nil || len(b) != n+3 {
		t.Errorf("%d bytes, %v, want %d", len(b), err, n+3)
	}
}
