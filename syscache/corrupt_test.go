package syscache_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache"
)

// mutations calls try with every state of b that differs in one bit, and with
// every beginning of it.
func mutations(b []byte, try func(name string, b []byte)) {
	for i := range 8 * len(b) {
		m := slices.Clone(b)
		m[i/8] ^= 1 << (i % 8)
		try(fmt.Sprintf("bit %d of byte %d", i%8, i/8), m)
	}
	for n := range len(b) {
		try(fmt.Sprintf("cut to %d bytes", n), b[:n])
	}
}

// TestEveryBitOfATable guards I7: the right value or "corrupt", nothing else,
// from both readers, by pread and mapped.
func TestEveryBitOfATable(t *testing.T) {
	root := newRoot(t)
	rows := map[string]string{"a": "1", "ab": "", "b": "three", "\xff": "\x00"}
	equal := equalHashes(5)
	for _, k := range equal[1:] {
		rows[k] = "of " + k
	}
	publish(t, root, cacheOf(rows))
	path := tablePath(t, root)
	table, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	keys := append(slices.Sorted(maps.Keys(rows)), equal[0], "absent", "", "aa")
	q := question{Root: root, Cache: "c", Scan: true}
	for _, k := range keys {
		q.Get = append(q.Get, []byte(k))
	}
	py := newPython(t)
	stricter := 0
	check := func(name string, a answer, intact bool) bool {
		if a.Open != "ok" && a.Open != "corrupt" || intact && a.Open != "ok" {
			t.Errorf("%s: open: %s", name, a.Open)
		}
		for i, got := range a.Get {
			v, there := rows[keys[i]]
			want := "not found"
			if there {
				want = value([]byte(v))
			}
			if got != want && (intact || got != "corrupt") {
				t.Errorf("%s: get %q: %s, want %s", name, keys[i], got, want)
			}
		}
		if a.Open == "ok" && (a.Scan != "ok" && a.Scan != "corrupt" || (intact || a.Scan == "ok") && len(a.Rows) != len(rows)) {
			t.Errorf("%s: scan: %s after %d rows", name, a.Scan, len(a.Rows))
		}
		for i, r := range a.Rows {
			if v, ok := rows[string(r[0])]; !ok || v != string(r[1]) || string(r[0]) != keys[i] {
				t.Errorf("%s: scan: row %q: %q", name, r[0], r[1])
			}
		}
		return !t.Failed()
	}
	same := func(name string, a, b answer) {
		if a.Open != b.Open {
			t.Errorf("%s: open: %s, and in Python %s", name, a.Open, b.Open)
			return
		}
		for i := range a.Get {
			// Python verifies what it looks at; Go what it cannot answer without.
			if a.Get[i] != b.Get[i] {
				stricter++
			}
		}
	}
	try := func(name string, b []byte, intact bool) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		pread, mapped, other := ask(q, false), ask(q, true), py.ask(q)
		if !check(name+", pread", pread, intact) || !check(name+", mapped", mapped, intact) || !check(name+", Python", other, intact) {
			t.FailNow()
		}
		same(name, pread, other)
		same(name, mapped, other)
	}
	try("intact", table, true)
	n := 0
	mutations(table, func(name string, b []byte) {
		n++
		try(name, b, false)
	})
	t.Logf("%d tables; in %d look-ups one reader answered what the other called corrupt", n, stricter)
}

// TestEveryBitOfAPointer: nothing of a pointer is believed if a bit of it is
// another, whatever the bit.
func TestEveryBitOfAPointer(t *testing.T) {
	root := newRoot(t)
	c := cacheOf(map[string]string{"a": "1"})
	c.Witness = nil // a stat section
	publish(t, root, c)
	path := cacheDir(root) + "/" + format.Current
	pointer, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := format.DecodePointer(pointer); err != nil || !p.HasStats {
		t.Fatalf("%+v, %v", p, err)
	}
	py := newPython(t)
	q := question{Root: root, Cache: "c"}
	try := func(name string, b []byte, want string) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := ask(q, false).Open; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if got := py.ask(q).Open; got != want {
			t.Errorf("%s: in Python %s, want %s", name, got, want)
		}
	}
	try("intact", pointer, "ok")
	mutations(pointer, func(name string, b []byte) { try(name, b, "corrupt") })
	try("twice", append(slices.Clone(pointer), pointer...), "corrupt")
	try("intact again", pointer, "ok")
	// Corrupt is said although the install changed as well: both readers decode
	// before they look at a witness.
	write(t, root+"/share/MANIFEST", "another\n", 0o644)
	try("stale", pointer, "stale")
	cut := slices.Clone(pointer)
	cut[len(cut)-1] ^= 1
	try("stale and corrupt", cut, "corrupt")
}

// TestStaleWitnessAndCorruptStats: what is corrupt is not served to those who
// accept stale data, nor called stale.
func TestStaleWitnessAndCorruptStats(t *testing.T) {
	root := newRoot(t)
	c := cacheOf(map[string]string{"a": "1"})
	c.Witness = nil
	publish(t, root, c)
	path := cacheDir(root) + "/" + format.Current
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := format.DecodePointer(b)
	if err != nil {
		t.Fatal(err)
	}
	p.Witnesses = []format.Witness{{Type: format.WitnessAbsent, Path: "share"}} // it does not hold
	p.Stats[len(p.Stats)-1] ^= 1
	if b, err = p.Encode(); err != nil {
		t.Fatal(err)
	}
	write(t, path, string(b), 0o644)
	for _, stale := range []bool{false, true} {
		if _, err := syscache.Open(root, "c", &syscache.ReadOptions{AllowStale: stale}); kindOf(err) != "corrupt" {
			t.Errorf("AllowStale %v: %v, want corrupt", stale, err)
		}
	}
	if got := newPython(t).ask(question{Root: root, Cache: "c"}).Open; got != "corrupt" {
		t.Errorf("in Python %s, want corrupt", got)
	}
}

