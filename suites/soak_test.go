//go:build linux

package suites

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/syscache/syscache/syscache/refresh"
)

// SUITES_SOAK=40m soaks for so long; SUITES_SOAK_SEED=... begins with the seed
// that a run printed. The same seed makes the same changes, runs and kills in
// the same order. When the kernel lets each process run it cannot repeat, so a
// failure may take several runs to come again, or come elsewhere.
const (
	soakLength = "SUITES_SOAK"
	soakSeed   = "SUITES_SOAK_SEED"
)

// Random changes of an install, refreshes that are killed and overtaken,
// invalidates and gcs, against a model of what six kinds of readers may see:
// soak_model_test.go (I1, I2, I7, I8, I10).
func TestSoak(t *testing.T) {
	slow(t)
	length := 2 * time.Minute
	if s := os.Getenv(soakLength); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(soakSeed); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", soakSeed, seed)
	s := newSoak(t, seed)
	t.Cleanup(s.report)
	begin := time.Now()
	for !t.Failed() {
		s.round()
		s.rest()
		if time.Since(begin) >= length {
			break
		}
	}
	s.goHome()
	t.Logf("%v, %s=%d: %d rounds, %d moments", time.Since(begin).Round(time.Second), soakSeed, seed, s.rounds, s.model.now)
	for _, counts := range []map[string]int{s.did, s.told} {
		for _, what := range slices.Sorted(maps.Keys(counts)) {
			t.Logf("%8d %s", counts[what], what)
		}
	}
}

// A soaking is one run of the soak. Its random numbers are drawn by the test's
// own goroutine alone.
type soaking struct {
	*root
	random  *rand.Rand
	model   *model
	install *refresh.Install
	shared  *os.File
	rounds  int
	edits   int // so that each content is another
	all     []*exec.Cmd
	runs    sync.WaitGroup
	reads   sync.WaitGroup

	mu   sync.Mutex
	log  []string
	did  map[string]int // operations and outcomes
	told map[string]int // replies
	bad  []string
}

const soakCopy = `#!/bin/sh
set -e
cp -R lib/. "$SYSCACHE_OUT"
`

// soakLines is lines with few processes.
const soakLines = `#!/bin/sh
set -e
files=$(find lib -type f)
for f in $files; do
	value=
	IFS= read -r value <"$f" || test -f "$f"
	printf '{"key":"%s","value":"%s"}\n' "$f" "$value"
done
`

func newSoak(t *testing.T, seed uint64) *soaking {
	s := &soaking{
		root: newRootIn(t, parent, admin), random: rand.New(rand.NewPCG(seed, 0)),
		did: map[string]int{}, told: map[string]int{},
	}
	s.write("libexec/lines", soakLines)
	s.write("libexec/copy", soakCopy)
	s.must(os.Chmod(s.dir+"/libexec/lines", 0o755))
	s.must(os.Chmod(s.dir+"/libexec/copy", 0o755))
	var config strings.Builder
	for _, c := range soakedCaches {
		fmt.Fprintf(&config, "[cache.%s]\ninputs = [\"lib/**\"]\n%s\n", c.name, c.settings)
		if strings.Contains(c.settings, "build") {
			config.WriteString("recipe = [\"libexec/*\"]\nenv = { PATH = \"/usr/bin:/bin\" }\n")
		}
	}
	s.write("etc/syscache.toml", config.String())
	var err error
	s.install, err = refresh.Load(s.dir, nil)
	s.must(err)
	s.write(s.side+"/clock", strings.Repeat("\x00", 16))
	s.write(s.side+"/reader.py", soakPython)
	s.shared, err = os.OpenFile(s.side+"/clock", os.O_RDWR, 0)
	s.must(err)
	t.Cleanup(func() { s.shared.Close() })
	s.model = newModel(func(tick uint64) { put(s.shared, soakClock, tick) })
	for _, dir := range []string{"lib", "lib/a", "lib/b", "share"} {
		s.step("mkdir "+dir, func(t tree) { t[dir] = node{dir: true} }, func() error { return os.Mkdir(s.path(dir), 0o755) })
	}
	for _, f := range []string{"lib/one", "lib/two", "lib/a/one", "lib/a/two", "lib/b/one", "share/MANIFEST"} {
		s.save(f, s.content())
	}
	for _, u := range []user{admin, bob, carol} {
		s.reader(asPart(u, "soak-read", s.dir, s.side+"/clock", u.name))
		argv := []string{"/usr/bin/python3", "-SB", s.side + "/reader.py", s.dir, s.side + "/clock", u.name}
		for _, c := range soakedCaches {
			argv = append(argv, c.name+"/"+map[bool]string{false: "table", true: "files"}[c.files])
		}
		cmd := as(u, argv...)
		cmd.Env = append(cmd.Env, "PYTHONPATH="+strings.TrimSuffix(python, "/syscache.py"))
		s.reader(cmd)
	}
	return s
}

