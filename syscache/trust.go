package syscache

import (
	"fmt"
	"strings"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// overflowID is what a user namespace shows for every uid and gid that it does
// not map: many are one.
const overflowID = 65534

// trust decides whom a reader believes. It costs no system call where all is
// owned by root and writable by its owner alone, else one, a stat of the root.
type trust struct {
	root     string
	uids     []int  // the caller's
	cacheDir string // in which what is checked lies
	internal string // the same, relative to the root, if it is one of the two there

	rootStat unix.Stat_t
	rootErr  error
	known    bool // rootStat and rootErr are set
}

// check returns why what st is the stat of, at path, cannot be trusted, or nil.
func (t *trust) check(st *unix.Stat_t, want uint32, path unix.Path) error {
	err := t.checkAlone(st, want, path)
	if err == nil && !t.owner(st.Uid) {
		err = t.checkAbove(path.String())
	}
	return err
}

// checkAlone is check without a look at the directories above.
func (t *trust) checkAlone(st *unix.Stat_t, want uint32, path unix.Path) error {
	mode := uint32(st.Mode) // 16 bits on BSDs
	switch {
	case mode&unix.S_IFMT != want:
		return fmt.Errorf("%s is not a %s", path, typeName(want))
	case mode&0o002 != 0:
		return fmt.Errorf("%s can be written by everyone (mode %04o)", path, mode&0o7777)
	case !t.owner(st.Uid) && !t.member(st.Gid):
		return fmt.Errorf("%s belongs to uid %d, who is neither root, nor the owner of %s, nor you", path, st.Uid, t.root)
	case mode&0o020 != 0 && !t.group(st.Gid):
		return fmt.Errorf("%s can be written by group %d (mode %04o), and %s cannot", path, st.Gid, mode&0o7777, t.root)
	}
	return nil
}

// checkAbove checks the directories from the root down to the one that holds
// path, which belongs to the root's group and to somebody unknown. In none of
// them can anybody outside the group then have put it: others can make a file
// of the group, in a set-group-id directory that is open to all.
func (t *trust) checkAbove(path string) error {
	if st, err := t.stat(); err != nil || st.Mode&0o002 != 0 {
		return fmt.Errorf("%s belongs to somebody unknown, and %s can be written by everyone", path, t.root)
	}
	below := t.internal + strings.TrimPrefix(path, t.cacheDir)
	for i := range len(below) {
		if below[i] != '/' {
			continue
		}
		dir := unix.NewPath(format.Join(t.root, below[:i]))
		var st unix.Stat_t
		if err := dir.Lstat(&st); err != 0 {
			return fmt.Errorf("%s: %w", dir, err)
		}
		if err := t.checkAlone(&st, unix.S_IFDIR, dir); err != nil {
			return err
		}
	}
	return nil
}

func (t *trust) owner(uid uint32) bool {
	if uid == 0 {
		return true
	}
	for _, u := range t.uids {
		if int(uid) == u && uid != overflowID {
			return true
		}
	}
	if uid == overflowID && t.internal == "" {
		return false
	}
	if st, err := t.stat(); err == nil && st.Uid == uid {
		return true
	}
	return uid != overflowID && int(uid) == unix.Geteuid()
}

// member says whether gid makes up for an owner who is unknown: the root's
// group may write all of the root, so what its members wrote there is as good.
func (t *trust) member(gid uint32) bool { return t.internal != "" && t.group(gid) }

func (t *trust) group(gid uint32) bool {
	st, err := t.stat()
	return err == nil && st.Mode&0o020 != 0 && st.Gid == gid && gid != overflowID
}

func (t *trust) stat() (*unix.Stat_t, error) {
	if !t.known {
		t.rootErr = ignoringEINTR(func() error { return unix.Stat(t.root, &t.rootStat) })
		t.known = true
	}
	return &t.rootStat, t.rootErr
}

func typeName(format uint32) string {
	if format == unix.S_IFDIR {
		return "directory"
	}
	return "regular file"
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
