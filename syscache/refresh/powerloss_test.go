package refresh

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syscache/syscache/internal/format"
)

// A machine remembers what of the operations on its disk is durable, and which
// states a loss of power may leave of the rest. It is worse than every real
// file system:
//
//   - Each change of a directory (a name made, moved, exchanged, removed) that
//     no SyncDir of the directory has followed is kept or lost, whatever becomes
//     of those before and after it. Moving is one change, of the directory that
//     is moved to.
//   - What was written to a file and not synced is there, or not at all, or up
//     to its half, or all zeros; and so is its mode.
//   - A file's sync that failed has lost what it was to make durable: a later one
//     that succeeds says nothing of it. (A directory's that succeeds does: where
//     it is journaled, nothing succeeds after a failure.)
//
// Directories keep the mode that they are given. What a builder writes itself
// and the lock are not looked at.
type machine struct {
	top     string // the root's path
	root    *inode
	pending []*change
	files   []*inode // that were ever written
}

type inode struct {
	mode, oldMode fs.FileMode
	data, oldData string // old: what is durable
	dirty, lost   bool
	names, known  map[string]*inode // of a directory: as they are, and what of it is durable
}

// A change is one of names, which one SyncDir makes durable.
type change struct {
	dir *inode
	set []slot
}

type slot struct {
	dir  *inode
	name string
	to   *inode // nil: none
}

func newMachine(top string, start map[string]*node) *machine {
	m := &machine{top: top, root: &inode{mode: fs.ModeDir | 0o755, names: map[string]*inode{}, known: map[string]*inode{}}}
	for name, n := range start {
		m.root.names[name] = inodeOf(n)
	}
	m.root.known = maps.Clone(m.root.names)
	return m
}

func inodeOf(n *node) *inode {
	i := &inode{mode: n.mode, oldMode: n.mode, data: n.data, oldData: n.data}
	if n.names != nil {
		i.names = map[string]*inode{}
		for name, below := range n.names {
			i.names[name] = inodeOf(below)
		}
		i.known = maps.Clone(i.names)
	}
	return i
}

// at returns what is at a path, nil if nothing, or nothing of ours, is.
func (m *machine) at(full string) *inode {
	i := m.root
	rel, ok := strings.CutPrefix(full, m.top)
	for name := range strings.SplitSeq(strings.Trim(rel, "/"), "/") {
		if i == nil || !ok {
			return nil
		}
		if name != "" {
			i = i.names[name]
		}
	}
	return i
}

// name has paths name other inodes.
func (m *machine) name(durableBy string, to map[string]*inode) {
	c := &change{dir: m.at(path.Dir(durableBy))}
	for full, i := range to {
		s := slot{m.at(path.Dir(full)), path.Base(full), i}
		if s.dir == nil {
			return // below what a builder made
		}
		if c.set = append(c.set, s); i == nil {
			delete(s.dir.names, s.name)
		} else {
			s.dir.names[s.name] = i
		}
	}
	m.pending = append(m.pending, c)
}

// done is told of each operation after it.
func (m *machine) done(op *operation) {
	i := m.at(op.path)
	switch op.name {
	case "mkdir":
		m.name(op.path, map[string]*inode{op.path: {mode: fs.ModeDir | op.mode, names: map[string]*inode{}, known: map[string]*inode{}}})
	case "create":
		op.file.inode = &inode{mode: private, oldMode: private}
		m.files = append(m.files, op.file.inode)
		m.name(op.path, map[string]*inode{op.path: op.file.inode})
	case "symlink":
		m.name(op.path, map[string]*inode{op.path: {mode: fs.ModeSymlink | 0o777, data: op.to, oldData: op.to}})
	case "link":
		m.name(op.to, map[string]*inode{op.to: i})
	case "rename":
		m.name(op.to, map[string]*inode{op.path: nil, op.to: i})
	case "exchange":
		m.name(op.to, map[string]*inode{op.path: m.at(op.to), op.to: i})
	case "remove":
		m.name(op.path, map[string]*inode{op.path: nil})
	case "chmod":
		if i != nil {
			i.mode = fs.ModeDir | op.mode
		}
	case "fchmod":
		op.file.inode.mode, op.file.inode.dirty = op.mode, true
	case "write":
		op.file.inode.data += string(op.data)
		op.file.inode.dirty = true
	case "writeat":
		f := op.file.inode
		f.data = f.data[:op.off] + string(op.data) + f.data[min(len(f.data), int(op.off)+len(op.data)):]
		f.dirty = true
	case "sync":
		if f := op.file.inode; !f.lost {
			f.oldMode, f.oldData, f.dirty = f.mode, f.data, false
		}
	case "syncdir":
		m.pending = slices.DeleteFunc(m.pending, func(c *change) bool {
			synced := c.dir == i
			for _, s := range c.set {
				if synced && s.to == nil {
					delete(s.dir.known, s.name)
				} else if synced {
					s.dir.known[s.name] = s.to
				}
			}
			return synced
		})
	}
}

