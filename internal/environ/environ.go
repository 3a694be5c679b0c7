// Package environ reads the environment where it can be trusted.
package environ

import (
	"os"

	"golang.org/x/sys/unix"
)

// Get returns the value of an environment variable, "" in a process that the
// kernel marked (AT_SECURE) as more privileged than whoever set its
// environment.
func Get(name string) string {
	value := os.Getenv(name)
	if value != "" && secure() {
		return ""
	}
	return value
}

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
