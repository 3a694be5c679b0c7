//go:build linux

package suites

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

// The counters that the processes of TestFlat share: 8 bytes each.
const (
	flatPublished = 0  // how often
	flatMeasure   = 8  // after so many publishes all stand still, to be measured
	flatResume    = 16 // go on, from that measure
	flatEnded     = 24 // not 0: go home
	flatParts     = 32 // the first of two counters for each of flatProcesses
	flatCounted   = flatParts + 16*3
)

// flatProcesses are those that live long. The first counter of each is the last
// publish that it was given, the second what it holds in memory when it stands
// still: bytes of heap or, in Python, objects.
var flatProcesses = []string{"publisher", "go reader", "python reader"}

// Ten thousand publishes by one process, while two others read what each fifth
// has published: at the end they have the descriptors, threads and memory, and
// the cache has the files, that they had after a thousand.
func TestFlat(t *testing.T) {
	slow(t)
	r := newRootIn(t, "/dev/shm", admin) // the syncs of a disk would take minutes
	for i := range 50 {
		r.write(fmt.Sprintf("lib/f%02d", i), "00000000")
	}
	counters := r.side + "/counters"
	r.must(os.WriteFile(counters, make([]byte, flatCounted), 0o666))
	r.must(os.Chmod(counters, 0o666))
	r.write(r.side+"/reader.py", flatPython)
	f, err := os.OpenFile(counters, os.O_RDWR, 0)
	r.must(err)
	defer f.Close()
	inPython := as(bob, "/usr/bin/python3", "-SB", r.side+"/reader.py", r.dir, counters)
	inPython.Env = append(inPython.Env, "PYTHONPATH="+strings.TrimSuffix(python, "/syscache.py"))
	var all []*running
	const first, last = 1_000, 10_000
	all = append(all, start(t, asPart(admin, "flat-publish", r.dir, counters, strconv.Itoa(first), strconv.Itoa(last))))
	all = append(all, start(t, asPart(bob, "flat-read", r.dir, counters)), start(t, inPython))
	early := r.measured(f, all, first)
	put(f, flatResume, first)
	late := r.measured(f, all, last)
	put(f, flatEnded, 1)
	put(f, flatResume, last)
	for i, one := range all {
		o := one.wait()
		if o.code != 0 {
			t.Errorf("%s: %v", flatProcesses[i], o)
		}
		t.Logf("%s: %v of the processor", flatProcesses[i], time.Duration(o.usage.Utime.Nano()+o.usage.Stime.Nano()).Round(time.Second))
	}
	for i, m := range early {
		t.Logf("%-32s %9d after %d publishes, %9d after %d", m.what, m.n, first, late[i].n, last)
		if late[i].n > m.n+m.more {
			t.Errorf("%s: %d after %d publishes, %d after %d", m.what, m.n, first, late[i].n, last)
		}
	}
	r.check("flat")
}

// A measure is a quantity, and by how much it may be more later.
type measure struct {
	what    string
	n, more int
}

// measured waits until all stand still after n publishes, and measures.
func (r *root) measured(f *os.File, all []*running, n uint64) (ms []measure) {
	r.t.Helper()
	for i, name := range flatProcesses {
		still := func() bool { return get(f, flatParts+16*int64(i)+8) > 0 && get(f, flatMeasure) == n }
		for !still() {
			if all[i].ended() {
				r.t.Fatalf("%s: %v", name, all[i].wait())
			}
			// Minutes may pass, but not without a publish.
			was := get(f, flatPublished)
			eventually(r.t, "the next publish", func() bool { return get(f, flatPublished) > was || still() || all[i].ended() })
		}
		proc := fmt.Sprintf("/proc/%d/", all[i].cmd.Process.Pid)
		fds, err := os.ReadDir(proc + "fd")
		r.must(err)
		held := int(get(f, flatParts+16*int64(i)+8))
		ms = append(
			ms, measure{name + ": descriptors", len(fds), 0},
			measure{name + ": threads", r.field(proc+"status", "Threads:"), 2},
			measure{name + ": KiB of memory of its own", r.field(proc+"smaps_rollup", "Private_Dirty:"), 3 << 10},
			measure{name + ": on its heap", held, held/20 + 64<<10},
		)
	}
	var files, blocks int
	r.must(filepath.WalkDir(r.dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		files, blocks = files+1, blocks+int(st.Blocks)
		return err
	}))
	home := r.dir + "/var/cache/syscache/flat/"
	for _, name := range []string{"inventory", "state", "seen"} {
		fi, err := os.Stat(home + name)
		r.must(err)
		ms = append(ms, measure{"bytes of " + name, int(fi.Size()), 0})
	}
	return append(ms, measure{"files of the install", files, 0}, measure{"their blocks", blocks, 0})
}

