package refresh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/lock"
	"github.com/syscache/syscache/syscache"
)

// value returns a cache whose one row, "k", is what *v is when it is built.
func value(v *string) Cache {
	return Cache{Witness: []string{}, Build: func(_ context.Context, _ Inputs, emit func(k, v []byte) error) error {
		return emit([]byte("k"), []byte(*v))
	}}
}

// generations returns the names in g.
func generations(t testing.TB, in *Install) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(in.cacheDir + "/c/g")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// tree returns the identity of everything below dir.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil {
			var fi os.FileInfo
			fi, err = d.Info()
			all[path] = fmt.Sprintf("%+v", fi.Sys())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range all { // reading sets access times
		i, j := strings.Index(v, "Atim:"), strings.Index(v, "Mtim:")
		all[k] = v[:i] + v[j:]
	}
	return all
}

// TestOutcomes: what is built, certified anew, or left alone.
func TestOutcomes(t *testing.T) {
	for name, witness := range map[string][]string{"inputs": nil, "a file": {"share/MANIFEST"}, "a directory": {"share/"}, "none": {}, "absent": {"not/there"}} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			v := "1"
			c := value(&v)
			c.Witness = witness
			in := load(t, root, c)
			first := refreshed(t, in)
			if first.Outcome != Built || first.Inputs != 1 || first.Rows != 1 || first.Hashed != 1 || get(t, in, "k") != "1" {
				t.Errorf("first: %+v", first)
			}
			before := tree(t, root)
			if res := refreshed(t, in); res.Outcome != Unchanged || res.Hashed != 0 || res.Key != first.Key || res.Bytes != first.Bytes || res.Rows != 1 {
				t.Errorf("again: %+v", res)
			}
			if d := cmp.Diff(before, tree(t, root)); d != "" {
				t.Errorf("nothing changed, and something was written:\n%s", d)
			}

			// The same bytes in another inode: the key stays, the witness moves.
			moved := root + "/share/new"
			writeFile(t, moved, "version 1\n", 0o644)
			if err := os.Rename(moved, root+"/share/MANIFEST"); err != nil {
				t.Fatal(err)
			}
			want := Recertified
			if name == "none" || name == "absent" {
				want = Unchanged
			}
			if res := refreshed(t, in); res.Outcome != want || res.Key != first.Key || get(t, in, "k") != "1" {
				t.Errorf("another inode: %+v, want %s", res, want)
			}
			if len(generations(t, in)) != 1 {
				t.Errorf("generations: %q", generations(t, in))
			}

			v = "2"
			writeFile(t, root+"/share/MANIFEST", "version 2\n", 0o644)
			if name == "inputs" || name == "a file" || name == "a directory" {
				if got := get(t, in, "k"); !strings.Contains(got, "stale: ") {
					t.Errorf("after an edit: %s", got)
				}
			}
			res := refreshed(t, in)
			if res.Outcome != Built || res.Key == first.Key || get(t, in, "k") != "2" {
				t.Errorf("another version: %+v", res)
			}
			// Back: the generation is still there.
			writeFile(t, root+"/share/MANIFEST", "version 1\n", 0o644)
			if res := refreshed(t, in); res.Outcome != Recertified || res.Key != first.Key || get(t, in, "k") != "1" {
				t.Errorf("the first version again: %+v", res)
			}
			noLitter(t, in)
		})
	}
}

