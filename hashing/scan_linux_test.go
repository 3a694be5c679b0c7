package hashing

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestScanSwappedDirectory: somebody swaps a directory for a symbolic link to
// one outside, as fast as they can. None of what lies there may be read.
func TestScanSwappedDirectory(t *testing.T) {
	t.Parallel()
	outside := plant(t, "d/secret", "d/e/secret")
	root := plant(t, "a/d/inside", "a/d/e/inside", "a/swap -> "+outside+"/d", "a/z -> z")
	stop := make(chan struct{})
	swapped := make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				swapped <- n
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, root+"/a/d", unix.AT_FDCWD, root+"/a/swap", unix.RENAME_EXCHANGE)
			}
		}
	}()
	scans, complete := 0, 0
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); scans++ {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		// A clock that never waits: more looks in the time that there is.
		tree, err := Scan{Root: root, Include: []string{"**"}, clock: clock{now: preciseNow, granularity: -future}}.Run(ctx)
		cancel()
		if err != nil {
			if !errors.Is(err, ErrChanging) && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			continue
		}
		complete++
		for _, f := range tree.Files {
			if strings.HasSuffix(f.Path, "secret") {
				t.Fatalf("it read %s", f.Path)
			}
		}
	}
	close(stop)
	n := <-swapped
	t.Logf("%d scans, %d complete; %d swaps", scans, complete, n)
	if n < 100 || scans < 10 {
		t.Errorf("%d swaps, %d scans: the test shows little", n, scans)
	}
}

func TestScanStaysOnItsFileSystem(t *testing.T) {
	root := plant(t, "file", "mnt/")
	if err := unix.Mount("none", root+"/mnt", "tmpfs", 0, ""); err != nil {
		t.Skip("skipped: needs the right to mount: ", err)
	}
	defer unix.Unmount(root+"/mnt", unix.MNT_DETACH)
	check(t, os.WriteFile(root+"/mnt/file", nil, 0o644))
	tree := scan(t, Scan{Root: root, Include: []string{"**", "mnt/file"}})
	if files, dirs := paths(tree); !slices.Equal(files, []string{"file"}) || !slices.Equal(dirs, []string{""}) {
		t.Errorf("files %q, directories %q", files, dirs)
	}
	if want := []Left{{"mnt", "on another file system"}}; !slices.Equal(tree.Left, want) {
		t.Errorf("left %v, want %v", tree.Left, want)
	}
}

func TestScanLeavesDevices(t *testing.T) {
	root := plant(t)
	if err := unix.Mknod(root+"/device", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Skip("skipped: needs the right to make a device: ", err)
	}
	tree := scan(t, Scan{Root: root, Include: []string{"*"}})
	if want := []Left{{"device", "a device"}}; len(tree.Files) != 0 || !slices.Equal(tree.Left, want) {
		t.Errorf("files %v, left %v", tree.Files, tree.Left)
	}
}
