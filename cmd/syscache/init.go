package main

import (
	"github.com/spf13/cobra"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/survey"
	"github.com/syscache/syscache/syscache/refresh"
)

func (a *app) initCommand() *cobra.Command {
	print := false
	c := &cobra.Command{
		Use:   "init",
		Short: "Propose a configuration for an install",
		Long: `Look at the install, and write a configuration with comments, etc/syscache.toml
under the root: what caches could be derived from, and what their witnesses show
and do not show. It refreshes as it is, with the built-in table of files, and is
meant to be edited. An install that is configured is left alone.

It knows Python, conda, Spack, modulefiles, dpkg and git. Run by root on an
install that belongs to somebody else, it becomes that user first.`,
		Example: "  syscache --root /opt/sage init\n  syscache --root /opt/sage init --print",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.init(print) },
	}
	c.Flags().BoolVar(&print, "print", false, "print it instead")
	return c
}

// An initResult is what init --json prints, a line a cache.
type initResult struct {
	jsonFile
	Cache  string `json:"cache"`
	Active bool   `json:"active"` // or commented out
}

func (a *app) init(print bool) error {
	if print && a.json {
		return usagef("leave out --print or --json", "--print prints TOML, not JSON")
	}
	root, err := a.rootDir()
	if err != nil {
		return err
	}
	if err := refresh.BecomeOwner(root); err != nil {
		return err
	}
	caches, err := survey.Look(root)
	if err != nil {
		return err
	}
	text := survey.Config(root, caches)
	if print {
		_, err := a.stdout.Write(text)
		return err
	}
	file, err := refresh.WriteConfig(root, text)
	if err != nil {
		return err
	}
	return a.proposed(root, file, caches)
}

// proposed says what was proposed, and what to do next.
func (a *app) proposed(root, file string, caches []survey.Cache) error {
	next := "uncomment a cache in it"
	for _, c := range caches {
		active := c.Off == ""
		if a.json {
			if err := a.printJSON(initResult{fileJSON(file), c.Name, active}); err != nil {
				return err
			}
			continue
		}
		state := "active"
		if active {
			next = "look through it"
		} else {
			state = "commented out"
		}
		a.note(format.Show(file) + ": " + c.Name + ", " + state)
	}
	if !a.json {
		a.note("next: " + next + ", then syscache --root " + format.ShellQuote(root) + " refresh")
	}
	return nil
}
