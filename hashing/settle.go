package hashing

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/internal/format"
)

// An identity is worth recording only once it has settled: when a later change
// is sure to give the file another ctime. Kernels stamp files with the time of
// the last tick, so that takes at least a tick: 10 ms where HZ is 100. Whole
// seconds in both times are a sign of a file system that keeps no fractions,
// two seconds the coarsest that there is (FAT).
const (
	tick       = 20 * time.Millisecond
	coarseTick = 2 * time.Second
	// future is how far ahead of our clock a time may be, and be waited for.
	future = time.Second
)

// settled returns how long after begin, when reading the file began, reading
// it would have made its identity worth recording: 0 if it is, negative if
// waiting does not help.
func settled(id format.Identity, begin time.Time) time.Duration {
	if id.Ctime == 0 {
		return -1
	}
	needs := tick
	if id.Ctime%int64(time.Second) == 0 && id.Mtime%int64(time.Second) == 0 {
		needs = coarseTick
	}
	ctime := time.Unix(0, id.Ctime)
	if ctime.Sub(begin) > future {
		return -1
	}
	return max(0, ctime.Add(needs).Sub(begin))
}

// settle returns how long to wait before another scan finds all times settled,
// 0 if they are. What waiting does not help, and when it is the last scan all
// that has not settled, loses its identity.
func (t *Tree) settle(begin time.Time, last bool) (wait time.Duration) {
	visit := func(id *format.Identity) {
		switch need := settled(*id, begin); {
		case need < 0 || need > 0 && last:
			*id = format.Identity{}
		case need > 0:
			wait = max(wait, need-time.Since(begin), time.Millisecond)
			*id = format.Identity{} // not for the inventory of the next scan
		}
	}
	for i := range t.Files {
		visit(&t.Files[i].ID)
	}
	for i := range t.Dirs {
		visit(&t.Dirs[i].ID)
	}
	return wait
}

// Settle waits until the times of path, and of the entries if it is a
// directory, have settled, and says whether they have: not if they are in the
// future, or keep moving. A path that does not exist has.
func Settle(ctx context.Context, path string) (bool, error) {
	for range rescans {
		begin := time.Now()
		wait := time.Duration(0)
		for _, id := range timesAt(path) {
			need := settled(id, begin)
			if need < 0 {
				return false, nil
			}
			wait = max(wait, need)
		}
		if wait == 0 {
			return true, nil
		}
		if err := sleep(ctx, wait); err != nil {
			return false, err
		}
	}
	return false, nil
}

func timesAt(path string) []format.Identity {
	var ids []format.Identity
	add := func(path string) (isDir bool) {
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			return false
		}
		ids = append(ids, format.IdentityOf(&st))
		return st.Mode&unix.S_IFMT == unix.S_IFDIR
	}
	if add(path) {
		entries, _ := os.ReadDir(path)
		for _, e := range entries {
			add(path + "/" + e.Name())
		}
	}
	return ids
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
