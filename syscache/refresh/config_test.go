package refresh

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix/unixtest"
)

// newRoot returns an install's root with one file in it.
func newRoot(t testing.TB) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	writeFile(t, root+"/share/MANIFEST", "version 1\n", 0o644)
	return root
}

func TestConfigMistakes(t *testing.T) {
	const (
		ok       = "[cache.c]\ninputs = [\"lib/**\"]\n" // what follows is line 3
		built    = ok + "build = [\"x\"]\n"             // line 4
		tables   = "write [cache.NAME]"
		jobs     = "write jobs = 4: how many processes of the build command may run at once"
		known    = "known are: build, each, env, exclude, inputs, inputs_from, jobs, keep, kind, latest, recipe, timeout, witness"
		kinds    = `write kind = "table" or kind = "files"`
		patterns = "patterns are relative to the root and stay under it: lib/**/*.py"
		recipe   = "patterns are relative to the root and stay under it, or absolute: libexec/build, /usr/bin/python3"
		paths    = `write a list of paths relative to the root, ["share/app/MANIFEST"], or "inputs"`
		command  = `write build = ["libexec/command", "argument"]: an executable relative to the root, or by its absolute path; it is not given to a shell`
		unit     = `write a number and a unit: "90s", "10m", "24h"`
		env      = `write env = { NAME = "value" }; what begins with SYSCACHE_ is ours`
		names    = "names are made of a-z, 0-9, '.', '_' and '-', begin with a letter or digit, and have at most 64 characters"
		syntax   = "see https://toml.io for the syntax"
		noInputs = `write inputs = ["lib/**"], patterns of the files it is derived from, or inputs_from`
		depth    = "the deepest that there is: cache.NAME.env.VARIABLE"
		list     = `write inputs_from = "share/app/FILES": a file under the root with the path of an input a line`
	)
	manyKeys := ""
	for i := range 2000 {
		manyKeys += fmt.Sprintf("K%d = \"\"\n", i)
	}
	for _, tc := range []struct{ text, at, msg, hint string }{
		{"x = 1", "1:5", `unknown key "x"`, "known are: cache"},
		{"[caches.c]", "1:1", `unknown key "caches"`, "known are: cache"},
		{"cache = 1", "1:9", "*", tables},
		{"[[cache]]", "1:1", "*", tables},
		{"[cache]\nc = 1", "2:5", "*", "write [cache.c]"},
		{"[[cache.c]]\ninputs = [\"a\"]", "1:1", "*", "write [cache.c]"},
		{"[cache.C]\ninputs = [\"a\"]", "1:1", `"C" cannot be the name of a cache`, names},
		{"[cache.\"../c\"]\ninputs = [\"a\"]", "1:1", `"../c" cannot be the name of a cache`, names},
		{"[cache.c]", "1:1", "cache c has no inputs", noInputs},
		{"[cache.c]\ninputs = []", "2:11", "*", noInputs},
		{"cache.a." + strings.Repeat("b.", 40) + "c = 1", "1:70", "nested more than 32 deep", depth},
		{"# " + strings.Repeat("[", 40) + "\nx = \"" + strings.Repeat("a.", 40) + "\"\ny = " + strings.Repeat("{a = ", 33), "3:165", "nested more than 32 deep", depth},
		{strings.Repeat("[cache.c]\n", 2) + "x = " + strings.Repeat("[", 33), "3:37", "nested more than 32 deep", depth},
		{"[cache.c.env]\n" + manyKeys, "1:1", "2001 keys, and a file has at most 2000", "name inputs by patterns, and put caches into several files in etc/syscache.d"},
		{ok + "input = [\"a\"]", "3:10", `unknown key "input"`, known},
		{ok + "[cache.c.build]\nx = 1", "3:1", "*", command},

		{ok + "kind = 1", "3:8", "*", kinds},
		{ok + `kind = "tables"`, "3:9", `kind "tables" is neither table nor files`, kinds},
		{ok + `kind = "files"`, "1:1", "cache c is of kind files and has no build command", "add build = [...], or leave kind out for the built-in table of files"},
		{"[cache.c]\ninputs = \"lib\"", "2:11", "*", patterns},
		{"[cache.c]\ninputs = [\"a\", 1]", "2:11", "*", patterns},
		{"[cache.c]\ninputs = [\"/lib\"]", "2:11", `pattern "/lib": it is absolute; patterns are relative to the root`, patterns},
		{"[cache.c]\ninputs = [\"a\", \"b/../c\"]", "2:11", `pattern "b/../c": it has an empty, "." or ".." component`, patterns},
		{"[cache.c]\ninputs = [\"[a\"]", "2:11", `pattern "[a": brackets, braces or backslashes do not match up`, patterns},
		{ok + "exclude = 1", "3:11", "*", patterns},
		{ok + "exclude = [\"..\"]", "3:12", `pattern "..": it has an empty, "." or ".." component`, patterns},
		{ok + "recipe = {}", "3:11", "*", recipe},
		{ok + "recipe = [\"/usr/../x\"]", "3:11", `pattern "/usr/../x": it has an empty, "." or ".." component`, recipe},
		{ok + "witness = 1", "3:11", "*", paths},
		{ok + `witness = "share/x"`, "3:12", `witness "share/x" is no list`, paths},
		{ok + "witness = [1]", "3:12", "*", paths},
		{ok + "witness = [\"/a\"]", "3:12", `witness "/a" is not a path below the root`, paths},
		{ok + "witness = [\"a/../b\"]", "3:12", `witness "a/../b" is not a path below the root`, paths},
		{ok + `build = "sh -c x"`, "3:10", "*", command},
		{ok + "build = []", "3:10", "the command is empty", command},
		{ok + "build = [\"\"]", "3:10", `command "" is neither below the root nor absolute`, command},
		{ok + "build = [\"../x\"]", "3:10", `command "../x" is neither below the root nor absolute`, command},
		{ok + `build = ["x", "\u0000"]`, "3:10", `command argument "\x00" has a NUL`, command},
		{ok + "env = 1", "3:7", "*", env},
		{ok + "env = { A = 1 }", "3:8", "*", env},
		{ok + `env = { SYSCACHE_ROOT = "x" }`, "3:8", "environment variable SYSCACHE_ROOT is reserved", env},
		{ok + `env = { "A=B" = "x" }`, "3:8", `environment variable "A=B" cannot be set`, env},
		{ok + "timeout = 10", "3:11", "*", unit},
		{ok + `timeout = "soon"`, "3:12", `"soon" is not a positive duration`, unit},
		{ok + `timeout = "-1s"`, "3:12", `"-1s" is not a positive duration`, unit},
		{ok + `keep = "1d"`, "3:9", `"1d" is not a positive duration`, unit},
		{ok + `keep = "0s"`, "3:9", `"0s" is not a positive duration`, unit},

		{"[cache.c]\ninputs_from = 1", "2:15", "*", list},
		{"[cache.c]\ninputs_from = \"/etc/list\"", "2:16", `path "/etc/list" is not below the root`, list},
		{"[cache.c]\ninputs_from = \"a/../b\"", "2:16", `path "a/../b" is not below the root`, list},
		{ok + `inputs_from = "l"`, "3:16", "inputs_from beside inputs", "choose one: patterns, or a list that the install wrote"},
		{ok + "latest = 1", "3:10", "*", "write latest = true"},
		{ok + "latest = true", "3:10", "latest in a cache of kind table", `it is for kind = "files": programs read a table through a reader`},
		{built + "each = 1", "4:8", "*", "write each = true"},
		{ok + "each = true", "3:8", "each without a build command", "add build = [...], or leave it out: the built-in table of files is built at once"},
		{built + "kind = \"files\"\neach = true", "5:8", "each in a cache of kind files", `it is for tables: leave out kind = "files", or each`},
		{built + "jobs = 2", "4:8", "jobs without each", "add each = true: only a build command that takes some of the inputs can run more than once"},
		{built + "each = true\njobs = 0", "5:8", "want a number from 1 to 64", jobs},
		{built + "each = true\njobs = 65", "5:8", "want a number from 1 to 64", jobs},
		{built + "each = true\njobs = 1.5", "5:8", "want a number from 1 to 64", jobs},

		{"[cache.c", "1:8", "*", syntax},
		{ok + "x 1", "3:3", "*", syntax},
		{ok + ok, "3:2", "*", syntax},
		{"\xff", "1:1", "*", syntax},
	} {
		_, mistakes := parseConfig("f.toml", []byte(tc.text))
		if len(mistakes) == 0 {
			t.Errorf("%q: no mistake, want one at %s", tc.text, tc.at)
			continue
		}
		e := mistakes[0]
		got := fmt.Sprintf("%d:%d", e.Line, e.Col)
		if got != tc.at || e.Hint != tc.hint || tc.msg != "*" && e.Msg != tc.msg || e.File != "f.toml" || e.Msg == "" {
			t.Errorf("%q:\ngot  %s: %s (%s)\nwant %s: %s (%s)", tc.text, got, e.Msg, e.Hint, tc.at, tc.msg, tc.hint)
		}
		if want := "f.toml:" + tc.at + ":"; !strings.HasPrefix(e.Error(), want) || !strings.HasSuffix(e.Error(), " "+e.Msg) {
			t.Errorf("%q: %v, want %s ...", tc.text, e, want)
		}
	}
}

