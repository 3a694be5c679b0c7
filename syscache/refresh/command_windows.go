package refresh

import (
	"os"
	"syscall"
)

// ownSession keeps Ctrl-C from a builder: it is ours to end it.
func ownSession() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// killGroup ends the builder alone: what that left running goes on.
func killGroup(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		p.Kill()
	}
}

// killRest: what the builder left running goes on, and its number may be
// another's.
func killRest(int) {}

// unread: that cannot be asked.
func unread(*os.File) bool { return false }
