//go:build linux

package suites

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

// The system calls by which the command changes anything, and those by which it
// opens what it reads; and what each is made to fail with, besides EIO and the
// end of the process before it.
var injected = map[string][]string{
	"openat":          {"EMFILE", "EROFS"},
	"write":           {"ENOSPC", "EDQUOT", "EINTR"},
	"pwrite64":        {"ENOSPC"},
	"copy_file_range": {"ENOSPC", "EXDEV"},
	"mkdirat":         {"ENOSPC", "EROFS"},
	"renameat":        {"ENOSPC", "EROFS"},
	"renameat2":       {"EINVAL"},
	"symlinkat":       {"ENOSPC"},
	"unlinkat":        {"EACCES", "EROFS"},
	"fchmod":          {"EPERM"},
	"fchmodat":        {"EPERM"},
	"fsync":           {"ENOSPC", "EINTR"},
	"flock":           {"ENOLCK", "EINTR"},
}

// A scene is a run of the command, from a state that prepare makes.
type scene struct {
	name    string
	files   bool
	argv    []string
	prepare func(r *root, n int) // the n-th time
	// What readers may have afterwards, besides what the next refresh gives
	// and stale: nothing at all, or what they had before.
	missing, old bool
	every        bool // in all ways; else in two
}

var scenes = []scene{
	{
		name: "first", argv: []string{"refresh"}, missing: true,
		prepare: func(r *root, _ int) { r.must(os.RemoveAll(r.dir + "/var")) },
	},
	{name: "next", argv: []string{"refresh"}, prepare: edited, every: true},
	{
		name: "recertified", argv: []string{"refresh"},
		prepare: func(r *root, _ int) { r.rewrite("lib/one", r.readFile("lib/one")) },
	},
	{name: "files", files: true, argv: []string{"refresh"}, prepare: edited},
	{name: "forced", files: true, argv: []string{"refresh", "--force"}, old: true, prepare: func(*root, int) {}},
	{name: "invalidate", argv: []string{"invalidate", "c"}, old: true, prepare: func(*root, int) {}},
	{
		name: "gc", argv: []string{"gc", "--now"}, old: true,
		prepare: func(r *root, n int) { edited(r, n); r.heal() },
	},
}

func edited(r *root, n int) { r.write("lib/one", fmt.Sprintln("edit", n)) }

// TestEverySystemCall fails each system call that changes something or opens a
// file, one a run, in each way, and ends the process before each; readers then
// have the old, where nothing says that it is stale, the new, or a miss, and the
// next refresh heals (I1, I2, I6, I10). Each call on the cache that an untouched run
// makes was met.
func TestEverySystemCall(t *testing.T) {
	slow(t)
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t)
		})
	}
}

func (s *scene) run(t *testing.T) {
	r := newRoot(t, admin)
	r.fill()
	if s.files {
		r.config(`kind = "files"`, "latest = true", `build = ["/bin/sh", "-c", "cp lib/one \"$SYSCACHE_OUT\""]`)
	} else {
		r.config()
	}
	r.write("libexec/any", "") // a recipe
	r.heal()
	all := &injections{scene: s, root: r, outcomes: map[string]int{}}
	all.untouched()
	for _, call := range slices.Sorted(maps.Keys(injected)) {
		faults := []string{"", "EIO"}
		if s.every {
			faults = append(faults, injected[call]...)
		}
		for _, fault := range faults {
			all.each(call, fault)
		}
	}
	for n := 0; len(all.missed) > 0 && n < 200; n++ {
		missed := slices.Sorted(maps.Keys(all.missed))
		call, _, _ := strings.Cut(missed[n%len(missed)], " ")
		all.each(call, []string{"EIO", ""}[n/len(missed)%2])
	}
	t.Logf("%d runs, %d killed; met %d of %d calls; %v", all.runs, all.killed, all.seen-len(all.missed), all.seen, all.outcomes)
	if len(all.missed) > 0 {
		t.Errorf("no fault has met %v", slices.Sorted(maps.Keys(all.missed)))
	}
}