// TestConfigAllMistakes: all of a file's mistakes are told, from its top down,
// and each time in this order.
func TestConfigAllMistakes(t *testing.T) {
	const text = "a = 1\n[cache.b]\ninputs = [\"/b\", \"..\"]\nx = 1\n[cache.a]\ntimeout = 1\n[cache.c]\ninputs = [\"a\"]\n[cache.c.env]\nSYSCACHE_B = \"\"\nSYSCACHE_A = \"\"\n"
	_, first := parseConfig("f", []byte(text))
	var lines []int
	for _, e := range first {
		lines = append(lines, e.Line)
	}
	if len(lines) != 8 || !slices.IsSorted(lines) {
		t.Errorf("lines %v of:\n%v", lines, first)
	}
	for range 20 {
		if _, again := parseConfig("f", []byte(text)); !cmp.Equal(first, again) {
			t.Fatalf("%v\nat another time:\n%v", first, again)
		}
	}
}

func TestConfigValues(t *testing.T) {
	got, mistakes := parseConfig("f", []byte(`
[cache.z]
inputs = ["**"]
witness = []
[cache.a]
kind = "files"
inputs = ["lib/**/*.{py,so}", 'x\[']
exclude = ["**/tests/**"]
witness = ["share/MANIFEST", "lib/plugins/"]
build = ["/usr/bin/tool", "--all", ""]
env = { A = "", B = "b" }
recipe = ["libexec/*", "/usr/bin/python3"]
timeout = "90s"
keep = "1h"
[cache.m]
inputs = ["**"]
witness = "inputs"
[cache.n]
inputs_from = "share/FILES"
kind = "files"
build = ["b"]
latest = true
`))
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	want := []Cache{{
		Name: "a", Files: true, Inputs: []string{"lib/**/*.{py,so}", `x\[`}, Exclude: []string{"**/tests/**"},
		Witness: []string{"share/MANIFEST", "lib/plugins/"}, Command: []string{"/usr/bin/tool", "--all", ""},
		Env: map[string]string{"A": "", "B": "b"}, Recipe: []string{"libexec/*", "/usr/bin/python3"},
		Timeout: 90 * time.Second, Keep: time.Hour,
	}, {Name: "m", Inputs: []string{"**"}}, {
		Name: "n", Files: true, InputsFrom: "share/FILES", Command: []string{"b"}, Latest: true,
	}, {Name: "z", Inputs: []string{"**"}, Witness: []string{}}}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Cache{}), cmpopts.IgnoreFields(Cache{}, "Build")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestConfigFile: a configuration that others can write, or that is no file,
