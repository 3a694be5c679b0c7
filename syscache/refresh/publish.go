package refresh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// This file makes directories, renames and syncs; nothing else does.

// prepare makes the cache's directory, and vets every directory from the root
// down to it.
func (r *refresher) prepare() error {
	dirs := r.dir + "/" + format.Generations
	err := r.checkKept(dirs)
	if errors.Is(err, fs.ErrNotExist) {
		if err := r.makeDirs(dirs); err != nil {
			err = fmt.Errorf("refresh %s: %w", r.c.Name, err)
			if errors.Is(err, fs.ErrPermission) && !r.internal {
				uid := unix.Geteuid()
				err = &HintedError{err, fmt.Sprintf("make it for uid %d, as whom this refreshes: install -d -o %[1]d %s", uid, format.ShellQuote(r.cacheDir))}
			}
			return err
		}
		err = r.checkKept(dirs)
	}
	if err == nil {
		err = r.checkKept(r.dir) // strictly, as the last of its path
	}
	if err == nil {
		err = r.checkCommand()
	}
	if err != nil {
		err = fmt.Errorf("refresh %s: %w", r.c.Name, err)
		if errors.Is(err, fs.ErrPermission) { // it was not even seen who may write it
			return err
		}
		return &HintedError{err, trustHint(r.root, err)}
	}
	if err := r.foreign(r.c.Name); err != nil {
		return fmt.Errorf("refresh %s: %w", r.c.Name, err)
	}
	return nil
}

