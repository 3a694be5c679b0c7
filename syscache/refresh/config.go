package refresh

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
)

// A Cache is the declaration of one cache: what it is derived from, and how.
// The zero value of every field but Name and Inputs is useful.
type Cache struct {
	Name string // [a-z0-9][a-z0-9._-]*

	// Files says that the result is a directory of files rather than a table.
	Files bool

	// Inputs and Exclude are doublestar patterns relative to the root.
	Inputs, Exclude []string

	// Witness lists the root-relative files and directories that every
	// reader checks. Nil: every input and every directory that a scan reads.
	// Empty: none, the cache is believed until it is marked stale.
	Witness []string

	// Command builds the cache: an executable under the root or absolute, and
	// its arguments. It is run in the root with exactly Env and the SYSCACHE_
	// variables as its environment.
	Command []string
	Env     map[string]string
	Timeout time.Duration // of Command; zero: an hour

	// Build builds the cache instead of Command, in this process. BuildVersion
	// is part of the key: change it when Build would give another result.
	Build        Build
	BuildVersion string

	// Recipe are patterns of files besides the inputs on which the result
	// depends: relative to the root, or absolute.
	Recipe []string

	// Keep is how long a superseded generation stays; zero: a day.
	Keep time.Duration

	origin string // where it is declared, for messages
}

// Defaults of the fields of Cache.
const (
	defaultTimeout = time.Hour
	defaultKeep    = 24 * time.Hour
)

// A ConfigError is a mistake in a configuration file.
type ConfigError struct {
	File      string
	Line, Col int // from 1; 0 where the whole file is meant
	Msg, Hint string
}

// Error returns one line without the hint.
func (e *ConfigError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
}

// parseConfig returns the caches that a configuration file declares, sorted by
// name. All its mistakes are in the error, one *ConfigError each.
func parseConfig(file string, text []byte) ([]Cache, error) {
	p := &configParser{file: file}
	var top map[string]toml.Primitive
	md, err := toml.Decode(string(text), &top)
	if err != nil {
		return nil, p.wrap(err, "see https://toml.io for the syntax")
	}
	p.md = &md
	var caches []Cache
	for _, key := range p.inOrder(top) {
		if key != "cache" {
			p.unknown(top[key], key, []string{"cache"})
			continue
		}
		var tables map[string]toml.Primitive
		if !p.decode(top[key], &tables, "write [cache.NAME]") {
			continue
		}
		for _, name := range p.inOrder(tables) {
			caches = append(caches, p.cache(name, tables[name]))
		}
	}
	slices.SortFunc(caches, func(a, b Cache) int { return strings.Compare(a.Name, b.Name) })
	return caches, errors.Join(p.errs...)
}

type configParser struct {
	file string
	md   *toml.MetaData
	errs []error
}

// setting is one key of a [cache.NAME] table.
type setting struct {
	decode func(p *configParser, v toml.Primitive, c *Cache)
}

var settings = map[string]setting{
	"kind": {func(p *configParser, v toml.Primitive, c *Cache) {
		var s string
		if p.decode(v, &s, `write kind = "table" or kind = "files"`) {
			if s != "table" && s != "files" {
				p.at(v, fmt.Sprintf("kind %q", s), `write "table" or "files"`)
			}
			c.Files = s == "files"
		}
	}},
	"inputs":  {patterns(func(c *Cache) *[]string { return &c.Inputs }, false)},
	"exclude": {patterns(func(c *Cache) *[]string { return &c.Exclude }, false)},
	"recipe":  {patterns(func(c *Cache) *[]string { return &c.Recipe }, true)},
	"witness": {decodeWitness},
	"build": {func(p *configParser, v toml.Primitive, c *Cache) {
		const hint = `write build = ["libexec/command", "argument"]; it is not given to a shell`
		if !p.decode(v, &c.Command, hint) {
			return
		}
		if len(c.Command) == 0 {
			p.at(v, "the command is empty", hint)
		} else if err := checkCommand(c.Command); err != nil {
			p.at(v, err.Error(), "name an executable relative to the root, or by its absolute path")
		}
	}},
	"env": {func(p *configParser, v toml.Primitive, c *Cache) {
		if p.decode(v, &c.Env, `write env = { NAME = "value" }`) {
			for name, value := range c.Env {
				if err := checkEnv(name, value); err != nil {
					p.at(v, err.Error(), "choose another name")
				}
			}
		}
	}},
	"timeout": {duration(func(c *Cache) *time.Duration { return &c.Timeout })},
	"keep":    {duration(func(c *Cache) *time.Duration { return &c.Keep })},
}

func patterns(field func(*Cache) *[]string, absolute bool) func(*configParser, toml.Primitive, *Cache) {
	return func(p *configParser, v toml.Primitive, c *Cache) {
		list := field(c)
		if !p.decode(v, list, `write a list of patterns: ["lib/**/*.py"]`) {
			return
		}
		for _, pattern := range *list {
			if err := checkPattern(pattern, absolute); err != nil {
				p.at(v, err.Error(), "patterns are relative to the root and stay under it: lib/**/*.py")
			}
		}
	}
}

func duration(field func(*Cache) *time.Duration) func(*configParser, toml.Primitive, *Cache) {
	return func(p *configParser, v toml.Primitive, c *Cache) {
		const hint = `write a number and a unit: "90s", "10m", "24h"`
		var s string
		if !p.decode(v, &s, hint) {
			return
		}
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			p.at(v, fmt.Sprintf("%q is not a positive duration", s), hint)
		}
		*field(c) = d
	}
}

