package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/syscache/syscache/syscache"
)

// rows are a table: the cache's, or one that this process derived.
type rows interface {
	Get(key []byte) ([]byte, error)
	Scan(prefix []byte) iter.Seq2[syscache.Row, error]
}

// list prints the plugins whose names begin with prefix.
func (a *app) list(ctx context.Context, prefix string) error {
	r := a.open()
	defer closeReader(r)
	var out bytes.Buffer
	err := a.ask(ctx, r, func(t rows) error { return writeList(&out, t, prefix) })
	if err != nil {
		return err
	}
	_, err = out.WriteTo(a.stdout)
	return err
}

// which prints the name of the plugin that has a command.
func (a *app) which(ctx context.Context, command string) error {
	r := a.open()
	defer closeReader(r)
	var name string
	err := a.ask(ctx, r, func(t rows) error {
		value, err := t.Get([]byte(commandKey + command))
		name = string(value) // a copy: value ends with r
		return err
	})
	if errors.Is(err, syscache.ErrNotFound) {
		return fmt.Errorf("no plugin has the command %q", command)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, name)
	return err
}

// open opens the cache. Where it cannot be used it returns nil: ask then does
// without it.
func (a *app) open() *syscache.Reader {
	r, err := syscache.Open(a.root, cacheName, nil)
	if err != nil {
		a.warn(err)
		return nil
	}
	return r
}

func closeReader(r *syscache.Reader) {
	if r != nil {
		r.Close()
	}
}

// ask asks the cache or, where that is of no use, the plugins themselves. It
// may be corrupt in one row only: the question is then asked twice, and must
// not have told anybody the first half of its answer.
func (a *app) ask(ctx context.Context, r *syscache.Reader, question func(rows) error) error {
	if r != nil {
		err := question(r)
		var unusable *syscache.Error
		if !errors.As(err, &unusable) || errors.Is(err, syscache.ErrNotFound) {
			return err
		}
		a.warn(err)
	}
	t, err := deriveRows(ctx, a.root)
	if err != nil {
		return err
	}
	return question(t)
}

// warn says once why the cache is not used. That it was never built is no
// reason to: nobody may have wanted one.
func (a *app) warn(err error) {
	if a.warned || errors.Is(err, syscache.ErrMissing) {
		return
	}
	a.warned = true
	a.tell(fmt.Errorf("going without the cache: %w", err))
	if h := hint(err); h != "" {
		fmt.Fprintln(a.stderr, "hint:", h)
	}
}

// hint returns what to do about a cache that cannot be used. The error's own
// hint tells to run syscache, which does not know how to build our cache.
func hint(err error) string {
	var e *syscache.Error
	switch {
	case errors.Is(err, syscache.ErrStale), errors.Is(err, syscache.ErrCorrupt):
		return "who may write the install can run: plugins post-install"
	case errors.As(err, &e):
		return e.Hint
	}
	return ""
}

// writeList replaces what is in out by a line for each plugin.
func writeList(out *bytes.Buffer, t rows, prefix string) error {
	out.Reset()
	for row, err := range t.Scan([]byte(pluginKey + prefix)) {
		if err != nil {
			return err
		}
		if err := writePlugin(out, row.Value); err != nil {
			return err
		}
	}
	return nil
}

func writePlugin(w io.Writer, value []byte) error {
	var p plugin
	if err := json.Unmarshal(value, &p); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s %s: %s\n", p.Name, p.Version, strings.Join(p.Commands, " "))
	return err
}
