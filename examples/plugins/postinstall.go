package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/syscache/syscache/syscache/refresh"
)

// This is the one file that imports package refresh. That costs every start of
// this program 0.15 ms of 1.0 ms (0.1 ms of it is initialisation, by
// GODEBUG=inittrace=1) and 3 MB on disk: less than what a second program is
// worth that must be built, shipped and upgraded in step with this one, for
// both must derive alike. A program that starts a hundred times a second would
// choose otherwise, and move this file to a command of its own.

// lockWait is how long to wait for another refresh. A package manager waits
// with us.
const lockWait = time.Minute

// pluginsCache declares the cache. No configuration does: what the program is
// the only one to know, nobody can set to something else.
var pluginsCache = refresh.Cache{
	Name:   cacheName,
	Inputs: []string{pluginDir + "/*/" + manifest},
	// Nil is every manifest and every directory looked into, by stat: plugins
	// are edited in place, and no other witness shows that. It is a few
	// microseconds for each plugin; with thousands of them, and an installer
	// that writes one file last, that file is the better witness.
	Witness:      nil,
	Build:        build,
	BuildVersion: deriveVersion,
}

// build derives the rows from the manifests that were scanned: neither fewer
// nor more than the key stands for.
func build(ctx context.Context, in refresh.Inputs, emit func(key, value []byte) error) error {
	paths := make([]string, len(in.Files))
	for i := range in.Files {
		paths[i] = in.Files[i].Path
	}
	return derive(ctx, in.Root, paths, emit)
}

// postInstall brings the cache up to date. A hook never fails, or the package
// manager would leave packages half installed, and says at most one line.
func (a *app) postInstall(ctx context.Context, hook bool) error {
	warn := func(msg string) { fmt.Fprintln(a.stderr, "warning:", msg) }
	if hook {
		warn = nil
	}
	res, err := a.refresh(ctx, warn)
	switch {
	case err != nil && hook:
		fmt.Fprintln(a.stderr, "plugins:", strings.ReplaceAll(err.Error(), "\n", "; "))
		return nil
	case err == nil && !hook:
		fmt.Fprintf(a.stderr, "plugins: %s: %d plugins\n", res.Outcome, res.Inputs)
	}
	var hinted *refresh.HintedError
	if errors.As(err, &hinted) {
		err = fmt.Errorf("%w\nhint: %s", err, hinted.Hint)
	}
	return err
}

// refresh touches this program's own cache only. Load also reads what the
// administrator and other packages configured, and a mistake there is theirs;
// InvalidateUndeclared and InvalidateAll, which a program might be tempted to
// call, are about their caches.
func (a *app) refresh(ctx context.Context, warn func(string)) (refresh.Result, error) {
	// Before Load, and before anything else is opened or started: as root, the
	// whole process becomes the install's owner, for good.
	if err := refresh.BecomeOwner(a.root); err != nil {
		return refresh.Result{}, err
	}
	in, err := refresh.Load(a.root, &refresh.LoadOptions{Caches: []refresh.Cache{pluginsCache}, Warn: warn})
	if err != nil {
		return refresh.Result{}, err
	}
	res, err := in.Refresh(ctx, cacheName, &refresh.Options{Wait: lockWait})
	if err == nil && res.Outcome == refresh.Unchanged && in.Verify(ctx, cacheName) != nil {
		// By stat all is there, and readers find it corrupt. Our table is
		// small enough to be read whole each time.
		res, err = in.Refresh(ctx, cacheName, &refresh.Options{Wait: lockWait, Force: true})
	}
	if err != nil {
		// The witness would tell readers most of this. What it cannot tell is
		// that this program itself is another one than before.
		err = errors.Join(err, in.Invalidate(cacheName))
	}
	return res, err
}
