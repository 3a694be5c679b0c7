package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
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
inputs. The exit code is that of the worst of those that are configured, or
named.`,
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
			if err := a.printStatuses(all); err != nil {
				return err
			}
			var failed []error
			for i := range all {
				// What nobody declares any more is told, and nobody's fault.
				if all[i].Declared || len(names) > 0 {
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
	Files   int              `json:"files,omitempty"`
	Bytes   uint64           `json:"bytes,omitempty"`
	Built   time.Time        `json:"built,omitzero"`
	Witness string           `json:"witness,omitempty"`
	Failure *refresh.Failure `json:"failure,omitempty"`
}

func (a *app) resultOf(s *refresh.Status) statusResult {
	res := statusResult{
		Cache: s.Cache, State: "fresh", Rows: s.Rows, Files: s.Files, Bytes: s.Bytes,
		Built: s.Published.Truncate(time.Second), Witness: s.Witness, Failure: s.Failure,
	}
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
			res.Hint = cmp.Or(a.didYouMean(e), undeclaredHint(res.Key != ""))
		}
	case s.Err != nil:
		res.State, res.Detail = "failed", s.Err.Error()
	}
	return res
}

func undeclaredHint(left bool) string {
	hint := "it is not configured: declare it in etc/syscache.toml under the root"
	if left {
		hint += ", or remove what is left: gc --now"
	}
	return hint
}

// printStatuses prints a row a cache, in columns, and below it what decided a
// state that is not fresh.
func (a *app) printStatuses(all []refresh.Status) error {
	var rows [][]string
	var below []string
	for i := range all {
		res := a.resultOf(&all[i])
		if a.json {
			if err := a.printJSON(res); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, cells(&res))
		below = append(below, details(&res, all[i].Declared))
	}
	for i, line := range align(rows) {
		if _, err := io.WriteString(a.stdout, line+"\n"+below[i]); err != nil {
			return err
		}
	}
	return nil
}

// cells are the columns: state, cache and, where there is a generation, what
// it is.
func cells(res *statusResult) []string {
	c := []string{res.State, res.Cache}
	if res.Key == "" {
		return c
	}
	what := count(res.Rows, "row")
	if res.Files > 0 {
		what = count(res.Files, "file")
	}
	c = append(c, res.Key[:12], what, humanize.IBytes(res.Bytes), ago(res.Built))
	if res.Witness != "" {
		c = append(c, "witness: "+res.Witness)
	}
	return c
}

func ago(t time.Time) string {
	if time.Since(t) < 2*time.Second {
		return "just now"
	}
	return humanize.Time(t)
}

// align returns rows as lines whose columns stand below each other.
func align(rows [][]string) []string {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	lines := make([]string, len(rows))
	for i, row := range rows {
		for j, c := range row {
			row[j] = fmt.Sprintf("%-*s", widths[j], c)
		}
		lines[i] = strings.TrimRight(strings.Join(row, "  "), " ")
	}
	return lines
}

// details are the lines below a row: what decided its state, what failed, and
// what to do.
func details(res *statusResult, declared bool) string {
	var b strings.Builder
	if res.Detail != "" {
		b.WriteString("    " + visible(res.Detail) + "\n")
	}
	if f := res.Failure; f != nil {
		fmt.Fprintf(&b, "    the last refresh failed at %s: %s\n", f.Time.Format("2006-01-02 15:04:05 MST"), visible(f.Message))
	}
	switch {
	case res.Hint != "":
		b.WriteString("    hint: " + visible(res.Hint) + "\n")
	case !declared:
		b.WriteString("    it is not configured\n")
	}
	return b.String()
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