// reader starts a reader that lives as long as the soak.
func (s *soaking) reader(cmd *exec.Cmd) {
	cmd.Args = append([]string{"nice", "-n", "5"}, cmd.Args...)
	cmd.Path = "/usr/bin/nice"
	out, err := cmd.StdoutPipe()
	s.must(err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	s.must(cmd.Start())
	s.all = append(s.all, cmd)
	s.reads.Add(1)
	go func() {
		defer s.reads.Done()
		for in := json.NewDecoder(bufio.NewReader(out)); ; {
			var r reply
			if err := in.Decode(&r); err != nil {
				break
			}
			s.hear(&r)
		}
		if err := cmd.Wait(); err != nil {
			s.fail("reader %v: %v: %s", cmd.Args, err, stderr.String())
		}
	}()
	s.t.Cleanup(func() { cmd.Process.Kill() })
}

// hear judges a reply.
func (s *soaking) hear(r *reply) {
	if wrong := s.model.judge(r); wrong != "" {
		s.fail("%s (%s) asks %s in [%d, %d], stale %v, %s and is given\n%s%s", r.Who, r.How, r.Cache, r.A, r.B, r.Stale, r.Miss, canonical(r.Rows), wrong)
	}
	what := "answers"
	switch {
	case r.Miss != "":
		what = "misses: " + r.Miss
	case r.Stale:
		what = "answers, stale"
	}
	s.mu.Lock()
	s.told[r.How+": "+what]++
	s.mu.Unlock()
}

func (s *soaking) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad = append(s.bad, fmt.Sprintf(format, args...)); len(s.bad) == 1 {
		s.log = append(s.log, "--- here it was noticed")
		s.t.Fail()
	}
}

// note logs what is done at a moment, for who reads of a failure.
func (s *soaking) note(tick uint64, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf("%7d %s", tick, fmt.Sprintf(format, args...)))
	if n := len(s.log); n > 2000 && len(s.bad) == 0 {
		s.log = slices.Clone(s.log[n-1000:])
	}
}

func (s *soaking) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did[what]++
}

// report says all that there is to say of a failure.
func (s *soaking) report() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bad) == 0 {
		return
	}
	s.t.Errorf("%d wrong, in %s:\n%s", len(s.bad), s.dir, strings.Join(s.bad[:min(len(s.bad), 3)], "\n\n"))
	s.t.Logf("what was done, each after its moment:\n%s", strings.Join(s.log[max(0, len(s.log)-150):], "\n"))
	s.t.Logf("%s=... as above does the same again; when the processes run it cannot repeat", soakSeed)
}

func (s *soaking) goHome() {
	put(s.shared, soakEnded, 1)
	s.reads.Wait()
}

// --- Changes of the install ---

