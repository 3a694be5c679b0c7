//go:build linux

package suites

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/syscache"
)

// How long a soak lasts, and the seed that a failing one printed. The same seed
// does the same things in the same order; what the processes that it starts
// make of it, side by side, the machine decides.
const (
	soakTime = "SUITES_SOAK" // such as 40m
	soakSeed = "SUITES_SOAK_SEED"
)

// Installs, edits, refreshes, kills, invalidates, gcs and stepped clocks at
// random, while readers of three users and both languages are held to a model
// of what they may see: soak_model_test.go.
func TestSoak(t *testing.T) {
	slow(t)
	d := 2 * time.Minute
	if s := os.Getenv(soakTime); s != "" {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	soak(t, d)
}

// The same, for a moment.
func TestShower(t *testing.T) { soak(t, 4*time.Second) }

// soakConfig declares a cache of each kind and with each witness.
const soakConfig = `
[cache.inputs]
inputs = ["lib/**"]
build  = ["libexec/lines"]
recipe = ["libexec/lines"]
keep   = "1s"
[cache.builtin]
inputs = ["lib/**"]
keep   = "1s"
[cache.manifest]
inputs = ["lib/**"]
witness = ["MANIFEST"]
build  = ["libexec/lines"]
[cache.directory]
inputs = ["lib/*"]
witness = ["lib/"]
build  = ["libexec/lines", "-maxdepth", "1"]
[cache.absent]
inputs = ["lib/**"]
witness = ["EXTRA"]
build  = ["libexec/lines"]
[cache.hooks]
inputs = ["lib/**"]
witness = []
build  = ["libexec/lines"]
keep   = "1ms"
[cache.tree]
kind   = "files"
latest = true
inputs = ["lib/**"]
build  = ["/bin/sh", "-c", "cp -r lib \"$SYSCACHE_OUT\""]
env    = { PATH = "/usr/bin:/bin" }
`

var soaked = []watched{
	{"inputs", "all", true, true},
	{"builtin", "all", true, true},
	{"tree", "all", true, true},
	{"directory", "direct", true, false},
	{"manifest", "all", false, false},
	{"absent", "all", false, false},
	{"hooks", "all", false, false},
}

// soakLines prints a row for each file below lib, and starts nothing for it.
const soakLines = `#!/bin/sh
set -e
PATH=/usr/bin:/bin
find lib "$@" -type f | while read -r f; do
	line=
	read -r line <"$f" || test -e "$f"
	printf '{"key":"%s","value":"%s"}\n' "$f" "$line"
done
`

// A soaking is one run of a soak.
type soaking struct {
	*root
	h      *history
	random *rand.Rand
	files  map[string]string // what the install has
	sub    string            // the directory that is renamed now and then
	lines  int               // how many different ones were written
	old    []string          // some of them, to be written again

	stepped string // the command, with a clock that SOAK_CLOCK sets back or forth

	mu      sync.Mutex
	digests map[string]string // of a file, its line
	counts  map[string]int
	recent  []string // what was done last
	busy    sync.WaitGroup
	slots   chan struct{} // how many processes may run at once
}

func soak(t *testing.T, d time.Duration) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(soakSeed); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", soakSeed, seed)
	s := newSoaking(t, seed)
	readers := s.readers()
	for end := time.Now().Add(d); time.Now().Before(end) && !t.Failed(); {
		for range 50 + s.random.IntN(150) {
			s.something()
		}
		s.rest()
	}
	put(s.h.clock, ended, 1)
	for _, one := range readers {
		if o := one.wait(); o.code != 0 {
			t.Errorf("reader %v: %v", one.cmd.Args, o)
		}
	}
	s.busy.Wait()
	for _, what := range slices.Sorted(maps.Keys(s.counts)) {
		t.Logf("%7d %s", s.counts[what], what)
	}
	if t.Failed() {
		t.Logf("%s=%d; last: %s", soakSeed, seed, strings.Join(s.recent, "; "))
	}
	for _, c := range soaked {
		if s.counts["go "+c.name+" ok"] == 0 || s.counts["python "+c.name+" ok"] == 0 {
			t.Errorf("%s was never answered in both languages", c.name)
		}
	}
}

