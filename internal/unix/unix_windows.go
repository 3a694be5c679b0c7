package unix

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

type Errno = syscall.Errno

// A Stat_t is what Windows tells of a file. Its times are as fine as there: of
// 100 ns.
type Stat_t struct {
	Dev, Ino   uint64 // the volume's serial number, the file's index
	Nlink      uint64
	Mode       uint32 // the type is true; the rest follows from one attribute, read-only
	Uid, Gid   uint32 // 0
	Size       int64
	Mtim, Ctim Timespec // Ctim is ChangeTime, which is moved by what moves ctime
}

// A Timespec is in nanoseconds since the epoch.
type Timespec int64

func (t Timespec) Nano() int64 { return int64(t) }

// The flags that Windows has nothing for are 0, those that package os and
// os.Root know have its numbers.
const (
	AT_FDCWD            = -100
	AT_SYMLINK_NOFOLLOW = 0x100

	O_RDONLY    = syscall.O_RDONLY
	O_CLOEXEC   = syscall.O_CLOEXEC
	O_DIRECTORY = 0x4000
	O_NOFOLLOW  = windows.FILE_FLAG_OPEN_REPARSE_POINT
	O_NOCTTY    = 0
	O_NONBLOCK  = 0

	S_IFMT   = 0o170000
	S_IFCHR  = 0o020000
	S_IFDIR  = 0o040000
	S_IFIFO  = 0o010000
	S_IFLNK  = 0o120000
	S_IFREG  = 0o100000
	S_IFSOCK = 0o140000
	S_ISVTX  = 0o1000
	S_IWGRP  = 0o020
	S_IWOTH  = 0o002
	S_IXGRP  = 0o010
	S_IXOTH  = 0o001

	R_OK = 4
	W_OK = 2
	X_OK = 1

	MAP_SHARED = 1
	PROT_READ  = 1

	EACCES       = syscall.EACCES
	EBUSY        = syscall.EBUSY
	EEXIST       = syscall.EEXIST
	EINTR        = syscall.EINTR
	EINVAL       = syscall.EINVAL
	EIO          = syscall.EIO
	ELOOP        = syscall.ELOOP
	EMLINK       = syscall.EMLINK
	ENAMETOOLONG = syscall.ENAMETOOLONG
	ENODEV       = syscall.ENODEV
	ENOENT       = syscall.ENOENT
	ENOTDIR      = syscall.ENOTDIR
	ENOTEMPTY    = syscall.ENOTEMPTY
	ENXIO        = syscall.ENXIO
	ESTALE       = syscall.ESTALE
)

// errnos are the numbers that callers compare with.
var errnos = map[error]Errno{
	windows.ERROR_FILE_NOT_FOUND:       ENOENT,
	windows.ERROR_PATH_NOT_FOUND:       ENOENT,
	windows.ERROR_INVALID_NAME:         ENOENT,
	windows.ERROR_BAD_PATHNAME:         ENOENT,
	windows.ERROR_DELETE_PENDING:       ENOENT,
	windows.ERROR_ACCESS_DENIED:        EACCES,
	windows.ERROR_SHARING_VIOLATION:    EBUSY,
	windows.ERROR_LOCK_VIOLATION:       EBUSY,
	windows.ERROR_DIRECTORY:            ENOTDIR,
	windows.ERROR_FILE_EXISTS:          EEXIST,
	windows.ERROR_ALREADY_EXISTS:       EEXIST,
	windows.ERROR_DIR_NOT_EMPTY:        ENOTEMPTY,
	windows.ERROR_FILENAME_EXCED_RANGE: ENAMETOOLONG,
	windows.ERROR_NOT_A_REPARSE_POINT:  EINVAL,
	windows.ERROR_DISK_FULL:            syscall.ENOSPC,
	windows.ERROR_WRITE_PROTECT:        syscall.EROFS,
}

func errnoOf(err error) error {
	var status windows.NTStatus
	if errors.As(err, &status) {
		err = status.Errno()
	}
	if errno, known := errnos[err]; known {
		return errno
	}
	return err
}

// Access does not look at access control lists: what they forbid is found out
// when it is tried.
func Access(path string, _ uint32) error { return Stat(path, &Stat_t{}) }

func Close(fd int) error { return windows.CloseHandle(windows.Handle(fd)) }

