//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/syscache/syscache/syscache"
)

var waiting = []comparison{
	{"50 waiting refreshers, from the end of the build", waiters},
	{"Go: Get, 99th percentile while refreshes publish", getsMeanwhile},
}

// A site is a small install whose builder waits until it is let go.
type site struct{ root, gate, input string }

const siteConfig = `[cache.%s]
inputs = ["lib/**"]
build  = ["/bin/sh", "libexec/build"]
`

func (b *bench) site(name string) (*site, error) {
	s := &site{root: b.path(name)}
	s.gate = filepath.Join(s.root, "gate")
	s.input = filepath.Join(s.root, "lib/input")
	if err := plant(s.root, b.files/100); err != nil {
		return nil, err
	}
	return s, errors.Join(
		configure(s.root, `read -r _ <gate; echo '{"key": "a", "value": "b"}'`+"\n", fmt.Sprintf(siteConfig, name)),
		command("mkfifo", s.gate))
}

func waiters(b *bench) (*trial, error) {
	s, err := b.site("waited-for")
	if err != nil {
		return nil, err
	}
	noop := func() error { return command(b.program("syscache"), "--root", s.root, "-q", "refresh") }
	return &trial{unit: seconds, ours: func() (float64, error) { return s.awaited(b) }, peers: []peer{{
		name: "50 refreshes with nothing to do, one after the other", target: 1.5,
		run: timed(func() error { return repeat(b.processes, noop) }),
	}}}, nil
}

// awaited returns the seconds from the end of a refresh to that of the last of
// those that waited for it.
func (s *site) awaited(b *bench) (float64, error) {
	if err := edit(s.input); err != nil {
		return 0, err
	}
	refresh := exec.Command(b.program("syscache"), "--root", s.root, "-q", "refresh")
	if err := refresh.Start(); err != nil {
		return 0, err
	}
	gate, err := os.OpenFile(s.gate, os.O_WRONLY, 0) // when the builder waits there
	if err != nil {
		return 0, err
	}
	var all errgroup.Group
	for range b.processes {
		w, err := s.waiter(b)
		if err != nil {
			return 0, errors.Join(err, gate.Close(), refresh.Wait(), all.Wait())
		}
		all.Go(w.Wait)
	}
	if err := errors.Join(gate.Close(), refresh.Wait()); err != nil {
		return 0, err
	}
	return timed(all.Wait)()
}

// waiter returns a refresh that has said that it waits.
func (s *site) waiter(b *bench) (*exec.Cmd, error) {
	c := exec.Command(b.program("syscache"), "--root", s.root, "refresh")
	said, err := c.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	out := bufio.NewReader(said)
	line, err := out.ReadString('\n')
	if !strings.Contains(line, "waiting for") {
		return nil, errors.Join(fmt.Errorf("not waiting: %q", line), err, c.Wait())
	}
	go io.Copy(io.Discard, out) // ends with the process
	return c, nil
}

// getsMeanwhile is of one reader, whose look-ups are timed one by one, alone and
// while another process changes a file and refreshes, again and again.
func getsMeanwhile(b *bench) (*trial, error) {
	t := &tree{root: b.path("published"), cacheDir: b.path("published-caches")}
	if err := plant(t.root, b.files/10); err != nil {
		return nil, err
	}
	if err := t.refresh(b); err != nil {
		return nil, err
	}
	r, err := syscache.Open(t.root, "files", &syscache.ReadOptions{CacheDirs: []string{t.cacheDir}})
	if err != nil {
		return nil, err
	}
	b.cleanup(r.Close)
	var keys [][]byte
	for row, err := range r.Scan(nil) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, slices.Clone(row.Key))
	}
	rand.Shuffle(len(keys), func(i, k int) { keys[i], keys[k] = keys[k], keys[i] })
	alone := func() (float64, error) { return percentile99(r, keys, b.gets) }
	edited := filepath.Join(t.root, "lib/changing")
	publish := func() error { return errors.Join(edit(edited), t.refresh(b)) }
	return &trial{unit: seconds, ours: meanwhile(publish, alone), peers: []peer{
		{name: "alone", target: 1.2, run: alone},
		{name: "while b3sum goes over the same tree", run: meanwhile(t.hash, alone), missing: lacks("b3sum", "b3sum")},
	}}, nil
}

// meanwhile is a sample during which work is done, again and again.
func meanwhile(work func() error, s sample) sample {
	return func() (float64, error) {
		end := make(chan struct{})
		var g errgroup.Group
		g.Go(func() error {
			for {
				if err := work(); err != nil {
					return err
				}
				select {
				case <-end:
					return nil
				default:
				}
			}
		})
		v, err := s()
		close(end)
		return v, errors.Join(err, g.Wait())
	}
}

// percentile99 is of the seconds of n look-ups, the clock included.
func percentile99(r *syscache.Reader, keys [][]byte, n int) (float64, error) {
	took := make([]time.Duration, n)
	for i := range took {
		start := time.Now()
		if _, err := r.Get(keys[i%len(keys)]); err != nil {
			return 0, err
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	return took[n*99/100].Seconds(), nil
}
