//go:build linux

package suites

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

// The counters that the processes of a storm share, in one file: 8 bytes each.
const (
	editing   = 0  // the value that the input is about to have
	published = 8  // the last value that a refresh has certified
	answered  = 16 // the newest value that any reader in Go was given
	ended     = 24 // not 0: go home
	inPython  = 32 // the newest value that any reader in Python was given
	counted   = 40 // bytes
)

// Fifty readers, in two languages and under three users, while the cache is
// published a thousand times: every answer is whole, is never older than what
// was certified before the question and never newer than what was being
// written after it, and a miss says stale or missing (I1, I2, I7).
func TestStorm(t *testing.T) {
	slow(t)
	// In memory: a thousand times five syncs of a disk would measure that.
	storm(t, "/dev/shm", "", 1000, 40, 10)
}

// The same, for a moment.
func TestSquall(t *testing.T) { storm(t, parent, "", 20, 4, 2) }

// storm makes an install in parent. Readers look at it there, or in late, which
// shows them the same a while later.
func storm(t *testing.T, parent, late string, publishes, goes, pythons int) {
	r := newRootIn(t, parent, admin)
	s := r.gather(late, goes, pythons)
	publisher := start(t, asPart(admin, "storm-publish", r.dir, s.counters, strconv.Itoa(publishes), python))
	if o := publisher.wait(); o.code != 0 {
		t.Errorf("publisher: %v", o)
	}
	total := s.end()
	t.Logf("%d publishes in %v: %v", publishes, time.Since(publisher.start).Round(time.Second), total)
	if total["go answers"] < publishes/2 || total["python answers"] == 0 {
		t.Error("too few answers to mean anything")
	}
	r.noLitter("storm")
}

// A gathering is the readers of a storm.
type gathering struct {
	*root
	counters string // the file that they share
	readers  map[*running]string
}

// gather starts readers in two languages, under three users.
func (r *root) gather(late string, goes, pythons int) *gathering {
	r.t.Helper()
	g := &gathering{r, r.side + "/counters", map[*running]string{}}
	r.write("lib/counter", "0")
	r.must(os.WriteFile(g.counters, make([]byte, counted), 0o666))
	r.must(os.Chmod(g.counters, 0o666)) // readers tell what they were given
	r.write(r.side+"/reader.py", stormPython)
	args := []string{r.dir, g.counters}
	if late != "" {
		args = []string{late + strings.TrimPrefix(r.dir, parent), g.counters, "late"}
	}
	users := []user{admin, bob, carol}
	for i := range goes + pythons {
		language, cmd := "go", asPart(users[i%3], "storm-read", args...)
		if i >= goes {
			language, cmd = "python", as(users[i%3], append([]string{"/usr/bin/python3", "-SB", r.side + "/reader.py"}, args...)...)
			cmd.Env = append(cmd.Env, "PYTHONPATH="+strings.TrimSuffix(python, "/syscache.py"))
		}
		cmd.Args = append([]string{"nice", "-n", "19"}, cmd.Args...)
		cmd.Path = "/usr/bin/nice" // publishes come first, on a small machine
		g.readers[start(r.t, cmd)] = language
	}
	return g
}

// end sends the readers home, and returns how often they had an answer and how
// often they missed. All of them must have been content.
func (g *gathering) end() map[string]int {
	g.t.Helper()
	f, err := os.OpenFile(g.counters, os.O_RDWR, 0)
	g.must(err)
	defer f.Close()
	put(f, ended, 1)
	total := map[string]int{}
	for one, language := range g.readers {
		o := one.wait()
		if o.code != 0 {
			g.t.Errorf("reader %v: %v", one.cmd.Args, o)
			continue
		}
		var answers, stale, missing int
		if _, err := fmt.Sscan(o.stdout, &answers, &stale, &missing); err != nil {
			g.t.Errorf("reader %v: %v: %v", one.cmd.Args, err, o)
		}
		total[language+" answers"] += answers
		total[language+" stale"] += stale
		total[language+" missing"] += missing
	}
	return total
}

func get(f *os.File, at int64) uint64 {
	var b [8]byte
	f.ReadAt(b[:], at)
	return binary.LittleEndian.Uint64(b[:])
}

func put(f *os.File, at int64, v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	f.WriteAt(b[:], at)
}

func init() {
	parts["storm-publish"] = stormPublish
	parts["storm-read"] = stormRead
}

// stormRows is how many rows have the same value: enough for many pages.
const stormRows = 300

