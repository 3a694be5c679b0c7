package hashing

import "golang.org/x/sys/unix"

// statFlags: a look at a mount point must not mount it.
const statFlags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT

// ctimesOf returns whose doing the ctimes of an open file's file system are.
func ctimesOf(fd int) ctimes {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return byKernel
	}
	switch uint32(st.Type) {
	case unix.SQUASHFS_MAGIC, unix.EROFS_SUPER_MAGIC_V1, unix.ISOFS_SUPER_MAGIC, unix.CRAMFS_MAGIC, romfsMagic:
		return byMaker
	case unix.OVERLAYFS_SUPER_MAGIC:
		return byEither
	}
	return byKernel
}

const romfsMagic = 0x7275

// ctimesAt is ctimesOf what is at a path, be it a symbolic link.
func ctimesAt(path string) ctimes {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return byKernel
	}
	defer unix.Close(fd)
	return ctimesOf(fd)
}

// fileClock returns the clock that file systems take their times from: the
// one of the kernel's tick, which lags the precise one by up to a tick.
func fileClock() clock {
	c := clock{now: preciseNow, granularity: minGranularity, rough: preciseNow}
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
