package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache/refresh"
)

func (a *app) configCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config [CACHE...]",
		Short: "Print the settings that count, and where each is from",
		Long: `Print the caches that all files of the configuration together declare, or those
named, with every setting that counts and where it is from. What is printed is a
configuration itself. Mistakes are told with line and column.

The files are, under the root, etc/syscache.toml, etc/syscache.d/*.toml and
usr/lib/syscache.d/*.toml; one in etc/syscache.d takes the place of one of the
same name in usr/lib/syscache.d.`,
		Example: "  syscache --root /opt/sage config",
		RunE: func(_ *cobra.Command, names []string) error {
			in, err := a.load()
			if err != nil {
				return err
			}
			caches := in.Caches()
			var failed []error
			for _, name := range names {
				if !slices.ContainsFunc(caches, func(c refresh.Cache) bool { return c.Name == name }) {
					failed = append(failed, &refresh.UndeclaredError{Cache: name, Declared: in.Names()})
				}
			}
			if len(failed) > 0 {
				return errors.Join(failed...)
			}
			caches = slices.DeleteFunc(caches, func(c refresh.Cache) bool {
				return len(names) > 0 && !slices.Contains(names, c.Name)
			})
			if err := a.printConfig(in, caches); err != nil {
				return err
			}
			for _, m := range in.Mistakes() {
				failed = append(failed, m)
			}
			return errors.Join(failed...)
		},
	}
}

// A setting is one that counts.
type setting struct {
	Name  string `json:"-"`
	Value any    `json:"value"`
	jsonFile
	Line int `json:"line,omitempty"` // 0 for a default
}

// A configResult is what config --json prints, a line a cache.
type configResult struct {
	Cache string `json:"cache"`
	jsonFile
	Line     int                `json:"line,omitempty"`
	Settings map[string]setting `json:"settings"`
}

func (a *app) printConfig(in *refresh.Install, caches []refresh.Cache) error {
	if a.json {
		for i := range caches {
			if err := a.printJSON(configJSON(&caches[i])); err != nil {
				return err
			}
		}
		return nil
	}
	for _, source := range in.Sources() {
		line := "# " + format.Show(source.Path)
		switch {
		case source.MaskedBy != "":
			line += ": masked by " + format.Show(source.MaskedBy)
		case len(source.Mistakes) > 0:
			line += ": not used, it has mistakes"
		}
		if _, err := fmt.Fprintln(a.stdout, line); err != nil {
			return err
		}
	}
	if in.Unconfigured() {
		if _, err := fmt.Fprintln(a.stdout, "# no configuration: the built-in cache"); err != nil {
			return err
		}
	}
	for i := range caches {
		text, err := configTOML(&caches[i])
		if err == nil {
			_, err = fmt.Fprintf(a.stdout, "\n%s", text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settingsOf returns the settings of c that count, defaults among them, in the
// order of the example.
func settingsOf(c *refresh.Cache) []setting {
	kind := "table"
	if c.Files {
		kind = "files"
	}
	var all []setting
	add := func(name string, value any, counts bool) {
		file, line := c.Origin(name)
		if counts || line > 0 {
			all = append(all, setting{name, value, fileJSON(file), line})
		}
	}
	add("kind", kind, true)
	add("inputs", c.Inputs, len(c.Inputs) > 0)
	add("inputs_from", c.InputsFrom, c.InputsFrom != "")
	add("exclude", c.Exclude, len(c.Exclude) > 0)
	if c.Witness == nil {
		add("witness", "inputs", true)
	} else {
		add("witness", c.Witness, true)
	}
	add("build", c.Command, len(c.Command) > 0)
	add("each", c.Each, c.Each)
	add("jobs", max(1, c.Jobs), c.Each)
	add("recipe", c.Recipe, len(c.Recipe) > 0)
	add("env", c.Env, len(c.Env) > 0)
	add("timeout", orDefault(c.Timeout, refresh.DefaultTimeout), len(c.Command) > 0)
	add("keep", orDefault(c.Keep, refresh.DefaultKeep), true)
	add("latest", c.Latest, c.Files)
	return all
}

// orDefault writes a duration, without the zero units that Go writes at its end.
func orDefault(d, otherwise time.Duration) string {
	if d == 0 {
		d = otherwise
	}
	s := d.String()
	for _, unit := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, unit) {
			s = s[:len(s)-2]
		}
	}
	return s
}

func configJSON(c *refresh.Cache) configResult {
	file, line := c.Origin("")
	res := configResult{c.Name, fileJSON(file), line, map[string]setting{}}
	for _, s := range settingsOf(c) {
		res.Settings[s.Name] = s
	}
	return res
}

// configTOML returns c as a configuration would declare it.
func configTOML(c *refresh.Cache) (string, error) {
	var b strings.Builder
	if file, line := c.Origin(""); file != "" {
		fmt.Fprintf(&b, "# %s:%d\n", format.Show(file), line)
	}
	fmt.Fprintf(&b, "[cache.%s]\n", tomlKey(c.Name))
	for _, s := range settingsOf(c) {
		value, err := tomlValue(s.Value)
		if err != nil {
			return "", err
		}
		origin := "# default"
		if s.Line > 0 {
			origin = fmt.Sprintf("# line %d", s.Line)
		}
		fmt.Fprintf(&b, "%-11s = %s  %s\n", s.Name, value, origin)
	}
	return b.String(), nil
}

// tomlKey returns a cache's name as a key: a dot would make it two.
func tomlKey(name string) string {
	if strings.Contains(name, ".") {
		return `"` + name + `"`
	}
	return name
}

// tomlValue returns a value on one line.
func tomlValue(v any) (string, error) {
	if table, ok := v.(map[string]string); ok {
		var pairs []string
		for _, name := range slices.Sorted(maps.Keys(table)) {
			key, err := tomlValue(name)
			if err != nil {
				return "", err
			}
			value, err := tomlValue(table[name])
			if err != nil {
				return "", err
			}
			pairs = append(pairs, key+" = "+value)
		}
		return "{ " + strings.Join(pairs, ", ") + " }", nil
	}
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(map[string]any{"v": v}); err != nil {
		return "", err
	}
	return strings.TrimSpace(strings.TrimPrefix(b.String(), "v = ")), nil
}
