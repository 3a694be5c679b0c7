package hashing

import (
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// forest plants n files of 4 KiB, ten to a directory, as an install has them.
func forest(b *testing.B, n int) string {
	b.Helper()
	root := plant(b)
	content := make([]byte, 4096)
	for i := range n / 10 {
		dir := fmt.Sprintf("%s/lib/python3/site-packages/package%03d/module%05d", root, i%100, i)
		check(b, os.MkdirAll(dir, 0o755))
		for k := range 10 {
			content[0], content[1], content[2] = byte(i), byte(i>>8), byte(k)
			check(b, os.WriteFile(fmt.Sprintf("%s/some_file_%d.py", dir, k), content, 0o644))
		}
	}
	return root
}

// BenchmarkScan scans 20,000 files, beside what find needs to stat them.
func BenchmarkScan(b *testing.B) {
	root := forest(b, 20_000)
	s := Scan{Root: root, Include: []string{"lib/python3*/site-packages/**/*.{py,so}"}, Exclude: []string{"**/tests/**"}}
	known := NewInventory(scan(b, s))
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			if n := scan(b, s).Hashed; n != 20_000 {
				b.Fatal(n)
			}
		}
	})
	b.Run("warm", func(b *testing.B) {
		s := s
		s.Known = known
		for b.Loop() {
			if tree := scan(b, s); tree.Hashed != 0 || len(tree.Files) != 20_000 {
				b.Fatal(tree.Hashed)
			}
		}
	})
	b.Run("find", func(b *testing.B) {
		for b.Loop() {
			check(b, exec.Command("find", root, "-printf", "%s %T@ %C@ %i %p\n").Run())
		}
	})
}

// BenchmarkMemory reports the resident memory that a scan of 100,000 files and
// all that a refresh makes of it need at most.
func BenchmarkMemory(b *testing.B) {
	root := forest(b, 100_000)
	s := Scan{Root: root, Include: []string{"**"}}
	s.Known = NewInventory(scan(b, s))
	debug.FreeOSMemory()
	check(b, os.WriteFile("/proc/self/clear_refs", []byte("5"), 0))
	for b.Loop() {
		tree := scan(b, s)
		m := &Manifest{Inputs: tree.Manifest()}
		encoded := m.Encode()
		_, _ = KeyOf(encoded), NewInventory(tree).Encode()
	}
	status, err := os.ReadFile("/proc/self/status")
	check(b, err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	check(b, err)
	b.ReportMetric(float64(kib)/1024, "peak-MiB")
}

// BenchmarkSum is what bounds a cold scan of large files.
func BenchmarkSum(b *testing.B) {
	root := plant(b)
	check(b, os.WriteFile(root+"/f", make([]byte, 64<<20), 0o644))
	b.SetBytes(64 << 20)
	for b.Loop() {
		scan(b, Scan{Root: root, Include: []string{"f"}, Workers: 1})
	}
}
