package format

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Samples that use every field.

func somePointer() *Pointer {
	id := [32]byte{1, 2, 3}
	return &Pointer{
		Kind: KindTable, Cache: "star-imports", Root: "/opt/sage",
		Key: [32]byte{1}, Meta: [32]byte{2}, TableSize: 4096,
		Witnesses: []Witness{
			{Type: WitnessFile, Path: "share/MANIFEST", Identity: id, Digest: [32]byte{4}},
			{Type: WitnessDir, Path: "lib/\xff\n", Digest: [32]byte{5}},
			{Type: WitnessSymlink, Path: "link", Identity: id, Digest: [32]byte{6}},
			{Type: WitnessAbsent, Path: "nothing"},
		},
		HasStats: true, Stats: EncodeStats(someStats()),
	}
}

func someStats() []StatDir {
	return []StatDir{
		{Path: "", Check: true, ID: Identity{1, -2, 3, 4}},
		{Path: "/usr/bin", Files: []StatFile{{"python3", Identity{5, 6, 7, 8}}}},
		{Path: "lib", Check: true, ID: Identity{}, Files: []StatFile{{"a", Identity{}}, {"b", Identity{9, 9, 9, 9}}}},
	}
}

func someMeta() *GenerationMeta {
	return &GenerationMeta{
		Kind: KindFiles, Key: [32]byte{7}, Manifest: [32]byte{8},
		Outputs: []Output{
			{Path: "files", Type: OutputDir, Mode: 0o755},
			{Path: "files/a", Type: OutputFile, Mode: 0o644, Size: 9, Digest: [32]byte{9}},
			{Path: "files/l", Type: OutputSymlink, Mode: 0o777, Size: 1, Digest: [32]byte{10}},
		},
	}
}

func someHeader() TableHeader {
	h := TableHeader{Key: [32]byte{11}, Rows: 3, RowsEnd: TableHeaderSize + 3*24, MaxDisplacement: 1}
	h.Homes = Homes(h.Rows)
	h.Slots = h.Homes + 1
	return h
}

func collectStats(s Stats) (dirs []StatDir, err error) {
	for d, err := range s.All() {
		if err != nil {
			return nil, err
		}
		d.Files = append([]StatFile(nil), d.Files...)
		dirs = append(dirs, d)
	}
	return dirs, nil
}

