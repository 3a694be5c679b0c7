package syscache_test

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/syscache/syscache/internal/corpus"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache"
)

// tableOf encodes the table of rows, from docs/FORMAT.md alone: the refresher's
// own way is what it stands beside.
func tableOf(rows map[string]string) []byte {
	h := format.TableHeader{Rows: uint64(len(rows)), Homes: format.Homes(uint64(len(rows)))}
	b := make([]byte, format.TableHeaderSize)
	var slots []uint64
	var order []byte
	for i, k := range slices.Sorted(maps.Keys(rows)) {
		if i%format.RowsPerOrder == 0 {
			order = binary.LittleEndian.AppendUint32(order, uint32(len(b)/8))
		}
		slots = append(slots, format.Slot(format.Checksum([]byte(k)), uint64(len(b))))
		b = format.AppendRow(b, []byte(k), []byte(rows[k]))
	}
	h.RowsEnd = uint64(len(b))
	slices.Sort(slots)
	placed := map[uint64]uint64{}
	next := uint64(0)
	for _, s := range slots {
		home := h.Home(format.SlotHash(s))
		at := max(next, home)
		h.MaxDisplacement = max(h.MaxDisplacement, uint32(at-home))
		placed[at], next = s, at+1
	}
	h.Slots = max(h.Homes, next)
	for i := range h.Slots {
		b = binary.LittleEndian.AppendUint64(b, placed[i])
	}
	return sealTable(append(b, order...), &h)
}

// sealTable puts header and page checksums to rows and index.
func sealTable(b []byte, h *format.TableHeader) []byte {
	for page := range slices.Chunk(b[h.RowsEnd:], format.PageSize) {
		b = binary.LittleEndian.AppendUint32(b, format.Checksum(page))
	}
	copy(b, h.Encode())
	return b
}

// lyingTable makes a table of any bytes whose header fits and whose checksums
// hold, as who may write the cache could: its rows, slots, order and
// displacement are what the bytes say, and may overlap, repeat and contradict
// each other.
func lyingTable(b []byte) []byte {
	take := func(n int) []byte {
		f := make([]byte, n)
		b = b[copy(f, b):]
		return f
	}
	h := format.TableHeader{Rows: uint64(take(1)[0])}
	h.Homes = format.Homes(h.Rows)
	h.Slots = h.Homes + uint64(take(1)[0])%(h.Rows+1)
	h.MaxDisplacement = min(binary.LittleEndian.Uint32(take(4)), uint32(h.Slots-1))
	rows := 16*int(h.Rows) + 8*int(take(1)[0])
	if h.Rows == 0 {
		rows = 0
	}
	h.RowsEnd = uint64(format.TableHeaderSize + rows)
	t := append(make([]byte, format.TableHeaderSize), take(rows)...)
	t = append(t, take(int(h.IndexSize()))...)
	index := t[h.RowsEnd:]
	for i := uint64(format.TableHeaderSize); i < h.RowsEnd; { // a row after the other
		i += sealRow(t[:h.RowsEnd], i)
	}
	for i := range h.Slots { // and wherever a slot points
		slot := index[8*i:]
		if s := binary.LittleEndian.Uint64(slot); s != 0 {
			offset := format.TableHeaderSize + format.SlotOffset(s)%max(8, h.RowsEnd-format.TableHeaderSize)
			if s%3 == 0 && offset < h.RowsEnd { // most lies are near the truth
				sealRow(t[:h.RowsEnd], offset)
				if key, _, _, err := format.Row(t[offset:h.RowsEnd]); err == nil {
					binary.LittleEndian.PutUint64(slot, format.Slot(format.Checksum(key), offset))
				}
			}
		}
	}
	return sealTable(t, &h)
}

// sealRow puts right the checksum and the padding of a row, if one fits, and
// returns its length.
func sealRow(rows []byte, at uint64) uint64 {
	b := rows[at:]
	if len(b) < 16 {
		return 8
	}
	b[5], b[6], b[7], b[9], b[10], b[11] = 0, 0, 0, 0, 0, 0 // lengths below 256
	k, v := format.RowLengths(b)
	size := format.RowSize(int(k), int(v))
	if size > uint64(len(b)) {
		return 8
	}
	clear(b[format.RowHeaderSize+k+v : size])
	binary.LittleEndian.PutUint32(b, format.Checksum(b[4:size]))
	return size
}

