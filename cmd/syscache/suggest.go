package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

// didYouMean returns a hint for an err that a mistyped name of a cache made.
func (a *app) didYouMean(err error) string {
	var read *syscache.Error
	var undeclared *refresh.UndeclaredError
	name := ""
	switch {
	case errors.As(err, &undeclared):
		name = undeclared.Cache
	case errors.Is(err, syscache.ErrMissing) && errors.As(err, &read):
		name = strings.Trim(read.Cache, `"`)
	default:
		return ""
	}
	return didYouMean(name, a.known())
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
	return mistake(usagef("unknown verb %q", name), didYouMean(name, verbs), "syscache --help lists the verbs")
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
	return mistake(usageError{err}, "", "write "+c.Parent().CommandPath()+" "+c.Use+"; see "+c.CommandPath()+" --help")
}

func mistake(err error, suggestion, hint string) error {
	return &refresh.HintedError{Err: err, Hint: strings.TrimSpace(suggestion + " " + hint)}
}

// nearest returns the one of names for which name was probably mistyped, "" if
// there is none such, or if name is one of them.
func nearest(name string, names []string) (near string) {
	best := min(3, (len(name)+1)/2) + 1
	for _, n := range names {
		d := distance(strings.ToLower(name), n)
		switch {
		case n == name:
			return ""
		case d < best:
			near, best = n, d
		case near == "" && len(name) > 1 && strings.HasPrefix(n, name):
			near = n
		}
	}
	return near
}

// distance is Levenshtein's: how many bytes to add, drop or change make a into
// b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