// makeDirs makes dir and what is missing above it.
func (in *Install) makeDirs(dir string) error {
	err := in.disk.Mkdir(dir, in.owner.dirMode())
	if errors.Is(err, fs.ErrNotExist) {
		if err = in.makeDirs(filepath.Dir(dir)); err == nil {
			err = in.disk.Mkdir(dir, in.owner.dirMode())
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // another refresher's
	}
	if err == nil && in.owner.forGroup() {
		err = in.joinGroup(dir)
	}
	if err != nil {
		return err
	}
	return in.disk.SyncDir(filepath.Dir(dir))
}

// joinGroup makes a directory belong to the root's group, which below a directory
// without set-group-id it does not by itself.
func (in *Install) joinGroup(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil || st.Gid == in.owner.gid {
		return err
	}
	if err := in.disk.Chown(dir, in.owner.gid); err != nil {
		return err
	}
	return in.disk.Chmod(dir, in.owner.dirMode())
}

// heal gives the directories of a cache outside of the root, as far as this user
// made them, the modes that they would be made with now: who can reach the root
// may have changed since. Inside, the root's own mode decides.
func (r *refresher) heal() error {
	if r.internal {
		return nil
	}
	places := r.dir + "/" + format.Generations
	dirs := []string{r.dir, places}
	for _, name := range namesIn(places) {
		dirs = append(dirs, places+"/"+name)
	}
	healed := false
	for _, dir := range dirs {
		if !r.ails(dir) {
			continue
		}
		healed = true
		if err := r.healAll(dir); err != nil {
			return fmt.Errorf("refresh %s: %w", r.c.Name, err)
		}
	}
	var st unix.Stat_t
	if healed && r.owner.reach == everyone && unix.Stat(r.cacheDir, &st) == nil && st.Mode&unix.S_IXOTH == 0 {
		r.tell("others can enter the root by now, but not the cache_dir: chmod a+x %s", format.ShellQuote(r.cacheDir))
	}
	return nil
}

// ails says whether dir is a directory of ours and has another mode, or group,
// than it should.
func (r *refresher) ails(dir string) bool {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil || uint32(st.Mode)&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != unix.Geteuid() {
		return false
	}
	return uint32(st.Mode)&0o777 != uint32(r.owner.dirMode().Perm()) || r.owner.forGroup() && st.Gid != r.owner.gid
}

// healAll heals dir and all below it, dir last: one that was killed is found to
// ail.
func (r *refresher) healAll(dir string) error {
	entries, err := listDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := r.healAll(dir + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	if !r.ails(dir) {
		return nil
	}
	if r.owner.forGroup() {
		if err := r.joinGroup(dir); err != nil {
			return err
		}
	}
	return r.disk.Chmod(dir, r.owner.dirMode())
}

// A token is a file that whoever invalidates removes: the refresher that then
// wants to rename it finds out. It becomes the new pointer.
type token struct {
	path string
	file file
}

func (r *refresher) takeToken() error {
	path := r.dir + "/" + randomName(format.TokenPrefix)
	f, err := r.disk.Create(path)
	if err != nil {
		return err
	}
	r.token = &token{path, f}
	return nil
}

// dropToken removes the token if it was not published.
func (r *refresher) dropToken() {
	if r.token != nil {
		r.token.file.Close()
		r.disk.Remove(r.token.path)
		r.token = nil
	}
}

// fill makes b the token's contents, durably.
func (t *token) fill(b []byte) error {
	err := t.write(b)
	if _, gone := os.Lstat(t.path); err != nil && errors.Is(gone, fs.ErrNotExist) {
		// A network file system may refuse everything (NFS: ESTALE) once
		// another host has removed the name.
		return overtaken("it was invalidated meanwhile")
	}
	return err
}

func (t *token) write(b []byte) error {
	if err := writeAll(t.file, b); err != nil {
		return err
	}
	if err := t.file.Chmod(publicMode); err != nil {
		return err
	}
	return t.file.Sync()
}

// publish makes p the cache's pointer, which tidy makes durable. All that p
// names must be so before (I6). If an error is returned the pointer is the old
// one, the new one, or, after an invalidate, none. It returns p's bytes.
func (r *refresher) publish(p *format.Pointer) ([]byte, error) {
	b, err := p.Encode()
	if err != nil {
		return nil, r.c.mistaken("witness", err.Error(), "name fewer: a directory certifies its entries")
	}
	if err := r.forgetSeen(); err != nil {
		return nil, err
	}
	t := r.token
	if err := t.fill(b); err != nil {
		return nil, err
	}
	// A refresher that looked at the inputs before we did, and that no lock
	// stopped (I8), must not come after us.
	if err := r.removeTokens(t.path); err != nil {
		return nil, err
	}
	err = r.disk.Rename(t.path, r.dir+"/"+format.Current)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, overtaken("it was invalidated meanwhile")
	}
	if err != nil {
		return nil, err
	}
	// The name is no longer ours to remove: it may be somebody else's by now.
	t.file.Close()
	r.token = nil
	return b, nil
}

// syncWay makes durable what a refresher that was killed may have left unsynced:
// the name of a generation that is found in its place and, before the first
// publish, those of the directories that lead to it.
func (r *refresher) syncWay(g *generation) error {
	places := r.dir + "/" + format.Generations
	if !g.installed && filepath.Dir(g.dir) == places {
		if err := r.disk.SyncDir(places); err != nil {
			return err
		}
	}
	if decides(r.dir) {
		return nil
	}
	if err := r.syncDirs(r.dir); err != nil {
		return err
	}
	return r.disk.SyncDir(r.dir)
}

// syncDirs makes dir and the directories that lead to it durable.
func (in *Install) syncDirs(dir string) error {
	for dir := range way(in.root, dir) {
		err := in.disk.SyncDir(filepath.Dir(dir))
		if err != nil && !errors.Is(err, fs.ErrPermission) { // it is not of our making
			return err
		}
	}
	return nil
}

// linkLatest keeps the link latest where g's files are, or keeps there none.
// It is moved before a generation is collected: it never leads nowhere.
func (r *refresher) linkLatest(g *generation) error {
	link := r.dir + "/" + format.Latest
	have, err := os.Readlink(link)
	if errors.Is(err, unix.EINVAL) && r.c.Latest {
		return &HintedError{fmt.Errorf("refresh %s: %s is no symbolic link", r.c.Name, link), "move it away: syscache keeps a link there"}
	}
	if !r.c.Latest {
		if err != nil {
			return nil
		}
		return ignoreNotExist(r.disk.Remove(link))
	}
	want, err := filepath.Rel(r.dir, g.dir+"/"+format.Files)
	if err != nil || have == want {
		return err
	}
	tmp := r.dir + "/" + randomName(format.ScratchPrefix)
	if err := r.disk.Symlink(want, tmp); err != nil {
		return err
	}
	if err := r.disk.Rename(tmp, link); err != nil {
		// Gone: another refresher, which no lock stopped, swept it, and moves
		// the link itself.
		return ignoreNotExist(errors.Join(err, ignoreNotExist(r.disk.Remove(tmp))))
	}
	return nil
}

// markStale takes the pointer from readers, durably. A rename needs no space
// on a full disk.
func (r *refresher) markStale(before *published) error {
	mine := ""
	if r.token != nil {
		mine = r.token.path
	}
	if err := r.removeTokens(mine); err != nil {
		return err
	}
	if before == nil {
		return r.maskImage(r.c.Name)
	}
	return markStale(r.disk, r.dir)
}

// dropStale removes what was marked stale before. An invalidate may come at the
// very moment and mark what is published now: its mark is put back then, for
// readers would find the cache missing, and those who accept stale data nothing.
func (r *refresher) dropStale() error {
	if _, err := os.Lstat(r.dir + "/" + format.Stale); err != nil {
		return ignoreNotExist(err)
	}
	published, err := r.owner.readPublished(r.dir + "/" + format.Current)
	if err != nil {
		return nil // it was marked, and the mark is to stay
	}
	if err := lstatAndRemove(r.disk, r.dir+"/"+format.Stale); err != nil {
		return ignoreNotExist(err)
	}
	if decides(r.dir) {
		return nil
	}
	return r.writeStale(r.dir, published)
}

// maskImage marks what an image ships of a cache stale, if readers would look
// at that: the mark is in the cache_dir that they look into first.
func (in *Install) maskImage(cache string) error {
	dir := in.cacheDir + "/" + cache
	if !in.unmasked(cache) {
		return nil
	}
	shipped, err := in.owner.readPublished(in.readDirs()[1] + "/" + cache + "/" + format.Current)
	switch {
	case unknown(err):
		return err
	case err != nil:
		return nil // nor do readers believe it
	}
	if err := in.makeDirs(dir); err != nil {
		return err
	}
	if err := in.checkKept(dir); err != nil {
		return err
	}
	if err := in.syncDirs(dir); err != nil { // who made them may have been killed
		return err
	}
	return in.writeStale(dir, shipped)
}

// writeStale makes a pointer's bytes the mark of the cache in dir.
func (in *Install) writeStale(dir string, pointer []byte) error {
	tmp := dir + "/" + randomName(format.ScratchPrefix)
	f, err := in.disk.Create(tmp)
	if err != nil {
		return err
	}
	err = writeAll(f, pointer)
	err = errors.Join(err, f.Chmod(publicMode), f.Sync(), f.Close())
	if err == nil {
		err = in.disk.Rename(tmp, dir+"/"+format.Stale)
	}
	if err != nil {
		return errors.Join(err, ignoreNotExist(in.disk.Remove(tmp)))
	}
	return in.disk.SyncDir(dir)
}

// markStale marks the pointer in dir, durably. The mark of one that was killed
// before it synced is none yet.
func markStale(d disk, dir string) error {
	err := d.Rename(dir+"/"+format.Current, dir+"/"+format.Stale)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return ignoreNotExist(d.SyncDir(dir))
}

// removeTokens removes the tokens of all refreshers but the one with mine.
func (r *refresher) removeTokens(mine string) error {
	return removeTokens(r.disk, r.dir, mine)
}

func removeTokens(d disk, dir, mine string) error {
	names, err := namesWith(dir, format.TokenPrefix)
	for _, name := range names {
		if path := dir + "/" + name; path != mine {
			if err := removeAll(d, path); err != nil { // a stranger's may be a directory
				return err
			}
		}
	}
	return err
}

// invalidate marks the pointer stale, removes every token, and marks the
// pointer stale again. A refresher that looked at the inputs before now either
// finds the pointer gone when it takes its token, or had the token before, and
// loses it, or has published in between: then the second mark is for what it
// published.
func invalidate(d disk, dir string) error {
	if err := markStale(d, dir); err != nil {
		return err
	}
	if err := removeTokens(d, dir, ""); err != nil {
		return err
	}
	return markStale(d, dir)
}

// replace writes a file of the refresher's own that no reader opens, whole or
// not at all. It is a memo: it is not synced.
func (r *refresher) replace(name string, b []byte) error {
	tmp := r.dir + "/" + randomName(format.ScratchPrefix)
	f, err := r.disk.Create(tmp)
	if err != nil {
		return err
	}
	err = writeAll(f, b)
	if r.owner.shared {
		err = errors.Join(err, f.Chmod(0o640)) // the next refresh may be another maintainer's
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = r.disk.Rename(tmp, r.dir+"/"+name)
	}
	if err != nil {
		r.disk.Remove(tmp)
	}
	return err
}

// install moves a generation that was built into its place, durably. A rename
// cannot replace a directory: with what is there already it changes places, and
// that is removed with the rest of the staging.
func (r *refresher) install(staged, key string) error {
	g := r.dir + "/" + format.Generations
	place := r.dir + "/" + format.Generation(key)
	err := r.disk.Rename(staged, place)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
		err = r.exchange(staged, place)
	}
	if err != nil {
		return err
	}
	return r.disk.SyncDir(g)
}

