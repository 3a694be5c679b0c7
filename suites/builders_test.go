//go:build linux

package suites

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// A builder that fails, in whatever way: one message that says why with what it
// wrote to stderr, exit 1, the old data kept for who accepts it, nothing left
// behind, the reason in status, and the next refresh heals (I10).
func TestBuildersThatFail(t *testing.T) {
	for _, c := range []struct {
		name, script string
		says         []string // in the message
		files        bool     // kind files
	}{
		{"fails", "echo row 1 >&2; echo boom >&2; exit 3", []string{"exit status 3", "  | boom"}, false},
		{"is killed", "echo gone >&2; kill -9 $$", []string{"killed", "  | gone"}, false},
		{"hangs", "echo hung >&2; sleep 1000 & sleep 1000", []string{"not finished after 4s", "  | hung"}, false},
		{"hangs and ignores signals", "trap '' TERM INT HUP; sleep 1000", []string{"not finished after 4s"}, false},
		{"leaves a process that holds its output", `echo left >&2; sleep 1000 & printf '{"key":"k","value":1}\n'`, []string{"left a process behind", "  | left"}, false},
		{"leaves a daemon that holds its output", `setsid sleep 1000 & printf '{"key":"k","value":1}\n'`, []string{"left a process behind"}, false},
		{"prints a bad row", `printf '{"key":"k","value":1}\n{"key":}\n'`, []string{"line 2"}, false},
		{"prints half a row", `printf '{"key":"k","value":1}\n{"key":"l","val'`, []string{"line 2"}, false},
		{"prints an unknown field", `printf '{"key":"k","value":1,"x":2}\n'`, []string{"line 1", "x"}, false},
		{"prints no key", `printf '{"value":1}\n'`, []string{"line 1", "key"}, false},
		{"prints a duplicate row", `printf '{"key":"k","value":1}\n{"key":"l","value":1}\n{"key":"k","value":2}\n'`, []string{"row 3", "row 1", `"k"`}, false},
		{"prints an empty line", `printf '{"key":"k","value":1}\n\n{"key":"l","value":1}\n'`, []string{"line 2", "empty"}, false},
		{"prints invalid UTF-8", `printf '{"key":"k","value":1}\n{"key":"\377","value":1}\n'`, []string{"line 2", "UTF-8"}, false},
		{"prints a bad row and fails", `printf 'Traceback\n'; echo the cause >&2; exit 1`, []string{"exit status 1", "  | the cause"}, false},
		{"prints escapes to stderr", `printf '\033[2Jboom\n' >&2; exit 1`, []string{"  | \uFFFD[2Jboom"}, false},
		{"changes its inputs each time", `date +%N >lib/one`, []string{"lib/one", "changed"}, false},
		{"prints rows for kind files", `printf '{"key":"k","value":1}\n'`, []string{"SYSCACHE_OUT"}, true},
		{"makes a link out, absolute", `ln -s /etc/passwd "$SYSCACHE_OUT/l"`, []string{"/etc/passwd", "outside"}, true},
		{"makes a link out, upwards", `mkdir "$SYSCACHE_OUT/d"; ln -s ../../x "$SYSCACHE_OUT/d/l"`, []string{"../../x", "outside"}, true},
		{"makes a link out, by a detour", `mkdir "$SYSCACHE_OUT/d"; ln -s d/../../x "$SYSCACHE_OUT/l"`, []string{"d/../../x", "outside"}, true},
		{"makes a FIFO", `mkfifo "$SYSCACHE_OUT/p"`, []string{`"p"`}, true},
		{"makes its output a link", `rmdir "$SYSCACHE_OUT"; ln -s /etc "$SYSCACHE_OUT"`, nil, true},
		{"leaves directories that cannot be listed", `mkdir -p "$SYSCACHE_OUT/d/e"; chmod 0 "$SYSCACHE_OUT/d"; exit 1`, []string{"exit status 1"}, true},
		{"leaves directories that cannot be written", `mkdir "$SYSCACHE_OUT/d"; echo >"$SYSCACHE_OUT/d/f"; chmod 0555 "$SYSCACHE_OUT/d"; exit 1`, []string{"exit status 1"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name != "fails" {
				slow(t)
			}
			r := newRoot(t, alice)
			r.fill()
			settings, good := `timeout = "4s"`, `printf '{"key":"lib/one","value":"old"}\n'`
			if c.files {
				settings += "\nkind = \"files\""
				good = `echo old >"$SYSCACHE_OUT/one"`
			}
			r.build("#!/bin/sh\n"+good+"\n", settings)
			r.refresh()
			mark := "SIDE=" + r.side
			r.build("#!/bin/sh\n"+c.script+"\n", settings)
			o := r.refused()
			if n := strings.Count(o.stderr, "syscache: "); n != 1 || o.stdout != "" {
				t.Errorf("want one message: %v", o)
			}
			for _, s := range c.says {
				if !strings.Contains(o.stderr, s) {
					t.Errorf("it does not say %q: %v", s, o)
				}
			}
			if o.took > 15*time.Second {
				t.Errorf("it took %v", o.took)
			}
			if strings.Contains(c.name, "daemon") {
				// It left the builder's process group, and only has to be
				// left behind in turn.
				for _, p := range processes(t, mark) {
					kill(t, p)
				}
			}
			// Killed, but on a busy machine not yet gone.
			eventually(t, "the builder's processes are gone", func() bool { return len(processes(t, mark)) == 0 })
			r.noLitter("c")
			r.hasOnlyOld(c.files)
			status := r.read(alice, goReader, "status", "c")
			if status.code != 4 || !strings.Contains(status.stdout, "the last refresh failed at") {
				t.Errorf("status: %v", status)
			}
			r.build("#!/bin/sh\n"+good+"\n# mended\n", settings)
			r.refresh()
			if status := r.read(alice, goReader, "status", "c"); status.code != 0 || strings.Contains(status.stdout, "failed") {
				t.Errorf("status once healed: %v", status)
			}
		})
	}
}