// TestRecipe: all of the recipe is in the key.
func TestRecipe(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "tool")
	root := newRoot(t)
	writeFile(t, outside, "1", 0o755)
	base := script(t, root, `echo '{"key":"k","value":1}'`)
	base.Recipe = append(base.Recipe, outside)
	seen := map[syscache.Key]string{}
	check := func(what string, c Cache) {
		t.Helper()
		res := refreshed(t, load(t, root, c))
		if other, ok := seen[res.Key]; ok {
			t.Errorf("%s has the key of %s", what, other)
		}
		seen[res.Key] = what
	}
	check("the first", base)
	c := base
	c.Env = map[string]string{"A": "1"}
	check("an environment", c)
	c.Env = map[string]string{"A": "2"}
	check("another value", c)
	c = base
	c.Command = []string{"libexec/build", ""}
	check("an argument", c)
	c.Command = []string{"libexec/build", "", ""}
	check("another argument", c)
	writeFile(t, outside, "2", 0o755)
	check("a file of the recipe", base)
	writeFile(t, root+"/libexec/build", "#!/bin/sh\n#\necho '{\"key\":\"k\",\"value\":1}'", 0o755)
	check("the command", base)
	c = base
	c.Files = true
	c.Command, c.Build = nil, func(context.Context, Inputs, func(k, v []byte) error) error { return nil }
	check("the kind", c)
	c.BuildVersion = "2"
	check("a function's version", c)
	in := load(t, root, Cache{Recipe: []string{filepath.Dir(outside) + "/none*"}})
	if _, err := in.Refresh(t.Context(), "c", nil); err == nil || !strings.Contains(err.Error(), "matches no file") {
		t.Error(err)
	}
}

// TestDamage: what is damaged on disk is built anew, asked or not.
func TestDamage(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(in *Install, gen string) error
		force  bool // it cannot be seen by stat alone
	}{
		"a bit":      {func(_ *Install, gen string) error { return flip(gen + "/table") }, true},
		"meta":       {func(_ *Install, gen string) error { return flip(gen + "/meta") }, false},
		"manifest":   {func(_ *Install, gen string) error { return flip(gen + "/manifest") }, true},
		"cut":        {func(_ *Install, gen string) error { return os.Truncate(gen+"/table", 100) }, false},
		"table gone": {func(_ *Install, gen string) error { return os.Remove(gen + "/table") }, false},
		"all gone":   {func(_ *Install, gen string) error { return os.RemoveAll(gen) }, false},
		"a file": {func(_ *Install, gen string) error {
			return errors.Join(os.RemoveAll(gen), os.WriteFile(gen, nil, 0o644))
		}, false},
		"mode":           {func(_ *Install, gen string) error { return os.Chmod(gen+"/table", 0o600) }, false},
		"pointer":        {func(in *Install, _ string) error { return flip(in.cacheDir + "/c/current") }, false},
		"pointer's mode": {func(in *Install, _ string) error { return os.Chmod(in.cacheDir+"/c/current", 0o666) }, false},
		"inventory":      {func(in *Install, _ string) error { return flip(in.cacheDir + "/c/inventory") }, false},
		"g gone":         {func(in *Install, _ string) error { return os.RemoveAll(in.cacheDir + "/c/g") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			v := "1"
			in := load(t, root, value(&v))
			res := refreshed(t, in)
			gen := in.cacheDir + "/c/" + format.Generation(res.Key.String())
			if err := tc.damage(in, gen); err != nil {
				t.Fatal(err)
			}
			if name != "inventory" && !tc.force && get(t, in, "k") == "1" && in.Verify(t.Context(), "c") == nil {
				t.Error("the damage is not seen")
			}
			if _, err := in.Refresh(t.Context(), "c", &Options{Force: tc.force}); err != nil {
				t.Fatal(err)
			}
			if err := in.Verify(t.Context(), "c"); err != nil {
				t.Error(err)
			}
			if got := get(t, in, "k"); got != "1" {
				t.Error(got)
			}
			noLitter(t, in)
			if n := len(generations(t, in)); n != 1 {
				t.Errorf("%d generations", n)
			}
		})
	}
}

func flip(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 1
	return os.WriteFile(path, b, 0o644)
}

