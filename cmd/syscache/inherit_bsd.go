//go:build unix && !linux

package main

import "golang.org/x/sys/unix"

// keepFromBuilders marks what we inherited close-on-exec, as far as a process
// usually has descriptors.
func keepFromBuilders() {
	for fd := 3; fd < 1024; fd++ {
		unix.CloseOnExec(fd)
	}
}
