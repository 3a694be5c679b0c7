package hashing

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata anew")

// golden is encoded in testdata/manifest.golden, for other implementations too.
func golden() *Manifest {
	return &Manifest{
		Recipe: []Part{
			{"build", Value([]byte("libexec/star-imports"))},
			{"env LC_ALL", Value([]byte("C"))},
		},
		Inputs: []Input{
			{Path: " leading space", Type: RegularFile, Mode: 0o644, Digest: mustParse(emptySum)},
			{Path: "a", Type: Symlink, Size: 3, Digest: Target("b/c")},
			{Path: "a-b", Type: RegularFile, Mode: 0o4755, Size: 3, Digest: mustParse(abcSum)}, // '-' sorts before '/'
			{Path: "a/b", Type: RegularFile, Mode: 0o400, Size: 1<<63 + 1, Digest: mustParse(abcSum)},
			{Path: "new\nline\t\"quoted\" \\", Type: RegularFile, Mode: 0, Size: 3, Digest: mustParse(abcSum)},
			{Path: "\xc3\xa9", Type: RegularFile, Mode: 0o7777, Size: 3, Digest: mustParse(abcSum)},
			{Path: "\xff\xfe\x01", Type: RegularFile, Mode: 0o644, Size: 3, Digest: mustParse(abcSum)},
		},
	}
}

const goldenKey = "d72d18c69d5b82648055a9af21a51e8263ba2dc2f69918633781f1ffd89840a3"

func mustParse(s string) Digest {
	d, err := ParseDigest(s)
	if err != nil {
		panic(err)
	}
	return d
}

func TestManifestGolden(t *testing.T) {
	const file = "testdata/manifest.golden"
	m := golden()
	b := m.Encode()
	if *update {
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want) {
		t.Errorf("the encoding changed:\n%s", cmp.Diff(hex.Dump(want), hex.Dump(b)))
	}
	if m.Key().String() != goldenKey || KeyOf(want) != m.Key() {
		t.Errorf("Key = %v, KeyOf = %v, want %s", m.Key(), KeyOf(want), goldenKey)
	}
	got, err := DecodeManifest(want)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, got); d != "" {
		t.Errorf("decoded (-want +got):\n%s", d)
	}
}

func TestManifestEmpty(t *testing.T) {
	b := (&Manifest{}).Encode()
	if want := "SYSC-MAN\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"; string(b) != want {
		t.Errorf("Encode = %q, want %q", b, want)
	}
	if m, err := DecodeManifest(b); err != nil || len(m.Recipe)+len(m.Inputs) != 0 {
		t.Errorf("DecodeManifest = %v, %v", m, err)
	}
	if got := string((&Manifest{}).AppendTo([]byte("x"))); got != "x"+string(b) {
		t.Errorf("AppendTo = %q", got)
	}
}

// invalid are manifests without an encoding.
var invalid = map[string]*Manifest{
	"label empty":      {Recipe: []Part{{Label: ""}}},
	"label too long":   {Recipe: []Part{{Label: strings.Repeat("x", 1<<16)}}},
	"labels unsorted":  {Recipe: []Part{{Label: "b"}, {Label: "a"}}},
	"labels twice":     {Recipe: []Part{{Label: "a"}, {Label: "a"}}},
	"path empty":       {Inputs: []Input{{Path: "", Type: RegularFile}}},
	"path absolute":    {Inputs: []Input{{Path: "/a", Type: RegularFile}}},
	"path slash":       {Inputs: []Input{{Path: "a/", Type: RegularFile}}},
	"path slashes":     {Inputs: []Input{{Path: "a//b", Type: RegularFile}}},
	"path dot":         {Inputs: []Input{{Path: "a/./b", Type: RegularFile}}},
	"path dots":        {Inputs: []Input{{Path: "../b", Type: RegularFile}}},
	"path NUL":         {Inputs: []Input{{Path: "a\x00", Type: RegularFile}}},
	"path too long":    {Inputs: []Input{{Path: strings.Repeat("x", 1<<16), Type: RegularFile}}},
	"paths unsorted":   {Inputs: []Input{{Path: "b", Type: RegularFile}, {Path: "a", Type: RegularFile}}},
	"paths twice":      {Inputs: []Input{{Path: "a", Type: RegularFile}, {Path: "a", Type: RegularFile}}},
	"type 0":           {Inputs: []Input{{Path: "a"}}},
	"type directory":   {Inputs: []Input{{Path: "a", Type: 2}}},
	"mode too large":   {Inputs: []Input{{Path: "a", Type: RegularFile, Mode: 0o10000}}},
	"mode of symlink":  {Inputs: []Input{{Path: "a", Type: Symlink, Mode: 0o777}}},
	"second path bad":  {Inputs: []Input{{Path: "a", Type: RegularFile}, {Path: "b/..", Type: RegularFile}}},
	"second label bad": {Recipe: []Part{{Label: "a"}, {Label: strings.Repeat("x", 1<<16)}}},
}

