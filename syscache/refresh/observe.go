package refresh

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/internal/witness"
	"github.com/syscache/syscache/syscache"
)

// A snapshot is what a refresh saw of the install: all that decides the
// result, and what certifies it.
type snapshot struct {
	manifest  *hashing.Manifest
	encoded   []byte // the manifest
	key       syscache.Key
	witnesses []format.Witness
	stats     format.Stats
	absolute  map[string]format.Identity // of recipe files that are named by an absolute path
	passed    []hashing.Access           // directories that were only gone through
	hashed    int
	open      bool // to what stats does not show: more files by absolute patterns
}

// observe looks at the install. Witnesses come first: one that is recorded
// after the scan would certify what was never scanned.
func (r *refresher) observe(ctx context.Context) (*snapshot, error) {
	s := &snapshot{}
	if r.image && r.c.Witness == nil {
		return nil, r.c.mistaken(r.c.declared("witness"), "the inputs cannot certify what an image ships: unpacked elsewhere, they have other inodes and times",
			`name a file that changes with them: witness = ["share/app/MANIFEST"]`)
	}
	for _, w := range r.c.Witness {
		recorded, err := r.recordWitness(ctx, strings.TrimSuffix(w, "/"))
		if err != nil {
			return nil, err
		}
		if recorded.Type == format.WitnessSymlink && strings.HasSuffix(w, "/") {
			return nil, r.c.mistaken("witness", fmt.Sprintf("witness %s is a symbolic link, which shows a change of where it leads, not of what is there", w),
				"name the directory by its real path; or the link, without the slash")
		}
		s.witnesses = append(s.witnesses, recorded)
	}
	known := r.inventory()
	r.progress.enterScan(known.Len())
	list, err := r.readList()
	if err != nil {
		return nil, err
	}
	tree, err := r.scanInputs(ctx, list, known)
	if err != nil {
		return nil, err
	}
	parts, recipe, err := r.recipeParts(ctx, s, list, known)
	if err != nil {
		return nil, err
	}
	s.hashed = tree.Hashed
	s.passed = slices.Concat(tree.Passed, recipe.Passed)
	s.stats = statSection(s.absolute, tree, recipe)
	r.known = hashing.NewInventory(tree, recipe)
	s.manifest = &hashing.Manifest{Recipe: parts, Inputs: tree.Manifest()}
	s.encoded = s.manifest.Encode()
	s.key = hashing.KeyOf(s.encoded)
	return s, nil
}

// scan scans the files that match under the root.
func (r *refresher) scan(ctx context.Context, include, exclude []string, known *hashing.Inventory) (*hashing.Tree, error) {
	t, err := hashing.Scan{
		Root: r.root, Include: include, Exclude: exclude, Known: known, Progress: r.progress.scanning(),
		Avoid: []string{r.cacheDir, format.Join(r.root, format.CacheDir), format.Join(r.root, format.ImageCacheDir)},
	}.Run(ctx)
	if err != nil {
		return nil, scanError(r.c.Name, err)
	}
	return t, nil
}

func scanError(cache string, err error) error {
	wrapped := fmt.Errorf("scan %s: %w", cache, err)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return wrapped
	case errors.Is(err, hashing.ErrChanging):
		return &HintedError{wrapped, busyHint}
	case exhausted(err):
		return wrapped
	case errors.Is(err, syscall.EAGAIN):
		return &HintedError{wrapped, "another process holds a lease on it (fcntl F_SETLEASE; /proc/locks names it), which the kernel has it give up within lease-break-time: refresh again"}
	}
	return &HintedError{wrapped, "correct inputs, exclude or recipe, or let whoever refreshes read it"}
}

const busyHint = "refresh when the install is quiet, or leave what changes all the time out of its inputs: exclude"

// builtHint is for what changed while its builder ran. A link to an input, too,
// moves a time of it.
const builtHint = "if it is the builder that writes there, or links what is there (ln, cp -l) rather than copies it, mend that; else " + busyHint

// warnLeft tells of inputs that were left out.
func (r *refresher) warnLeft(left []hashing.Left) {
	if len(left) == 0 {
		return
	}
	more := ""
	if len(left) > 1 {
		more = fmt.Sprintf(" (and %d more)", len(left)-1)
	}
	r.tell("left out %q: %s%s", left[0].Path, left[0].Reason, more)
}

