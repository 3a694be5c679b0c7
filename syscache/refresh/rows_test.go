package refresh

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/syscache/syscache/internal/corpus"
	"github.com/syscache/syscache/internal/format"
)

// collectRows returns what a sorter yields.
func collectRows(s *rowSorter) (rows [][2]string, err error) {
	for r, err := range unique(s.sorted()) {
		if err != nil {
			return rows, err
		}
		rows = append(rows, [2]string{string(r.key), string(r.value)})
	}
	return rows, nil
}

func TestSorted(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 50, 2000} {
		for _, memory := range []int{1, 100, 4000, 1 << 20} {
			want := map[string]string{}
			for range n {
				k := make([]byte, rnd.IntN(9))
				for i := range k {
					k[i] = byte(rnd.IntN(3) * 127)
				}
				want[string(k)] = strings.Repeat("v", rnd.IntN(40))
			}
			s := newRowSorter(realDisk{}, t.TempDir())
			s.memory = memory
			line := uint64(0)
			for k, v := range want {
				line++
				if err := s.add([]byte(k), []byte(v), line); err != nil {
					t.Fatal(err)
				}
			}
			if spills := memory < 4000 && len(want) > 10; spills != (len(s.runs) > 1) && memory != 4000 {
				t.Errorf("%d rows in %d bytes: %d runs", len(want), memory, len(s.runs))
			}
			got, err := collectRows(s)
			if err != nil {
				t.Fatal(err)
			}
			var sorted [][2]string
			for _, k := range slices.Sorted(maps.Keys(want)) {
				sorted = append(sorted, [2]string{k, want[k]})
			}
			if d := cmp.Diff(sorted, got); d != "" {
				t.Errorf("%d rows in %d bytes (-want +got):\n%s", len(want), memory, d)
			}
		}
	}
}

