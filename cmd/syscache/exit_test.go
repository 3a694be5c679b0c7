//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

// TestPermissionHint: who was refused is told who they are.
func TestPermissionHint(t *testing.T) {
	err := fmt.Errorf("refresh t: %w", &fs.PathError{Op: "mkdir", Path: "/opt/x", Err: fs.ErrPermission})
	if want := fmt.Sprintf("you are uid %d", os.Geteuid()); !strings.Contains(hint(err), want) {
		t.Errorf("%q does not say %q", hint(err), want)
	}
}

// TestLimitHint: what has run out is told, and nobody is sent to mend a builder
// or a configuration for it.
func TestLimitHint(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&syscache.Error{Op: "open", Cache: "t", Err: syscall.EMFILE}, "ulimit -n"},
		{&refresh.BuildError{Cache: "t", Err: fmt.Errorf("cannot run b: %w", syscall.EMFILE)}, "ulimit -n"},
		{&refresh.BuildError{Cache: "t", Err: fmt.Errorf("cannot run b: %w", syscall.EAGAIN)}, "ulimit -u"},
		{fmt.Errorf("scan t: open lib: %w", syscall.ENFILE), "ulimit -n"},
		{&fs.PathError{Op: "write", Path: "/opt/x", Err: syscall.EFBIG}, "ulimit -f"},
		{&fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}, "standard output"},
	} {
		if got := hint(c.err); !strings.Contains(got, c.want) {
			t.Errorf("%v: %q does not say %q", c.err, got, c.want)
		}
	}
}
