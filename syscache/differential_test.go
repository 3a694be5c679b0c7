package syscache_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/syscache/syscache/internal/format"
)

var (
	variants = flag.Int("variants", 0, "how many hostile caches both readers are asked about; 0: few")
	seed     = flag.Uint64("seed", 0, "of the hostile caches; 0: another each time")
)

// TestHostileCaches: of any bytes, however they were come by and whether or not
// their checksums were put right, both readers say the same: a value, "not
// found", or which of the ways to miss it is (I7). Python verifies a page
// before it looks at a slot of it, Go before it answers "not found": one may
// say "corrupt" where the other has an answer. And of an index that holds and
// lies, which only who may write the cache can make, docs/FORMAT.md leaves the
// answer open to "not found".
func TestHostileCaches(t *testing.T) {
	n := *variants
	if n == 0 {
		n = 1000
		if os.Getenv("SYSCACHE_SUITES") != "" {
			n = 20_000
		}
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-args -seed %d -variants %d", *seed, n)
	m := &mutator{Rand: rand.New(rand.NewPCG(*seed, 0)), t: t}
	m.load("../testdata/format")
	py := newPython(t)
	count := map[string]int{}
	for i := range n {
		c := m.cases[m.IntN(len(m.cases))]
		how := m.spoil(c)
		q := question{Root: c.root, Cache: c.Cache, Get: c.keys, Scan: c.Kind == "table", Verify: i%4 == 0}
		a, b := ask(q, i%2 == 0), py.ask(q)
		if a.Verify == "corrupt" && b.Verify == "ok" && strings.Contains(how, "of manifest") {
			a.Verify = "ok" // only a refresher computes BLAKE3, and decodes a manifest
		}
		if d := disagreement(a, b); d != "" {
			t.Errorf("variant %d, %s, %s (-Go +Python): %s", i, c.Case, how, d)
			if dir := os.Getenv("SYSCACHE_KEEP"); dir != "" {
				must(t, os.CopyFS(fmt.Sprintf("%s/%d", dir, i), os.DirFS(c.root)))
			}
		}
		count["open: "+a.Open]++
		for i := range a.Get {
			kind, _, _ := strings.Cut(a.Get[i], "=")
			count["get: "+kind]++
			if a.Get[i] != b.Get[i] {
				count["get: one reader is stricter"]++
			}
		}
		if q.Verify {
			count["verify: "+a.Verify]++
		}
		c.restore(t)
	}
	t.Logf("%d hostile caches: %v", n, count)
	for _, want := range []string{"open: ok", "open: corrupt", "open: stale", "open: too new", "get: ", "get: not found", "get: corrupt", "verify: ok", "verify: corrupt"} {
		if count[want] == 0 {
			t.Errorf("none of %q: the test shows little", want)
		}
	}
}

// disagreement compares the answers of the two readers.
func disagreement(a, b answer) string {
	lies := a.Verify == "corrupt" || a.Verify == ""
	for i := range min(len(a.Get), len(b.Get)) {
		x, y := a.Get[i], b.Get[i]
		open := x == "corrupt" || y == "corrupt" || lies && (x == "not found" || y == "not found")
		if x != y && open {
			a.Get[i], b.Get[i] = "", ""
		}
	}
	b.Reads = 0
	return cmp.Diff(a, b, cmpopts.EquateEmpty())
}

// A hostileCase is a case of testdata/format, and what it is when sound.
type hostileCase struct {
	vector
	root   string
	keys   [][]byte
	files  map[string][]byte // by path below the root
	spoilt []string          // paths of those that are not what they were
	dir    string            // of the generation, with a slash; "" if there is none
}

func (c *hostileCase) restore(t *testing.T) {
	for _, path := range c.spoilt {
		must(t, os.WriteFile(c.root+"/"+path, c.files[path], 0o644))
	}
	c.spoilt = nil
}

type mutator struct {
	*rand.Rand
	t     *testing.T
	cases []*hostileCase
	now   map[string][]byte // of the case that is being spoilt
}

func (m *mutator) load(dir string) {
	text, err := os.ReadFile(dir + "/cases.json")
	must(m.t, err)
	var list []vector
	must(m.t, json.Unmarshal(text, &list))
	for _, v := range list {
		c := &hostileCase{vector: v, root: filepath.Join(m.t.TempDir(), v.Case), files: map[string][]byte{}}
		copyExact(m.t, dir+"/"+v.Case, c.root)
		for _, g := range v.Get {
			c.keys = append(c.keys, g[0])
		}
		if v.Kind == "table" {
			c.keys = append(c.keys, []byte("alpha"), []byte("no such key"))
		}
		c.keys = c.keys[:min(len(c.keys), 14)]
		for _, place := range []string{format.CacheDir, format.ImageCacheDir} {
			paths, _ := filepath.Glob(c.root + "/" + place + "/" + v.Cache + "/*")
			inner, _ := filepath.Glob(c.root + "/" + place + "/" + v.Cache + "/g/*/*")
			for _, path := range append(paths, inner...) {
				if fi, err := os.Lstat(path); err == nil && fi.Mode().IsRegular() {
					b, err := os.ReadFile(path)
					must(m.t, err)
					rel := path[len(c.root)+1:]
					c.files[rel] = b
					if filepath.Base(rel) == format.Table {
						c.dir = filepath.Dir(rel) + "/"
					}
				}
			}
		}
		if len(c.files) > 0 {
			m.cases = append(m.cases, c)
		}
	}
}

// spoil changes some of a case's files, and says how.
func (m *mutator) spoil(c *hostileCase) (how string) {
	m.now = map[string][]byte{}
	var paths []string
	for path, b := range c.files {
		m.now[path] = bytes.Clone(b)
		paths = append(paths, path)
	}
	slices.Sort(paths)
	if c.dir != "" && m.IntN(3) == 0 {
		how = "a table made of lies, "
		b := make([]byte, m.IntN(600))
		for i := range b {
			b[i] = byte(m.Uint32() >> m.IntN(25))
		}
		m.now[c.dir+format.Table] = m.named(c, lyingTable(b))
		return how + m.sealed(c, true)
	}
	for range 1 + m.IntN(2) {
		path := paths[m.IntN(len(paths))]
		var what string
		m.now[path], what = m.change(m.now[path])
		how += what + " of " + filepath.Base(path) + ", "
	}
	return how + m.sealed(c, m.IntN(4) > 0)
}

// named gives a table the key that its pointer has.
func (m *mutator) named(c *hostileCase, table []byte) []byte {
	copy(table[16:48], c.files[c.dir+format.Table][16:48])
	binary.LittleEndian.PutUint32(table[124:], format.Checksum(table[:124]))
	return table
}

// change changes bytes in one way.
func (m *mutator) change(b []byte) ([]byte, string) {
	if len(b) == 0 {
		return []byte{byte(m.Uint32())}, "a byte"
	}
	at := m.IntN(len(b))
	if m.IntN(2) == 0 {
		at = m.IntN(min(len(b), 160)) // most of what is decided is decided there
	}
	switch m.IntN(7) {
	case 0:
		b[at] ^= 1 << m.IntN(8)
		return b, fmt.Sprintf("a bit at %d", at)
	case 1:
		b[at] = byte(m.Uint32())
		return b, fmt.Sprintf("a byte at %d", at)
	case 2:
		return b[:at], fmt.Sprintf("cut at %d", at)
	case 3:
		return append(b, make([]byte, 1+m.IntN(20))...), "more at the end"
	case 4: // a number: none, one more or less, the greatest
		at &^= 3
		if at+4 > len(b) {
			return b[:at], "the last bytes"
		}
		v := binary.LittleEndian.Uint32(b[at:])
		v = []uint32{0, v + 1, v - 1, 1<<32 - 1, 1 << 31, v * 2, uint32(len(b))}[m.IntN(7)]
		binary.LittleEndian.PutUint32(b[at:], v)
		return b, fmt.Sprintf("the number at %d", at)
	case 5: // of another file
		c := m.cases[m.IntN(len(m.cases))]
		for _, other := range c.files {
			if from := m.IntN(len(other) + 1); from < len(other) {
				n := copy(b[at:], other[from:min(len(other), from+1+m.IntN(200))])
				return b, fmt.Sprintf("%d bytes at %d", n, at)
			}
		}
		return b, "nothing"
	}
	to := m.IntN(len(b)) // moved within
	n := copy(b[to:], bytes.Clone(b[at:min(len(b), at+8*(1+m.IntN(8)))]))
	return b, fmt.Sprintf("%d bytes at %d from %d", n, to, at)
}

// sealed writes what was changed, after putting right the checksums that can
// be: in the files themselves, and often of the files in each other.
func (m *mutator) sealed(c *hostileCase, seal bool) (how string) {
	if seal {
		how = "sealed"
		for path, b := range m.now {
			switch filepath.Base(path) {
			case format.Current, format.Stale:
				m.now[path] = resealPointer(b)
			case format.Table:
				resealTable(b)
			case format.Meta:
				if len(b) >= 4 {
					binary.LittleEndian.PutUint32(b[len(b)-4:], format.Checksum(b[:len(b)-4]))
				}
			}
		}
		if c.dir != "" && m.IntN(4) > 0 {
			how += ", each in the other"
			m.chain(c)
		}
	}
	for path, b := range m.now {
		if !bytes.Equal(b, c.files[path]) {
			must(m.t, os.WriteFile(c.root+"/"+path, b, 0o644))
			c.spoilt = append(c.spoilt, path)
		}
	}
	return how
}

// chain puts the digests of table and manifest into meta, and meta's into the
// pointer.
func (m *mutator) chain(c *hostileCase) {
	table := m.now[c.dir+format.Table]
	meta, err := format.DecodeMeta(m.now[c.dir+format.Meta])
	if err != nil {
		return
	}
	meta.Manifest = sha256.Sum256(m.now[c.dir+format.Manifest])
	for i := range meta.Outputs {
		meta.Outputs[i].Digest, meta.Outputs[i].Size = sha256.Sum256(table), uint64(len(table))
	}
	if len(table) >= format.TableHeaderSize && m.IntN(8) > 0 {
		meta.Rows = binary.LittleEndian.Uint64(table[56:])
	}
	m.now[c.dir+format.Meta] = meta.Encode()
	for path, b := range m.now {
		if p, err := format.DecodePointer(b); err == nil && p.Kind == format.KindTable && filepath.Dir(path)+"/g" == filepath.Dir(filepath.Dir(c.dir)) {
			p.Meta, p.TableSize = sha256.Sum256(m.now[c.dir+format.Meta]), uint64(len(table))
			if b, err := p.Encode(); err == nil {
				m.now[path] = b
			}
		}
	}
}

// resealTable puts right every checksum of a table that has a place.
func resealTable(b []byte) {
	if len(b) < format.TableHeaderSize {
		return
	}
	binary.LittleEndian.PutUint32(b[124:], format.Checksum(b[:124]))
	h, err := format.DecodeTableHeader(b, uint64(len(b)))
	if err != nil {
		return
	}
	for at := uint64(format.TableHeaderSize); at+16 <= h.RowsEnd; {
		k, v := format.RowLengths(b[at:])
		size := format.RowSize(int(k), int(v))
		if size > h.RowsEnd-at {
			break
		}
		binary.LittleEndian.PutUint32(b[at:], format.Checksum(b[at+4:at+size]))
		at += size
	}
	sums := b[h.Pages():]
	for page := range slices.Chunk(b[h.RowsEnd:h.Pages()], format.PageSize) {
		binary.LittleEndian.PutUint32(sums, format.Checksum(page))
		sums = sums[4:]
	}
}
