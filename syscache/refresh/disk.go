package refresh

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/syscache/syscache/internal/unix"
)

// A disk is every operation by which a refresh changes anything. There is the
// real one, and in tests one that fails or stops at the i-th operation.
//
// Modes are exact, whatever the umask (I11). Nothing is durable before Sync
// on the file and SyncDir on every directory that names it.
type disk interface {
	Mkdir(path string, mode fs.FileMode) error
	// Create makes a new file, private until Chmod. A name that exists is an
	// error.
	Create(path string) (file, error)
	Symlink(target, path string) error
	Link(from, to string) error // to another name, which must be new
	Rename(from, to string) error
	// Exchange has each name what the other did, in one step. It may be
	// unsupported.
	Exchange(a, b string) error
	Chmod(path string, mode fs.FileMode) error // of a directory
	Chown(path string, gid uint32) error       // to a group
	Remove(path string) error                  // a file, or an empty directory
	SyncDir(path string) error
}

// A file is a file that Create made.
type file interface {
	io.Writer
	io.WriterAt
	Chmod(mode fs.FileMode) error
	Sync() error
	Close() error
}

// private is the mode of what only a refresher reads.
const private = 0o600

type realDisk struct{}

func (realDisk) Mkdir(path string, mode fs.FileMode) error {
	// With the mode from the start: readers look into the cache's directory as
	// soon as it is there.
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode) // a umask may have taken from it
}

func (realDisk) Create(path string) (file, error) {
	// Through an interface only where err is nil: a nil *os.File is no nil
	// file.
	f, err := unix.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, private)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(private); err != nil { // a umask may have taken from it
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (realDisk) Symlink(target, path string) error { return os.Symlink(target, path) }

func (realDisk) Link(from, to string) error { return os.Link(from, to) }

func (realDisk) Rename(from, to string) error { return rename(from, to) }

func (realDisk) Exchange(a, b string) error { return exchange(a, b) }

func (realDisk) Chmod(path string, mode fs.FileMode) error { return os.Chmod(path, mode) }

func (realDisk) Chown(path string, gid uint32) error { return os.Lchown(path, -1, int(gid)) }

func (realDisk) Remove(path string) error { return os.Remove(path) }

func (realDisk) SyncDir(path string) error {
	return asFarAsItCan(unix.SyncDir(path))
}

// asFarAsItCan forgives a file system that cannot sync directories (9p, some of
// FUSE): its names are as durable as it has them, and no refresh could do better.
func asFarAsItCan(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

func rename(from, to string) error {
	for {
		err := unix.Rename(from, to)
		if err != unix.EINTR {
			if err != nil {
				return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
			}
			return nil
		}
	}
}

// confined is a disk that changes nothing outside of a root, whoever exchanges
// a directory in it for a link at whatever moment. It is for root in a root
// that others can write.
type confined struct {
	root *os.Root
	dir  string // its path
}

// below returns a path as one relative to the root.
func (c confined) below(path string) string {
	rel, err := filepath.Rel(c.dir, path)
	if err != nil {
		return path // absolute, which an os.Root refuses
	}
	return rel
}

func (c confined) Mkdir(path string, mode fs.FileMode) error {
	if err := c.root.Mkdir(c.below(path), 0o700); err != nil {
		return err
	}
	return c.root.Chmod(c.below(path), mode)
}

func (c confined) Create(path string) (file, error) {
	f, err := c.root.OpenFile(c.below(path), os.O_RDWR|os.O_CREATE|os.O_EXCL, private)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(private); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (c confined) Symlink(target, path string) error { return c.root.Symlink(target, c.below(path)) }

func (c confined) Link(from, to string) error { return c.root.Link(c.below(from), c.below(to)) }

func (c confined) Rename(from, to string) error { return c.root.Rename(c.below(from), c.below(to)) }

// Exchange is for installing generations, which root does not in such a root.
func (c confined) Exchange(_, _ string) error { return errors.ErrUnsupported }

func (c confined) Chmod(path string, mode fs.FileMode) error {
	return c.root.Chmod(c.below(path), mode)
}

func (c confined) Chown(path string, gid uint32) error {
	return c.root.Lchown(c.below(path), -1, int(gid))
}

func (c confined) Remove(path string) error { return c.root.Remove(c.below(path)) }

func (c confined) SyncDir(path string) error {
	d, err := c.root.OpenFile(c.below(path), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return asFarAsItCan(d.Sync())
}

// writeAll writes b, and notices where it is cut and nobody told
// (cpython#126606).
func writeAll(w io.Writer, b []byte) error {
	n, err := w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// removeAll removes path and all below it, through d. What a killed refresh or
// its builder left running may still write there: then it is tried again, and if
// it goes on the error is one of unix.InUse.
func removeAll(d disk, path string) error {
	err := remove(d, path)
	for i := 1; i < attempts && unix.InUse(err); i++ {
		err = remove(d, path)
	}
	return err
}

func remove(d disk, path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return ignoreNotExist(err)
	}
	if fi.IsDir() {
		// A builder may have left directories that even their owner cannot
		// list or write.
		if fi.Mode()&0o700 != 0o700 {
			if err := d.Chmod(path, 0o700); err != nil {
				return ignoreNotExist(err)
			}
		}
		entries, err := listDir(path)
		if err != nil {
			return ignoreNotExist(err)
		}
		for _, e := range entries {
			if err := remove(d, path+"/"+e.Name()); err != nil {
				return err
			}
		}
	}
	return ignoreNotExist(d.Remove(path))
}

// randomName returns prefix with 64 random bits: never a pid, which is not
// unique between hosts, and never a fixed name, which collides (flatpak#3029).
func randomName(prefix string) string {
	var b [8]byte
	rand.Read(b[:])
	return prefix + hex.EncodeToString(b[:])
}