// What may become of what was written to a file and not synced.
const (
	kept = iota
	lost
	halved
	zeroed
	fates // how many
)

// states calls yield with every state that a loss of power may leave now, or,
// where they are too many, with those in which all is kept, all is lost, or one
// thing differs from that, and some at random.
func (m *machine) states(limit int, random *rand.Rand, yield func(map[string]*node)) {
	var dirty []*inode
	for _, f := range m.files {
		if f.dirty {
			dirty = append(dirty, f)
		}
	}
	choices := make([]int, 0, len(m.pending)+len(dirty)) // of each: how many
	all := 1
	for i := range cap(choices) {
		n := 2
		if i >= len(m.pending) {
			n = fates
		}
		choices = append(choices, n)
		all = min(all*n, limit+1)
	}
	chosen := make([]int, len(choices))
	try := func() { yield(m.state(dirty, chosen)) }
	if all <= limit {
		for range all {
			try()
			for i := range chosen {
				if chosen[i] = (chosen[i] + 1) % choices[i]; chosen[i] > 0 {
					break
				}
			}
		}
		return
	}
	for _, others := range []int{kept, lost} {
		for i := range chosen {
			chosen[i] = others
		}
		try()
		for i := range chosen {
			for c := range choices[i] {
				if chosen[i] = c; c != others {
					try()
				}
			}
			chosen[i] = others
		}
	}
	for range limit / 4 {
		for i := range chosen {
			chosen[i] = random.IntN(choices[i])
		}
		try()
	}
}

// state returns what is left if each change, and each file's unsynced part,
// has the fate chosen.
func (m *machine) state(dirty []*inode, chosen []int) map[string]*node {
	names := map[*inode]map[string]*inode{}
	for i, c := range m.pending {
		for _, s := range c.set {
			if names[s.dir] == nil {
				names[s.dir] = maps.Clone(s.dir.known)
			}
			switch {
			case chosen[i] == lost:
			case s.to == nil:
				delete(names[s.dir], s.name)
			default:
				names[s.dir][s.name] = s.to
			}
		}
	}
	fate := map[*inode]int{}
	for i, f := range dirty {
		fate[f] = chosen[len(m.pending)+i]
	}
	var left func(i *inode) *node
	left = func(i *inode) *node {
		n := &node{mode: i.mode, data: i.data}
		switch fate[i] {
		case lost:
			n.mode, n.data = i.oldMode, i.oldData
		case halved:
			n.data = n.data[:len(n.data)/2]
		case zeroed:
			n.data = strings.Repeat("\x00", len(n.data))
		}
		if i.known != nil {
			n.names = map[string]*node{}
			below := i.known
			if names[i] != nil {
				below = names[i]
			}
			for name, i := range below {
				n.names[name] = left(i)
			}
		}
		return n
	}
	return left(m.root).names
}

// hash is the same for states that differ by random names alone.
func hash(seed maphash.Seed, tops map[string]*node) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var all []string
	for name, n := range tops {
		for _, prefix := range []string{format.TokenPrefix, format.ScratchPrefix} {
			if strings.HasPrefix(name, prefix) {
				name = prefix
			}
		}
		all = append(all, fmt.Sprintf("%q %v %q %d", name, n.mode, n.data, hash(seed, n.names)))
	}
	slices.Sort(all)
	for _, s := range all {
		h.WriteString(s)
	}
	return h.Sum64()
}

// powerSeed replays the random states of a run: as the failing run printed it.
const powerSeed = "SYSCACHE_POWER_SEED"

// A losing is a world whose machine loses power.
type losing struct {
	*world
	m      *machine
	limit  int
	random *rand.Rand
	seed   maphash.Seed
	seen   map[uint64]bool
	found  []crash
}

// A crash is a state that a loss of power left, and when.
type crash struct {
	what string
	done bool
	tops map[string]*node
}

func losePower(t *testing.T, files bool, limit int, scene func(w *world)) *losing {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(powerSeed); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s=%d", powerSeed, seed)
		}
	})
	return &losing{world: newWorld(t, files, scene), limit: limit, random: rand.New(rand.NewPCG(seed, 0)), seed: maphash.MakeSeed(), seen: map[uint64]bool{}}
}

// begin is the start, with a machine whose power is on.
func (l *losing) begin() {
	l.restore(l.start)
	l.m = newMachine(l.root, l.start)
}

