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

// run reads what batches of jobs are sent until there are no more. After an
// error, told by fail, it only releases them.
func (r *reader) run(batches <-chan []job, fail func(error)) {
	for batch := range batches {
		for i := range batch {
			if r.ctx.Err() == nil {
				if err := r.file(&batch[i]); err != nil {
					fail(err)
				}
			}
			batch[i].dir.release()
		}
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
	known := r.scan.Known.find(j.path)
	if j.regular && known == nil {
		// It has to be read: then a stat of what was opened is enough. What
		// cannot be opened may be nothing to read.
		if fd, err := r.open(j); err == nil {
			defer unix.Close(fd)
			return r.opened(j, fd)
		}
	}
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
	file := fileOf(j, &st)
	ok, err := r.settle(file.ID, func() (unix.Stat_t, error) { return fstatat(j.dir.fd, j.name) })
	if err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return errAgain
	case unix.S_IFLNK:
		return r.link(j, &file, ok)
	}
	if digest, same := known.digest(file.ID); same && ok {
		file.Type, file.Size, file.Digest = RegularFile, uint64(st.Size), digest
		r.add(file, false)
		return nil
	}
	return r.regular(j, &file, ok)
}

// opened reads what was opened without a look at it.
func (r *reader) opened(j *job, fd int) error {
	st, err := fstat(fd)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		j.regular = false
		return errAgain
	}
	if reason := r.unfit(&st); reason != "" {
		r.leave(j.path, reason)
		return nil
	}
	file := fileOf(j, &st)
	ok, err := r.settle(file.ID, func() (unix.Stat_t, error) { return fstat(fd) })
	if err != nil {
		return err
	}
	r.hook(j, false)
	return r.content(j, fd, &file, ok)
}

func fileOf(j *job, st *unix.Stat_t) File {
	return File{Input: Input{Path: j.path, Mode: uint16(st.Mode & 0o7777)}, ID: format.IdentityOf(st)}
}

// settle waits until id certifies what is read from then on, and says whether it
// does. It is errAgain if again, another stat, shows that it changed meanwhile.
func (r *reader) settle(id format.Identity, again func() (unix.Stat_t, error)) (certain bool, err error) {
	until, ok := r.settlesAt(id)
	if until == 0 {
		return ok, nil
	}
	if err := r.scan.clock.waitUntil(r.ctx, until); err != nil {
		return false, err
	}
	// It settles only as it was; and as it is now was not looked at.
	if st, err := again(); err != nil || format.IdentityOf(&st) != id {
		return false, errAgain
	}
	return ok, nil
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
	fd, err := r.open(j)
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
	return r.content(j, fd, file, certain)
}

// open opens a file that is to be read.
func (r *reader) open(j *job) (int, error) {
	// O_NONBLOCK: a FIFO put there since must not block us.
	return openat(j.dir.fd, j.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC)
}

// content reads and adds a regular file that is open, and has the identity of
// file.
func (r *reader) content(j *job, fd int, file *File, certain bool) error {
	n, err := r.digest(fd, uint64(file.ID.Size), &file.Digest)
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

// digest reads fd, of size bytes. That nothing follows them it leaves to a stat
// to tell: to read the end would be another system call for each file.
func (r *reader) digest(fd int, size uint64, d *Digest) (n uint64, err error) {
	r.h.Reset()
	for ended := false; !ended; {
		if err := r.ctx.Err(); err != nil {
			return n, err
		}
		// One byte more, so that what is longer than its size shows.
		k, err := unix.Read(fd, r.buf[:min(uint64(len(r.buf)), size-n+1)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return n, err
		}
		r.h.Write(r.buf[:k])
		r.scan.Progress.Bytes.Add(int64(k))
		n += uint64(k)
		ended = k == 0 || n >= size
	}
	r.h.Sum(d[:0])
	return n, nil
}