func decodeWitness(p *configParser, v toml.Primitive, c *Cache) {
	const hint = `write a list of paths, ["share/app/MANIFEST"], or "inputs"`
	var any any
	if err := p.md.PrimitiveDecode(v, &any); err != nil {
		p.errs = append(p.errs, p.wrap(err, hint))
		return
	}
	if s, ok := any.(string); ok {
		if s != "inputs" {
			p.at(v, fmt.Sprintf("witness %q", s), hint)
		}
		return
	}
	if !p.decode(v, &c.Witness, hint) {
		return
	}
	if c.Witness == nil {
		c.Witness = []string{}
	}
	for _, w := range c.Witness {
		if err := checkWitness(w); err != nil {
			p.at(v, err.Error(), "name a file or directory relative to the root")
		}
	}
}

func (p *configParser) cache(name string, v toml.Primitive) Cache {
	c := Cache{Name: name, origin: p.file}
	if !format.ValidCacheName(name) {
		p.at(v, fmt.Sprintf("%q cannot be the name of a cache", name),
			"names are made of a-z, 0-9, '.', '_' and '-', begin with a letter or digit, and have at most 64 characters")
	}
	var table map[string]toml.Primitive
	if !p.decode(v, &table, "write [cache."+name+"]") {
		return c
	}
	for _, key := range p.inOrder(table) {
		if s, ok := settings[key]; ok {
			s.decode(p, table[key], &c)
		} else {
			p.unknown(table[key], key, slices.Sorted(maps.Keys(settings)))
		}
	}
	if _, ok := table["inputs"]; !ok {
		p.at(v, fmt.Sprintf("cache %s has no inputs", name), `add inputs = ["lib/**"]: the files it is derived from`)
	}
	if c.Files && c.Command == nil {
		p.at(v, fmt.Sprintf("cache %s is of kind files and has no build command", name), `add build = [...], or leave kind out for the built-in table of files`)
	}
	return c
}

// inOrder returns m's keys in the order of the file, so that mistakes are told
// from its top down.
func (p *configParser) inOrder(m map[string]toml.Primitive) []string {
	keys := slices.Sorted(maps.Keys(m))
	lines := make(map[string]int, len(keys))
	for _, k := range keys {
		lines[k] = p.position(m[k]).Position.Start
	}
	slices.SortStableFunc(keys, func(a, b string) int { return lines[a] - lines[b] })
	return keys
}

func (p *configParser) unknown(v toml.Primitive, key string, known []string) {
	p.at(v, fmt.Sprintf("unknown key %q", key), "known are: "+strings.Join(known, ", "))
}

// decode decodes v into to, or notes the mistake.
func (p *configParser) decode(v toml.Primitive, to any, hint string) bool {
	if err := p.md.PrimitiveDecode(v, to); err != nil {
		e := p.wrap(err, hint)
		at := p.position(v).Position
		e.Line, e.Col = at.Line, at.Col
		p.errs = append(p.errs, e)
		return false
	}
	return true
}

// at notes a mistake where v is.
func (p *configParser) at(v toml.Primitive, msg, hint string) {
	pos := p.position(v).Position
	p.errs = append(p.errs, &ConfigError{p.file, pos.Line, pos.Col, msg, hint})
}

// nowhere is a type that nothing decodes into: the error says where it was.
type nowhere struct{}

func (*nowhere) UnmarshalTOML(any) error { return errors.New("nowhere") }

// position returns where v is. The library tells positions only in errors.
func (p *configParser) position(v toml.Primitive) (e toml.ParseError) {
	errors.As(p.md.PrimitiveDecode(v, &nowhere{}), &e)
	return e
}

func (p *configParser) wrap(err error, hint string) *ConfigError {
	e := &ConfigError{File: p.file, Line: 1, Col: 1, Msg: err.Error(), Hint: hint}
	var pe toml.ParseError
	if errors.As(err, &pe) {
		e.Line, e.Col, e.Msg = pe.Position.Line, pe.Position.Col, pe.Message
	}
	e.Msg = strings.TrimPrefix(e.Msg, "toml: ")
	if _, after, found := strings.Cut(e.Msg, "): "); found && strings.Contains(e.Msg, "last key") {
		e.Msg = after
	}
	return e
}

func checkPattern(pattern string, absolute bool) error {
	rel := pattern
	if absolute {
		rel = strings.TrimPrefix(pattern, "/")
	}
	if err := hashing.CheckPattern(rel); err != nil {
		return fmt.Errorf("pattern %q: %w", pattern, err)
	}
	return nil
}

// checkWitness checks a witness path; a directory may end in a slash.
func checkWitness(w string) error {
	if !format.ValidPath(strings.TrimSuffix(w, "/")) {
		return fmt.Errorf("witness %q", w)
	}
	return nil
}

func checkCommand(command []string) error {
	name := command[0]
	if !format.ValidPath(strings.TrimPrefix(name, "/")) || path.Clean(name) != name {
		return fmt.Errorf("command %q", name)
	}
	for _, arg := range command {
		if strings.IndexByte(arg, 0) >= 0 {
			return fmt.Errorf("command argument %q", arg)
		}
	}
	return nil
}

func checkEnv(name, value string) error {
	switch {
	case name == "" || strings.ContainsAny(name, "=\x00") || strings.IndexByte(value, 0) >= 0:
		return fmt.Errorf("environment variable %q", name)
	case strings.HasPrefix(name, "SYSCACHE_"):
		return fmt.Errorf("environment variable %s is reserved", name)
	}
	return nil
}
