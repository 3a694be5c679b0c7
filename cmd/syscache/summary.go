package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache/refresh"
)

// A refreshResult is what refresh --json prints, a line a cache.
type refreshResult struct {
	Cache   string         `json:"cache"`
	Outcome string         `json:"outcome"` // unchanged, recertified, built, failed
	Key     string         `json:"key,omitempty"`
	Rows    int            `json:"rows"`
	Files   int            `json:"files,omitempty"`
	Inputs  int            `json:"inputs"`
	Built   int            `json:"built_inputs"`
	Hashed  int            `json:"hashed"`
	Bytes   uint64         `json:"bytes"`
	Millis  int64          `json:"milliseconds"`
	Changed *int           `json:"changed,omitempty"`
	Changes []changeResult `json:"changes,omitempty"`
	Error   string         `json:"error,omitempty"`
}

// maxChanges is how many of the changes are in a refreshResult.
const maxChanges = 100

func refreshJSON(name string, res *refresh.Result, err error) refreshResult {
	j := refreshResult{Cache: name, Outcome: "failed", Millis: res.Duration.Milliseconds()}
	if err != nil {
		j.Error = err.Error()
		return j
	}
	j.Outcome, j.Key = string(res.Outcome), res.Key.String()
	j.Rows, j.Files, j.Inputs, j.Built, j.Hashed, j.Bytes = res.Rows, res.Files, res.Inputs, res.BuiltInputs, res.Hashed, res.Bytes
	if res.Changes != nil {
		n := len(res.Changes)
		j.Changed = &n
	}
	for i := range min(len(res.Changes), maxChanges) {
		j.Changes = append(j.Changes, changeJSON(&res.Changes[i]))
	}
	return j
}

// summary is what a person is told of a refresh that succeeded.
func summary(res *refresh.Result) string {
	parts := describeChanges(res)
	if carried := res.Inputs - res.BuiltInputs; res.Outcome == refresh.Built && carried > 0 {
		parts = append(parts, fmt.Sprintf("%s built and %s carried over", humanize.Comma(int64(res.BuiltInputs)), humanize.Comma(int64(carried))))
	}
	if res.Files > 0 || res.Bytes == 0 { // an empty table has a header
		parts = append(parts, count(res.Files, "file"))
	} else {
		parts = append(parts, count(res.Rows, "row"))
	}
	took := max(res.Duration.Round(time.Millisecond), time.Millisecond)
	return strings.Join(append(parts, humanize.IBytes(res.Bytes), took.String()), ", ")
}

// describeChanges says what is another than before, and of how many inputs.
func describeChanges(res *refresh.Result) []string {
	var recipe, changed, added, removed []string
	for _, c := range res.Changes {
		switch {
		case c.Recipe:
			recipe = append(recipe, recipePart(c.Path))
		case c.How == hashing.Added:
			added = append(added, format.Show(c.Path))
		case c.How == hashing.Removed:
			removed = append(removed, format.Show(c.Path))
		default:
			changed = append(changed, format.Show(c.Path))
		}
	}
	var parts []string
	if len(changed) > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s changed (%s)", humanize.Comma(int64(len(changed))), count(res.Inputs, "input"), some(changed)))
	} else {
		parts = append(parts, count(res.Inputs, "input"))
	}
	if res.Changes != nil && len(res.Changes) == 0 && res.Outcome != refresh.Unchanged {
		parts = append(parts, "none changed")
	}
	if len(added) > 0 {
		parts = append(parts, fmt.Sprintf("%s added (%s)", humanize.Comma(int64(len(added))), some(added)))
	}
	if len(removed) > 0 {
		parts = append(parts, fmt.Sprintf("%s removed (%s)", humanize.Comma(int64(len(removed))), some(removed)))
	}
	if len(recipe) > 0 {
		parts = append(parts, "recipe changed: "+some(recipe))
	}
	return parts
}

// recipePart names a part of a recipe by the label that it has in a manifest.
func recipePart(label string) string {
	kind, name, _ := strings.Cut(label, " ")
	switch kind {
	case "build":
		return "build command"
	case "format":
		return "on-disk format"
	case "file":
		return format.Show(name)
	}
	return format.Show(label)
}

// some names at most three.
func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %s more", strings.Join(names[:most], ", "), humanize.Comma(int64(len(names)-most)))
}

// count writes a number with its noun.
func count(n int, noun string) string {
	return humanize.Comma(int64(n)) + " " + english.PluralWord(n, noun, "")
}
