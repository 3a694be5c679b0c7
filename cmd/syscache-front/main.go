//go:build unix

// The front is what packages install as syscache. It answers `get` and `path`
// where there is nothing to be said but the answer, and has the command do
// everything else, a failed attempt included: one program tells what is wrong,
// and decides the exit code.
//
// It imports what every reader does and no more. The command's libraries, for
// hashing, configuration and flags, take half of the time that a look-up takes
// before its main begins.
package main

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/syscache/syscache/internal/environ"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/syscache"
)

// command is the command, relative to the directory of the front.
const command = "../libexec/syscache/syscache"

func main() {
	if q, ok := parse(os.Args[1:]); ok && q.answer() {
		return
	}
	complain(handOver(), "install all of syscache: the front is in bin, the command in "+command[len("../"):])
	if !isHook(os.Args) {
		os.Exit(1)
	}
}

// isHook says whether a package manager asks: no transaction may fail of us.
func isHook(args []string) bool {
	return slices.Contains(args, "--hook") && (slices.Contains(args, "refresh") || slices.Contains(args, "invalidate"))
}

// handOver becomes the command. It returns only if it cannot.
func handOver() error {
	var path string
	for _, front := range places() {
		path = filepath.Join(filepath.Dir(front), command)
		if err := syscall.Exec(path, os.Args, os.Environ()); err != unix.ENOENT {
			return &os.PathError{Op: "run", Path: path, Err: err}
		}
	}
	return &os.PathError{Op: "run", Path: path, Err: unix.ENOENT}
}

// places returns where the front may be: in a chroot without /proc nobody tells.
func places() []string {
	if front, err := os.Executable(); err == nil {
		return []string{front}
	}
	if name := os.Args[0]; filepath.Base(name) != name {
		return []string{name}
	}
	return []string{"/usr/local/bin/syscache", "/usr/bin/syscache"}
}

// A question is one that the front answers.
type question struct {
	root, cacheDir string
	cache, rowKey  string
	path           bool // asks for the directory, not for a row
}

// parse takes the plainest command lines only:
// [--root DIR] [--cache-dir DIR] get CACHE ROWKEY, or path CACHE.
func parse(args []string) (q question, ok bool) {
	for len(args) > 1 && len(args[0]) > 0 && args[0][0] == '-' {
		into := &q.root
		switch args[0] {
		case "--root":
		case "--cache-dir":
			into = &q.cacheDir
		default:
			return q, false
		}
		if *into = args[1]; *into == "" {
			return q, false
		}
		args = args[2:]
	}
	for i, a := range args {
		if a == "" && i < 2 || a != "" && a[0] == '-' {
			return q, false
		}
	}
	switch {
	case len(args) == 3 && args[0] == "get":
		q.cache, q.rowKey = args[1], args[2]
	case len(args) == 2 && args[0] == "path":
		q.cache, q.path = args[1], true
	default:
		return q, false
	}
	return q, true
}

// answer prints the answer, and says whether that is all there was to do.
func (q *question) answer() bool {
	root, options := q.root, &syscache.ReadOptions{}
	if root == "" {
		root = environ.Get("SYSCACHE_ROOT")
	}
	if root == "" {
		root = "/"
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return false
	}
	switch dir := environ.Get("SYSCACHE_CACHE_DIR"); {
	case q.cacheDir != "":
		if dir, err = filepath.Abs(q.cacheDir); err != nil {
			return false
		}
		options.CacheDirs = []string{dir}
	case dir != "" && !filepath.IsAbs(dir):
		return false // a mistake
	}
	r, err := syscache.Open(root, q.cache, options)
	if err != nil || q.path != (r.Dir() != "") {
		return false
	}
	answer := []byte(r.Dir())
	if !q.path {
		if answer, err = r.Get([]byte(q.rowKey)); err != nil {
			return false
		}
	}
	// What could not be written at all the command tells of.
	if n, err := os.Stdout.Write(append(answer[:len(answer):len(answer)], '\n')); err != nil && n == 0 {
		return false
	} else if err != nil {
		complain(err, "what standard output leads to did not take it all")
		os.Exit(1)
	}
	return true
}

func complain(err error, hint string) {
	os.Stderr.WriteString("syscache: " + format.Show(err.Error()) + "\nhint: " + hint + "\n")
}
