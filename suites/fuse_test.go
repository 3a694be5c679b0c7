//go:build linux

package suites

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// A fault is an operation that the file system refuses.
type fault struct {
	Op    string        // as the kernel asks: lookup, open, read, setlk, ...
	Name  string        // of what is operated on, without its directory; "": of anything
	Errno syscall.Errno // what it says
	Times int           // how often, 0: always
}

// A fuseMount is a directory seen through a file system of our own, which a
// process of its own serves.
type fuseMount struct {
	*talk
	t   *testing.T
	dir string
}

// newFUSE mounts backing, with what the kernel asked remembered for a while, as
// network file systems have it.
func newFUSE(t *testing.T, backing string, remember time.Duration) *fuseMount {
	t.Helper()
	needsFUSE(t)
	dir := mountPoint(t)
	r := &root{t: t}
	m := &fuseMount{r.talk(asPart(admin, "fuse", backing, dir, remember.String())), t, dir}
	if got := m.hears(); got != "mounted" {
		t.Fatalf("the file system says %q", got)
	}
	return m
}

func needsFUSE(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		lacking(t, "/dev/fuse")
	}
}

// refuses has the file system refuse what is named, and nothing else, from now
// on. It returns how often it refused what was named before.
func (m *fuseMount) refuses(faults ...fault) (met int) {
	m.t.Helper()
	line, err := json.Marshal(faults)
	if err != nil {
		m.t.Fatal(err)
	}
	fmt.Fprintf(m.in, "%s\n", line)
	met, err = strconv.Atoi(m.hears())
	if err != nil {
		m.t.Fatal(err)
	}
	return met
}

func init() { parts["fuse"] = serveFUSE }

// serveFUSE mounts and serves until its standard input ends. Each line of it is
// what to refuse from then on; the answer is how often it was refused before.
func serveFUSE(args []string) error {
	syscall.Umask(0) // the caller's has been applied
	remember, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	top, err := fs.NewLoopbackRoot(args[0])
	if err != nil {
		return err
	}
	f := &faults{}
	server, err := fs.Mount(args[1], &fuseNode{top.(*fs.LoopbackNode), f}, &fs.Options{
		EntryTimeout: &remember, AttrTimeout: &remember, NegativeTimeout: &remember,
		MountOptions: fuse.MountOptions{
			AllowOther: true, EnableLocks: true, DirectMountStrict: true, Options: []string{"default_permissions"},
			MaxStackDepth: -1, // no file is passed through: we are asked for each read
		},
	})
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var list []fault
		if err := json.Unmarshal(in.Bytes(), &list); err != nil {
			return err
		}
		fmt.Println(f.set(list))
	}
	return server.Unmount()
}

// faults are what a file system refuses now.
type faults struct {
	mu   sync.Mutex
	list []fault
	met  int
}

func (f *faults) set(list []fault) (met int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	met, f.met, f.list = f.met, 0, list
	return met
}

// of returns what to say to an operation, 0: nothing against it.
func (f *faults) of(op, name string) syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.list {
		one := &f.list[i]
		if one.Op != op || one.Name != "" && one.Name != name || one.Times < 0 {
			continue
		}
		if f.met++; one.Times > 0 {
			if one.Times--; one.Times == 0 {
				one.Times = -1
			}
		}
		return one.Errno
	}
	return 0
}

// A fuseNode is a file or directory of the directory behind, unless it is to be
// refused.
type fuseNode struct {
	*fs.LoopbackNode
	faults *faults
}

func (n *fuseNode) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	return &fuseNode{child.(*fs.LoopbackNode), n.faults}
}

// of is faults.of for the node itself.
func (n *fuseNode) of(op string) syscall.Errno { return n.faults.of(op, path.Base(n.Path(nil))) }

func (n *fuseNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.faults.of("lookup", name); errno != 0 {
		return nil, errno
	}
	return n.LoopbackNode.Lookup(ctx, name, out)
}

func (n *fuseNode) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if errno := n.of("getattr"); errno != 0 {
		return errno
	}
	return n.LoopbackNode.Getattr(ctx, f, out)
}

func (n *fuseNode) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.of("open"); errno != 0 {
		return nil, 0, errno
	}
	return n.LoopbackNode.Open(ctx, flags)
}

func (n *fuseNode) Read(ctx context.Context, f fs.FileHandle, b []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if errno := n.of("read"); errno != 0 {
		return nil, errno
	}
	return f.(fs.FileReader).Read(ctx, b, off)
}

func (n *fuseNode) Setlk(ctx context.Context, f fs.FileHandle, owner uint64, lk *fuse.FileLock, flags uint32) syscall.Errno {
	if errno := n.of("setlk"); errno != 0 {
		return errno
	}
	return f.(fs.FileSetlker).Setlk(ctx, owner, lk, flags)
}

func (n *fuseNode) Setlkw(ctx context.Context, f fs.FileHandle, owner uint64, lk *fuse.FileLock, flags uint32) syscall.Errno {
	for {
		errno := n.Setlk(ctx, f, owner, lk, flags)
		if errno != syscall.EWOULDBLOCK {
			return errno
		}
		select {
		case <-ctx.Done(): // whoever waits is to end
			return syscall.EINTR
		case <-time.After(time.Millisecond):
		}
	}
}

func (n *fuseNode) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	stream, fuseFlags, errno := n.LoopbackNode.OpendirHandle(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return fuseDir{stream.(dirStream), n}, fuseFlags, 0
}

// A fuseDir is an open directory.
type fuseDir struct {
	dirStream
	node *fuseNode
}

type dirStream interface {
	fs.FileReaddirenter
	fs.FileSeekdirer
	fs.FileReleasedirer
	fs.FileFsyncdirer
}

// Readdirent leaves it to the caller to find out what an entry is, as some file
// systems do.
func (d fuseDir) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	entry, errno := d.dirStream.Readdirent(ctx)
	if entry != nil {
		entry.Mode = 0
	}
	return entry, errno
}

func (d fuseDir) Fsyncdir(ctx context.Context, flags uint32) syscall.Errno {
	if errno := d.node.of("fsyncdir"); errno != 0 {
		return errno
	}
	return d.dirStream.Fsyncdir(ctx, flags)
}

func (n *fuseNode) Rename(ctx context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if flags&fs.RENAME_EXCHANGE != 0 {
		if errno := n.faults.of("exchange", name); errno != 0 {
			return errno
		}
	}
	return n.LoopbackNode.Rename(ctx, name, to, newName, flags)
}

func (n *fuseNode) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.faults.of("link", name); errno != 0 {
		return nil, errno
	}
	return n.LoopbackNode.Link(ctx, target, name, out)
}

func (n *fuseNode) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.faults.of("symlink", name); errno != 0 {
		return nil, errno
	}
	return n.LoopbackNode.Symlink(ctx, target, name, out)
}
