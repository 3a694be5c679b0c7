package refresh

import "syscall"

// ownGroup puts a builder in a process group of its own, and lets the kernel
// end it if we are killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
