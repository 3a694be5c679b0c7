//go:build linux

package suites

import (
	"os"
	"os/exec"
	"testing"
)

// A fileSystem is one that installs lie on.
type fileSystem struct {
	name  string
	needs string // a program
	mount func(t *testing.T) (dir string)
	not   string // a test that means nothing there
}

var fileSystems = []fileSystem{
	{"ext4", "mkfs.ext4", onDisk("mkfs.ext4", "-q"), ""},
	{"xfs", "mkfs.xfs", onDisk("mkfs.xfs", "-q"), ""},
	{"btrfs", "mkfs.btrfs", onDisk("mkfs.btrfs", "-q"), ""},
	{"tmpfs", "mount", func(t *testing.T) string { return mounted(t, "-t", "tmpfs", "tmpfs") }, ""},
	{"overlayfs", "mount", func(t *testing.T) string { return newOverlay(t, newDir(t)).dir }, ""},
	// The kernel knows as the lock's holder who serves the file system.
	{"fuse", "mount", func(t *testing.T) string { return newFUSE(t, newDir(t), 0).dir }, "TestHeldLock"},
}

func onDisk(mkfs ...string) func(t *testing.T) string {
	return func(t *testing.T) string {
		t.Helper()
		return mounted(t, "-o", "loop", disk(t, mkfs...))
	}
}

// everywhere is what is tested on each of them: that a change is noticed, that
// nothing is torn, lost or left behind, and who may do what.
var everywhere = []struct {
	name string
	test func(t *testing.T)
}{
	{"TestEveryChangeIsNoticedAtOnce", TestEveryChangeIsNoticedAtOnce},
	{"TestWitnessMovedAlone", TestWitnessMovedAlone},
	{"TestSquall", TestSquall},
	{"TestKilledNowAndThen", TestKilledNowAndThen},
	{"TestOutputsAreNotTheBuilders", TestOutputsAreNotTheBuilders},
	{"TestReadOnlyOutputDirectories", TestReadOnlyOutputDirectories},
	{"TestRefreshAgainWritesNothing", TestRefreshAgainWritesNothing},
	{"TestHeldLock", TestHeldLock},
	{"TestInvalidateDuringABuild", TestInvalidateDuringABuild},
	{"TestOvertakenEachTime", TestOvertakenEachTime},
	{"TestRenamedRoot", TestRenamedRoot},
	{"TestReadersOnlyRead", TestReadersOnlyRead},
	{"TestNobodyElseCanDamageOrDelay", TestNobodyElseCanDamageOrDelay},
}

// What holds on the machine's own disk holds on every file system. One that is
// not here is tested by SUITES_DIR, a directory on it.
func TestFileSystems(t *testing.T) {
	slow(t)
	for _, fs := range fileSystems {
		t.Run(fs.name, func(t *testing.T) {
			needs(t, fs.needs)
			on(t, fs.mount(t))
			for _, one := range everywhere {
				if one.name != fs.not {
					t.Run(one.name, one.test)
				}
			}
		})
	}
}

// on has all installs of a test made in dir.
func on(t *testing.T, dir string) {
	before := parent
	parent = dir
	t.Cleanup(func() { parent = before })
}

// needs skips a test that needs a program which is not here.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		lacking(t, program)
	}
}

// lacking ends a test for want of something, which in CI there must be.
func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("no " + what)
	}
	t.Skip("skipped: no " + what)
}

// An overlay shows what is written to upper over lower.
type overlay struct{ dir, lower, upper string }

// newOverlay mounts an overlay whose layers are on two file systems, as those of
// containers and live images are.
func newOverlay(t *testing.T, lower string) overlay {
	t.Helper()
	top := mounted(t, "-t", "tmpfs", "tmpfs")
	mustRun(t, "mkdir", "-m", "755", top+"/upper", top+"/work")
	options := "lowerdir=" + lower + ",upperdir=" + top + "/upper,workdir=" + top + "/work"
	return overlay{mounted(t, "-t", "overlay", "-o", options, "overlay"), lower, top + "/upper"}
}
