//go:build unix

package environ

import (
	"os"

	"golang.org/x/sys/unix"
)

func secure() bool {
	const atSecure = 23
	auxv, err := unix.Auxv()
	if err != nil { // not told by this system
		return os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid()
	}
	for _, a := range auxv {
		if a[0] == atSecure {
			return a[1] != 0
		}
	}
	return false
}
