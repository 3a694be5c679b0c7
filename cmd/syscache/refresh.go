package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/syscache/syscache/lock"
	"github.com/syscache/syscache/syscache/refresh"
)

// hookWait is how long a package hook waits for another refresher.
const hookWait = 60 * time.Second

func (a *app) refreshCommand() *cobra.Command {
	var o refresh.Options
	c := &cobra.Command{
		Use:   "refresh [CACHE...]",
		Short: "Bring caches up to date, building what changed",
		Long: `Bring caches up to date: all that are configured, or those named. Run it after
every change of the install, as its owner or as root, which becomes the owner
first. Where nothing changed, nothing is written, but perhaps a memo that spares
the next refresh a scan: it then asks only whether each file and directory is as
it was.

A cache is built only if its inputs changed, or something else that decides the
result: its build command, the environment of that, or the files of its recipe.
What is built is published whole, at once.

On failure readers keep what they had or, where something changed, do without
until the next refresh. Caches that are no longer configured are marked stale.`,
		Example: "  syscache --root /opt/sage refresh\n  syscache --root /opt/sage refresh --force star-imports",
		RunE: func(c *cobra.Command, names []string) error {
			if a.hook && !c.Flags().Changed("wait") {
				o.Wait = hookWait
			}
			return a.refresh(c.Context(), names, o)
		},
	}
	c.Flags().BoolVar(&o.Force, "force", false, "build even if nothing changed")
	c.Flags().DurationVar(&o.Wait, "wait", 10*time.Minute, "how long to wait for another refresh of the same cache")
	a.hookFlag(c, "for package hooks: at most one line a cache on stderr, exit code 0, environment ignored; what cannot be refreshed is invalidated")
	return c
}

// atOnce is how many caches are refreshed side by side: enough that one that
// waits, for a lock or its builder, seldom keeps others waiting.
const atOnce = 8

func (a *app) refresh(ctx context.Context, names []string, o refresh.Options) error {
	root, err := a.rootDir()
	if err != nil {
		return err
	}
	if err := refresh.BecomeOwner(root); err != nil {
		return err
	}
	keepFromBuilders()
	in, err := a.load()
	switch {
	case a.hook && errors.Is(err, refresh.ErrUnconfigured):
		return nil // a package manager asks for every root
	case a.hook && err == nil && in.Unconfigured() && !in.Built(in.Names()[0]):
		_, err := in.InvalidateUndeclared()
		return err
	case err != nil:
		return a.unreadable(err)
	}
	var failed []error
	if len(names) == 0 {
		names = in.Names()
		failed = a.mistakes(in)
		// A cache that a mistake has left undeclared is still somebody's: only
		// where nobody reads the message is it better not believed.
		if a.hook || len(failed) == 0 {
			gone, err := in.InvalidateUndeclared()
			for _, name := range gone {
				a.note(name + ": invalidated, it is no longer configured")
			}
			if err != nil {
				return err
			}
		}
	}
	slices.Sort(names)
	failed = append(failed, a.refreshAll(ctx, in, slices.Compact(names), o)...)
	if a.hook {
		return nil // each was told
	}
	return errors.Join(failed...)
}

// refreshAll refreshes caches side by side. What succeeds is told at once, what
// fails is returned, in the order of names.
func (a *app) refreshAll(ctx context.Context, in *refresh.Install, names []string, o refresh.Options) []error {
	if !a.quiet && !a.hook && !a.json {
		defer a.screen.animate()()
	}
	failed := make([]error, len(names))
	var skipped atomic.Int32
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, name := range names {
		g.Go(func() error {
			if ctx.Err() != nil && !a.hook { // a hook invalidates it
				skipped.Add(1)
				return nil
			}
			failed[i] = a.refreshOne(ctx, in, name, o)
			return nil
		})
	}
	g.Wait()
	if n := int(skipped.Load()); n > 0 {
		failed = append(failed, fmt.Errorf("refresh: interrupted before %s had begun", count(n, "cache")))
	}
	return failed
}

// mistakes returns the mistakes in the configuration; a hook tells them, a line
// a file.
func (a *app) mistakes(in *refresh.Install) []error {
	var all []error
	for _, source := range in.Sources() {
		var msgs []string
		for _, m := range source.Mistakes {
			all = append(all, m)
			msgs = append(msgs, oneLine(m.Error()))
		}
		if a.hook && len(msgs) > 0 {
			a.complain(complaint{Error: strings.Join(msgs, "; ") + "; until that is mended no cache of this file is refreshed or believed"})
		}
	}
	return all
}

func (a *app) refreshOne(ctx context.Context, in *refresh.Install, name string, o refresh.Options) error {
	shown := a.screen.start(name)
	o.Progress = &shown.progress
	o.Waiting = func(h lock.Holder) { a.note(fmt.Sprintf("%s: waiting for %v", name, h)) }
	res, err := in.Refresh(ctx, name, &o)
	a.screen.end(shown)
	switch {
	case err != nil && a.hook:
		a.hookFailed(in, name, err)
	case err == nil && !a.json:
		a.note(fmt.Sprintf("%s: %s: %s", name, res.Outcome, summary(&res)))
	}
	if a.json {
		a.refreshed.Lock()
		defer a.refreshed.Unlock()
		if e := a.printJSON(refreshJSON(name, &res, err)); err == nil {
			err = e
		}
	}
	return err
}

// hookFailed marks what could not be refreshed as stale, in one line.
func (a *app) hookFailed(in *refresh.Install, name string, err error) {
	then := "readers do without it until the next refresh"
	if e := in.Invalidate(name); e != nil {
		then = "and it could not be invalidated: " + e.Error()
	}
	a.complain(complaint{Error: oneLine(err.Error()) + "; " + then})
}

// unreadable is for a hook that cannot even read the configuration: what
// is there is no longer to be believed.
func (a *app) unreadable(cause error) error {
	if !a.hook {
		return cause
	}
	root, err := a.rootDir()
	if err != nil {
		return err
	}
	return errors.Join(cause, a.invalidateAll(root))
}

func (a *app) invalidateAll(root string) error {
	_, err := refresh.InvalidateAll(root, &refresh.LoadOptions{CacheDir: a.cacheDir})
	return err
}
