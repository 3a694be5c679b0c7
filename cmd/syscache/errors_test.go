//go:build unix

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updateErrors = flag.Bool("update-errors", false, "write docs/ERRORS.md")

// A mistake is a case of testdata/errors/cases.txt.
type mistakeCase struct {
	group, when, script string

	code   int
	output string // stderr
}

// command returns the last line of the script, the one that makes the mistake.
func (m *mistakeCase) command() string {
	lines := strings.Split(m.script, "\n")
	steps := strings.Split(lines[len(lines)-1], "; ")
	for _, s := range steps {
		if i := strings.Index(s, "syscache "); i >= 0 && !strings.Contains(s, " -q ") {
			s, _, _ = strings.Cut(s[i:], " 2>")
			return strings.ReplaceAll(s, "--root $R", "--root /opt/app")
		}
	}
	return lines[len(lines)-1]
}

func readMistakes(t *testing.T) []*mistakeCase {
	t.Helper()
	text, err := os.ReadFile("testdata/errors/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []*mistakeCase
	group := ""
	for line := range strings.SplitSeq(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "# ") || line == "":
		case strings.HasPrefix(line, "== "):
			group = line[3:]
		case strings.HasPrefix(line, "-- "):
			all = append(all, &mistakeCase{group: group, when: line[3:]})
		default:
			m := all[len(all)-1]
			m.script = strings.TrimPrefix(m.script+"\n"+line, "\n")
		}
	}
	return all
}

// prelude makes the install that each case begins with.
const prelude = `set -eu
mkdir -p $R/lib $R/libexec $R/share/app $R/etc
echo 1 >$R/lib/a
echo 1 >$R/share/app/MANIFEST
conf() { printf '%s\n' "$1" >$R/etc/syscache.toml; }
builder() { printf '#!/bin/sh\n%s\n' "$1" >$R/libexec/build.new; chmod 755 $R/libexec/build.new; mv $R/libexec/build.new $R/libexec/build; }
as() { u=$1; shift; setpriv --reuid $u --regid $u --clear-groups "$@"; }
builder 'if [ $SYSCACHE_CACHE = f ]; then echo 1 >$SYSCACHE_OUT/x; else echo "{\"key\":\"k\",\"value\":1}"; fi'
conf '[cache.t]
inputs = ["lib/**"]
build = ["libexec/build"]
recipe = ["libexec/build"]
env = { PATH = "/usr/bin:/bin" }
[cache.f]
kind = "files"
inputs = ["lib/**"]
witness = ["share/app/MANIFEST"]
build = ["libexec/build"]
recipe = ["libexec/build"]
env = { PATH = "/usr/bin:/bin" }'
chmod 755 $R $R/.. $R/etc $R/lib $R/libexec $R/share $R/share/app
syscache --root $R -q refresh
set +e
`

// run runs m's script with the real command, in mounts of its own.
func (m *mistakeCase) run(t *testing.T, bin string) {
	t.Helper()
	top, err := os.MkdirTemp("", "syscache-mistake-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(top)
	root := top + "/app"
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "-m", "/bin/bash", "-c", prelude+m.script)
	cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin:/usr/sbin:/sbin", "R=" + root, "LC_ALL=C.UTF-8", "HOME=/nonexistent", "GORACE=atexit_sleep_ms=0"}
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", m.when, err)
	}
	m.code = cmd.ProcessState.ExitCode()
	m.output = strings.TrimRight(normal(stderr.String(), top), "\n")
}

// normal writes what differs from run to run as the document has it.
func normal(s, top string) string {
	s = strings.ReplaceAll(s, top+"/app", "/opt/app")
	s = strings.ReplaceAll(s, top, "/opt")
	for _, r := range []struct{ pattern, by string }{
		{`\b[0-9a-f]{64}\b`, "KEY"},
		{`\b[0-9a-f]{12}\b`, "KEY"},
		{`\.(new|pending)-[0-9a-f]{16}`, ".$1-..."},
		{`pid \d+`, "pid 4711"},
		{`started [^,:]* ago|for \d+ s`, "started 2 s ago"},
		{`\d+(\.\d+)?(µs|ms)\b`, "9ms"},
		{`, \d+ B,`, ", 300 B,"},
		{`(?m)^syscache: [a-z]: (built|unchanged|recertified|invalidated).*\n`, ""}, // no mistakes, and in any order
		{`/bin/bash: line \d+: +\d+ (Killed|Terminated).*\n`, ""},
	} {
		s = regexp.MustCompile(r.pattern).ReplaceAllString(s, r.by)
	}
	return s
}

