package witness

import (
	"errors"
	"fmt"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// CheckStats returns nil if every directory and file in stats still has its
// identity, else an error that names the first that has not. The error wraps
// format.ErrCorrupt if stats cannot be read.
func CheckStats(root string, stats format.Stats) error {
	var why error
	for d, err := range stats.All() {
		if err != nil {
			return err
		}
		if why == nil { // the rest is read all the same: corrupt goes before stale
			why = checkDir(root, &d)
		}
	}
	return why
}

func checkDir(root string, d *format.StatDir) error {
	// One descriptor a directory: the kernel then resolves each name in one
	// step instead of from the root.
	full := format.Join(root, d.Path)
	if d.Path == "" {
		full += "/." // the root itself may be reached through a symbolic link
	}
	fd, err := openPath(full)
	if err != nil {
		return fmt.Errorf("directory %s: %w", format.Show(d.Path), err)
	}
	defer unix.Close(fd)
	if d.Check {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return fmt.Errorf("directory %s: %w", format.Show(d.Path), err)
		}
		if err := compare(&st, d.ID); err != nil {
			return fmt.Errorf("directory %s %w", format.Show(d.Path), err)
		}
	}
	for i := range d.Files {
		f := &d.Files[i]
		var st unix.Stat_t
		err := unix.Fstatat(fd, f.Name, &st, unix.AT_SYMLINK_NOFOLLOW)
		for err == unix.EINTR {
			err = unix.Fstatat(fd, f.Name, &st, unix.AT_SYMLINK_NOFOLLOW)
		}
		if err == nil {
			err = compare(&st, f.ID)
		}
		switch {
		case absent(err):
			return fmt.Errorf("input %s is gone", format.Show(join(d.Path, f.Name)))
		case err != nil:
			return fmt.Errorf("input %s %w", format.Show(join(d.Path, f.Name)), err)
		}
	}
	return nil
}

// ErrUncertain is why an input without an identity contradicts: when it was read,
// a clock was wrong, or the file system has no times that mean anything. A refresh
// alone may find it so again.
var ErrUncertain = errors.New("has times that certified nothing when it was refreshed: 0, in the future, or an image's")

func compare(st *unix.Stat_t, want format.Identity) error {
	switch {
	case want == format.Identity{}:
		return ErrUncertain
	case format.IdentityOf(st) != want:
		return fmt.Errorf("changed since the last refresh")
	}
	return nil
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func openPath(path string) (int, error) {
	for {
		fd, err := unix.Open(path, openDirectory, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
