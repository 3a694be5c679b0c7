//go:build linux

package main

import (
	"strings"
	"testing"
)

// TestBench runs every comparison once, as small as it can be: the harness must
// not rot between two runs of make bench. What it measures is of no interest.
func TestBench(t *testing.T) {
	all, err := choose("")
	if err != nil {
		t.Fatal(err)
	}
	small := sizes{rows: 1000, gets: 100, mapping: 1 << 16, files: 100, processes: 2, starts: 1, inputs: 4, generations: 2, caches: 2}
	var out strings.Builder
	if err := benchmark(all, 1, small, t.TempDir(), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, c := range all {
		if !strings.Contains(out.String(), "\n| "+c.work+" | ") {
			t.Errorf("no row for %q:\n%s", c.work, out.String())
		}
	}
}
