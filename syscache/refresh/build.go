package refresh

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// A staging is a directory in which a generation grows. Nobody else looks
// into it, and a killed refresh leaves it to be swept.
type staging struct {
	*refresher
	dir     string // g/.new-*
	gen     string // dir/gen: becomes the generation
	outputs []format.Output

	base *base // whose rows are carried over; nil: none
	todo []int // which inputs are built, where each is for itself
}

// build builds the generation of s into staging. It takes from b what did not
// change; b may be nil.
func (r *refresher) build(ctx context.Context, s *snapshot, b *base) (*generation, error) {
	st := &staging{refresher: r, dir: r.dir + "/" + format.Generations + "/" + randomName(format.ScratchPrefix), base: b}
	st.todo = b.missing(len(s.manifest.Inputs))
	g, err := st.build(ctx, s)
	var unusable *baseError
	if !errors.As(err, &unusable) {
		r.given = len(st.todo)
		return g, err
	}
	if err := removeAll(r.disk, st.dir); err != nil {
		return nil, err
	}
	return r.build(ctx, s, nil)
}

func (st *staging) build(ctx context.Context, s *snapshot) (*generation, error) {
	r := st.refresher
	r.progress.enterBuild()
	st.gen = st.dir + "/gen"
	for _, dir := range []string{st.dir, st.dir + "/out", st.dir + "/runs"} {
		err := r.disk.Mkdir(dir, r.owner.privateDirMode())
		if errors.Is(err, fs.ErrNotExist) {
			err = swept(st.dir, err)
		}
		if err != nil {
			return nil, err
		}
	}
	// Public from the start, below a directory that is not.
	if err := r.disk.Mkdir(st.gen, r.owner.dirMode()); err != nil {
		return nil, swept(st.dir, err)
	}
	in := Inputs{Root: r.root, Key: s.key, Files: s.manifest.Inputs, Out: st.dir + "/out"}
	g, err := st.grow(ctx, in, s)
	return g, swept(st.dir, err)
}

// errDiffers is the error of a forced build of files that came out otherwise.
var errDiffers = &HintedError{
	errors.New("the same inputs and recipe gave other files than before, and those that are published never change"),
	"name what else decides the result in recipe or env",
}

const outputHint = "leave nothing in $SYSCACHE_OUT but files, directories and symbolic links that stay below it"

// swept returns err, or why there is one, if somebody else removed the staging.
func swept(scratch string, err error) error {
	if _, gone := os.Lstat(scratch); err != nil && errors.Is(gone, fs.ErrNotExist) {
		return overtaken("another refresher, which no lock stopped, swept what this one built")
	}
	return err
}

func (st *staging) grow(ctx context.Context, in Inputs, s *snapshot) (g *generation, err error) {
	var rows uint64
	if st.c.Files {
		err = st.buildFiles(ctx, in)
	} else {
		rows, err = st.buildTable(ctx, in)
	}
	if err != nil {
		return nil, err
	}
	return st.seal(s, rows)
}

// run runs the builder.
func (st *staging) run(ctx context.Context, in Inputs, emit func(builtRow) error) error {
	if st.c.builder() == nil {
		return runCommand(ctx, st.disk, st.c, in, st.dir+"/inputs", emit)
	}
	return runFunction(ctx, st.c, in, emit)
}

func (st *staging) buildTable(ctx context.Context, in Inputs) (uint64, error) {
	rows := newRowSorter(st.disk, st.dir+"/runs")
	add := func(r builtRow, from uint64) error {
		if err := r.check(); err != nil {
			return err
		}
		st.progress.emitted()
		return rows.add(r.key, r.value, from)
	}
	write, err := st.writeTable, error(nil)
	if st.c.each() {
		write = st.writeEach
		err = st.runEach(ctx, in, st.todo, func(r builtRow, input int) error { return add(r, uint64(input)) })
	} else {
		err = st.run(ctx, in, func(r builtRow) error {
			if r.from != nil {
				return noTag(r)
			}
			return add(r, r.line)
		})
	}
	if err != nil {
		return 0, err
	}
	st.progress.enter(Publishing)
	all, n := rows.sorted(), rows.count
	if st.base != nil {
		all, n = merged(st.base.rows(), all), n+int(st.base.meta.Rows)
	}
	return write(in, n, unique(all))
}

