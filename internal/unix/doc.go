// Package unix is what syscache uses of Unix's calls, on every system.
//
// On Unix it is golang.org/x/sys/unix and adds nothing to it, neither a call
// nor an allocation nor time at a program's start. What Windows has no call for
// is made there of those it has: a file descriptor is a handle, everything
// belongs to uid 0, which is who asks, and errors are the numbers that callers
// compare with.
//
// Of all that it exports, only Rename changes anything.
package unix
