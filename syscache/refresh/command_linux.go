package refresh

import "syscall"

// ownSession puts a builder in a session of its own, and lets the kernel end it
// if we are killed.
//
// A process group would do to end it with its children, but it would keep our
// terminal: a builder that is another user's could read from it, and with
// TIOCSTI type commands into root's shell.
func ownSession() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}