// TestErrors makes every mistake there is, with the real command, and has
// docs/ERRORS.md tell what comes of it: with -update-errors it is written.
func TestErrors(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: not root")
	}
	for _, tool := range []string{"bash", "unshare", "setpriv", "flock", "pkill", "python3"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("skipped: no %s", tool)
		}
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/syscache", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // one case runs it in a chroot
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// Other users must be able to run it.
	for dir := bin; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	all := readMistakes(t)
	var wg sync.WaitGroup
	slots := make(chan bool, 4)
	for _, m := range all {
		wg.Go(func() {
			slots <- true
			m.run(t, bin)
			<-slots
		})
	}
	wg.Wait()
	for _, m := range all {
		warned := m.code == 0 && strings.Contains(m.output, "warning: ")
		if m.output == "" || m.code == 0 && !warned || m.code < 0 || m.code > 7 {
			t.Errorf("%s: %s: exit code %d, %s", m.group, m.when, m.code, m.output)
		}
		if !warned && !strings.Contains(m.output, `hint: `) && !strings.Contains(m.output, `"hint":`) && !noHint[m.when] {
			t.Errorf("%s: %s: no hint: %s", m.group, m.when, m.output)
		}
	}
	got := errorsDocument(all)
	const file = "../../docs/ERRORS.md"
	if *updateErrors {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("docs/ERRORS.md is not what happens (-want +got):\n%s", d)
	}
	checkComplete(t, all)
}

// noHint are the cases in which there is nothing to do.
var noHint = map[string]bool{
	"Ctrl-C":                      true, // whoever pressed it knows
	"a row key that is not there": true, // an answer, not a mistake
}

func errorsDocument(all []*mistakeCase) string {
	var b strings.Builder
	b.WriteString(`# Errors

Every message that a mistake can cause, made by [a test](../cmd/syscache/testdata/errors/cases.txt) with the real command and written here by it
(` + "`make errors`" + `). The install is ` + "`/opt/app`" + `; what differs from run to run is normalised.
`)
	group := ""
	for _, m := range all {
		if m.group != group {
			group = m.group
			fmt.Fprintf(&b, "\n## %s\n", group)
		}
		fmt.Fprintf(&b, "\n%s: exit code %d of `%s`\n\n", upper(m.when), m.code, m.command())
		for line := range strings.SplitSeq(m.output, "\n") {
			b.WriteString("    " + line + "\n")
		}
	}
	return b.String()
}

// makers are the functions by which messages come to be.
var makers = regexp.MustCompile(`^(New|Errorf|usagef|at|mistake|mistaken|overtaken|tell|corrupt|untrusted|listMistake|leave)$`)

