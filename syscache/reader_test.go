package syscache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

// TestAgainstMap compares tables with Go's maps.
func TestAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func(alphabet string, most int) string {
		b := make([]byte, rnd.IntN(most+1))
		for i := range b {
			b[i] = alphabet[rnd.IntN(len(alphabet))]
		}
		return string(b)
	}
	for i, size := range []int{0, 1, 2, 63, 64, 65, 128, 129, 300, 1000, 3000} {
		// Few letters make shared prefixes; all bytes, odd keys.
		alphabet := []string{"ab", "ab\x00\xff", "abcdefghijklmnop/."}[i%3]
		rows := map[string]string{}
		for n := 0; len(rows) < size && n < 3*size; n++ {
			rows[word(alphabet, 12)] = word("01234567", 600)
		}
		if size == 300 { // larger than a scan's window
			rows["large"] = strings.Repeat("x", 300<<10)
			rows["largest"] = strings.Repeat("y", 3<<20)
		}
		root := newRoot(t)
		publish(t, root, cacheOf(rows))
		for _, r := range []*syscache.Reader{open(t, root).Unmapped(), open(t, root)} {
			mapped := r.Mapped()
			if r.Len() != len(rows) {
				t.Errorf("Len() = %d, want %d", r.Len(), len(rows))
			}
			for k, want := range rows {
				if got, err := r.Get([]byte(k)); err != nil || string(got) != want {
					t.Fatalf("%d rows, mapped %v: get %q: %.20q, %v", size, mapped, k, got, err)
				}
			}
			for range 60 {
				k := word(alphabet, 12)
				if _, there := rows[k]; there {
					continue
				}
				if got, err := r.Get([]byte(k)); !errors.Is(err, syscache.ErrNotFound) {
					t.Fatalf("%d rows, mapped %v: get %q: %.20q, %v, want not found", size, mapped, k, got, err)
				}
			}
			for n := range 60 {
				prefix := word(alphabet, 4)
				if n == 0 {
					prefix = ""
				}
				checkScan(t, r, rows, prefix)
			}
		}
	}
}

func checkScan(t *testing.T, r *syscache.Reader, rows map[string]string, prefix string) {
	t.Helper()
	var want, got []string
	for _, k := range slices.Sorted(maps.Keys(rows)) {
		if strings.HasPrefix(k, prefix) {
			want = append(want, k)
		}
	}
	for row, err := range r.Scan([]byte(prefix)) {
		if err != nil {
			t.Fatal(err)
		}
		if rows[string(row.Key)] != string(row.Value) {
			t.Fatalf("scan %q: row %q: %.20q", prefix, row.Key, row.Value)
		}
		got = append(got, string(row.Key))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("%d rows, scan %q (-want +got):\n%s", len(rows), prefix, d)
	}
	for range r.Scan([]byte(prefix)) {
		break // early
	}
}

// TestHostileKeys: keys chosen to share one hash cost no more than others.
func TestHostileKeys(t *testing.T) {
	const n = 100_000
	build := func(keys []string) (root string, took time.Duration) {
		rows := make(map[string]string, n)
		for _, k := range keys {
			rows[k] = k
		}
		root = newRoot(t)
		start := time.Now()
		publish(t, root, cacheOf(rows))
		return root, time.Since(start)
	}
	ordinary := make([]string, n)
	for i := range ordinary {
		ordinary[i] = fmt.Sprintf("%08d", i)
	}
	_, usual := build(ordinary)
	keys := equalHashes(n + 1)
	root, took := build(keys[:n])
	if took > 5*usual+time.Second {
		t.Errorf("built in %v, and of ordinary keys in %v", took, usual)
	}
	for _, r := range []*syscache.Reader{open(t, root).Unmapped(), open(t, root)} {
		mapped := r.Mapped()
		start := time.Now()
		for i := 0; i < n; i += 97 {
			if v, err := r.Get([]byte(keys[i])); err != nil || string(v) != keys[i] {
				t.Fatalf("mapped %v: get %x: %x, %v", mapped, keys[i], v, err)
			}
		}
		for _, k := range []string{keys[n], "absent"} {
			if _, err := r.Get([]byte(k)); !errors.Is(err, syscache.ErrNotFound) {
				t.Errorf("mapped %v: get %x: %v", mapped, k, err)
			}
		}
		// A thousand by halves: milliseconds. By walking, 10^8 rows.
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("mapped %v: %v for %d look-ups", mapped, took, n/97)
		}
	}
}