func mustEncode(t testing.TB, p *Pointer) []byte {
	t.Helper()
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrips(t *testing.T) {
	pointers := map[string]*Pointer{
		"full": somePointer(),
		"bare": {Kind: KindFiles, Cache: "c"},
		"at /": {Kind: KindTable, Cache: "c", Root: "/"},
	}
	for name, p := range pointers {
		got, err := DecodePointer(mustEncode(t, p))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(got.Stats) == 0 {
			got.Stats = nil
		}
		if d := cmp.Diff(p, got); d != "" {
			t.Errorf("pointer %s (-want +got):\n%s", name, d)
		}
	}
	for name, dirs := range map[string][]StatDir{"full": someStats(), "none": nil} {
		s := EncodeStats(dirs)
		got, err := collectStats(s)
		if d := cmp.Diff(dirs, got); err != nil || d != "" {
			t.Errorf("stats %s: %v (-want +got):\n%s", name, err, d)
		}
	}
	if d, f := EncodeStats(someStats()).Counts(); d != 3 || f != 3 {
		t.Errorf("Counts() = %d, %d", d, f)
	}
	for name, m := range map[string]*GenerationMeta{"full": someMeta(), "empty": {Kind: KindTable}} {
		got, err := DecodeMeta(m.Encode())
		if d := cmp.Diff(m, got); err != nil || d != "" {
			t.Errorf("meta %s: %v (-want +got):\n%s", name, err, d)
		}
	}
	h := someHeader()
	got, err := DecodeTableHeader(h.Encode(), h.Size())
	if err != nil || got != h {
		t.Errorf("header: %+v, %v", got, err)
	}
	for _, r := range [][2]string{{"", ""}, {"k", ""}, {"", "v"}, {"key", "value"}, {"\x00\n\xff", strings.Repeat("v", 5000)}, {strings.Repeat("k", MaxKey), "v"}} {
		b := AppendRow([]byte("before.."), []byte(r[0]), []byte(r[1]))[8:]
		k, v, size, err := Row(append(b, "after"...))
		if string(k) != r[0] || string(v) != r[1] || size != uint64(len(b)) || size%8 != 0 || err != nil {
			t.Errorf("row %.9q: %.9q %.9q %d %v", r, k, v, size, err)
		}
	}
}

// reseal puts right the CRC-32 in the last four bytes of b[:n].
func reseal(b []byte, n int) []byte {
	le.PutUint32(b[n-4:], Checksum(b[:n-4]))
	return b
}

func TestPointerViolations(t *testing.T) {
	plain := func() *Pointer { return &Pointer{Kind: KindTable, Cache: "c", TableSize: 8} }
	absent := func() *Pointer {
		p := plain()
		p.Witnesses = []Witness{{Type: WitnessAbsent, Path: "w"}}
		return p
	}
	file := func() *Pointer {
		p := plain()
		p.Witnesses = []Witness{{Type: WitnessFile, Path: "w", Identity: [32]byte{1}}}
		return p
	}
	for name, tc := range map[string]struct {
		p      *Pointer
		change func(b []byte) []byte // reseal follows, but for names that begin with "raw"
		want   error
	}{
		"raw empty":         {plain(), func(b []byte) []byte { return nil }, ErrCorrupt},
		"raw magic alone":   {plain(), func(b []byte) []byte { return b[:8] }, ErrCorrupt},
		"raw 23 bytes":      {plain(), func(b []byte) []byte { return b[:23] }, ErrCorrupt},
		"flag, no stats":    {plain(), func(b []byte) []byte { b[17] = 1; return b }, ErrCorrupt},
		"no identity":       {file(), func(b []byte) []byte { clear(b[114:146]); return b }, ErrCorrupt},
		"raw cut":           {plain(), func(b []byte) []byte { return b[:len(b)-1] }, ErrCorrupt},
		"raw magic":         {plain(), func(b []byte) []byte { b[0] = 's'; return b }, ErrCorrupt},
		"raw header CRC":    {plain(), func(b []byte) []byte { b[len(b)-1]++; return b }, ErrCorrupt},
		"raw H of 23":       {plain(), func(b []byte) []byte { le.PutUint32(b[12:], 23); return b }, ErrCorrupt},
		"raw H of 4097":     {plain(), func(b []byte) []byte { le.PutUint32(b[12:], 4097); return append(b, make([]byte, 5000)...) }, ErrCorrupt},
		"raw H beyond":      {plain(), func(b []byte) []byte { le.PutUint32(b[12:], uint32(len(b)+1)); return b }, ErrCorrupt},
		"raw H of 2^32-1":   {plain(), func(b []byte) []byte { le.PutUint32(b[12:], math.MaxUint32); return b }, ErrCorrupt},
		"raw more after it": {plain(), func(b []byte) []byte { return append(b, 0) }, ErrCorrupt},
		"raw newer, bad CRC": {plain(), func(b []byte) []byte {
			le.PutUint32(b[8:], 2)
			return b
		}, ErrCorrupt},
		"version 0":      {plain(), func(b []byte) []byte { le.PutUint32(b[8:], 0); return b }, ErrCorrupt},
		"version 2":      {plain(), func(b []byte) []byte { le.PutUint32(b[8:], 2); return b }, ErrTooNew},
		"version 2^32-1": {plain(), func(b []byte) []byte { le.PutUint32(b[8:], math.MaxUint32); return b }, ErrTooNew},
		"kind 0":         {plain(), func(b []byte) []byte { b[16] = 0; return b }, ErrCorrupt},
		"kind 3":         {plain(), func(b []byte) []byte { b[16] = 3; return b }, ErrCorrupt},
		"flag 2":         {plain(), func(b []byte) []byte { b[17] = 2; return b }, ErrCorrupt},
		"stats unsaid":   {plain(), func(b []byte) []byte { b[32] = 1; return b }, ErrCorrupt},
		"stats absent":   {plain(), func(b []byte) []byte { b[17], b[32] = 1, 12; return b }, ErrCorrupt},
		"stats of 2^64-1": {plain(), func(b []byte) []byte {
			b[17] = 1
			le.PutUint64(b[32:], math.MaxUint64)
			return b
		}, ErrCorrupt},
		"reserved":          {plain(), func(b []byte) []byte { b[23] = 1; return b }, ErrCorrupt},
		"witness unsaid":    {absent(), func(b []byte) []byte { b[18] = 0; return b }, ErrCorrupt},
		"witness absent":    {plain(), func(b []byte) []byte { b[18] = 1; return b }, ErrCorrupt},
		"65535 witnesses":   {plain(), func(b []byte) []byte { b[18], b[19] = 255, 255; return b }, ErrCorrupt},
		"cache name length": {plain(), func(b []byte) []byte { b[104] = 255; return b }, ErrCorrupt},
		"cache name":        {&Pointer{Kind: KindTable, Cache: "../x"}, nil, ErrCorrupt},
		"no cache name":     {&Pointer{Kind: KindTable}, nil, ErrCorrupt},
		"long cache name":   {&Pointer{Kind: KindTable, Cache: strings.Repeat("c", 65)}, nil, ErrCorrupt},
		"files, table size": {&Pointer{Kind: KindFiles, Cache: "c", TableSize: 1}, nil, ErrCorrupt},
		"relative root":     {&Pointer{Kind: KindTable, Cache: "c", Root: "opt"}, nil, ErrCorrupt},
		"root with ..":      {&Pointer{Kind: KindTable, Cache: "c", Root: "/opt/.."}, nil, ErrCorrupt},
		"root with slash":   {&Pointer{Kind: KindTable, Cache: "c", Root: "/opt/"}, nil, ErrCorrupt},
		"root with NUL":     {&Pointer{Kind: KindTable, Cache: "c", Root: "/o\x00"}, nil, ErrCorrupt},
		"witness type 0":    {absent(), func(b []byte) []byte { b[109] = 0; return b }, ErrCorrupt},
		"witness type 5":    {absent(), func(b []byte) []byte { b[109] = 5; return b }, ErrCorrupt},
		"witness flag 2":    {file(), func(b []byte) []byte { b[110] |= 2; return b }, ErrCorrupt},
		"absent, identity":  {absent(), func(b []byte) []byte { b[110] = 1; return b }, ErrCorrupt},
		"identity unsaid":   {file(), func(b []byte) []byte { b[110] = 0; return b }, ErrCorrupt},
		"witness path":      {absent(), func(b []byte) []byte { b[113] = '/'; return b }, ErrCorrupt},
		"witness dot":       {absent(), func(b []byte) []byte { b[113] = '.'; return b }, ErrCorrupt},
		"witness NUL":       {absent(), func(b []byte) []byte { b[113] = 0; return b }, ErrCorrupt},
		"witness no path":   {absent(), func(b []byte) []byte { b[111] = 0; return b }, ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			b := mustEncode(t, tc.p)
			if _, err := DecodePointer(b); tc.change != nil && err != nil {
				t.Fatalf("before the change: %v", err)
			}
			if tc.change != nil {
				b = tc.change(b)
			}
			if !strings.HasPrefix(name, "raw") {
				reseal(b, int(le.Uint32(b[12:])))
			}
			if p, err := DecodePointer(b); !errors.Is(err, tc.want) {
				t.Errorf("got %+v, %v, want %v", p, err, tc.want)
			}
		})
	}
}

