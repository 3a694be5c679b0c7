//go:build unix

package unix

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

type (
	Errno  = unix.Errno
	Stat_t = unix.Stat_t
)

const (
	AT_FDCWD            = unix.AT_FDCWD
	AT_SYMLINK_NOFOLLOW = unix.AT_SYMLINK_NOFOLLOW

	O_RDONLY    = unix.O_RDONLY
	O_CLOEXEC   = unix.O_CLOEXEC
	O_DIRECTORY = unix.O_DIRECTORY
	O_NOFOLLOW  = unix.O_NOFOLLOW
	O_NOCTTY    = unix.O_NOCTTY
	O_NONBLOCK  = unix.O_NONBLOCK

	S_IFMT   = unix.S_IFMT
	S_IFDIR  = unix.S_IFDIR
	S_IFIFO  = unix.S_IFIFO
	S_IFLNK  = unix.S_IFLNK
	S_IFREG  = unix.S_IFREG
	S_IFSOCK = unix.S_IFSOCK
	S_ISVTX  = unix.S_ISVTX
	S_IWGRP  = unix.S_IWGRP
	S_IWOTH  = unix.S_IWOTH
	S_IXGRP  = unix.S_IXGRP
	S_IXOTH  = unix.S_IXOTH

	R_OK = unix.R_OK
	W_OK = unix.W_OK
	X_OK = unix.X_OK

	MAP_SHARED = unix.MAP_SHARED
	PROT_READ  = unix.PROT_READ

	EACCES       = unix.EACCES
	EBUSY        = unix.EBUSY
	EEXIST       = unix.EEXIST
	EINTR        = unix.EINTR
	EINVAL       = unix.EINVAL
	EIO          = unix.EIO
	ELOOP        = unix.ELOOP
	EMLINK       = unix.EMLINK
	ENAMETOOLONG = unix.ENAMETOOLONG
	ENODEV       = unix.ENODEV
	ENOENT       = unix.ENOENT
	ENOTDIR      = unix.ENOTDIR
	ENOTEMPTY    = unix.ENOTEMPTY
	ENXIO        = unix.ENXIO
	ESTALE       = unix.ESTALE
)

func Access(path string, mode uint32) error { return unix.Access(path, mode) }

func Close(fd int) error { return unix.Close(fd) }

func Fstat(fd int, st *Stat_t) error { return unix.Fstat(fd, st) }

func Fstatat(dirfd int, path string, st *Stat_t, flags int) error {
	return unix.Fstatat(dirfd, path, st, flags)
}

func Geteuid() int { return unix.Geteuid() }

// InUse says whether err is that somebody is in the way of what is to be renamed
// or removed: on Unix, by still writing into the directory.
func InUse(err error) bool { return errors.Is(err, ENOTEMPTY) || errors.Is(err, EEXIST) }

func Lstat(path string, st *Stat_t) error { return unix.Lstat(path, st) }

func Mmap(fd int, offset int64, length, prot, flags int) ([]byte, error) {
	return unix.Mmap(fd, offset, length, prot, flags)
}

func Munmap(b []byte) error { return unix.Munmap(b) }

func Open(path string, flags int, perm uint32) (int, error) { return unix.Open(path, flags, perm) }

func Openat(dirfd int, path string, flags int, perm uint32) (int, error) {
	return unix.Openat(dirfd, path, flags, perm)
}

func Pread(fd int, b []byte, offset int64) (int, error) { return unix.Pread(fd, b, offset) }

func Read(fd int, b []byte) (int, error) { return unix.Read(fd, b) }

func Readlinkat(dirfd int, path string, b []byte) (int, error) {
	return unix.Readlinkat(dirfd, path, b)
}

// Rename is rename(2), of files and of directories. Unlike os.Rename it does
// not look at the target first, which would be one more moment for somebody to
// change it.
func Rename(from, to string) error { return syscall.Rename(from, to) }

func Stat(path string, st *Stat_t) error { return unix.Stat(path, st) }

// OpenFile is os.OpenFile. On Windows it lets others remove and replace the
// file while it is open, as all do elsewhere.
func OpenFile(path string, flags int, perm os.FileMode) (*os.File, error) {
	return os.OpenFile(path, flags, perm)
}

// SyncDir makes the names in a directory durable. It does not wait for a FIFO
// that took its place.
func SyncDir(path string) error {
	d, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
