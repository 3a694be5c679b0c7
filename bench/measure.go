//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// A comparison is a row of the table: our work beside the same work done by
// others.
type comparison struct {
	work string
	// prepare makes what the samples need; what it leaves to be undone it
	// tells b.cleanup.
	prepare func(b *bench) (*trial, error)
}

// A trial is a comparison that is ready to run.
type trial struct {
	unit  unit
	ours  sample
	peers []peer
	limit *float64 // of ours itself; nil: none

	missing string // without which ours cannot be measured
}

// A sample is one measurement.
type sample func() (float64, error)

// A peer is what ours is compared with.
type peer struct {
	name    string
	target  float64 // what ours divided by it may be; 0: it is there to be seen
	run     sample
	missing string // what would have to be installed
}

// timed is a sample of the seconds that f takes.
func timed(f func() error) sample {
	return func() (float64, error) {
		start := time.Now()
		err := f()
		return time.Since(start).Seconds(), err
	}
}

// each is a sample of one of n things that f does in a row.
func each(n int, f func() error) sample {
	whole := timed(f)
	return func() (float64, error) {
		s, err := whole()
		return s / float64(n), err
	}
}

// measure runs a trial n times, after once to warm up, and prints its rows. In
// each round ours and the peers have their turn, in one order and then in the
// other, so that whatever else the machine does meets all of them; a ratio is of
// one round.
func (b *bench) measure(work string, t *trial) error {
	if t.missing != "" {
		b.row(work, "", "", "", "", "", skipped+t.missing)
		return nil
	}
	sides := []sample{t.ours}
	column := map[string]int{} // of a peer that is there
	for _, p := range t.peers {
		if p.missing == "" {
			column[p.name] = len(sides)
			sides = append(sides, p.run)
		}
	}
	values := make([][]float64, len(sides))
	for round := range b.runs + 1 {
		for i := range sides {
			if round%2 == 1 {
				i = len(sides) - 1 - i
			}
			v, err := sides[i]()
			if err != nil {
				return err
			}
			if round > 0 {
				values[i] = append(values[i], v)
			}
		}
	}
	ours := spreadOf(values[0])
	if t.limit != nil {
		b.row(work, "limit", t.unit.spread(ours), "", "", "<= "+t.unit.text(*t.limit), verdict(ours.median <= *t.limit))
	}
	for _, p := range t.peers {
		i, there := column[p.name]
		if !there {
			b.row(work, p.name, t.unit.spread(ours), "", "", "", skipped+p.missing)
			continue
		}
		b.compared(work, p, t.unit, ours, values[0], values[i])
	}
	return nil
}

func (b *bench) compared(work string, p peer, u unit, ours spread, left, right []float64) {
	ratios := make([]float64, len(left))
	for i := range left {
		ratios[i] = left[i] / right[i]
	}
	ratio := spreadOf(ratios)
	target, met := "", ""
	if p.target > 0 {
		target, met = "<= "+ratioText(p.target), verdict(ratio.median <= p.target)
	}
	b.row(work, p.name, u.spread(ours), u.spread(spreadOf(right)), ratioUnit.spread(ratio), target, met)
}

const skipped = "skipped: no "

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**MISSED**"
}

var columns = []string{"work", "against", "ours", "theirs", "ratio", "target", ""}

// row prints a row of the table as soon as it is known.
func (b *bench) row(cells ...string) {
	fmt.Fprintf(b.out, "| %s |\n", strings.ReplaceAll(strings.Join(cells, " | "), "^", `\^`))
}

// A spread is a median, and how far from it things were.
type spread struct{ median, least, most float64 }

func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	return spread{(v[(len(v)-1)/2] + v[len(v)/2]) / 2, v[0], v[len(v)-1]}
}

// A unit is how a value is written.
type unit struct{ text func(float64) string }

func (u unit) spread(s spread) string {
	return fmt.Sprintf("%s (%s..%s)", u.text(s.median), u.text(s.least), u.text(s.most))
}

var (
	seconds   = unit{secondsText}
	amount    = unit{func(v float64) string { return humanize.IBytes(uint64(v)) }}
	count     = unit{func(v float64) string { return fmt.Sprintf("%.3g", v) }}
	ratioUnit = unit{ratioText}
)

// secondsText writes three digits, as every measurement here is worth.
func secondsText(v float64) string {
	switch {
	case v < 1e-6:
		return fmt.Sprintf("%.3g ns", v*1e9)
	case v < 1e-3:
		return fmt.Sprintf("%.3g µs", v*1e6)
	case v < 1:
		return fmt.Sprintf("%.3g ms", v*1e3)
	}
	return fmt.Sprintf("%.3g s", v)
}

// ratioText writes small ratios as fractions.
func ratioText(v float64) string {
	if v <= 0.02 && v > 0 {
		return fmt.Sprintf("1/%.0f", 1/v)
	}
	return fmt.Sprintf("%.2f", v)
}
