package refresh

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
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

	// InputsFrom is a file under the root that lists the inputs instead, a
	// path a line: one that the install wrote itself.
	InputsFrom string

	// Witness lists the root-relative files and directories that every
	// reader checks. Nil: every input and every directory that a scan reads.
	// Empty: none, the cache is believed until it is marked stale.
	Witness []string

	// Command builds the cache: an executable under the root or absolute, and
	// its arguments. It is run in the root with exactly Env and the SYSCACHE_
	// variables as its environment.
	Command []string
	Env     map[string]string
	Timeout time.Duration // of Command; zero: DefaultTimeout

	// Build builds the cache instead of Command, in this process. BuildVersion
	// is part of the key: change it when Build would give another result. No
	// reader sees it. When the rows change their shape, change Name as well, or
	// programs of two versions read each other's.
	Build        Build
	BuildVersion string

	// Each says that the rows of each input depend on that input and the recipe
	// alone. Then Command gets only the inputs that are new or changed since the
	// last generation, in at most Jobs processes at once (zero: one), and tags
	// each row with its input; rows of unchanged inputs are carried over. For
	// tables only. Of functions BuildEach says it, in place of Build.
	Each      bool
	Jobs      int
	BuildEach EachBuild

	// Recipe are patterns of files besides the inputs on which the result
	// depends: relative to the root, or absolute.
	Recipe []string

	// Keep is how long a superseded generation stays; zero: DefaultKeep.
	Keep time.Duration

	// Latest keeps a symbolic link, latest, at the files of the published
	// generation, for programs that know only a fixed path. Readers through it
	// are promised neither I1 nor I2.
	Latest bool

	file   string // where it is declared; "" if by a program
	places map[string]location
}

// A location is where in a file a setting is, or with the name "" the cache.
type location struct{ line, col int }

// Origin returns the file and the line, from 1, in which a setting is, or with
// "" where the cache is declared: "" and 0 for what is not set, or is declared
// by a program.
func (c *Cache) Origin(setting string) (file string, line int) {
	at, ok := c.places[setting]
	if !ok {
		return "", 0
	}
	return c.file, at.line
}

// mistake returns a mistake in a setting of c, which is declared in a file.
func (c *Cache) mistake(setting, msg, hint string) *ConfigError {
	at := c.places[setting]
	return &ConfigError{c.file, at.line, at.col, msg, hint}
}

// mistaken returns a mistake in a setting that shows only in the refresh.
func (c *Cache) mistaken(setting, msg, hint string) error {
	if c.file == "" {
		return &HintedError{fmt.Errorf("refresh %s: %s", c.Name, msg), hint}
	}
	return c.mistake(setting, msg, hint)
}

// declared returns setting if it is in the file, else the name of the cache's
// own place.
func (c *Cache) declared(setting string) string {
	if _, ok := c.places[setting]; ok {
		return setting
	}
	return ""
}

// at returns where a setting is, to begin a message with; "" if c is declared
// by a program.
func (c *Cache) at(setting string) string {
	if at := c.places[setting]; at.line > 0 {
		return fmt.Sprintf("%s:%d:%d: ", format.Show(c.file), at.line, at.col)
	}
	return ""
}

// Defaults of the fields of Cache.
const (
	DefaultTimeout = time.Hour
	DefaultKeep    = 24 * time.Hour
)

const maxJobs = 64

// A ConfigError is a mistake in a configuration file.
type ConfigError struct {
	File      string
	Line, Col int // from 1; 0 where the whole file is meant
	Msg, Hint string
}

