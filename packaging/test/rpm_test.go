//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var rpm = &manager{
	kind:  "rpm",
	needs: []string{"rpm", "rpmbuild", "busybox"},
	built: map[string]string{},

	prepare: func(t *testing.T, r *root) {
		// The scriptlets' shell has to be somebody's, or nothing installs.
		r.install(t, r.manager.once(t, "base", func(dir string) string {
			return rpmPack(t, dir, t.TempDir(), "base", "Provides: /bin/sh")
		}))
	},
	// --oldpackage: downgrades too. --replacepkgs: and reinstalls.
	install: func(r *root, files ...string) []string {
		return rpmCommand(r, append([]string{"--upgrade", "--oldpackage", "--replacepkgs"}, files...)...)
	},
	remove: func(r *root, names ...string) []string {
		return rpmCommand(r, append([]string{"--erase"}, names...)...)
	},
	// --noscripts alone would do: --notriggers stops no file triggers.
	withoutHooks: func(r *root, files ...string) []string {
		return append(r.manager.install(r, files...), "--noscripts", "--notriggers")
	},
	pack: func(t *testing.T, dir, tree, name string) string { return rpmPack(t, dir, tree, name, "") },
}

// rpmCommand names the database, which in Debian's rpm is in $HOME, and
// silences Debian's advice to use dpkg.
func rpmCommand(r *root, args ...string) []string {
	cmd := []string{"rpm", "--root", r.dir, "--dbpath", "/var/lib/rpm"}
	if _, err := os.Stat("/etc/debian_version"); err == nil {
		cmd = append(cmd, "--force-debian")
	}
	return append(cmd, args...)
}

// rpmPack builds a package of the files in tree, with another line in its
// preamble.
func rpmPack(t *testing.T, dir, tree, name, preamble string) string {
	top := t.TempDir()
	var files strings.Builder
	for _, path := range regularFiles(t, tree) {
		fmt.Fprintln(&files, path)
	}
	spec := filepath.Join(top, name+".spec")
	write(t, spec, fmt.Sprintf(`Name: %s
Version: 1
Release: 1
Summary: files
License: none
BuildArch: noarch
AutoReqProv: no
%s
%%description
Files.
%%install
mkdir -p %%{buildroot}
cp -R %s/. %%{buildroot}
%%files
%s`, name, preamble, tree, &files))
	must(t, exec.Command("rpmbuild", "-bb", "--quiet", "--target", "noarch",
		"--define", "_topdir "+top, "--define", "_dbpath "+top+"/db", "--define", "_rpmdir "+dir,
		"--define", "_rpmfilename %{NAME}.rpm", "--define", "__os_install_post %{nil}", spec))
	return filepath.Join(dir, name+".rpm")
}

// regularFiles lists the files in tree, as paths from its top.
func regularFiles(t *testing.T, tree string) []string {
	var files []string
	err := filepath.WalkDir(tree, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, strings.TrimPrefix(path, tree))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// rpm writes the names of matching files to the trigger's standard input, which
// nobody reads: more than a pipe holds must not stop it.
func TestRpmManyFiles(t *testing.T) {
	r := newRoot(t, rpm)
	r.install(t, rpm.tool(t, "1.0"), rpm.demo(t, "1"))
	var paths []string
	for i := range 2000 {
		paths = append(paths, fmt.Sprintf("/opt/demo/plugins/%0100d", i))
	}
	r.install(t, rpm.files(t, "many", paths...))
	if state := r.state(t, "demo-files"); state != fresh {
		t.Errorf("demo-files is %v", state)
	}
	// Their first lines are empty, which the builder takes as they are.
	r.wantFresh(t, version1)
}
