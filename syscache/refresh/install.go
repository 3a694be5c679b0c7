package refresh

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/syscache"
)

// An Install is a root with the caches declared for it, as they were when it
// was loaded. It holds nothing open. Its methods may be called by several
// goroutines at once: those that change a cache take its lock, which excludes
// other goroutines as it does other processes.
//
// A method that is given the name of a cache touches no other one. To refresh
// only its own caches, a program gives their names; those of the configuration
// and of other programs stay as they are.
type Install struct {
	root     string // absolute, without symbolic links
	cacheDir string // absolute
	internal bool   // the cache_dir is one of the root's own
	image    bool   // it is the one that an image ships
	named    bool   // the caller named it
	links    error  // why what its name goes through is not to be followed
	caches   []Cache
	sources  []Source
	owner    ownership
	disk     disk
	warn     func(string)

	unconfigured bool
}

// builtinCache is the one cache of a root that declares none.
const builtinCache = "files"

// ErrUnconfigured is the error of Load where the root is /, no cache is
// declared and none was: to derive something from all of it is too much to do
// unasked.
var ErrUnconfigured = errors.New("no cache is configured, and a table of all of / is not made unasked")

// LoadOptions modify Load. The zero value is useful.
type LoadOptions struct {
	// CacheDir is where caches are kept; "": <root>/var/cache/syscache.
	CacheDir string
	// Caches are declared by the program, besides those in the configuration.
	// One of a name that is configured as well is an error.
	Caches []Cache
	// Warn is told what a person should know and no error says, a line each
	// time; nil: nobody. Refreshes of several goroutines call it at once.
	Warn func(string)
}

// Build derives a cache in this process. For a table it emits each row once,
// in any order; for files it emits none and writes them under in.Out, where
// they are copied from when it has returned. It returns when it is done, and
// promptly when ctx is.
//
// emit keeps neither key nor value, which the caller may use again at once. It
// may be called by several goroutines, but not after Build has returned. Its
// error is that of a row that cannot be taken, or of ctx: the build has then
// failed, whatever Build returns.
//
// A Build that returns an error or panics publishes nothing; the error of
// Refresh is then a *BuildError, of a panic with its stack in Stderr. (A panic
// in a goroutine that Build started ends the program, and the next refresh
// sweeps.) Build may be called more than once in a refresh, where something
// changes meanwhile, and not at all.
//
// What is promised of commands is not of functions: a Build has the process's
// credentials, environment, umask and directory, and no time limit but that of
// ctx. It should look at nothing but in, or its result depends on what is not
// in the key.
type Build func(ctx context.Context, in Inputs, emit func(key, value []byte) error) error

// EachBuild derives the rows of one input of a table: none, one or many. They may
// depend on that input and on what BuildVersion and the recipe stand for, on
// nothing else: in has neither Files nor a Key, and Out is nobody's alone.
// It is called for each input that is new or changed, by as many goroutines as
// Cache.Jobs says; in all else it is as a Build. Of two inputs that emit one row
// key the refresh fails.
type EachBuild func(ctx context.Context, in Inputs, input hashing.Input, emit func(key, value []byte) error) error

// Inputs is what a builder works from. It is valid until Build returns, and
// not to be changed.
type Inputs struct {
	Root  string          // absolute, without symbolic links
	Key   syscache.Key    // of the generation to be built
	Files []hashing.Input // sorted by path, which is relative to Root
	Out   string          // an empty directory to write files to; of a table they are thrown away
}