// TestConcurrentGets crosses from pread to the mapping while many read.
func TestConcurrentGets(t *testing.T) {
	rows := map[string]string{}
	for i := range 500 {
		rows[fmt.Sprint(i)] = fmt.Sprint("value ", i)
	}
	root := newRoot(t)
	publish(t, root, cacheOf(rows))
	for range 20 {
		r := open(t, root)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 40 {
					k := fmt.Sprint((g*61 + i) % 500)
					if v, err := r.Get([]byte(k)); err != nil || string(v) != rows[k] {
						t.Errorf("get %s: %q, %v", k, v, err)
					}
				}
				if g == 0 {
					checkScan(t, r, rows, "4")
				}
			})
		}
		wg.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestMappedGetDoesNotAllocate(t *testing.T) {
	root := newRoot(t)
	publish(t, root, cacheOf(map[string]string{"key": "value"}))
	r := open(t, root)
	if !r.Mapped() {
		t.Skip("skipped: tables are not mapped on this file system")
	}
	key := []byte("key")
	if n := testing.AllocsPerRun(100, func() { r.Get(key) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestOpenAllocatesLittle: a process that looks one row up and ends pays for
// every path that is put together twice.
func TestOpenAllocatesLittle(t *testing.T) {
	root := newRoot(t)
	publish(t, root, witnessed("1"))
	n := testing.AllocsPerRun(100, func() {
		r, err := syscache.Open(root, "c", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Get([]byte("a")); err != nil {
			t.Fatal(err)
		}
		r.Close()
	})
	if n > 24 { // 20, and some more under the race detector
		t.Errorf("%v allocations", n)
	}
}

// TestNUL: a name that the kernel would take for a shorter one is not looked up.
func TestNUL(t *testing.T) {
	root := newRoot(t)
	publish(t, root, witnessed("1"))
	for _, dirs := range [][]string{nil, {root + "/" + format.CacheDir + "\x00"}} {
		_, err := syscache.Open(root+"\x00", "c", &syscache.ReadOptions{CacheDirs: dirs})
		if !errors.Is(err, unix.EINVAL) {
			t.Errorf("%q: %v", dirs, err)
		}
	}
}

// TestRepublishedMeanwhile: a generation that is superseded and collected
// between the reading of its pointer and the opening of its table is no
// error. A large witness without an identity keeps the reader between the two.
func TestRepublishedMeanwhile(t *testing.T) {
	root := newRoot(t)
	witness := root + "/share/large"
	write(t, witness, "", 0o644)
	if err := os.Truncate(witness, 256<<20); err != nil {
		t.Fatal(err)
	}
	rows := func(v string) refresh.Cache {
		c := cacheOf(map[string]string{"a": v})
		c.Keep = 1 // collected at once
		return c
	}
	current := cacheDir(root) + "/" + format.Current
	c := rows("new")
	c.Inputs = []string{"share/MANIFEST"}
	publish(t, root, c)
	after, err := os.ReadFile(current)
	if err != nil {
		t.Fatal(err)
	}
	next := open(t, root).Generation()
	c = rows("old")
	c.Inputs, c.Witness = []string{"share/MANIFEST"}, []string{"share/large"}
	away := filepath.Join(filepath.Dir(root), "away")
	generation := func(k syscache.Key) string { return cacheDir(root) + "/" + format.Generation(k.String()) }
	if err := os.Rename(generation(next), away); err != nil {
		t.Fatal(err)
	}
	publish(t, root, c)
	before, err := os.ReadFile(current)
	if err != nil {
		t.Fatal(err)
	}
	p, err := format.DecodePointer(before)
	if err != nil {
		t.Fatal(err)
	}
	clear(p.Witnesses[0].Identity[:])
	if before, err = p.Encode(); err != nil {
		t.Fatal(err)
	}
	write(t, current, string(before), 0o644)

	type result struct {
		r   *syscache.Reader
		err error
	}
	opened := make(chan result)
	go func() {
		r, err := syscache.Open(root, "c", nil)
		opened <- result{r, err}
	}()
	for holds(witness) == 0 { // until it reads the witness
		select {
		case res := <-opened:
			t.Fatalf("opened too fast for this test: %v", res.err)
		default:
		}
	}
	write(t, current+".new", string(after), 0o644)
	for _, err := range []error{os.Rename(away, generation(next)), os.Rename(current+".new", current), os.RemoveAll(generation(p.Key))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	res := <-opened
	if res.err != nil {
		t.Fatal(res.err)
	}
	defer res.r.Close()
	if v, err := res.r.Get([]byte("a")); err != nil || string(v) != "new" {
		t.Errorf("got %q, %v", v, err)
	}
	if n := holds(current) + holds(generation(p.Key)); n != 0 {
		t.Errorf("%d descriptors left open", n)
	}
}

// holds counts our descriptors of a path.
func holds(path string) (n int) {
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && target == path {
			n++
		}
	}
	return n
}

// TestMarkedAndPublished: while a cache goes from marked stale to published
// and back, a reader finds it stale or fresh, and never missing.
func TestMarkedAndPublished(t *testing.T) {
	root := newRoot(t)
	publish(t, root, cacheOf(map[string]string{"a": "1"}))
	dir := cacheDir(root) + "/"
	const readers = 3
	var opens [readers]atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() {
			for {
				r, err := syscache.Open(root, "c", &syscache.ReadOptions{AllowStale: i == 0})
				if err == nil {
					r.Close()
				} else if i == 0 || kindOf(err) != "stale" {
					t.Error(err)
				}
				opens[i].Add(1)
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	// At most one change in one Open: a reader looks again only once.
	settle := func() {
		for i := range opens {
			for n := opens[i].Load(); opens[i].Load() < n+2 && !t.Failed(); {
				time.Sleep(10 * time.Microsecond) // spinning would starve them
			}
		}
	}
	b, err := os.ReadFile(dir + format.Current)
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		write(t, dir+".pending-x", string(b), 0o644)
		os.Rename(dir+format.Current, dir+format.Stale)
		settle()
		os.Rename(dir+".pending-x", dir+format.Current)
		os.Remove(dir + format.Stale)
		settle()
	}
	close(done)
	wg.Wait()
}

// TestNothingIsWritten guards I3 as far as files can tell.
func TestNothingIsWritten(t *testing.T) {
	root := newRoot(t)
	publish(t, root, cacheOf(map[string]string{"a": "1"}))
	state := func() string {
		var b bytes.Buffer
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fi, err := d.Info()
			fmt.Fprintln(&b, path, fi.Mode(), fi.Size(), fi.ModTime(), err)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	before := state()
	r := open(t, root)
	r.Get([]byte("a"))
	for range r.Scan(nil) {
	}
	syscache.Open(root, "other", nil)
	if d := cmp.Diff(before, state()); d != "" {
		t.Error(d)
	}
}

func TestReader(t *testing.T) {
	root := newRoot(t)
	if _, err := syscache.Open(root, "c", nil); kindOf(err) != "missing" || !strings.Contains(err.(*syscache.Error).Hint, "refresh c") {
		t.Errorf("before the first refresh: %v", err)
	}
	for _, name := range []string{"", "../c", "C", "c/d", "c\x00"} {
		if _, err := syscache.Open(root, name, nil); kindOf(err) != "missing" {
			t.Errorf("open %q: %v", name, err)
		}
	}
	c := cacheOf(map[string]string{"a": "1"})
	c.Witness = []string{"share/MANIFEST"}
	publish(t, root, c)
	r := open(t, root)
	_, err := r.Get([]byte("absent"))
	if e, ok := err.(*syscache.Error); !ok || *e != (syscache.Error{Op: "get", Root: root, Cache: "c", Err: syscache.ErrNotFound}) {
		t.Errorf("absent: %+v", err)
	}
	if err.Error() != "get c: row key not found" {
		t.Error(err)
	}
	if r.Dir() != "" || r.Stale() != nil || r.Len() != 1 {
		t.Errorf("Dir %q, Stale %v, Len %d", r.Dir(), r.Stale(), r.Len())
	}
	if ok, err := r.Current(); !ok || err != nil {
		t.Errorf("Current() = %v, %v", ok, err)
	}

	// An edit of the witness: a miss, or data that is known to be stale.
	write(t, root+"/share/MANIFEST", "version 2\n", 0o644)
	_, err = syscache.Open(root, "c", nil)
	if err == nil || err.Error() != "open c: stale: witness share/MANIFEST changed since the last refresh" {
		t.Errorf("after an edit: %v", err)
	}
	if ok, err := r.Current(); ok || kindOf(err) != "stale" {
		t.Errorf("Current() = %v, %v", ok, err)
	}
	old, err := syscache.Open(root, "c", &syscache.ReadOptions{AllowStale: true})
	if err != nil || kindOf(old.Stale()) != "stale" {
		t.Fatalf("stale data: %v", err)
	}
	if v, err := old.Get([]byte("a")); string(v) != "1" || err != nil {
		t.Errorf("stale data: %q, %v", v, err)
	}
	// An open reader keeps what it has.
	c2 := cacheOf(map[string]string{"a": "2"})
	c2.Keep = 1
	publish(t, root, c2)
	if v, err := r.Get([]byte("a")); string(v) != "1" || err != nil {
		t.Errorf("after a publish: %q, %v", v, err)
	}
	if ok, err := r.Current(); ok || err != nil {
		t.Errorf("Current() = %v, %v", ok, err)
	}
	for _, r := range []*syscache.Reader{r, old} {
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestFilesReader(t *testing.T) {
	root := newRoot(t)
	publish(t, root, refresh.Cache{Name: "c", Files: true, Inputs: []string{"share/**"}, Witness: []string{}, Build: func(_ context.Context, in refresh.Inputs, _ func(k, v []byte) error) error {
		return os.WriteFile(in.Out+"/f", []byte("hello"), 0o644)
	}})
	r := open(t, root)
	if b, err := os.ReadFile(r.Dir() + "/f"); string(b) != "hello" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := r.Get(nil); err == nil || kindOf(err) == "not found" {
		t.Errorf("get: %v", err)
	}
	n := 0
	for _, err := range r.Scan(nil) {
		if n++; err == nil {
			t.Error("a row")
		}
	}
	if n != 1 || r.Len() != 0 || r.Close() != nil {
		t.Errorf("%d rows, Len %d", n, r.Len())
	}
}

// TestCacheDirs: others in place of both of the root's.
func TestCacheDirs(t *testing.T) {
	root, dir := newRoot(t), filepath.Join(t.TempDir(), "caches")
	in, err := refresh.Load(root, &refresh.LoadOptions{CacheDir: dir, Caches: []refresh.Cache{cacheOf(map[string]string{"a": "1"})}})
	if err == nil {
		_, err = in.Refresh(t.Context(), "c", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	other := newRoot(t)
	for name, tc := range map[string]struct {
		root string
		dirs []string
		env  string
		want string
	}{
		"named":               {root, []string{dir}, "", "<nil>"},
		"root by a link":      {link, []string{dir}, "", "<nil>"},
		"second":              {root, []string{t.TempDir(), dir}, "", "<nil>"},
		"environment":         {root, nil, dir, "<nil>"},
		"named over it":       {root, []string{t.TempDir()}, dir, "missing"},
		"relative, ignored":   {root, nil, "caches", "missing"},
		"of another root":     {other, []string{dir}, "", "missing"},
		"of nothing":          {root, nil, "", "missing"},
		"through a file":      {root, []string{root + "/share/MANIFEST", dir}, "", "<nil>"},
		"of a root not there": {root + "/none", []string{dir}, "", "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("SYSCACHE_CACHE_DIR", tc.env)
			r, err := syscache.Open(tc.root, "c", &syscache.ReadOptions{CacheDirs: tc.dirs})
			if kindOf(err) != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
			if err == nil {
				r.Close()
			}
		})
	}
	// A pointer that names no root counts only under its root.
	publish(t, root, cacheOf(map[string]string{"a": "1"}))
	if _, err := syscache.Open(other, "c", &syscache.ReadOptions{CacheDirs: []string{root + "/" + format.CacheDir}}); kindOf(err) != "missing" {
		t.Errorf("another root's cache_dir: %v", err)
	}
}

func TestKey(t *testing.T) {
	k := syscache.Key{0xab, 31: 0x01}
	if got, err := syscache.ParseKey(k.String()); got != k || err != nil || k.Short() != "ab0000000000" {
		t.Errorf("%v, %v, %s", got, err, k.Short())
	}
	for _, s := range []string{"", k.String()[1:], k.String() + "0", strings.ToUpper(k.String()), strings.Repeat("g", 64)} {
		if _, err := syscache.ParseKey(s); err == nil {
			t.Errorf("ParseKey(%q) is no error", s)
		}
	}
}

func TestEqualHashes(t *testing.T) {
	for _, k := range equalHashes(300) {
		if got := crc32.ChecksumIEEE([]byte(k)); got != 0xC0111DED {
			t.Fatalf("the CRC-32 of %x is %x", k, got)
		}
	}
}
