//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// python is Debian's: its libraries are packages too.
const python = "/usr/bin/python3"

// Each peer tells its version, or is not there.
var versions = []struct {
	name    string
	command []string
}{
	{"tinycdb", []string{"dpkg-query", "-W", "-f", "${Version}", "tinycdb"}},
	{"sqlite3", []string{"sqlite3", ":memory:", "select sqlite_version()"}},
	{"python3", []string{python, "--version"}},
	{"python3-lmdb", []string{python, "-Ic", "import lmdb; print(lmdb.__version__, 'LMDB', lmdb.version())"}},
	{"b3sum", []string{"b3sum", "--version"}},
	{"git", []string{"git", "--version"}},
	{"find", []string{"find", "--version"}},
}

// machine prints what was measured on, and with whom.
func (b *bench) machine() {
	var u unix.Utsname
	unix.Uname(&u)
	fmt.Fprintf(b.out, "- machine: %s, %d CPUs, Linux %s, %s\n",
		cpu(), runtime.NumCPU(), unix.ByteSliceToString(u.Release[:]), fileSystem(b.dir))
	fmt.Fprintf(b.out, "- Go: %s; bbolt %s\n", strings.TrimPrefix(runtime.Version(), "go"), moduleVersion("go.etcd.io/bbolt"))
	for _, v := range versions {
		out, err := exec.Command(v.command[0], v.command[1:]...).Output()
		line, _, _ := strings.Cut(string(out), "\n")
		if err != nil || line == "" {
			line = "not installed"
		}
		fmt.Fprintf(b.out, "- %s: %s\n", v.name, strings.TrimPrefix(strings.TrimPrefix(line, v.name+" "), "Python "))
	}
	fmt.Fprintf(b.out, "- each side %d times in turn: median (least..most)\n\n", b.runs)
}

func cpu() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, found := strings.CutPrefix(s.Text(), "model name"); found {
			return strings.TrimLeft(name, "\t :")
		}
	}
	return runtime.GOARCH
}

func fileSystem(dir string) string {
	out, err := exec.Command("df", "--output=fstype", dir).Output()
	fields := strings.Fields(string(out)) // a heading first
	if err != nil || len(fields) != 2 {
		return "an unknown file system"
	}
	return fields[1]
}

func moduleVersion(path string) string {
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}

// lacks returns name if there is no such program, for peer.missing.
func lacks(program, name string) string {
	if _, err := exec.LookPath(program); err != nil {
		return name
	}
	return ""
}

// lacksModule is lacks of a module of Python's.
func lacksModule(module, name string) string {
	if exec.Command(python, "-Ic", "import "+module).Run() != nil {
		return name
	}
	return ""
}

// command runs a program whose output nobody wants. What it complains of goes
// where our own does: a pipe would be part of what is measured.
func command(name string, args ...string) error {
	c := exec.Command(name, args...)
	c.Stderr = os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(c.Args, " "), err)
	}
	return nil
}

// told runs c, which is no quiet one; its error has what c said of it.
func told(c *exec.Cmd) error {
	var complaint strings.Builder
	c.Stderr = &complaint
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, complaint.String())
	}
	return nil
}