// hasOnlyOld checks that the cache is stale and its old data kept.
func (r *root) hasOnlyOld(files bool) {
	r.t.Helper()
	verb, want := []string{"get", "--stale", "c", "lib/one"}, "\"old\"\n"
	if files {
		verb, want = []string{"list", "--stale", "c"}, "one\n"
	}
	if o := r.read(bob, goReader, verb...); o.code != 0 || o.stdout != want {
		r.t.Errorf("%v: %v", verb, o)
	}
	for _, how := range readers {
		if o := r.read(bob, how, "list", "c"); o.code != 4 || o.stdout != "" {
			r.t.Errorf("list (%s): %v", how.name, o)
		}
	}
}

// Inputs that change under a build are seen by the check after it, and the
// build of a torn tree is never published. LESSONS: "Recording a witness after
// the scan certifies what was never scanned; before is right, and once more
// after the build."
func TestInputsChangedDuringTheBuild(t *testing.T) {
	for _, c := range []struct{ name, change string }{
		{"edited", `echo new >lib/one`},
		{"edited, size and mtime put back", `touch -r lib/one "$SIDE/t"; echo 9999 >lib/one; touch -r "$SIDE/t" lib/one`},
		{"edited and taken back", `echo 9999 >lib/one; seen=$(cat lib/one); echo 1111 >lib/one`},
		{"added", `echo >lib/new`},
		{"added and removed again", `echo >lib/new; seen=new; rm lib/new`},
		{"recipe edited", `echo >libexec/more`},
		{"recipe edited and taken back", `echo 9 >libexec/data; seen=$(cat libexec/data); echo 1 >libexec/data`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRoot(t, admin)
			r.fill()
			r.write("libexec/data", "1\n")
			r.build(`#!/bin/sh
set -e
echo built >>"$LOG"
if [ "$(wc -l <"$LOG")" = 1 ]; then ` + c.change + `; fi
printf '{"key":"run","value":"%s"}\n' "$(wc -l <"$LOG")$seen"
`)
			r.refresh()
			r.holds("run", `"2"`)
		})
	}
}