// TestRunIsCut: no row is lost because the file that it was spilled into lost
// its end, wherever that was.
func TestRunIsCut(t *testing.T) {
	const size = 16 + 2 // of a row in a run
	for cut := range int64(3 * size) {
		s := newRowSorter(realDisk{}, t.TempDir())
		s.memory = 3*2 + 24*2 // three rows a run
		for i := range byte(7) {
			if err := s.add([]byte{i}, []byte{i}, uint64(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Truncate(s.runs[0], cut); err != nil {
			t.Fatal(err)
		}
		if rows, err := collectRows(s); err == nil {
			t.Errorf("cut to %d bytes: %d rows and no error", cut, len(rows))
		}
	}
}

// TestDuplicates: the second row with a key is a mistake that names both,
// wherever the two were spilled.
func TestDuplicates(t *testing.T) {
	for _, memory := range []int{1, 60, 1 << 20} {
		for first := range 4 {
			for second := first + 1; second < 5; second++ {
				s := newRowSorter(realDisk{}, t.TempDir())
				s.memory = memory
				for i := range 5 {
					k := fmt.Sprint("k", i)
					if i == second {
						k = fmt.Sprint("k", first)
					}
					if err := s.add([]byte(k), nil, uint64(i+1)); err != nil {
						t.Fatal(err)
					}
				}
				_, err := collectRows(s)
				want := fmt.Sprintf(`row %d has the key "k%d" of row %d`, second+1, first, first+1)
				var dup *duplicateError
				if !errors.As(err, &dup) || err.Error() != want {
					t.Errorf("in %d bytes: %v, want %s", memory, err, want)
				}
			}
		}
	}
}

func TestRowLimits(t *testing.T) {
	check := func(key, value int, line uint64) error {
		return (&builtRow{key: make([]byte, key), value: make([]byte, value), line: line}).check()
	}
	if err := check(format.MaxKey, 0, 1); err != nil {
		t.Error(err)
	}
	if err := check(format.MaxKey+1, 0, 7); err == nil || err.Error() != "row 7: the key is 65536 bytes long, and at most 65535 are allowed" {
		t.Error(err)
	}
	if err := check(0, format.MaxValue+1, 8); err == nil || err.Error() != "row 8: the value is 1073741825 bytes long, and at most 1073741824 are allowed" {
		t.Error(err)
	}
}

// TestTableBytes guards I9: the bytes follow from the rows alone, not from
// the order in which they came or the memory there was.
func TestTableBytes(t *testing.T) {
	rows := map[string]string{}
	for i, k := range append(equalHashes(300), "a", "b", "", "zz") {
		rows[k] = fmt.Sprint(i)
	}
	var first []byte
	for i, memory := range []int{1 << 20, 1 << 20, 500, 9000} {
		dir := t.TempDir()
		s := newRowSorter(realDisk{}, dir)
		s.memory = memory
		for k, v := range rows { // in another order each time
			if err := s.add([]byte(k), []byte(v), 1); err != nil {
				t.Fatal(err)
			}
		}
		f, err := realDisk{}.Create(dir + "/table")
		if err != nil {
			t.Fatal(err)
		}
		h, err := writeTable(f, [32]byte{1}, len(rows), unique(s.sorted()))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		b, err := os.ReadFile(dir + "/table")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := format.DecodeTableHeader(b, uint64(len(b))); err != nil || got != h || h.Rows != uint64(len(rows)) {
			t.Errorf("header %+v, %v, want %+v", got, err, h)
		}
		if i > 0 && !bytes.Equal(b, first) {
			t.Errorf("in %d bytes of memory: another table", memory)
		}
		first = b
	}
}

// TestIndex checks every slot against the rule of FORMAT.md.
func TestIndex(t *testing.T) {
	for _, n := range []int{0, 1, 2, 63, 64, 65, 1000} {
		rows := map[string]string{}
		for i := range n {
			rows[fmt.Sprint("key", i)] = ""
		}
		dir := t.TempDir()
		f, err := realDisk{}.Create(dir + "/table")
		if err != nil {
			t.Fatal(err)
		}
		h, err := writeTable(f, [32]byte{}, n, sortedRows(rows))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(dir + "/table")
		if err != nil {
			t.Fatal(err)
		}
		var want []uint64 // hash, offset
		for at := uint64(format.TableHeaderSize); at < h.RowsEnd; {
			k, _, size, err := format.Row(b[at:h.RowsEnd])
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, format.Slot(format.Checksum(k), at))
			at += size
		}
		slices.Sort(want)
		largest, next := uint64(0), uint64(0)
		for i := range h.Slots {
			s := le64(b[h.RowsEnd+8*i:])
			if s == 0 {
				continue
			}
			home := h.Home(format.SlotHash(s))
			if s != want[0] || i != max(home, next) {
				t.Fatalf("%d rows: slot %d is %x, want %x at %d", n, i, s, want[0], max(home, next))
			}
			want, next, largest = want[1:], i+1, max(largest, i-home)
		}
		if len(want) != 0 || uint64(h.MaxDisplacement) != largest {
			t.Errorf("%d rows: %d not in the index; largest displacement %d, want %d", n, len(want), h.MaxDisplacement, largest)
		}
	}
}

func le64(b []byte) (v uint64) {
	for i := range 8 {
		v |= uint64(b[i]) << (8 * i)
	}
	return v
}

func TestParseRow(t *testing.T) {
	for _, tc := range []struct{ line, key, value, err string }{
		{`{"key": "a", "value": 1}`, "a", "1", ""},
		{`{"value":{ "b" : [1, 2] },"key":""} `, "", `{"b":[1,2]}`, ""},
		{`{"key":"\u0000ä\n","value":null}`, "\x00ä\n", "null", ""},
		{`{"key":"a","value":"é"}`, "a", `"é"`, ""},
		{`{"key":"a","value":12345678901234567890.10}`, "a", "12345678901234567890.10", ""},
		{`{"key_base64":"/w==","value_base64":""}`, "\xff", "", ""},
		{`{"key":"a","value_base64":"AAE="}`, "a", "\x00\x01", ""},
		{`{"key":"\ud83d\ude00","value":1}`, "😀", "1", ""},

		{``, "", "", "not a JSON object: an empty line"},
		{` `, "", "", `not a JSON object: " "`},
		{`hello`, "", "", `not a JSON object: "hello"`},
		{`[1]`, "", "", `not a JSON object: "[1]"`},
		{`null`, "", "", `not a JSON object: "null"`},
		{`{"key":"a"}`, "", "", `want one of "value" and "value_base64"`},
		{`{"value":1}`, "", "", `want one of "key" and "key_base64"`},
		{`{"key":"a","key_base64":"YQ==","value":1}`, "", "", `want one of "key" and "key_base64"`},
		{`{"key":"a","value":1,"value_base64":""}`, "", "", `want one of "value" and "value_base64"`},
		{`{"key":null,"value":1}`, "", "", `"key" is not a string`},
		{`{"key":1,"value":1}`, "", "", `"key" is not a string`},
		{`{"key":"a","value_base64":1}`, "", "", `"value_base64" is not a string`},
		{`{"key":"a","value":1,"extra":2}`, "", "", `unknown field "extra"`},
		{`{"key":"a","value":1}{}`, "", "", "not a JSON object"},
		{`{"key":"a","value":1} x`, "", "", "not a JSON object"},
		{`{"key":"a","value":1`, "", "", "not a JSON object"},
		{`{"key_base64":"?","value":1}`, "", "", `"key_base64" is not base64`},
		{`{"key":"a","value_base64":"YQ"}`, "", "", `"value_base64" is not base64`},
		{"{\"key\":\"\xff\",\"value\":1}", "", "", "not UTF-8"},

		// A decoder into a struct is lenient where another reading would differ.
		{`{"KEY":"a","Value":1}`, "", "", `unknown field "KEY"`},
		{`{"key":"a","key":"b","value":1}`, "", "", `two fields "key"`},
		// What Python's json.dumps makes of a name that is not UTF-8: no text,
		// and as U+FFFD the same as others.
		{`{"key":"\udcff","value":1}`, "", "", "half of a surrogate pair"},
		{`{"key":"\ud800","value":1}`, "", "", "half of a surrogate pair"},
		{`{"key":"\ufffd","value":1}`, "\uFFFD", "1", ""},
		{`{"key":"\ud83d\ude00\ufffd","value":1}`, "😀\uFFFD", "1", ""},
		{`{"key":"a","value":"\ud800"}`, "a", `"\ud800"`, ""}, // passed on as it is
	} {
		row, err := parseRow([]byte(tc.line))
		key, value := row.key, row.value
		switch {
		case tc.err != "":
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %q, %q, %v, want %s", tc.line, key, value, err, tc.err)
			}
		case err != nil || string(key) != tc.key || string(value) != tc.value:
			t.Errorf("%s: %q, %q, %v, want %q, %q", tc.line, key, value, err, tc.key, tc.value)
		}
		if err != nil && strings.Contains(err.Error(), "builtRow") {
			t.Errorf("%s: a message for people names a Go type: %v", tc.line, err)
		}
	}
}

// TestParseFrom: a row may be tagged with its input.
func TestParseFrom(t *testing.T) {
	for _, tc := range []struct{ from, want, err string }{
		{`"from":"lib/ä"`, "lib/ä", ""},
		{`"from_base64":"bGliL/8="`, "lib/\xff", ""},
		{`"from":""`, "", ""},
		{`"from":1`, "", `"from" is not a string`},
		{`"from_base64":"?"`, "", `"from_base64" is not base64`},
		{`"from":"a","from_base64":"YQ=="`, "", `want one of "from" and "from_base64"`},
		{`"from":"a","from":"a"`, "", `two fields "from"`},
	} {
		row, err := parseRow([]byte(`{"key":"k","value":1,` + tc.from + `}`))
		switch {
		case tc.err != "":
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v, want %s", tc.from, err, tc.err)
			}
		case err != nil || row.from == nil || string(row.from) != tc.want || string(row.key) != "k" || string(row.value) != "1":
			t.Errorf("%s: %q, %v", tc.from, row.from, err)
		}
	}
	if row, err := parseRow([]byte(`{"key":"k","value":1}`)); err != nil || row.from != nil {
		t.Errorf("%q, %v", row.from, err)
	}
}

