// Package witness observes the files that certify a cache and checks them
// again: what a refresher records and what a reader compares, in one place.
//
// Checking never writes, locks, sets a time or blocks, and follows no
// symbolic link in a witness's last component.
package witness

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// Observe returns the witness that path, relative to root, is now. A path
// that does not exist is an absent witness.
func Observe(root, path string) (format.Witness, error) {
	full := format.Join(root, path)
	w := format.Witness{Path: path}
	st, err := lstat(full)
	switch {
	case absent(err):
		w.Type = format.WitnessAbsent
		return w, nil
	case err != nil:
		return w, fmt.Errorf("witness %s: %w", format.Show(path), err)
	}
	if w.Type, err = typeOf(&st); err != nil {
		return w, fmt.Errorf("witness %s: %w", format.Show(path), err)
	}
	if w.Identity, err = identity(full, &st); err != nil {
		return w, fmt.Errorf("witness %s: %w", format.Show(path), err)
	}
	if w.Digest, err = digest(full, w.Type); err != nil {
		return w, fmt.Errorf("witness %s: %w", format.Show(path), err)
	}
	return w, nil
}

// Check returns nil if w holds, else an error that says what of it does not.
func Check(root string, w *format.Witness) error {
	full := format.Join(root, w.Path)
	st, err := lstat(full)
	switch {
	case w.Type == format.WitnessAbsent:
		if absent(err) {
			return nil
		}
		if err == nil {
			err = errors.New("it was absent at the last refresh and is there now")
		}
		return fmt.Errorf("witness %s: %w", format.Show(w.Path), err)
	case absent(err):
		return fmt.Errorf("witness %s is gone", format.Show(w.Path))
	case err != nil:
		return fmt.Errorf("witness %s: %w", format.Show(w.Path), err)
	}
	if t, err := typeOf(&st); err != nil || t != w.Type {
		return fmt.Errorf("witness %s is of another type than at the last refresh", format.Show(w.Path))
	}
	if w.Identity != [format.IdentitySize]byte{} {
		if id, err := identity(full, &st); err == nil && id == w.Identity {
			return nil
		}
	}
	// The identity may move and the content stay: a copied or restored tree,
	// an image. Only the content decides then.
	d, err := digest(full, w.Type)
	if err != nil {
		return fmt.Errorf("witness %s: %w", format.Show(w.Path), err)
	}
	if d != w.Digest {
		return fmt.Errorf("witness %s changed since the last refresh", format.Show(w.Path))
	}
	return nil
}

// Unmoved says whether w shows the same identity, or absence, that it was
// recorded with. Where it does not, w may still hold.
func Unmoved(root string, w *format.Witness) bool {
	full := format.Join(root, w.Path)
	st, err := lstat(full)
	if w.Type == format.WitnessAbsent || err != nil {
		return w.Type == format.WitnessAbsent && absent(err)
	}
	t, err := typeOf(&st)
	if err != nil || t != w.Type || w.Identity == [format.IdentitySize]byte{} {
		return false
	}
	id, err := identity(full, &st)
	return err == nil && id == w.Identity
}

func typeOf(st *unix.Stat_t) (format.WitnessType, error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return format.WitnessFile, nil
	case unix.S_IFDIR:
		return format.WitnessDir, nil
	case unix.S_IFLNK:
		return format.WitnessSymlink, nil
	}
	return 0, errors.New("neither a file, a directory nor a symbolic link")
}

// identity returns the identity of what is at full, which st is the stat of.
func identity(full string, st *unix.Stat_t) (id [format.IdentitySize]byte, err error) {
	own := format.IdentityOf(st).Append(id[:0])
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return id, nil
	}
	h := sha256.New()
	h.Write(own)
	err = entries(full, func(name string, st *unix.Stat_t) error {
		writeEntry(h, entryType(st), name)
		var b [format.IdentitySize]byte
		h.Write(format.IdentityOf(st).Append(b[:0]))
		return nil
	})
	h.Sum(id[:0])
	return id, err
}

// digest returns the content digest of what is at full.
func digest(full string, t format.WitnessType) (d [32]byte, err error) {
	switch t {
	case format.WitnessFile:
		return digestFile(full)
	case format.WitnessSymlink:
		return digestLink(full)
	}
	h := sha256.New()
	err = entries(full, func(name string, st *unix.Stat_t) (err error) {
		var d [32]byte
		t := entryType(st)
		switch t {
		case 'f':
			d, err = digestFile(full + "/" + name)
		case 'l':
			d, err = digestLink(full + "/" + name)
		}
		writeEntry(h, t, name)
		h.Write(d[:])
		return err
	})
	h.Sum(d[:0])
	return d, err
}

// entries calls f for each entry of a directory, sorted by name.
func entries(dir string, f func(name string, st *unix.Stat_t) error) error {
	// O_DIRECTORY: as below, of a FIFO that took its place.
	d, err := unix.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		st, err := lstat(dir + "/" + name)
		if err != nil {
			return err
		}
		if err := f(name, &st); err != nil {
			return err
		}
	}
	return nil
}

func entryType(st *unix.Stat_t) byte {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 'f'
	case unix.S_IFDIR:
		return 'd'
	case unix.S_IFLNK:
		return 'l'
	}
	return 'o'
}

func writeEntry(w io.Writer, t byte, name string) {
	b := binary.LittleEndian.AppendUint16([]byte{t}, uint16(len(name)))
	w.Write(append(b, name...))
}

func digestFile(full string) (d [32]byte, err error) {
	// O_NONBLOCK: a FIFO put there since the stat must not block us.
	f, err := unix.OpenFile(full, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return d, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return d, fmt.Errorf("%s is not a regular file", full)
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return d, err
	}
	h.Sum(d[:0])
	return d, nil
}

func digestLink(full string) ([32]byte, error) {
	target, err := os.Readlink(full)
	return sha256.Sum256([]byte(target)), err
}

func absent(err error) bool { return err == unix.ENOENT || err == unix.ENOTDIR }

func lstat(path string) (st unix.Stat_t, err error) {
	for {
		err = unix.Fstatat(unix.AT_FDCWD, path, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != unix.EINTR {
			return st, err
		}
	}
}
