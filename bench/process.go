//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

var processes = []comparison{
	{"process: start of a Go program that imports package syscache", start},
	{"process: `syscache get` of one row", getProcess},
	{"process: python3 and the reader for Python, one row", pythonProcess},
}

func start(b *bench) (*trial, error) {
	starts := func(program string) sample {
		return each(b.starts, func() error { return repeat(b.starts, func() error { return command(b.program(program)) }) })
	}
	return &trial{unit: seconds, ours: starts("importsyscache"), peers: []peer{
		{name: "one that imports os", target: 1.05, run: starts("importos")},
	}}, nil
}

// A lookup is a program that prints the value of one row.
type lookup struct {
	name    string
	target  float64
	starts  int // processes of a sample
	command []string
	missing string
}

func getProcess(b *bench) (*trial, error) {
	s, err := b.rowStore()
	if err != nil {
		return nil, err
	}
	files := &otherFormats{b: b}
	key := rowKey(b.rows / 2)
	return b.lookups(files, []lookup{
		{starts: b.starts, command: []string{b.program("syscache"), "--root", s.root, "--cache-dir", s.cacheDir, "get", s.cache, key}},
		{"sqlite3 command", 1.1, b.starts, []string{"sqlite3", "-readonly", files.sqlite(), "select value from rows where key = '" + key + "'"}, cmp.Or(lacks("sqlite3", "sqlite3"), lacksModule("sqlite3", "sqlite3 in python3"))},
		{"python3, pickle of a dict", 1. / 300, 1, pythonScript(pickleGet, files.pickle(), key), lacks(python, "python3")},
		{"cdb command", 0, b.starts, []string{"cdb", "-q", files.cdb(), key}, lacks("cdb", "tinycdb")},
	})
}

func pythonProcess(b *bench) (*trial, error) {
	if missing := lacks(python, "python3"); missing != "" {
		return &trial{missing: missing}, nil
	}
	s, err := b.rowStore()
	if err != nil {
		return nil, err
	}
	files := &otherFormats{b: b}
	key := rowKey(b.rows / 2)
	n := max(b.starts/4, 1)
	return b.lookups(files, []lookup{
		{starts: n, command: pythonScript(clientGet, filepath.Join(b.repository, "clients/python"), s.root, s.cacheDir, s.cache, key)},
		{"its sqlite3", 0, n, pythonScript(sqliteGet, files.sqlite(), key), lacksModule("sqlite3", "sqlite3 in python3")},
		{"python3-lmdb", 0, n, pythonScript(lmdbGet, files.lmdb(), key), lacksModule("lmdb", "python3-lmdb")},
		{"its pickle of a dict", 0, 1, pythonScript(pickleGet, files.pickle(), key), lacks(python, "python3")},
		{"its json of a dict", 0, 1, pythonScript(jsonGet, files.json(), key), lacks(python, "python3")},
	})
}

// lookups is a trial of programs of which the first is ours. Each is asked once
// whether it finds the row.
func (b *bench) lookups(files *otherFormats, all []lookup) (*trial, error) {
	t, err := &trial{unit: seconds}, files.err
	for i, l := range all {
		if l.missing == "" && err == nil {
			var out []byte
			out, err = exec.Command(l.command[0], l.command[1:]...).Output()
			if !strings.HasPrefix(string(out), "sage/family_") {
				err = errors.Join(err, fmt.Errorf("%v: printed %q", l.command, out))
			}
		}
		run := each(l.starts, func() error {
			return repeat(l.starts, func() error { return command(l.command[0], l.command[1:]...) })
		})
		if i == 0 {
			t.ours = run
		} else {
			t.peers = append(t.peers, peer{l.name, l.target, run, l.missing})
		}
	}
	return t, err
}

// pythonScript is a script that nothing of the user's has a part in.
func pythonScript(script string, args ...string) []string {
	return append([]string{python, "-Ic", "import sys\n" + script}, args...)
}

const (
	clientGet = `sys.path.insert(0, sys.argv[1])
import syscache
with syscache.open(sys.argv[2], sys.argv[4], cache_dirs=[sys.argv[3]]) as c: print(c.get(sys.argv[5].encode()).decode())`
	pickleGet = `import pickle
print(pickle.load(open(sys.argv[1], "rb"))[sys.argv[2].encode()].decode())`
	jsonGet = `import json
print(json.load(open(sys.argv[1]))[sys.argv[2]])`
	sqliteGet = `import sqlite3
c = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True)
print(c.execute("select value from rows where key = ?", (sys.argv[2],)).fetchone()[0])`
	lmdbGet = `import lmdb
with lmdb.open(sys.argv[1], subdir=False, readonly=True, lock=False).begin() as t: print(t.get(sys.argv[2].encode()).decode())`
)

// otherFormats makes the rows in the formats of the peers that are there, and
// keeps the first error.
type otherFormats struct {
	b   *bench
	err error
}

func (o *otherFormats) make(name, missing string, program func(path string) []string) string {
	if o.err != nil || missing != "" {
		return ""
	}
	path, err := o.b.made(name, func(path string) error {
		lines, err := o.b.lines()
		if err != nil {
			return err
		}
		in, err := os.Open(lines)
		if err != nil {
			return err
		}
		defer in.Close()
		argv := program(path)
		c := exec.Command(argv[0], argv[1:]...)
		c.Stdin = in
		return told(c)
	})
	o.err = err
	return path
}

func (o *otherFormats) python(name, missing, script string) string {
	return o.make(name, missing, func(path string) []string {
		return pythonScript(`rows = (line[:-1].split(b"\t") for line in sys.stdin.buffer)`+"\n"+script, path)
	})
}

func (o *otherFormats) pickle() string {
	return o.python("rows.pickle", lacks(python, "python3"), `import pickle
pickle.dump(dict(rows), open(sys.argv[1], "wb"), pickle.HIGHEST_PROTOCOL)`)
}

func (o *otherFormats) json() string {
	return o.python("rows.json", lacks(python, "python3"), `import json
json.dump({k.decode(): v.decode() for k, v in rows}, open(sys.argv[1], "w"))`)
}

func (o *otherFormats) sqlite() string {
	return o.python("rows.sqlite", lacksModule("sqlite3", "sqlite3 in python3"), `import sqlite3
c = sqlite3.connect(sys.argv[1])
c.execute("create table rows (key text primary key, value text) without rowid")
c.executemany("insert into rows values (?, ?)", ((k.decode(), v.decode()) for k, v in rows))
c.commit()`)
}

func (o *otherFormats) lmdb() string {
	return o.python("rows.lmdb", lacksModule("lmdb", "python3-lmdb"), `import lmdb
with lmdb.open(sys.argv[1], subdir=False, map_size=1 << 30, sync=False).begin(write=True) as t:
    for k, v in rows: t.put(k, v, append=True)`)
}

func (o *otherFormats) cdb() string {
	return o.make("rows.cdb", lacks("cdb", "tinycdb"), func(path string) []string { return []string{"cdb", "-c", "-m", path} })
}
