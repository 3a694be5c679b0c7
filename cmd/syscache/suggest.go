package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

// didYouMean returns a hint for an err that a mistyped name of a cache made. A
// reader, which knows no configuration, would have it refreshed.
func (a *app) didYouMean(err error) string {
	var read *syscache.Error
	var undeclared *refresh.UndeclaredError
	switch {
	case errors.As(err, &undeclared):
		return didYouMean(undeclared.Cache, a.known())
	case errors.Is(err, syscache.ErrMissing) && errors.As(err, &read):
		name, known := strings.Trim(read.Cache, `"`), a.known()
		if len(known) == 0 || slices.Contains(known, name) {
			return ""
		}
		return cmp.Or(didYouMean(name, known),
			"no such cache is configured: syscache --root "+format.ShellQuote(read.Root)+" status lists those there are")
	}
	return ""
}

func didYouMean(name string, names []string) string {
	if near := nearest(name, names); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}

// unknownVerb is the error for a verb that does not exist.
func unknownVerb(root *cobra.Command, name string) error {
	var verbs []string
	for _, c := range root.Commands() {
		if !c.Hidden {
			verbs = append(verbs, c.Name())
		}
	}
	return mistake(usageError{fmt.Errorf("unknown verb %q", name)}, didYouMean(name, verbs), "syscache --help lists the verbs")
}

// flagError is the error for a mistake in c's flags.
func flagError(c *cobra.Command, err error) error {
	suggestion := ""
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var flags []string
		c.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, "--"+f.Name) })
		suggestion = didYouMean("--"+unknown.GetSpecifiedName(), flags)
	}
	return mistake(usageError{err}, suggestion, "see "+c.CommandPath()+" --help")
}

// argumentError is the error for too few or too many arguments of c.
func argumentError(c *cobra.Command, err error) error {
	if strings.HasPrefix(err.Error(), "unknown command") { // cobra's words where none is taken
		err = errors.New(c.Name() + " takes no argument")
	}
	return mistake(usageError{err}, "", "write "+c.Parent().CommandPath()+" "+c.Use+"; see "+c.CommandPath()+" --help")
}

func mistake(err error, suggestion, hint string) error {
	return &refresh.HintedError{Err: err, Hint: strings.TrimSpace(suggestion + " " + hint)}
}

// nearest returns the one of names for which name was probably mistyped, "" if
// there is none such, or if name is one of them.
func nearest(name string, names []string) (near string) {
	if slices.Contains(names, name) {
		return ""
	}
	best := min(3, (len(name)+1)/2) + 1
	for _, n := range names {
		if near == "" && len(name) > 1 && strings.HasPrefix(n, name) {
			near = n
		}
		if len(name) > len(n)+best {
			continue
		}
		if d := distance(strings.ToLower(name), n); d < best {
			near, best = n, d
		}
	}
	return near
}

// distance is how many bytes must be added, dropped, changed, or swapped with
// their neighbour, to make b of a.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := d[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			d[i][j] = min(change, d[i-1][j]+1, d[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