// notByPersons are messages, or beginnings of them, that no mistake causes, by
// the reason.
var notByPersons = map[string][]string{
	"only a Go program can make it: TestLoad, TestEmitRefused, TestParseKey and the like": {
		"it emitted a row", "a row was emitted after", "cache %s is declared twice", "%w: by this program and in %s", "this cannot be the name of a cache",
		"a negative duration", "it has no inputs", "it has both", "it has two functions", "each is for", "jobs %d: at most", "list of inputs %q", "latest is for the kind files", "it is of kind files and has nothing to build it",
		"this cache consists of files and has no rows", "parse key %q", "parse digest %q", "invalidate: %q cannot be the name of a cache",
		"%w: %s belongs to uid %d, and root runs no other user's builders", "it is not valid UTF-8; name the bytes by ? or *",
	},
	"it takes a race, or a file system, that other tests make: TestFaults, hashing's race tests, lock's, the suites": {
		"output %q changed while it was copied", "$SYSCACHE_OUT changed while it was opened", "write %s: %d bytes arrived", "read %s: %d rows of", "it was invalidated meanwhile", "another refresher, which no lock stopped",
		"%s changed while it was read", "witness %s changed while it was read", "it changes while it is read", "settle: %w", "lock %s: held by %v: %w",
		"another process keeps replacing the file", "unlock %s", "on another file system",
		"become uid %d, who owns %s", "capget: %w", "capset: %w", "leave the session's keyring", "%s/%s was left behind by another maintainer", "refresh: interrupted before", "every reader will miss: the times",
		"has times that certified nothing", "%s is not a regular file of a sensible size", "the table would be larger than",
		"row %d: the value is", "%s belongs to somebody unknown", "no verb given", "nowhere", "line %d of its output is longer",
	},
	"it is about bytes that were damaged: TestDamage, TestCorrupt and the fuzz targets make each; a person is told corrupt, in which file, and to refresh --force": {
		"inventory: ", "seen: ", "manifest: ", "format version 0", "meta ", "lengths in the header do not add up", "unknown flags", "files with the size of a table",
		"%d bytes after the header", "root %q is not absolute", "cache name %q", "header length %d", "unknown witness type", "witness flags",
		"witness path %q", "stat section", "table ", "row beyond the end", "row lengths", "row checksum", "row padding", "row at %d", "checksum of index page",
		"%s has %d bytes", "%d bytes at %d are beyond the end", "it is of the generation %s", "%w: %s/%s is of another generation", "%w: %s/%s does not have the key", "%w: %s names no root", "it does not have the key",
		"%w: %s/%s is not the one that %s names", "%w: rows out of order in %s", "%w: another table than %s/%s tells of", "origins ", "%w: %s is not what a refresh makes of its rows",
	},
}

// checkComplete checks that each message in the source was seen, or cannot be.
func checkComplete(t *testing.T, all []*mistakeCase) {
	t.Helper()
	var seen strings.Builder
	for _, m := range all {
		seen.WriteString(m.output + "\n")
	}
	excused := map[string]bool{}
	for _, list := range notByPersons {
		for _, s := range list {
			excused[s] = true
		}
	}
	found := 0
	used := map[string]bool{}
	for _, dir := range []string{".", "../../syscache", "../../syscache/refresh", "../../lock", "../../hashing", "../../internal/format", "../../internal/witness"} {
		for _, lit := range messages(t, dir) {
			found++
			if words(lit.text) < 6 || pattern(lit.text).MatchString(seen.String()) {
				continue
			}
			ok := false
			for s := range excused {
				if strings.HasPrefix(lit.text, s) {
					ok, used[s] = true, true
				}
			}
			if !ok {
				t.Errorf("%s: no case makes %q", lit.at, lit.text)
			}
		}
	}
	for s := range excused {
		if !used[s] {
			t.Errorf("%q need not be excused: it is made, or is there no more", s)
		}
	}
	if found < 200 {
		t.Errorf("only %d messages found: does this test still look at anything?", found)
	}
}

type message struct{ at, text string }

// messages returns what becomes a message in the files of a package.
func messages(t *testing.T, dir string) (all []message) {
	t.Helper()
	names, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(filepath.Base(name), "doctor") {
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			called := ""
			switch f := c.Fun.(type) {
			case *ast.Ident:
				called = f.Name
			case *ast.SelectorExpr:
				called = f.Sel.Name
			}
			if !makers.MatchString(called) {
				return true
			}
			for _, arg := range c.Args {
				if l, ok := arg.(*ast.BasicLit); ok && l.Kind == token.STRING {
					text, _ := strconv.Unquote(l.Value)
					all = append(all, message{set.Position(l.Pos()).String(), text})
				}
			}
			return true
		})
	}
	return all
}

var verb = regexp.MustCompile(`%[-+#0-9.]*[a-zA-Z]`)

// words counts the letters of a format that are its own.
func words(format string) int {
	return len(regexp.MustCompile(`[^a-zA-Z]`).ReplaceAllString(verb.ReplaceAllString(format, ""), ""))
}

// pattern returns what a format prints.
func pattern(format string) *regexp.Regexp {
	parts := verb.Split(format, -1)
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(strings.Join(parts, ".*"))
}