// step is one system call that changes the install.
func (s *soaking) step(what string, change func(t tree), do func() error) {
	s.note(s.model.now, "%s", what)
	if err := s.model.step(change, do); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// content returns another content each time, of few lengths.
func (s *soaking) content() string {
	s.edits++
	return fmt.Sprintf("edit %09d\n%s", s.edits, strings.Repeat("x", 37*s.random.IntN(3)))
}

func (s *soaking) truncate(name string) {
	s.step("truncate "+name, func(t tree) { t[name] = node{mode: 0o644} }, func() error {
		return os.WriteFile(s.path(name), nil, 0o644)
	})
}

// overwrite writes at the beginning of a file and does not cut it.
func (s *soaking) overwrite(name, content string) {
	s.step(fmt.Sprintf("write %s %.14q", name, content), func(t tree) {
		n := t[name]
		n.content = content + n.content[min(len(content), len(n.content)):]
		t[name] = n
	}, func() error {
		f, err := os.OpenFile(s.path(name), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString(content)
		return err
	})
}

// save writes a file as most programs do.
func (s *soaking) save(name, content string) {
	if n, ok := s.model.tree[name]; ok && n.mode != 0o644 {
		s.chmod(name, 0o644) // truncate keeps the mode, the model's does not
	}
	s.truncate(name)
	s.overwrite(name, content)
}

func (s *soaking) chmod(name string, mode uint32) {
	s.step(fmt.Sprintf("chmod %o %s", mode, name), func(t tree) {
		n := t[name]
		n.mode = mode
		t[name] = n
	}, func() error { return os.Chmod(s.path(name), os.FileMode(mode)) })
}

// rename renames a file or link, or a directory to a name that there is not.
func (s *soaking) rename(from, to string) {
	s.step("rename "+from+" "+to, func(t tree) {
		for name, n := range maps.Clone(t) {
			if rest, ok := strings.CutPrefix(name, from); ok && (rest == "" || rest[0] == '/') {
				delete(t, name)
				t[to+rest] = n
			}
		}
	}, func() error { return os.Rename(s.path(from), s.path(to)) })
}

func (s *soaking) remove(name string) {
	s.step("remove "+name, func(t tree) { delete(t, name) }, func() error { return os.Remove(s.path(name)) })
}

func (s *soaking) symlink(target, name string) {
	s.step("symlink "+target+" "+name, func(t tree) { t[name] = node{target: target} }, func() error { return os.Symlink(target, s.path(name)) })
}

// times sets the times of a file that it can: a tar's, or what they were.
func (s *soaking) times(name string, to time.Time) {
	s.step(fmt.Sprintf("utimens %s %d", name, to.UnixNano()), func(tree) {}, func() error { return os.Chtimes(s.path(name), to, to) })
}

func (s *soaking) mtime(name string) time.Time {
	fi, err := os.Lstat(s.path(name))
	s.must(err)
	return fi.ModTime()
}

// some returns one of the files of the install.
func (s *soaking) some() string {
	all := s.model.tree.below()
	if len(all) == 0 {
		s.save("lib/one", s.content())
		return "lib/one"
	}
	return all[s.random.IntN(len(all))]
}

// A change is what somebody does to an install, as steps. Those that come one
// after the other may be cut short, as by somebody who dies.
type change struct {
	name  string
	often int
	steps func(s *soaking) []func()
}

var changes = []change{
	{"install of a new file", 4, func(s *soaking) []func() {
		dirs := []string{"lib"}
		for name, n := range s.model.tree {
			if n.dir && strings.HasPrefix(name, "lib/") {
				dirs = append(dirs, name)
			}
		}
		slices.Sort(dirs)
		name := fmt.Sprintf("%s/f%d", dirs[s.random.IntN(len(dirs))], s.random.IntN(4))
		return s.overwriting(name)
	}},
	{"edit in place", 4, func(s *soaking) []func() { return s.overwriting(s.some()) }},
	{"edit in place without truncation", 3, func(s *soaking) []func() {
		name, text := s.some(), s.content()
		return []func(){func() { s.overwrite(name, text) }}
	}},
	{"edit in place, times put back", 3, func(s *soaking) []func() {
		name, text := s.some(), s.content()
		was := s.mtime(name)
		return []func(){func() { s.overwrite(name, text) }, func() { s.times(name, was) }}
	}},
	{"edit by rename", 3, func(s *soaking) []func() { return s.replacing(s.some(), time.Time{}) }},
	{"edit by rename, times clamped", 3, func(s *soaking) []func() {
		return s.replacing(s.some(), time.Unix(int64(s.random.IntN(2)), 0))
	}},
	{"old content put back", 1, func(s *soaking) []func() {
		name := s.some()
		was, text := s.model.tree[name].content, s.content()
		return append(s.overwritingWith(name, text), s.overwritingWith(name, was)...)
	}},
	{"chmod", 1, func(s *soaking) []func() {
		name := s.some()
		mode := s.model.tree[name].mode ^ 0o111
		return []func(){func() { s.chmod(name, mode) }}
	}},
	{"touch", 1, func(s *soaking) []func() {
		name, when := s.some(), time.Unix(s.random.Int64N(1e9), 0)
		return []func(){func() { s.times(name, when) }}
	}},
	{"removal", 3, func(s *soaking) []func() {
		name := s.some()
		return []func(){func() { s.remove(name) }}
	}},
	{"rename of a directory", 2, func(s *soaking) []func() {
		from, to := "lib/a", "lib/c"
		if _, ok := s.model.tree[from]; !ok {
			from, to = to, from
		}
		return []func(){func() { s.rename(from, to) }}
	}},
	{"switch of a link", 2, func(s *soaking) []func() {
		target := fmt.Sprint("f", s.random.IntN(9))
		temporary := fmt.Sprintf("lib/.link%d", s.edits)
		s.edits++
		return []func(){func() { s.symlink(target, temporary) }, func() { s.rename(temporary, "lib/link") }}
	}},
	{"touch of a witness", 1, func(s *soaking) []func() {
		when := time.Unix(s.random.Int64N(1e9), 0)
		return []func(){func() { s.times("share/MANIFEST", when) }}
	}},
	{"new witness", 2, func(s *soaking) []func() {
		if s.random.IntN(2) == 0 {
			return s.overwriting("share/MANIFEST")
		}
		return s.replacing("share/MANIFEST", time.Unix(1, 0))
	}},
	{"new recipe, the same result", 1, func(s *soaking) []func() {
		text := fmt.Sprintf("%s# %d\n", soakLines, s.random.IntN(4))
		return []func(){func() {
			s.step("write libexec/lines", func(tree) {}, func() error {
				temporary := s.dir + "/share/.lines"
				return errors.Join(os.WriteFile(temporary, []byte(text), 0o755), os.Rename(temporary, s.dir+"/libexec/lines"))
			})
		}}
	}},
	{"a whole install", 8, func(s *soaking) []func() {
		steps := s.overwriting("share/INSTALLING")
		for range 1 + s.random.IntN(3) {
			steps = append(steps, s.replacing(s.some(), time.Unix(1, 0))...)
		}
		steps = append(steps, s.replacing("share/MANIFEST", time.Time{})...)
		return append(steps, func() { s.remove("share/INSTALLING") })
	}},
}

func (s *soaking) overwriting(name string) []func() { return s.overwritingWith(name, s.content()) }

func (s *soaking) overwritingWith(name, text string) []func() {
	steps := []func(){func() { s.truncate(name) }, func() { s.overwrite(name, text) }}
	if n, ok := s.model.tree[name]; ok && n.mode != 0o644 {
		steps = append([]func(){func() { s.chmod(name, 0o644) }}, steps...)
	}
	return steps
}

func (s *soaking) replacing(name string, when time.Time) []func() {
	text := s.content()
	temporary := fmt.Sprintf("%s/.new%d", path.Dir(name), s.edits)
	steps := append(s.overwritingWith(temporary, text), func() { s.rename(temporary, name) })
	if !when.IsZero() {
		steps = slices.Insert(steps, 2, func() { s.times(temporary, when) })
	}
	return steps
}

// change does one, or the beginning of one.
func (s *soaking) change() {
	all := 0
	for _, c := range changes {
		all += c.often
	}
	n := s.random.IntN(all)
	i := 0
	for n >= changes[i].often {
		n -= changes[i].often
		i++
	}
	what := changes[i].name
	steps := changes[i].steps(s)
	if len(steps) > 1 && s.random.IntN(8) == 0 {
		steps = steps[:1+s.random.IntN(len(steps)-1)]
		what += ", interrupted"
	}
	s.count(what)
	for _, step := range steps {
		step()
	}
	switch s.random.IntN(6) { // as an installer ends
	case 0, 1:
		for _, step := range s.replacing("share/MANIFEST", time.Time{}) {
			step()
		}
	case 2:
		s.invalidate()
	}
}

// invalidate does so as a program that uses the library does: at once, where
// the command would first have to be started.
func (s *soaking) invalidate() {
	s.count("invalidate, in a program")
	for _, name := range s.someCaches() {
		start := s.model.begin([]string{name})
		s.note(start, "invalidate %s in this process", name)
		s.must(s.install.Invalidate(name))
		s.model.end([]string{name}, start, true, false)
	}
}

// --- Runs of the command ---

// someCaches returns a few of them, most often all.
func (s *soaking) someCaches() (names []string) {
	for _, c := range soakedCaches {
		if s.random.IntN(3) == 0 {
			names = append(names, c.name)
		}
	}
	if len(names) == 0 || s.random.IntN(2) == 0 {
		names = nil
		for _, c := range soakedCaches {
			names = append(names, c.name)
		}
	}
	return names
}

// A soakRun is one run of the command beside the test.
type soakRun struct {
	verb   string
	args   []string
	caches []string
	kill   time.Duration // after which it is killed; 0: it is not
	clock  time.Duration // how far its clock is off
	must   bool          // it has no excuse
}

// run runs one, and tells the model.
func (s *soaking) run(r soakRun) {
	argv := append(s.syscache(r.verb), append(r.args, r.caches...)...)
	cmd := as(admin, argv...)
	if r.clock != 0 {
		cmd.Path, cmd.Args[0] = steppedTool(), steppedTool()
		cmd.Env = append(cmd.Env, clockEnv+"="+r.clock.String())
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	start := s.model.begin(r.caches)
	s.note(start, "%s begins: killed after %v, clock %v", strings.Join(argv[3:], " "), r.kill, r.clock)
	if err := cmd.Start(); err != nil {
		s.fail("%v", err)
		return
	}
	after := limit
	if r.kill > 0 {
		after = r.kill
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	timer.Stop()
	code := cmd.ProcessState.ExitCode()
	refreshes := r.verb == "refresh"
	ok := err == nil && r.verb != "gc"
	s.model.end(r.caches, start, ok, ok && refreshes && (stderr.Len() == 0 || !slices.Contains(r.args, "--hook")))
	s.note(start, "%s has ended, by %d: exit %d %s", strings.Join(argv[3:], " "), s.model.now, code, stderr.String())
	what := strings.TrimSpace(r.verb + " " + strings.Join(r.args, " "))
	if r.clock != 0 {
		what += ", clock stepped"
	}
	switch {
	case code == 0:
	case code == -1 && r.kill > 0:
		what += ", killed"
	case code == 1 && refreshes && !r.must && excused.MatchString(stderr.String()):
		what += ", overtaken"
	default:
		s.fail("%v: %v: %s", argv, err, stderr.String())
	}
	s.count(what)
}

// excused matches what a refresh says that the install changed under.
var excused = regexp.MustCompile(`attempts were overtaken|changes while it is read|build .* failed|exit status|no such file`)

// somethingRuns starts a run of the command, beside what else runs.
func (s *soaking) somethingRuns() {
	r := soakRun{verb: "refresh", caches: s.someCaches()}
	switch s.random.IntN(12) {
	case 0:
		r.verb = "invalidate"
	case 1:
		r.verb = "gc"
	case 2:
		r.verb, r.args = "gc", []string{"--now"}
	case 3, 4:
		r.args = []string{"--hook"}
	case 5:
		r.args = []string{"--force"}
	}
	if r.verb != "invalidate" && s.random.IntN(3) == 0 {
		r.kill = time.Duration(1 + s.random.Int64N(int64(150*time.Millisecond)))
	}
	s.runs.Add(1)
	go func() {
		defer s.runs.Done()
		s.run(r)
	}()
}

// clockSteps has the clock step between what was done to the install and a
// refresh.
func (s *soaking) clockSteps() {
	steps := []time.Duration{-time.Hour, -2 * time.Second, -500 * time.Millisecond, time.Second, time.Hour}
	r := soakRun{verb: "refresh", caches: s.someCaches(), clock: steps[s.random.IntN(len(steps))]}
	s.run(r)
}

// --- Rounds ---

// round is a while in which everything happens at once.
func (s *soaking) round() {
	s.rounds++
	for range 40 + s.random.IntN(100) {
		if s.t.Failed() {
			break
		}
		switch n := s.random.IntN(20); {
		case n < 11:
			s.change()
		case n < 16:
			s.somethingRuns()
		case n < 17:
			if s.random.IntN(2) == 0 {
				s.clockSteps()
			} else {
				s.runs.Wait()
			}
		default:
			s.briefReader()
		}
		// A pause, so that refreshes end now and then: not a wait.
		time.Sleep(time.Duration(s.random.Int64N(int64(40 * time.Millisecond))))
	}
}

// briefReader runs a program that reads one cache once.
func (s *soaking) briefReader() {
	u := []user{admin, bob, carol}[s.random.IntN(3)]
	how := readers[s.random.IntN(2)]
	c := soakedCaches[s.random.IntN(len(soakedCaches))]
	s.runs.Add(1)
	go func() {
		defer s.runs.Done()
		s.briefly(u, how, c)
	}()
}

// briefly has somebody ask once, and returns the reply.
func (s *soaking) briefly(u user, how reader, c soaked) reply {
	verb := "list"
	if c.files {
		verb = "path"
	}
	s.model.Lock()
	r := reply{Who: u.name, Cache: c.name, How: how.name + ", a process a question", A: s.model.now}
	s.model.Unlock()
	var stderr bytes.Buffer
	cmd := as(u, how.command(s.dir, verb, c.name)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch code := cmd.ProcessState.ExitCode(); {
	case err == nil && c.files:
		r.Rows, err = soakFiles(strings.TrimSpace(string(out)))
		r.refuse(err)
	case err == nil:
		r.Rows = map[string]string{}
		for line := range strings.Lines(string(out)) {
			var row struct {
				Key   string
				Value json.RawMessage
			}
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				r.Error = err.Error()
			}
			r.Rows[row.Key] = string(row.Value)
		}
	case code == 4 && saysStale.MatchString(stderr.String()):
		r.Miss = "stale"
	case code == 4 && saysMissing.MatchString(stderr.String()):
		r.Miss = "missing"
	default:
		r.Error = fmt.Sprintf("%v: %s", err, stderr.String())
	}
	s.model.Lock()
	r.B = s.model.now
	s.model.Unlock()
	s.hear(&r)
	return r
}

// What the two implementations say; both exit with 4.
var (
	saysStale   = regexp.MustCompile(`: stale|hint: the install changed`)
	saysMissing = regexp.MustCompile(`: missing|hint: .* builds it`)
)

// rest has everything come to an end, refreshes, and has everybody look.
func (s *soaking) rest() {
	s.runs.Wait()
	if s.t.Failed() {
		return
	}
	var names []string
	for _, c := range soakedCaches {
		names = append(names, c.name)
	}
	s.run(soakRun{verb: "refresh", caches: names, must: true})
	s.run(soakRun{verb: "gc", args: []string{"--now"}, caches: names, must: true})
	u := []user{admin, bob, carol}[s.rounds%3]
	for _, c := range soakedCaches {
		s.check(c.name)
		entries, err := os.ReadDir(s.dir + "/var/cache/syscache/" + c.name + "/g")
		s.must(err)
		if len(entries) != 1 {
			s.fail("%d generations of %s after gc --now", len(entries), c.name)
		}
		for _, how := range readers {
			if r := s.briefly(u, how, c); r.Miss != "" || canonical(r.Rows) != canonical(c.rows(s.model.tree)) {
				s.fail("at rest %s (%s) asks %s: %q\n%swant\n%s", r.Who, r.How, r.Cache, r.Miss, canonical(r.Rows), canonical(c.rows(s.model.tree)))
			}
		}
	}
}
