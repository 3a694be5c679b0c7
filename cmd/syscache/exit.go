package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/syscache/syscache/lock"
	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

// The exit codes. This is the one place where they are decided and described:
// README.md and syscache(1) say the same.
const (
	exitOK = iota
	exitFailure
	exitUsage
	exitNotFound
	exitMissing
	exitHeld
	exitCorrupt
	exitUntrusted
)

// exitMeanings says what each exit code means.
var exitMeanings = []string{
	exitOK:        "done; for status: all fresh; refresh --hook and invalidate --hook: always",
	exitFailure:   "failure, or interrupted",
	exitUsage:     "a mistake on the command line",
	exitNotFound:  "row key not found, in a good cache",
	exitMissing:   "missing, stale, or of a newer format",
	exitHeld:      "another refresh held the lock for too long",
	exitCorrupt:   "corrupt",
	exitUntrusted: "untrusted",
}

// A usageError is a mistake on the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }

func usagef(hint, format string, args ...any) error {
	return &refresh.HintedError{Err: usageError{fmt.Errorf(format, args...)}, Hint: hint}
}

// exitCode returns the exit code for what a verb returned.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, new(usageError)), errors.Is(err, refresh.ErrUndeclared), errors.Is(err, refresh.ErrUnconfigured):
		return exitUsage
	case errors.Is(err, syscache.ErrNotFound):
		return exitNotFound
	case errors.Is(err, syscache.ErrUntrusted):
		return exitUntrusted
	case errors.Is(err, syscache.ErrCorrupt):
		return exitCorrupt
	case errors.Is(err, syscache.ErrMissing), errors.Is(err, syscache.ErrStale), errors.Is(err, syscache.ErrTooNew):
		return exitMissing
	case errors.As(err, new(*lock.HeldError)):
		return exitHeld
	}
	return exitFailure
}

// tell prints err: what it joins one by one, each with its hint.
func (a *app) tell(err error) {
	if errs := joined(err); errs != nil {
		told := map[string]bool{} // of many caches it may be the same
		for _, e := range errs {
			if !told[e.Error()] {
				a.tell(e)
			}
			told[e.Error()] = true
		}
		return
	}
	c := complaint{Error: err.Error(), Hint: cmp.Or(a.didYouMean(err), hint(err)), Exit: exitCode(err)}
	var build *refresh.BuildError
	if errors.As(err, &build) {
		c.Stderr = build.Stderr
	}
	a.complain(c)
}

// joined returns the errors that errors.Join made err of, directly or below an
// error that adds nothing to the message; nil if it did not.
func joined(err error) []error {
	var many interface{ Unwrap() []error }
	if !errors.As(err, &many) {
		return nil
	}
	var msgs []string
	for _, e := range many.Unwrap() {
		msgs = append(msgs, e.Error())
	}
	if strings.Join(msgs, "\n") != err.Error() {
		return nil // fmt.Errorf has many in one, too
	}
	return many.Unwrap()
}

// A complaint is what is told of an error.
type complaint struct {
	Error  string `json:"error"`
	Hint   string `json:"hint,omitempty"`
	Stderr string `json:"stderr,omitempty"` // of a builder
	Exit   int    `json:"exit"`
}

func (a *app) complain(c complaint) {
	if a.json {
		a.screen.print(jsonLine(c))
		return
	}
	lines := "syscache: " + visible(c.Error) + "\n"
	if c.Stderr != "" {
		for line := range strings.SplitSeq(c.Stderr, "\n") {
			lines += "  | " + visible(line) + "\n"
		}
	}
	if c.Hint != "" {
		lines += "hint: " + visible(c.Hint) + "\n"
	}
	a.screen.print(lines)
}

// hint returns what to do about err.
func hint(err error) string {
	var read *syscache.Error
	var hinted *refresh.HintedError
	var config *refresh.ConfigError
	var build *refresh.BuildError
	var held *lock.HeldError
	var usage usageError
	switch {
	case errors.Is(err, context.Canceled):
		return "" // whoever pressed Ctrl-C knows
	case errors.As(err, &read) && read.Hint != "":
		return read.Hint
	case errors.As(err, &hinted):
		return hinted.Hint
	case errors.As(err, &config):
		return config.Hint
	case strings.HasPrefix(err.Error(), "write /dev/stdout"):
		return "what standard output leads to did not take it all: make room there, or lead it elsewhere"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room on that file system and refresh again; until then readers miss"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "too many files are open at once: raise the limit (ulimit -n), or the system's, and try again"
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		return "the system, or a limit (ulimit -u, -v), has no more processes or memory to give: try again when it has"
	case errors.Is(err, syscall.EFBIG):
		return "what is written is larger than a limit (ulimit -f) or the file system allows: raise that, or make it smaller"
	case errors.As(err, &build):
		return "mend the builder and refresh again; status tells what readers have until then"
	case errors.As(err, &held):
		return "wait longer with --wait, or look what that process is doing"
	case errors.Is(err, refresh.ErrUnconfigured):
		return "declare one in /etc/syscache.toml (init proposes one), or name the install's directory with --root"
	case errors.Is(err, refresh.ErrUndeclared):
		return "declare it in etc/syscache.toml under the root"
	case errors.As(err, &usage):
		return "see syscache --help"
	case errors.Is(err, refresh.ErrNotOwner):
		return "refresh, invalidate, gc and init are for who may write the install: run it as its owner, or as root"
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("you are uid %d: refresh, invalidate, gc and init are for who may write the install, its owner or root", os.Geteuid())
	case errors.Is(err, syscall.EROFS):
		return "keep the caches of a read-only install elsewhere: --cache-dir"
	}
	return ""
}
