package refresh

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// A Source is one file of an install's configuration.
type Source struct {
	Path     string         // absolute
	MaskedBy string         // the file that takes its place; "" if none does
	Mistakes []*ConfigError // for each of which none of its caches is declared

	caches []Cache
}

// Sources returns the files of the configuration in the order in which they
// count: of a name that two declare, the first has it.
func (in *Install) Sources() []Source { return in.sources }

// Mistakes returns the mistakes in the configuration.
func (in *Install) Mistakes() []*ConfigError {
	var all []*ConfigError
	for i := range in.sources {
		all = append(all, in.sources[i].Mistakes...)
	}
	return all
}

// readSources reads the configuration: one bad file fails its own caches only.
func (in *Install) readSources() []Source {
	var sources []Source
	if s := in.readSource(format.Join(in.root, format.ConfigFile)); s != nil {
		sources = append(sources, *s)
	}
	names := map[string]string{} // of the administrator's drop-ins
	for _, dir := range []string{format.ConfigDropIns, format.PackageDropIns} {
		for _, s := range in.readDropIns(format.Join(in.root, dir)) {
			name := filepath.Base(s.Path)
			if s.MaskedBy = names[name]; s.MaskedBy != "" {
				s.caches, s.Mistakes = nil, nil
			}
			if dir == format.ConfigDropIns {
				names[name] = s.Path
			}
			sources = append(sources, s)
		}
	}
	tellDuplicates(sources)
	return sources
}

// tellDuplicates notes in each file which of its caches an earlier one has.
func tellDuplicates(sources []Source) {
	first := map[string]*Cache{}
	for i := range sources {
		s := &sources[i]
		for j := range s.caches {
			c := &s.caches[j]
			if have := first[c.Name]; have != nil {
				file, line := have.Origin("")
				s.Mistakes = append(s.Mistakes, c.mistake("",
					fmt.Sprintf("cache %s is declared at %s:%d as well", c.Name, file, line),
					"give it another name; to replace a package's file, put one of the same name in "+format.ConfigDropIns+" under the root"))
			}
		}
		for j := range s.caches {
			if c := &s.caches[j]; first[c.Name] == nil && len(s.Mistakes) == 0 {
				first[c.Name] = c
			}
		}
	}
}

// readDropIns reads a directory of files, sorted by name.
func (in *Install) readDropIns(dir string) []Source {
	bad := func(err error, hint string) []Source {
		return []Source{{Path: dir, Mistakes: []*ConfigError{{File: dir, Msg: err.Error(), Hint: hint}}}}
	}
	if _, err := os.Lstat(dir); err != nil {
		return nil
	}
	if err := in.owner.checkPath(in.root, dir); err != nil {
		return bad(err, trustHint(in.root, err))
	}
	entries, err := listDir(dir)
	if err != nil {
		return bad(errors.Unwrap(err), "it must be a directory that you can read")
	}
	var sources []Source
	for _, e := range entries {
		// What package managers and editors leave beside a file ends otherwise.
		if !strings.HasSuffix(e.Name(), format.DropInExtension) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if s := in.readSource(dir + "/" + e.Name()); s != nil {
			sources = append(sources, *s)
		}
	}
	return sources
}

// readSource reads one file; nil if there is none.
func (in *Install) readSource(file string) *Source {
	s := &Source{Path: file}
	text, err := in.readConfig(file)
	var mistake *ConfigError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.As(err, &mistake):
		s.Mistakes = []*ConfigError{mistake}
	case err != nil:
		s.Mistakes = []*ConfigError{{File: file, Msg: err.Error()}}
	default:
		s.caches, s.Mistakes = parseConfig(file, text)
	}
	return s
}

// readConfig returns the text of a configuration file, which must be the
// install's own as its cache must be. Who could write it, or put another one
// in its place, could have root run what they like.
func (in *Install) readConfig(file string) ([]byte, error) {
	if err := in.owner.checkPath(in.root, filepath.Dir(file)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, &ConfigError{File: file, Msg: err.Error(), Hint: trustHint(in.root, err)}
	}
	f, err := unix.OpenFile(file, readOnly, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case errors.Is(err, unix.ELOOP):
		if target, err := os.Readlink(file); err == nil && target == os.DevNull {
			return nil, nil
		}
		return nil, &ConfigError{File: file, Msg: "it is a symbolic link", Hint: "put the file itself there, so that its owner and mode speak for it"}
	case err != nil:
		return nil, &ConfigError{File: file, Msg: errors.Unwrap(err).Error(), Hint: "it must be a regular file that you can read"}
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if err := in.owner.check(&st, unix.S_IFREG, "it"); err != nil {
		return nil, &ConfigError{File: file, Msg: err.Error(), Hint: trustHint(in.root, err)}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(text) > maxConfig {
		err = &ConfigError{
			File: file, Msg: fmt.Sprintf("it is longer than %d MiB", maxConfig>>20),
			Hint: "name the inputs by patterns, or in a list of their own: inputs_from",
		}
	}
	return text, err
}

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 4 << 20

// trustHint says what to do about something that is not the install's own.
func trustHint(root string, err error) string {
	switch {
	case errors.As(err, new(wrongType)):
		return "put a real one there: neither links nor anything else are followed"
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("you, uid %d, may not look at it: who may write the install can", unix.Geteuid())
	}
	return "let it belong to root or the owner of " + root + ", and nobody else write it: chmod go-w"
}
