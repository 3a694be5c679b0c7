// Package docs tests what the documents say.
package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestAdmin runs the recipes of ADMIN.md word for word: each in a copy of this
// machine that goes when it ends, where syscache's own package is installed.
func TestAdmin(t *testing.T) {
	require(t, "git", "dpkg", "dpkg-deb", "make", "unshare", "/usr/share/lmod/lmod/libexec/update_lmod_system_cache_files")
	text, err := os.ReadFile("ADMIN.md")
	if err != nil {
		t.Fatal(err)
	}
	deb := pack(t)
	recipes := recipesOf(t, string(text))
	if len(recipes) == 0 {
		t.Fatal("ADMIN.md has no recipe")
	}
	for _, r := range recipes {
		t.Run(r.title, func(t *testing.T) { r.run(t, deb) })
	}
}

// require skips the test unless suites are wanted, as `make suites` says, and
// it can run. In CI it must.
func require(t *testing.T, programs ...string) {
	t.Helper()
	if os.Getenv("SYSCACHE_SUITES") != "1" {
		t.Skip("skipped: slow: runs with SYSCACHE_SUITES=1")
	}
	why := ""
	if os.Geteuid() != 0 {
		why = "not root, so it can make no mounts and users"
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			why = "no " + p + " here; .ci/apt-packages lists what to install"
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

// pack builds syscache's own package.
func pack(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("../packaging/deb/build", t.TempDir())
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// A recipe is what stands below a heading of the second level: what to type,
// and what it prints.
type recipe struct {
	title string
	steps []step
}

type step struct {
	line    int
	command string
	want    string
}

// recipesOf returns the recipes of a document in Markdown: those sections that
// have blocks in sh. What a block prints is indented, right below it; without
// that it prints nothing.
func recipesOf(t *testing.T, text string) []recipe {
	t.Helper()
	var all []recipe
	var title string
	var block *step // that is being read
	typed := false  // by the reader: it is the block's command
	for i, line := range strings.Split(text, "\n") {
		switch {
		case typed && line == "```":
			typed = false
		case typed:
			block.command += line + "\n"
		case strings.HasPrefix(line, "## "):
			title, block = line[3:], nil
		case line == "```sh":
			if len(all) == 0 || all[len(all)-1].title != title {
				all = append(all, recipe{title: title})
			}
			r := &all[len(all)-1]
			r.steps = append(r.steps, step{line: i + 1})
			block, typed = &r.steps[len(r.steps)-1], true
		case strings.HasPrefix(line, "    ") && block != nil:
			block.want += line[4:] + "\n"
		case line != "":
			block = nil
		}
	}
	return all
}

// run runs a recipe's steps, each with a shell of its own, and compares what
// they print.
func (r *recipe) run(t *testing.T, deb string) {
	dir := t.TempDir()
	for i, s := range r.steps {
		if err := os.WriteFile(fmt.Sprintf("%s/%02d", dir, i), []byte(s.command), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere(t, filepath.Dir(deb), dir)
	for i, s := range r.steps {
		out, err := os.ReadFile(fmt.Sprintf("%s/%02d.out", dir, i))
		if err != nil {
			t.Fatal(err)
		}
		if code, _ := os.ReadFile(fmt.Sprintf("%s/%02d.code", dir, i)); string(code) != "0\n" {
			t.Fatalf("ADMIN.md:%d: exit %s%s", s.line, code, out)
		}
		if !printed(s.want).MatchString(normal(string(out))) {
			t.Errorf("ADMIN.md:%d: it prints\n%s\nwhere the document says\n%s", s.line, out, s.want)
		}
	}
}

// elsewhere runs the steps in dir in a copy of this machine: an overlay of all
// of it, with the recipes' own directories and nothing to do with the network or
// other processes.
func elsewhere(t *testing.T, debs, dir string) {
	t.Helper()
	const script = `set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/debs /mnt/steps
mount --bind "$1" /mnt/debs
mount --bind "$2" /mnt/steps
mkdir /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
cd /mnt/root
mount --rbind /dev dev
mount -t proc proc proc
mount -t tmpfs -o mode=1777 tmpfs tmp
for own in opt srv mnt run; do mount -t tmpfs -o mode=755 tmpfs $own; done
mkdir run/debs run/steps
mount --move /mnt/debs run/debs
mount --move /mnt/steps run/steps
mkdir run/old
pivot_root . run/old # no chroot: in one nobody may make user namespaces
cd /
umount -l run/old
umask 022
dpkg --install run/debs/*.deb >/run/log 2>&1 || { cat /run/log >&2; exit 1; }
useradd --create-home alice
for step in /run/steps/*; do
	(cd /root && exec sh -eu $step) >$step.out 2>&1 </dev/null && code=0 || code=$?
	echo $code >$step.code
	[ $code = 0 ] || break
done`
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh", debs, dir)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LC_ALL=C.UTF-8"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// varies are the parts of an output that another run prints differently: times,
// sizes, keys, and the spaces that align them.
var varies = regexp.MustCompile(`\b[0-9][0-9.]*m?s\b|\b[0-9][0-9.]* ([KM]i)?B\b|\b[0-9a-f]{7,64}\b|just now|[0-9]+ seconds? ago|` +
	`[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} UTC|  +`)

// printed returns what matches an output that the document shows, in which
// "..." stands for anything.
func printed(want string) *regexp.Regexp {
	want = regexp.QuoteMeta(normal(want))
	return regexp.MustCompile("^" + strings.ReplaceAll(want, `\.\.\.`, `(?s:.*)`) + "$")
}

func normal(output string) string {
	return varies.ReplaceAllString(strings.ReplaceAll(output, "\n\n", "\n"), "~")
}
