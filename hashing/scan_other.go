//go:build !linux

package hashing

import "golang.org/x/sys/unix"

const statFlags = unix.AT_SYMLINK_NOFOLLOW

func fileClock() clock { return clock{now: preciseNow, granularity: minGranularity} }
