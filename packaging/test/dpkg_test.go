//go:build linux

package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var dpkg = &manager{
	kind:  "deb",
	needs: []string{"dpkg", "dpkg-deb", "busybox"},
	built: map[string]string{},

	prepare: func(t *testing.T, r *root) {
		for _, dir := range []string{"info", "updates", "triggers"} {
			if err := os.MkdirAll(r.path("var/lib/dpkg/"+dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		write(t, r.path("var/lib/dpkg/status"), "")
	},
	install: func(r *root, files ...string) []string {
		return dpkgCommand(r, append([]string{"--install"}, files...)...)
	},
	remove: func(r *root, names ...string) []string {
		return dpkgCommand(r, append([]string{"--purge"}, names...)...)
	},
	withoutHooks: func(r *root, files ...string) []string {
		return dpkgCommand(r, append([]string{"--no-triggers", "--install"}, files...)...)
	},
	pack: func(t *testing.T, dir, tree, name string) string {
		write(t, tree+"/DEBIAN/control", "Package: "+name+"\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: files\n")
		deb := filepath.Join(dir, name+".deb")
		must(t, exec.Command("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, deb))
		return deb
	},
	noise: []string{"dpkg: warning: downgrading ", "dpkg: warning: while removing "},
}

// dpkgCommand keeps the host's log and its dpkg.cfg's idea of one out of it.
func dpkgCommand(r *root, args ...string) []string {
	return append([]string{"dpkg", "--root=" + r.dir, "--log=" + r.path("var/log/dpkg.log")}, args...)
}

// A run that defers triggers leaves them to a later one, which may be another
// program's: apt's, say.
func TestDpkgPendingTriggers(t *testing.T) {
	r := newRoot(t, dpkg)
	r.install(t, dpkg.tool(t, "1.0"), dpkg.demo(t, "1"))
	r.run(t, dpkg.withoutHooks(r, dpkg.demo(t, "2")))
	r.wantStale(t)
	r.wantInstalled(t, "demo") // it does not wait for the trigger
	r.run(t, dpkgCommand(r, "--configure", "--pending"))
	r.wantFresh(t, version2)
}

// The paths in the package's triggers are compared with what packages ship, not
// with what that leads to.
func TestDpkgUnmergedLib(t *testing.T) {
	r := newRoot(t, dpkg)
	r.install(t, dpkg.tool(t, "1.0"), dpkg.demo(t, "1"))
	r.wantRefreshed(t, func() { r.install(t, dpkg.files(t, "lib", "/lib/syscache.d/x.toml")) })
}

// With --force-script-chrootless maintainer scripts run outside of the root
// and are told where it is.
func TestDpkgChrootless(t *testing.T) {
	r := newRoot(t, dpkg)
	outside := r.path("bin") // without a shell no chroot can run anything
	if err := os.RemoveAll(outside); err != nil {
		t.Fatal(err)
	}
	do := func(args ...string) {
		t.Helper()
		r.run(t, dpkgCommand(r, append([]string{"--force-script-chrootless"}, args...)...))
	}
	do("--install", dpkg.tool(t, "1.0"), dpkg.demo(t, "1"))
	r.wantFresh(t, version1)
	do("--install", dpkg.demo(t, "2"))
	r.wantFresh(t, version2)
	do("--purge", "syscache")
	r.wantNothingOfOurs(t)
}

// After "remove" the cache is still there, but nobody refreshes it any more.
// Where the removal is aborted, dpkg says so to postinst.
func TestDpkgRemoveWithoutPurge(t *testing.T) {
	r := newRoot(t, dpkg)
	r.install(t, dpkg.tool(t, "1.0"), dpkg.demo(t, "1"))
	maintainerScript := func(name, arg string) {
		t.Helper()
		// No environment at all: not even PATH.
		r.runWith(t, condition{env: []string{}}, []string{"/usr/sbin/chroot", r.dir, "/var/lib/dpkg/info/syscache." + name, arg})
	}
	maintainerScript("prerm", "remove")
	r.wantStale(t)
	maintainerScript("postinst", "abort-remove")
	r.wantFresh(t, version1)
	maintainerScript("prerm", "upgrade")
	r.wantFresh(t, version1)
	r.run(t, dpkgCommand(r, "--remove", "syscache"))
	r.wantStale(t)
	r.run(t, dpkgCommand(r, "--purge", "syscache"))
	r.wantNothingOfOurs(t)
}

// With a command that cannot be run, dpkg still configures and goes on to fire
// triggers.
func TestDpkgBrokenCommand(t *testing.T) {
	r := newRoot(t, dpkg)
	r.install(t, dpkg.tool(t, "1.0"), dpkg.demo(t, "1"))
	write(t, r.path("usr/bin/syscache"), "")
	stderr := r.exec(t, condition{}, dpkg.install(r, dpkg.demo(t, "2")))
	if !strings.Contains(stderr, "/usr/bin/syscache") {
		t.Errorf("stderr %q does not name the command", stderr)
	}
	r.wantStale(t)
	r.wantInstalled(t, "syscache", "demo")
	r.install(t, dpkg.tool(t, "1.0"))
	r.wantFresh(t, version2)
}

// wantInstalled checks that the packages are installed, not half configured.
func (r *root) wantInstalled(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		out, _ := exec.Command("dpkg-query", "--admindir="+r.path("var/lib/dpkg"), "-f", "${Status}", "-W", name).Output()
		if string(out) != "install ok installed" {
			t.Errorf("package %s: %s", name, out)
		}
	}
}

// must runs a command that has to succeed.
func must(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, &stderr)
	}
	return string(out)
}