// writeTable writes the table of at most n rows.
func (st *staging) writeTable(in Inputs, n int, rows iter.Seq2[mergedRow, error]) (uint64, error) {
	f, err := st.disk.Create(st.gen + "/" + format.Table)
	if err != nil {
		return 0, err
	}
	h, err := writeTable(f, in.Key, n, rows)
	if err != nil {
		f.Close()
		var dup *duplicateError
		if errors.As(err, &dup) && st.c.each() {
			err = dup.shared(in.Files)
		}
		if dup != nil {
			err = &BuildError{st.c.Name, err, ""}
		}
		return 0, err
	}
	return h.Rows, st.finish(f, format.Table, publicMode, h.Size())
}

// buildFiles runs the builder and copies what it wrote: its own files it, or
// a process that it left behind, may still hold open for writing (I5).
func (st *staging) buildFiles(ctx context.Context, in Inputs) error {
	noRows := func(builtRow) error {
		if st.c.Build != nil {
			return errors.New("it emitted a row, and a cache of kind files is written to Inputs.Out")
		}
		return &HintedError{
			errors.New("it printed a row, and is to make files"),
			`write them to $SYSCACHE_OUT and messages to stderr, or leave out kind = "files"`,
		}
	}
	if err := st.run(ctx, in, noRows); err != nil {
		return err
	}
	st.progress.enter(Publishing)
	out, err := openOut(in.Out)
	if err != nil {
		return &BuildError{st.c.Name, err, ""}
	}
	defer out.Close()
	if err := st.copyDir(ctx, out, ".", format.Files); err != nil {
		return &BuildError{st.c.Name, err, ""}
	}
	return nil
}

// openOut opens the directory that a builder was given to fill, or made in its
// place: through a link it would be something of the builder's that others see.
func openOut(dir string) (*os.Root, error) {
	const hint = "write into the directory that $SYSCACHE_OUT names"
	fi, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &HintedError{errors.New("it removed $SYSCACHE_OUT"), hint}
	case err != nil:
		return nil, err
	case !fi.IsDir():
		return nil, &HintedError{errors.New("it replaced $SYSCACHE_OUT by something that is no directory"), hint}
	}
	out, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	if same, err := out.Stat("."); err != nil || !os.SameFile(fi, same) {
		out.Close()
		return nil, errors.Join(errors.New("$SYSCACHE_OUT changed while it was opened"), err)
	}
	return out, nil
}

