package refresh

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/syscache"
)

// A generation is one that is on disk.
type generation struct {
	meta   *format.GenerationMeta
	digest [32]byte // SHA-256 of the encoded meta: what the pointer holds
	dir    string

	installed bool // by this refresh
}

// present returns the generation of key if all of its outputs are there, by
// stat alone; else nil. It may be one that an image ships.
func (r *refresher) present(key syscache.Key) *generation {
	for _, dir := range r.readDirs() {
		g, err := r.owner.openGeneration(dir+"/"+r.c.Name+"/"+format.Generation(key.String()), key)
		if err == nil && g.meta.Kind == r.c.kind() {
			return g
		}
	}
	return nil
}

// existing returns the generation of key if every byte of it is as written;
// else nil.
func (r *refresher) existing(ctx context.Context, key syscache.Key) *generation {
	g := r.present(key)
	if g == nil || g.verify(ctx, key) != nil {
		return nil
	}
	return g
}

// openGeneration reads the meta of the generation in dir and checks, by stat,
// that its outputs are what meta says.
func (o *ownership) openGeneration(dir string, key syscache.Key) (*generation, error) {
	b, err := o.readPublished(dir + "/" + format.Meta)
	if err != nil {
		return nil, err
	}
	m, err := format.DecodeMeta(b)
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", dir, format.Meta, err)
	}
	if m.Key != key || m.Kind == format.KindTable && !isTable(m.Outputs) {
		return nil, fmt.Errorf("%w: %s/%s is of another generation", format.ErrCorrupt, dir, format.Meta)
	}
	for i := range m.Outputs {
		if err := o.checkOutput(dir, &m.Outputs[i]); err != nil {
			return nil, err
		}
	}
	return &generation{meta: m, digest: sha256.Sum256(b), dir: dir}, nil
}

// isTable says whether outputs are those of the kind table.
func isTable(outputs []format.Output) bool {
	for i := range outputs {
		if o := &outputs[i]; o.Type != format.OutputFile || o.Path != format.Table && o.Path != format.Origins {
			return false
		}
	}
	n := len(outputs)
	return n > 0 && outputs[n-1].Path == format.Table
}

// checkOutput checks one output by stat.
func (o *ownership) checkOutput(dir string, out *format.Output) error {
	path := dir + "/" + out.Path
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("%w: %s: %w", format.ErrCorrupt, path, err)
	}
	want := map[format.OutputType]uint32{
		format.OutputFile: unix.S_IFREG, format.OutputDir: unix.S_IFDIR, format.OutputSymlink: unix.S_IFLNK,
	}[out.Type]
	mode := uint32(st.Mode)
	if mode&unix.S_IFMT != want || want != unix.S_IFDIR && uint64(st.Size) != out.Size {
		return fmt.Errorf("%w: %s is not what was published", format.ErrCorrupt, path)
	}
	if want == unix.S_IFLNK {
		return nil
	}
	if err := o.check(&st, want, path); err != nil {
		return fmt.Errorf("%w: %w", syscache.ErrUntrusted, err)
	}
	if mode&0o777 != uint32(out.Mode) && want == unix.S_IFREG {
		return fmt.Errorf("%w: %s has mode %04o, not %04o", format.ErrCorrupt, path, mode&0o777, out.Mode)
	}
	return nil
}

