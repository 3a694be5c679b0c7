// The syscache command: see README.md, or `syscache --help`.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// version is set by the build of a package.
var version = "0.1.0"

// inheritedUmask is what doctor tells of.
var inheritedUmask int

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), interrupts()...)
	// The second signal is the kernel's to deal with: something may hang that
	// hears no context.
	context.AfterFunc(ctx, stop)
	// What builders write, too, must not depend on the caller's.
	inheritedUmask = umask(0o022)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	os.Exit(code)
}

// interrupts returns the signals that end what runs: not those that the caller
// has us ignore, as nohup does.
func interrupts() []os.Signal {
	return slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
}

// run is main without the exit: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	// Known before the flags are parsed: a mistake among them must not fail a
	// package manager's transaction either, and is told as all others are.
	a := &app{stdout: stdout, screen: &screen{w: stderr}, hook: asksForHook(args), json: slices.Contains(flagsOf(args), "--json")}
	root := a.command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if a.hook {
		// Whatever happened: a hook that fails leaves packages half
		// installed. What there was to say has been said, or is now.
		if err != nil {
			a.complain(complaint{Error: oneLine(err.Error())})
		}
		return exitOK
	}
	if err != nil && !errors.As(err, new(toldError)) {
		a.tell(err)
	}
	return exitCode(err)
}

// asksForHook says whether --hook is among the flags of a verb that has it.
func asksForHook(args []string) bool {
	args = flagsOf(args)
	return slices.Contains(args, "--hook") && (slices.Contains(args, "refresh") || slices.Contains(args, "invalidate"))
}

// flagsOf returns the arguments among which there are flags.
func flagsOf(args []string) []string {
	if end := slices.Index(args, "--"); end >= 0 {
		return args[:end]
	}
	return args
}

// A toldError is one that the user has been told already.
type toldError struct{ error }

func (e toldError) Unwrap() error { return e.error }

// oneLine makes s fit a single line of a package manager's log.
func oneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ") }
