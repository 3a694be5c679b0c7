package syscache_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDocFitsOnAScreen: what a programmer meets first, `go doc`, is read at
// once or not at all.
func TestDocFitsOnAScreen(t *testing.T) {
	out, err := exec.Command("go", "doc", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go doc: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	if len(lines) > 48 { // of the 50 of a screen, with the prompt
		t.Errorf("%d lines, want at most 48", len(lines))
	}
	for _, l := range lines {
		if n := len(strings.ReplaceAll(l, "\t", "        ")); n > 80 {
			t.Errorf("%d columns: %s", n, l)
		}
	}
}
