//go:build unix

package environ

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const name = "SYSCACHE_TEST_ENVIRON"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "tell" {
		fmt.Print(Get(name))
		return
	}
	os.Exit(m.Run())
}

// TestGet: a set-uid program does not take directions from whoever runs it.
func TestGet(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: not root, so it cannot become other users")
	}
	dir, err := os.MkdirTemp("/tmp", "syscache-environ-") // t.TempDir keeps others out
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := dir + "/program"
	if err := copySelf(program); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]string{0o755: "/mine", os.ModeSetuid | 0o755: ""} {
		for _, step := range []error{os.Chmod(dir, 0o755), os.Chown(program, 61001, 61001), os.Chmod(program, mode)} {
			if step != nil {
				t.Fatal(step)
			}
		}
		cmd := exec.Command(program, "tell")
		cmd.Env = []string{name + "=/mine"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 61002, Gid: 61002}}
		got, err := cmd.Output()
		if err != nil || string(got) != want {
			t.Errorf("mode %v: %q, %v; want %q", mode, got, err, want)
		}
	}
}

func copySelf(to string) error {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, from); err != nil {
		return err
	}
	return f.Close()
}
