//go:build linux

package main

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

var trees = []comparison{
	{"tree: `syscache refresh`, nothing changed", unchanged},
	{"tree: Open with the witness \"inputs\"", readersCheck},
	{"tree: first refresh, built-in cache, fsync included", firstRefresh},
	{"tree: memory of the first refresh, resident", firstMemory("VmHWM:")},
	{"tree: memory of the first refresh, of it anonymous", firstMemory("RssAnon:")},
}

// A tree is an install of many small files, and beside it, so that nobody else
// reads it, what git knows of it.
type tree struct{ root, cacheDir, git string }

// tree returns the tree, made once.
func (b *bench) tree() (*tree, error) {
	t := &tree{b.path("tree"), b.path("tree-caches"), b.path("tree-git")}
	if _, err := os.Stat(t.root); err == nil {
		return t, nil
	}
	if err := plant(t.root, b.files); err != nil {
		return nil, err
	}
	if err := t.commit(); err != nil {
		return nil, err
	}
	// Until then what was just written certifies nothing, to git as to us.
	time.Sleep(2 * time.Second)
	if err := t.status(); err != nil { // writes the index that later ones believe
		return nil, err
	}
	return t, t.refresh(b)
}

// plant makes n files, ten to a directory, with sizes as source files have them:
// half are smaller than 1 KiB, the mean is 1.6 KiB.
func plant(root string, n int) error {
	rnd := rand.New(rand.NewPCG(3, 4))
	content := make([]byte, 64<<10)
	for i := range content {
		content[i] = byte(rnd.Uint32())
	}
	for i := range n {
		dir := filepath.Join(root, fmt.Sprintf("lib/site-packages/package%03d/module%05d", i/1000, i/10))
		if i%10 == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		size := min(int(1024*math.Exp(rnd.NormFloat64())), len(content)-n%1024)
		start := rnd.IntN(len(content) - size + 1)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("some_file_%d.py", i%10)), content[start:start+size], 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) commit() error {
	for _, args := range [][]string{
		{"init", "-q"},
		{"config", "gc.auto", "0"},
		{"config", "core.untrackedCache", "false"},
		{"config", "core.fsmonitor", "false"},
		{"add", "-A"},
		{"-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "all"},
	} {
		if err := t.gitCommand(args...); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) gitCommand(args ...string) error {
	if lacks("git", "git") != "" {
		return nil
	}
	return command("git", append([]string{"--git-dir", t.git, "--work-tree", t.root, "-C", t.root}, args...)...)
}

func (t *tree) status() error { return t.gitCommand("status", "--porcelain") }

// stats is what find says of every file.
func (t *tree) stats() error { return command("find", t.root, "-printf", `%p %s %T@ %i\n`) }

// hash says the digest of every file.
func (t *tree) hash() error {
	return command("sh", "-c", `find "$0" -type f -print0 | xargs -0 -P2 b3sum >/dev/null`, t.root)
}

func (t *tree) refresh(b *bench) error {
	return command(b.program("syscache"), "--root", t.root, "--cache-dir", t.cacheDir, "-q", "refresh")
}

// lookers are those who look at every file's stat and no more.
func (t *tree) lookers(target float64) []peer {
	return []peer{
		{"git status", target, timed(t.status), lacks("git", "git")},
		{"find -printf '%p %s %T@ %i'", target, timed(t.stats), lacks("find", "findutils")},
	}
}

func unchanged(b *bench) (*trial, error) {
	t, err := b.tree()
	if err != nil {
		return nil, err
	}
	return &trial{unit: seconds, ours: timed(func() error { return t.refresh(b) }), peers: t.lookers(0.4)}, nil
}

// readersCheck is of Open alone: whose process it is, is the reader's affair.
func readersCheck(b *bench) (*trial, error) {
	t, err := b.tree()
	if err == nil {
		err = t.refresh(b)
	}
	if err != nil {
		return nil, err
	}
	ours := func() (float64, error) {
		out, err := exec.Command(b.program("reader"), "open", t.root, t.cacheDir, "files").Output()
		ns, err2 := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		return ns / 1e9, errors.Join(err, err2)
	}
	return &trial{unit: seconds, ours: ours, peers: t.lookers(0.35)}, nil
}

func firstRefresh(b *bench) (*trial, error) {
	t, err := b.tree()
	if err != nil {
		return nil, err
	}
	ours := func() (float64, error) {
		if err := t.forget(); err != nil {
			return 0, err
		}
		return timed(func() error { return t.refresh(b) })()
	}
	return &trial{unit: seconds, ours: ours, peers: []peer{{
		"find -type f -print0 \\| xargs -0 -P2 b3sum", 1,
		timed(t.hash),
		lacks("b3sum", "b3sum"),
	}}}, nil
}

// forget leaves nothing of a refresh.
func (t *tree) forget() error { return os.RemoveAll(t.cacheDir) }

// firstMemory is the most of a figure in /proc/PID/status that a first refresh
// has while it runs.
func firstMemory(figure string) func(b *bench) (*trial, error) {
	return func(b *bench) (*trial, error) {
		t, err := b.tree()
		if err != nil {
			return nil, err
		}
		return &trial{unit: amount, limit: new(64e6 + 300*float64(b.files)), ours: func() (float64, error) {
			if err := t.forget(); err != nil {
				return 0, err
			}
			c := exec.Command(b.program("syscache"), "--root", t.root, "--cache-dir", t.cacheDir, "-q", "refresh")
			return most(c, figure)
		}}, nil
	}
}

// most runs c, and looks at the figure every few milliseconds. (What wait4 tells
// has the memory of this process in it, which c shares until it is executed.)
func most(c *exec.Cmd, figure string) (most float64, err error) {
	if err := c.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for {
		select {
		case err := <-ended:
			return most, err
		case <-time.After(2 * time.Millisecond):
			if v, err := kilobytes(fmt.Sprintf("/proc/%d/status", c.Process.Pid), figure); err == nil {
				most = max(most, v)
			}
		}
	}
}

// kilobytes returns the figure that a file of /proc has in kB, in bytes.
func kilobytes(path, figure string) (float64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == figure {
			v, err := strconv.ParseFloat(f[1], 64)
			return v * 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in %s", figure, path)
}
