package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify [CACHE...]",
		Short: "Check every byte of what is published",
		Long: `Read all that is published of each configured cache, or of those named, and
check it: modes, owners, checksums, and that nothing was added. Whether a cache
is fresh is another question, which status answers.`,
		Example: "  syscache --root /opt/sage verify",
		RunE: func(c *cobra.Command, names []string) error {
			in, err := a.load()
			if err != nil {
				return err
			}
			if len(names) == 0 {
				names = in.Names()
			}
			var failed []error
			for _, name := range names {
				err := in.Verify(c.Context(), name)
				if err != nil {
					failed = append(failed, err)
				}
				if a.json {
					res := map[string]any{"cache": name, "ok": err == nil}
					if err != nil {
						res["error"] = err.Error()
					}
					err = a.printJSON(res)
				} else if err == nil {
					_, err = fmt.Fprintln(a.stdout, name+": ok")
				} else {
					err = nil
				}
				if err != nil { // of writing
					return err
				}
			}
			return errors.Join(failed...)
		},
	}
}
