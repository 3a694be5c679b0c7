// Plugins is the part of an imaginary application that knows its plugins. It
// shows how a program keeps a cache of its own in a shared install: see
// README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

const usage = `usage: plugins list [--root DIR] [PREFIX]      the plugins, with version and commands
       plugins which [--root DIR] COMMAND     the plugin that has a command
       plugins watch [--root DIR]             the list, then what changes of it
       plugins post-install [--root DIR] [--hook]
                                              bring the cache up to date
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{stdout: os.Stdout, stderr: os.Stderr}
	err := a.run(ctx, os.Args[1:])
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	default:
		a.tell(err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

// An app answers for one install.
type app struct {
	root           string
	stdout, stderr io.Writer
	warned         bool
}

func (a *app) run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	verb, args := args[0], args[1:]
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&a.root, "root", ownRoot(), "")
	hook := false
	if verb == "post-install" {
		flags.BoolVar(&hook, "hook", false, "")
	}
	if flags.Parse(args) != nil {
		return errUsage
	}
	switch args = flags.Args(); {
	case verb == "list" && len(args) <= 1:
		return a.list(ctx, strings.Join(args, ""))
	case verb == "which" && len(args) == 1:
		return a.which(ctx, args[0])
	case verb == "watch" && len(args) == 0:
		return a.watch(ctx)
	case verb == "post-install" && len(args) == 0:
		return a.postInstall(ctx, hook)
	}
	return errUsage
}

// ownRoot returns the root that this program is installed in, as bin/plugins.
func ownRoot() string {
	path, err := os.Executable()
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "/"
	}
	return filepath.Dir(filepath.Dir(path))
}

// tell prints an error for a person.
func (a *app) tell(err error) { fmt.Fprintln(a.stderr, "plugins:", err) }