func newSoaking(t *testing.T, seed uint64) *soaking {
	s := &soaking{
		root: newRoot(t, admin), random: rand.New(rand.NewPCG(seed, 0)), sub: "lib/sub",
		digests: map[string]string{}, counts: map[string]int{}, slots: make(chan struct{}, 4),
	}
	s.stepped = s.buildStepped()
	s.write("etc/syscache.toml", soakConfig)
	s.write("libexec/lines", soakLines)
	s.must(os.Chmod(s.dir+"/libexec/lines", 0o755))
	s.write("MANIFEST", "0")
	s.files = map[string]string{}
	for _, name := range []string{"lib/a", "lib/b", "lib/c", "lib/sub/d", "lib/sub/e"} {
		s.files[name] = s.line()
		s.write(name, s.files[name]+"\n")
	}
	s.must(os.Symlink("a", s.dir+"/lib/link"))
	counters := s.side + "/counters"
	s.must(os.WriteFile(counters, make([]byte, counted), 0o644))
	f, err := os.OpenFile(counters, os.O_RDWR, 0)
	s.must(err)
	t.Cleanup(func() { f.Close() })
	s.h = newHistory(f, s.files)
	return s
}

// buildStepped builds the command with a time.Now that is off by as many seconds
// as SOAK_CLOCK says: what a step of the system's clock between the writing of a
// file and a refresh looks like to the refresh. The kernel's own clock, and with
// it the times of files, stays: this machine is not ours alone.
func (s *soaking) buildStepped() string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	s.must(err)
	file := strings.TrimSpace(string(out)) + "/src/time/time.go"
	source, err := os.ReadFile(file)
	s.must(err)
	const begin = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), begin) != 1 {
		s.t.Fatalf("%s: this version of Go tells the time otherwise", file)
	}
	source = []byte(strings.Replace(string(source), begin, begin+"\tsec += step\n", 1) + `
var step = func() (n int64) {
	s, _ := syscall.Getenv("SOAK_CLOCK")
	for i := range s {
		if s[i] != '-' {
			n = 10*n + int64(s[i]-'0')
		}
	}
	if s != "" && s[0] == '-' {
		n = -n
	}
	return n
}()
`)
	source = bytes.Replace(source, []byte("import (\n"), []byte("import (\n\t\"syscall\"\n"), 1)
	// What is compared with the times of files is asked of the kernel otherwise.
	files, err := filepath.Abs("../hashing/scan_linux.go")
	s.must(err)
	clock, err := os.ReadFile(files)
	s.must(err)
	const end = "\t\treturn t.Nano()\n"
	if strings.Count(string(clock), end) != 1 {
		s.t.Fatalf("%s tells the time otherwise", files)
	}
	clock = bytes.Replace(clock, []byte(end), []byte("\t\treturn preciseNow()\n"), 1)
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {file: s.side + "/time.go", files: s.side + "/clock.go"}})
	s.must(errors.Join(
		err, os.WriteFile(s.side+"/time.go", source, 0o600), os.WriteFile(s.side+"/clock.go", clock, 0o600),
		os.WriteFile(s.side+"/overlay.json", overlay, 0o600),
	))
	build := exec.Command("go", "build", "-overlay", s.side+"/overlay.json", "-o", s.side+"/stepped", "../cmd/syscache")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.t.Fatalf("build with another clock: %v\n%s", err, out)
	}
	return s.side + "/stepped"
}

// something does one thing to the install, or starts one process.
func (s *soaking) something() {
	switch n := s.random.IntN(100); {
	case n < 45:
		for range 1 + s.random.IntN(4) {
			s.edit()
		}
		if s.random.IntN(5) > 0 { // else the installer was interrupted
			s.manifest()
		}
	case n < 50:
		s.did("EXTRA", os.WriteFile(s.dir+"/EXTRA", nil, 0o644))
	case n < 55:
		s.did("no EXTRA", s.gone(os.Remove(s.dir+"/EXTRA")))
	case n < 57:
		s.did("recipe", s.replace("libexec/lines", soakLines+"# "+strconv.Itoa(s.random.IntN(4))+"\n", 0o755))
	case n < 85:
		s.refresh()
	case n < 92:
		c := soaked[s.random.IntN(len(soaked))].name
		s.process([]string{c}, nil, tool, "invalidate", c)
	case n < 96:
		s.process(nil, nil, tool, "gc")
	default:
		s.process(nil, nil, tool, "gc", "--now")
	}
	time.Sleep(time.Duration(s.random.IntN(12)) * time.Millisecond) // not a wait: the pace
}

