//go:build unix

package refresh

import (
	"os/user"
	"slices"
	"strconv"
	"syscall"
)

// become changes all of the process. The group comes first: afterwards we may
// not. Both of root set the real and the saved ids too, in all threads.
func become(uid, gid uint32) error {
	for _, step := range []func() error{
		func() error { return syscall.Setgroups([]int{int(gid)}) },
		func() error { return syscall.Setgid(int(gid)) },
		func() error { return syscall.Setuid(int(uid)) },
		powerless,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// noGroup is the group of nobody.
const noGroup = 65534

// groupsOf returns the groups that the user database gives a user, their own
// first: nobody's for a user whom it does not know, as in a chroot without one.
func groupsOf(uid uint32) []uint32 {
	u, err := user.LookupId(strconv.Itoa(int(uid)))
	if err != nil {
		return []uint32{noGroup}
	}
	ids, _ := u.GroupIds()
	var groups []uint32
	for _, id := range slices.Insert(ids, 0, u.Gid) {
		if gid, err := strconv.ParseUint(id, 10, 32); err == nil {
			groups = append(groups, uint32(gid))
		}
	}
	if groups == nil {
		return []uint32{noGroup}
	}
	return groups
}
