package main

import (
	"math"

	"golang.org/x/sys/unix"
)

// keepFromBuilders marks what we inherited, a package manager's log or status
// pipe, close-on-exec. It is what the builder's exec would pass on. An old
// kernel passes it on.
func keepFromBuilders() { unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) }
