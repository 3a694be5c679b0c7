package format

import (
	"bytes"
	"errors"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/syscache/syscache/internal/corpus"
)

// Each target: what decodes, encodes to the same bytes; what does not says
// why; and a claimed length costs no memory.

func wantKnown(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooNew) {
		t.Errorf("error of no kind: %v", err)
	}
}

func FuzzDecodePointer(f *testing.F) {
	bare, _ := (&Pointer{Kind: KindFiles, Cache: "c"}).Encode()
	corpus.Seeds(f, map[string][]byte{"full": mustEncode(f, somePointer()), "bare": bare, "magic": []byte(pointerMagic)})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= pointerFrame { // past the checksum
			if n := le.Uint32(b[12:]); n >= pointerFrame && uint64(n) <= uint64(len(b)) {
				reseal(b, int(n))
			}
		}
		corpus.Bounded(t, len(b), func() {
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
	corpus.Seeds(f, map[string][]byte{"full": EncodeStats(someStats()), "none": EncodeStats(nil)})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 {
			reseal(b, len(b))
		}
		corpus.Bounded(t, len(b), func() {
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
	corpus.Seeds(f, map[string][]byte{"header": h.Encode()})
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
	corpus.Seeds(f, map[string][]byte{
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
		corpus.Bounded(t, len(b), func() {
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
	corpus.Seeds(f, map[string][]byte{"full": someMeta().Encode(), "empty": empty.Encode()})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 {
			reseal(b, len(b))
		}
		corpus.Bounded(t, len(b), func() {
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

func FuzzOrigins(f *testing.F) {
	with := func(inputs ...uint32) []byte {
		b := OriginsHeader(uint32(len(inputs)))
		for _, i := range inputs {
			b = AppendOrigin(b, i)
		}
		return b
	}
	corpus.Seeds(f, map[string][]byte{
		"some": with(0, 2, 2, 1), "none": with(), "beyond": with(0, 3), "cut": with(0, 1)[:21], "more": append(with(1), 0), "many": OriginsHeader(1<<32 - 1),
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		rows := uint64(0)
		if len(b) >= OriginsHeaderSize {
			rows = uint64(le.Uint32(b[12:]))
		}
		inputs, err := collectOrigins(b, rows, 3)
		if err != nil {
			wantKnown(t, err)
			return
		}
		if again := with(inputs...); !bytes.Equal(again, b) {
			t.Errorf("%q decodes, and encodes to %q", b, again)
		}
	})
}

// collectOrigins returns all that an OriginsReader reads.
func collectOrigins(b []byte, rows uint64, inputs int) (all []uint32, err error) {
	o, err := ReadOrigins(bytes.NewReader(b), rows, inputs)
	for err == nil {
		var i uint32
		if i, err = o.Next(); err == nil {
			all = append(all, i)
		}
	}
	if err == io.EOF {
		err = nil
	}
	return all, err
}

// FuzzNames: what may be joined to a root stays below it, and what may name a
// cache is one component of a path that needs no quoting.
func FuzzNames(f *testing.F) {
	corpus.Seeds(f, map[string][]byte{"path": []byte("lib/a..b/.c"), "name": []byte("star-imports.2"), "dots": []byte("a/../b"), "zero": []byte("a\x00")})
	f.Fuzz(func(t *testing.T, b []byte) {
		name := string(b)
		if ValidPath(name) {
			if path.Clean("/root/"+name) != Join("/root", name) || strings.Contains(name, "\x00") || name[0] == '/' {
				t.Errorf("path %q", name)
			}
		}
		if ValidCacheName(name) && (!ValidPath(name) || strings.Contains(name, "/") || name[0] == '.' || ShellQuote(name) != name || Show(name) != name) {
			t.Errorf("name of a cache %q", name)
		}
		for _, shown := range []string{Show(name), ShellQuote(name)} {
			if strings.ContainsFunc(shown, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("%q is shown as %q", name, shown)
			}
		}
	})
}
