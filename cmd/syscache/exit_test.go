//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// TestPermissionHint: who was refused is told who they are.
func TestPermissionHint(t *testing.T) {
	err := fmt.Errorf("refresh t: %w", &fs.PathError{Op: "mkdir", Path: "/opt/x", Err: fs.ErrPermission})
	if want := fmt.Sprintf("you are uid %d", os.Geteuid()); !strings.Contains(hint(err), want) {
		t.Errorf("%q does not say %q", hint(err), want)
	}
}