// field returns the number after a word in a file of /proc.
func (r *root) field(file, word string) int {
	r.t.Helper()
	fields := strings.Fields(r.readFile(file))
	n, err := strconv.Atoi(fields[slices.Index(fields, word)+1])
	r.must(err)
	return n
}

func init() {
	parts["flat-publish"] = flatPublish
	parts["flat-read"] = flatRead
}

// standStill says what this process holds, and waits to be told to go on.
func standStill(f *os.File, part int64) {
	measure := get(f, flatMeasure)
	runtime.GC() // twice: what the first one's finalizers let go
	debug.FreeOSMemory()
	live := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(live)
	put(f, flatParts+16*part+8, live[0].Value.Uint64())
	await(f, flatResume, measure)
	put(f, flatParts+16*part+8, 0)
}

// flatPublish publishes as often as told, each time with another version of the
// builder, and each tenth time after an edit: to wait, each time, until the
// times of what was edited can be told apart would take minutes.
func flatPublish(args []string) error {
	f, err := os.OpenFile(args[1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	first, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	last, err := strconv.ParseUint(args[3], 10, 64)
	if err != nil {
		return err
	}
	ctx := context.Background()
	for v := uint64(1); v <= last; v++ {
		if v%10 == 0 {
			if err := os.WriteFile(fmt.Sprintf("%s/lib/f%02d", args[0], v/10%50), fmt.Appendf(nil, "%08d", v), 0o644); err != nil {
				return err
			}
		}
		install, err := refresh.Load(args[0], &refresh.LoadOptions{Caches: []refresh.Cache{flatCache(v)}})
		if err != nil {
			return err
		}
		if result, err := install.Refresh(ctx, "flat", nil); err != nil || result.Outcome != refresh.Built {
			return errors.Join(fmt.Errorf("refresh: %s", result.Outcome), err)
		}
		put(f, flatPublished, v)
		if v%5 == 0 {
			await(f, flatParts+16, v)
			await(f, flatParts+32, v)
		}
		if v == first || v == last {
			put(f, flatMeasure, v)
			standStill(f, 0)
		}
	}
	return nil
}

func flatCache(v uint64) refresh.Cache {
	return refresh.Cache{
		Name: "flat", Inputs: []string{"lib/**"}, Keep: 1, BuildVersion: fmt.Sprint(v),
		Build: func(_ context.Context, _ refresh.Inputs, emit func(key, value []byte) error) error {
			for i := range 50 {
				if err := emit(fmt.Append(nil, "row", i), fmt.Appendf(nil, "%08d", v)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// flatRead keeps a Reader until it is no longer current, and then opens anew.
func flatRead(args []string) error {
	f, err := os.OpenFile(args[1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var kept *syscache.Reader
	for measured := uint64(0); get(f, flatEnded) == 0; time.Sleep(time.Millisecond) {
		if kept != nil {
			if current, _ := kept.Current(); !current {
				kept.Close()
				kept = nil
			}
		}
		if kept == nil {
			if kept, err = syscache.Open(args[0], "flat", nil); err != nil {
				if !errors.Is(err, syscache.ErrStale) && !errors.Is(err, syscache.ErrMissing) {
					return err
				}
				kept = nil
				continue
			}
			for row, err := range kept.Scan(nil) {
				if err != nil {
					return err
				}
				v, _ := strconv.ParseUint(string(row.Value), 10, 64)
				put(f, flatParts+16, v)
			}
		}
		if measure := get(f, flatMeasure); measure > measured {
			measured = measure
			standStill(f, 1)
		}
	}
	return nil
}

// flatPython is flatRead in Python.
const flatPython = `
import gc, struct, sys, time
import syscache

counters = open(sys.argv[2], "rb+", buffering=0)

def counter(at):
    counters.seek(at)
    return struct.unpack("<Q", counters.read(8))[0]

def put(at, value):
    counters.seek(at)
    counters.write(struct.pack("<Q", value))

kept, measured = None, 0
while not counter(24):
    try:
        if kept is not None and not kept.current():
            kept.close()
            kept = None
        if kept is None:
            kept = syscache.open(sys.argv[1], "flat")
            for _, value in kept.scan():
                put(64, int(value))
    except (syscache.Stale, syscache.Missing):
        if kept is not None:
            kept.close()
        kept = None
    measure = counter(8)
    if measure > measured and kept is not None:
        measured = measure
        gc.collect()
        put(72, len(gc.get_objects()))
        while counter(16) < measure:
            time.sleep(0.001)
        put(72, 0)
    time.sleep(0.001)
`
