package docs

import (
	"strings"
	"testing"
)

// TestAttacks: each attack names a test that there is.
func TestAttacks(t *testing.T) {
	n := 0
	for line := range strings.Lines(section(t, "SECURITY.md", "Attacks")) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| attack |") {
			continue
		}
		n++
		if err := guards(cells[3]); err != nil {
			t.Errorf("%s: %v", strings.TrimSpace(cells[1]), err)
		}
	}
	if n == 0 {
		t.Error("SECURITY.md tells of no attack")
	}
}