func (s *soaking) gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// did notes what was done, and fails if it could not be.
func (s *soaking) did(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	s.note(what)
}

func (s *soaking) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[strings.Fields(what)[0]]++
	if s.recent = append(s.recent, what); len(s.recent) > 40 {
		s.recent = s.recent[1:]
	}
}

func (s *soaking) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

// line returns what to write into a file: mostly what was never there.
func (s *soaking) line() string {
	if len(s.old) > 0 && s.random.IntN(6) == 0 {
		return s.old[s.random.IntN(len(s.old))]
	}
	s.lines++
	line := fmt.Sprintf("%08d", s.lines)
	digest, err := hashing.Sum(strings.NewReader(line + "\n"))
	s.must(err)
	s.mu.Lock()
	s.digests[digest.String()] = line
	s.mu.Unlock()
	if s.old = append(s.old, line); len(s.old) > 8 {
		s.old = s.old[1:]
	}
	return line
}

// edit changes the inputs in one of the ways in which installers and people do.
func (s *soaking) edit() {
	paths := slices.Sorted(maps.Keys(s.files))
	path := paths[s.random.IntN(len(paths))]
	full := s.dir + "/" + path
	switch s.random.IntN(9) {
	case 0: // in place
		s.did("truncate "+path, s.change(path, "", func() error { return os.Truncate(full, 0) }))
		line := s.line()
		s.did("append "+path, s.change(path, line, func() error { return s.writeAt(full, line) }))
	case 1: // in place, and never shorter
		line := s.line()
		s.did("overwrite "+path, s.change(path, line, func() error { return s.writeAt(full, line) }))
	case 2: // in place, with the times of before
		fi, err := os.Lstat(full)
		s.must(err)
		line := s.line()
		s.did("overwrite "+path, s.change(path, line, func() error { return s.writeAt(full, line) }))
		s.did("clamp "+path, os.Chtimes(full, fi.ModTime(), fi.ModTime()))
	case 3, 4: // by rename
		line := s.line()
		s.did("rename "+path, s.change(path, line, func() error { return s.replace(path, line+"\n", 0o644) }))
	case 5: // unpacked with a clamped time
		line := s.line()
		s.did("unpack "+path, s.change(path, line, func() error { return s.replaceAt(path, line+"\n", time.Unix(1, 0)) }))
	case 6:
		if len(paths) > 12 {
			delete := maps.Clone(s.files)
			maps.DeleteFunc(delete, func(p, _ string) bool { return p == path })
			s.files = delete
			s.did("remove "+path, s.h.change(delete, func() error { return os.Remove(full) }))
			return
		}
		path, line := fmt.Sprintf("%s/n%d", []string{"lib", s.sub}[s.random.IntN(2)], s.random.IntN(30)), s.line()
		s.did("install "+path, s.change(path, line, func() error { return s.replace(path, line+"\n", 0o644) }))
	case 7:
		to := map[string]string{"lib/sub": "lib/tus", "lib/tus": "lib/sub"}[s.sub]
		moved := map[string]string{}
		for path, line := range s.files {
			if rest, ok := strings.CutPrefix(path, s.sub+"/"); ok {
				path = to + "/" + rest
			}
			moved[path] = line
		}
		from := s.sub
		s.sub, s.files = to, moved
		s.did("move "+from, s.h.change(moved, func() error { return os.Rename(s.dir+"/"+from, s.dir+"/"+to) }))
	case 8:
		tmp := s.side + "/link"
		s.did("link", errors.Join(os.Symlink([]string{"a", "b"}[s.random.IntN(2)], tmp), os.Rename(tmp, s.dir+"/lib/link")))
	}
}

// change is a step after which a file has another first line.
func (s *soaking) change(path, line string, do func() error) error {
	next := maps.Clone(s.files)
	next[path] = line
	s.files = next
	return s.h.change(next, do)
}