// stormPublish edits the one input and refreshes, time and again; each time it
// waits until some reader was given the new value, for else they would only
// ever see stale.
func stormPublish(args []string) error {
	root, times := args[0], args[2]
	n, err := strconv.ParseUint(times, 10, 64)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(args[1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	install, err := stormInstall(root)
	if err != nil {
		return err
	}
	ctx := context.Background()
	for v := uint64(1); v <= n; v++ {
		put(f, editing, v)
		if err := os.WriteFile(root+"/lib/counter", fmt.Append(nil, v), 0o644); err != nil {
			return err
		}
		if _, err := install.Refresh(ctx, "storm", nil); err != nil {
			return err
		}
		put(f, published, v)
		if err := install.Verify(ctx, "storm"); err != nil {
			return err
		}
		await(f, answered, v)
		if v%20 == 0 { // Python starts and reads slowly on a busy machine
			await(f, inPython, v)
		}
	}
	return syscall.Exec("/usr/bin/python3", []string{"python3", "-ISB", args[3], "--root", root, "verify", "storm"}, nil)
}

func stormInstall(root string) (*refresh.Install, error) {
	return refresh.Load(root, &refresh.LoadOptions{Caches: []refresh.Cache{{
		Name: "storm", Inputs: []string{"lib/**"}, Build: stormBuild,
		// What is superseded goes at once: readers must bear that too.
		Keep: time.Millisecond,
	}}})
}

// await waits until a counter has come to v, within reason.
func await(f *os.File, counter int64, v uint64) {
	for deadline := time.Now().Add(30 * time.Second); get(f, counter) < v && time.Now().Before(deadline); {
		time.Sleep(100 * time.Microsecond)
	}
}

func stormBuild(_ context.Context, in refresh.Inputs, emit func(key, value []byte) error) error {
	value, err := os.ReadFile(in.Root + "/lib/counter")
	if err != nil {
		return err
	}
	for i := range stormRows {
		if err := emit(fmt.Append(nil, "row", i), value); err != nil {
			return err
		}
	}
	return nil
}

// stormRead reads until the storm is over, and prints how often it had an
// answer and how often it missed, stale and missing.
func stormRead(args []string) error {
	f, err := os.OpenFile(args[1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	late := len(args) > 2
	var answers, stale, missing int
	for i := 0; get(f, ended) == 0; i++ {
		before := get(f, published)
		if late {
			before = 0
		}
		value, err := stormAnswer(args[0], i)
		after := get(f, editing)
		switch {
		case err == nil && value >= before && value <= after:
			answers++
			if value > get(f, answered) {
				put(f, answered, value) // another may put less: then one more read is waited for
			}
		case err == nil:
			return fmt.Errorf("%d, when %d was certified before and %d edited after", value, before, after)
		case errors.Is(err, syscache.ErrStale):
			stale++
		case errors.Is(err, syscache.ErrMissing), late && errors.Is(err, syscache.ErrCorrupt):
			missing++ // late, the old length of a new pointer is seen
		default:
			return err
		}
		time.Sleep(time.Millisecond) // fifty on two processors
	}
	fmt.Println(answers, stale, missing)
	return nil
}

// stormAnswer returns the value that all rows have.
func stormAnswer(root string, i int) (uint64, error) {
	r, err := syscache.Open(root, "storm", nil)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	first, err := r.Get(fmt.Append(nil, "row", i%stormRows))
	if err != nil {
		return 0, fmt.Errorf("a row that is always there: %w", err)
	}
	if _, err := r.Get([]byte("none")); !errors.Is(err, syscache.ErrNotFound) {
		return 0, fmt.Errorf("a row that is never there: %w", err)
	}
	rows := 0
	for row, err := range r.Scan(nil) {
		if err != nil {
			return 0, err
		}
		if rows++; string(row.Value) != string(first) {
			return 0, fmt.Errorf("torn: %s and %s", first, row.Value)
		}
	}
	if rows != stormRows {
		return 0, fmt.Errorf("torn: %d rows", rows)
	}
	return strconv.ParseUint(string(first), 10, 64)
}

// stormPython is stormRead in Python.
const stormPython = `
import struct, sys, time
import syscache

counters = open(sys.argv[2], "rb+", buffering=0)

def counter(at):
    counters.seek(at)
    return struct.unpack("<Q", counters.read(8))[0]

def answered(value):
    counters.seek(32)
    counters.write(struct.pack("<Q", value))

answers = stale = missing = i = 0
while not counter(24):
    before, i = counter(8) if len(sys.argv) < 4 else 0, i + 1
    try:
        with syscache.open(sys.argv[1], "storm") as cache:
            first = cache.get(b"row%d" % (i % 300))
            try:
                sys.exit("a row that is never there: %r" % cache.get(b"none"))
            except syscache.NotFound:
                pass
            rows = list(cache.scan())
        if len(rows) != 300 or {value for _, value in rows} != {first}:
            sys.exit("torn: %d rows, %r" % (len(rows), {value for _, value in rows}))
        after = counter(0)
        if not before <= int(first) <= after:
            sys.exit("%d, when %d was certified before and %d edited after" % (int(first), before, after))
        answers += 1
        answered(int(first))
    except syscache.Stale:
        stale += 1
    except syscache.Missing:
        missing += 1
    except syscache.Corrupt:
        if len(sys.argv) < 4:
            raise
        missing += 1
    time.sleep(0.002)
print(answers, stale, missing)
`
