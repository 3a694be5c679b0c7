//go:build darwin || freebsd

package refresh

import (
	"slices"

	"golang.org/x/sys/unix"
)

func statFS(path string) (*fsStat, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil, err
	}
	name := unix.ByteSliceToString(st.Fstypename[:])
	return &fsStat{
		name, slices.Contains([]string{"nfs", "smbfs", "afpfs", "webdav", "fusefs", "macfuse"}, name), st.Flags&unix.MNT_RDONLY != 0,
		uint64(st.Bavail) * uint64(st.Bsize), uint64(st.Files), uint64(st.Ffree),
	}, nil
}
