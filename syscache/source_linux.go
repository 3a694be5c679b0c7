package syscache

import "golang.org/x/sys/unix"

// mappable says whether the file system of fd keeps a deleted or replaced
// file readable for those who hold it open. Network and user-space file
// systems may not, and then a mapped page is a SIGBUS where a read is an
// error (ccache#1236).
func mappable(fd int) bool {
	var st unix.Statfs_t
	if ignoringEINTR(func() error { return unix.Fstatfs(fd, &st) }) != nil {
		return false
	}
	return local(uint32(st.Type))
}

// local says whether a type of file system is one whose files live in this
// machine's kernel. What is not known is not.
func local(fsType uint32) bool {
	switch fsType {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC,
		unix.OVERLAYFS_SUPER_MAGIC, unix.SQUASHFS_MAGIC, unix.EROFS_SUPER_MAGIC_V1,
		unix.F2FS_SUPER_MAGIC, 0x2fc12fc1 /* ZFS */ :
		return true
	}
	return false
}