func (s *soaking) writeAt(full, line string) error {
	f, err := os.OpenFile(full, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(line+"\n"), 0)
	return errors.Join(err, f.Close())
}

// replace puts a file in a place by rename.
func (s *soaking) replace(name, content string, mode fs.FileMode) error {
	tmp := s.side + "/tmp"
	return errors.Join(os.WriteFile(tmp, []byte(content), mode), os.Chmod(tmp, mode), os.Rename(tmp, s.path(name)))
}

func (s *soaking) replaceAt(name, content string, mtime time.Time) error {
	tmp := s.side + "/tmp"
	return errors.Join(os.WriteFile(tmp, []byte(content), 0o644), os.Chtimes(tmp, mtime, mtime), os.Rename(tmp, s.path(name)))
}

// manifest changes the witness as an installer does that writes it last.
func (s *soaking) manifest() {
	_, state := s.h.now()
	s.lines++
	content := fmt.Sprintf("%08d", s.lines)
	do := func() error { return s.replace("MANIFEST", content, 0o644) }
	if s.random.IntN(2) == 0 {
		do = func() error { return os.WriteFile(s.dir+"/MANIFEST", []byte(content), 0o644) }
	}
	s.did("manifest", do())
	s.h.raise("manifest", state)
}

// refresh starts a refresh, of all caches or of one, by a person or a hook, with
// a true clock or another, and kills it now and then.
func (s *soaking) refresh() {
	caches, args := []string{}, []string{"refresh"}
	if s.random.IntN(2) == 0 {
		caches = []string{soaked[s.random.IntN(len(soaked))].name}
		args = append(args, caches...)
	} else {
		for _, c := range soaked {
			caches = append(caches, c.name)
		}
	}
	switch s.random.IntN(6) {
	case 0:
		args = append(args, "--hook")
	case 1:
		args = append(args, "--force")
	}
	command, env := tool, []string(nil)
	if s.random.IntN(4) == 0 {
		step := []int{-86400, -3600, -1, 1, 3600, 86400}[s.random.IntN(6)]
		command, env = s.stepped, []string{fmt.Sprint("SOAK_CLOCK=", step)}
		s.count("stepped clock")
	}
	s.process(caches, env, append([]string{command}, args...)...)
}

// process starts a process of syscache, unless there are many. When it has
// succeeded, none of caches is what it was before it began.
func (s *soaking) process(caches, env []string, argv ...string) {
	kill := time.Duration(-1)
	if s.random.IntN(3) == 0 {
		kill = time.Duration(s.random.IntN(200)) * time.Millisecond
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return
	}
	s.note(strings.Join(argv[1:], " "))
	_, state := s.h.now()
	cmd := as(admin, append([]string{argv[0], "--root", s.dir}, argv[1:]...)...)
	cmd.Env = append(cmd.Env, env...)
	one := start(s.t, cmd)
	s.busy.Go(func() {
		defer func() { <-s.slots }()
		if kill >= 0 {
			select {
			case <-one.done:
			case <-time.After(kill):
				s.count("killed")
				syscall.Kill(cmd.Process.Pid, syscall.SIGKILL)
			}
		}
		o := one.wait()
		switch {
		case strings.Contains(o.stderr, "goroutine ") || strings.Contains(o.stderr, "panic"):
			s.t.Errorf("%v: %v", argv, o)
		case o.code == 0:
			for _, c := range caches {
				s.h.raise(c, state)
			}
		case o.code == 1 || o.code == 5 || o.code == -1:
			s.count(fmt.Sprint(argv[1], " exit ", o.code))
		default:
			s.t.Errorf("%v: %v", argv, o)
		}
	})
}

// rest waits until all is done, and refreshes: everybody then has what the
// install is, nothing lies about, and every byte is right.
func (s *soaking) rest() {
	s.busy.Wait()
	o := run(s.t, as(admin, s.syscache("refresh", "--json")...))
	if o.code != 0 {
		s.t.Errorf("a refresh at rest: %v", o)
		return
	}
	for _, c := range soaked {
		s.check(c.name)
		want := canonical(views[c.view], s.files)
		rows, class, err := soakLook(s.dir, c.name, false)
		if got := canonical(views[c.view], s.told(c.name, rows)); class != "ok" || got != want {
			s.t.Errorf("at rest %s is %s, %v:\n%s\nwant\n%s", c.name, class, err, got, want)
		}
	}
	for _, u := range []user{bob, carol} {
		for _, how := range readers {
			if o := s.read(u, how, "list", "inputs"); o.code != 0 {
				s.t.Errorf("at rest, %s (%s): %v", u.name, how.name, o)
			}
		}
	}
	s.count("rests")
	s.h.forget(4000)
}

