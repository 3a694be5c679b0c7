package lock

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// holderOf asks /proc, since the lock file stays empty. Without /proc, or if the
// holder is in another PID namespace, nothing is known.
func holderOf(fi fs.FileInfo) Holder {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return Holder{}
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return Holder{}
	}
	defer f.Close()
	pid := findHolder(f, uint64(st.Dev), st.Ino)
	if pid == 0 {
		return Holder{}
	}
	return Holder{PID: pid, UID: processUser(pid), Command: processCommand(pid), Since: processStart(pid)}
}

// findHolder finds the process with an flock on the inode in the text of
// /proc/locks, or returns 0. A line is
//
//	1: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF
//
// and "1: -> FLOCK ..." for one that waits. The device is the file system's own
// number, which stat does not show where it makes one up (btrfs for each
// subvolume, overlayfs for each layer on another file system): there the inode
// has to do, if only one process holds a lock on that number.
func findHolder(locks io.Reader, dev, ino uint64) int {
	device := fmt.Sprintf("%02x:%02x", unix.Major(dev), unix.Minor(dev))
	inode := strconv.FormatUint(ino, 10)
	madeUp := unix.Major(dev) == 0
	guess := 0
	for s := bufio.NewScanner(locks); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 6 || f[1] != "FLOCK" {
			continue
		}
		pid, err := strconv.Atoi(f[4])
		if err != nil || pid <= 0 { // remote, or in another PID namespace
			continue
		}
		i := strings.LastIndexByte(f[5], ':')
		if i < 0 {
			continue
		}
		d, n := f[5][:i], f[5][i+1:]
		switch {
		case d == device && n == inode:
			return pid
		case d == device: // so st_dev is the file system's own after all
			madeUp = false
		case n == inode && guess != 0 && guess != pid:
			madeUp = false
		case n == inode:
			guess = pid
		}
	}
	if madeUp {
		return guess
	}
	return 0
}

func processCommand(pid int) string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return ""
	}
	return commandOf(string(b))
}

// processUser reads the status, as everybody may: the owner of /proc/PID itself
// is root once a process has changed its user, as a refresh does.
func processUser(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(b)) {
		ids, ok := strings.CutPrefix(line, "Uid:\t") // real, effective, saved, file system's
		if !ok {
			continue
		}
		if f := strings.Fields(ids); len(f) == 4 {
			if uid, err := strconv.Atoi(f[1]); err == nil {
				return uid
			}
		}
	}
	return -1
}

// processStart counts back from now: a start time in /proc is on the clock that
// runs from boot, and the wall clock may have been set since then.
func processStart(pid int) time.Time {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return time.Time{}
	}
	ticks, ok := startTicks(string(b))
	var boot unix.Timespec
	if !ok || unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return time.Time{}
	}
	const tick = time.Second / 100 // USER_HZ, on every architecture that Go has
	return time.Now().Add(time.Duration(ticks)*tick - time.Duration(boot.Nano()))
}

// startTicks returns field 22 of /proc/PID/stat. Field 2, the name, is whatever
// the process likes, spaces and parentheses too; after its last ")" all is numbers.
func startTicks(stat string) (int64, bool) {
	i := strings.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, false
	}
	f := strings.Fields(stat[i+1:])
	if len(f) < 20 {
		return 0, false
	}
	n, err := strconv.ParseInt(f[19], 10, 64)
	return n, err == nil
}
