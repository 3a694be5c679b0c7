//go:build linux

package suites

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A refresh that has nothing to do writes nothing: no inode, size or time in
// the cache_dir moves, the lock's neither.
func TestRefreshAgainWritesNothing(t *testing.T) {
	for _, witness := range []string{``, `witness = ["lib/one"]`, `witness = ["lib/"]`, `witness = []`} {
		t.Run(witness, func(t *testing.T) {
			r := newLines(t, admin, witness)
			if got := r.refresh(); got.Outcome != "built" {
				t.Fatalf("first refresh: %s", got.Outcome)
			}
			before := r.walk(r.dir)
			if got := r.refresh(); got.Outcome != "unchanged" {
				t.Errorf("second refresh: %s", got.Outcome)
			}
			if diff := cmp.Diff(before, r.walk(r.dir)); diff != "" {
				t.Errorf("it wrote (-before +after):\n%s", diff)
			}
			if r.builds() != 1 {
				t.Errorf("%d builds", r.builds())
			}
		})
	}
}
