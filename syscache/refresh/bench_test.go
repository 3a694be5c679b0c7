package refresh

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// BenchmarkWriteTable writes a table of $BENCH_ROWS rows (default 100,000) in
// $BENCH_DIR, and does not sync it: bench compares it with bbolt.
func BenchmarkWriteTable(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("BENCH_ROWS"))
	if err != nil {
		n = 100_000
	}
	dir := os.Getenv("BENCH_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	rows := make([]mergedRow, n) // sorted, with keys of 30 bytes and values of 60
	for i := range rows {
		key := fmt.Sprintf("sage/family_%03d/module_%07d", i/1000, i)
		rows[i] = mergedRow{[]byte(key), fmt.Appendf(nil, "%-60s", key+":class:line:doc"), uint64(i)}
	}
	for b.Loop() {
		f, err := os.Create(filepath.Join(dir, "table"))
		if err != nil {
			b.Fatal(err)
		}
		h, err := writeTable(f, [32]byte{}, n, func(yield func(mergedRow, error) bool) {
			for _, r := range rows {
				if !yield(r, nil) {
					return
				}
			}
		})
		if err != nil || h.Rows != uint64(n) || f.Close() != nil {
			b.Fatal(h.Rows, err)
		}
		if err := os.Remove(f.Name()); err != nil {
			b.Fatal(err)
		}
	}
}
