package hashing

import (
	"github.com/zeebo/blake3"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// bufferSize is what is read at once: enough for BLAKE3 to work on many chunks
// side by side, and for most files to need one read.
const bufferSize = 256 << 10

// A reader reads files and links, one at a time.
type reader struct {
	*finding
	buf []byte
	h   *blake3.Hasher
}

func newReader(f *finding) *reader {
	return &reader{f, make([]byte, bufferSize), blake3.New()}
}

// run reads what jobs are sent until there are no more. After an error, told
// by fail, it only releases them.
func (r *reader) run(jobs <-chan job, fail func(error)) {
	for j := range jobs {
		if r.ctx.Err() == nil {
			if err := r.file(&j); err != nil {
				fail(err)
			}
		}
		j.dir.release()
	}
}

// file adds a file or link to what was found.
func (r *reader) file(j *job) error {
	for i := range attempts {
		if err := r.pause(i); err != nil {
			return err
		}
		if err := r.look(j); err != errAgain {
			return err
		}
	}
	return changing(j.path)
}

// look reads a file or link once, if it must be read. The error is errAgain
// if it was not the same all the while.
func (r *reader) look(j *job) error {
	st, err := fstatat(j.dir.fd, j.name)
	if err == unix.ENOENT {
		return errAgain
	}
	if err != nil {
		return r.failed("stat", j.path, err)
	}
	if reason := r.unfit(&st); reason != "" {
		r.leave(j.path, reason)
		return nil
	}
	file := File{Input: Input{Path: j.path, Mode: uint16(st.Mode & 0o7777)}, ID: format.IdentityOf(&st)}
	until, ok := r.settlesAt(file.ID)
	if until > 0 {
		if err := r.scan.clock.waitUntil(r.ctx, until); err != nil {
			return err
		}
		// It settles only as it was; and as it is now was not looked at.
		if st, err = fstatat(j.dir.fd, j.name); err != nil || format.IdentityOf(&st) != file.ID {
			return errAgain
		}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return errAgain
	case unix.S_IFLNK:
		return r.link(j, &file, ok)
	}
	if digest, known := r.scan.Known.Digest(j.path, file.ID); known && ok {
		file.Type, file.Size, file.Digest = RegularFile, uint64(st.Size), digest
		r.add(file, false)
		return nil
	}
	return r.regular(j, &file, ok)
}

func (r *reader) hook(j *job, read bool) {
	if r.scan.hook != nil {
		r.scan.hook(j.path, read)
	}
}

// unfit returns why something cannot be an input, "" if it can.
func (r *reader) unfit(st *unix.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if !r.audience.may(st, mayRead) {
			return "not readable by " + r.audience.name
		}
		return ""
	case unix.S_IFLNK, unix.S_IFDIR:
		return ""
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	}
	return "a device"
}

// link adds a symbolic link, whose identity certifies it if certain.
func (r *reader) link(j *job, file *File, certain bool) error {
	target, err := readlinkat(j.dir.fd, j.name)
	if err != nil {
		return errAgain // it was a link just now
	}
	r.hook(j, true)
	st, err := fstatat(j.dir.fd, j.name)
	if err != nil || format.IdentityOf(&st) != file.ID {
		return errAgain
	}
	file.Type, file.Mode, file.Size, file.Digest = Symlink, 0, uint64(len(target)), Target(target)
	if !certain {
		file.ID = format.Identity{}
	}
	r.add(*file, false)
	return nil
}

// regular reads and adds a regular file, whose identity certifies it if
// certain.
func (r *reader) regular(j *job, file *File, certain bool) error {
	r.hook(j, false)
	// O_NONBLOCK: a FIFO put there since must not block us.
	fd, err := openat(j.dir.fd, j.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC)
	switch err {
	case nil:
	case unix.ENOENT, unix.ELOOP, unix.EMLINK, unix.ENXIO, unix.ENODEV:
		return errAgain
	default:
		return r.failed("open", j.path, err)
	}
	defer unix.Close(fd)
	if err := same(fd, file.ID); err != nil {
		return err
	}
	n, err := r.digest(fd, &file.Digest)
	if err != nil {
		return r.failed("read", j.path, err)
	}
	r.hook(j, true)
	if err := same(fd, file.ID); err != nil {
		return err
	}
	file.Type, file.Size = RegularFile, n
	if int64(n) != file.ID.Size {
		return errAgain
	}
	if !certain {
		file.ID = format.Identity{}
	}
	r.scan.Progress.Read.Add(1)
	r.add(*file, true)
	return nil
}

// same returns nil if fd is the regular file of that identity, else errAgain.
func same(fd int, id format.Identity) error {
	st, err := fstat(fd)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || format.IdentityOf(&st) != id {
		return errAgain
	}
	return nil
}

// digest reads fd to its end.
func (r *reader) digest(fd int, d *Digest) (n uint64, err error) {
	r.h.Reset()
	for {
		if err := r.ctx.Err(); err != nil {
			return n, err
		}
		k, err := unix.Read(fd, r.buf)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return n, err
		case k == 0:
			r.h.Sum(d[:0])
			return n, nil
		}
		r.h.Write(r.buf[:k])
		r.scan.Progress.Bytes.Add(int64(k))
		n += uint64(k)
	}
}
