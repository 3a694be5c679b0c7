package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/syscache/syscache/lock"
	"github.com/syscache/syscache/syscache/refresh"
)

func (a *app) gcCommand() *cobra.Command {
	var o refresh.CollectOptions
	c := &cobra.Command{
		Use:   "gc [CACHE...]",
		Short: "Remove what is no longer needed",
		Long: `Remove the generations that were superseded longer ago than the configuration
keeps them (a day by default), and what a refresh that was killed left behind:
of all caches, or of those named. A cache that has not been configured for a day
goes as a whole. A refresh does the same for its own cache: gc is for what is
never refreshed again, and for making room.

What a reader has open stays until it is closed. --now removes what was
superseded a moment ago, too, which programs that were given its path may still
be using.`,
		Example: "  syscache --root /opt/sage gc\n  syscache --root /opt/sage gc --now star-imports",
		RunE: func(c *cobra.Command, names []string) error {
			in, err := a.load()
			if err != nil {
				return err
			}
			if len(names) == 0 {
				if names, err = in.AllNames(); err != nil {
					return err
				}
			}
			var failed []error
			for _, name := range names {
				failed = append(failed, a.collect(c.Context(), in, name, o))
			}
			return errors.Join(failed...)
		},
	}
	c.Flags().BoolVar(&o.Now, "now", false, "remove every superseded generation, however recent")
	c.Flags().DurationVar(&o.Wait, "wait", 10*time.Minute, "how long to wait for a refresh of the same cache")
	return c
}

// A gcResult is what gc --json prints, a line a cache.
type gcResult struct {
	Cache   string `json:"cache"`
	Removed int    `json:"removed"`
	Bytes   uint64 `json:"bytes"`
	Kept    int    `json:"kept"`
}

func (a *app) collect(ctx context.Context, in *refresh.Install, name string, o refresh.CollectOptions) error {
	o.Waiting = func(h lock.Holder) { a.note(fmt.Sprintf("%s: waiting for %v", name, h)) }
	done, err := in.Collect(ctx, name, &o)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(gcResult{name, done.Removed, done.Bytes, done.Kept})
	}
	msg := fmt.Sprintf("%s: removed %s", name, count(done.Removed, "generation"))
	if done.Removed > 0 {
		msg += ", " + humanize.IBytes(done.Bytes)
	}
	if done.Kept > 0 {
		msg += fmt.Sprintf("; %s kept for now", humanize.Comma(int64(done.Kept)))
	}
	a.note(msg)
	return nil
}