// TestHugeFiles: a length that the file system claims costs no memory. Running
// out of it would kill the program, so another process tries.
func TestHugeFiles(t *testing.T) {
	const variable = "SYSCACHE_TEST_HUGE_ROOT"
	if root := os.Getenv(variable); root != "" {
		_, err := syscache.Open(root, "c", nil)
		fmt.Println("KIND " + kindOf(err))
		return
	}
	for _, name := range []string{format.Current, format.Table} {
		root := newRoot(t)
		publish(t, root, cacheOf(map[string]string{"a": "1"}))
		path := cacheDir(root) + "/" + name
		if name == format.Table {
			path = tablePath(t, root)
		}
		const size = int64(1 << 42)
		if err := os.Truncate(path, size); err != nil {
			t.Skipf("skipped: no sparse file of %d bytes: %v", size, err)
		}
		cmd := exec.Command(os.Args[0], "-test.run", "^TestHugeFiles$")
		cmd.Env = append(os.Environ(), variable+"="+root, "GORACE=atexit_sleep_ms=0")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "KIND corrupt") {
			t.Errorf("%s of %d bytes: %v: %.100s", name, size, err, out)
		}
	}
}

// TestCutWhileMapped: a table that somebody cuts under our mapping is an
// error, not the end of the program.
func TestCutWhileMapped(t *testing.T) {
	root := newRoot(t)
	rows := map[string]string{}
	for i := range 2000 {
		rows[fmt.Sprint("key", i)] = strings.Repeat("v", 100)
	}
	publish(t, root, cacheOf(rows))
	mapped, unmapped := open(t, root), open(t, root).Unmapped()
	if !mapped.Mapped() {
		t.Skip("skipped: tables are not mapped on this file system")
	}
	path := tablePath(t, root)
	if _, err := mapped.Get([]byte("key1")); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{5000, 0} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		for name, r := range map[string]*syscache.Reader{"mapped": mapped, "unmapped": unmapped} {
			for _, key := range []string{"key1999", "absent"} {
				if v, err := r.Get([]byte(key)); kindOf(err) != "corrupt" || !strings.Contains(err.Error(), "the file became shorter while it was open") {
					t.Errorf("%s, cut to %d: get %s: %q, %v", name, size, key, v, err)
				}
			}
			n := 0
			var last error
			for _, err := range r.Scan(nil) {
				n++
				last = err
			}
			if kindOf(last) != "corrupt" || n > len(rows) {
				t.Errorf("%s, cut to %d: scan of %d rows ends with %v", name, size, n, last)
			}
		}
	}
}

// TestCutDuringAScan: the rows that came before stay, and the next is an error.
func TestCutDuringAScan(t *testing.T) {
	root := newRoot(t)
	rows := map[string]string{}
	for i := range 20_000 {
		rows[fmt.Sprint("key", i)] = strings.Repeat("v", 100)
	}
	publish(t, root, cacheOf(rows))
	path := tablePath(t, root)
	for _, r := range []*syscache.Reader{open(t, root).Unmapped(), open(t, root)} {
		mapped := r.Mapped()
		whole, err := os.ReadFile(path)
		must(t, err)
		n := 0
		var last error
		for row, err := range r.Scan(nil) {
			if last = err; err != nil {
				break
			}
			if rows[string(row.Key)] != string(row.Value) {
				t.Fatalf("mapped %v: row %q: %.20q", mapped, row.Key, row.Value)
			}
			if n++; n == 10 {
				must(t, os.Truncate(path, 4096))
			}
		}
		if kindOf(last) != "corrupt" || n < 10 {
			t.Errorf("mapped %v: %d rows, then %v", mapped, n, last)
		}
		must(t, os.WriteFile(path, whole, 0o644))
	}
}

// TestFaultsStayOurs: only while the package itself reads is a fault an error;
// those of the program's own are what they were before, whatever became of a
// look-up.
func TestFaultsStayOurs(t *testing.T) {
	root := newRoot(t)
	publish(t, root, cacheOf(map[string]string{"a": strings.Repeat("v", 10_000), "b": "2"}))
	r := open(t, root)
	r.Mapped()
	check := func(when string) {
		t.Helper()
		if was := debug.SetPanicOnFault(false); was {
			t.Errorf("%s: faults are panics", when)
		}
	}
	r.Get([]byte("a"))
	check("after a look-up")
	for range r.Scan(nil) {
		check("within a scan")
		break
	}
	check("after a scan left early")
	must(t, os.Truncate(tablePath(t, root), 0))
	if _, err := r.Get([]byte("a")); kindOf(err) != "corrupt" {
		t.Errorf("get: %v", err)
	}
	check("after a fault")
	for _, err := range r.Scan(nil) {
		check("within a scan that failed")
		if kindOf(err) != "corrupt" {
			t.Errorf("scan: %v", err)
		}
	}
	check("after a scan that failed")
}
