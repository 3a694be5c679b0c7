package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
)

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff CACHE",
		Short: "Say what changed since the cache was built",
		Long: `Scan the inputs, as a refresh does, and print what is another than when the
published generation was built, a line each: how (added, removed, content, mode,
type), and the path. What is not an input but decides the result, as the command
does, is told as "recipe". Nothing is printed exactly if a refresh would not
build. Nothing is changed, and the exit code does not depend on the result.`,
		Example: "  syscache --root /opt/sage diff star-imports",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			in, err := a.load()
			if err != nil {
				return err
			}
			changes, err := in.Diff(c.Context(), args[0])
			if err != nil {
				return err
			}
			w := bufio.NewWriter(a.stdout)
			a.stdout = w
			for i := range changes {
				if err := a.printChange(&changes[i]); err != nil {
					return err
				}
			}
			return w.Flush()
		},
	}
}

// A changeResult is what diff --json prints, a line a change.
type changeResult struct {
	jsonPath
	Recipe bool     `json:"recipe,omitempty"`
	How    []string `json:"how"`
}

func changeJSON(c *hashing.Change) changeResult {
	return changeResult{pathJSON(c.Path), c.Recipe, strings.Split(c.How.String(), ", ")}
}

func (a *app) printChange(c *hashing.Change) error {
	if a.json {
		return a.printJSON(changeJSON(c))
	}
	path := format.Show(c.Path)
	if c.Recipe {
		path = "recipe " + path
	}
	_, err := fmt.Fprintf(a.stdout, "%-14s %s\n", c.How, path)
	return err
}