// A later version may have another layout; only magic, version, H and CRC are
// kept.
func TestPointerOfLaterLayout(t *testing.T) {
	b := append([]byte(pointerMagic), 9, 0, 0, 0, 24, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)
	if _, err := DecodePointer(reseal(b, 24)); !errors.Is(err, ErrTooNew) {
		t.Errorf("got %v, want %v", err, ErrTooNew)
	}
	le.PutUint32(b[8:], 1)
	if _, err := DecodePointer(reseal(b, 24)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("short header of version 1: got %v, want %v", err, ErrCorrupt)
	}
}

func TestPointerTooManyWitnesses(t *testing.T) {
	p := somePointer()
	for range 100 {
		p.Witnesses = append(p.Witnesses, p.Witnesses[0])
	}
	if _, err := p.Encode(); err == nil {
		t.Error("a header of more than 4096 bytes was encoded")
	}
	// The most that fit.
	p = &Pointer{Kind: KindTable, Cache: "c"}
	for len(mustEncode(t, p)) < MaxPointerHeader-4-(4+64) {
		p.Witnesses = append(p.Witnesses, Witness{Type: WitnessFile, Path: "w"})
	}
	if _, err := DecodePointer(mustEncode(t, p)); err != nil {
		t.Error(err)
	}
}