// copyDir copies the directory from of out to the path to of the generation.
func (st *staging) copyDir(ctx context.Context, out *os.Root, from, to string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := st.disk.Mkdir(st.gen+"/"+to, st.owner.dirMode()); err != nil {
		return err
	}
	st.outputs = append(st.outputs, format.Output{Path: to, Type: format.OutputDir, Mode: 0o755})
	entries, err := readDir(out, from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		src, dst := path.Join(from, e.Name()), to+"/"+e.Name()
		switch e.Type() {
		case fs.ModeDir:
			err = st.copyDir(ctx, out, src, dst)
		case fs.ModeSymlink:
			err = st.copyLink(out, src, dst)
		case 0:
			err = st.copyFile(out, src, dst)
		default:
			err = &HintedError{fmt.Errorf("output %q is neither a file, a directory nor a symbolic link", src), outputHint}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readDir lists a directory of a root, sorted. Unlike fs.ReadDir it takes
// names that are not UTF-8.
func readDir(root *os.Root, dir string) ([]fs.DirEntry, error) {
	d, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

func (st *staging) copyLink(out *os.Root, from, to string) error {
	target, err := out.Readlink(from)
	if err != nil {
		return err
	}
	if !staysInside(to, target) {
		return &HintedError{fmt.Errorf("output %q is a symbolic link to %q, outside the generation", from, target), outputHint}
	}
	st.outputs = append(st.outputs, format.Output{
		Path: to, Type: format.OutputSymlink, Mode: 0o777,
		Size: uint64(len(target)), Digest: sha256.Sum256([]byte(target)),
	})
	return st.disk.Symlink(target, st.gen+"/"+to)
}

// staysInside says whether the link at the path to of the generation leads to
// something in its files. A ".." is let pass only at the front, where it is
// taken from a real directory: after a name it would be taken from wherever
// that leads.
func staysInside(to, target string) bool {
	depth := strings.Count(to, "/") - 1 // directories between files and the link
	names := false
	for c := range strings.SplitSeq(target, "/") {
		switch c {
		case "..":
			depth--
			if names || depth < 0 {
				return false
			}
		case "", ".":
		default:
			names = true
		}
	}
	return !path.IsAbs(target)
}

func (st *staging) copyFile(out *os.Root, from, to string) error {
	src, err := out.OpenFile(from, readOnly, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	fi, err := src.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return fmt.Errorf("output %q changed while it was copied", from)
	}
	dst, err := st.disk.Create(st.gen + "/" + to)
	if err != nil {
		return err
	}
	n, err := io.Copy(dst, src)
	if err != nil {
		dst.Close()
		return err
	}
	mode := fs.FileMode(publicMode)
	if fi.Mode()&0o100 != 0 {
		mode = 0o755
	}
	return st.finish(dst, to, mode, uint64(n))
}

// finish makes f, the output at name, durable and public, and records it. It
// is read back: a short write is not found by its error alone (cpython#126606).
func (st *staging) finish(f file, name string, mode fs.FileMode, size uint64) error {
	err := f.Chmod(mode)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	full := st.gen + "/" + name
	fi, err := os.Lstat(full)
	if err != nil {
		return err
	}
	if uint64(fi.Size()) != size {
		return fmt.Errorf("write %s: %d bytes arrived of %d", full, fi.Size(), size)
	}
	d, err := digestOutput(full, format.OutputFile)
	if err != nil {
		return err
	}
	st.outputs = append(st.outputs, format.Output{
		Path: name, Type: format.OutputFile, Mode: uint16(mode.Perm()), Size: size, Digest: d,
	})
	return nil
}

// seal writes manifest and meta, and makes all of the generation durable and
// readable. It is complete then, and still nowhere.
func (st *staging) seal(s *snapshot, rows uint64) (*generation, error) {
	slices.SortFunc(st.outputs, func(a, b format.Output) int { return strings.Compare(a.Path, b.Path) })
	g := &generation{dir: st.gen, meta: &format.GenerationMeta{
		Kind: st.c.kind(), Key: s.key, Manifest: sha256.Sum256(s.encoded), Rows: rows, Outputs: st.outputs,
	}}
	meta := g.meta.Encode()
	g.digest = sha256.Sum256(meta)
	if err := st.write(format.Manifest, s.encoded); err != nil {
		return nil, err
	}
	if err := st.write(format.Meta, meta); err != nil {
		return nil, err
	}
	// The deepest directories first: each is synced after what is in it.
	for i := len(st.outputs) - 1; i >= 0; i-- {
		if o := &st.outputs[i]; o.Type == format.OutputDir {
			if err := st.disk.SyncDir(st.gen + "/" + o.Path); err != nil {
				return nil, err
			}
		}
	}
	return g, st.disk.SyncDir(st.gen)
}

// write writes one file of the generation that is not an output.
func (st *staging) write(name string, b []byte) error {
	f, err := st.disk.Create(st.gen + "/" + name)
	if err != nil {
		return err
	}
	err = writeAll(f, b)
	if err == nil {
		err = f.Chmod(publicMode)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// keep moves what was staged into its place, unless old, the intact generation
// of the same key, is the same.
func (r *refresher) keep(staged, old *generation, before *published) (*generation, error) {
	scratch := path.Dir(staged.dir)
	if old != nil && old.digest != staged.digest && r.c.Files {
		// Who was given the directory's path reads it by that path (I5).
		return nil, &BuildError{r.c.Name, errDiffers, ""}
	}
	if old == nil || old.digest != staged.digest {
		if old != nil {
			// The place will be empty for a moment, and then hold something
			// else than the pointer says.
			if err := r.markStale(before); err != nil {
				return nil, err
			}
		}
		key := hashing.Key(staged.meta.Key)
		if err := r.install(staged.dir, key.String()); err != nil {
			return nil, swept(scratch, err)
		}
		staged.dir, staged.installed = r.dir+"/"+format.Generation(key.String()), true
		old = staged
	}
	if err := removeAll(r.disk, scratch); err != nil && !unix.InUse(err) { // else the next refresh sweeps it
		return nil, err
	}
	return old, nil
}

// buildFiles is the built-in builder: a row for each input, by its path.
func buildFiles(_ context.Context, in Inputs, emit func(key, value []byte) error) error {
	var b []byte
	for i := range in.Files {
		f := &in.Files[i]
		b = append(b[:0], `{"type":"`...)
		b = append(b, f.Type.String()...)
		b = append(b, `","size":`...)
		b = strconv.AppendUint(b, f.Size, 10)
		b = append(b, `,"mode":"`...)
		for shift := 9; shift >= 0; shift -= 3 {
			b = append(b, '0'+byte(f.Mode>>shift&7))
		}
		b = append(b, `","digest":"`...)
		b = hex.AppendEncode(b, f.Digest[:])
		b = append(b, `"}`...)
		if err := emit([]byte(f.Path), b); err != nil {
			return err
		}
	}
	return nil
}
