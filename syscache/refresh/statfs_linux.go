package refresh

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// fsTypes are the types of file system by their magic number. Those marked are
// another host's or program's to keep.
var fsTypes = map[uint32]struct {
	name    string
	network bool
}{
	unix.EXT4_SUPER_MAGIC:      {"ext4", false},
	unix.XFS_SUPER_MAGIC:       {"xfs", false},
	unix.BTRFS_SUPER_MAGIC:     {"btrfs", false},
	unix.F2FS_SUPER_MAGIC:      {"f2fs", false},
	unix.TMPFS_MAGIC:           {"tmpfs", false},
	unix.RAMFS_MAGIC:           {"ramfs", false},
	unix.OVERLAYFS_SUPER_MAGIC: {"overlayfs", false},
	unix.SQUASHFS_MAGIC:        {"squashfs", false},
	unix.EROFS_SUPER_MAGIC_V1:  {"erofs", false},
	0x2fc12fc1:                 {"zfs", false},
	unix.NFS_SUPER_MAGIC:       {"nfs", true},
	unix.CIFS_SUPER_MAGIC:      {"cifs", true},
	unix.SMB2_SUPER_MAGIC:      {"smb2", true},
	unix.CEPH_SUPER_MAGIC:      {"ceph", true},
	unix.AFS_SUPER_MAGIC:       {"afs", true},
	unix.V9FS_MAGIC:            {"9p", true},
	unix.FUSE_SUPER_MAGIC:      {"fuse", true},
	0x0bd00bd0:                 {"lustre", true},
	0x47504653:                 {"gpfs", true},
}

func statFS(path string) (*fsStat, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil, err
	}
	t, known := fsTypes[uint32(st.Type)]
	if !known {
		t.name = fmt.Sprintf("a file system of type %#x", uint32(st.Type))
	}
	return &fsStat{
		t.name, t.network, st.Flags&unix.ST_RDONLY != 0,
		st.Bavail * uint64(st.Bsize), st.Files, st.Ffree,
	}, nil
}