func TestStatsViolations(t *testing.T) {
	one := func(path string, names ...string) []StatDir {
		d := StatDir{Path: path}
		for _, n := range names {
			d.Files = append(d.Files, StatFile{Name: n})
		}
		return []StatDir{d}
	}
	for name, tc := range map[string]struct {
		dirs   []StatDir
		change func(b []byte) []byte
	}{
		"raw empty":           {nil, func([]byte) []byte { return nil }},
		"raw 11 bytes":        {nil, func(b []byte) []byte { return b[:11] }},
		"raw CRC":             {nil, func(b []byte) []byte { b[11]++; return b }},
		"raw cut":             {one("d", "a"), func(b []byte) []byte { return b[:len(b)-1] }},
		"a directory too few": {someStats(), func(b []byte) []byte { b[0]--; return b }},
		"one too many":        {someStats(), func(b []byte) []byte { b[0]++; return b }},
		"2^32-1 directories":  {nil, func(b []byte) []byte { le.PutUint32(b, math.MaxUint32); return b }},
		"a file too few":      {someStats(), func(b []byte) []byte { b[4]--; return b }},
		"a file too many":     {someStats(), func(b []byte) []byte { b[4]++; return b }},
		"2^32-1 files": {one("d"), func(b []byte) []byte {
			le.PutUint32(b[4:], math.MaxUint32)
			le.PutUint32(b[8+3+1+32:], math.MaxUint32)
			return b
		}},
		"check of 2":         {one("d"), func(b []byte) []byte { b[11] = 2; return b }},
		"unchecked identity": {[]StatDir{{Path: "d", ID: Identity{Inode: 1}}}, nil},
		"unsorted paths":     {append(one("b"), one("a")...), nil},
		"equal paths":        {append(one("a"), one("a")...), nil},
		"equal empty paths":  {append(one(""), one("")...), nil},
		"path with ..":       {one("a/../b"), nil},
		"path //":            {one("//"), nil},
		"path with slash":    {one("a/"), nil},
		"path with NUL":      {one("a\x00"), nil},
		"unsorted names":     {one("d", "b", "a"), nil},
		"equal names":        {one("d", "a", "a"), nil},
		"no name":            {one("d", ""), nil},
		"name .":             {one("d", "."), nil},
		"name ..":            {one("d", ".."), nil},
		"name with slash":    {one("d", "a/b"), nil},
		"name with NUL":      {one("d", "a\x00"), nil},
		"rest":               {nil, func(b []byte) []byte { return append(b, 0, 0, 0, 0) }},
	} {
		t.Run(name, func(t *testing.T) {
			b := []byte(EncodeStats(tc.dirs))
			if tc.change != nil {
				b = tc.change(b)
			}
			if !strings.HasPrefix(name, "raw") {
				reseal(b, len(b))
			}
			if got, err := collectStats(b); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %+v, %v, want %v", got, err, ErrCorrupt)
			}
		})
	}
}

