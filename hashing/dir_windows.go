package hashing

import (
	"os"

	"golang.org/x/sys/windows"
)

const direntBuffer = 0 // package os has its own

// list calls f for each entry of the directory at fd.
func list(fd int, _ []byte, f func(name []byte, typ byte) error) error {
	var h windows.Handle // one that is closed with the file
	self := windows.CurrentProcess()
	if err := windows.DuplicateHandle(self, windows.Handle(fd), self, &h, 0, false, windows.DUPLICATE_SAME_ACCESS); err != nil {
		return err
	}
	d := os.NewFile(uintptr(h), "directory")
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var typ byte = typeUnknown
		switch e.Type() {
		case 0:
			typ = typeRegular
		case os.ModeDir:
			typ = typeDir
		case os.ModeSymlink:
			typ = typeLink
		}
		if err := f([]byte(e.Name()), typ); err != nil {
			return err
		}
	}
	return nil
}
