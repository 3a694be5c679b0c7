package refresh

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// ownership is whose install it is: who may write it, nobody else, may write
// its cache and its configuration.
type ownership struct {
	uid, gid uint32
	shared   bool  // the group may write the root
	reach    reach // of a root with a cache_dir outside of it
}

// reach is who can reach a root: whom a cache_dir elsewhere, which the root's own
// mode and those above it do not guard, lets in.
type reach int

const (
	everyone reach = iota
	theGroup       // the root's
	theOwner       // and nobody else for certain
)

// reachOf says who can reach root, which st is the stat of.
func reachOf(root string, st *unix.Stat_t) reach {
	for dir := root; dir != filepath.Dir(dir); {
		dir = filepath.Dir(dir)
		var above unix.Stat_t
		if err := unix.Lstat(dir, &above); err != nil || above.Mode&unix.S_IXOTH == 0 {
			return theOwner
		}
	}
	switch {
	case st.Mode&unix.S_IXOTH != 0:
		return everyone
	case st.Mode&unix.S_IXGRP != 0:
		return theGroup
	}
	return theOwner
}

// BecomeOwner makes this process, if it is root, the owner of the install at
// root, for good: their uid, the group that is their own by the user database,
// and no other. A builder that belongs to somebody else then never runs as root,
// and what is written is theirs. Where the caller is not root, or root owns the
// install, it does nothing.
//
// The directory's own group counts only where it manages the install, and the
// owner is known to be a member: a directory has the group of what it was made
// in, as root's or shadow, or kept that of who made it. An owner who is no member
// can refresh such an install no more by root than by themselves.
//
// It is for main, before Load, before anything is opened with root's rights
// and while nothing else runs that needs them: what changes is the process, all
// its threads, and no function can change it back. HOME and the rest of the
// environment stay root's. After an error the process may be half changed and
// should end.
func BecomeOwner(root string) error {
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil {
		return fmt.Errorf("root %s: %w", root, err)
	}
	if unix.Geteuid() != 0 || st.Uid == 0 || unmapped(st.Uid) {
		return nil
	}
	groups := groupsOf(st.Uid)
	gid := groups[0]
	if uint32(st.Mode)&unix.S_IWGRP != 0 && slices.Contains(groups, st.Gid) {
		gid = st.Gid
	}
	if err := become(st.Uid, gid); err != nil {
		return fmt.Errorf("become uid %d, who owns %s: %w", st.Uid, root, err)
	}
	if os.Geteuid() != int(st.Uid) || os.Getuid() != int(st.Uid) {
		return fmt.Errorf("become uid %d, who owns %s: still uid %d", st.Uid, root, os.Geteuid())
	}
	became = true
	return nil
}

// became is set in a process that was root's: what else it has of root's is none
// of its builders'.
var became bool

// ErrNotOwner is wrapped by the error of whoever may not refresh or invalidate
// the caches of an install: neither its owner nor, where a group manages it, a
// member; and root, unless BecomeOwner was called, where it is somebody else's.
var ErrNotOwner = errors.New("the install is somebody else's")

// checkSelf refuses to refresh somebody else's install: as root, for root runs
// no other user's builders, and as anybody else, for no reader would trust what
// they wrote under the root. Elsewhere they may: they are then the only ones to
// trust it. The members of the group that may write the root own it together.
func (in *Install) checkSelf() error {
	uid := unix.Geteuid()
	stranger := uid != int(in.owner.uid) && in.internal
	switch {
	case unmapped(in.owner.uid) && (stranger || uid == 0 && !alone()):
		return fmt.Errorf("%w: %s belongs to a user that this user namespace does not map", ErrNotOwner, in.root)
	case uid == 0 && in.owner.uid != 0 && !unmapped(in.owner.uid):
		return fmt.Errorf("%w: %s belongs to uid %d, and root runs no other user's builders: call BecomeOwner first", ErrNotOwner, in.root, in.owner.uid)
	case stranger && in.owner.shared && !memberOf(in.owner.gid):
		return fmt.Errorf("%w: %s belongs to uid %d and group %d, and you are uid %d", ErrNotOwner, in.root, in.owner.uid, in.owner.gid, uid)
	case stranger && !in.owner.shared && uid != 0:
		return fmt.Errorf("%w: %s belongs to uid %d, and you are uid %d", ErrNotOwner, in.root, in.owner.uid, uid)
	}
	return nil
}

