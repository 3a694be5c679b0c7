package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/syscache/syscache/internal/environ"
	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

// app is the command line: what all verbs share.
type app struct {
	stdout io.Writer
	screen *screen // stderr
	flags  *pflag.FlagSet

	refreshed sync.Mutex // of lines on stdout of refreshes side by side

	root     string
	cacheDir string
	json     bool
	quiet    bool
	hook     bool
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "syscache [OPTION...] VERB [ARGUMENT...]",
		Short: "Keep data derived from a shared install fresh, for every user of it",
		Long: `syscache keeps data that is slow to derive from a shared install: derived once,
when the install changes, and read by every user without locks or privilege.

The install's owner declares what to derive in etc/syscache.toml below it, and
refreshes it after every change. Everybody reads it, or asks why it is stale.`,
		Example: `  syscache --root /opt/sage refresh
  syscache --root /opt/sage status
  syscache --root /opt/sage get star-imports sage.rings.all`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(c, args[0])
			}
			return a.noVerb(c)
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.SetFlagErrorFunc(flagError)
	flags := root.PersistentFlags()
	a.flags = flags
	flags.StringVar(&a.root, "root", "", "the install's `directory` (default $SYSCACHE_ROOT, else /)")
	flags.StringVar(&a.cacheDir, "cache-dir", "", "the `directory` where caches are kept (default $SYSCACHE_CACHE_DIR, else var/cache/syscache under the root)")
	for _, name := range []string{"root", "cache-dir"} {
		root.MarkPersistentFlagDirname(name)
	}
	flags.BoolVar(&a.json, "json", a.json, "print results, and errors, as JSON")
	flags.Lookup("json").DefValue = "false" // what it is was looked at before
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print nothing but results and errors")
	root.AddCommand(
		a.initCommand(), a.refreshCommand(), a.invalidateCommand(), a.statusCommand(), a.getCommand(),
		a.listCommand(), a.pathCommand(), a.verifyCommand(), a.diffCommand(), a.gcCommand(), a.configCommand(), a.doctorCommand(), a.versionCommand(),
		a.completionCommand(),
	)
	for _, c := range root.Commands() {
		c.Args = usageArgs(c.Args)
		if c.ValidArgs == nil && c.ValidArgsFunction == nil {
			c.ValidArgsFunction = a.complete
		}
	}
	a.screens(root)
	return root
}

func (a *app) hookFlag(c *cobra.Command, usage string) {
	c.Flags().BoolVar(&a.hook, "hook", a.hook, usage)
	c.Flags().Lookup("hook").DefValue = "false" // what it is was looked at before
}

// usageArgs makes the errors of a check of arguments usage errors.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		if err := check(c, args); err != nil {
			return argumentError(c, err)
		}
		return nil
	}
}

// rootDir returns the root that was asked for. A package hook asks with
// --root or means /: its environment is whoever ran the package manager's.
func (a *app) rootDir() (string, error) {
	root := a.root
	if root == "" && a.flags.Changed("root") {
		// A script's variable that is not set must not stand for /.
		return "", usagef("name the directory of an install, or / for the system's", "--root is empty")
	}
	if root == "" && !a.hook {
		root = environ.Get("SYSCACHE_ROOT")
	}
	if root == "" {
		root = "/"
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", usagef("name the directory of an install: --root", "root %s: no such directory", root)
	case err != nil:
		return "", &refresh.HintedError{
			Err:  fmt.Errorf("root %s: %w", root, errors.Unwrap(err)),
			Hint: fmt.Sprintf("name one that you, uid %d, can reach: look at the modes of the directories above it", os.Geteuid()),
		}
	case !fi.IsDir():
		return "", usagef("name the directory of an install: --root", "root %s: not a directory", root)
	}
	return abs, nil
}

// cacheDirs returns the one cache_dir that was asked for, or nil.
func (a *app) cacheDirs() ([]string, error) {
	dir := a.cacheDir
	if dir == "" && a.flags.Changed("cache-dir") {
		return nil, usagef("name a directory, or leave out --cache-dir", "--cache-dir is empty")
	}
	if dir == "" && !a.hook {
		dir = environ.Get("SYSCACHE_CACHE_DIR")
		if dir != "" && !filepath.IsAbs(dir) {
			return nil, usagef("unset it, or make it absolute", "SYSCACHE_CACHE_DIR=%s: not an absolute path", dir)
		}
	}
	if dir == "" {
		return nil, nil
	}
	abs, err := filepath.Abs(dir)
	return []string{abs}, err
}

// load loads the install, for verbs that read its configuration. What root could
// read, and the owner of the install could not, is not looked at for them.
func (a *app) load() (*refresh.Install, error) {
	root, err := a.rootDir()
	if err != nil {
		return nil, err
	}
	if err := refresh.BecomeOwner(root); err != nil {
		return nil, err
	}
	o := &refresh.LoadOptions{Warn: a.warn}
	dirs, err := a.cacheDirs()
	if err != nil {
		return nil, err
	}
	if len(dirs) > 0 {
		o.CacheDir = dirs[0]
	}
	return refresh.Load(root, o)
}

// open opens a cache for reading. It reads no configuration.
func (a *app) open(cache string, stale bool) (*syscache.Reader, error) {
	root, err := a.rootDir()
	if err != nil {
		return nil, err
	}
	dirs, err := a.cacheDirs()
	if err != nil {
		return nil, err
	}
	r, err := syscache.Open(root, cache, &syscache.ReadOptions{CacheDirs: dirs, AllowStale: stale})
	if err == nil && r.Stale() != nil {
		a.note(fmt.Sprintf("%s: %v", cache, r.Stale()))
	}
	return r, err
}

// warn tells what no error says, unless it should be quiet.
func (a *app) warn(msg string) {
	if a.json {
		a.note(msg)
		return
	}
	a.note("warning: " + msg)
}

// note prints a line for a person.
func (a *app) note(msg string) {
	switch {
	case a.quiet || a.hook:
	case a.json:
		a.screen.print(jsonLine(map[string]string{"warning": msg}))
	default:
		a.screen.print("syscache: " + visible(msg) + "\n")
	}
}

// printJSON prints v as one line of JSON.
func (a *app) printJSON(v any) error {
	_, err := io.WriteString(a.stdout, jsonLine(v))
	return err
}

// jsonLine returns v as one line of JSON. It is one of our own types, all of
// which can be encoded.
func jsonLine(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return b.String()
}
