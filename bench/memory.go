//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
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
// have said that they are ready.
func (b *bench) pss(command ...string) sample {
	return func() (sum float64, err error) {
		var all []*holder
		defer func() {
			for _, h := range all {
				err = errors.Join(err, h.release())
			}
		}()
		for range b.processes {
			h, err := startHolder(command)
			if err != nil {
				return 0, err
			}
			all = append(all, h)
		}
		for _, h := range all {
			if err := h.ready(); err != nil {
				return 0, err
			}
		}
		for _, h := range all {
			v, err := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", h.Process.Pid), "Pss:")
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
	*exec.Cmd
	in  io.Closer
	out *bufio.Reader
}

func startHolder(argv []string) (*holder, error) {
	h := &holder{Cmd: exec.Command(argv[0], argv[1:]...)}
	in, err := h.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := h.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.in, h.out = in, bufio.NewReader(out)
	return h, h.Start()
}

func (h *holder) ready() error {
	if line, err := h.out.ReadString('\n'); err != nil {
		return fmt.Errorf("%s said %q: %w", h.Path, line, err)
	}
	return nil
}

func (h *holder) release() error {
	return errors.Join(h.in.Close(), h.Wait())
}