// recipeParts returns the parts of the manifest that are not inputs. Its files
// under the root, recipe, are scanned as inputs are, and certified with them; a
// list of the inputs is one.
func (r *refresher) recipeParts(ctx context.Context, s *snapshot, list *fileList, known *hashing.Inventory) (_ []hashing.Part, recipe *hashing.Tree, err error) {
	parts := map[string]hashing.Digest{
		"cache": hashing.Value([]byte(r.c.Name)),
		"kind":  hashing.Value([]byte(r.c.kind().String())),
		// What a change of ours to the meaning of the same recipe moves.
		"format": hashing.Value([]byte{format.Version}),
	}
	switch {
	case len(r.c.Command) > 0:
		parts["build"] = hashing.Value(joinArgs(r.c.Command))
	case r.c.Build != nil || r.c.BuildEach != nil:
		parts["build"] = hashing.Value([]byte("function " + r.c.BuildVersion))
	default:
		parts["build"] = hashing.Value([]byte("built-in files"))
	}
	if r.c.each() {
		parts["each"] = hashing.Value([]byte("each"))
	}
	for name, value := range r.c.Env {
		parts["env "+name] = hashing.Value([]byte(value))
	}
	var under, absolute []string
	if list != nil {
		under = append(under, literal(list.path))
	}
	for _, p := range r.c.Recipe {
		if strings.HasPrefix(p, "/") {
			absolute = append(absolute, p)
		} else {
			under = append(under, p)
		}
	}
	if recipe, err = r.scan(ctx, under, nil, known); err != nil {
		return nil, nil, err
	}
	r.warnLeft(recipe.Left)
	for _, in := range recipe.Manifest() {
		parts["file "+in.Path] = in.Digest
		if in.Type == hashing.Symlink {
			r.tell("recipe %s is a symbolic link: only a change of where it leads is noticed, so name what is there too", format.Show(in.Path))
		}
	}
	if list != nil && parts["file "+list.path] != list.digest {
		return nil, nil, overtaken("%s changed while it was read", format.Show(list.path))
	}
	for _, p := range under {
		if !slices.ContainsFunc(recipe.Files, func(f hashing.File) bool { ok, _ := doublestar.Match(p, f.Path); return ok }) {
			return nil, nil, r.c.mistaken("recipe", fmt.Sprintf("recipe %q matches no file", p), unmatchedHint)
		}
	}
	for _, pattern := range absolute {
		if err := r.absoluteRecipe(ctx, s, pattern, parts); err != nil {
			return nil, nil, err
		}
	}
	sorted := make([]hashing.Part, 0, len(parts))
	for _, label := range slices.Sorted(maps.Keys(parts)) {
		sorted = append(sorted, hashing.Part{Label: label, Digest: parts[label]})
	}
	return sorted, recipe, nil
}

// joinArgs encodes a command so that no two are the same bytes.
func joinArgs(args []string) []byte {
	var b []byte
	for _, a := range args {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(a)))
		b = append(b, a...)
	}
	return b
}

// absoluteRecipe adds the digests of the files that match an absolute
// pattern. Links are followed: /usr/bin/python3 stands for what it names.
func (r *refresher) absoluteRecipe(ctx context.Context, s *snapshot, pattern string, parts map[string]hashing.Digest) error {
	s.open = s.open || literal(pattern) != pattern
	matches, err := doublestar.FilepathGlob(pattern, doublestar.WithFilesOnly(), doublestar.WithFailOnIOErrors())
	if err == nil && len(matches) == 0 {
		return r.c.mistaken("recipe", fmt.Sprintf("recipe %q matches no file", pattern), unmatchedHint)
	}
	for _, m := range matches {
		if err == nil {
			err = s.absoluteFile(ctx, m, parts)
		}
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return err
	}
	return &HintedError{fmt.Errorf("refresh %s: recipe %s: %w", r.c.Name, pattern, err), "correct recipe, or let whoever refreshes read it"}
}

const unmatchedHint = "correct the pattern, or restore the file: a change of what it names could not be noticed"

func (s *snapshot) absoluteFile(ctx context.Context, path string, parts map[string]hashing.Digest) error {
	real, err := follow(path, func(link string) error { return s.link(ctx, link) })
	if err != nil {
		return err
	}
	settled, err := hashing.Settle(ctx, "/", strings.TrimPrefix(real, "/"))
	if err != nil {
		return err
	}
	// Looked at before it is opened: to open a device may do something.
	fi, err := os.Lstat(real)
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", format.Show(real))
	}
	if err != nil {
		return err
	}
	f, err := unix.OpenFile(real, readOnly, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if uint32(st.Mode)&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s is not a regular file", format.Show(real))
	}
	if parts["file "+path], err = hashing.Sum(contextReader{ctx, f}); err != nil {
		return err
	}
	s.certify(real, &st, settled)
	return nil
}

// certify records a file or link that is named by an absolute path.
func (s *snapshot) certify(path string, st *unix.Stat_t, settled bool) {
	if s.absolute == nil {
		s.absolute = map[string]format.Identity{}
	}
	s.absolute[path] = format.Identity{}
	if settled {
		s.absolute[path] = format.IdentityOf(st)
	}
}

// link records a symbolic link on the way to a file. It is read after it was
// recorded: what it is changed to meanwhile contradicts that.
func (s *snapshot) link(ctx context.Context, name string) error {
	settled, err := hashing.Settle(ctx, "/", strings.TrimPrefix(name, "/"))
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	s.certify(name, &st, settled)
	return nil
}

