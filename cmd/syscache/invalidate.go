package main

import (
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/syscache/syscache/syscache/refresh"
)

func (a *app) invalidateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "invalidate [CACHE...]",
		Short: "Mark caches stale, without waiting for anything",
		Long: `Mark caches stale: all that there are, or those named. No reader believes a
stale cache until the next refresh, and a refresh that is under way does not
publish what it read before. Nothing is removed, and nothing is waited for.

It is for the install's owner, or root: before a change of the install that no
witness would show, or to have every reader do without a bad cache at once.`,
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
			failed = append(failed, &refresh.UndeclaredError{Cache: name, Declared: in.Names()})
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
