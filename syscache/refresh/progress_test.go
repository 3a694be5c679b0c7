package refresh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// saysChanges words the changes of a result.
func saysChanges(res Result) string {
	if res.Changes == nil {
		return "nil"
	}
	var all []string
	for _, c := range res.Changes {
		all = append(all, c.Path+" "+c.How.String())
	}
	return strings.Join(all, "; ")
}

// TestChanges: a result says what changed from what readers had, whether that
// was marked stale or not, and nothing where it is not to be trusted.
func TestChanges(t *testing.T) {
	root := newRoot(t)
	v := "1"
	c := value(&v)
	c.Inputs = []string{"share/**"}
	c.Env = map[string]string{"A": "1"}
	in := load(t, root, c)
	want := func(step, want string) {
		t.Helper()
		if got := saysChanges(refreshed(t, in)); got != want {
			t.Errorf("%s: %q, want %q", step, got, want)
		}
	}
	want("first", "nil")
	want("again", "")
	writeFile(t, root+"/share/MANIFEST", "edited\n", 0o644)
	writeFile(t, root+"/share/new", "", 0o644)
	want("edited", "share/MANIFEST content; share/new added")
	if err := os.Remove(root + "/share/new"); err != nil {
		t.Fatal(err)
	}
	if err := in.Invalidate("c"); err != nil {
		t.Fatal(err)
	}
	want("after invalidate", "share/new removed")
	c.Env = map[string]string{"A": "2"}
	in = load(t, root, c)
	want("recipe", "env A content")

	manifest := in.cacheDir + "/c/g/" + refreshed(t, in).Key.String() + "/manifest"
	if err := flip(manifest); err != nil {
		t.Fatal(err)
	}
	writeFile(t, root+"/share/MANIFEST", "edited again\n", 0o644)
	want("from a manifest that is corrupt", "nil")
}

// TestProgress: a builder finds the counts of the scan before it, and its own
// rows counted.
func TestProgress(t *testing.T) {
	root := newRoot(t)
	writeFile(t, root+"/share/b", "12345", 0o644)
	var p Progress
	var seen []string
	look := func() {
		s := p.Snapshot()
		seen = append(seen, fmt.Sprintf("phase %d: %d of %d, %d read, %d bytes, %d rows", s.Phase, s.Found, s.Total, s.Read, s.Bytes, s.Rows))
	}
	c := Cache{Inputs: []string{"share/**"}, Witness: []string{}, Build: func(_ context.Context, _ Inputs, emit func(k, v []byte) error) error {
		look()
		err := emit([]byte("k"), []byte("v"))
		look()
		return err
	}}
	in := load(t, root, c)
	if _, err := in.Refresh(t.Context(), "c", &Options{Progress: &p}); err != nil {
		t.Fatal(err)
	}
	look()
	writeFile(t, root+"/share/c", "6", 0o644)
	if _, err := in.Refresh(t.Context(), "c", &Options{Progress: &p}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"phase 3: 2 of 0, 2 read, 15 bytes, 0 rows",
		"phase 3: 2 of 0, 2 read, 15 bytes, 1 rows",
		"phase 4: 2 of 0, 2 read, 15 bytes, 1 rows",
		"phase 3: 3 of 2, 1 read, 1 bytes, 0 rows",
		"phase 3: 3 of 2, 1 read, 1 bytes, 1 rows",
	}
	if d := cmp.Diff(want, seen); d != "" {
		t.Error(d)
	}
}

// TestInterrupted: whatever was going on, the error says that, and nothing is
// left.
func TestInterrupted(t *testing.T) {
	root := newRoot(t)
	ctx, cancel := context.WithCancel(t.Context())
	in := load(t, root, Cache{Witness: []string{}, Build: func(ctx context.Context, _ Inputs, _ func(k, v []byte) error) error {
		cancel()
		return ctx.Err()
	}})
	_, err := in.Refresh(ctx, "c", nil)
	if !errors.Is(err, context.Canceled) || err.Error() != "refresh c: interrupted" {
		t.Error(err)
	}
	noLitter(t, in)
}