// checkRoot refuses to work, as root, on an install of root's that others can
// exchange under root's hands, a link for a directory or theirs for all of it:
// root would run their builder, or write and remove elsewhere.
func (in *Install) checkRoot() error {
	if unix.Geteuid() != 0 || in.owner.uid != 0 {
		return nil
	}
	if in.owner.shared {
		return &HintedError{
			fmt.Errorf("%w: group %d can write %s, and root runs nothing that its members could have put there", ErrNotOwner, in.owner.gid, in.root),
			fmt.Sprintf("refresh as a member of group %d, or let root alone write it: chmod g-w", in.owner.gid),
		}
	}
	if err := in.checkAbove(); err != nil {
		return &HintedError{
			fmt.Errorf("%w: %w, who can put another install in the place of %s, and root would run that one's builders", ErrNotOwner, err, in.root),
			"move the install to where root alone can replace it, or give it to who can: chown",
		}
	}
	return nil
}

// checkAbove looks for who else can replace an install of root's. Groups are let
// pass, as Debian's staff in /usr/local: doctor tells of them.
func (in *Install) checkAbove() error {
	for dir := in.root; dir != filepath.Dir(dir); {
		dir = filepath.Dir(dir)
		var st unix.Stat_t
		if err := unix.Lstat(dir, &st); err != nil {
			return &fs.PathError{Op: "stat", Path: dir, Err: err}
		}
		sticky := uint32(st.Mode)&unix.S_ISVTX != 0
		switch {
		case st.Uid != 0 && !unmapped(st.Uid):
			return fmt.Errorf("%s belongs to uid %d", dir, st.Uid)
		case uint32(st.Mode)&unix.S_IWOTH != 0 && !sticky:
			return fmt.Errorf("everyone can write %s (mode %04o)", dir, uint32(st.Mode)&0o7777)
		}
	}
	return nil
}

// memberOf says whether this process has a group.
func memberOf(gid uint32) bool {
	groups, _ := os.Getgroups()
	return os.Getegid() == int(gid) || slices.Contains(groups, int(gid))
}

// overflowID is what a user namespace shows for every uid that it does not map.
const overflowID = 65534

// unmapped says whether uid stands for the users that this process's user
// namespace does not map, rather than for one: root in the namespace cannot
// become them.
func unmapped(uid uint32) bool {
	if uid != overflowID {
		return false
	}
	ranges := uidMap()
	for _, m := range ranges {
		if m.inside <= overflowID && overflowID < m.inside+m.n {
			return false
		}
	}
	return ranges != nil
}

// alone says whether this process's user namespace is one that an ordinary user
// made for themselves: its root is they, and there is nobody else's to be had.
func alone() bool {
	m := uidMap()
	return len(m) == 1 && m[0].n == 1 && m[0].outside != 0
}

// A uidRange is a line of a user namespace's map.
type uidRange struct{ inside, outside, n uint64 }

// uidMap returns the map of this process's user namespace, nil where there is no
// /proc or there are no user namespaces.
func uidMap() (ranges []uidRange) {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return nil
	}
	ranges = []uidRange{}
	for line := range strings.Lines(string(text)) {
		var m uidRange
		if _, err := fmt.Sscan(line, &m.inside, &m.outside, &m.n); err == nil {
			ranges = append(ranges, m)
		}
	}
	return ranges
}

// A wrongType is that of something that is not a file or a directory as it
// should be.
type wrongType string

func (e wrongType) Error() string { return string(e) }

// check returns why what st is the stat of is not the install's own, or nil.
// Where a group manages the install, what belongs to the group is its own: only
// members can put it where others cannot write, and checkPath sees to that.
func (o *ownership) check(st *unix.Stat_t, want uint32, what string) error {
	mode := uint32(st.Mode) // 16 bits on BSDs
	switch {
	case mode&unix.S_IFMT != want && want == unix.S_IFDIR:
		return wrongType(what + " is not a directory")
	case mode&unix.S_IFMT != want:
		return wrongType(what + " is not a regular file")
	case st.Uid != 0 && st.Uid != o.uid && int(st.Uid) != unix.Geteuid() && !(o.shared && st.Gid == o.gid):
		return fmt.Errorf("%s belongs to uid %d, who neither is root nor owns the install", what, st.Uid)
	case mode&unix.S_IWOTH != 0:
		return fmt.Errorf("everyone can write %s (mode %04o)", what, mode&0o7777)
	case mode&unix.S_IWGRP != 0 && (!o.shared || st.Gid != o.gid):
		return fmt.Errorf("group %d can write %s (mode %04o)", st.Gid, what, mode&0o7777)
	}
	return nil
}

// checkCommand refuses a builder that others can write: we would run theirs.
// What cannot be found is left to be told when it is run.
func (r *refresher) checkCommand() error {
	if len(r.c.Command) == 0 {
		return nil
	}
	path, err := filepath.EvalSymlinks(format.Join(r.root, r.c.Command[0]))
	if err != nil {
		return nil
	}
	if err := r.owner.checkPath(r.root, filepath.Dir(path)); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil
	}
	return r.owner.check(&st, unix.S_IFREG, path)
}

