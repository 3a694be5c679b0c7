package hashing

import "golang.org/x/sys/unix"

// statFlags: a look at a mount point must not mount it.
const statFlags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT

// fileClock returns the clock that file systems take their times from: the
// one of the kernel's tick, which lags the precise one by up to a tick.
func fileClock() clock {
	c := clock{now: preciseNow, granularity: minGranularity}
	var res unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_REALTIME_COARSE, &res); err != nil {
		return c
	}
	c.granularity = max(c.granularity, 2*res.Nano())
	c.now = func() int64 {
		var t unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &t); err != nil {
			return preciseNow()
		}
		return t.Nano()
	}
	return c
}
