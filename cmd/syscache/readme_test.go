//go:build unix

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/syscache/syscache/syscache/refresh"
)

// readmeBlocks returns the code blocks of README.md in one language.
func readmeBlocks(t *testing.T, language string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("README.md has no block in %s", language)
	}
	return blocks
}

// sage makes the install that README.md's examples speak of, and refreshes it.
func sage(t *testing.T) (root string) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "sage")
	for path, text := range map[string]string{
		"share/sage/MANIFEST":  "1\n",
		"lib/a.py":             "",
		"etc/syscache.toml":    readmeBlocks(t, "toml")[0],
		"libexec/star-imports": "#!/bin/sh\necho '{\"key\": \"sage.rings.all\", \"value\": [\"ZZ\"]}'\n",
	} {
		if err := os.MkdirAll(filepath.Dir(root+"/"+path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+"/"+path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, stderr := call(t, "--root", root, "refresh"); code != 0 {
		t.Fatal(stderr)
	}
	return root
}

// call runs the command in this process.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestReadmeGo(t *testing.T) {
	root := sage(t)
	code := strings.ReplaceAll(readmeBlocks(t, "go")[0], "/opt/sage", root)
	file := filepath.Join(t.TempDir(), "main.go")
	text := `package main

import (
	"fmt"

	"github.com/syscache/syscache/syscache"
)

func deriveItYourself() ([]byte, error) { return nil, fmt.Errorf("no cache") }

func find() ([]byte, error) {
` + code + `
	return value, err
}

func main() {
	value, err := find()
	fmt.Printf("%s %v\n", value, err)
}
`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "run", file).Output()
	if err != nil || string(out) != "[\"ZZ\"] <nil>\n" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestReadmePython(t *testing.T) {
	const python = "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		t.Skip("skipped: no " + python)
	}
	root := sage(t)
	code := strings.ReplaceAll(readmeBlocks(t, "python")[0], "/opt/sage", root)
	cmd := exec.Command(python, "-B", "-c", "def derive_it_yourself(): return b'no cache'\n"+code+"\nprint(value.decode())")
	cmd.Env = append(os.Environ(), "PYTHONPATH=../../clients/python")
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "[\"ZZ\"]\n" {
		t.Errorf("%v: %s", err, out)
	}
}

// TestReadmeCommands runs the first commands on a small root.
func TestReadmeCommands(t *testing.T) {
	root, dir := t.TempDir(), t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/VERSION", []byte("go1.99\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const program = "go run ./cmd/syscache "
	var commands [][]string
	for _, block := range readmeBlocks(t, "sh") {
		line, ok := strings.CutPrefix(block, program)
		if !ok {
			continue
		}
		line = strings.NewReplacer(`"$(go env GOROOT)"`, root, "~/.cache/syscache-demo", dir).Replace(line)
		commands = append(commands, strings.Fields(line))
	}
	want := []struct{ stdout, stderr string }{
		{"^$", `^syscache: files: built: 1 input, 1 row, [0-9]+ B, [0-9.]+m?s\n$`},
		{`^{"type":"file","size":7,"mode":"0644","digest":"[0-9a-f]{64}"}\n$`, "^$"},
	}
	if len(commands) != len(want) {
		t.Fatalf("%d commands: %q", len(commands), commands)
	}
	for i, args := range commands {
		code, stdout, stderr := call(t, args...)
		if code != 0 || !regexp.MustCompile(want[i].stdout).MatchString(stdout) || !regexp.MustCompile(want[i].stderr).MatchString(stderr) {
			t.Errorf("%q: %d\n%s%s", args, code, stdout, stderr)
		}
	}
}

// TestReadmeExitCodes: the table says what exit.go does, and no more.
func TestReadmeExitCodes(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for code, meaning := range exitMeanings {
		fmt.Fprintf(&want, "| %d | %s |\n", code, meaning)
	}
	_, table, _ := strings.Cut(string(text), "| code | meaning |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	if got := strings.ReplaceAll(table, "`", "") + "\n"; got != want.String() {
		t.Errorf("README.md says\n%sexit.go\n%s", got, want.String())
	}
}

// TestRootWithoutConfiguration: all of / is not walked unasked.
func TestRootWithoutConfiguration(t *testing.T) {
	if _, err := os.Lstat("/etc/syscache.toml"); err == nil {
		t.Skip("skipped: / is configured")
	}
	for _, verb := range []string{"refresh", "status", "verify"} {
		code, stdout, stderr := call(t, verb, "--root", "/")
		want := "syscache: " + refresh.ErrUnconfigured.Error() + "\nhint: declare one in /etc/syscache.toml (init proposes one), or name the install's directory with --root\n"
		if code != exitUsage || stdout != "" || stderr != want {
			t.Errorf("%s: %d\n%s%s", verb, code, stdout, stderr)
		}
	}
	// Nor does a hook take whoever's environment for an answer.
	root := sage(t)
	t.Setenv("SYSCACHE_ROOT", root)
	if err := os.RemoveAll(root + "/var"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := os.Lstat(root + "/var"); err == nil {
			t.Error("a hook refreshed $SYSCACHE_ROOT")
		}
	}()
	if code, stdout, stderr := call(t, "refresh", "--hook"); code != 0 || stdout != "" || stderr != "" {
		t.Errorf("--hook: %d\n%s%s", code, stdout, stderr)
	}
}
