package syscache_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

// newRoot returns an install's root with one file in it.
func newRoot(t testing.TB) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	write(t, root+"/share/MANIFEST", "version 1\n", 0o644)
	return root
}

// write writes a file with an exact mode, and the directories above it.
func write(t testing.TB, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// cacheOf declares the cache "c" of rows.
func cacheOf(rows map[string]string) refresh.Cache {
	h := crc32.NewIEEE()
	for _, k := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(h, "%q %q,", k, rows[k])
	}
	return refresh.Cache{
		Name: "c", Inputs: []string{"share/**"}, Witness: []string{}, BuildVersion: fmt.Sprint(h.Sum32(), len(rows)),
		Build: func(_ context.Context, _ refresh.Inputs, emit func(k, v []byte) error) error {
			for k, v := range rows {
				if err := emit([]byte(k), []byte(v)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// publish refreshes a cache.
func publish(t testing.TB, root string, c refresh.Cache) {
	t.Helper()
	in, err := refresh.Load(root, &refresh.LoadOptions{Caches: []refresh.Cache{c}})
	if err == nil {
		_, err = in.Refresh(context.Background(), c.Name, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func cacheDir(root string) string { return root + "/" + format.CacheDir + "/c" }

// tablePath returns the path of the published table.
func tablePath(t testing.TB, root string) string {
	t.Helper()
	r := open(t, root)
	return cacheDir(root) + "/" + format.Generation(r.Generation().String()) + "/" + format.Table
}

func open(t testing.TB, root string) *syscache.Reader {
	t.Helper()
	r, err := syscache.Open(root, "c", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// kindOf names what an error wraps, as the vectors do.
func kindOf(err error) string {
	for _, s := range []error{
		syscache.ErrNotFound, syscache.ErrMissing, syscache.ErrStale, syscache.ErrCorrupt, syscache.ErrUntrusted, syscache.ErrTooNew,
	} {
		if errors.Is(err, s) {
			if s == syscache.ErrNotFound {
				return "not found"
			}
			return s.Error()
		}
	}
	return fmt.Sprint(err)
}

// equalHashes returns n keys of 8 bytes with one CRC-32.
func equalHashes(n int) (keys []string) {
	for i := range n {
		keys = append(keys, keyWith(uint32(i), 0xC0111DED))
	}
	return keys
}

var (
	crcTable = crc32.MakeTable(crc32.IEEE)
	crcHigh  = func() (high [256]byte) { // by the highest byte of its entry, the index
		for i, e := range crcTable {
			high[e>>24] = byte(i)
		}
		return high
	}()
)

// keyWith returns the key that begins with n, in four bytes, and has a CRC-32:
// the four bytes after them take the register to where the hash wants it.
func keyWith(n, hash uint32) string {
	k := binary.BigEndian.AppendUint32(make([]byte, 0, 8), n)
	reg, want := ^crc32.ChecksumIEEE(k), ^hash
	var at [4]byte
	for j := 3; j >= 0; j-- {
		at[j] = crcHigh[want>>24]
		want = (want ^ crcTable[at[j]]) << 8
	}
	for _, a := range at {
		k = append(k, byte(reg)^a)
		reg = reg>>8 ^ crcTable[a]
	}
	return string(k)
}

// python is the other reader, in one process.
type python struct {
	t   testing.TB
	in  *json.Encoder
	out *bufio.Scanner
}

type question struct {
	Root  string   `json:"root"`
	Cache string   `json:"cache"`
	Get   [][]byte `json:"get"`
	Scan  bool     `json:"scan"`

	Verify bool `json:"verify"`
}

type answer struct {
	Open string      `json:"open"`
	Get  []string    `json:"get"`
	Scan string      `json:"scan"`
	Rows [][2][]byte `json:"rows"`

	Verify string `json:"verify"`
	Reads  int    `json:"reads"` // of the look-ups, in Python
}

func newPython(t testing.TB) *python {
	t.Helper()
	name := "/usr/bin/python3" // not a version manager's, which may be anything
	if _, err := os.Stat(name); err != nil {
		t.Skip("skipped: no " + name)
	}
	cmd := exec.Command(name, "-B", "../testdata/format/read.py")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	s := bufio.NewScanner(out)
	s.Buffer(nil, 16<<20)
	return &python{t, json.NewEncoder(in), s}
}

func (p *python) ask(q question) (a answer) {
	p.t.Helper()
	q.Get = append([][]byte{}, q.Get...) // null would not do
	if err := p.in.Encode(q); err != nil {
		p.t.Fatal(err)
	}
	if !p.out.Scan() {
		p.t.Fatal("the Python reader died")
	}
	if err := json.Unmarshal(p.out.Bytes(), &a); err != nil {
		p.t.Fatal(err)
	}
	return a
}

// value is how python tells one.
func value(b []byte) string { return "=" + base64.StdEncoding.EncodeToString(b) }

// verified is what the refresher's side says of every byte.
func verified(q question) string {
	in, err := refresh.Load(q.Root, nil)
	if err == nil {
		err = in.Verify(context.Background(), q.Cache)
	}
	if err != nil {
		return kindOf(err)
	}
	return "ok"
}

// ask asks the Go reader, unmapped or mapped.
func ask(q question, mapped bool) (a answer) {
	if q.Verify {
		a.Verify = verified(q)
	}
	r, err := syscache.Open(q.Root, q.Cache, nil)
	if err != nil {
		a.Open = kindOf(err)
		return a
	}
	defer r.Close()
	a.Open = "ok"
	if r.Dir() == "" && (!mapped || !r.Mapped()) {
		r.Unmapped()
	}
	for _, k := range q.Get {
		v, err := r.Get(k)
		if err != nil {
			a.Get = append(a.Get, kindOf(err))
		} else {
			a.Get = append(a.Get, value(v))
		}
	}
	if q.Scan {
		a.Scan = "ok"
		for row, err := range r.Scan(nil) {
			if err != nil {
				a.Scan = kindOf(err)
				break
			}
			a.Rows = append(a.Rows, [2][]byte{bytes.Clone(row.Key), bytes.Clone(row.Value)})
		}
	}
	return a
}