// exchange has a and b change places: in one step where the file system can do
// that, else in three.
func (r *refresher) exchange(a, b string) error {
	err := r.disk.Exchange(a, b)
	if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	aside := filepath.Dir(b) + "/" + randomName(format.ScratchPrefix)
	if err := r.disk.Rename(b, aside); err != nil {
		return err
	}
	if err := r.disk.Rename(a, b); err != nil {
		return errors.Join(err, r.disk.Rename(aside, b))
	}
	return r.disk.Rename(aside, a)
}

// sweep removes what a refresher that was killed left behind. It is called
// under the lock.
func (r *refresher) sweep() error {
	if err := r.removeTokens(""); err != nil {
		return err
	}
	for _, dir := range []string{r.dir, r.dir + "/" + format.Generations} {
		names, err := namesWith(dir, format.ScratchPrefix)
		if err != nil {
			return err
		}
		for _, name := range names {
			err := r.discard(dir + "/" + name)
			if errors.Is(err, fs.ErrPermission) && r.owner.shared {
				r.tell("%s/%s was left behind by another maintainer, whose builder made it so that only they can remove it", dir, name)
			} else if err != nil && !unix.InUse(err) {
				return err
			}
		}
	}
	return nil
}

func namesWith(dir, prefix string) ([]string, error) {
	entries, err := listDir(dir)
	var found []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			found = append(found, e.Name())
		}
	}
	return found, err
}

// openDir opens a directory, and neither follows a link nor waits for a FIFO
// that the owner of the install put in its place.
func openDir(dir string) (*os.File, error) {
	return unix.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// listDir returns the entries of a directory, sorted by name.
func listDir(dir string) ([]fs.DirEntry, error) {
	d, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
