package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) pathCommand() *cobra.Command {
	var stale bool
	c := &cobra.Command{
		Use:   "path CACHE",
		Short: "Print the directory of a cache that consists of files",
		Long: `Print the directory of a cache that consists of files. What is in it never
changes. After a later refresh has superseded it, it stays for as long as the
cache's setting "keep" says, a day by default: ask again for the new one.`,
		Example: "  ls \"$(syscache --root /opt/lmod path spider)\"",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := a.open(args[0], stale)
			if err != nil {
				return err
			}
			defer r.Close()
			if r.Dir() == "" {
				return usagef("syscache get "+args[0]+" ROWKEY reads it", "%s is a table", args[0])
			}
			if a.json {
				return a.printJSON(pathJSON(r.Dir()))
			}
			_, err = fmt.Fprintln(a.stdout, r.Dir())
			return err
		},
	}
	staleFlag(c, &stale)
	return c
}