// readPublished returns the contents of a published file, which must be a
// trusted regular file.
func (o *ownership) readPublished(path string) ([]byte, error) {
	b, err := readRegular(path, func(st *unix.Stat_t) error {
		if err := o.check(st, unix.S_IFREG, path); err != nil {
			return fmt.Errorf("%w: %w", syscache.ErrUntrusted, err)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", format.ErrCorrupt, err)
	}
	return b, err
}

// unknown says whether an error of readPublished tells nothing of what is there:
// the disk failed, or descriptors ran out. To take that for an absence would be
// to remove what readers have, or to leave believed what they should not.
func unknown(err error) bool {
	var errno unix.Errno
	if !errors.As(err, &errno) || errors.Is(err, fs.ErrNotExist) {
		return false
	}
	return !slices.Contains([]unix.Errno{unix.ENOTDIR, unix.ELOOP, unix.EMLINK, unix.ENXIO}, errno)
}

// readOnly are the flags to open what is to be a regular file, which only a stat
// of what was opened can tell: neither a FIFO nor a terminal that was put there
// may hold us up, or become ours.
const readOnly = os.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY

// readRegular returns the contents of a regular file that check, which may be
// nil, accepts. It follows no link and waits for nothing: whoever owns the
// install may put a FIFO, or a link to /dev/zero, where root reads.
func readRegular(path string, check func(*unix.Stat_t) error) ([]byte, error) {
	f, err := unix.OpenFile(path, readOnly, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if uint32(st.Mode)&unix.S_IFMT != unix.S_IFREG || st.Size > format.MaxPointer {
		return nil, fmt.Errorf("%s is not a regular file of a sensible size", path)
	}
	if check != nil {
		if err := check(&st); err != nil {
			return nil, err
		}
	}
	b := make([]byte, st.Size)
	_, err = io.ReadFull(f, b)
	return b, err
}

// verify reads all of g and returns nil if every byte is as it was written,
// else an error that wraps format.ErrCorrupt, or one of reading.
func (g *generation) verify(ctx context.Context, key syscache.Key) error {
	manifest, err := readRegular(g.dir+"/"+format.Manifest, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", format.ErrCorrupt, err)
	}
	m, err := hashing.DecodeManifest(manifest)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", format.ErrCorrupt, err)
	case sha256.Sum256(manifest) != g.meta.Manifest || m.Key() != key:
		return fmt.Errorf("%w: %s/%s does not have the key", format.ErrCorrupt, g.dir, format.Manifest)
	}
	for i := range g.meta.Outputs {
		if err := ctx.Err(); err != nil {
			return err
		}
		out := &g.meta.Outputs[i]
		d, err := digestOutput(g.dir+"/"+out.Path, out.Type)
		if err != nil {
			return err
		}
		if d != out.Digest {
			return fmt.Errorf("%w: the contents of %s/%s", format.ErrCorrupt, g.dir, out.Path)
		}
	}
	if g.meta.Output(format.Origins) != nil && g.meta.Kind == format.KindTable {
		if err := checkOrigins(g.dir+"/"+format.Origins, g.meta.Rows, len(m.Inputs)); err != nil {
			return err
		}
	}
	return g.nothingElse()
}

// checkOrigins reads the origins at path, of a table with that many rows, made
// of that many inputs.
func checkOrigins(path string, rows uint64, inputs int) error {
	f, err := unix.OpenFile(path, readOnly, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	o, err := format.ReadOrigins(f, rows, inputs)
	for err == nil {
		_, err = o.Next()
	}
	if err != io.EOF {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// nothingElse checks that files holds only what meta lists.
func (g *generation) nothingElse() error {
	if g.meta.Kind != format.KindFiles {
		return nil
	}
	listed := make(map[string]bool, len(g.meta.Outputs))
	for i := range g.meta.Outputs {
		listed[g.meta.Outputs[i].Path] = true
	}
	return filepath.WalkDir(g.dir+"/"+format.Files, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && !listed[path[len(g.dir)+1:]] {
			err = fmt.Errorf("%w: %s was not published", format.ErrCorrupt, path)
		}
		return err
	})
}

func digestOutput(path string, t format.OutputType) (d [32]byte, err error) {
	switch t {
	case format.OutputDir:
		return d, nil
	case format.OutputSymlink:
		target, err := os.Readlink(path)
		return sha256.Sum256([]byte(target)), err
	}
	f, err := unix.OpenFile(path, readOnly, 0)
	if err != nil {
		return d, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return d, fmt.Errorf("%w: %s is not what was published", format.ErrCorrupt, path)
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return d, err
	}
	h.Sum(d[:0])
	return d, nil
}
