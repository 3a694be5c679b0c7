//go:build linux

package suites

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
)

// What a reader of a soak may be given, whatever goes on.
//
// A clock that all processes share ticks before and after each thing that is
// done to the install; a reader looks at it before (a) and after (b) its
// question. States are what the files held, one after the other; one is
// possible from the tick before it was made to the tick after the next one was.
//
//   - A whole answer, of whatever age, is what all files held at one moment (I1):
//     one of the states ever possible by b.
//   - With every input as witness it is a state that was possible between a and b:
//     nobody is told what is no longer so (I2). With their directory as witness
//     each row is what its file held at some moment between a and b.
//   - With another witness each row is what its file held at some moment since the
//     floor: since the last change of that witness that was over by a; and,
//     with whatever witness, since the beginning of the last refresh that had
//     succeeded by a, and of the last invalidate that had.
//   - Who accepts stale data is given a whole answer of any age.
//   - To miss is always allowed, if it says stale or missing; but after a round has
//     come to rest and all is refreshed, nobody misses, and a cache is then what
//     the install is. Corrupt, untrusted, a panic or another error never is.
type history struct {
	mu     sync.Mutex
	clock  *os.File // the shared counters of the storm; the tick is at editing
	tick   uint64
	first  int // number of states[0]: older ones are known by ever alone
	states []moment
	ever   map[string]map[string]bool // view, content: what was possible
	floors map[string][]floor         // by cache, in the order of their ticks
}

// A moment is a state of the install: the first line of each file below lib.
type moment struct {
	files       map[string]string
	begun, done uint64
}

// A floor says: who asks from a tick on is given nothing from before a state.
type floor struct {
	from  uint64
	state int
}

// unended is when what goes on was done.
const unended = math.MaxUint64

func newHistory(clock *os.File, files map[string]string) *history {
	h := &history{clock: clock, ever: map[string]map[string]bool{}, floors: map[string][]floor{}}
	h.push(files)
	h.states[0].done = h.ticked()
	return h
}

// ticked moves the clock on, for all to see. It is called under mu.
func (h *history) ticked() uint64 {
	h.tick++
	put(h.clock, editing, h.tick)
	return h.tick
}

func (h *history) push(files map[string]string) {
	for view, of := range views {
		if h.ever[view] == nil {
			h.ever[view] = map[string]bool{}
		}
		h.ever[view][canonical(of, files)] = true
	}
	h.states = append(h.states, moment{files, 0, unended})
	h.states[len(h.states)-1].begun = h.ticked()
}

// change does something after which the files are what next says.
func (h *history) change(next map[string]string, do func() error) error {
	h.mu.Lock()
	h.push(next)
	h.mu.Unlock()
	err := do()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states[len(h.states)-1].done = h.ticked()
	return err
}

// now returns the tick, and the newest state that had been made by then.
func (h *history) now() (tick uint64, state int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ticked(), h.made(h.tick)
}

// made returns the newest state that had been made by a tick.
func (h *history) made(tick uint64) int {
	for i := len(h.states) - 1; i > 0; i-- {
		if h.states[i].done <= tick {
			return h.first + i
		}
	}
	return h.first
}

// raise says that from now on a cache has nothing from before a state.
func (h *history) raise(cache string, state int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.floors[cache] = append(h.floors[cache], floor{h.ticked(), state})
}

// forget drops all but the last n states, and the floors before them.
func (h *history) forget(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if drop := len(h.states) - n; drop > 0 {
		h.first += drop
		h.states = slices.Clone(h.states[drop:])
	}
	for cache, floors := range h.floors {
		if drop := len(floors) - n; drop > 0 {
			h.floors[cache] = slices.Clone(floors[drop:])
		}
	}
}

// A view is which files a cache is of.
type view func(path string) bool

var views = map[string]view{
	"all":    func(string) bool { return true },
	"direct": func(path string) bool { return strings.Count(path, "/") == 1 },
}

// A watched is a cache of a soak, and what is known of its witness.
type watched struct {
	name, view string
	now        bool // its witness shows every change at once
	whole      bool // and all files are as they were at one moment
}

func canonical(of view, files map[string]string) string {
	var lines []string
	for path, line := range files {
		if of(path) {
			lines = append(lines, path+"="+line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// allows says why a reader that asked between a and b should not have been
// given rows, nil if it may have been.
func (h *history) allows(c watched, rows map[string]string, stale bool, a, b uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := views[c.view]
	got := canonical(of, rows)
	if !h.ever[c.view][got] {
		return fmt.Errorf("no moment had these rows: %s", got)
	}
	if stale {
		return nil
	}
	low := h.made(a)
	if !c.now {
		low = h.first
		for _, f := range h.floors[c.name] {
			if f.from <= a {
				low = max(low, f.state)
			}
		}
	}
	possible := h.states[low-h.first:]
	for i := range possible {
		if possible[i].begun > b {
			possible = possible[:i]
			break
		}
	}
	if c.whole {
		for _, m := range possible {
			if canonical(of, m.files) == got {
				return nil
			}
		}
		return fmt.Errorf("none of the %d states between %d and %d: %s\nthe first: %s", len(possible), a, b, got, canonical(of, possible[0].files))
	}
	return eachRow(of, rows, possible)
}

// eachRow checks that each row, and each row that is not there, was so in one of
// the states.
func eachRow(of view, rows map[string]string, possible []moment) error {
	for path, line := range rows {
		if !slices.ContainsFunc(possible, func(m moment) bool { l, ok := m.files[path]; return ok && l == line }) {
			return fmt.Errorf("%s was not %q in any of %d states", path, line, len(possible))
		}
	}
	for path := range possible[0].files {
		_, there := rows[path]
		always := !slices.ContainsFunc(possible, func(m moment) bool { _, ok := m.files[path]; return !ok })
		if of(path) && !there && always {
			return fmt.Errorf("%s is missing, and was there in all of %d states", path, len(possible))
		}
	}
	return nil
}