// A contextReader fails when its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// recordWitness records a witness whose times are old enough to tell the next
// change from this state.
func (r *refresher) recordWitness(ctx context.Context, path string) (format.Witness, error) {
	if err := noLinks(r.root, "witness", path); err != nil {
		return format.Witness{}, r.c.mistaken("witness", err.Error(), "name it by its real path")
	}
	if full := format.Join(r.root, path); full == r.cacheDir || strings.HasPrefix(full, r.cacheDir+"/") {
		return format.Witness{}, r.c.mistaken("witness", fmt.Sprintf("witness %s is in the cache_dir, which each refresh changes", path), "name something of the install")
	}
	for range attempts {
		settled, err := hashing.Settle(ctx, r.root, path)
		if err != nil {
			return format.Witness{}, err
		}
		w, err := witness.Observe(r.root, path)
		if err != nil {
			return w, r.c.mistaken("witness", err.Error(), "name a file, directory or symbolic link that everybody who reads the cache can read")
		}
		if w.Type == format.WitnessAbsent {
			r.tell("witness %s does not exist: all that readers notice is that it appears", format.Show(path))
		}
		if !settled || r.image { // an image's identities are this machine's
			w.Identity = [format.IdentitySize]byte{}
		}
		if !settled {
			return w, nil
		}
		if err := witness.Check(r.root, &w); err == nil {
			return w, nil
		}
	}
	return format.Witness{}, overtaken("witness %s changed while it was read", path)
}

// noLinks refuses a path that goes through a symbolic link: in an image that is
// refreshed from outside it could lead out of the root. what is its role.
func noLinks(root, what, name string) error {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		fi, err := os.Lstat(format.Join(root, dir))
		if err == nil && fi.Mode()&os.ModeSymlink != 0 {
			return fmt.Errorf("%s %s goes through the symbolic link %s", what, name, dir)
		}
	}
	return nil
}

// changed names something that is another in t, "" if nothing is. The same
// bytes with another identity count, and so does a directory: it may have been
// another in between, and that is what a builder may have read.
func (s *snapshot) changed(t *snapshot) string {
	if s.key != t.key {
		if changes := hashing.Diff(s.manifest, t.manifest); len(changes) > 0 {
			return changes[0].Path
		}
	}
	if bytes.Equal(s.stats, t.stats) {
		return ""
	}
	next, stop := iter.Pull2(t.stats.All())
	defer stop()
	for d := range s.stats.All() {
		if other, _, ok := next(); !ok || d.Path != other.Path || d.ID != other.ID || !slices.Equal(d.Files, other.Files) {
			return "something in " + format.Join(".", d.Path)
		}
	}
	return "the tree"
}

// tell warns once.
func (r *refresher) tell(format string, args ...any) {
	if msg := r.c.Name + ": " + fmt.Sprintf(format, args...); !r.told[msg] {
		r.told[msg] = true
		r.warn(msg)
	}
}

// warnUncertified tells of inputs that make every reader miss.
func (r *refresher) warnUncertified(s *snapshot) {
	if r.c.Witness != nil {
		return
	}
	const nothing = "certify nothing (they are 0, in the future, or an image's)"
	for d := range s.stats.All() {
		if d.Check && d.ID == (format.Identity{}) {
			r.tell("every reader will miss: the times of the directory %q %s", d.Path, nothing)
			return
		}
		for _, f := range d.Files {
			if f.ID == (format.Identity{}) {
				r.tell("every reader will miss: the times of %q %s", path.Join(d.Path, f.Name), nothing)
				return
			}
		}
	}
}

// statSection returns the stat section for all that trees have read, and for
// files by absolute path.
func statSection(absolute map[string]format.Identity, trees ...*hashing.Tree) format.Stats {
	dirs := map[string]*format.StatDir{}
	dir := func(path string) *format.StatDir {
		if dirs[path] == nil {
			dirs[path] = &format.StatDir{Path: path}
		}
		return dirs[path]
	}
	for _, t := range trees {
		for _, d := range t.Dirs {
			sd := dir(d.Path)
			sd.Check, sd.ID = true, d.ID
		}
		for i := range t.Files {
			parent, name := path.Split(t.Files[i].Path)
			sd := dir(strings.TrimSuffix(parent, "/"))
			sd.Files = append(sd.Files, format.StatFile{Name: name, ID: t.Files[i].ID})
		}
	}
	for file, id := range absolute {
		sd := dir(path.Dir(file))
		sd.Files = append(sd.Files, format.StatFile{Name: path.Base(file), ID: id})
	}
	list := make([]format.StatDir, 0, len(dirs))
	for _, p := range slices.Sorted(maps.Keys(dirs)) {
		d := dirs[p]
		slices.SortFunc(d.Files, func(a, b format.StatFile) int { return strings.Compare(a.Name, b.Name) })
		d.Files = slices.CompactFunc(d.Files, func(a, b format.StatFile) bool { return a.Name == b.Name })
		list = append(list, *d)
	}
	return format.EncodeStats(list)
}
