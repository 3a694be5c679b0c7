//go:build unix

package main

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A documented field of docs/JSON.md, and an example of it if one was seen.
type field struct {
	kind, unit string
	seen       any
}

// documented returns the fields of each section of docs/JSON.md, by name.
func documented(t *testing.T) map[string]map[string]*field {
	t.Helper()
	text, err := os.ReadFile("../../docs/JSON.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]map[string]*field{}
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (\\w+) \\| (\\w*) ?\\| .+ \\|$")
	for section := range strings.SplitSeq(string(text), "\n## ") {
		name, rest, _ := strings.Cut(section, "\n")
		fields := map[string]*field{}
		for _, m := range row.FindAllStringSubmatch(rest, -1) {
			fields[m[1]] = &field{kind: m[2], unit: m[3]}
		}
		if len(fields) > 0 {
			sections[name] = fields
		}
	}
	return sections
}

// flatten calls f for each field of v, in which those of arrays and objects
// have names like "changes[].path".
func flatten(name string, v any, f func(name string, v any)) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			sub := strings.TrimPrefix(name+"."+k, ".")
			if name == "settings" {
				sub = "settings.*"
			}
			f(sub, e)
			if k != "value" { // anybody's
				flatten(sub, e, f)
			}
		}
	case []any:
		for _, e := range v {
			flatten(name+"[]", e, f)
		}
	}
}

// units are what the values of each unit look like.
var units = map[string]func(v any) bool{
	"": func(any) bool { return true },
	"key": func(v any) bool {
		return regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(v.(string))
	},
	"time": func(v any) bool {
		at, err := time.Parse(time.RFC3339, v.(string))
		return err == nil && strings.HasSuffix(v.(string), "Z") && time.Since(at).Abs() < time.Hour
	},
	"bytes":  func(v any) bool { return v.(float64) >= 0 },
	"ms":     func(v any) bool { return v.(float64) >= 0 },
	"base64": func(v any) bool { return regexp.MustCompile(`^[A-Za-z0-9+/]+=*$`).MatchString(v.(string)) },
}

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "null"
}

// check checks every line of output against what is documented in a section.
func checkJSON(t *testing.T, fields map[string]*field, what, output string) {
	t.Helper()
	for line := range strings.Lines(output) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Errorf("%s: %v: %s", what, err, line)
			continue
		}
		flatten("", v, func(name string, v any) {
			f := fields[name]
			switch {
			case f == nil:
				t.Errorf("%s: docs/JSON.md does not have %s: %s", what, name, line)
			case f.kind != "any" && f.kind != kindOf(v):
				t.Errorf("%s: %s is of type %s, not %s: %s", what, name, kindOf(v), f.kind, line)
			case units[f.unit] == nil || !units[f.unit](v):
				t.Errorf("%s: %s is not a %s: %s", what, name, f.unit, line)
			default:
				f.seen = v
			}
		})
	}
}