func TestMetaViolations(t *testing.T) {
	with := func(o ...Output) *GenerationMeta { return &GenerationMeta{Kind: KindFiles, Outputs: o} }
	for name, tc := range map[string]struct {
		m      *GenerationMeta
		change func(b []byte) []byte
	}{
		"raw empty":      {someMeta(), func([]byte) []byte { return nil }},
		"raw magic":      {someMeta(), func(b []byte) []byte { b[7]++; return b }},
		"raw CRC":        {someMeta(), func(b []byte) []byte { b[20]++; return b }},
		"raw cut":        {someMeta(), func(b []byte) []byte { return b[:len(b)-1] }},
		"short":          {someMeta(), func(b []byte) []byte { return b[:40] }},
		"version 0":      {someMeta(), func(b []byte) []byte { b[8] = 0; return b }},
		"version 2":      {someMeta(), func(b []byte) []byte { b[8] = 2; return b }},
		"kind 3":         {someMeta(), func(b []byte) []byte { b[12] = 3; return b }},
		"zeros":          {someMeta(), func(b []byte) []byte { b[15] = 1; return b }},
		"one too few":    {someMeta(), func(b []byte) []byte { b[88]--; return b }},
		"one too many":   {someMeta(), func(b []byte) []byte { b[88]++; return b }},
		"2^32-1 outputs": {with(), func(b []byte) []byte { le.PutUint32(b[88:], math.MaxUint32); return b }},
		"output type 0":  {with(Output{Path: "a"}), nil},
		"output type 4":  {with(Output{Path: "a", Type: 4}), nil},
		"output zero":    {someMeta(), func(b []byte) []byte { b[93] = 1; return b }},
		"setuid":         {with(Output{Path: "a", Type: OutputFile, Mode: 0o4755}), nil},
		"size of 2^63":   {with(Output{Path: "a", Type: OutputFile, Size: 1 << 63}), nil},
		"path":           {with(Output{Path: "../a", Type: OutputFile}), nil},
		"unsorted":       {with(Output{Path: "b", Type: OutputFile}, Output{Path: "a", Type: OutputFile}), nil},
		"equal":          {with(Output{Path: "a", Type: OutputFile}, Output{Path: "a", Type: OutputFile}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := tc.m.Encode()
			if tc.change != nil {
				b = tc.change(b)
			}
			if !strings.HasPrefix(name, "raw") {
				reseal(b, len(b))
			}
			if got, err := DecodeMeta(b); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %+v, %v, want %v", got, err, ErrCorrupt)
			}
		})
	}
}

func TestTableHeaderViolations(t *testing.T) {
	put := func(at int, v uint64) func(b []byte) []byte {
		return func(b []byte) []byte { le.PutUint64(b[at:], v); return b }
	}
	put32 := func(at int, v uint32) func(b []byte) []byte {
		return func(b []byte) []byte { le.PutUint32(b[at:], v); return b }
	}
	for name, change := range map[string]func(b []byte) []byte{
		"raw empty":         func([]byte) []byte { return nil },
		"raw 127 bytes":     func(b []byte) []byte { return b[:127] },
		"raw magic":         func(b []byte) []byte { b[0]++; return b },
		"raw CRC":           func(b []byte) []byte { b[127]++; return b },
		"version 0":         put32(8, 0),
		"version 2":         put32(8, 2),
		"header length":     put32(12, 129),
		"size":              put(48, 1),
		"rows":              put(56, 4),
		"2^64-1 rows":       put(56, math.MaxUint64),
		"end before rows":   put(64, 120),
		"end not aligned":   put(64, 204),
		"end at 2^64-8":     put(64, math.MaxUint64-7),
		"homes":             put(72, 5),
		"2^64-1 homes":      put(72, math.MaxUint64),
		"slots below homes": put(80, 3),
		"too many slots":    put(80, 9),
		"2^61 slots":        put(80, 1<<61),
		"displacement":      put32(88, 5),
		"rows per order":    put32(92, 63),
		"first zero":        func(b []byte) []byte { b[96] = 1; return b },
		"last zero":         func(b []byte) []byte { b[123] = 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			h := someHeader()
			b := change(h.Encode())
			if !strings.HasPrefix(name, "raw") {
				reseal(b, TableHeaderSize)
			}
			if got, err := DecodeTableHeader(b, h.Size()); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %+v, %v, want %v", got, err, ErrCorrupt)
			}
		})
	}
	h := someHeader()
	for _, size := range []uint64{0, h.Size() - 1, h.Size() + 1, math.MaxUint64} {
		if _, err := DecodeTableHeader(h.Encode(), size); !errors.Is(err, ErrCorrupt) {
			t.Errorf("file of %d bytes: %v", size, err)
		}
	}
	// No rows, and bytes where none can be.
	h = TableHeader{RowsEnd: TableHeaderSize + 8, Homes: 1, Slots: 1}
	if _, err := DecodeTableHeader(h.Encode(), h.Size()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("no rows up to %d: %v, want %v", h.RowsEnd, err, ErrCorrupt)
	}
}