// Load reads and vets the configuration of the install at root. It changes
// nothing. A mistake in a file of it is no error: that file's caches are not
// declared then, and Mistakes tells why. An error is that the root is not
// there or everybody can write it, a mistake in o.Caches, or ErrUnconfigured:
// with that the Install is returned all the same.
//
// As root, call BecomeOwner first.
func Load(root string, o *LoadOptions) (*Install, error) {
	if o == nil {
		o = &LoadOptions{}
	}
	in := &Install{disk: realDisk{}, warn: o.Warn}
	if in.warn == nil {
		in.warn = func(string) {}
	}
	if err := in.locate(root, o.CacheDir); err != nil {
		return nil, err
	}
	in.sources = in.readSources()
	for i := range in.sources {
		if len(in.sources[i].Mistakes) == 0 {
			in.caches = append(in.caches, in.sources[i].caches...)
		}
	}
	in.caches = append(in.caches, o.Caches...)
	slices.SortFunc(in.caches, func(a, b Cache) int { return strings.Compare(a.Name, b.Name) })
	for i := range in.caches {
		if err := in.caches[i].check(); err != nil {
			return nil, err
		}
		if i > 0 && in.caches[i].Name == in.caches[i-1].Name {
			return nil, declaredTwice(&in.caches[i-1], &in.caches[i])
		}
	}
	// A file that declares nothing, as one that masks a package's, is a
	// configuration too.
	in.unconfigured = len(in.caches) == 0 && len(in.sources) == 0
	switch {
	case in.unconfigured && in.root == "/":
		// What was declared before can still be looked at, and removed.
		if names, _ := in.built(); len(names) == 0 {
			return in, ErrUnconfigured
		}
		in.unconfigured = false
	case in.unconfigured:
		in.caches = []Cache{{Name: builtinCache, Inputs: []string{"**"}}}
	}
	return in, nil
}

func declaredTwice(a, b *Cache) error {
	err := fmt.Errorf("cache %s is declared twice", a.Name)
	if file := a.file + b.file; file != "" { // of files alone, the first has it
		err = &HintedError{
			fmt.Errorf("%w: by this program and in %s", err, file),
			"this program builds the cache itself: remove it there",
		}
	}
	return err
}

// Root returns the root, absolute and without symbolic links.
func (in *Install) Root() string { return in.root }

// Unconfigured says whether no cache was declared, so that the one there is is
// the built-in table of files.
func (in *Install) Unconfigured() bool { return in.unconfigured }

// Names returns the names of the caches, sorted.
func (in *Install) Names() []string {
	names := make([]string, len(in.caches))
	for i := range in.caches {
		names[i] = in.caches[i].Name
	}
	return names
}

// Caches returns the caches, sorted by name.
func (in *Install) Caches() []Cache { return slices.Clone(in.caches) }

// CacheDir returns where caches are kept, absolute.
func (in *Install) CacheDir() string { return in.cacheDir }

// ErrUndeclared is wrapped by the error of an operation on a cache that the
// install does not declare: an *UndeclaredError.
var ErrUndeclared = errors.New("no such cache is configured")

// An UndeclaredError is an ErrUndeclared with the name that was asked for.
type UndeclaredError struct {
	Cache    string
	Declared []string
}

// Error returns one line.
func (e *UndeclaredError) Error() string {
	return fmt.Sprintf("cache %s: %v (there are: %s)", quoteName(e.Cache), ErrUndeclared, strings.Join(e.Declared, ", "))
}

// Unwrap returns ErrUndeclared.
func (e *UndeclaredError) Unwrap() error { return ErrUndeclared }

func (in *Install) cache(name string) (*Cache, error) {
	for i := range in.caches {
		if in.caches[i].Name == name {
			return &in.caches[i], nil
		}
	}
	for _, s := range in.sources {
		if slices.ContainsFunc(s.caches, func(c Cache) bool { return c.Name == name }) {
			return nil, &HintedError{
				fmt.Errorf("cache %s: there is a mistake in %s", quoteName(name), s.Path),
				"syscache --root " + format.ShellQuote(in.root) + " config tells what and where",
			}
		}
	}
	return nil, &UndeclaredError{name, in.Names()}
}

// quoteName shows a name that may be anything.
func quoteName(name string) string {
	if format.ValidCacheName(name) {
		return name
	}
	return fmt.Sprintf("%q", name)
}

