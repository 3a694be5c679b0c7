package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/syscache/syscache/internal/environ"
	"github.com/syscache/syscache/syscache/refresh"
)

// A screen is where messages go: whole lines, whoever writes them. If it is a
// terminal, it shows below them what runs, until that is done.
//
// The cursor waits at the start of the line below all of that. Nothing about
// the terminal is changed that a killed process could leave changed.
type screen struct {
	w io.Writer

	mu      sync.Mutex
	live    bool // what runs is shown
	running []*activity
	drawn   int // lines below the messages
}

// An activity is a refresh that runs.
type activity struct {
	name     string
	began    time.Time
	progress refresh.Progress
}

// What is done sooner than patience is never shown. What takes longer is drawn
// anew every tick.
const (
	patience = 200 * time.Millisecond
	tick     = 100 * time.Millisecond
)

// print prints lines that stay, in place of what is drawn, which is drawn
// again below them: all in one write, so that a terminal shows nothing in
// between.
func (s *screen) print(stay string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", s.drawn) // up, and erase all below
	}
	b.WriteString(stay)
	lines := s.lines()
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	s.drawn = len(lines)
	if b.Len() > 0 {
		io.WriteString(s.w, b.String())
	}
}

// lines returns what is to be drawn.
func (s *screen) lines() (lines []string) {
	if !s.live {
		return nil
	}
	width, height, _ := s.size()
	now := time.Now()
	for _, a := range s.running {
		if now.Sub(a.began) >= patience && len(lines) < height-1 {
			line := a.line(now)
			// One that the terminal wraps could not be erased. All of it is ASCII.
			lines = append(lines, line[:min(len(line), width-1)])
		}
	}
	return lines
}

// animate shows what runs until the function that it returns is called, once all
// has ended. Nothing of it is left then. If the screen is no terminal it does nothing.
func (s *screen) animate() (stop func()) {
	kind := environ.Get("TERM")
	if _, _, ok := s.size(); !ok || kind == "" || kind == "dumb" {
		return func() {}
	}
	done, gone := make(chan bool), make(chan bool)
	s.mu.Lock()
	s.live = true
	s.mu.Unlock()
	go func() {
		defer close(gone)
		t := time.NewTicker(tick)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				s.print("")
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-gone
		s.print("") // nothing runs any more
	}
}

// size returns the size of the terminal, and whether it is one.
func (s *screen) size() (width, height int, ok bool) {
	f, ok := s.w.(*os.File)
	if !ok {
		return 0, 0, false
	}
	width, height, ok = terminalSize(f)
	if ok && (width == 0 || height == 0) { // nobody told it
		return 80, 24, true
	}
	return width, height, ok
}

func (s *screen) start(name string) *activity {
	a := &activity{name: name, began: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = append(s.running, a)
	slices.SortFunc(s.running, func(a, b *activity) int { return strings.Compare(a.name, b.name) })
	return a
}

func (s *screen) end(a *activity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = slices.DeleteFunc(s.running, func(b *activity) bool { return a == b })
}

// line says how far a is.
func (a *activity) line(now time.Time) string {
	p := a.progress.Snapshot()
	parts := append([]string{a.name + ": " + phase(&p)}, figures(&p, now.Sub(p.Since))...)
	return strings.Join(append(parts, now.Sub(a.began).Truncate(time.Second).String()), ", ")
}

func phase(p *refresh.ProgressSnapshot) string {
	switch p.Phase {
	case refresh.Waiting:
		return "waiting for the lock"
	case refresh.Scanning:
		if p.Bytes > 0 {
			return "hash"
		}
		return "scan"
	case refresh.Building:
		return "build"
	case refresh.Publishing:
		return "publish"
	}
	return "start"
}

// figures are what there is to count, in a phase that has taken so long.
func figures(p *refresh.ProgressSnapshot, taken time.Duration) (parts []string) {
	switch {
	case p.Phase == refresh.Scanning:
		parts = append(parts, found(p))
		if p.Bytes > 0 && taken > 0 {
			rate := uint64(float64(p.Bytes) / taken.Seconds())
			parts = append(parts, humanize.IBytes(uint64(p.Bytes)), humanize.IBytes(rate)+"/s")
		}
		if p.Found > 0 && p.Total > p.Found && taken > time.Second {
			left := time.Duration(float64(taken) * float64(p.Total-p.Found) / float64(p.Found))
			parts = append(parts, "~"+left.Round(time.Second).String()+" left")
		}
	case p.Rows > 0:
		parts = append(parts, count(int(p.Rows), "row"))
	}
	return parts
}

// found says how many files there are, and of how many by what the last refresh
// found.
func found(p *refresh.ProgressSnapshot) string {
	if p.Total < p.Found || p.Total == 0 {
		return count(int(p.Found), "file")
	}
	return humanize.Comma(p.Found) + "/~" + count(int(p.Total), "file")
}

// visible returns s with all that a terminal would not print but obey written
// out: file names and builders are others' than whoever reads the message.
func visible(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, "\\x%02x", s[i])
		case r == '\t' || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}
