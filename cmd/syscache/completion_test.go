//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// choices returns what a shell is offered for the last of args.
func choices(t *testing.T, args ...string) []string {
	t.Helper()
	code, stdout, _ := call(t, append([]string{"__completeNoDesc"}, args...)...)
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	if code != 0 || !strings.HasPrefix(lines[len(lines)-1], ":") {
		t.Fatalf("%q: %d\n%s", args, code, stdout)
	}
	return lines[:len(lines)-1]
}

func TestCompleteCaches(t *testing.T) {
	root := sage(t)
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(root+"/"+path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+"/"+path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// A hostile name among the caches, and a file with a mistake among the
	// configuration: its caches are known all the same.
	for _, name := range []string{"$(touch pwned)", "st`id`", "-rf", "old"} {
		if err := os.Mkdir(root+"/var/cache/syscache/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/syscache.d/bad.toml", "[cache.strange]\ninputs = 1\n")
	before := tree(t, root)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"get", ""}, "old star-imports strange"},
		{[]string{"get", "st"}, "star-imports strange"},
		{[]string{"refresh", "old", ""}, "star-imports strange"},
		{[]string{"invalidate", "nonsense", "s"}, "star-imports strange"},
		{[]string{"path", "old", ""}, ""},
		{[]string{"get", "star-imports", ""}, "sage.rings.all"},
		{[]string{"list", "star-imports", "sage."}, "sage.rings.all"},
		{[]string{"list", "star-imports", "x"}, ""},
		{[]string{"list", "star-imports", "sage.rings.all", ""}, ""},
		{[]string{"get", "old", ""}, ""},
		{[]string{"version", ""}, ""},
		{[]string{"completion", ""}, "bash zsh fish"},
	} {
		if got := strings.Join(choices(t, append([]string{"--root", root}, tt.args...)...), " "); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.args, got, tt.want)
		}
	}
	if got := choices(t, "--root", root+"/none", "status", ""); len(got) > 0 {
		t.Errorf("no root: %q", got)
	}
	if after := tree(t, root); after != before {
		t.Errorf("completing changed the root:\n%s\nwas:\n%s", after, before)
	}
	// Stale data is as good for this.
	write("share/sage/MANIFEST", "22\n")
	if got := choices(t, "--root", root, "get", "star-imports", "sage"); !slices.Equal(got, []string{"sage.rings.all"}) {
		t.Errorf("stale: %q", got)
	}
}

// tree lists everything below dir with its time.
func tree(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", dir, "-printf", "%p %y %s %T@ %C@\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestCompleteRowKeys: what a shell might expand is not offered, nor the first
// few of many.
func TestCompleteRowKeys(t *testing.T) {
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	names := []string{"b$(id)", "b`id`", "b c", "b'", "b;c", "b\nc", "b\xff", "b\x1b[2J", "b*", "b~", "-b", "b.é_1"}
	for i := range maxRowKeys {
		names = append(names, fmt.Sprintf("a%03d", i))
	}
	for _, name := range names {
		if err := os.WriteFile(root+"/"+name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, stderr := call(t, "--root", root, "refresh"); code != 0 {
		t.Fatal(stderr)
	}
	if got := choices(t, "--root", root, "get", "files", "b"); !slices.Equal(got, []string{"b.é_1"}) {
		t.Errorf("%q", got)
	}
	if got := choices(t, "--root", root, "get", "files", "a"); len(got) != maxRowKeys {
		t.Errorf("%d keys", len(got))
	}
	if got := choices(t, "--root", root, "get", "files", ""); !slices.Equal(got, []string{"_activeHelp_ more than 100 row keys: type more"}) {
		t.Errorf("%q", got)
	}
}

// shells complete the line LINE, whose last word is empty or "st", with the
// script SCRIPT, and print what comes of it.
var shells = map[string]string{
	"bash": `
source /usr/share/bash-completion/bash_completion
source "$SCRIPT"
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9 COMP_KEY=9
COMP_WORDS=($LINE) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
__start_syscache
printf '%s\n' "${COMPREPLY[@]}"`,
	"zsh": `
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1= PS2= ; autoload -U compinit; compinit -D -u; source $SCRIPT; bindkey '^I' expand-or-complete; print READY\$((1))"
zpty -r shell out '*READY1*'
zpty -w -n shell "$LINE"$'\t'
zpty -w shell ' > /dev/null; print DONE$((1))'
zpty -r shell out '*DONE1*'
print -r -- "$out"`,
	"fish": `source $SCRIPT; complete -C "$LINE"`,
}

// TestShells: the scripts work in the shells they are for.
func TestShells(t *testing.T) {
	root := sage(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // zsh waits for what may never come
	defer cancel()
	for shell, completes := range shells {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				t.Skip("skipped: no " + shell)
			}
			if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); shell == "bash" && err != nil {
				t.Skip("skipped: no bash-completion")
			}
			code, text, stderr := call(t, "completion", shell)
			if code != 0 || stderr != "" {
				t.Fatalf("%d: %s", code, stderr)
			}
			script := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			for line, want := range map[string]string{
				"syscache --root " + root + " get st":                 "star-imports",
				"syscache --root " + root + " get star-imports sage.": "sage.rings.all",
				"syscache inval": "invalidate",
			} {
				cmd := exec.CommandContext(ctx, shell, "-c", completes)
				cmd.Env = append(os.Environ(), "LINE="+line, "SCRIPT="+script, "HOME="+t.TempDir(), "TERM=dumb", "GORACE=atexit_sleep_ms=0")
				out, err := cmd.Output()
				if err != nil || !strings.Contains(string(out), want) {
					t.Errorf("%s: %v: %s", line, err, out)
				}
			}
		})
	}
}