// injections are the runs of one scene.
type injections struct {
	*scene
	*root
	runs     int
	killed   int
	seen     int             // how many calls an untouched run makes
	missed   map[string]bool // those of them that no fault has met
	outcomes map[string]int
}

// each makes each call of one kind fail, one a run, until a run is untouched.
// strace counts the calls of each thread, and which thread makes a call is the Go
// scheduler's business: the n-th may be another one the next time, and some may be
// missed.
// (close is not among them: made to fail it closes nothing, as no kernel has it,
// and package os/exec waits for ever.)
func (i *injections) each(call, fault string) {
	for n := 1; ; n++ {
		hit, touched := i.one(call, fault, n)
		if !touched {
			return
		}
		for _, h := range hit {
			delete(i.missed, h)
		}
	}
}

// untouched runs the command and notes which calls it makes.
func (i *injections) untouched() {
	i.prepare(i.root, 0)
	o, log := i.traced("")
	if o.code != 0 {
		i.t.Fatalf("untouched: %v", o)
	}
	i.missed = map[string]bool{}
	for line := range strings.Lines(log) {
		if c := i.class(line); c != "" {
			i.missed[c] = true
		}
	}
	i.seen = len(i.missed)
	i.heal()
}

// one runs the command with one fault, and returns the calls that are known to
// have met it, and whether any did.
func (i *injections) one(call, fault string, n int) (hit []string, touched bool) {
	i.prepare(i.root, i.runs+1)
	i.runs++
	before, _ := i.look(true)
	inject := fmt.Sprintf("%s:error=%s:when=%d", call, fault, n)
	if fault == "" {
		inject = fmt.Sprintf("%s:signal=KILL:when=%d", call, n)
	}
	o, log := i.traced(inject)
	hit = i.met(call, log, o)
	if o.code == -1 {
		i.killed++
	}
	now, err := i.look(false)
	accepted, staleErr := i.look(true)
	told := i.read(bob, goReader, "status", "c")
	i.heal()
	healed, _ := i.look(false)
	where := fmt.Sprintf("%s, %s %v: %v", i.name, inject, hit, o)
	outcome := "new"
	switch {
	case err == nil && now == healed:
	case err == nil && i.old && now == before:
	case errors.Is(err, syscache.ErrStale):
		outcome = "stale"
	case errors.Is(err, syscache.ErrMissing) && i.missing:
		outcome = "missing"
	default:
		i.t.Errorf("readers have %q, %v after %s", now, err, where)
	}
	if i.name == "invalidate" && o.code == 0 && err == nil {
		i.t.Errorf("believed after %s", where)
	}
	if staleErr == nil && accepted != before && accepted != healed || staleErr != nil && !i.missing {
		i.t.Errorf("who accepts stale data has %q, %v after %s", accepted, staleErr, where)
	}
	if told.code != 0 && told.code != 4 {
		i.t.Errorf("status is %v after %s", told, where)
	}
	i.outcomes[outcome]++
	if i.runs%20 == 0 { // another language, another user
		if o := i.read(carol, pythonReader, "verify", "c"); o.code != 0 {
			i.t.Errorf("healed, python: %v, after %s", o, where)
		}
	}
	return hit, len(hit) > 0 || o.code == -1
}

// traced runs the command under strace, and returns what that wrote.
func (i *injections) traced(inject string) (outcome, string) {
	log := i.side + "/trace"
	argv := []string{"/usr/bin/strace", "-f", "-y", "-qq", "-o", log, "-e", "trace=" + strings.Join(slices.Sorted(maps.Keys(injected)), ",")}
	if inject != "" {
		argv = append(argv, "-e", "inject="+inject)
	}
	o := run(i.t, as(admin, append(argv, i.syscache(i.argv...)...)...))
	return o, i.readFile(log)
}

var (
	traceLine = regexp.MustCompile(`^(\d+) +(\w+)\((.*)`)
	noResult  = regexp.MustCompile(`\) += \?`)
	random    = regexp.MustCompile(`[0-9a-f]{64}|\.(new|pending)-[0-9a-f]+`)
)