// An observation is what a reader was told.
type observation struct {
	Cache, How, Class, Error string
	Stale                    bool
	A, B                     uint64
	Rows                     map[string]string
}

// readers starts readers of three users in both languages, and holds what they
// are told against the model.
func (s *soaking) readers() (all []*running) {
	s.write(s.side+"/reader.py", soakPython)
	for i, u := range []user{admin, bob, carol, admin, bob, carol} {
		how, seed := "go", fmt.Sprint(i)
		cmd := asPart(u, "soak-read", s.dir, s.side+"/counters", seed)
		if i >= 3 {
			how = "python"
			cmd = as(u, "/usr/bin/python3", "-SB", s.side+"/reader.py", s.dir, s.side+"/counters", seed)
			cmd.Env = append(cmd.Env, "PYTHONPATH="+strings.TrimSuffix(python, "/syscache.py"))
		}
		cmd.Args = append([]string{"nice", "-n", "10"}, cmd.Args...)
		cmd.Path = "/usr/bin/nice"
		r, w, err := os.Pipe()
		s.must(err)
		cmd.Stdout = w
		all = append(all, start(s.t, cmd))
		w.Close()
		s.busy.Add(0)
		go s.hold(how, r)
	}
	return all
}

// hold holds what a reader prints against the model.
func (s *soaking) hold(how string, out io.ReadCloser) {
	defer out.Close()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o observation
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			s.t.Errorf("%s: %q: %v", how, lines.Bytes(), err)
			return
		}
		s.count(how + " " + o.Cache + " " + o.Class)
		s.count(how + " " + o.How)
		switch o.Class {
		case "ok":
			i := slices.IndexFunc(soaked, func(c watched) bool { return c.name == o.Cache })
			if err := s.h.allows(soaked[i], s.told(o.Cache, o.Rows), o.Stale, o.A, o.B); err != nil {
				s.t.Errorf("%s was told of %s (%s, stale: %v) between %d and %d: %v", how, o.Cache, o.How, o.Stale, o.A, o.B, err)
			}
		case "stale", "missing", "moved":
		case "gone": // collected between the look for it and the reading of its files
			if o.Cache != "tree" {
				s.t.Errorf("%s: %+v", how, o)
			}
		default:
			s.t.Errorf("%s: %+v", how, o)
		}
	}
}

// told returns the first lines that rows tell of.
func (s *soaking) told(cache string, rows map[string]string) map[string]string {
	told := map[string]string{}
	for path, value := range rows {
		var line string
		var entry struct{ Type, Digest string }
		switch {
		case cache != "builtin":
			json.Unmarshal([]byte(value), &line)
		case json.Unmarshal([]byte(value), &entry) != nil || entry.Type != "file":
			continue
		default:
			s.mu.Lock()
			line = s.digests[entry.Digest]
			s.mu.Unlock()
		}
		told[path] = line
	}
	return told
}

func init() { parts["soak-read"] = soakRead }

// soakRead asks of one cache after the other, anew or whether what it has is
// still current.
func soakRead(args []string) error {
	f, err := os.Open(args[1])
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(seed, 1))
	out := json.NewEncoder(os.Stdout)
	kept := map[string]*syscache.Reader{}
	had := map[string]map[string]string{}
	for get(f, ended) == 0 {
		c := soaked[random.IntN(len(soaked))].name
		o := observation{Cache: c, How: "open"}
		accept := random.IntN(6) == 0
		r := kept[c]
		o.A = get(f, editing)
		switch {
		case r != nil && random.IntN(3) > 0:
			o.How = "current"
			current, err := r.Current()
			o.Class, o.Error, o.Rows = soakClass(err), errString(err), had[c]
			if err == nil && !current {
				o.Class = "moved"
			}
		case accept:
			o.How = "accepting stale"
			var rows map[string]string
			if r, err = syscache.Open(args[0], c, &syscache.ReadOptions{AllowStale: true}); err == nil {
				o.Stale = r.Stale() != nil
				rows, err = soakRows(r)
				r.Close()
			}
			o.Rows, o.Class, o.Error = rows, soakClass(err), errString(err)
		default:
			if r != nil {
				r.Close()
				delete(kept, c)
			}
			if r, err = syscache.Open(args[0], c, nil); err == nil {
				kept[c] = r
				had[c], err = soakRows(r)
			}
			o.Rows, o.Class, o.Error = had[c], soakClass(err), errString(err)
		}
		o.B = get(f, editing)
		if o.Class != "ok" {
			o.Rows = nil
			if r := kept[c]; r != nil {
				r.Close()
				delete(kept, c)
			}
		}
		if err := out.Encode(o); err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond) // six on two processors
	}
	return nil
}

