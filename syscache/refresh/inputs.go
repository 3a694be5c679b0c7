package refresh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// A fileList is what inputs_from names: a list of inputs that the install wrote
// itself.
//
// It is one path a line or, if it has a NUL byte, NUL-terminated. Paths are
// relative to the root, with or without "./", or absolute: as inside of the
// root, or with it in front (dpkg's info/*.list, CMake's install_manifest.txt,
// the output of find). Empty lines and directories are passed over.
type fileList struct {
	path   string // as configured
	digest hashing.Digest
	lines  map[string]int // by path
}

// maxList bounds a list, in bytes.
const maxList = 256 << 20

// readList reads the list of a cache that has one; nil if it has none.
func (r *refresher) readList() (*fileList, error) {
	if r.c.InputsFrom == "" {
		return nil, nil
	}
	bad := func(err error) error {
		return r.c.mistaken("inputs_from", fmt.Sprintf("%s: %v", r.c.InputsFrom, err),
			"name a regular file under the root, by its real path, that whoever refreshes can read")
	}
	if err := noLinks(r.root, "inputs_from", r.c.InputsFrom); err != nil {
		return nil, bad(err)
	}
	f, err := unix.OpenFile(format.Join(r.root, r.c.InputsFrom), readOnly, 0)
	if err != nil {
		return nil, bad(errors.Unwrap(err))
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() || fi.Size() > maxList {
		return nil, bad(fmt.Errorf("not a regular file of at most %d MiB", maxList>>20))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxList))
	if err != nil {
		return nil, bad(err)
	}
	l := &fileList{path: r.c.InputsFrom, lines: map[string]int{}}
	if l.digest, err = hashing.Sum(bytes.NewReader(text)); err != nil {
		return nil, err
	}
	return l, r.parseList(l, string(text))
}

func (r *refresher) parseList(l *fileList, text string) error {
	end := "\n"
	if strings.IndexByte(text, 0) >= 0 {
		end = "\x00"
	}
	n := 0
	for line := range strings.SplitSeq(text, end) {
		n++
		p, ok := strings.CutPrefix(line, strings.TrimSuffix(r.root, "/")+"/")
		if !ok {
			p = strings.TrimPrefix(line, "/")
		}
		p = strings.TrimSuffix(strings.TrimPrefix(p, "./"), "/")
		if line == "" || p == "" || p == "." {
			continue
		}
		if err := hashing.CheckPattern(literal(p)); err != nil || path.Clean(p) != p {
			return r.listMistake(l, n, fmt.Sprintf("%q is no path under the root", line), "write a path relative to the root a line")
		}
		l.lines[p] = n
	}
	return nil
}

func (r *refresher) listMistake(l *fileList, line int, msg, hint string) error {
	return &HintedError{fmt.Errorf("%s:%d: %s", format.Show(format.Join(r.root, l.path)), line, msg), hint}
}

// patterns returns the paths of l as patterns.
func (l *fileList) patterns() []string {
	patterns := make([]string, 0, len(l.lines))
	for p := range l.lines {
		patterns = append(patterns, literal(p))
	}
	return patterns
}

// literal returns the pattern that matches path alone.
func literal(path string) string {
	if !strings.ContainsAny(path, `*?[]{}\`) {
		return path
	}
	var b strings.Builder
	for i := range len(path) {
		if strings.IndexByte(`*?[]{}\`, path[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

// scanInputs scans the inputs, which l lists if it is not nil.
func (r *refresher) scanInputs(ctx context.Context, l *fileList, known *hashing.Inventory) (*hashing.Tree, error) {
	include := r.c.Inputs
	if l != nil {
		include = l.patterns()
	}
	t, err := r.scan(ctx, include, r.c.Exclude, known)
	var through *hashing.ThroughLinkError
	if l != nil && errors.As(err, &through) {
		for p, line := range l.lines {
			if literal(p) == through.Pattern {
				err = r.listMistake(l, line, fmt.Sprintf("%s goes through the symbolic link %s", format.Show(p), format.Show(through.Link)), "have the list name it by its real path, or not at all")
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if l != nil {
		if err := r.checkListed(l, t); err != nil {
			return nil, err
		}
	}
	r.warnLeft(t.Left)
	if l == nil {
		r.warnUnmatched(t)
	} else if len(t.Files) == 0 {
		r.tell("%s lists no file", l.path)
	}
	return t, nil
}

// checkListed refuses a list that names what is not there, and forgets the
// directories that it names.
func (r *refresher) checkListed(l *fileList, t *hashing.Tree) error {
	directory := map[string]bool{}
	missing := ""
	for p, line := range l.lines {
		_, found := slices.BinarySearchFunc(t.Files, p, func(f hashing.File, p string) int { return strings.Compare(f.Path, p) })
		if found {
			continue
		}
		fi, err := os.Lstat(format.Join(r.root, p))
		if err != nil && (missing == "" || line < l.lines[missing]) {
			missing = p
		}
		directory[p] = err == nil && fi.IsDir()
	}
	t.Left = slices.DeleteFunc(t.Left, func(left hashing.Left) bool { return directory[left.Path] })
	if missing == "" {
		return nil
	}
	return r.listMistake(l, l.lines[missing], fmt.Sprintf("%s does not exist", format.Show(missing)),
		"the list and the install disagree: install again, or have the list written again")
}

// warnUnmatched tells of patterns that match nothing: a mistake, or a tree that
// is not filled yet.
func (r *refresher) warnUnmatched(t *hashing.Tree) {
	for i, pattern := range r.c.Inputs {
		// Only what shares the literal beginning need be matched.
		prefix, _ := doublestar.SplitPattern(pattern)
		if prefix == "." {
			prefix = ""
		}
		from, _ := slices.BinarySearchFunc(t.Files, prefix, func(f hashing.File, p string) int { return strings.Compare(f.Path, p) })
		matched := slices.Contains(r.c.Inputs[:i], pattern)
		for j := from; j < len(t.Files) && strings.HasPrefix(t.Files[j].Path, prefix) && !matched; j++ {
			matched = doublestar.MatchUnvalidated(pattern, t.Files[j].Path)
		}
		if !matched {
			r.tell("%sno file matches its inputs %q", r.c.at("inputs"), pattern)
		}
	}
}