// is refused.
func TestConfigFile(t *testing.T) {
	const good = "[cache.c]\ninputs = [\"share/**\"]\n"
	chown := func(path string) error {
		if os.Geteuid() != 0 {
			return nil
		}
		return os.Chown(path, 12345, 0)
	}
	for name, tc := range map[string]struct {
		make func(file string) error
		want string // "" for none; else of the message or, after "hint:", of the hint
	}{
		"good":               {func(string) error { return nil }, ""},
		"none":               {os.Remove, ""},
		"no etc":             {func(f string) error { return os.RemoveAll(filepath.Dir(f)) }, ""},
		"everyone can write": {func(f string) error { return os.Chmod(f, 0o646) }, "everyone can write"},
		"group can write":    {func(f string) error { return os.Chmod(f, 0o664) }, "can write"},
		"etc can be written": {func(f string) error { return os.Chmod(filepath.Dir(f), 0o777) }, "everyone can write"},
		"hint":               {func(f string) error { return os.Chmod(f, 0o646) }, "hint: chmod go-w"},
		"a link":             {func(f string) error { return errors.Join(os.Rename(f, f+"2"), os.Symlink(f+"2", f)) }, "it is a symbolic link"},
		"a link's hint":      {func(f string) error { return errors.Join(os.Rename(f, f+"2"), os.Symlink(f+"2", f)) }, "hint:put the file itself there"},
		"a FIFO":             {func(f string) error { return errors.Join(os.Remove(f), unixtest.Mkfifo(f, 0o644)) }, "is not a regular file"},
		"a directory":        {func(f string) error { return errors.Join(os.Remove(f), os.Mkdir(f, 0o755)) }, "is not a regular file"},
		"etc is a link": {func(f string) error {
			return errors.Join(os.Rename(filepath.Dir(f), filepath.Dir(f)+"2"), os.Symlink("etc2", filepath.Dir(f)))
		}, "is not a directory"},
		"etc is a file": {func(f string) error {
			return errors.Join(os.RemoveAll(filepath.Dir(f)), os.WriteFile(filepath.Dir(f), nil, 0o644))
		}, "is not a directory"},
		"masked":            {func(f string) error { return errors.Join(os.Remove(f), os.Symlink("/dev/null", f)) }, ""},
		"longer than 4 MiB": {func(f string) error { return os.WriteFile(f, []byte(strings.Repeat("#\n", 3<<20)), 0o644) }, "it is longer than 4 MiB"},
		"another's":         {chown, "belongs to uid 12345, who neither is root nor owns the install"},
		"a mistake":         {func(f string) error { return os.WriteFile(f, []byte("x=1"), 0o644) }, `unknown key "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(tc.want, "12345") && os.Geteuid() != 0 {
				t.Skip("skipped: not root")
			}
			root := newRoot(t)
			file := format.Join(root, format.ConfigFile)
			writeFile(t, file, good, 0o644)
			if err := tc.make(file); err != nil {
				t.Fatal(err)
			}
			in, err := Load(root, nil)
			if err != nil {
				t.Fatal(err)
			}
			e := &ConfigError{}
			if all := in.Mistakes(); len(all) > 0 {
				e = all[0]
			}
			switch hint, isHint := strings.CutPrefix(tc.want, "hint:"); {
			case tc.want == "":
				if e.Msg != "" {
					t.Error(e)
				}
			case e.File != file || len(in.Mistakes()) != 1 || in.Unconfigured():
				t.Errorf("got %v, want a mistake of %s", in.Mistakes(), file)
			case isHint && !strings.Contains(e.Hint, strings.TrimSpace(hint)), !isHint && !strings.Contains(e.Msg, tc.want):
				t.Errorf("got %s (%s), want %s", e.Msg, e.Hint, tc.want)
			}
		})
	}
}

// TestLoad: what a program declares is vetted as a file is.
func TestLoad(t *testing.T) {
	build := Build(buildFiles)
	inputs := []string{"share/**"}
	for want, c := range map[string]Cache{
		"":                                  {Name: "c", Inputs: inputs},
		"declared twice":                    {Name: "here", Inputs: inputs},
		"cannot be the name":                {Name: "C", Inputs: inputs},
		"no inputs":                         {Name: "c"},
		"it is absolute":                    {Name: "c", Inputs: []string{"/a"}},
		"component":                         {Name: "c", Inputs: inputs, Recipe: []string{"/../a"}},
		"do not match up":                   {Name: "c", Inputs: inputs, Exclude: []string{"["}},
		`witness "../a"`:                    {Name: "c", Inputs: inputs, Witness: []string{"../a"}},
		"is reserved":                       {Name: "c", Inputs: inputs, Env: map[string]string{"SYSCACHE_X": ""}},
		"both a command and a function":     {Name: "c", Inputs: inputs, Command: []string{"x"}, Build: build},
		`command "../x"`:                    {Name: "c", Inputs: inputs, Command: []string{"../x"}},
		"of kind files and has nothing to ": {Name: "c", Inputs: inputs, Files: true},
	} {
		root := newRoot(t)
		writeFile(t, format.Join(root, format.ConfigFile), "[cache.here]\ninputs = [\"**\"]\n", 0o644)
		in, err := Load(root, &LoadOptions{Caches: []Cache{c}})
		switch {
		case want == "" && err == nil:
			if d := cmp.Diff([]string{"c", "here"}, in.Names()); d != "" || in.Unconfigured() {
				t.Error(d)
			}
		case want == "" || err == nil || !strings.Contains(err.Error(), want):
			t.Errorf("%+v: %v, want %s", c, err, want)
		}
	}
	in, err := Load(newRoot(t), nil)
	if err != nil || !in.Unconfigured() || !cmp.Equal(in.Names(), []string{"files"}) {
		t.Errorf("without configuration: %v, %v", in.Names(), err)
	}
	root := newRoot(t)
	for want, path := range map[string]string{
		"no such file": root + "/none", "not a directory": root + "/share/MANIFEST",
	} {
		if _, err := Load(path, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load(%s): %v, want %s", path, err, want)
		}
	}
	if err := os.Chmod(root, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(root, nil); err == nil || !strings.Contains(err.Error(), "everyone can write it (mode 0777)") {
		t.Errorf("a root that everyone can write: %v", err)
	}
}

// TestUnconfiguredSlash: nothing is derived from all of / unasked. Only where
// / has no configuration can that be seen.
func TestUnconfiguredSlash(t *testing.T) {
	if _, err := os.Lstat("/" + format.ConfigFile); err == nil {
		t.Skip("skipped: / is configured")
	}
	if _, err := Load("/", nil); !errors.Is(err, ErrUnconfigured) {
		t.Errorf("Load(/): %v, want %v", err, ErrUnconfigured)
	}
	if _, err := Load("/", &LoadOptions{Caches: []Cache{{Name: "c", Inputs: []string{"etc/passwd"}}}}); err != nil {
		t.Errorf("with a cache: %v", err)
	}
}

func TestConfigExample(t *testing.T) {
	text, err := os.ReadFile("../../config.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	caches, mistakes := parseConfig("config.example.toml", text)
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	if len(caches) != 5 {
		t.Errorf("%d caches", len(caches))
	}
	// Every setting is explained there.
	for key := range settings {
		if !strings.Contains(string(text), "\n"+key+" ") {
			t.Errorf("%s is not in it", key)
		}
	}
}
