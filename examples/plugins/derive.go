package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"github.com/BurntSushi/toml"

	"github.com/syscache/syscache/syscache"
)

// What a program that refreshes and a program that reads must agree on is in
// this file, and both derive with the same function: an answer is the same
// with and without the cache.

// cacheName is the cache's. When the rows change their shape, choose another
// one, so that a new program never takes the rows of an old one, nor an old
// program, still running, those of a new one.
const cacheName = "plugins"

// deriveVersion is part of the cache's key: change it when derive would find
// something else in the same manifests.
const deriveVersion = "1"

// The rows: "plugin/NAME" has a plugin as JSON, "command/NAME" the name of the
// plugin that has this command.
const (
	pluginKey  = "plugin/"
	commandKey = "command/"
)

// pluginDir has a directory for each plugin, and there its manifest.
const (
	pluginDir = "lib/app/plugins"
	manifest  = "plugin.toml"
)

// A plugin is what its manifest says.
type plugin struct {
	Name     string   `toml:"name" json:"name"`
	Version  string   `toml:"version" json:"version"`
	Commands []string `toml:"commands" json:"commands"`
}

// derive emits the rows of the plugins whose manifests are at paths, which are
// relative to root.
func derive(ctx context.Context, root string, paths []string, emit func(key, value []byte) error) error {
	plugins, commands := map[string]string{}, map[string]string{}
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := readManifest(root, path)
		if err != nil {
			return err
		}
		if other, taken := plugins[p.Name]; taken {
			return fmt.Errorf("%s: the name %q is that of %s", path, p.Name, other)
		}
		plugins[p.Name] = path
		value, err := json.Marshal(p)
		if err != nil {
			return err
		}
		if err := emit([]byte(pluginKey+p.Name), value); err != nil {
			return err
		}
		for _, c := range p.Commands {
			if other, taken := commands[c]; taken {
				return fmt.Errorf("%s: the command %q is that of %s", path, c, other)
			}
			commands[c] = path
			if err := emit([]byte(commandKey+c), []byte(p.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func readManifest(root, path string) (p plugin, err error) {
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return p, err
	}
	if err := toml.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	if p.Name == "" {
		return p, fmt.Errorf("%s: it has no name", path)
	}
	return p, nil
}

// manifests returns the paths that a refresh would find: it follows no
// symbolic link, and leaves out what not everybody can read.
func manifests(root string) ([]string, error) {
	dirs, err := os.ReadDir(filepath.Join(root, pluginDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var paths []string
	for _, d := range dirs {
		path := filepath.Join(pluginDir, d.Name(), manifest)
		fi, err := os.Lstat(filepath.Join(root, path))
		if d.IsDir() && err == nil && !fi.IsDir() && fi.Mode()&0o004 != 0 {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// derivedRows are rows that this process derived for itself, sorted by key. It
// answers what a syscache.Reader answers.
type derivedRows []syscache.Row

func deriveRows(ctx context.Context, root string) (derivedRows, error) {
	paths, err := manifests(root)
	if err != nil {
		return nil, err
	}
	var t derivedRows
	err = derive(ctx, root, paths, func(key, value []byte) error {
		t = append(t, syscache.Row{Key: key, Value: value})
		return nil
	})
	slices.SortFunc(t, func(a, b syscache.Row) int { return bytes.Compare(a.Key, b.Key) })
	return t, err
}

func (t derivedRows) search(key []byte) (int, bool) {
	return slices.BinarySearchFunc(t, key, func(r syscache.Row, key []byte) int { return bytes.Compare(r.Key, key) })
}

// Get is Reader.Get.
func (t derivedRows) Get(key []byte) ([]byte, error) {
	i, found := t.search(key)
	if !found {
		return nil, syscache.ErrNotFound
	}
	return t[i].Value, nil
}

// Scan is Reader.Scan.
func (t derivedRows) Scan(prefix []byte) iter.Seq2[syscache.Row, error] {
	return func(yield func(syscache.Row, error) bool) {
		i, _ := t.search(prefix)
		for ; i < len(t) && bytes.HasPrefix(t[i].Key, prefix); i++ {
			if !yield(t[i], nil) {
				return
			}
		}
	}
}
