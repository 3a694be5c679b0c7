package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/syscache/syscache/syscache/refresh"
)

func (a *app) completionCommand() *cobra.Command {
	shells := map[string]func(root *cobra.Command) error{
		"bash": func(root *cobra.Command) error { return root.GenBashCompletionV2(a.stdout, true) },
		"zsh":  func(root *cobra.Command) error { return root.GenZshCompletion(a.stdout) },
		"fish": func(root *cobra.Command) error { return root.GenFishCompletion(a.stdout, true) },
	}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script with which a shell completes what is typed",
		Long: `Print a script with which a shell completes verbs, flags, the names of caches
and, where there are not too many of them, row keys. Shells look for it in:

  bash  /usr/share/bash-completion/completions/syscache for all users, or
        ~/.local/share/bash-completion/completions/syscache;
        Debian's package bash-completion must be installed
  zsh   /usr/local/share/zsh/site-functions/_syscache for all users, or
        _syscache in any directory of $fpath
  fish  /etc/fish/completions/syscache.fish for all users, or
        ~/.config/fish/completions/syscache.fish`,
		Example: `  source <(syscache completion bash)
  syscache completion bash > ~/.local/share/bash-completion/completions/syscache
  syscache completion fish > ~/.config/fish/completions/syscache.fish`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(c *cobra.Command, args []string) error {
			generate, ok := shells[args[0]]
			if !ok {
				return usagef("name bash, zsh or fish", "no completion for %q", args[0])
			}
			return generate(c.Root())
		},
	}
}

// complete completes an argument of any verb. Which are caches and which are
// row keys is what the verb's usage line says.
func (a *app) complete(c *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	a.quiet = true // what is wrong the verb itself will tell
	const noFiles = cobra.ShellCompDirectiveNoFileComp
	switch argument(c, len(args)) {
	case "CACHE":
		names := slices.DeleteFunc(a.known(), func(name string) bool {
			return slices.Contains(args, name) || !strings.HasPrefix(name, prefix)
		})
		return names, noFiles
	case "ROWKEY", "PREFIX":
		keys, all := a.rowKeys(args[0], prefix)
		if !all {
			return cobra.AppendActiveHelp(nil, fmt.Sprintf("more than %d row keys: type more", maxRowKeys)), noFiles
		}
		return keys, noFiles
	}
	return nil, noFiles
}

// argument returns the name that c's usage line has for its i-th argument.
func argument(c *cobra.Command, i int) string {
	words := strings.Fields(c.Use)[1:]
	if i >= len(words) {
		i = len(words) - 1
		if i < 0 || !strings.Contains(words[i], "...") {
			return ""
		}
	}
	return strings.TrimSuffix(strings.Trim(words[i], "[]"), "...")
}

// known returns the names of all caches there are, none if that cannot be
// found out.
func (a *app) known() []string {
	root, err := a.rootDir()
	if err != nil || refresh.BecomeOwner(root) != nil {
		return nil
	}
	dirs, err := a.cacheDirs()
	if err != nil {
		return nil
	}
	o := &refresh.LoadOptions{}
	if len(dirs) > 0 {
		o.CacheDir = dirs[0]
	}
	return refresh.Known(root, o)
}

// maxRowKeys is how many row keys are offered. Of more, the first ones would
// have a shell complete what only they have in common.
const maxRowKeys = 100

// rowKeys returns the row keys that begin with prefix, and whether these are
// all. A shell expands what it is given, so they must be plain.
func (a *app) rowKeys(cache, prefix string) (keys []string, all bool) {
	r, err := a.open(cache, true)
	if err != nil {
		return nil, true
	}
	defer r.Close()
	if r.Dir() != "" {
		return nil, true
	}
	for row, err := range r.Scan([]byte(prefix)) {
		if err != nil {
			return nil, true
		}
		if len(keys) == maxRowKeys {
			return nil, false
		}
		keys = append(keys, string(row.Key))
	}
	return slices.DeleteFunc(keys, func(key string) bool { return !plain(key) }), true
}

// plain says whether no shell takes key for anything but a word.
func plain(key string) bool {
	return key != "" && key[0] != '-' && !strings.ContainsFunc(key, func(r rune) bool {
		return r == unicode.ReplacementChar || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._-+,:@%", r)
	})
}
