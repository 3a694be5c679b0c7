//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/lock"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "syscache" { // as which a script runs us
		unix.Umask(0o022) // a checkout's modes are part of what is tested
	}
	testscript.Main(m, map[string]func(){"syscache": main})
}

// TestScripts runs testdata/script. Besides the usual commands there are
//
//	exits CODE ARG...   run syscache and want this exit code; a failure (but
//	                    that of status and verify, which are results) must
//	                    print nothing on stdout
//	same FILE           want stderr, or with -stdout stdout, to be FILE, word
//	                    for word, where ROOT stands for the root
//	flip FILE [OFFSET]  change one bit
//	hold CACHE          hold the cache's lock until the script ends
//	root                skip unless root
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:             "testdata/script",
		ContinueOnError: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("ROOT", e.WorkDir+"/root")
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else a second a command, under the race detector
			e.Setenv("CACHES", e.WorkDir+"/root/var/cache/syscache")
			return errors.Join(os.MkdirAll(e.WorkDir+"/root/share", 0o755), os.MkdirAll(e.WorkDir+"/bin", 0o755))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "same": same, "flip": flip, "hold": hold,
			"fifo": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(unix.Mkfifo(ts.MkAbs(args[0]), 0o644))
			},
			"chown": func(ts *testscript.TestScript, _ bool, args []string) {
				uid, err := strconv.Atoi(args[0])
				ts.Check(err)
				ts.Check(os.Lchown(ts.MkAbs(args[1]), uid, uid))
			},
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits code [arg...]")
	}
	err := ts.Exec("syscache", args[1:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(args, w) })
	}
	partial := says("--json", "status", "verify", "config", "doctor") || args[0] == "3"
	if code != 0 && !partial && ts.ReadFile("stdout") != "" {
		ts.Fatalf("a failure printed on stdout")
	}
	if code == 0 && !says("refresh", "invalidate", "gc", "init", "--stale") && ts.ReadFile("stderr") != "" {
		ts.Fatalf("a success printed on stderr")
	}
}

func same(ts *testscript.TestScript, neg bool, args []string) {
	stream := "stderr"
	if args[0] == "-stdout" {
		stream, args = "stdout", args[1:]
	}
	got := strings.ReplaceAll(ts.ReadFile(stream), ts.Getenv("ROOT"), "ROOT")
	if want := ts.ReadFile(args[0]); (got == want) == neg {
		ts.Fatalf("%s:\n%swant:\n%s", stream, got, want)
	}
}

func flip(ts *testscript.TestScript, _ bool, args []string) {
	matches, err := filepath.Glob(ts.MkAbs(args[0]))
	if err != nil || len(matches) != 1 {
		ts.Fatalf("%s: %q, %v", args[0], matches, err)
	}
	b, err := os.ReadFile(matches[0])
	ts.Check(err)
	at := len(b) / 2
	if len(args) > 1 {
		at, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	b[at] ^= 1
	ts.Check(os.WriteFile(matches[0], b, 0o644))
}

func hold(ts *testscript.TestScript, _ bool, args []string) {
	l, err := lock.Acquire(context.Background(), ts.Getenv("CACHES")+"/"+args[0]+"/lock", &lock.Options{Wait: time.Second})
	ts.Check(err)
	ts.Defer(func() { l.Release() })
}
