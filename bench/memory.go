//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sync/errgroup"
)

var memory = []comparison{{"memory of 50 processes that hold all rows, PSS", held}}

// held compares by PSS, which divides a shared page among those who share it.
// RSS counts it for each.
func held(b *bench) (*trial, error) {
	s, err := b.rowStore()
	if err != nil {
		return nil, err
	}
	files := &otherFormats{b: b}
	pickle := files.pickle()
	const hold = `import pickle
d = pickle.load(open(sys.argv[1], "rb"))
print("ready", flush=True)
sys.stdin.read()`
	return &trial{unit: amount, ours: b.pss(b.program("reader"), "hold", s.root, s.cacheDir, s.cache), peers: []peer{
		{"python3, pickle of a dict", 1. / 50, b.pss(pythonScript(hold, pickle)...), b.lacksMemory(lacks(python, "python3"))},
	}}, files.err
}

// lacksMemory is missing, or says that the dictionaries need more memory than
// there is: without it the machine would end whatever runs on it.
func (b *bench) lacksMemory(missing string) string {
	needed := 250 * float64(b.rows*b.processes)
	free, err := kilobytes("/proc/meminfo", "MemAvailable:")
	if missing == "" && (err != nil || free < needed) {
		return amount.text(needed) + " of memory"
	}
	return missing
}

// pss is a sample of the memory of processes that run at once, when all of them
// have said that they are ready. They get ready a few at a time: it is the same
// in the end, and sooner.
func (b *bench) pss(command ...string) sample {
	return func() (sum float64, err error) {
		all := make([]holder, b.processes)
		defer func() {
			for i := range all {
				err = errors.Join(err, all[i].release())
			}
		}()
		var g errgroup.Group
		g.SetLimit(runtime.NumCPU())
		for i := range all {
			g.Go(func() error { return all[i].start(command) })
		}
		if err := g.Wait(); err != nil {
			return 0, err
		}
		for _, h := range all {
			v, err := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", h.program.Process.Pid), "Pss:")
			if err != nil {
				return 0, err
			}
			sum += v
		}
		return sum, nil
	}
}

// A holder is a process that says a line when it is ready, and ends with its
// stdin.
type holder struct {
	program *exec.Cmd
	in      io.Closer
}

// start returns when the process is ready.
func (h *holder) start(argv []string) error {
	c := exec.Command(argv[0], argv[1:]...)
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return err
	}
	h.program, h.in = c, in
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("%s said %q: %w", c.Path, line, err)
	}
	return nil
}

func (h *holder) release() error {
	if h.program == nil {
		return nil
	}
	return errors.Join(h.in.Close(), h.program.Wait())
}