// class returns what a line of a trace is a call to: its name, and on what of
// the cache, "" if it is on nothing of it.
func (i *injections) class(line string) string {
	m := traceLine.FindStringSubmatch(line)
	if m == nil || injected[m[2]] == nil {
		return ""
	}
	cache := i.dir + "/var"
	at := strings.Index(m[3], cache)
	if at < 0 || m[2] == "openat" && !strings.Contains(m[3], "O_CREAT") {
		return ""
	}
	path := m[3][at+len(cache):]
	if end := strings.IndexAny(path, `">,`); end >= 0 {
		path = path[:end]
	}
	if m[2] == "openat" && strings.HasSuffix(path, "/out") {
		return "" // by the builder
	}
	return m[2] + " " + random.ReplaceAllString(path, "*")
}

// met returns the calls that met the fault. What is killed in a call shows no
// result of it.
func (i *injections) met(call, log string, o outcome) (hit []string) {
	crashed := false
	begun := map[string]string{} // by thread, the call that was not seen to end
	for line := range strings.Lines(log) {
		thread, _, _ := strings.Cut(line, " ")
		class := i.class(line)
		if strings.Contains(line, "<unfinished ...>") {
			begun[thread] = line
		} else if strings.Contains(line, "resumed>") {
			class = i.class(begun[thread])
			line = begun[thread] + line
		}
		met := strings.Contains(line, "(INJECTED)") || noResult.MatchString(line)
		if met && strings.Contains(line, call) {
			if class == "" {
				class = "something else"
			}
			hit = append(hit, class)
			// What Go's runtime wakes itself with, it cannot do without.
			crashed = crashed || strings.Contains(line, "anon_inode") || strings.Contains(line, "pipe:")
		}
	}
	switch {
	case crashed:
	case strings.Contains(o.stderr, "goroutine ") || strings.Contains(o.stderr, "panic"):
		i.t.Errorf("%s: %s %v: %v", i.name, call, hit, o)
	case o.code == 1 && !strings.HasPrefix(o.stderr, "syscache: ") && call != "write":
		i.t.Errorf("%s: %s %v: no message: %v", i.name, call, hit, o)
	}
	return hit
}

// heal refreshes, which must succeed and leave every byte right and nothing
// about.
func (r *root) heal() {
	r.t.Helper()
	in, err := refresh.Load(r.dir, nil)
	r.must(err)
	if _, err := in.Refresh(r.t.Context(), "c", nil); err != nil {
		r.t.Errorf("the next refresh: %v", err)
	}
	if err := in.Verify(r.t.Context(), "c"); err != nil {
		r.t.Errorf("verify: %v", err)
	}
	r.noLitter("c")
}

// look returns what a reader in this process has.
func (r *root) look(accept bool) (string, error) {
	c, err := syscache.Open(r.dir, "c", &syscache.ReadOptions{AllowStale: accept})
	if err != nil {
		return "", err
	}
	defer c.Close()
	if c.Dir() != "" {
		b, err := os.ReadFile(c.Dir() + "/one")
		return string(b), err
	}
	b, err := c.Get([]byte("lib/one"))
	return string(b), err
}

