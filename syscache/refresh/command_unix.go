//go:build unix

package refresh

import "syscall"

func killGroup(pgid int) { syscall.Kill(-pgid, syscall.SIGKILL) }
