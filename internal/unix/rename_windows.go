package unix

import (
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// writeThrough has NTFS flush what a rename changes.
const writeThrough = windows.FILE_FLAG_WRITE_THROUGH

// Rename renames a file, over another one too, or a directory. The old is there
// until the new is: nothing is removed first. Who has the old open keeps it.
//
// A directory in which somebody has a file open cannot be renamed: EBUSY. Nor
// can a file be replaced while it is open, by a program that shares it with
// nobody, a virus scanner say, or, where replacing is not what Unix means by it
// (FAT, many servers, Windows before 10, Wine), by anybody. Readers have a
// pointer open for an instant: it is waited for.
func Rename(from, to string) error {
	err := rename(from, to)
	for range 64 { // about a second
		if err != EBUSY || !isFile(to) {
			return err
		}
		time.Sleep(16 * time.Millisecond)
		err = rename(from, to)
	}
	return err
}

func rename(from, to string) error {
	err := renamePosix(from, to)
	if unsupported[err] {
		err = moveFile(from, to)
	}
	if err == EACCES {
		err = inTheWay(from, to)
	}
	return err
}

// unsupported are the answers of a file system, or a Windows before 10.1709,
// that does not know FileRenameInfoEx.
var unsupported = map[error]bool{
	windows.ERROR_INVALID_PARAMETER:    true,
	windows.ERROR_INVALID_FUNCTION:     true,
	windows.ERROR_NOT_SUPPORTED:        true,
	windows.ERROR_CALL_NOT_IMPLEMENTED: true,
}

// renamePosix replaces what is open, too, at once.
func renamePosix(from, to string) error {
	h, err := createFile(from, windows.DELETE|windows.SYNCHRONIZE, O_NOFOLLOW|writeThrough)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h)
	name, err := windows.UTF16FromString(filepath.FromSlash(to))
	if err != nil {
		return EINVAL
	}
	type renameInfo struct { // FILE_RENAME_INFO
		flags      uint32
		root       windows.Handle
		nameLength uint32 // in bytes
		name       [1]uint16
	}
	const nameAt = unsafe.Offsetof(renameInfo{}.name)
	b := make([]byte, unsafe.Sizeof(renameInfo{})+2*uintptr(len(name)))
	info := (*renameInfo)(unsafe.Pointer(&b[0]))
	info.flags = windows.FILE_RENAME_REPLACE_IF_EXISTS | windows.FILE_RENAME_POSIX_SEMANTICS | windows.FILE_RENAME_IGNORE_READONLY_ATTRIBUTE
	info.nameLength = uint32(2 * (len(name) - 1))
	copy(unsafe.Slice((*uint16)(unsafe.Pointer(&b[nameAt])), len(name)), name)
	return errnoOf(windows.SetFileInformationByHandle(h, windows.FileRenameInfoEx, &b[0], uint32(len(b))))
}

func moveFile(from, to string) error {
	f, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return EINVAL
	}
	t, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return EINVAL
	}
	return errnoOf(windows.MoveFileEx(f, t, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH))
}

// inTheWay tells apart, as Unix does, why access was denied.
func inTheWay(from, to string) error {
	var f, t Stat_t
	there := Lstat(to, &t) == nil
	switch err := Lstat(from, &f); {
	case err != nil:
		return err
	case there && t.Mode&S_IFMT == S_IFDIR && f.Mode&S_IFMT == S_IFDIR:
		return ENOTEMPTY
	case there && t.Mode&S_IFMT == S_IFDIR:
		return syscall.EISDIR
	case there || f.Mode&S_IFMT == S_IFDIR:
		return EBUSY
	}
	return EACCES
}

func isFile(path string) bool {
	var st Stat_t
	return Lstat(path, &st) == nil && st.Mode&S_IFMT != S_IFDIR
}
