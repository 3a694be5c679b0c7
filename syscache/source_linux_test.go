package syscache

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMappable: a mapped file that its server, or a program, takes away is a
// signal; so only the kernel's own file systems are trusted with it.
func TestMappable(t *testing.T) {
	for name, fsType := range map[string]uint32{
		"nfs": unix.NFS_SUPER_MAGIC, "smb": unix.SMB_SUPER_MAGIC, "smb2": unix.SMB2_SUPER_MAGIC, "cifs": unix.CIFS_SUPER_MAGIC,
		"fuse": unix.FUSE_SUPER_MAGIC, "9p": unix.V9FS_MAGIC, "afs": unix.AFS_SUPER_MAGIC, "kafs": unix.AFS_FS_MAGIC,
		"ceph": unix.CEPH_SUPER_MAGIC, "coda": unix.CODA_SUPER_MAGIC, "ncp": unix.NCP_SUPER_MAGIC,
		"lustre": 0x0BD00BD0, "gpfs": 0x47504653, "unknown": 0x12345678,
	} {
		if local(fsType) {
			t.Errorf("%s is mapped", name)
		}
	}
	for path, want := range map[string]bool{"/dev/shm": true, "/proc/self/status": false} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got := mappable(int(f.Fd())); got != want {
			t.Errorf("mappable(%s) = %v", path, got)
		}
	}
}
