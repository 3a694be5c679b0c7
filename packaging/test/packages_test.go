//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// epoch is the SOURCE_DATE_EPOCH of all packages built here.
const epoch = "1700000000"

// shared holds what the tests build once: the command and the packages.
var shared string

func TestMain(m *testing.M) {
	// What the tests make must be readable by the other user, whatever the
	// umask of whoever runs them.
	syscall.Umask(0o022)
	code, err := func() (int, error) {
		var err error
		if shared, err = os.MkdirTemp("", "syscache-packaging-"); err != nil {
			return 0, err
		}
		defer os.RemoveAll(shared)
		if err := os.Chmod(shared, 0o755); err != nil { // the other user reads here
			return 0, err
		}
		return m.Run(), nil
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// require skips the test unless suites are wanted, as `make suites` says, and
// it runs as root and the tools are there. In CI the last two are failures.
func require(t *testing.T, tools ...string) {
	t.Helper()
	if os.Getenv("SYSCACHE_SUITES") == "" {
		t.Skip("skipped: it takes a minute; SYSCACHE_SUITES=1 or make suites runs it")
	}
	why := ""
	if os.Geteuid() != 0 {
		why = "not root, so no chroot and no other user"
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			why = "no " + tool + " here; .ci/apt-packages lists what to install"
		}
	}
	switch {
	case why == "":
	case os.Getenv("CI") != "":
		t.Fatalf("in CI nothing is skipped: %s", why)
	default:
		t.Skip("skipped: " + why)
	}
}

// programs builds the programs as packages have them, once.
var programs = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(shared, "programs")
	if out, err := exec.Command("../programs", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("programs: %w\n%s", err, out)
	}
	return dir, nil
})

// built returns the directory that programs has filled.
func built(t *testing.T) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func command(t *testing.T) string {
	t.Helper()
	return built(t) + "/bin/syscache"
}

// script runs a build script and returns the path that it prints.
func script(t *testing.T, path string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(append(os.Environ(), "SOURCE_DATE_EPOCH="+epoch), env...)
	cmd.Stderr = new(strings.Builder)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", path, strings.Join(args, " "), err, cmd.Stderr)
	}
	return strings.TrimSpace(string(out))
}

// tool builds the package of the command at a version.
func (m *manager) tool(t *testing.T, version string) string {
	return m.once(t, "tool "+version, func(dir string) string {
		return script(t, "../"+m.kind+"/build", []string{"VERSION=" + version, "PROGRAMS=" + built(t)}, dir)
	})
}

// demo builds a version of the payload: 1, 2, or 3, whose cache cannot be
// built.
func (m *manager) demo(t *testing.T, version string) string {
	return m.once(t, "demo "+version, func(dir string) string {
		return script(t, "demo/build", nil, m.kind, dir, "demo", version)
	})
}

// plugin builds a package that adds a file to the payload's inputs.
func (m *manager) plugin(t *testing.T, name string) string {
	return m.once(t, "plugin "+name, func(dir string) string {
		return script(t, "demo/build", nil, m.kind, dir, "plugin", name)
	})
}

// files builds a package of nothing but empty files, which registers nothing.
func (m *manager) files(t *testing.T, name string, paths ...string) string {
	return m.once(t, "files "+name, func(dir string) string {
		tree := filepath.Join(t.TempDir(), "tree")
		for _, path := range paths {
			write(t, tree+path, "")
		}
		return m.pack(t, dir, tree, name)
	})
}

// once builds a package the first time that it is asked for.
func (m *manager) once(t *testing.T, what string, build func(dir string) string) string {
	t.Helper()
	if m.built[what] == "" {
		dir := filepath.Join(shared, m.kind)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		m.built[what] = build(dir)
	}
	return m.built[what]
}

// write writes a file and the directories above it.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
