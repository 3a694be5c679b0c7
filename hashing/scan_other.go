//go:build !linux

package hashing

import "github.com/syscache/syscache/internal/unix"

const statFlags = unix.AT_SYMLINK_NOFOLLOW

func fileClock() clock { return clock{now: preciseNow, granularity: minGranularity} }

func ctimesOf(int) ctimes { return byKernel }

func ctimesAt(string) ctimes { return byKernel }
