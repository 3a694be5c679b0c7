package hashing

import (
	"context"
	"fmt"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/internal/format"
)

// rereads bounds how often a file is read that changes meanwhile.
const rereads = 3

// A hasher is a worker's hash and buffer.
type hasher struct {
	hash *blake3.Hasher
	buf  []byte
	read int64
}

// work stats and hashes files until there are no more directories.
func (w *walk) work(ctx context.Context) error {
	h := &hasher{hash: blake3.New(), buf: make([]byte, 256<<10)}
	for d := range w.jobs {
		err := w.files(ctx, h, d)
		d.release()
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) files(ctx context.Context, h *hasher, d *directory) error {
	files := make([]File, 0, len(d.names))
	var left []Left
	hashed := 0
	h.read = 0
	for _, name := range d.names {
		f, why, read, err := w.file(ctx, h, d, name)
		switch {
		case err == unix.ENOENT: // gone since the directory was read, whose identity tells
		case err != nil:
			return fmt.Errorf("%s: %w", d.join(name), err)
		case why != "":
			left = append(left, Left{d.join(name), why})
		default:
			files = append(files, f)
		}
		if read {
			hashed++
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tree.Files = append(w.tree.Files, files...)
	w.tree.Left = append(w.tree.Left, left...)
	w.tree.Hashed += hashed
	w.tree.Bytes += h.read
	return nil
}

// file returns the input name of d, or why it is left out, and whether it had
// to be read.
func (w *walk) file(ctx context.Context, h *hasher, d *directory, name string) (f File, left string, read bool, err error) {
	f.Path = d.join(name)
	for range rereads {
		if err := ctx.Err(); err != nil {
			return f, "", read, err
		}
		var st unix.Stat_t
		if err := fstatat(d.fd, name, &st); err != nil {
			return f, "", read, err
		}
		f.ID = format.IdentityOf(&st)
		f.Size = uint64(st.Size)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			f.Type, f.Mode = Symlink, 0
		case unix.S_IFREG:
			f.Type, f.Mode = Regular, uint16(st.Mode&0o7777)
			if !w.readers.can(&st, 4) {
				return f, notReadable, read, nil
			}
		default:
			return f, "it is neither a file nor a symbolic link", read, nil
		}
		if known := w.Known.find(f.Path, f.ID); known != nil && known.Type == f.Type && known.Mode == f.Mode {
			f.Digest = known.Digest
			return f, "", read, nil
		}
		read = true
		same, err := h.digest(ctx, d.fd, name, &f)
		if err != nil || same {
			return f, "", read, err
		}
	}
	return f, "", read, ErrChanging
}

// digest sets f's digest, and says whether the file was f's throughout.
func (h *hasher) digest(ctx context.Context, dir int, name string, f *File) (same bool, err error) {
	var st unix.Stat_t
	if f.Type == Symlink {
		n, err := unix.Readlinkat(dir, name, h.buf)
		if err == unix.EINVAL {
			return false, nil // no longer a link
		}
		if err != nil {
			return false, err
		}
		f.Digest = link(string(h.buf[:n]))
		if err := fstatat(dir, name, &st); err != nil {
			return false, err
		}
		return format.IdentityOf(&st) == f.ID, nil
	}
	// O_NONBLOCK is in openat: what is a FIFO by now must not block us.
	fd, err := openat(dir, name, 0)
	if err == unix.ELOOP || err == unix.ENXIO {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || format.IdentityOf(&st) != f.ID {
		return false, nil
	}
	if err := h.content(ctx, fd, f); err != nil {
		return false, err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	return format.IdentityOf(&st) == f.ID, nil
}

func (h *hasher) content(ctx context.Context, fd int, f *File) error {
	h.hash.Reset()
	for left := f.Size; ; {
		n, err := unix.Read(fd, h.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		h.hash.Write(h.buf[:n])
		h.read += int64(n)
		// At the size that stat said there is no more: one read less a file.
		// If it grew, its identity moved.
		if n == 0 || uint64(n) >= left {
			break
		}
		left -= uint64(n)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	h.hash.Sum(f.Digest[:0])
	return nil
}
