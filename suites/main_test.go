//go:build linux

// Package suites tests syscache as its users meet it: real processes of the
// real binary, several users, and the Python reader as a second opinion.
//
// Everything here needs root, to become other users. What takes long runs only
// with SYSCACHE_SUITES=1, as `make suites` sets it.
package suites

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// What every user can run, in a directory that every user can reach.
var (
	tool   string // syscache, as a package would ship it: the front
	whole  string // the command behind it
	python string // clients/python/syscache.py
	self   string // this test binary, which plays a part if partEnv says so
)

// partEnv names the part that this binary plays when a test runs it as another
// process.
const partEnv = "SUITES_PART"

var parts = map[string]func(args []string) error{}

func TestMain(m *testing.M) {
	if part := os.Getenv(partEnv); part != "" {
		if err := parts[part](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, part+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if why := cannotRun(); why != "" {
		fmt.Println("skipped: " + why)
		if os.Getenv("CI") == "true" {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(apart) == "" {
		fmt.Fprintln(os.Stderr, "suites:", goApart())
		os.Exit(1)
	}
	os.Exit(withPrograms(m.Run))
}

// apart is set where this runs in a mount namespace of its own: whatever tests
// mount, nobody else sees it, and it is gone with them, even if they are killed.
const apart = "SUITES_APART"

// goApart begins again, apart. It returns only if it cannot.
func goApart() error {
	os.Setenv(apart, "1")
	argv := append([]string{"unshare", "--mount", "--propagation", "private"}, os.Args...)
	return syscall.Exec("/usr/bin/unshare", argv, os.Environ())
}

// cannotRun says why the suites cannot run here, "" if they can.
func cannotRun() string {
	if os.Geteuid() != 0 {
		return "not root, so it cannot become other users"
	}
	for _, program := range []string{"/usr/bin/python3", "/usr/bin/strace", "/usr/bin/setpriv", "/usr/bin/unshare", "tar", "setcap"} {
		if _, err := exec.LookPath(program); err != nil {
			return "no " + program
		}
	}
	return ""
}

// withPrograms runs f with the programs in place.
func withPrograms(f func() int) int {
	dir, err := os.MkdirTemp("/tmp", "syscache-suites-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = install(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "suites:", err)
		return 1
	}
	return f()
}

func install(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	whole = dir + "/libexec/syscache/syscache"
	tool, python, self = dir+"/bin/syscache", dir+"/syscache.py", dir+"/suites.test"
	build := exec.Command("../packaging/programs", dir)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build syscache: %w", err)
	}
	me, err := os.Executable()
	if err != nil {
		return err
	}
	for from, to := range map[string]string{me: self, "../clients/python/syscache.py": python} {
		if err := copyFile(from, to); err != nil {
			return err
		}
	}
	return os.Chmod(tool, 0o755)
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	return dst.Chmod(0o755)
}

// slow leaves a test to `make suites`.
func slow(t *testing.T) {
	t.Helper()
	if os.Getenv("SYSCACHE_SUITES") != "1" {
		t.Skip("skipped: slow: runs with SYSCACHE_SUITES=1")
	}
}

func base(path string) string { return filepath.Base(path) }
