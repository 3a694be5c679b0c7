package format

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// Each target: what decodes, encodes to the same bytes; what does not says
// why; and a claimed length costs no memory.

// seeds asserts that testdata/fuzz, from which the corpus is read, holds what
// is written today.
func seeds(f *testing.F, all map[string][]byte) {
	for name, b := range all {
		checkSeed(f, name, b)
	}
}

func checkSeed(f *testing.F, name string, b []byte) {
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

// bounded fails if f allocates more than a fixed multiple of its input.
func bounded(t *testing.T, input int, f func()) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 64<<10+uint64(64*input) {
		t.Errorf("%d bytes allocated for an input of %d", got, input)
	}
}

func wantKnown(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooNew) {
		t.Errorf("error of no kind: %v", err)
	}
}

func FuzzDecodePointer(f *testing.F) {
	bare, _ := (&Pointer{Kind: KindFiles, Cache: "c"}).Encode()
	seeds(f, map[string][]byte{"full": mustEncode(f, somePointer()), "bare": bare, "magic": []byte(pointerMagic)})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= pointerFrame { // past the checksum
			if n := le.Uint32(b[12:]); n >= pointerFrame && uint64(n) <= uint64(len(b)) {
				reseal(b, int(n))
			}
		}
		bounded(t, len(b), func() {
			p, err := DecodePointer(b)
			if err != nil {
				wantKnown(t, err)
				return
			}
			if again, err := p.Encode(); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%q decodes, and encodes to %q, %v", b, again, err)
			}
		})
	})
}

func FuzzStats(f *testing.F) {
	seeds(f, map[string][]byte{"full": EncodeStats(someStats()), "none": EncodeStats(nil)})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 {
			reseal(b, len(b))
		}
		bounded(t, len(b), func() {
			dirs, err := collectStats(b)
			if err != nil {
				wantKnown(t, err)
				return
			}
			if again := EncodeStats(dirs); !bytes.Equal(again, b) {
				t.Errorf("%q decodes, and encodes to %q", b, []byte(again))
			}
		})
	})
}

func FuzzTable(f *testing.F) {
	h := someHeader()
	seeds(f, map[string][]byte{"header": h.Encode()})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < TableHeaderSize {
			return
		}
		b = reseal(b[:TableHeaderSize], TableHeaderSize)
		size := le.Uint64(b[48:])
		h, err := DecodeTableHeader(b, size)
		if err != nil {
			wantKnown(t, err)
			return
		}
		if again := h.Encode(); !bytes.Equal(again, b) {
			t.Errorf("%q decodes, and encodes to %q", b, again)
		}
		if h.RowsEnd > size || h.Order() > size || h.Pages() > size || h.Size() != size || h.Home(1<<32-1) >= h.Slots {
			t.Errorf("parts of %+v are outside the file", h)
		}
	})
}

func FuzzRow(f *testing.F) {
	seeds(f, map[string][]byte{
		"row":   AppendRow(nil, []byte("key"), []byte("value")),
		"empty": AppendRow(nil, nil, nil),
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= RowHeaderSize {
			k, v := RowLengths(b)
			if size := RowSize(int(k), int(v)); size <= uint64(len(b)) {
				le.PutUint32(b, Checksum(b[4:size]))
			}
		}
		bounded(t, len(b), func() {
			k, v, size, err := Row(b)
			if err != nil {
				wantKnown(t, err)
				return
			}
			if again := AppendRow(nil, k, v); !bytes.Equal(again, b[:size]) {
				t.Errorf("%q decodes, and encodes to %q", b[:size], again)
			}
		})
	})
}

func FuzzDecodeMeta(f *testing.F) {
	empty := &GenerationMeta{Kind: KindTable}
	seeds(f, map[string][]byte{"full": someMeta().Encode(), "empty": empty.Encode()})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 {
			reseal(b, len(b))
		}
		bounded(t, len(b), func() {
			m, err := DecodeMeta(b)
			if err != nil {
				wantKnown(t, err)
				return
			}
			if again := m.Encode(); !bytes.Equal(again, b) {
				t.Errorf("%q decodes, and encodes to %q", b, again)
			}
		})
	})
}
