package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/syscache/syscache/syscache"
)

func (a *app) getCommand() *cobra.Command {
	var stale bool
	c := &cobra.Command{
		Use:   "get CACHE ROWKEY...",
		Short: "Print the value of a row",
		Long: `Print the value of a row as it is stored, and a newline. Of several row keys, or
with --json, print a line of JSON each, {"key": ..., "value": ...}; what is not
UTF-8, or no JSON, is in base64, as key_base64 and value_base64. A row key that
is not in the cache prints nothing, and the exit code is 3.

From a stale cache nothing is printed, unless --stale is given.`,
		Example: `  syscache --root /opt/sage get star-imports sage.rings.all
  syscache --root /opt/sage --json get star-imports sage.rings.all`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := a.open(args[0], stale)
			if err != nil {
				return err
			}
			defer r.Close()
			if r.Dir() != "" {
				return usagef("syscache path "+args[0]+" prints where they are", "%s consists of files", args[0])
			}
			return a.get(r, args[1:])
		},
	}
	staleFlag(c, &stale)
	return c
}

func staleFlag(c *cobra.Command, stale *bool) {
	c.Flags().BoolVar(stale, "stale", false, "accept stale data, and say so")
}

func (a *app) get(r *syscache.Reader, keys []string) error {
	var missing []error
	for _, key := range keys {
		value, err := r.Get([]byte(key))
		switch {
		case errors.Is(err, syscache.ErrNotFound):
			missing = append(missing, fmt.Errorf("%w: %q", err, key))
			continue
		case err != nil:
			return err
		case len(keys) > 1 || a.json:
			err = a.printJSON(rowJSON([]byte(key), value))
		default:
			_, err = fmt.Fprintf(a.stdout, "%s\n", value)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(missing...)
}
