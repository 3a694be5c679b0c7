//go:build linux

package suites

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/syscache/syscache/syscache"
)

func init() { parts["soak-read"] = soakRead }

// What the readers of a soak share with it, in one file: 8 bytes each.
const (
	soakClock = 0
	soakEnded = 8 // not 0: go home
)

// soakRead asks for one cache after the other until the soak is over, now with
// a Reader that it keeps and asks Current, now with a new one, now one that
// accepts stale data; and prints each reply.
func soakRead(args []string) error {
	root, who := args[0], args[2]
	clock, err := os.Open(args[1])
	if err != nil {
		return err
	}
	kept := map[string]*syscache.Reader{}
	out := json.NewEncoder(os.Stdout)
	for i := 0; get(clock, soakEnded) == 0; i++ {
		c := soakedCaches[i%len(soakedCaches)]
		r := reply{Who: who, Cache: c.name, How: "go, kept", A: get(clock, soakClock)}
		o := &syscache.ReadOptions{AllowStale: i/len(soakedCaches)%4 == 3}
		name := c.name
		if o.AllowStale {
			name, r.How = name+" stale", "go, kept, accepts stale"
		}
		reader := kept[name]
		current := false
		if reader != nil {
			if current, err = reader.Current(); !current {
				reader.Close()
				kept[name] = nil
			}
			if err != nil { // what Open would say
				r.refuse(err)
			}
		}
		if !current && r.Miss+r.Error == "" {
			r.How, r.A = "go, "+map[bool]string{true: "opened, accepts stale", false: "opened"}[o.AllowStale], get(clock, soakClock)
			reader, err = syscache.Open(root, c.name, o)
			kept[name] = reader
			r.refuse(err)
		}
		r.B = get(clock, soakClock)
		if r.Miss+r.Error == "" {
			r.Stale = reader.Stale() != nil
			r.Rows, err = allRows(reader, c)
			r.refuse(err)
			if r.Miss == "gone" {
				r.B = get(clock, soakClock)
			}
		}
		if err := out.Encode(&r); err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond) // there are others
	}
	return nil
}

// refuse records why there is no answer.
func (r *reply) refuse(err error) {
	switch {
	case err == nil:
	case errors.Is(err, syscache.ErrStale):
		r.Miss = "stale"
	case errors.Is(err, syscache.ErrMissing):
		r.Miss = "missing"
	case errors.Is(err, fs.ErrNotExist):
		r.Miss = "gone"
	default:
		r.Error = err.Error()
	}
}

// allRows returns all that a generation holds. Of the kind files, whose
// directory may be collected meanwhile, it is an fs.ErrNotExist if it was.
func allRows(reader *syscache.Reader, c soaked) (map[string]string, error) {
	rows := map[string]string{}
	if !c.files {
		for row, err := range reader.Scan(nil) {
			if err != nil {
				return nil, err
			}
			rows[string(row.Key)] = string(row.Value)
			if v, err := reader.Get(row.Key); err != nil || string(v) != string(row.Value) {
				return nil, errors.Join(errors.New("get and scan differ: "+string(v)), err)
			}
		}
		if _, err := reader.Get([]byte("none")); !errors.Is(err, syscache.ErrNotFound) {
			return nil, errors.Join(errors.New("a row that never was"), err)
		}
		return rows, nil
	}
	return soakFiles(reader.Dir())
}

// soakFiles returns what a generation of the kind files holds.
func soakFiles(dir string) (map[string]string, error) {
	rows := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rows["lib"+path[len(dir):]] = firstLine(path)
		}
		return err
	})
	// It goes as a whole: what is there now was there all the while.
	if _, gone := os.Lstat(dir); gone != nil {
		return nil, gone
	}
	return rows, err
}

// soakPython is soakRead in Python.
const soakPython = `
import json, os, struct, sys, time
import syscache

root, shared, who = sys.argv[1:4]
caches = [name.split("/") for name in sys.argv[4:]]
clock = open(shared, "rb", buffering=0)

def counter(at):
    return struct.unpack("<Q", os.pread(clock.fileno(), 8, at))[0]

def rows_of(reader, kind):
    if kind == "table":
        rows = {key.decode(): value.decode() for key, value in reader.scan()}
        for key, value in rows.items():
            if reader.get(key.encode()).decode() != value:
                raise ValueError("get and scan differ")
        try:
            raise ValueError("a row that never was: %r" % reader.get(b"none"))
        except syscache.NotFound:
            return rows
    rows = {}
    top = os.fsdecode(reader.dir)
    try:
        for path, _, names in os.walk(top, onerror=fail):
            for name in names:
                full = path + "/" + name
                if not os.path.islink(full):
                    with open(full) as f:
                        rows["lib" + full[len(top):]] = f.readline().removesuffix("\n")
    finally:
        os.lstat(top)
    return rows

def fail(error):
    raise error

kept, i = {}, 0
while not counter(8):
    cache, kind = caches[i % len(caches)]
    stale = i // len(caches) % 4 == 3
    r = {"Who": who, "Cache": cache, "How": "python, kept", "A": counter(0)}
    i += 1
    accepts = ", accepts stale" if stale else ""
    try:
        reader = kept.pop((cache, stale), None)
        current = False
        if reader:
            r["How"] = "python, kept" + accepts
            current = reader.current()
            if not current:
                reader.close()
        if not current:
            r["How"], r["A"] = "python, opened" + accepts, counter(0)
            reader = syscache.open(root, cache, allow_stale=stale)
        kept[cache, stale] = reader
        r["B"] = counter(0)
        r["Stale"] = bool(reader.stale)
        r["Rows"] = rows_of(reader, kind)
    except syscache.Stale:
        r["Miss"] = "stale"
    except syscache.Missing:
        r["Miss"] = "missing"
    except FileNotFoundError:
        r["Miss"] = "gone"
    except (syscache.Error, Exception) as error:
        r["Error"] = repr(error)
    if "Miss" in r or "Error" in r:
        r["B"] = counter(0)
    print(json.dumps(r), flush=True)
    time.sleep(0.005)
`
