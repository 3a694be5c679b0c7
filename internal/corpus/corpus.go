// Package corpus is what the fuzz targets of the tree share: seeds that are
// asserted to be there, and a bound on what an input costs. Only tests import
// it.
package corpus

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// Seeds asserts that testdata/fuzz, from which the corpus of f is read, holds
// the inputs named, as they are written today. With UPDATE_SEEDS set it writes
// them.
func Seeds(f *testing.F, all map[string][]byte) {
	f.Helper()
	for name, b := range all {
		path := filepath.Join("testdata", "fuzz", f.Name(), name)
		want := []byte("go test fuzz v1\n[]byte(" + strconv.QuoteToASCII(string(b)) + ")\n")
		if os.Getenv("UPDATE_SEEDS") != "" {
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, want, 0o644)); err != nil {
				f.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			f.Errorf("seed %s is not what is written today (%v): run UPDATE_SEEDS=1 go test", path, err)
		}
	}
}

// Bounded fails if f allocates more than a fixed multiple of its input.
func Bounded(t *testing.T, input int, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 64<<10+uint64(64*input) {
		t.Errorf("%d bytes allocated for an input of %d", got, input)
	}
}