func TestReadRows(t *testing.T) {
	var lines []uint64
	emit := func(r builtRow) error {
		lines = append(lines, r.line)
		if r.line == 5 {
			return errors.New("enough")
		}
		return nil
	}
	row := `{"key":"a","value":1}`
	for _, tc := range []struct {
		out  string
		want int
		err  string
	}{
		{"", 0, ""},
		{row + "\n" + row, 2, ""},
		{row + "\r\n" + row + "\n", 2, ""},
		{row + "\n\n" + row, 1, "line 2 of its output: not a JSON object: an empty line"},
		{row + "\nnonsense\n", 1, "line 2 of its output: not a JSON object: \"nonsense\""},
		{strings.Repeat(row+"\n", 9), 5, "enough"},
	} {
		lines = nil
		err := readRows(strings.NewReader(tc.out), emit)
		if len(lines) != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.HasPrefix(err.Error(), tc.err) {
			t.Errorf("%.40q: lines %d, %v, want %d, %s", tc.out, lines, err, tc.want, tc.err)
		}
	}
}

// FuzzParseRow: a line is refused, or it is what an independent reading of
// the JSON says.
func FuzzParseRow(f *testing.F) {
	corpus.Seeds(f, map[string][]byte{
		"surrogate": []byte(`{"key": "\ud83d\ude00", "value": ["\ud800", 1e999]}`),
		"value":     []byte(`{"key": "a", "value": {"b": [1, null, "é"]}}`),
		"base64":    []byte(`{"key_base64": "/w==", "value_base64": "AA=="}`),
		"from":      []byte(`{"from_base64": "bGli/w==", "key": "a", "value": 1}`),
	})
	f.Fuzz(func(t *testing.T, line []byte) {
		row, err := parseRow(line)
		key, value := row.key, row.value
		if err != nil {
			if s := err.Error(); strings.Contains(s, "\n") || !utf8.ValidString(s) || len(s) > 1000 {
				t.Errorf("%q: not a line for people: %q", line, s)
			}
			return
		}
		fields := 2
		if row.from != nil {
			fields++
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(line, &all); err != nil || len(all) != fields {
			t.Fatalf("%q: accepted, and it is %v, %v", line, all, err)
		}
		var s string
		if raw, ok := all["key"]; ok {
			json.Unmarshal(raw, &s)
			if s != string(key) || strings.ContainsRune(s, utf8.RuneError) && !bytes.ContainsRune(line, utf8.RuneError) && !bytes.Contains(bytes.ToLower(line), []byte(`\ufffd`)) {
				t.Errorf("%q: key %q, want %q", line, key, s)
			}
		} else if json.Unmarshal(all["key_base64"], &s); base64.StdEncoding.EncodeToString(key) != strings.NewReplacer("\r", "", "\n", "").Replace(s) {
			t.Errorf("%q: key %q", line, key)
		}
		if raw, ok := all["value"]; ok {
			var compact bytes.Buffer
			if json.Compact(&compact, raw); compact.String() != string(value) {
				t.Errorf("%q: value %q, want %q", line, value, compact.String())
			}
		}
	})
}

func TestTail(t *testing.T) {
	long := strings.Repeat("x", 30<<10)
	var numbers strings.Builder
	for i := range 100 {
		fmt.Fprintln(&numbers, i)
	}
	for in, want := range map[string]string{
		"":                                "",
		"one\n":                           "one",
		"one\ntwo\n\n":                    "one\ntwo",
		"\x1b[31mred\x07\x9b\r\n\ttab":    "\uFFFD[31mred\uFFFD\uFFFD\uFFFD\n\ttab",
		long:                              long[:tailBytes],
		"\u0085next":                      "\uFFFDnext",
		numbers.String():                  "80\n81\n82\n83\n84\n85\n86\n87\n88\n89\n90\n91\n92\n93\n94\n95\n96\n97\n98\n99",
		strings.Repeat("ä", tailBytes):    strings.Repeat("ä", tailBytes/2),
		strings.Repeat("ä", 500) + "\xc3": strings.Repeat("ä", 500) + "\uFFFD",
	} {
		for _, step := range []int{len(in) + 1, 1000, 7} {
			var tl tail
			for rest := in; rest != ""; {
				n := min(step, len(rest))
				if got, err := tl.Write([]byte(rest[:n])); got != n || err != nil {
					t.Fatal(got, err)
				}
				rest = rest[n:]
			}
			if got := tl.String(); got != want {
				t.Errorf("%.30q in steps of %d: %.30q, want %.30q", in, step, got, want)
			}
			if cap(tl.b) > 8*tailBytes+2*len(in) {
				t.Errorf("%d bytes are kept", cap(tl.b))
			}
		}
	}
}

// TestLongLine: what was searched for the end of a line is not searched again,
// which is seen by an end that was not there the first time.
func TestLongLine(t *testing.T) {
	split := lineByLine()
	for _, step := range []struct {
		data    string
		advance int
	}{{"aa", 0}, {"\naaa", 0}, {"\naaa\nbb", 1}, {"aaa\nbb", 4}, {"bb", 0}} {
		if advance, _, err := split([]byte(step.data), false); advance != step.advance || err != nil {
			t.Errorf("%q: advance %d, %v; want %d", step.data, advance, err, step.advance)
		}
	}
	if advance, line, _ := split([]byte("bb"), true); advance != 2 || string(line) != "bb" {
		t.Errorf("the last line: %d, %q", advance, line)
	}
}