// Outputs are copied: neither a builder's open descriptor nor a second name
// changes what was published (I5). LESSONS: "A builder's open descriptor
// rewrote a root-owned 0444 file after publication".
func TestOutputsAreNotTheBuilders(t *testing.T) {
	r := newRoot(t, alice)
	r.fill()
	r.write(r.side+"/shared", "original\n")
	r.build(`#!/bin/sh
set -e
ln "$SIDE/shared" "$SYSCACHE_OUT/linked"
echo original >"$SYSCACHE_OUT/held"
chmod 0444 "$SYSCACHE_OUT/held"
chmod 0644 "$SYSCACHE_OUT/held"
exec 3<>"$SYSCACHE_OUT/held" 4<>"$SYSCACHE_OUT/linked"
setsid sh -c 'echo >"$SIDE/ready"; until [ -e "$SIDE/published" ]; do sleep 0.01; done; echo rewritten >&3; echo rewritten >&4; echo >"$SIDE/rewritten"' >/dev/null 2>&1 &
until [ -e "$SIDE/ready" ]; do sleep 0.01; done
`, `kind = "files"`)
	r.refresh()
	r.must(os.WriteFile(r.side+"/published", nil, 0o644))
	eventually(t, "the builder's daemon has written", func() bool {
		_, err := os.Stat(r.side + "/rewritten")
		return err == nil
	})
	if got := r.readFile(r.side + "/shared"); got != "rewritten\n" {
		t.Fatalf("the daemon wrote nothing: %q", got)
	}
	r.check("c")
	dir := strings.TrimSpace(r.read(bob, pythonReader, "path", "c").stdout)
	for _, name := range []string{"held", "linked"} {
		if got := r.readFile(dir + "/" + name); got != "original\n" {
			t.Errorf("%s was changed after it was published: %q", name, got)
		}
	}
}

// A builder may write what only it could have removed: read-only directories,
// as copied from a module cache or a Nix store.
func TestReadOnlyOutputDirectories(t *testing.T) {
	r := newRoot(t, alice)
	r.fill()
	const script = `#!/bin/sh
set -e
mkdir -p "$SYSCACHE_OUT/d/e"
echo f >"$SYSCACHE_OUT/d/e/f"
chmod 0444 "$SYSCACHE_OUT/d/e/f"
chmod 0555 "$SYSCACHE_OUT/d/e" "$SYSCACHE_OUT/d"
`
	r.build(script, `kind = "files"`)
	r.refresh()
	r.build(script+"#\n", `kind = "files"`, `keep = "1ms"`) // the old one is collected
	r.refresh()
}

// Ten million rows: sorted in bounded memory, and each found again. The bound
// is DESIGN.md's spirit rather than its letter: no builder's output may take a
// machine down.
func TestTenMillionRows(t *testing.T) {
	slow(t)
	const rows, most = 10_000_000, 400 << 20
	r := newRoot(t, admin)
	r.fill()
	// Descending, so that nothing comes sorted.
	r.build(fmt.Sprintf("#!/bin/sh\n"+`exec awk 'BEGIN { for (i = %d; i > 0; i--) printf "{\"key\":\"k%%08d\",\"value\":%%d}\n", i, i }'`+"\n", rows))
	o := run(t, as(admin, r.syscache("refresh", "--json")...))
	if o.code != 0 || !strings.Contains(o.stdout, fmt.Sprintf(`"rows":%d`, rows)) {
		t.Fatalf("refresh: %v", o)
	}
	peak := o.usage.Maxrss << 10
	t.Logf("peak of the refresh: %d MiB in %v", peak>>20, o.took.Round(time.Second))
	if peak > most {
		t.Errorf("more than %d MiB", most>>20)
	}
	everybody(t, []user{bob}, func(t *testing.T, u user, how reader) {
		for _, n := range []int{1, 2, 4_999_999, rows} {
			o := r.read(u, how, "get", "c", fmt.Sprintf("k%08d", n))
			if o.code != 0 || o.stdout != fmt.Sprintln(n) {
				t.Errorf("%s: row %d: %v", how.name, n, o)
			}
		}
		for _, key := range []string{"k00000000", "k10000001", "", "k"} {
			if o := r.read(u, how, "get", "c", key); o.code != 3 {
				t.Errorf("%s: %q: %v", how.name, key, o)
			}
		}
	})
	if o := r.read(admin, goReader, "verify", "c"); o.code != 0 {
		t.Errorf("verify: %v", o)
	}
}