// TestReadersFailCleanly fails each system call of a look-up on the files of the
// cache, in each way: the value, or a miss or failure that is told; never "row
// key not found", and never the end of the program (I7).
func TestReadersFailCleanly(t *testing.T) {
	r := newRoot(t, admin)
	r.fill()
	r.config(`witness = ["lib/one"]`)
	r.write("libexec/any", "")
	key := r.refresh().Key
	want := r.read(bob, goReader, "get", "c", "lib/one").stdout
	paths := []string{r.cache(""), r.cache("current"), r.cache("g/" + key + "/table"), r.dir + "/lib/one"}
	runs := 0
	for _, how := range readers {
		for _, call := range []string{"openat", "newfstatat", "fstat", "pread64", "read", "fstatfs", "lseek", "close"} {
			for _, fault := range []string{"EIO", "EINTR", "EACCES", "ENOMEM", "ESTALE", "EMFILE"} {
				for n := 1; ; n++ {
					log := r.side + "/trace"
					argv := []string{"/usr/bin/strace", "-f", "-qq", "-o", log, "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", call, fault, n)}
					for _, p := range paths {
						argv = append(argv, "-P", strings.TrimSuffix(p, "/"))
					}
					o := run(t, as(admin, append(argv, how.command(r.dir, "get", "c", "lib/one")...)...))
					if !strings.Contains(r.readFile(log), "(INJECTED)") {
						break
					}
					runs++
					where := fmt.Sprintf("%s, %s number %d fails with %s: %v", how.name, call, n, fault, o)
					switch {
					case o.code == 0 && o.stdout == want:
					case fault == "EINTR" && (how.name == "go" || call != "newfstatat"): // Python's os.stat has it from no local file system
						t.Errorf("not tried again: %s", where)
					case o.code == 0 || o.code == 2 || o.code == 3 || o.code == -1 || o.stdout != "":
						t.Errorf("wrong: %s", where)
					case !strings.HasPrefix(o.stderr, "syscache") || strings.Contains(o.stderr, "goroutine ") || strings.Contains(o.stderr, "Traceback"):
						t.Errorf("not told: %s", where)
					}
				}
			}
		}
	}
	t.Logf("%d calls failed", runs)
	if runs < 50 {
		t.Error("too few to mean anything")
	}
}

// TestCannotMap has the kernel refuse to map a table, as it does where the limit
// of memory is too low: it is read all the same (I7).
func TestCannotMap(t *testing.T) {
	r := newRoot(t, admin)
	r.fill()
	for n := range 100 {
		r.write(fmt.Sprint("lib/more/", n), "")
	}
	r.config()
	r.write("libexec/any", "")
	table := r.cache("g/" + r.refresh().Key + "/table")
	want := r.read(bob, goReader, "list", "c")
	for _, fault := range []string{"ENOMEM", "ENODEV", "EPERM"} {
		log := r.side + "/trace"
		argv := []string{"/usr/bin/strace", "-f", "-qq", "-o", log, "-P", table, "-e", "trace=mmap", "-e", "inject=mmap:error=" + fault}
		o := run(t, as(admin, append(argv, r.syscache("list", "c")...)...))
		if !strings.Contains(r.readFile(log), "(INJECTED)") {
			t.Errorf("it was not mapped: %v", o)
		}
		if o.code != 0 || o.stderr != "" || o.stdout != want.stdout {
			t.Errorf("%s: %v", fault, o)
		}
	}
}

// TestUnreadablePointer: a disk that fails once is no reason to take what readers
// have for nothing. gc then removes none of it, and an invalidate that could not
// mark what an image ships says so.
func TestUnreadablePointer(t *testing.T) {
	for _, c := range []struct{ cacheDir, verb string }{
		{"var/cache/syscache", "gc --now"},
		{"usr/lib/syscache", "invalidate c"},
	} {
		t.Run(c.verb, func(t *testing.T) {
			r := newLines(t, admin, `witness = ["lib/one"]`)
			if o := run(t, as(admin, r.syscache("--cache-dir", r.dir+"/"+c.cacheDir, "refresh")...)); o.code != 0 {
				t.Fatal(o)
			}
			argv := []string{
				"/usr/bin/strace", "-f", "-qq", "-o", "/dev/null", "-P", r.dir + "/" + c.cacheDir + "/c/current",
				"-e", "trace=openat", "-e", "inject=openat:error=EIO",
			}
			o := run(t, as(admin, append(argv, r.syscache(strings.Fields(c.verb)...)...)...))
			if o.code != 1 || !strings.Contains(o.stderr, "input/output error") {
				t.Errorf("not told: %v", o)
			}
			if _, err := r.look(false); err != nil {
				t.Errorf("readers have %v", err)
			}
		})
	}
}