// TestForce: a build that gives the same keeps what there is; one that does
// not replaces it.
func TestForce(t *testing.T) {
	root := newRoot(t)
	v := "1"
	in := load(t, root, value(&v))
	first := refreshed(t, in)
	table := in.cacheDir + "/c/" + format.Generation(first.Key.String()) + "/table"
	same, _ := os.Stat(table)
	for _, want := range []string{"1", "2"} {
		v = want
		res, err := in.Refresh(t.Context(), "c", &Options{Force: true})
		if err != nil || res.Outcome != Built || res.Key != first.Key || get(t, in, "k") != want {
			t.Errorf("%+v, %v, %s", res, err, get(t, in, "k"))
		}
		now, err := os.Stat(table)
		if err != nil || os.SameFile(same, now) != (want == "1") {
			t.Errorf("the same table: %v, %v", os.SameFile(same, now), err)
		}
	}
	noLitter(t, in)
}

// TestForceFiles: who was given the path of files reads the same there for as
// long as they stay (I5).
func TestForceFiles(t *testing.T) {
	root := newRoot(t)
	v := "1"
	in := load(t, root, Cache{Files: true, Build: func(_ context.Context, in Inputs, _ func(k, v []byte) error) error {
		return os.WriteFile(in.Out+"/k", []byte(v), 0o644)
	}})
	refreshed(t, in)
	r, err := syscache.Open(root, "c", nil)
	if err != nil {
		t.Fatal(err)
	}
	v = "2"
	_, err = in.Refresh(t.Context(), "c", &Options{Force: true})
	if !errors.Is(err, errDiffers) {
		t.Errorf("another result: %v", err)
	}
	if b, err := os.ReadFile(r.Dir() + "/k"); string(b) != "1" {
		t.Errorf("%s now holds %q, %v", r.Dir(), b, err)
	}
	if _, err := syscache.Open(root, "c", nil); err != nil {
		t.Errorf("what is published is no longer believed: %v", err)
	}
	noLitter(t, in)
}

// TestOvertaken: a refresh that something came between begins again, and
// gives up where that goes on.
func TestOvertaken(t *testing.T) {
	root := newRoot(t)
	var in *Install
	n := 0
	for name, meanwhile := range map[string]func() error{
		"an invalidate": func() error { return in.Invalidate("c") },
		// Without a lock (I8) another publishes, and removes our token.
		"another publish": func() error {
			names, err := namesWith(in.cacheDir+"/c", format.TokenPrefix)
			if len(names) != 1 {
				return fmt.Errorf("tokens: %q", names)
			}
			return errors.Join(err, os.Remove(in.cacheDir+"/c/"+names[0]))
		},
		"an input": func() error {
			n++
			return os.WriteFile(root+"/share/MANIFEST", fmt.Append(nil, "version ", n), 0o644)
		},
		"a new input": func() error {
			n++
			return os.WriteFile(fmt.Sprint(root, "/share/", n), nil, 0o644)
		},
	} {
		for _, first := range []bool{true, false} {
			for times := 1; times <= attempts; times++ {
				builds := 0
				c := Cache{Witness: []string{}, Build: func(_ context.Context, _ Inputs, emit func(k, v []byte) error) error {
					if builds++; builds <= times {
						if err := meanwhile(); err != nil {
							return err
						}
					}
					return emit([]byte("k"), fmt.Append(nil, "build ", builds))
				}}
				if first {
					os.RemoveAll(root + "/var")
				} else {
					c.BuildVersion = fmt.Sprint(name, times)
				}
				in = load(t, root, c)
				res, err := in.Refresh(t.Context(), "c", nil)
				got := get(t, in, "k")
				switch {
				case times < attempts && (err != nil || res.Outcome != Built || got != fmt.Sprint("build ", times+1)):
					t.Errorf("%s came between %d times: %+v, %v, %s", name, times, res, err, got)
				case times == attempts && (err == nil || !strings.HasPrefix(err.Error(), "c: 3 attempts were overtaken: ") || builds != attempts):
					t.Errorf("%s, always: %v after %d builds", name, err, builds)
				case times == attempts && !strings.Contains(got, "stale") && !strings.Contains(got, "missing"):
					t.Errorf("%s, always: %s", name, got)
				}
				noLitter(t, in)
			}
		}
	}
}

