//go:build unix

package refresh

import "syscall"

// become changes all of the process. The group comes first: afterwards we may
// not. It is the directory's rather than the user database's, which a chroot
// may lack. Both of root set the real and the saved ids too, in all threads.
func become(uid, gid uint32) error {
	for _, step := range []func() error{
		func() error { return syscall.Setgroups([]int{int(gid)}) },
		func() error { return syscall.Setgid(int(gid)) },
		func() error { return syscall.Setuid(int(uid)) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
