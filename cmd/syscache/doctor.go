package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/syscache/syscache/syscache/refresh"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Look for what would go wrong",
		Long: `Look at the install, its configuration and its caches for what would go wrong,
or cost readers more than it need, and say what to do. Each finding is ok, a
note, a warning or a problem: something that does not work, or not for
everybody. Nothing is changed. What only others may look at is left out: run it
as an ordinary user, and as the install's owner. Root becomes the owner first.

With --json the field check is one of: namespace (a user namespace that does not
map the owner), above (the directories above the root), audience (who can do
what), file-system, cache-dir, locking, clock, space, umask, configuration,
leftovers (of killed refreshes, of other caches), state (what readers find),
times (that certify nothing), witness, cost (of opening the cache, measured),
builder.

The exit code is 1 if there is a problem.`,
		Example: "  syscache --root /opt/sage doctor",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			in, err := a.load()
			if in == nil || err != nil && !errors.Is(err, refresh.ErrUnconfigured) {
				return err
			}
			findings := append([]refresh.Finding{umaskFinding()}, in.Doctor(c.Context())...)
			bad := 0
			for i := range findings {
				if findings[i].Level == refresh.Problem {
					bad++
				}
			}
			if err := a.printFindings(findings); err != nil {
				return err
			}
			if bad > 0 {
				return toldError{errors.New("there are problems")}
			}
			return nil
		},
	}
}

// umaskFinding tells of the umask that this process was given.
func umaskFinding() refresh.Finding {
	f := refresh.Finding{Check: "umask", Level: refresh.OK, Message: fmt.Sprintf("your umask is %04o", inheritedUmask)}
	if inheritedUmask != 0o022 {
		f.Level = refresh.Note
		f.Message += ": it makes no difference here, and builders are given 0022; what installs the tree must mind it"
	}
	return f
}

// A findingResult is what doctor --json prints, a line a finding.
type findingResult struct {
	Check      string        `json:"check"`
	Level      refresh.Level `json:"level"`
	Cache      string        `json:"cache,omitempty"`
	Path       string        `json:"path,omitempty"`
	PathBase64 []byte        `json:"path_base64,omitempty"`
	Message    string        `json:"message"`
	Hint       string        `json:"hint,omitempty"`
}

// printFindings prints the findings: of the install, then cache by cache.
func (a *app) printFindings(findings []refresh.Finding) error {
	cache := ""
	for i := range findings {
		f := &findings[i]
		if a.json {
			at := pathJSON(f.Path)
			if err := a.printJSON(findingResult{f.Check, f.Level, f.Cache, at.Path, at.PathBase64, f.Message, f.Hint}); err != nil {
				return err
			}
			continue
		}
		text := ""
		if f.Cache != cache {
			text = "\n" + f.Cache + "\n"
			cache = f.Cache
		}
		text += fmt.Sprintf("%-8s %-13s  %s\n", f.Level, f.Check, visible(f.Message))
		if f.Hint != "" {
			text += fmt.Sprintf("%-24shint: %s\n", "", visible(f.Hint))
		}
		if _, err := io.WriteString(a.stdout, text); err != nil {
			return err
		}
	}
	return nil
}