// Error returns one line without the hint.
func (e *ConfigError) Error() string {
	if e.Line == 0 {
		return format.Show(e.File) + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d:%d: %s", format.Show(e.File), e.Line, e.Col, e.Msg)
}

// parseConfig returns the caches that a configuration file declares, sorted by
// name, and its mistakes in their order.
func parseConfig(file string, text []byte) ([]Cache, []*ConfigError) {
	p := &configParser{file: file, text: string(text)}
	if at, deep := p.tooDeep(); deep {
		return nil, []*ConfigError{{file, at.line, at.col, fmt.Sprintf("nested more than %d deep", maxDepth), "the deepest that there is: cache.NAME.env.VARIABLE"}}
	}
	var top map[string]toml.Primitive
	md, err := toml.Decode(p.text, &top)
	if err != nil {
		return nil, []*ConfigError{p.wrap(err, "see https://toml.io for the syntax")}
	}
	p.md = &md
	if n := len(md.Keys()); n > maxKeys {
		return nil, []*ConfigError{{file, 1, 1, fmt.Sprintf("%d keys, and a file has at most %d", n, maxKeys), "name inputs by patterns, and put caches into several files in " + format.ConfigDropIns}}
	}
	var caches []Cache
	for _, key := range p.inOrder(top) {
		if key != "cache" {
			p.unknown(top[key], key, []string{"cache"})
			continue
		}
		tables := p.table(top[key], "write [cache.NAME]")
		for _, name := range p.inOrder(tables) {
			caches = append(caches, p.cache(name, tables[name]))
		}
	}
	slices.SortFunc(caches, func(a, b Cache) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(p.mistakes, func(a, b *ConfigError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return caches, p.mistakes
}

// The library's time and memory grow with the square of how deep a key lies,
// and where one is costs it a walk through the file. Without these bounds, a
// file of some kilobytes keeps a package's hook for hours.
const (
	maxDepth = 32
	maxKeys  = 2000
)

// tomlToken matches a comment, a string of each kind, or what nests.
var tomlToken = regexp.MustCompile(`(?s)#[^\n]*|"""(?:[^\\]|\\.)*?"{3,5}|'''.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[][{}.,=\n]`)

// tooDeep says where brackets, or the components of a key, are more than
// maxDepth deep.
func (p *configParser) tooDeep() (at location, deep bool) {
	brackets, dots, offset := 0, 0, 0
	for brackets <= maxDepth && dots <= maxDepth {
		m := tomlToken.FindStringIndex(p.text[offset:])
		if m == nil {
			return location{}, false
		}
		switch p.text[offset+m[0]] {
		case '[', '{':
			brackets, dots = brackets+1, 0
		case ']', '}':
			brackets, dots = max(0, brackets-1), 0
		case ',', '=', '\n':
			dots = 0
		case '.':
			dots++
		}
		offset += m[1]
	}
	return p.place(offset - 1), true
}

// place returns where an offset is. The library's own lines and columns are
// now and then another's.
func (p *configParser) place(offset int) location {
	before := p.text[:min(max(offset, 0), len(p.text))]
	return location{strings.Count(before, "\n") + 1, len(before) - strings.LastIndexByte(before, '\n')}
}

type configParser struct {
	file string
	text string
	md   *toml.MetaData

	mistakes []*ConfigError
}

// settings are the keys of a [cache.NAME] table.
var settings = map[string]func(p *configParser, v toml.Primitive, c *Cache){
	"kind": func(p *configParser, v toml.Primitive, c *Cache) {
		const hint = `write kind = "table" or kind = "files"`
		s, ok := p.str(v, hint)
		if ok && s != "table" && s != "files" {
			p.at(v, fmt.Sprintf("kind %q is neither table nor files", s), hint)
		}
		c.Files = s == "files"
	},
	"inputs": func(p *configParser, v toml.Primitive, c *Cache) {
		c.Inputs = p.patterns(v, false)
		if c.Inputs != nil && len(c.Inputs) == 0 {
			p.at(v, "no inputs", inputsHint)
		}
	},
	"exclude": func(p *configParser, v toml.Primitive, c *Cache) { c.Exclude = p.patterns(v, false) },
	"recipe":  func(p *configParser, v toml.Primitive, c *Cache) { c.Recipe = p.patterns(v, true) },
	"witness": decodeWitness,
	"build": func(p *configParser, v toml.Primitive, c *Cache) {
		const hint = `write build = ["libexec/command", "argument"]: an executable relative to the root, or by its absolute path; it is not given to a shell`
		command, ok := p.list(v, hint)
		if !ok {
			return
		}
		if len(command) == 0 {
			p.at(v, "the command is empty", hint)
		} else if err := checkCommand(command); err != nil {
			p.at(v, err.Error(), hint)
		}
		c.Command = command
	},
	"env": func(p *configParser, v toml.Primitive, c *Cache) {
		const hint = `write env = { NAME = "value" }; what begins with SYSCACHE_ is ours`
		table, ok := p.value(v).(map[string]any)
		if !ok {
			p.at(v, "want a table of strings", hint)
		}
		c.Env = make(map[string]string, len(table))
		for _, name := range slices.Sorted(maps.Keys(table)) {
			value, ok := table[name].(string)
			if !ok {
				p.at(v, fmt.Sprintf("the value of %s is not a string", name), hint)
			} else if err := checkEnv(name, value); err != nil {
				p.at(v, err.Error(), hint)
			}
			c.Env[name] = value
		}
	},
	"timeout": func(p *configParser, v toml.Primitive, c *Cache) { c.Timeout = p.duration(v) },
	"keep":    func(p *configParser, v toml.Primitive, c *Cache) { c.Keep = p.duration(v) },
	"latest": func(p *configParser, v toml.Primitive, c *Cache) {
		ok := false
		if c.Latest, ok = p.value(v).(bool); !ok {
			p.at(v, "want true or false", "write latest = true")
		}
	},
	"each": func(p *configParser, v toml.Primitive, c *Cache) {
		ok := false
		if c.Each, ok = p.value(v).(bool); !ok {
			p.at(v, "want true or false", "write each = true")
		}
	},
	"jobs": func(p *configParser, v toml.Primitive, c *Cache) {
		n, ok := p.value(v).(int64)
		if !ok || n < 1 || n > maxJobs {
			p.at(v, fmt.Sprintf("want a number from 1 to %d", maxJobs), "write jobs = 4: how many processes of the build command may run at once")
			return
		}
		c.Jobs = int(n)
	},
	"inputs_from": func(p *configParser, v toml.Primitive, c *Cache) {
		const hint = `write inputs_from = "share/app/FILES": a file under the root with the path of an input a line`
		s, ok := p.str(v, hint)
		if ok && !format.ValidPath(s) {
			p.at(v, fmt.Sprintf("path %q is not below the root", s), hint)
		}
		c.InputsFrom = s
	},
}

const inputsHint = `write inputs = ["lib/**"], patterns of the files it is derived from, or inputs_from`

func decodeWitness(p *configParser, v toml.Primitive, c *Cache) {
	const hint = `write a list of paths relative to the root, ["share/app/MANIFEST"], or "inputs"`
	if s, ok := p.value(v).(string); ok {
		if s != "inputs" {
			p.at(v, fmt.Sprintf("witness %q is no list", s), hint)
		}
		return
	}
	c.Witness, _ = p.list(v, hint)
	for _, w := range c.Witness {
		if err := checkWitness(w); err != nil {
			p.at(v, err.Error(), hint)
		}
	}
}

func (p *configParser) patterns(v toml.Primitive, absolute bool) []string {
	hint := "patterns are relative to the root and stay under it: lib/**/*.py"
	if absolute {
		hint = "patterns are relative to the root and stay under it, or absolute: libexec/build, /usr/bin/python3"
	}
	list, ok := p.list(v, hint)
	for _, pattern := range list {
		if err := checkPattern(pattern, absolute); err != nil {
			p.at(v, err.Error(), hint)
		}
	}
	if !ok {
		return nil
	}
	return list
}

func (p *configParser) duration(v toml.Primitive) time.Duration {
	const hint = `write a number and a unit: "90s", "10m", "24h"`
	s, ok := p.str(v, hint)
	if !ok {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		p.at(v, fmt.Sprintf("%q is not a positive duration", s), hint)
	}
	return d
}

// value returns what v is, as the library decodes it by itself. (Decoding into
// a type, it takes a number for an empty map.)
func (p *configParser) value(v toml.Primitive) (value any) {
	p.md.PrimitiveDecode(v, &value)
	return value
}

// str returns the string that v is, or notes the mistake.
func (p *configParser) str(v toml.Primitive, hint string) (string, bool) {
	s, ok := p.value(v).(string)
	if !ok {
		p.at(v, "want a string", hint)
	}
	return s, ok
}

// list returns the list of strings that v is, never nil, or notes the mistake.
func (p *configParser) list(v toml.Primitive, hint string) ([]string, bool) {
	values, ok := p.value(v).([]any)
	list := make([]string, 0, len(values))
	for _, value := range values {
		s, is := value.(string)
		ok = ok && is
		list = append(list, s)
	}
	if !ok {
		p.at(v, "want a list of strings", hint)
	}
	return list, ok
}

// table returns the keys and values of the table that v is, or notes the
// mistake.
func (p *configParser) table(v toml.Primitive, hint string) map[string]toml.Primitive {
	if _, ok := p.value(v).(map[string]any); !ok {
		p.at(v, "want a table", hint)
		return nil
	}
	var table map[string]toml.Primitive
	p.md.PrimitiveDecode(v, &table)
	return table
}

func (p *configParser) cache(name string, v toml.Primitive) Cache {
	c := Cache{Name: name, file: p.file, places: map[string]location{"": p.locate(v)}}
	if !format.ValidCacheName(name) {
		p.at(v, fmt.Sprintf("%q cannot be the name of a cache", name),
			"names are made of a-z, 0-9, '.', '_' and '-', begin with a letter or digit, and have at most 64 characters")
	}
	table := p.table(v, "write [cache."+name+"]")
	if table == nil {
		return c
	}
	for _, key := range p.inOrder(table) {
		if decode, ok := settings[key]; ok {
			c.places[key] = p.locate(table[key])
			decode(p, table[key], &c)
		} else {
			p.unknown(table[key], key, slices.Sorted(maps.Keys(settings)))
		}
	}
	_, patterns := table["inputs"]
	from, list := table["inputs_from"]
	switch {
	case patterns && list:
		p.at(from, "inputs_from beside inputs", "choose one: patterns, or a list that the install wrote")
	case !patterns && !list:
		p.at(v, fmt.Sprintf("cache %s has no inputs", name), inputsHint)
	}
	if latest, ok := table["latest"]; ok && c.Latest && !c.Files {
		p.at(latest, "latest in a cache of kind table", `it is for kind = "files": programs read a table through a reader`)
	}
	if c.Each && c.Files {
		p.at(table["each"], "each in a cache of kind files", `it is for tables: leave out kind = "files", or each`)
	} else if _, build := table["build"]; c.Each && !build {
		p.at(table["each"], "each without a build command", "add build = [...], or leave it out: the built-in table of files is built at once")
	}
	if jobs, ok := table["jobs"]; ok && !c.Each {
		p.at(jobs, "jobs without each", "add each = true: only a build command that takes some of the inputs can run more than once")
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

// at notes a mistake where v is.
func (p *configParser) at(v toml.Primitive, msg, hint string) {
	at := p.locate(v)
	p.mistakes = append(p.mistakes, &ConfigError{p.file, at.line, at.col, msg, hint})
}

func (p *configParser) locate(v toml.Primitive) location {
	return p.place(p.position(v).Position.Start)
}

// nowhere is a type that nothing decodes into: the error says where it was.
type nowhere struct{}

func (*nowhere) UnmarshalTOML(any) error { return errors.New("nowhere") }

// position returns where v is. The library tells positions only in errors.
func (p *configParser) position(v toml.Primitive) (e toml.ParseError) {
	errors.As(p.md.PrimitiveDecode(v, &nowhere{}), &e)
	if e.Position.Line > 0 {
		return e
	}
	// A table that only its subtables make has no place of its own.
	var subtables map[string]toml.Primitive
	p.md.PrimitiveDecode(v, &subtables)
	for _, sub := range subtables {
		if at := p.position(sub); e.Position.Line == 0 || at.Position.Start < e.Position.Start {
			e = at
		}
	}
	return e
}

func (p *configParser) wrap(err error, hint string) *ConfigError {
	e := &ConfigError{File: p.file, Line: 1, Col: 1, Msg: err.Error(), Hint: hint}
	var pe toml.ParseError
	if errors.As(err, &pe) {
		at := p.place(pe.Position.Start)
		e.Line, e.Col, e.Msg = at.line, at.col, pe.Message
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
		return fmt.Errorf("witness %q is not a path below the root", w)
	}
	return nil
}

func checkCommand(command []string) error {
	name := command[0]
	if !format.ValidPath(strings.TrimPrefix(name, "/")) || path.Clean(name) != name {
		return fmt.Errorf("command %q is neither below the root nor absolute", name)
	}
	for _, arg := range command {
		if strings.IndexByte(arg, 0) >= 0 {
			return fmt.Errorf("command argument %q has a NUL", arg)
		}
	}
	return nil
}

func checkEnv(name, value string) error {
	switch {
	case name == "" || strings.ContainsAny(name, "=\x00") || strings.IndexByte(value, 0) >= 0:
		return fmt.Errorf("environment variable %q cannot be set", name)
	case strings.HasPrefix(name, "SYSCACHE_"):
		return fmt.Errorf("environment variable %s is reserved", name)
	}
	return nil
}
