package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/syscache/syscache/syscache"
)

// pause is between two looks. Current costs a few lstats; what it saves a
// program that runs for long is to open the cache for each question.
const pause = time.Second

// watch prints the list, and then what is added to it and removed from it,
// until it is interrupted.
func (a *app) watch(ctx context.Context) error {
	shown := map[string]bool{}
	for ctx.Err() == nil {
		r := a.open()
		var out bytes.Buffer
		err := a.ask(ctx, r, func(t rows) error { return writeList(&out, t, "") })
		if err == nil {
			shown, err = a.showChanges(shown, out.String())
		} else if ctx.Err() == nil {
			a.tell(err) // a plugin that is half installed: look again
			err = nil
		}
		if err == nil {
			waitForChange(ctx, r)
		}
		closeReader(r)
		if err != nil {
			return err
		}
	}
	return nil
}

// waitForChange returns when r is no longer what Open would return. Without r
// there is nothing that could tell, so it returns after one pause.
func waitForChange(ctx context.Context, r *syscache.Reader) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if r == nil {
			return
		}
		if current, err := r.Current(); !current || err != nil {
			return // whatever is wrong, open tells it
		}
	}
}

// showChanges prints how the list differs from the lines that were shown
// before, and returns its own.
func (a *app) showChanges(before map[string]bool, list string) (map[string]bool, error) {
	now := map[string]bool{}
	for line := range strings.Lines(list) {
		now[line] = true
	}
	var out bytes.Buffer
	for _, line := range slices.Sorted(maps.Keys(before)) {
		if !now[line] {
			fmt.Fprint(&out, "- ", line)
		}
	}
	for _, line := range slices.Sorted(maps.Keys(now)) {
		if !before[line] {
			fmt.Fprint(&out, "+ ", line)
		}
	}
	_, err := out.WriteTo(a.stdout)
	return now, err
}
