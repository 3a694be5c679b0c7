//go:build linux

package suites

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// mounted mounts something on a directory of its own that every user can reach,
// for the length of the test, and returns the directory.
func mounted(t *testing.T, args ...string) string {
	t.Helper()
	dir := mountPoint(t)
	mustRun(t, append(append([]string{"mount"}, args...), dir)...)
	if err := os.Chmod(dir, 0o755); err != nil && err.(*os.PathError).Err != unix.EROFS {
		t.Fatal(err)
	}
	return dir
}

// mountPoint returns a directory to mount something on, and unmounts it in the
// end.
func mountPoint(t *testing.T) string {
	t.Helper()
	dir := newDir(t)
	t.Cleanup(func() { unmount(dir) })
	return dir
}

// unmount unmounts dir, at once for all who look from now on.
func unmount(dir string) error { return unix.Unmount(dir, unix.MNT_DETACH) }

// newDir returns a directory that every user can reach.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "syscache-fs-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// diskSize is enough for a file system of any kind. The image is of holes.
const diskSize = 320 << 20

// disk returns an image of a disk on which mkfs made a file system.
func disk(t *testing.T, mkfs ...string) string {
	t.Helper()
	image := filepath.Join(newDir(t), "disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, diskSize); err != nil {
		t.Fatal(err)
	}
	mustRun(t, append(mkfs, image)...)
	return image
}

func mustRun(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", argv, err, out)
	}
}