// TestInvalidate: no reader believes what was marked, and it can be had all
// the same.
func TestInvalidate(t *testing.T) {
	root := newRoot(t)
	v := "1"
	in := load(t, root, value(&v))
	if err := in.Invalidate("c"); err != nil {
		t.Errorf("never built: %v", err)
	}
	refreshed(t, in)
	for range 2 {
		if err := in.Invalidate("c"); err != nil {
			t.Fatal(err)
		}
		if got, want := get(t, in, "k"), "open c: stale: it was marked stale, and no refresh has finished since"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		r, err := syscache.Open(in.root, "c", in.readOptions(true))
		if err != nil || r.Stale() == nil {
			t.Fatalf("stale data: %v", err)
		}
		r.Close()
	}
	if res := refreshed(t, in); res.Outcome != Recertified || get(t, in, "k") != "1" {
		t.Errorf("%+v", res)
	}
	if _, err := os.Lstat(in.cacheDir + "/c/stale"); err == nil {
		t.Error("stale was left")
	}
	for _, name := range []string{"", "../c", "C"} {
		if err := in.Invalidate(name); err == nil {
			t.Errorf("Invalidate(%q) is no error", name)
		}
	}
	if names, err := InvalidateAll(root, &LoadOptions{}); err != nil || !slices.Equal(names, []string{"c"}) || !strings.Contains(get(t, in, "k"), "stale") {
		t.Errorf("InvalidateAll: %v, %s", err, get(t, in, "k"))
	}
}