func Fstat(fd int, st *Stat_t) error {
	h := windows.Handle(fd)
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err != nil {
		return errnoOf(err)
	}
	var basic struct { // FILE_BASIC_INFO
		created, accessed, written, changed int64
		attributes, _                       uint32
	}
	if err := query(h, windows.FileBasicInfo, unsafe.Pointer(&basic), unsafe.Sizeof(basic)); err != nil {
		return err
	}
	*st = Stat_t{
		Dev:   uint64(info.VolumeSerialNumber),
		Ino:   uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow),
		Nlink: uint64(info.NumberOfLinks),
		Size:  int64(info.FileSizeHigh)<<32 | int64(info.FileSizeLow),
		Mtim:  timespec(basic.written), Ctim: timespec(basic.changed),
	}
	var err error
	st.Mode, err = modeOf(h, info.FileAttributes)
	return err
}

// timespec converts a time in units of 100 ns since 1601.
func timespec(t int64) Timespec { return Timespec((t - 116444736000000000) * 100) }

func modeOf(h windows.Handle, attributes uint32) (uint32, error) {
	switch {
	case attributes&windows.FILE_ATTRIBUTE_REPARSE_POINT != 0:
		var tag struct{ attributes, tag uint32 } // FILE_ATTRIBUTE_TAG_INFO
		if err := query(h, windows.FileAttributeTagInfo, unsafe.Pointer(&tag), unsafe.Sizeof(tag)); err != nil {
			return 0, err
		}
		if tag.tag == windows.IO_REPARSE_TAG_SYMLINK || tag.tag == windows.IO_REPARSE_TAG_MOUNT_POINT {
			return S_IFLNK | 0o777, nil
		}
		return S_IFCHR | 0o600, nil // a driver's own; followed, it is what that shows
	case attributes&windows.FILE_ATTRIBUTE_DIRECTORY != 0:
		return S_IFDIR | 0o755, nil // read-only says nothing of a directory
	case attributes&windows.FILE_ATTRIBUTE_READONLY != 0:
		return S_IFREG | 0o444, nil
	}
	return S_IFREG | 0o644, nil
}

func query(h windows.Handle, class uint32, p unsafe.Pointer, size uintptr) error {
	return errnoOf(windows.GetFileInformationByHandleEx(h, class, (*byte)(p), uint32(size)))
}

func Fstatat(dirfd int, path string, st *Stat_t, flags int) error {
	oflags := 0
	if flags&AT_SYMLINK_NOFOLLOW != 0 {
		oflags = O_NOFOLLOW
	}
	h, err := create(dirfd, path, windows.FILE_READ_ATTRIBUTES|windows.SYNCHRONIZE, oflags)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h)
	return Fstat(int(h), st)
}

// Geteuid is the one there is.
func Geteuid() int { return 0 }

// InUse says whether err, of package os too, is that somebody has open what is
// to be renamed or removed, or something in it.
func InUse(err error) bool {
	return errors.Is(err, EBUSY) || errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_DIR_NOT_EMPTY)
}

func Lstat(path string, st *Stat_t) error { return Fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW) }

// Mmap is not for Windows: a file that is mapped cannot be replaced.
func Mmap(int, int64, int, int, int) ([]byte, error) { return nil, errors.ErrUnsupported }

func Munmap([]byte) error { return errors.ErrUnsupported }

func Open(path string, flags int, perm uint32) (int, error) {
	return Openat(AT_FDCWD, path, flags, perm)
}

func Openat(dirfd int, path string, flags int, _ uint32) (int, error) {
	access := uint32(windows.GENERIC_READ | windows.SYNCHRONIZE)
	if flags&os.O_RDWR != 0 {
		access |= windows.GENERIC_WRITE
	}
	h, err := create(dirfd, path, access, flags)
	if err != nil {
		return -1, err
	}
	if err := checkType(h, flags); err != nil {
		windows.CloseHandle(h)
		return -1, err
	}
	return int(h), nil
}

