package main

import (
	"errors"
	"slices"

	"github.com/spf13/cobra"
)

// groups are the verbs as the first screen has them.
var groups = []struct {
	title string
	verbs []string
}{
	{"For everybody:", []string{"get", "list", "path", "status", "diff", "verify"}},
	{"For who may write the install:", []string{"init", "refresh", "invalidate", "gc"}},
	{"About the set-up:", []string{"config", "doctor", "completion", "version", "help"}},
}

// screens makes the help of root and its verbs: no wider than a terminal.
func (a *app) screens(root *cobra.Command) {
	root.SetHelpCommand(a.helpCommand())
	root.InitDefaultHelpCmd()
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, c := range root.Commands() {
			if slices.Contains(g.verbs, c.Name()) {
				c.GroupID = g.title
			}
		}
	}
	root.SetUsageTemplate(usageTemplate)
}

const usageTemplate = `Usage:
  {{if .HasParent}}{{.Parent.Name}} [OPTION...] {{end}}{{.Use}}{{$c := .}}{{range .Groups}}

{{.Title}}{{$id := .ID}}{{range $c.Commands}}{{if eq .GroupID $id}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{with .Example}}

Examples:
{{.}}{{end}}

Options:
{{.LocalFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}{{if .HasParent}}

Options of all verbs:
{{.InheritedFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}{{else}}

syscache VERB --help tells more.{{end}}
`

// helpCommand is cobra's, but for a verb that does not exist, and its words.
func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [VERB]",
		Short:   "Print the help of a verb",
		Long:    "Print the help of a verb, or what verbs there are: as --help does.",
		Example: "  syscache help refresh",
		Args:    usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			for _, verb := range c.Root().Commands() {
				if len(args) == 0 && verb.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(verb.Name(), verb.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			verb, _, err := c.Root().Find(args)
			if err != nil || len(args) > 0 && verb == c.Root() {
				return unknownVerb(c.Root(), args[0])
			}
			verb.InitDefaultHelpFlag()
			return verb.Help()
		},
	}
}

// noVerb shows the first screen where no result is expected: what a script
// mistook must not succeed.
func (a *app) noVerb(root *cobra.Command) error {
	root.SetOut(a.screen.w)
	root.Help()
	return toldError{usageError{errors.New("no verb given")}}
}
