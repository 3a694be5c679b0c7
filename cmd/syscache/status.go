package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status [CACHE...]",
		Short: "Say which caches are fresh, and why the others are not",
		Long: `Say of each cache, or of those named, whether readers get it and, if not, which
check decided that and what to do:

  fresh      readers get it
  stale      the install changed since, or the cache was marked stale
  missing    no refresh has published it
  corrupt    its bytes are not what was written
  untrusted  others than who may write the install could write it
  too new    a later version of syscache wrote it

Anybody may ask. Like a reader, it checks the witnesses and does not scan the
inputs. The exit code is that of the worst.`,
		Example: "  syscache --root /opt/sage status",
		RunE: func(_ *cobra.Command, names []string) error {
			in, err := a.load()
			if err != nil {
				return err
			}
			var all []refresh.Status
			if len(names) == 0 {
				if all, err = in.Statuses(); err != nil {
					return err
				}
			}
			for _, name := range names {
				all = append(all, in.Status(name))
			}
			var failed []error
			for i := range all {
				if err := a.printStatus(&all[i]); err != nil {
					return err
				}
				if all[i].Err != nil {
					failed = append(failed, all[i].Err)
				}
			}
			for _, m := range a.mistakes(in) {
				a.tell(m)
				failed = append(failed, m)
			}
			if err := errors.Join(failed...); err != nil {
				return toldError{err}
			}
			return nil
		},
	}
}

// A statusResult is what status --json prints, a line a cache.
type statusResult struct {
	Cache   string           `json:"cache"`
	State   string           `json:"state"` // fresh, stale, missing, corrupt, untrusted, too new, failed
	Detail  string           `json:"detail,omitempty"`
	Hint    string           `json:"hint,omitempty"`
	Key     string           `json:"key,omitempty"`
	Rows    int              `json:"rows"`
	Witness string           `json:"witness,omitempty"`
	Failure *refresh.Failure `json:"failure,omitempty"`
}

func (a *app) printStatus(s *refresh.Status) error {
	res := statusResult{Cache: s.Cache, State: "fresh", Rows: s.Rows, Witness: s.Witness, Failure: s.Failure}
	if s.Generation != (syscache.Key{}) {
		res.Key = s.Generation.String()
	}
	var e *syscache.Error
	switch {
	case errors.As(s.Err, &e):
		res.State, res.Detail, res.Hint = stateOf(e.Err), e.Detail, e.Hint
		if res.State == "failed" {
			res.Detail += ": " + e.Err.Error()
		}
		if !s.Declared {
			res.Hint = cmp.Or(a.didYouMean(e), "it is not configured: declare it in etc/syscache.toml under the root")
		}
	case s.Err != nil:
		res.State, res.Detail = "failed", s.Err.Error()
	}
	if a.json {
		return a.printJSON(res)
	}
	line := fmt.Sprintf("%s: %s", s.Cache, res.State)
	switch {
	case res.Detail != "":
		line += ": " + res.Detail
	case s.Err == nil:
		line += fmt.Sprintf(": generation %s", s.Generation.Short())
		if s.Rows > 0 {
			line += ", " + count(s.Rows, "row")
		}
		line += ", witness: " + s.Witness
	}
	if !s.Declared {
		line += " (not configured)"
	}
	if s.Failure != nil {
		line += fmt.Sprintf("\n  the last refresh failed at %s: %s", s.Failure.Time.Format("2006-01-02 15:04:05 MST"), s.Failure.Message)
	}
	if res.Hint != "" {
		line += "\n  hint: " + res.Hint
	}
	_, err := fmt.Fprintln(a.stdout, line)
	return err
}

// stateOf names the state that a sentinel stands for.
func stateOf(err error) string {
	for _, s := range []error{
		syscache.ErrMissing, syscache.ErrStale, syscache.ErrCorrupt, syscache.ErrUntrusted, syscache.ErrTooNew,
	} {
		if errors.Is(err, s) {
			return s.Error()
		}
	}
	return "failed"
}
