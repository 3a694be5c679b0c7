//go:build unix

package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// unrunExample annotates a verb whose examples cannot be run as they are; its
// value says why.
const unrunExample = "unrun-example"

// commands returns the root command and all verbs.
func commands() []*cobra.Command {
	root := (&app{stdout: io.Discard, screen: &screen{w: io.Discard}}).command()
	return append([]*cobra.Command{root}, root.Commands()...)
}

// TestHelp: every screen has the same parts, and fits a terminal.
func TestHelp(t *testing.T) {
	for _, c := range commands() {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Long == "" || c.Example == "" {
			t.Errorf("%s: want a Short without a full stop, a Long and an Example", c.Name())
		}
		if c.HasParent() && c.GroupID == "" {
			t.Errorf("%s is in no group of help.go", c.Name())
		}
		args := []string{c.Name(), "--help"}
		if !c.HasParent() {
			args = args[1:]
		}
		code, stdout, stderr := call(t, args...)
		if code != 0 || stderr != "" {
			t.Errorf("%q: %d\n%s", args, code, stderr)
		}
		for line := range strings.SplitSeq(stdout, "\n") {
			if utf8.RuneCountInString(line) > 80 {
				t.Errorf("%q: wider than 80 columns: %s", args, line)
			}
		}
		if _, help, _ := call(t, append([]string{"help"}, args[:len(args)-1]...)...); help != stdout {
			t.Errorf("help %s is not %q:\n%s", c.Name(), args, help)
		}
	}
}

// TestHelpExamples runs every example in the help, in a shell.
func TestHelpExamples(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("skipped: no bash")
	}
	for _, c := range commands() {
		t.Run(c.Name(), func(t *testing.T) {
			if why := c.Annotations[unrunExample]; why != "" {
				t.Log("not run: " + why)
				return
			}
			home := t.TempDir()
			for _, dir := range []string{"/.local/share/bash-completion/completions", "/.config/fish/completions"} {
				if err := os.MkdirAll(home+dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for line := range strings.SplitSeq(c.Example, "\n") {
				root := sage(t)
				if c.Name() == "init" { // for who has no configuration yet
					os.RemoveAll(root + "/etc")
				} else {
					addSpider(t, root)
				}
				line = strings.NewReplacer("/opt/sage", root, "/opt/lmod", root).Replace(strings.TrimPrefix(line, "  "))
				cmd := exec.Command("bash", "-c", "set -o pipefail; "+line)
				cmd.Env = append(os.Environ(), "HOME="+home, "GORACE=atexit_sleep_ms=0")
				if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "not found") {
					t.Errorf("%s: %v\n%s", line, err, out)
				}
			}
		})
	}
}

// addSpider adds the cache of files that the examples speak of.
func addSpider(t *testing.T, root string) {
	t.Helper()
	for path, text := range map[string]string{
		"etc/syscache.d/spider.toml": "[cache.spider]\nkind = \"files\"\ninputs = [\"modulefiles/**\"]\nbuild = [\"libexec/spider\"]\n",
		"modulefiles/gcc":            "",
		"libexec/spider":             "#!/bin/sh\necho {} > \"$SYSCACHE_OUT/spiderT.json\"\n",
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
}

func TestNearest(t *testing.T) {
	names := []string{"star-imports", "spider", "files", "old"}
	for name, want := range map[string]string{
		"star-import": "star-imports", "satr-imports": "star-imports", "Star-Imports": "star-imports", "star": "star-imports",
		"fils": "files", "odl": "old", "spdier": "spider", "files": "", "nonsense": "", "spdire": "spider", "x": "", "": "",
	} {
		if got := nearest(name, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", name, got, want)
		}
	}
}
