package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/syscache/syscache/syscache/refresh"
)

func (a *app) invalidateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "invalidate [CACHE...]",
		Short: "Mark caches stale, without waiting for anything",
		Long: `Mark caches stale: all of them, or those named. No reader believes them until the
next refresh, and a refresh that is under way will not publish. It takes no lock.`,
		Example: "  syscache --root /opt/sage invalidate star-imports",
		RunE: func(_ *cobra.Command, names []string) error {
			root, err := a.rootDir()
			if err != nil {
				return err
			}
			if err := refresh.BecomeOwner(root); err != nil {
				return err
			}
			dirs, err := a.cacheDirs()
			if err != nil {
				return err
			}
			o := &refresh.LoadOptions{}
			if len(dirs) > 0 {
				o.CacheDir = dirs[0]
			}
			if len(names) == 0 {
				done, err := refresh.InvalidateAll(root, o)
				return errors.Join(a.printInvalidated(done), err)
			}
			done, err := a.invalidate(names)
			return errors.Join(a.printInvalidated(done), err)
		},
	}
	a.hookFlag(c, "for package hooks: exit code 0, environment ignored")
	return c
}

// invalidate invalidates caches by name, and returns those that it could.
func (a *app) invalidate(names []string) (done []string, err error) {
	in, err := a.load()
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, name := range names {
		if !slices.Contains(in.Names(), name) && !in.Built(name) {
			failed = append(failed, fmt.Errorf("invalidate %q: %w", name, refresh.ErrUndeclared))
		} else if err := in.Invalidate(name); err != nil {
			failed = append(failed, err)
		} else {
			done = append(done, name)
		}
	}
	return done, errors.Join(failed...)
}

func (a *app) printInvalidated(names []string) error {
	if !a.json {
		return nil
	}
	for _, name := range names {
		if err := a.printJSON(map[string]string{"cache": name, "outcome": "invalidated"}); err != nil {
			return err
		}
	}
	return nil
}
