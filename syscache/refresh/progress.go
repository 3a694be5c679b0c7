package refresh

import (
	"sync/atomic"
	"time"

	"github.com/syscache/syscache/hashing"
)

// Phase says what a refresh is doing.
type Phase int32

// The phases of a refresh, in their order. From the build it may go back to
// Scanning: inputs are looked at again after it, and something may have changed.
const (
	Starting   Phase = iota
	Waiting          // for another refresher's lock
	Scanning         // and reading what is new
	Building         // by the builder
	Publishing       // sealing, checking and naming what was built
)

// Progress is what a refresh has done so far. It may be read while the refresh
// runs: whoever shows it polls Snapshot, and the refresh calls nobody. The zero
// value is ready; each refresh needs one of its own.
type Progress struct {
	phase atomic.Int32
	since atomic.Int64 // when the phase began, in nanoseconds since the epoch
	total atomic.Int64
	rows  atomic.Int64
	scan  atomic.Pointer[hashing.Progress]
}

// A ProgressSnapshot is the state of a Progress at one moment.
type ProgressSnapshot struct {
	Phase Phase
	Since time.Time // when the phase began
	Found int64     // inputs found by the scan
	Total int64     // how many there will be, by what the last refresh found; 0: unknown
	Read  int64     // inputs whose content was read
	Bytes int64     // and how much that was
	Rows  int64     // emitted by the builder
}

// Snapshot returns the present state.
func (p *Progress) Snapshot() ProgressSnapshot {
	s := ProgressSnapshot{
		Phase: Phase(p.phase.Load()), Since: time.Unix(0, p.since.Load()),
		Total: p.total.Load(), Rows: p.rows.Load(),
	}
	if scan := p.scan.Load(); scan != nil {
		s.Found, s.Read, s.Bytes = scan.Found.Load(), scan.Read.Load(), scan.Bytes.Load()
	}
	return s
}

// The methods that follow are a refresh's. Of nil they do nothing: nobody looks.

func (p *Progress) enter(phase Phase) {
	if p != nil {
		p.since.Store(time.Now().UnixNano())
		p.phase.Store(int32(phase))
	}
}

// enterScan begins a scan of about total files.
func (p *Progress) enterScan(total int) {
	if p != nil {
		p.total.Store(int64(total))
		p.scan.Store(&hashing.Progress{})
		p.enter(Scanning)
	}
}

// scanning returns what the scan is to count in.
func (p *Progress) scanning() *hashing.Progress {
	if p == nil {
		return nil
	}
	return p.scan.Load()
}

func (p *Progress) enterBuild() {
	if p != nil {
		p.rows.Store(0)
		p.enter(Building)
	}
}

func (p *Progress) emitted() {
	if p != nil {
		p.rows.Add(1)
	}
}
