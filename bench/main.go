//go:build linux

// Bench measures syscache beside its peers and prints the table of
// docs/PERFORMANCE.md: `make bench`, or `go run ./bench -run REGEXP` for some of
// its rows.
//
// It measures and does not judge: it fails only if something cannot be run.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	run := flag.String("run", "", "measure only the work that matches this `regexp`")
	runs := flag.Int("n", 9, "how often each side is measured, after once to warm up")
	list := flag.Bool("list", false, "list the work, and measure nothing")
	dir := flag.String("dir", "", "make the trees and tables under this `directory` (default $TMPDIR)")
	flag.Parse()
	chosen, err := choose(*run)
	if err == nil && *list {
		for _, c := range chosen {
			fmt.Println(c.work)
		}
		return
	}
	if err == nil {
		err = benchmark(chosen, *runs, full, *dir, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func choose(pattern string) ([]comparison, error) {
	re, err := regexp.Compile(pattern)
	all := slices.Concat(reading, processes, memory, tables, trees, waiting, changes)
	return slices.DeleteFunc(all, func(c comparison) bool { return err != nil || !re.MatchString(c.work) }), err
}

// sizes says how much there is to do; small sizes keep the harness alive.
type sizes struct {
	rows        int // of a table
	gets        int // dependent look-ups of a sample
	mapping     int // bytes
	files       int // of a tree, in a tenth as many directories
	processes   int // that hold a table, or wait
	starts      int // processes of a sample
	inputs      int // of which one changes
	generations int // of a cache
	caches      int // of a root
}

var full = sizes{
	rows: 1_000_000, gets: 500_000, mapping: 256 << 20, files: 100_000, processes: 50,
	starts: 20, inputs: 2500, generations: 50, caches: 30,
}

// A bench is one run: its sizes, and what its comparisons share.
type bench struct {
	sizes
	runs       int
	out        io.Writer
	dir        string // where everything is made
	bin        string // the programs
	repository string // of the source
	cleanups   []func() error

	rowsMade *store // what rowStore made
}

func benchmark(chosen []comparison, runs int, s sizes, dir string, out io.Writer) (err error) {
	b := &bench{sizes: s, runs: max(runs, 1), out: out}
	if b.dir, err = os.MkdirTemp(dir, "syscache-bench-"); err != nil {
		return err
	}
	// Interrupted, it leaves as little behind as otherwise.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	defer signal.Stop(interrupted)
	go func() {
		if _, ok := <-interrupted; ok {
			os.RemoveAll(b.dir)
			os.Exit(1)
		}
	}()
	defer close(interrupted)
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.build(); err != nil {
		return err
	}
	b.machine()
	b.row(columns...)
	b.row(slices.Repeat([]string{"---"}, len(columns))...)
	for _, c := range chosen {
		if err := b.compare(c); err != nil {
			return fmt.Errorf("%s: %w", c.work, err)
		}
	}
	return nil
}

func (b *bench) compare(c comparison) (err error) {
	defer func() {
		for _, undo := range slices.Backward(b.cleanups) {
			err = errors.Join(err, undo())
		}
		b.cleanups = nil
	}()
	t, err := c.prepare(b)
	if err != nil {
		return err
	}
	return b.measure(c.work, t)
}

// cleanup has f called when the comparison is over.
func (b *bench) cleanup(f func() error) { b.cleanups = append(b.cleanups, f) }

// build builds what packages install, as `make build` does, and the programs.
func (b *bench) build() error {
	module, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return err
	}
	b.bin, b.repository = filepath.Join(b.dir, "bin"), filepath.Dir(strings.TrimSpace(string(module)))
	programs := exec.Command("go", "build", "-trimpath", "-o", b.bin+"/", "./bench/programs/...")
	programs.Dir, programs.Env = b.repository, append(os.Environ(), "CGO_ENABLED=0")
	return errors.Join(told(exec.Command(filepath.Join(b.repository, "packaging/programs"), b.dir)), told(programs))
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) program(name string) string { return filepath.Join(b.bin, name) }