// checkType refuses what O_NOFOLLOW and O_DIRECTORY refuse.
func checkType(h windows.Handle, flags int) error {
	if flags&(O_NOFOLLOW|O_DIRECTORY) == 0 {
		return nil
	}
	var st Stat_t
	err := Fstat(int(h), &st)
	switch {
	case err != nil:
		return err
	case flags&O_NOFOLLOW != 0 && st.Mode&S_IFMT == S_IFLNK:
		return ELOOP
	case flags&O_DIRECTORY != 0 && st.Mode&S_IFMT != S_IFDIR:
		return ENOTDIR
	}
	return nil
}

// sharing lets others read, write, rename, replace and remove what we have
// open, as on Unix. Package os does not, so that what it opened cannot be
// replaced.
const sharing = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE

// create opens what path names, from dirfd on if it is relative. With
// O_NOFOLLOW a link is opened itself.
func create(dirfd int, path string, access uint32, flags int) (windows.Handle, error) {
	path, throughLink := strings.CutSuffix(path, "/.")
	if throughLink {
		flags &^= O_NOFOLLOW
	}
	if dirfd == AT_FDCWD || filepath.IsAbs(path) {
		return createFile(path, access, flags)
	}
	name, err := windows.NewNTUnicodeString(filepath.FromSlash(path))
	if err != nil {
		return windows.InvalidHandle, EINVAL
	}
	oa := &windows.OBJECT_ATTRIBUTES{RootDirectory: windows.Handle(dirfd), ObjectName: name, Attributes: windows.OBJ_CASE_INSENSITIVE}
	oa.Length = uint32(unsafe.Sizeof(*oa))
	options := uint32(windows.FILE_SYNCHRONOUS_IO_NONALERT | windows.FILE_OPEN_FOR_BACKUP_INTENT)
	if flags&O_NOFOLLOW != 0 {
		options |= windows.FILE_OPEN_REPARSE_POINT
	}
	var h windows.Handle
	err = windows.NtCreateFile(&h, access, oa, &windows.IO_STATUS_BLOCK{}, nil, 0, sharing, windows.FILE_OPEN, options, 0, 0)
	if err != nil {
		return windows.InvalidHandle, errnoOf(err)
	}
	return h, nil
}

func createFile(path string, access uint32, flags int) (windows.Handle, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return windows.InvalidHandle, EINVAL
	}
	disposition := uint32(windows.OPEN_EXISTING)
	if flags&os.O_CREATE != 0 {
		disposition = windows.CREATE_NEW
	}
	attributes := uint32(windows.FILE_FLAG_BACKUP_SEMANTICS | flags&(O_NOFOLLOW|writeThrough))
	h, err := windows.CreateFile(name, access, sharing, nil, disposition, attributes, 0)
	if err != nil {
		return windows.InvalidHandle, errnoOf(err)
	}
	return h, nil
}

func Pread(fd int, b []byte, offset int64) (int, error) {
	var n uint32
	at := &windows.Overlapped{Offset: uint32(offset), OffsetHigh: uint32(offset >> 32)}
	err := windows.ReadFile(windows.Handle(fd), b, &n, at)
	if err == windows.ERROR_HANDLE_EOF {
		err = nil
	}
	return int(n), errnoOf(err)
}

func Read(fd int, b []byte) (int, error) {
	n, err := windows.Read(windows.Handle(fd), b)
	return n, errnoOf(err)
}

func Readlinkat(dirfd int, path string, b []byte) (int, error) {
	if dirfd != AT_FDCWD {
		dir := make([]uint16, windows.MAX_LONG_PATH)
		n, err := windows.GetFinalPathNameByHandle(windows.Handle(dirfd), &dir[0], uint32(len(dir)), 0)
		if err != nil {
			return 0, errnoOf(err)
		}
		path = windows.UTF16ToString(dir[:n]) + `\` + path
	}
	target, err := os.Readlink(path)
	if err != nil {
		return 0, errnoOf(errors.Unwrap(err))
	}
	return copy(b, target), nil
}

func Stat(path string, st *Stat_t) error { return Fstatat(AT_FDCWD, path, st, 0) }

// OpenFile opens a file to be read, or makes a new one: os.O_CREATE implies
// os.O_EXCL. Others can remove and replace it while it is open.
func OpenFile(path string, flags int, _ os.FileMode) (*os.File, error) {
	fd, err := Openat(AT_FDCWD, path, flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// SyncDir does nothing: Windows has no call for it. Rename is durable.
func SyncDir(string) error { return nil }