// lose collects the states that a loss of power now leaves.
func (l *losing) lose(what string, done bool) {
	l.m.states(l.limit, l.random, func(tops map[string]*node) {
		key := hash(l.seed, tops)
		if done {
			key++ // more is asked of it
		}
		if !l.seen[key] {
			l.seen[key] = true
			l.found = append(l.found, crash{what, done, tops})
		}
	})
}

// install is that of the world, on the machine.
func (l *losing) recorded(before func(i int, op *operation) error, after func(i int, op *operation)) *Install {
	in := l.load()
	d := &tracedDisk{plain: l.plain}
	d.before = func(op *operation) error {
		if before == nil {
			return nil
		}
		return before(len(d.ops)-1, op)
	}
	d.after = func(op *operation) error {
		l.m.done(op)
		if after != nil {
			after(len(d.ops)-1, op)
		}
		return nil
	}
	in.disk = d
	return in
}

// limit is how many states of one moment are tried: all, up to so many.
func limit() int {
	if thorough {
		return 1 << 10
	}
	return 8
}

// TestPowerLoss stops the machine after each operation, and leaves of what was
// not synced some and loses the rest. Readers then have the old, the new or a
// miss; the new, or what an invalidate leaves, if the operation had returned. The
// next refresh puts all right (I1, I2, I6, I10).
func TestPowerLoss(t *testing.T) {
	for name, scene := range scenes {
		for _, files := range kinds(name) {
			t.Run(fmt.Sprintf("%s/files=%v", name, files), func(t *testing.T) {
				t.Parallel()
				l := losePower(t, files, limit(), scene)
				l.begin()
				l.lose("before all", false)
				err := l.op(l.recorded(nil, func(i int, op *operation) {
					l.lose(fmt.Sprintf("power lost after operation %d, %s %s", i, op.name, strings.TrimPrefix(op.path, l.root)), false)
				}))
				l.lose("power lost afterwards", err == nil)
				if err != nil && l.fails == nil {
					t.Fatal(err)
				}
				for _, c := range l.found {
					l.restore(c.tops)
					l.believed(c.what, c.done)
					l.leads(c.what)
					l.heals(c.what)
					if t.Failed() {
						break
					}
				}
				t.Logf("%d states", len(l.found))
			})
		}
	}
}

// TestPowerLossLater kills what is under way, or fails a sync of it, at each
// operation, and lets another of the same finish: what that one then has
// promised holds, however little of what the first did was durable.
func TestPowerLossLater(t *testing.T) {
	both := maps.Clone(scenes)
	maps.Copy(both, map[string]func(w *world){
		"next, then gc": func(w *world) {
			scenes["next"](w)
			w.open = true
			w.again = func(in *Install) error {
				_, err := in.Collect(context.Background(), "c", &CollectOptions{Now: true})
				return err
			}
		},
		"next, then an invalidate": func(w *world) {
			scenes["next"](w)
			w.marks = true
			w.again = func(in *Install) error { return in.Invalidate("c") }
		},
	})
	for name, scene := range both {
		for _, files := range kinds(name) {
			for _, how := range []string{"killed", "unsynced"} {
				t.Run(fmt.Sprintf("%s/files=%v/%s", name, files, how), func(t *testing.T) {
					t.Parallel()
					l := losePower(t, files, limit(), scene)
					for i := 0; l.twice(how == "killed", i) && !t.Failed(); i++ {
					}
					t.Logf("%d states", len(l.found))
				})
			}
		}
	}
}

// twice runs the operation up to its i-th step, or with its i-th sync failed,
// and then again to its end. It returns false if it has no such step.
func (l *losing) twice(killed bool, i int) bool {
	l.begin()
	what := ""
	n := -1
	l.op(l.recorded(func(_ int, op *operation) error {
		if !killed && !strings.HasPrefix(op.name, "sync") {
			return nil
		}
		if n++; n < i || n > i && !killed {
			return nil
		}
		if n == i {
			what = fmt.Sprintf("operation %d, %s %s", i, op.name, strings.TrimPrefix(op.path, l.root))
		}
		if !killed && op.file != nil {
			op.file.inode.lost = true
		}
		return syscall.EIO
	}, nil))
	if what == "" {
		return false
	}
	again := l.op
	if l.again != nil {
		again = l.again
	}
	if err := again(l.recorded(nil, nil)); err != nil {
		if l.fails == nil && !(l.forgets && errors.Is(err, ErrUndeclared)) {
			l.t.Errorf("%s failed, and then: %v", what, err)
		}
		return true
	}
	before := len(l.found)
	l.lose(what+" failed; then it was done again, and the power lost", !l.open)
	for _, c := range l.found[before:] {
		l.restore(c.tops)
		l.believed(c.what, c.done)
		l.leads(c.what)
	}
	return true
}
