//go:build unix

package hashing

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// deep makes a chain of directories below dir, each with a file and, beside the
// next, a directory with another; by descriptors, since paths get too long.
func deep(t *testing.T, dir, name string, levels int) {
	fd, err := openat(unix.AT_FDCWD, dir, unix.O_RDONLY)
	check(t, err)
	put := func(fd int, name string) {
		f, err := unix.Openat(fd, name, unix.O_CREAT|unix.O_WRONLY, 0o644)
		check(t, err)
		check(t, unix.Close(f))
	}
	for range levels {
		put(fd, "file")
		check(t, unix.Mkdirat(fd, "side", 0o755))
		put(fd, "side/file")
		check(t, unix.Mkdirat(fd, name, 0o755))
		next, err := openDir(fd, name)
		check(t, err)
		check(t, unix.Close(fd))
		fd = next
	}
	check(t, unix.Close(fd))
}

// TestScanDeep: deeper than there are descriptors; on the way up every level
// must be opened again, "side" sorting after "de".
func TestScanDeep(t *testing.T) {
	const levels = 1000
	root := plant(t)
	deep(t, root, "de", levels)
	var limit unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	low := limit
	low.Cur = 256
	check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	tree := scan(t, Scan{Root: root, Include: []string{"**"}})
	if len(tree.Files) != 2*levels || len(tree.Dirs) != 2*levels+1 || len(tree.Left) != 0 {
		t.Errorf("%d files, %d directories, %d left", len(tree.Files), len(tree.Dirs), len(tree.Left))
	}
	check(t, (&Manifest{Inputs: tree.Manifest()}).Check())
}

// TestScanTooDeep: what no reader could name by its path is left out and told.
func TestScanTooDeep(t *testing.T) {
	root := plant(t)
	deep(t, root, strings.Repeat("x", 250), 270)
	tree := scan(t, Scan{Root: root, Include: []string{"**"}})
	check(t, (&Manifest{Inputs: tree.Manifest()}).Check())
	if len(tree.Files) < 30 || len(tree.Left) == 0 || !strings.Contains(tree.Left[0].Reason, "3840 bytes") {
		t.Errorf("%d files, left %v", len(tree.Files), tree.Left)
	}
}
