//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/syscache/syscache/syscache/refresh"
)

var tables = []comparison{
	{"table of all rows, from a Go iterator, no fsync", writeTable},
	{"refresh that builds the same from a Go function, fsync included", refreshTable},
}

// writeTable measures what package refresh writes a table with, which nobody
// outside of it can call: by its own benchmark, a process a sample.
func writeTable(b *bench) (*trial, error) {
	program := b.path("refresh.test")
	if err := told(exec.Command("go", "test", "-c", "-o", program, "github.com/syscache/syscache/syscache/refresh")); err != nil {
		return nil, err
	}
	ours := func() (float64, error) {
		c := exec.Command(program, "-test.run", "^$", "-test.bench", "^BenchmarkWriteTable$", "-test.benchtime", "1x")
		c.Env = append(os.Environ(), "BENCH_ROWS="+strconv.Itoa(b.rows), "BENCH_DIR="+b.dir)
		out, err := c.CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, out)
		}
		return benchmarked(out)
	}
	return &trial{unit: seconds, ours: ours, peers: []peer{{name: "bbolt", target: 0.15, run: b.boltSample()}}}, nil
}

// benchmarked returns the seconds of the line that a benchmark printed.
func benchmarked(out []byte) (float64, error) {
	before, _, found := bytes.Cut(out, []byte(" ns/op"))
	if fields := bytes.Fields(before); found && len(fields) > 0 {
		ns, err := strconv.ParseFloat(string(fields[len(fields)-1]), 64)
		return ns / 1e9, err
	}
	return 0, fmt.Errorf("no benchmark in %q", out)
}

// boltSample writes the rows with bbolt.
func (b *bench) boltSample() sample {
	rows, path := makeRecords(b.rows), b.path("new.bolt")
	write := quiet(timed(func() error { return writeBolt(path, rows.all) }))
	return func() (float64, error) {
		v, err := write()
		return v, errors.Join(err, os.Remove(path))
	}
}

// refreshTable measures all that a program waits for: rows in order, checked,
// sorted, written, hashed, synced, published.
func refreshTable(b *bench) (*trial, error) {
	s, err := b.store("table", 1)
	if err != nil {
		return nil, err
	}
	rows := makeRecords(b.rows)
	in, err := refresh.Load(s.root, &refresh.LoadOptions{Caches: []refresh.Cache{{
		Name: s.cache, Inputs: []string{witnessFile}, Witness: []string{witnessFile}, Build: building(rows.all), BuildVersion: "2",
	}}})
	if err != nil {
		return nil, err
	}
	build := quiet(timed(func() error {
		_, err := in.Refresh(context.Background(), s.cache, nil)
		return err
	}))
	ours := func() (float64, error) {
		if err := os.RemoveAll(filepath.Join(s.cacheDir, s.cache)); err != nil {
			return 0, err
		}
		return build()
	}
	return &trial{unit: seconds, ours: ours, peers: []peer{{name: "bbolt, without", run: b.boltSample()}}}, nil
}
