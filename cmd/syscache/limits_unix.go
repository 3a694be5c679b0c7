//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// surviveLimits makes a write beyond the caller's limit of a file's size
// (ulimit -f) an error like any other, rather than the end of a package
// manager's hook. Caught and not ignored: builders have it as usual.
func surviveLimits() { signal.Notify(make(chan os.Signal, 1), syscall.SIGXFSZ) }