// locate finds the root and the cache_dir.
func (in *Install) locate(root, cacheDir string) error {
	abs, err := filepath.Abs(root)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return &HintedError{fmt.Errorf("root %s: %w", root, errors.Unwrap(err)), "name the directory of the install, one that you can reach"}
	}
	var st unix.Stat_t
	if err := unix.Stat(abs, &st); err != nil {
		return fmt.Errorf("root %s: %w", root, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("root %s: not a directory", root)
	}
	abs = filepath.ToSlash(abs)
	in.root = abs
	in.owner = ownership{uid: st.Uid, gid: st.Gid, shared: st.Mode&unix.S_IWGRP != 0}
	if st.Mode&unix.S_IWOTH != 0 {
		return &HintedError{
			fmt.Errorf("root %s: everyone can write it (mode %04o), so nothing derived from it can be trusted", root, st.Mode&0o7777),
			"chmod o-w " + format.ShellQuote(abs),
		}
	}
	in.cacheDir = format.Join(abs, format.CacheDir)
	if cacheDir != "" {
		if in.cacheDir, err = filepath.Abs(cacheDir); err != nil {
			return err
		}
		in.links = in.owner.checkLinks(in.cacheDir)
		if real, err := filepath.EvalSymlinks(in.cacheDir); err == nil {
			in.cacheDir = real
		}
		in.cacheDir = filepath.ToSlash(in.cacheDir)
	}
	in.named = cacheDir != ""
	in.image = in.cacheDir == format.Join(abs, format.ImageCacheDir)
	in.internal = in.image || in.cacheDir == format.Join(abs, format.CacheDir)
	if !in.internal {
		in.owner.reach = reachOf(abs, &st)
	}
	return nil
}

// check vets a cache that a program declares; one from a file was vetted with
// its position.
func (c *Cache) check() error {
	fail := func(err error) error { return fmt.Errorf("cache %s: %w", quoteName(c.Name), err) }
	if !format.ValidCacheName(c.Name) {
		return fail(errors.New("this cannot be the name of a cache"))
	}
	for _, p := range slices.Concat(c.Inputs, c.Exclude) {
		if err := checkPattern(p, false); err != nil {
			return fail(err)
		}
	}
	for _, p := range c.Recipe {
		if err := checkPattern(p, true); err != nil {
			return fail(err)
		}
	}
	for _, w := range c.Witness {
		if err := checkWitness(w); err != nil {
			return fail(err)
		}
	}
	for name, value := range c.Env {
		if err := checkEnv(name, value); err != nil {
			return fail(err)
		}
	}
	switch {
	case c.Timeout < 0 || c.Keep < 0:
		return fail(errors.New("a negative duration"))
	case len(c.Inputs) == 0 && c.InputsFrom == "":
		return fail(errors.New("it has no inputs"))
	case len(c.Inputs) > 0 && c.InputsFrom != "":
		return fail(errors.New("it has both inputs and a list of them"))
	case c.InputsFrom != "" && !format.ValidPath(c.InputsFrom):
		return fail(fmt.Errorf("list of inputs %q", c.InputsFrom))
	case c.Latest && !c.Files:
		return fail(errors.New("latest is for the kind files"))
	case c.Build != nil && c.BuildEach != nil:
		return fail(errors.New("it has two functions to build it"))
	case len(c.Command) > 0 && (c.Build != nil || c.BuildEach != nil):
		return fail(errors.New("it has both a command and a function to build it"))
	case c.each() && c.Files:
		return fail(errors.New("each is for tables"))
	case c.Each && len(c.Command) == 0 && c.BuildEach == nil:
		return fail(errors.New("each is for a command, and for functions BuildEach"))
	case c.Jobs < 0 || c.Jobs > maxJobs || c.Jobs > 0 && !c.each():
		return fail(fmt.Errorf("jobs %d: at most %d, where each input is built for itself", c.Jobs, maxJobs))
	case len(c.Command) > 0:
		if err := checkCommand(c.Command); err != nil {
			return fail(err)
		}
	case c.Files && c.Build == nil:
		return fail(errors.New("it is of kind files and has nothing to build it"))
	}
	return nil
}

// kind returns what the cache's generations consist of.
func (c *Cache) kind() format.Kind {
	if c.Files {
		return format.KindFiles
	}
	return format.KindTable
}

// each says whether each input is built for itself.
func (c *Cache) each() bool { return c.Each || c.BuildEach != nil }

// builder returns the function that builds c, nil for a command.
func (c *Cache) builder() Build {
	if c.Build == nil && c.BuildEach == nil && len(c.Command) == 0 {
		return buildFiles
	}
	return c.Build
}