// TestUndeclared: what is no longer configured is no longer believed. What a
// program declared was never configured.
func TestUndeclared(t *testing.T) {
	root := newRoot(t)
	v := "1"
	program := value(&v)
	program.Name, program.Inputs = "program", []string{"share/**"}
	in, err := Load(root, &LoadOptions{Caches: []Cache{program}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Refresh(t.Context(), "program", nil); err != nil {
		t.Fatal(err)
	}
	writeFile(t, root+"/etc/syscache.toml", "[cache.c]\ninputs = [\"share/**\"]\nwitness = []\n", 0o644)
	if in, err = Load(root, nil); err != nil {
		t.Fatal(err)
	}
	refreshed(t, in)
	if err := os.Remove(root + "/etc/syscache.toml"); err != nil {
		t.Fatal(err)
	}
	in, err = Load(root, &LoadOptions{Caches: []Cache{{Name: "other", Inputs: []string{"share/**"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{{"c"}, nil} {
		gone, err := in.InvalidateUndeclared()
		if err != nil || !slices.Equal(gone, want) {
			t.Errorf("%q, %v, want %q", gone, err, want)
		}
	}
	all, err := in.Statuses()
	var names []string
	for _, s := range all {
		names = append(names, fmt.Sprintf("%s %v %v", s.Cache, s.Declared, s.Err))
	}
	want := []string{"c false open c: stale: it was marked stale, and no refresh has finished since", "other true open other: missing", "program true <nil>"}
	if d := cmp.Diff(want, names); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	if _, err := in.Refresh(t.Context(), "c", nil); !errors.Is(err, ErrUndeclared) {
		t.Error(err)
	}
}

// TestLatest: the link follows what is published, and goes with the setting.
func TestLatest(t *testing.T) {
	root := newRoot(t)
	v := "1"
	c := faultyCache(true, &v)
	link := root + "/var/cache/syscache/c/latest"
	for _, step := range []struct {
		v      string
		latest bool
		want   string
	}{{"1", true, "1"}, {"2", true, "2"}, {"2", false, ""}, {"2", true, "2"}, {"3", false, ""}} {
		v, c.Latest = step.v, step.latest
		writeFile(t, root+"/share/MANIFEST", step.v, 0o644)
		refreshed(t, load(t, root, c))
		if got, err := os.ReadFile(link + "/d/k"); string(got) != step.want || (err == nil) != step.latest {
			t.Errorf("%+v: %q, %v", step, got, err)
		}
	}
	c.Latest = true
	if err := os.Mkdir(link, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := load(t, root, c).Refresh(t.Context(), "c", nil); err == nil || !strings.Contains(err.Error(), "latest") {
		t.Error(err)
	}
	noLitter(t, load(t, root, c))
}

// TestFailure: why the last refresh failed is kept until one succeeds.
func TestFailure(t *testing.T) {
	root := newRoot(t)
	fail := errors.New("it is broken")
	c := Cache{Witness: []string{"share/MANIFEST"}, Build: func(_ context.Context, _ Inputs, emit func(k, v []byte) error) error {
		return errors.Join(fail, emit([]byte("k"), []byte("1")))
	}}
	in := load(t, root, c)
	for range 2 {
		if _, err := in.Refresh(t.Context(), "c", nil); !errors.Is(err, fail) {
			t.Error(err)
		}
		if f := in.Status("c").Failure; f == nil || f.Message != "build c: it is broken" {
			t.Errorf("%+v", f)
		}
		if got := get(t, in, "k"); !strings.Contains(got, "missing") {
			t.Error(got)
		}
		noLitter(t, in)
	}
	fail = nil
	refreshed(t, in)
	if f := in.Status("c").Failure; f != nil {
		t.Errorf("after a success: %+v", f)
	}
	// The old generation stays for those who accept it.
	fail = errors.New("again")
	writeFile(t, root+"/share/MANIFEST", "version 2\n", 0o644)
	if _, err := in.Refresh(t.Context(), "c", nil); !errors.Is(err, fail) {
		t.Error(err)
	}
	s := in.Status("c")
	if s.Failure == nil || !errors.Is(s.Err, syscache.ErrStale) || s.Generation == (syscache.Key{}) {
		t.Errorf("%+v", s)
	}
	// Back as it was, it is unchanged or recertified, and the failure is over.
	writeFile(t, root+"/share/MANIFEST", "version 1\n", 0o644)
	refreshed(t, in)
	if f := in.Status("c").Failure; f != nil {
		t.Errorf("after it was put right: %+v", f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := in.Refresh(ctx, "c", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := get(t, in, "k"); got != "1" {
		t.Error(got)
	}
}

// TestCollect: a generation is removed when it was superseded for long enough,
// whatever the clock does.
func TestCollect(t *testing.T) {
	root := newRoot(t)
	refresh := func(version string, keep time.Duration) *Install {
		c := value(&version)
		c.BuildVersion, c.Keep = version, keep
		in := load(t, root, c)
		refreshed(t, in)
		if got := get(t, in, "k"); got != version {
			t.Errorf("%s, want %s", got, version)
		}
		return in
	}
	retire := func(in *Install, when time.Time) {
		t.Helper()
		path := in.cacheDir + "/c/state"
		b, err := os.ReadFile(path)
		var s state
		if err == nil {
			err = json.Unmarshal(b, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		for k, since := range s.Retired {
			if d := now() - since; d < 0 || d > 60 {
				t.Errorf("retired %ds ago", d)
			}
			s.Retired[k] = when.Unix()
		}
		if b, err = json.Marshal(s); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, string(b), 0o600)
	}
	count := func(in *Install, want int) {
		t.Helper()
		if got := generations(t, in); len(got) != want {
			t.Errorf("%d generations, want %d", len(got), want)
		}
	}
	refresh("1", 0)
	in := refresh("2", 0)
	count(in, 2)
	retire(in, time.Now().Add(-23*time.Hour))
	count(refresh("2", 0), 2)
	retire2 := func(d time.Duration) { // as retire, of what is not fresh any more
		path := in.cacheDir + "/c/state"
		b, _ := os.ReadFile(path)
		var s state
		json.Unmarshal(b, &s)
		for k := range s.Retired {
			s.Retired[k] = time.Now().Add(d).Unix()
		}
		b, _ = json.Marshal(s)
		writeFile(t, path, string(b), 0o600)
	}
	retire2(-25 * time.Hour)
	count(refresh("2", 48*time.Hour), 2)
	retire2(-25 * time.Hour)
	count(refresh("2", 0), 1)

	// The clock was set back: not for ever, and not at once.
	in = refresh("3", 0)
	retire2(1000 * time.Hour)
	count(refresh("3", 0), 2)
	retire(in, time.Now().Add(-25*time.Hour))
	count(refresh("3", 0), 1)

	// Without its memory a refresher waits anew.
	in = refresh("4", 0)
	if err := os.Remove(in.cacheDir + "/c/state"); err != nil {
		t.Fatal(err)
	}
	count(refresh("4", 0), 2)
	writeFile(t, in.cacheDir+"/c/state", "{nonsense", 0o600)
	count(refresh("4", 0), 2)

	// What is retired comes back into use, and is not collected then.
	refresh("3", 0)
	retire2(-25 * time.Hour)
	in = refresh("3", 0)
	count(in, 1)
	noLitter(t, in)
}

// TestSweep: what a killed refresh left is removed by the next, and what is
// not ours stays.
func TestSweep(t *testing.T) {
	root := newRoot(t)
	v := "1"
	in := load(t, root, value(&v))
	refreshed(t, in)
	dir := in.cacheDir + "/c/"
	writeFile(t, dir+".pending-1", "", 0o600)
	writeFile(t, dir+".new-1", "", 0o600)
	writeFile(t, dir+"g/.new-2/gen/files/a", "", 0o600)
	writeFile(t, dir+"g/.new-3", "", 0o600)
	writeFile(t, dir+"notes", "", 0o600)
	if res := refreshed(t, in); res.Outcome != Unchanged {
		t.Errorf("%+v", res)
	}
	if _, err := os.Lstat(dir + "notes"); err != nil {
		t.Error(err)
	}
	os.Remove(dir + "notes")
	noLitter(t, in)
}

// A writer is a disk on which something is still written, some times, into each
// directory of a name that is to be removed.
type writer struct {
	disk
	name  string
	times int
}

func (w *writer) Remove(path string) error {
	if filepath.Base(path) == w.name && w.times > 0 {
		w.times--
		if err := os.WriteFile(path+"/late", nil, 0o600); err != nil {
			return err
		}
	}
	return w.disk.Remove(path)
}

// TestStillWritten: what a killed refresh or a builder left running writes where
// it is swept. It does not fail the refresh, and is gone in the end.
func TestStillWritten(t *testing.T) {
	for _, times := range []int{1, 1000} {
		root := newRoot(t)
		v := "1"
		in := load(t, root, value(&v))
		refreshed(t, in)
		writeFile(t, in.cacheDir+"/c/g/.new-2/out/a", "", 0o600)
		w := &writer{disk: in.disk, name: "out", times: times}
		in.disk = w
		refreshed(t, in) // sweeps
		v = "2"
		writeFile(t, root+"/share/MANIFEST", "version 2\n", 0o644)
		if res := refreshed(t, in); res.Outcome != Built { // cleans up after its own builder
			t.Errorf("%+v", res)
		}
		if tried := times - w.times; tried > 20 {
			t.Errorf("tried %d times", tried)
		}
		w.times = 0
		refreshed(t, in)
		noLitter(t, in)
	}
}

// TestHeld: a held lock is told of, and not waited for unasked.
func TestHeld(t *testing.T) {
	root := newRoot(t)
	v := "1"
	in := load(t, root, value(&v))
	refreshed(t, in)
	l, err := lock.Acquire(t.Context(), in.cacheDir+"/c/lock", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	told := 0
	for _, wait := range []time.Duration{0, 50 * time.Millisecond} {
		_, err = in.Refresh(t.Context(), "c", &Options{Wait: wait, Waiting: func(lock.Holder) { told++ }})
		if !errors.As(err, new(*lock.HeldError)) {
			t.Errorf("wait %v: %v", wait, err)
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	if f := in.Status("c").Failure; f != nil {
		t.Errorf("a held lock is no failure of the cache: %+v", f)
	}
	if err := in.Invalidate("c"); err != nil {
		t.Errorf("invalidate waits for no lock: %v", err)
	}
}

// TestPath: a way to the cache that others can write is refused.
func TestPath(t *testing.T) {
	root := newRoot(t)
	v := "1"
	in := load(t, root, value(&v))
	refreshed(t, in)
	for _, dir := range []string{"/var", "/var/cache", "/var/cache/syscache", "/var/cache/syscache/c", "/var/cache/syscache/c/g"} {
		if err := os.Chmod(root+dir, 0o777); err != nil {
			t.Fatal(err)
		}
		for name, err := range map[string]error{
			"refresh": func() error { _, err := in.Refresh(t.Context(), "c", nil); return err }(), "invalidate": in.Invalidate("c"),
		} {
			if name == "invalidate" && strings.HasSuffix(dir, "/g") {
				continue // it does not go there
			}
			if err == nil || !strings.Contains(err.Error(), "everyone can write "+root+dir) {
				t.Errorf("%s, %s: %v", name, dir, err)
			}
		}
		if err := os.Chmod(root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(root+"/var", root+"/var2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("var2", root+"/var"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Refresh(t.Context(), "c", nil); err == nil || !strings.Contains(err.Error(), "is not a directory") {
		t.Errorf("through a link: %v", err)
	}
}

// TestWitnessThroughLink: such a witness could lead out of an image.
func TestWitnessThroughLink(t *testing.T) {
	root := newRoot(t)
	if err := os.Symlink("share", root+"/s"); err != nil {
		t.Fatal(err)
	}
	in := load(t, root, Cache{Witness: []string{"s/MANIFEST"}})
	if _, err := in.Refresh(t.Context(), "c", nil); err == nil || !strings.Contains(err.Error(), "goes through the symbolic link s") {
		t.Error(err)
	}
}

// TestDeterminism guards I9: two roots of the same content have the same
// generation, byte for byte.
func TestDeterminism(t *testing.T) {
	var first map[string]string
	for i := range 2 {
		root := newRoot(t)
		writeFile(t, root+"/share/b", "b", 0o644)
		v := "1"
		in := load(t, root, value(&v))
		refreshed(t, in)
		got := listing(t, in.cacheDir+"/c/g")
		if i > 0 {
			if d := cmp.Diff(first, got); d != "" {
				t.Error(d)
			}
		}
		first = got
	}
}

// TestOthersTokens: a refresher that looked at the inputs before us, and that
// no lock stopped, does not publish after us (I8).
func TestOthersTokens(t *testing.T) {
	root := newRoot(t)
	var in *Install
	in = load(t, root, Cache{Witness: []string{}, Build: func(context.Context, Inputs, func(k, v []byte) error) error {
		return os.WriteFile(in.cacheDir+"/c/"+format.TokenPrefix+"other", nil, 0o600)
	}})
	refreshed(t, in)
	noLitter(t, in)
}

// TestWitnessBeforeScan: what an installer changes after the scan, the witness
// last, is not certified by that scan's refresh. (A warning of what the scan left
// out is what comes between the scan and all that follows.)
func TestWitnessBeforeScan(t *testing.T) {
	root := newRoot(t)
	v := "1"
	c := value(&v)
	c.Inputs, c.Witness = []string{"share/lib/**"}, []string{"share/MANIFEST"}
	writeFile(t, root+"/share/lib/one", "1", 0o644)
	writeFile(t, root+"/share/lib/closed", "", 0o600)
	refreshed(t, load(t, root, c))
	writeFile(t, root+"/share/MANIFEST", "version 2\n", 0o644) // nothing to build
	in := load(t, root, c)
	installs := 0
	in.warn = func(string) {
		installs++
		writeFile(t, root+"/share/lib/one", "2", 0o644)
		writeFile(t, root+"/share/MANIFEST", "version 3\n", 0o644)
	}
	if res := refreshed(t, in); installs != 1 || res.Outcome != Recertified {
		t.Fatalf("%d installs, %+v", installs, res)
	}
	if got := get(t, in, "k"); !strings.Contains(got, "stale") {
		t.Errorf("believed: %s", got)
	}
}
