package refresh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/syscache/syscache/internal/format"
)

// WriteConfig makes text the configuration of the install at root, which must
// have none, and returns its path. It is there whole or not at all, and never
// takes the place of another, whoever else writes one at the same time.
func WriteConfig(root string, text []byte) (string, error) {
	in := &Install{disk: realDisk{}}
	if err := in.locate(root, ""); err != nil {
		return "", err
	}
	if err := errors.Join(in.checkSelf(), in.checkRoot()); err != nil {
		return "", err
	}
	return in.writeConfig(text)
}

func (in *Install) writeConfig(text []byte) (string, error) {
	file := format.Join(in.root, format.ConfigFile)
	dir := filepath.Dir(file)
	// Looked at first: what else is there lies in other directories as well.
	err := in.checkConfigDir(dir)
	missing := errors.Is(err, fs.ErrNotExist)
	if err == nil || missing {
		err = in.unconfiguredYet()
	}
	if err == nil && missing {
		if err = in.makeDirs(dir); err == nil {
			err = in.checkConfigDir(dir) // it may be another's
		}
	}
	if err == nil {
		err = in.linkNew(file, text)
	}
	if errors.Is(err, syscall.EROFS) {
		err = &HintedError{err, "it belongs into the image that this is made from: see init --print"}
	}
	if err != nil {
		return "", err
	}
	return file, nil
}

// checkConfigDir refuses a directory from which no configuration is read.
func (in *Install) checkConfigDir(dir string) error {
	err := in.owner.checkPath(in.root, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &HintedError{err, trustHint(in.root, err)}
	}
	return err
}

// unconfiguredYet returns an error that names what configures the install
// already, or cannot be read.
func (in *Install) unconfiguredYet() error {
	file := format.Join(in.root, format.ConfigFile)
	if _, err := os.Lstat(file); err == nil {
		return configuredAlready(file)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, s := range in.readSources() {
		if len(s.Mistakes) > 0 {
			return s.Mistakes[0]
		}
		if len(s.caches) > 0 {
			return configuredAlready(s.Path)
		}
	}
	return nil
}

func configuredAlready(file string) error {
	return &HintedError{
		fmt.Errorf("%s: the install is configured already", file),
		"edit that; init --print shows what would be proposed",
	}
}

// linkNew writes a file that others see only when it is complete. A link,
// unlike a rename, does not replace what came in between.
func (in *Install) linkNew(path string, text []byte) (err error) {
	dir := filepath.Dir(path)
	temp := dir + "/" + randomName(format.ScratchPrefix)
	f, err := in.disk.Create(temp)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreNotExist(in.disk.Remove(temp)), in.disk.SyncDir(dir)) }()
	err = writeAll(f, text)
	if err == nil && in.owner.shared {
		err = in.disk.Chown(temp, in.owner.gid)
	}
	if err == nil {
		err = f.Chmod(publicMode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := in.disk.Link(temp, path); errors.Is(err, fs.ErrExist) {
		return configuredAlready(path)
	} else if err != nil {
		return err
	}
	return nil
}