// checkPath checks every directory below from, down to dir: whoever can write
// one can replace what is in it. Where dir is not below from, it begins at /.
// Above dir a sticky one will do: others can add to it, but not replace. The
// error wraps fs.ErrNotExist at the first that does not exist.
func (o *ownership) checkPath(from, dir string) error {
	for path := range way(from, dir) {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "stat", Path: path, Err: err}
		}
		if path != dir && uint32(st.Mode)&unix.S_ISVTX != 0 {
			st.Mode &^= unix.S_IWOTH | unix.S_IWGRP
		}
		if err := o.check(&st, unix.S_IFDIR, path); err != nil {
			return err
		}
	}
	return nil
}

// checkKept is checkPath for what is in the cache_dir.
func (in *Install) checkKept(dir string) error {
	if in.links != nil {
		return in.links
	}
	return in.owner.checkPath(in.root, dir)
}

// checkLinks refuses a name that goes through somebody else's symbolic link, as
// one in /tmp: they would say where we write, if it is ours that is there.
func (o *ownership) checkLinks(name string) error {
	_, err := follow(name, func(link string) error {
		var st unix.Stat_t
		if err := unix.Lstat(link, &st); err != nil {
			return err
		}
		if st.Uid != 0 && st.Uid != o.uid && int(st.Uid) != os.Geteuid() && !unmapped(st.Uid) {
			return wrongType(fmt.Sprintf("%s is a symbolic link of uid %d, who neither is root nor owns the install", link, st.Uid))
		}
		return nil
	})
	if errors.Is(err, unix.ELOOP) {
		return wrongType(name + " is behind too many symbolic links")
	}
	if errors.As(err, new(wrongType)) {
		return err
	}
	return nil // what is not there yet is made, what cannot be looked at is told by who opens it
}

// maxLinks is how many the kernel follows.
const maxLinks = 40

// follow returns where an absolute path leads, and calls visit with each symbolic
// link on the way before it is read: /usr/bin/java may lead through
// /etc/alternatives, and /opt/tool/current to another version tomorrow.
func follow(name string, visit func(link string) error) (string, error) {
	volume := filepath.VolumeName(name)
	at, rest := volume+"/", strings.Split(filepath.ToSlash(name[len(volume):]), "/")
	for links := 0; len(rest) > 0; {
		c := rest[0]
		rest = rest[1:]
		switch c {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at) // no link is in it any more
			continue
		}
		next := path.Join(at, c)
		fi, err := os.Lstat(next)
		if err != nil {
			return "", err
		}
		if fi.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", &os.PathError{Op: "follow", Path: name, Err: unix.ELOOP}
		}
		if err := visit(next); err != nil {
			return "", err
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			at = volume + "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

// way yields every directory below from, down to dir, or, where dir is not
// below from, every one below /.
func way(from, dir string) iter.Seq[string] {
	return func(yield func(string) bool) {
		rel, err := filepath.Rel(from, dir)
		rel = filepath.ToSlash(rel)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			volume := filepath.VolumeName(dir)
			from, rel = volume+"/", strings.TrimPrefix(dir[len(volume):], "/")
		}
		at := from
		for name := range strings.SplitSeq(rel, "/") {
			if name == "." || name == "" {
				continue
			}
			if at = filepath.Join(at, name); !yield(at) {
				return
			}
		}
	}
}

// The modes of what is published and of what only refreshers use.

func (o *ownership) dirMode() fs.FileMode {
	mode := fs.FileMode(0o755)
	if o.reach != everyone {
		mode = 0o700
	}
	if o.forGroup() {
		mode |= fs.ModeSetgid | 0o050
		if o.shared {
			mode |= 0o020
		}
	}
	return mode
}

// privateDirMode is for staging, below which all has the group that is handed
// down by setgid.
func (o *ownership) privateDirMode() fs.FileMode {
	mode := fs.FileMode(0o700)
	if o.forGroup() {
		mode |= fs.ModeSetgid
		if o.shared {
			mode |= 0o070 // another maintainer may have to sweep it
		}
	}
	return mode
}

// forGroup says whether directories are to belong to the root's group, for it
// writes them, or alone is to read them; and whether this process can give them
// to it, which a stranger with a cache_dir of their own cannot.
func (o *ownership) forGroup() bool {
	want := o.shared && o.reach != theOwner || o.reach == theGroup
	return want && o.gid != overflowID && (unix.Geteuid() == 0 || memberOf(o.gid))
}

func (o *ownership) lockMode() fs.FileMode {
	if o.shared {
		return 0o660
	}
	return 0o600
}

const publicMode = 0o644
