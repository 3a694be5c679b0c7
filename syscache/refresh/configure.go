package refresh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
	if err := in.checkSelf(); err != nil {
		return "", err
	}
	return in.writeConfig(text)
}

func (in *Install) writeConfig(text []byte) (string, error) {
	file := format.Join(in.root, format.ConfigFile)
	dir := filepath.Dir(file)
	err := in.owner.checkPath(in.root, dir)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return "", &HintedError{err, trustHint(in.root)}
	}
	by, err := in.configuredBy()
	if err == nil && by != "" {
		err = configuredAlready(by)
	}
	if err == nil && missing {
		err = in.makeDir(dir)
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

func configuredAlready(file string) error {
	return &HintedError{
		fmt.Errorf("%s: the install is configured already", file),
		"edit that; init --print shows what would be proposed",
	}
}

// makeDir makes the directory of the configuration. One that came in between
// is another's init's.
func (in *Install) makeDir(dir string) error {
	if err := in.disk.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := in.disk.SyncDir(in.root); err != nil {
		return err
	}
	if err := in.owner.checkPath(in.root, dir); err != nil {
		return &HintedError{err, trustHint(in.root)}
	}
	return nil
}

// configuredBy returns a file that configures the install, "" if none does.
func (in *Install) configuredBy() (string, error) {
	file := format.Join(in.root, format.ConfigFile)
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	masked := map[string]bool{}
	for _, dir := range []string{format.ConfigDropIns, format.PackageDropIns} {
		dir = format.Join(in.root, dir)
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, e := range entries {
			name := e.Name()
			if !strings.HasSuffix(name, format.DropInExtension) || masked[name] {
				continue
			}
			masked[name] = true
			// An empty one, or a link to /dev/null, declares nothing.
			if fi, err := os.Stat(dir + "/" + name); err == nil && fi.Size() > 0 {
				return dir + "/" + name, nil
			}
		}
	}
	return "", nil
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
	_, err = f.Write(text)
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