// everyRow returns the rows that decode at any offset of a table, overlapping
// ones too: all that a reader may ever answer with.
func everyRow(table []byte, end uint64) map[string][]string {
	all := map[string][]string{}
	for i := uint64(format.TableHeaderSize); i < end; i += 8 {
		if k, v, _, err := format.Row(table[i:end]); err == nil {
			all[string(k)] = append(all[string(k)], string(v))
		}
	}
	return all
}

// tableFile keeps the one file whose contents a target changes.
func tableFile(t testing.TB) func(t *testing.T, b []byte) *syscache.Reader {
	f, err := os.CreateTemp(t.TempDir(), "")
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return func(t *testing.T, b []byte) *syscache.Reader {
		must(t, f.Truncate(0))
		_, err := f.WriteAt(b, 0)
		must(t, err)
		r, err := syscache.TableOf(f)
		must(t, err)
		return r
	}
}

// FuzzLyingTable: of a table whose checksums hold and which lies, a reader
// makes rows that are there, "corrupt" or "not found", comes to an end, and
// says the same with pread and mapped (I7).
func FuzzLyingTable(f *testing.F) {
	sound := tableOf(map[string]string{"a": "1", "b": "", "c": "three"})
	corpus.Seeds(f, map[string][]byte{
		"nothing": nil,
		"rows":    append([]byte{3, 0, 0, 0, 0, 0, 0}, sound[format.TableHeaderSize:]...),
		"cycle":   append([]byte{2, 2, 9, 0, 0, 0, 0}, bytes.Repeat([]byte{0, 0, 0, 0, 1, 0, 0, 0}, 12)...),
		"many":    append([]byte{255, 255, 255, 255, 255, 255, 255}, bytes.Repeat([]byte{0, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 'k'}, 500)...),
	})
	file := tableFile(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		table := lyingTable(b)
		h, err := format.DecodeTableHeader(table, uint64(len(table)))
		if err != nil {
			t.Fatalf("not the lie that was meant: %v", err)
		}
		rows := everyRow(table, h.RowsEnd)
		keys := slices.AppendSeq([]string{"", "absent"}, maps.Keys(rows))
		unmapped, mapped := file(t, table).Unmapped(), file(t, table)
		defer unmapped.Close()
		defer mapped.Close()
		mapped.Mapped()
		for _, key := range keys[:min(len(keys), 100)] {
			got, err := unmapped.Get([]byte(key))
			switch kind := kindOf(err); {
			case err == nil && !slices.Contains(rows[key], string(got)):
				t.Errorf("get %q: %q, which no row has", key, got)
			case err != nil && kind != "corrupt" && kind != "not found":
				t.Errorf("get %q: %v", key, err)
			}
			if again, other := mapped.Get([]byte(key)); !bytes.Equal(got, again) || kindOf(err) != kindOf(other) {
				t.Errorf("get %q: %q, %v, and mapped %q, %v", key, got, err, again, other)
			}
		}
		for _, prefix := range keys[:min(len(keys), 5)] {
			if list := scanned(t, unmapped, prefix, rows); !slices.Equal(list, scanned(t, mapped, prefix, rows)) {
				t.Errorf("scan %q: mapped it is another", prefix)
			}
			if n := len(scanned(t, unmapped, prefix, rows)); uint64(n) > h.RowsEnd/16 {
				t.Errorf("scan %q: %d rows in %d bytes", prefix, n, h.RowsEnd)
			}
		}
	})
}

// scanned returns the keys of a scan, and how it ended.
func scanned(t *testing.T, r *syscache.Reader, prefix string, rows map[string][]string) (list []string) {
	for row, err := range r.Scan([]byte(prefix)) {
		if err != nil {
			if kindOf(err) != "corrupt" {
				t.Errorf("scan %q: %v", prefix, err)
			}
			return append(list, "corrupt")
		}
		if !strings.HasPrefix(string(row.Key), prefix) || !slices.Contains(rows[string(row.Key)], string(row.Value)) {
			t.Errorf("scan %q: %q: %q, which no row has", prefix, row.Key, row.Value)
		}
		list = append(list, string(row.Key))
	}
	return list
}