// soakLook reads all of a cache.
func soakLook(dir, cache string, accept bool) (rows map[string]string, class string, err error) {
	r, err := syscache.Open(dir, cache, &syscache.ReadOptions{AllowStale: accept})
	if err == nil {
		defer r.Close()
		rows, err = soakRows(r)
	}
	return rows, soakClass(err), err
}

func soakRows(r *syscache.Reader) (map[string]string, error) {
	rows := map[string]string{}
	if r.Dir() == "" {
		for row, err := range r.Scan(nil) {
			if err != nil {
				return nil, err
			}
			rows[string(row.Key)] = string(row.Value)
		}
		return rows, nil
	}
	err := filepath.WalkDir(r.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		rows[strings.TrimPrefix(path, r.Dir()+"/")] = quoted(strings.TrimSuffix(string(b), "\n"))
		return err
	})
	return rows, err
}

func soakClass(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, syscache.ErrStale):
		return "stale"
	case errors.Is(err, syscache.ErrMissing):
		return "missing"
	case errors.Is(err, fs.ErrNotExist):
		return "gone"
	}
	return "error"
}

// soakPython is soakRead in Python.
const soakPython = `
import json, os, random, struct, sys, time
import syscache

root, seed = sys.argv[1], random.Random(int(sys.argv[3]))
counters = open(sys.argv[2], "rb", buffering=0)

def counter(at):
    return struct.unpack("<Q", os.pread(counters.fileno(), 8, at))[0]

def rows_of(cache):
    if cache.dir is None:
        return {key.decode(): value.decode() for key, value in cache.scan()}
    rows, top = {}, os.fsdecode(cache.dir)
    def fail(error):
        raise error
    for at, _, names in os.walk(top, onerror=fail):
        for name in names:
            path = os.path.join(at, name)
            if not os.path.islink(path):
                with open(path) as file:
                    rows[path[len(top) + 1:]] = json.dumps(file.read().rstrip("\n"))
    return rows

kept = {}
while not counter(24):
    name = seed.choice(["inputs", "builtin", "tree", "directory", "manifest", "absent", "hooks"])
    o = {"Cache": name, "How": "open", "Class": "ok", "A": counter(0)}
    try:
        if name in kept and seed.random() < 0.6:
            o["How"] = "current"
            if not kept[name][0].current():
                o["Class"] = "moved"
            o["Rows"] = kept[name][1]
        elif seed.random() < 0.15:
            o["How"] = "accepting stale"
            with syscache.open(root, name, allow_stale=True) as cache:
                o["Stale"] = cache.stale is not None
                o["Rows"] = rows_of(cache)
        else:
            if name in kept:
                kept.pop(name)[0].close()
            cache = syscache.open(root, name)
            try:
                kept[name] = cache, rows_of(cache)
            except BaseException:
                cache.close()
                raise
            o["Rows"] = kept[name][1]
    except syscache.Stale:
        o["Class"] = "stale"
    except syscache.Missing:
        o["Class"] = "missing"
    except FileNotFoundError:
        o["Class"] = "gone"
    except Exception as error:
        o["Class"], o["Error"] = "error", repr(error)
    o["B"] = counter(0)
    if o["Class"] != "ok":
        o.pop("Rows", None)
        if name in kept:
            kept.pop(name)[0].close()
    print(json.dumps(o), flush=True)
    time.sleep(0.005)
`