// TestJSON runs the verbs in every state: whatever they print is documented in
// docs/JSON.md, and whatever is documented there is printed once at least.
func TestJSON(t *testing.T) {
	sections := documented(t)
	i := newInstall(t, "")
	i.root += "/\xff"
	i.must(os.Mkdir(i.root, 0o755))
	config := `
[cache.t]
inputs = ["share/**"]
build = ["/bin/sh", "build"]
recipe = ["build"]
[cache.f]
kind = "files"
inputs = ["share/**"]
build = ["/bin/sh", "-c", 'echo >$SYSCACHE_OUT/a; echo >$SYSCACHE_OUT/$(printf "\377")']
`
	good := `echo '{"key":"a","value":[1]}'; echo '{"key_base64":"/w==","value_base64":"/w=="}'`
	i.write("etc/syscache.toml", config)
	i.write("share/a", "")
	i.write("build", good)

	for _, c := range (&app{}).command().Commands() {
		if text := c.Name() == "completion" || c.Name() == "help"; sections[c.Name()] == nil && !text {
			t.Errorf("docs/JSON.md has no section %s", c.Name())
		}
	}
	verb := func(code int, args ...string) {
		t.Helper()
		what := strings.Join(args, " ")
		got, stdout, stderr := call(t, append([]string{"--root", i.root, "--json"}, args...)...)
		if got != code {
			t.Errorf("%s: exit code %d, want %d: %s%s", what, got, code, stdout, stderr)
		}
		checkJSON(t, sections[args[0]], what, stdout)
		checkJSON(t, sections["stderr"], what, stderr)
		told := strings.Contains(stderr, `{"error":`)
		if told && code == 0 || !told && code != 0 && args[0] != "status" {
			t.Errorf("%s: exit code %d, and on stderr %q", what, code, stderr)
		}
	}

	verb(exitOK, "version")
	for _, v := range []string{"status", "verify"} {
		verb(exitMissing, v)
	}
	verb(exitMissing, "get", "t", "a")
	verb(exitMissing, "list", "t")
	verb(exitMissing, "path", "f")
	verb(exitUsage, "refresh", "nonsense")
	verb(exitUsage, "refresh", "--nonsense")
	verb(exitUsage, "get", "t")

	verb(exitOK, "config")
	verb(exitOK, "doctor")
	verb(exitOK, "refresh")
	verb(exitOK, "refresh")
	verb(exitOK, "status")
	verb(exitOK, "verify")
	verb(exitOK, "get", "t", "a", "\xff")
	verb(exitNotFound, "get", "t", "a", "b")
	verb(exitUsage, "get", "f", "a")
	verb(exitOK, "list", "t")
	verb(exitOK, "list", "f")
	verb(exitOK, "path", "f")
	verb(exitUsage, "path", "t")

	i.write("share/\xff", "")
	i.write("build", good+"\n")
	verb(exitMissing, "status")
	verb(exitMissing, "get", "t", "a")
	verb(exitOK, "get", "--stale", "t", "a")
	verb(exitOK, "diff", "t")
	verb(exitOK, "refresh")
	verb(exitOK, "gc")

	i.write("build", "echo no >&2; exit 1")
	verb(exitFailure, "refresh")
	verb(exitMissing, "status")
	i.write("build", good)
	verb(exitOK, "refresh")
	verb(exitOK, "invalidate", "t")
	verb(exitUsage, "invalidate", "nonsense")
	verb(exitOK, "invalidate")
	verb(exitMissing, "status")
	verb(exitOK, "refresh")

	flipped := i.root + "/var/cache/syscache/t/current"
	b, err := os.ReadFile(flipped)
	i.must(err)
	b[9] ^= 1
	i.must(os.WriteFile(flipped, b, 0o644))
	verb(exitCorrupt, "status")
	verb(exitCorrupt, "verify")
	verb(exitCorrupt, "get", "t", "a")
	i.must(os.Chmod(flipped, 0o666))
	verb(exitUntrusted, "status")
	verb(exitUntrusted, "list", "t")
	verb(exitOK, "refresh")
	i.write("etc/syscache.toml", "[cache.t]\nnonsense = 1\n")
	verb(exitFailure, "status", "t")
	verb(exitFailure, "refresh", "t")
	i.must(os.RemoveAll(i.root + "/etc"))
	verb(exitOK, "init")

	i.root = t.TempDir() // for a path that is UTF-8
	i.write("etc/syscache.toml", config)
	i.write("share/a", "")
	i.write("build", good)
	verb(exitOK, "refresh")
	verb(exitOK, "doctor")
	verb(exitOK, "path", "f")
	verb(exitOK, "config")
	verb(exitFailure, "init")
	i.must(os.RemoveAll(i.root + "/etc"))
	verb(exitOK, "config")
	verb(exitUsage, "init", "--print")
	verb(exitOK, "init")

	for _, name := range slices.Sorted(maps.Keys(sections)) {
		for _, f := range slices.Sorted(maps.Keys(sections[name])) {
			if sections[name][f].seen == nil {
				t.Errorf("docs/JSON.md has %s of %s, which was never seen", f, name)
			}
		}
	}
}