// FuzzSoundTable: every row of a table is found, by its key and by each prefix
// of it, and nothing else is; whatever the keys. Keys that end in four zeros get
// the four bytes that give them all one hash.
func FuzzSoundTable(f *testing.F) {
	corpus.Seeds(f, map[string][]byte{
		"few":  []byte("\x01a\x02ab\x00\x03abc\x01\xff"),
		"many": bytes.Repeat([]byte("\x03ab\x00\x02\xff\xfe\x05"), 40),
		"hash": bytes.Repeat([]byte("\x05a\x00\x00\x00\x00\x06bc\x00\x00\x00\x00"), 2),
	})
	equal := equalHashes(400)
	file := tableFile(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		rows := map[string]string{}
		for len(b) > 0 {
			n := min(int(b[0])%16+1, len(b))
			key := string(b[1:n])
			if strings.HasSuffix(key, "\x00\x00\x00\x00") {
				key = equal[len(rows)%(len(equal)-1)]
			}
			rows[key] = string(b[:n])
			b = b[n:]
		}
		r := file(t, tableOf(rows)).Unmapped()
		defer r.Close()
		for key, value := range rows {
			if got, err := r.Get([]byte(key)); err != nil || string(got) != value {
				t.Errorf("get %q: %q, %v, want %q", key, got, err, value)
			}
			absent := key + "\x00"
			if _, there := rows[absent]; !there {
				if _, err := r.Get([]byte(absent)); kindOf(err) != "not found" {
					t.Errorf("get %q: %v", absent, err)
				}
			}
		}
		if _, err := r.Get([]byte(equal[399])); kindOf(err) != "not found" {
			t.Errorf("get of a key with their hash: %v", err)
		}
		sorted := slices.Sorted(maps.Keys(rows))
		for _, prefix := range append([]string{""}, sorted[:min(len(sorted), 10)]...) {
			var want, got []string
			for _, k := range sorted {
				if strings.HasPrefix(k, prefix) {
					want = append(want, k)
				}
			}
			for row, err := range r.Scan([]byte(prefix)) {
				if err != nil || rows[string(row.Key)] != string(row.Value) {
					t.Errorf("scan %q: %q: %q, %v", prefix, row.Key, row.Value, err)
				}
				got = append(got, string(row.Key))
			}
			if !slices.Equal(got, want) {
				t.Errorf("scan %q: %q, want %q", prefix, got, want)
			}
		}
	})
}

// FuzzOpen: whatever lies at current, and whether or not its checksums hold,
// Open gives the generation that is there, or says why not.
func FuzzOpen(f *testing.F) {
	root := newRoot(f)
	publish(f, root, cacheOf(map[string]string{"a": "1"}))
	current := cacheDir(root) + "/" + format.Current
	sound, err := os.ReadFile(current)
	must(f, err)
	p, err := format.DecodePointer(sound)
	must(f, err)
	p.Witnesses = []format.Witness{{Type: format.WitnessFile, Path: "share/MANIFEST"}, {Type: format.WitnessAbsent, Path: "x"}, {Type: format.WitnessDir, Path: "share"}}
	p.HasStats, p.Stats = true, format.EncodeStats([]format.StatDir{{Path: "share", Files: []format.StatFile{{Name: "MANIFEST"}}}, {Path: "x/y"}})
	full, err := p.Encode()
	must(f, err)
	corpus.Seeds(f, map[string][]byte{"sound": sound, "full": full, "empty": nil, "short": sound[:20]})
	pointer, err := os.OpenFile(current, os.O_RDWR, 0)
	must(f, err)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = resealPointer(b)
		must(t, pointer.Truncate(0))
		_, err := pointer.WriteAt(b, 0)
		must(t, err)
		for _, o := range []*syscache.ReadOptions{nil, {AllowStale: true}} {
			r, err := syscache.Open(root, "c", o)
			if err != nil {
				if kind := kindOf(err); !slices.Contains([]string{"corrupt", "missing", "stale", "too new"}, kind) {
					t.Errorf("open: %v", err)
				}
				continue
			}
			if r.Generation() != syscache.Key(p.Key) {
				t.Errorf("it opens %s", r.Generation())
			}
			if v, err := r.Get([]byte("a")); r.Dir() == "" && (err != nil || string(v) != "1") {
				t.Errorf("get: %q, %v", v, err)
			}
			r.Close()
		}
	})
}

// resealPointer puts right the checksums of a pointer, where they have a place.
func resealPointer(b []byte) []byte {
	if len(b) < 16 {
		return b
	}
	b = bytes.Clone(b)
	n := uint64(binary.LittleEndian.Uint32(b[12:]))
	if n < 24 || n > uint64(len(b)) {
		return b
	}
	binary.LittleEndian.PutUint32(b[n-4:], format.Checksum(b[:n-4]))
	if s := b[n:]; len(s) >= 4 {
		binary.LittleEndian.PutUint32(s[len(s)-4:], format.Checksum(s[:len(s)-4]))
	}
	return b
}
