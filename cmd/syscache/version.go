package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/syscache/syscache/internal/format"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of the program and of the on-disk format",
		Long: `Print the version of the program, and that of the on-disk format that it reads
and writes.`,
		Example: "  syscache version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(map[string]any{"version": version, "format": format.Version})
			}
			_, err := fmt.Fprintf(a.stdout, "syscache %s, format %d\n", version, format.Version)
			return err
		},
	}
}
