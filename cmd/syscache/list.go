package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/syscache/syscache/syscache"
)

func (a *app) listCommand() *cobra.Command {
	var stale bool
	c := &cobra.Command{
		Use:   "list CACHE [PREFIX]",
		Short: "Print the rows of a cache, or its files",
		Long: `Print the rows whose key begins with PREFIX, or all, in the order of their keys:
a line of JSON each, as get --json does. Of a cache that consists of files,
print their paths in its directory, a line each, or with --json in JSON.`,
		Example: `  syscache --root /opt/sage list star-imports sage.rings.
  syscache --root /opt/lmod list spider`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := a.open(args[0], stale)
			if err != nil {
				return err
			}
			defer r.Close()
			prefix := ""
			if len(args) > 1 {
				prefix = args[1]
			}
			w := bufio.NewWriter(a.stdout)
			a.stdout = w
			if r.Dir() != "" {
				err = a.listFiles(r, prefix)
			} else {
				err = a.listRows(r, prefix)
			}
			if ferr := w.Flush(); err == nil {
				err = ferr
			}
			return err
		},
	}
	staleFlag(c, &stale)
	return c
}

func (a *app) listRows(r *syscache.Reader, prefix string) error {
	for row, err := range r.Scan([]byte(prefix)) {
		if err != nil {
			return err
		}
		if err := a.printJSON(rowJSON(row.Key, row.Value)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) listFiles(r *syscache.Reader, prefix string) error {
	return filepath.WalkDir(r.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel := path[len(r.Dir())+1:]
		switch {
		case !strings.HasPrefix(rel, prefix):
			return nil
		case a.json:
			return a.printJSON(pathJSON(rel))
		}
		_, err = fmt.Fprintln(a.stdout, rel)
		return err
	})
}

// A jsonPath is a path in JSON: in base64 if it is not UTF-8.
type jsonPath struct {
	Path       string `json:"path,omitempty"`
	PathBase64 []byte `json:"path_base64,omitempty"`
}

func pathJSON(path string) jsonPath {
	if utf8.ValidString(path) {
		return jsonPath{Path: path}
	}
	return jsonPath{PathBase64: []byte(path)}
}

// A jsonFile is a path in JSON, too, where it is one field among others.
type jsonFile struct {
	File       string `json:"file,omitempty"`
	FileBase64 []byte `json:"file_base64,omitempty"`
}

func fileJSON(path string) jsonFile {
	p := pathJSON(path)
	return jsonFile{p.Path, p.PathBase64}
}

// A row in JSON: what is not UTF-8, or no JSON value, is in base64.
type row struct {
	Key         *string         `json:"key,omitempty"`
	KeyBase64   []byte          `json:"key_base64,omitempty"`
	Value       json.RawMessage `json:"value,omitempty"`
	ValueBase64 *[]byte         `json:"value_base64,omitempty"`
}

func rowJSON(key, value []byte) row {
	var r row
	if utf8.Valid(key) {
		s := string(key)
		r.Key = &s
	} else {
		r.KeyBase64 = key
	}
	if utf8.Valid(value) && json.Valid(value) {
		r.Value = value
	} else {
		r.ValueBase64 = &value
	}
	return r
}