func TestRowViolations(t *testing.T) {
	row := func() []byte { return AppendRow(nil, []byte("key"), []byte("value")) }
	seal := func(b []byte) []byte { le.PutUint32(b, Checksum(b[4:])); return b }
	for name, b := range map[string][]byte{
		"empty":          nil,
		"11 bytes":       row()[:11],
		"cut":            row()[:23],
		"CRC":            append([]byte{0}, row()[1:]...),
		"long key":       func() []byte { b := row(); le.PutUint32(b[4:], MaxKey+1); return b }(),
		"long value":     func() []byte { b := row(); le.PutUint32(b[8:], MaxValue+1); return b }(),
		"longest":        func() []byte { b := row(); le.PutUint64(b[4:], math.MaxUint64); return b }(),
		"value too long": func() []byte { b := row(); b[8] = 14; return seal(b) }(),
		"padding":        func() []byte { b := row(); b[len(b)-1] = 1; return seal(b) }(),
	} {
		if k, v, _, err := Row(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %q, %q, %v, want %v", name, k, v, err, ErrCorrupt)
		}
	}
}

func TestHome(t *testing.T) {
	for _, homes := range []uint64{1, 2, 101, 1<<32 + 5, 1 << 38} {
		if a, b := HomeOf(0, homes), HomeOf(math.MaxUint32, homes); a != 0 || b >= homes || b < homes-homes>>32-1 {
			t.Errorf("HomeOf among %d: %d to %d", homes, a, b)
		}
	}
	if got := HomeOf(1<<31, 101); got != 50 {
		t.Errorf("HomeOf(2^31, 101) = %d, want 50", got)
	}
}

func TestRowFits(t *testing.T) {
	for offset, want := range map[uint64]bool{128: true, maxOffset - 24: true, maxOffset - 16: false} {
		if got := RowFits(offset, 24); got != want {
			t.Errorf("RowFits(%d, 24) = %v", offset, got)
		}
	}
	if s := Slot(7, maxOffset); SlotHash(s) != 7 || SlotOffset(s) != maxOffset {
		t.Errorf("slot %x does not hold the greatest offset", s)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "0": true, "a.b_c-d": true, strings.Repeat("a", 64): true,
		"": false, ".a": false, "-a": false, "_": false, "A": false, "a/b": false, "a\n": false, "ä": false,
		strings.Repeat("a", 65): false,
	} {
		if got := ValidCacheName(name); got != want {
			t.Errorf("ValidCacheName(%q) = %v", name, got)
		}
	}
	for path, want := range map[string]bool{
		"a": true, "a/b": true, "...": true, "a/.b": true, "\xff": true,
		"": false, "/": false, "/a": false, "a/": false, "a//b": false, ".": false, "..": false,
		"a/.": false, "../a": false, "a/../b": false, "a\x00": false,
	} {
		if got := ValidPath(path); got != want {
			t.Errorf("ValidPath(%q) = %v", path, got)
		}
	}
	for _, j := range [][3]string{{"/r", "a", "/r/a"}, {"/", "a", "/a"}, {"/r", "/a", "/a"}, {"/r", "", "/r"}} {
		if got := Join(j[0], j[1]); got != j[2] {
			t.Errorf("Join(%q, %q) = %q", j[0], j[1], got)
		}
	}
}

// TestOrigins: every way in which a file of origins can be wrong is told.
func TestOrigins(t *testing.T) {
	good := AppendOrigin(AppendOrigin(AppendOrigin(OriginsHeader(3), 1), 0), 1)
	if got, err := collectOrigins(good, 3, 2); err != nil || !cmp.Equal(got, []uint32{1, 0, 1}) {
		t.Fatalf("%v, %v", got, err)
	}
	for name, tc := range map[string]struct {
		rows   uint64
		inputs int
		change func(b []byte) []byte
		want   string
	}{
		"magic":       {3, 2, func(b []byte) []byte { b[7]++; return b }, "magic"},
		"version":     {3, 2, func(b []byte) []byte { b[8]++; return b }, "version 2"},
		"no header":   {3, 2, func(b []byte) []byte { return b[:15] }, "cut short"},
		"other rows":  {4, 2, nil, "of 3 rows, and there are 4"},
		"cut":         {3, 2, func(b []byte) []byte { return b[:len(b)-1] }, "cut short"},
		"more":        {3, 2, func(b []byte) []byte { return append(b, 0) }, "after their end"},
		"other input": {3, 1, nil, "input 1, and there are 1"},
	} {
		b := bytes.Clone(good)
		if tc.change != nil {
			b = tc.change(b)
		}
		if _, err := collectOrigins(b, tc.rows, tc.inputs); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
