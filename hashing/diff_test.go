package hashing

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	one, two := Value([]byte("1")), Value([]byte("2"))
	in := func(path string, typ Type, mode uint16, size uint64, d Digest) Input {
		return Input{path, typ, mode, size, d}
	}
	old := &Manifest{
		Recipe: []Part{{"build", one}, {"env A", one}, {"kind", one}},
		Inputs: []Input{
			in("a", RegularFile, 0o644, 1, one),
			in("b", RegularFile, 0o644, 1, one),
			in("c", RegularFile, 0o644, 1, one),
			in("d", RegularFile, 0o644, 1, one),
			in("e", RegularFile, 0o644, 1, one),
			in("s", RegularFile, 0o644, 1, one),
			in("z", RegularFile, 0o644, 1, one),
		},
	}
	to := &Manifest{
		Recipe: []Part{{"build", two}, {"env B", one}, {"kind", one}},
		Inputs: []Input{
			in("A", Symlink, 0, 1, one),
			in("b", RegularFile, 0o644, 1, two),
			in("c", RegularFile, 0o755, 1, one),
			in("d", Symlink, 0, 1, two),
			in("e", RegularFile, 0o600, 2, two),
			in("s", RegularFile, 0o644, 2, one),
			in("z", RegularFile, 0o644, 1, one),
		},
	}
	want := []Change{
		{Path: "build", Recipe: true, How: Content},
		{Path: "env A", Recipe: true, How: Removed},
		{Path: "env B", Recipe: true, How: Added},
		{Path: "A", How: Added, New: to.Inputs[0]},
		{Path: "a", How: Removed, Old: old.Inputs[0]},
		{Path: "b", How: Content, Old: old.Inputs[1], New: to.Inputs[1]},
		{Path: "c", How: Mode, Old: old.Inputs[2], New: to.Inputs[2]},
		{Path: "d", How: Kind, Old: old.Inputs[3], New: to.Inputs[3]},
		{Path: "e", How: Content | Mode, Old: old.Inputs[4], New: to.Inputs[4]},
		{Path: "s", How: Content, Old: old.Inputs[5], New: to.Inputs[5]},
	}
	if d := cmp.Diff(want, Diff(old, to)); d != "" {
		t.Errorf("Diff (-want +got):\n%s", d)
	}
	if d := Diff(old, old); len(d) != 0 {
		t.Errorf("Diff with itself = %v", d)
	}
	if n := len(Diff(&Manifest{}, to)); n != len(to.Recipe)+len(to.Inputs) {
		t.Errorf("Diff with nothing has %d changes", n)
	}
	if n := len(Diff(to, &Manifest{})); n != len(to.Recipe)+len(to.Inputs) {
		t.Errorf("Diff to nothing has %d changes", n)
	}
}

func TestHowString(t *testing.T) {
	for how, want := range map[How]string{0: "", Added: "added", Removed: "removed", Content | Mode: "content, mode", Kind: "type"} {
		if got := how.String(); got != want {
			t.Errorf("%d: %q, want %q", how, got, want)
		}
	}
}