func TestManifestInvalid(t *testing.T) {
	for name, m := range invalid {
		t.Run(name, func(t *testing.T) {
			if m.Check() == nil {
				t.Error("Check returned nil")
			}
			defer func() {
				if recover() == nil {
					t.Error("Encode did not panic")
				}
			}()
			m.Encode()
		})
	}
}

// encodeAnyway encodes what Encode refuses, if lengths permit.
func encodeAnyway(m *Manifest) []byte {
	b := []byte("SYSC-MAN\x01\x00\x00\x00")
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Recipe)))
	for _, p := range m.Recipe {
		b = append(appendName(b, p.Label), p.Digest[:]...)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Inputs)))
	for _, in := range m.Inputs {
		b = append(appendName(b, in.Path), byte(in.Type))
		b = binary.LittleEndian.AppendUint16(b, in.Mode)
		b = binary.LittleEndian.AppendUint64(b, in.Size)
		b = append(b, in.Digest[:]...)
	}
	return b
}

func TestDecodeManifestRejects(t *testing.T) {
	good := golden().Encode()
	if !bytes.Equal(encodeAnyway(golden()), good) {
		t.Fatal("encodeAnyway encodes otherwise than Encode")
	}
	bad := map[string][]byte{
		"empty":        nil,
		"magic":        append([]byte("SYSC-PTR"), good[8:]...),
		"version 2":    append([]byte("SYSC-MAN\x02"), good[9:]...),
		"version 0":    append([]byte("SYSC-MAN\x00"), good[9:]...),
		"more":         append(bytes.Clone(good), 0),
		"huge recipe":  []byte("SYSC-MAN\x01\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00"),
		"huge inputs":  []byte("SYSC-MAN\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff"),
		"half a count": good[:10],
	}
	for name, m := range invalid {
		if !strings.HasSuffix(name, "too long") {
			bad[name] = encodeAnyway(m)
		}
	}
	delete(bad, "second label bad")
	for i := range good {
		bad[fmt.Sprintf("cut at %d", i)] = good[:i]
	}
	for name, b := range bad {
		if m, err := DecodeManifest(b); err == nil {
			t.Errorf("%s: decoded as %v", name, m)
		}
	}
}

// TestDecodeManifestAllocates: a hostile count must not make the decoder
// allocate more than the bytes it was given bear out.
func TestDecodeManifestAllocates(t *testing.T) {
	for _, tail := range []string{"\x00\x00\x10\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x10\x00"} {
		b := append([]byte("SYSC-MAN\x01\x00\x00\x00"+tail), make([]byte, 64<<10)...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := DecodeManifest(b); err == nil {
			t.Error("decoded")
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 4*uint64(len(b)) {
			t.Errorf("%d bytes allocated for %d", n, len(b))
		}
	}
}

func BenchmarkKey100k(b *testing.B) {
	m := &Manifest{Inputs: manyInputs(100_000)}
	b.ReportAllocs()
	for b.Loop() {
		m.Key()
	}
}

func manyInputs(n int) []Input {
	inputs := make([]Input, n)
	for i := range inputs {
		inputs[i] = Input{Path: fmt.Sprintf("lib/python3/site-packages/some_package/%06d/module.py", i), Type: RegularFile, Mode: 0o644, Size: uint64(i)}
	}
	return inputs
}
