package refresh

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache"
)

// An eachWorld is an install whose cache is built input by input: each line of a
// file in share is a row key.
type eachWorld struct {
	t       *testing.T
	root    string
	rnd     *rand.Rand
	files   map[string]eachFile // by name in share
	version int                 // of the recipe
	damaged map[hashing.Key]bool
	mu      sync.Mutex
	given   []string // to the builder
}

type eachFile struct {
	text string
	mode os.FileMode
}

// install returns the install with a cache_dir, "" for its own, whose builder
// notes what it is given if it is to.
func (w *eachWorld) install(cacheDir string, note bool) *Install {
	in := loadAt(w.t, w.root, cacheDir, Cache{
		Name: "c", Inputs: []string{"share/**"}, Witness: []string{}, Jobs: 1 + w.rnd.IntN(4), BuildVersion: strconv.Itoa(w.version),
		BuildEach: func(_ context.Context, in Inputs, input hashing.Input, emit func(key, value []byte) error) error {
			if note {
				w.mu.Lock()
				w.given = append(w.given, input.Path)
				w.mu.Unlock()
			}
			b, err := os.ReadFile(in.Root + "/" + input.Path)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(b)) {
				if err := emit([]byte(strings.TrimSuffix(line, "\n")), fmt.Appendf(nil, "%s %o %s", input.Path, input.Mode, input.Digest)); err != nil {
					return err
				}
			}
			return nil
		},
	})
	in.disk = &tracedDisk{}
	return in
}

// edit changes one thing of the install.
func (w *eachWorld) edit() {
	names := slices.Sorted(maps.Keys(w.files))
	some := func() string { return names[w.rnd.IntN(len(names))] }
	switch n := w.rnd.IntN(20); {
	case n < 6 || len(names) < 2:
		w.write(fmt.Sprintf("f%02d", w.rnd.IntN(40)), eachFile{w.text(), 0o644})
	case n < 11:
		w.write(some(), eachFile{w.text(), 0o644})
	case n < 14:
		w.remove(some())
	case n < 16:
		name := some()
		w.write(name, eachFile{w.files[name].text, 0o600 + os.FileMode(w.rnd.IntN(2))*0o44})
	case n < 18: // the same under another name
		name := some()
		f := w.files[name]
		w.remove(name)
		w.write(fmt.Sprintf("f%02d", w.rnd.IntN(40)), f)
	case n < 19: // a row key of another
		w.write(some(), w.files[some()])
	default:
		w.version++
	}
}

// text returns the row keys of a file. Two files seldom share one.
func (w *eachWorld) text() string {
	var b strings.Builder
	for range w.rnd.IntN(6) {
		fmt.Fprintf(&b, "%x\n", w.rnd.IntN(1<<16))
	}
	return b.String()
}

func (w *eachWorld) write(name string, f eachFile) {
	w.files[name] = f
	writeFile(w.t, w.root+"/share/"+name, f.text, f.mode)
}

func (w *eachWorld) remove(name string) {
	delete(w.files, name)
	if err := os.Remove(w.root + "/share/" + name); err != nil {
		w.t.Fatal(err)
	}
}

// damage spoils the generation that readers have, and changes an input, for
// without that nobody looks.
func (w *eachWorld) damage(in *Install) {
	p := (&refresher{Install: in, dir: in.cacheDir + "/c"}).hadAnyhow()
	if p == nil {
		return
	}
	dir := in.cacheDir + "/c/" + format.Generation(hashing.Key(p.Key).String())
	name := []string{format.Table, format.Origins, format.Meta, format.Manifest}[w.rnd.IntN(4)]
	b, err := os.ReadFile(dir + "/" + name)
	if err != nil {
		w.t.Fatal(err)
	}
	b[w.rnd.IntN(len(b))] ^= 1 << w.rnd.IntN(8)
	writeFile(w.t, dir+"/"+name, string(b), 0o644)
	w.damaged[p.Key] = true
	w.write("f00", eachFile{fmt.Sprintf("never before %d\n", len(w.damaged)), 0o644})
}

// hadAnyhow returns the pointer in current, else in stale.
func (r *refresher) hadAnyhow() *format.Pointer {
	before, err := r.readCurrent()
	if err != nil {
		return nil
	}
	return r.had(before)
}

// expected returns which inputs a refresh to the manifest now is to build.
func (w *eachWorld) expected(in *Install, now *hashing.Manifest) []string {
	key := now.Key()
	if _, err := os.Stat(in.cacheDir + "/c/" + format.Generation(key.String())); err == nil && !w.damaged[key] {
		return nil
	}
	old := map[string]hashing.Input{}
	if p := (&refresher{Install: in, dir: in.cacheDir + "/c"}).hadAnyhow(); p != nil && !w.damaged[p.Key] {
		m, err := in.manifest("c", p.Key)
		if err != nil {
			w.t.Fatal(err)
		}
		if cmp.Equal(m.Recipe, now.Recipe) {
			for _, i := range m.Inputs {
				old[i.Path] = i
			}
		}
	}
	var paths []string
	for _, i := range now.Inputs {
		if old[i.Path] != i {
			paths = append(paths, i.Path)
		}
	}
	return paths
}

// step refreshes once, perhaps with a fault, and compares.
func (w *eachWorld) step(what string) {
	full := w.install(w.t.TempDir(), false)
	_, fullErr := full.Refresh(w.t.Context(), "c", nil)
	in := w.install("", true)
	var o Options
	if w.rnd.IntN(20) == 0 {
		o.Force = true
		what += ", forced"
	}
	if w.rnd.IntN(3) == 0 {
		all := faults()
		f := all[w.rnd.IntN(4)]
		i := w.rnd.IntN(50)
		in.disk = f.disk(i)
		w.given = nil
		_, err := in.Refresh(w.t.Context(), "c", &o)
		what += fmt.Sprintf(", %s at %d (%v)", f.name, i, err)
		in.disk = &tracedDisk{}
	}
	w.given = nil
	var want []string
	var m *hashing.Manifest
	if fullErr == nil {
		p := (&refresher{Install: full, dir: full.cacheDir + "/c"}).hadAnyhow()
		var err error
		if m, err = full.manifest("c", p.Key); err != nil {
			w.t.Fatal(err)
		}
		want = w.expected(in, m)
		if o.Force {
			want = nil
			for _, i := range m.Inputs {
				want = append(want, i.Path)
			}
		}
	}
	res, err := in.Refresh(w.t.Context(), "c", &o)
	noLitter(w.t, in)
	if fullErr != nil || err != nil {
		if fmt.Sprint(err) != fmt.Sprint(fullErr) || !errors.As(err, new(*BuildError)) {
			w.t.Fatalf("%s: %v, and of a full build %v", what, err, fullErr)
		}
		return
	}
	delete(w.damaged, m.Key())
	slices.Sort(w.given)
	if d := cmp.Diff(want, w.given); d != "" || res.BuiltInputs != len(want) {
		w.t.Fatalf("%s: %d were built, %+v (-want +got):\n%s", what, res.BuiltInputs, res.Changes, d)
	}
	if err := in.Verify(w.t.Context(), "c"); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	name := "/c/" + format.Generation(res.Key.String())
	if d := cmp.Diff(readTree(w.t, full.cacheDir+name).names, readTree(w.t, in.cacheDir+name).names, cmp.AllowUnexported(node{})); d != "" {
		w.t.Fatalf("%s: not what a full build makes (-full +got):\n%s", what, d)
	}
}

// TestEach: whatever is edited, and wherever a refresh was killed, the builder
// gets what is new or changed, and the generation is byte for byte that of a full
// build (I9). SYSCACHE_SEED replays one.
func TestEach(t *testing.T) {
	seeds := 20
	if thorough {
		seeds = 200
	}
	first := 1
	if s, err := strconv.Atoi(os.Getenv("SYSCACHE_SEED")); err == nil {
		first, seeds = s, 1
	}
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprintf("SYSCACHE_SEED=%d", seed), func(t *testing.T) {
			t.Parallel()
			w := &eachWorld{
				t: t, root: inMemory(t), rnd: rand.New(rand.NewPCG(uint64(seed), 0)),
				files: map[string]eachFile{"MANIFEST": {"", 0o644}}, damaged: map[hashing.Key]bool{},
			}
			w.write("MANIFEST", eachFile{"", 0o644})
			for range 8 {
				w.write(fmt.Sprintf("f%02d", w.rnd.IntN(40)), eachFile{w.text(), 0o644})
			}
			for i := range 30 {
				what := fmt.Sprintf("step %d", i)
				w.step(what)
				for range w.rnd.IntN(4) {
					w.edit()
				}
				if w.rnd.IntN(10) == 0 {
					w.damage(w.install("", false))
				}
			}
		})
	}
}

// TestMerged: the order of a table, of equal keys by where they are from.
func TestMerged(t *testing.T) {
	list := func(rows ...mergedRow) iter.Seq2[mergedRow, error] {
		return func(yield func(mergedRow, error) bool) {
			for _, r := range rows {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
	row := func(key string, from uint64) mergedRow { return mergedRow{key: []byte(key), from: from} }
	broken := errors.New("broken")
	fails := func(yield func(mergedRow, error) bool) {
		if yield(row("b", 9), nil) {
			yield(mergedRow{}, broken)
		}
	}
	for _, tc := range []struct {
		a, b iter.Seq2[mergedRow, error]
		want string
	}{
		{list(), list(), ""},
		{list(row("a", 1), row("c", 1)), list(), "a1 c1"},
		{list(), list(row("a", 1), row("c", 1)), "a1 c1"},
		{list(row("a", 1), row("c", 1)), list(row("", 2), row("b", 2), row("d", 2)), "2 a1 b2 c1 d2"},
		{list(row("a", 2), row("b", 1)), list(row("a", 1), row("b", 2)), "a1 a2 b1 b2"},
		{list(row("a", 1), row("c", 1)), fails, "a1 b9 broken"},
		{fails, list(row("a", 1), row("c", 1)), "a1 b9 broken"},
	} {
		var got []string
		for r, err := range merged(tc.a, tc.b) {
			if err != nil {
				got = append(got, err.Error())
				continue
			}
			got = append(got, fmt.Sprintf("%s%d", r.key, r.from))
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
		for range merged(tc.a, tc.b) {
			break
		}
	}
}

// TestBaseIsDamagedMeanwhile: what goes wrong with the last generation after it
// was read in full has all built.
func TestBaseIsDamagedMeanwhile(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"table gone":    func(dir string) error { return os.Remove(dir + "/" + format.Table) },
		"table cut":     func(dir string) error { return os.Truncate(dir+"/"+format.Table, 200) },
		"origins gone":  func(dir string) error { return os.Remove(dir + "/" + format.Origins) },
		"origins cut":   func(dir string) error { return os.Truncate(dir+"/"+format.Origins, 18) },
		"all of it":     os.RemoveAll,
		"row damaged":   func(dir string) error { return flipAt(dir+"/"+format.Table, format.TableHeaderSize) },
		"another input": func(dir string) error { return flipAt(dir+"/"+format.Origins, format.OriginsHeaderSize+1) },
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			writeFile(t, root+"/share/a", "1", 0o644)
			writeFile(t, root+"/share/b", "2", 0o644)
			var once func() error
			var calls []string
			c := Cache{Witness: []string{}, BuildEach: func(_ context.Context, in Inputs, input hashing.Input, emit func(k, v []byte) error) error {
				calls = append(calls, input.Path)
				if once != nil {
					if err := once(); err != nil {
						t.Error(err)
					}
					once = nil
				}
				if in.Files != nil || in.Key != (hashing.Key{}) {
					t.Errorf("it is told of other inputs: %+v", in)
				}
				b, err := os.ReadFile(in.Root + "/" + input.Path)
				return errors.Join(err, emit([]byte(input.Path), b))
			}}
			in := load(t, root, c)
			first := refreshed(t, in)
			calls = nil
			writeFile(t, root+"/share/b", "3", 0o644)
			once = func() error { return damage(in.cacheDir + "/c/" + format.Generation(first.Key.String())) }
			res := refreshed(t, in)
			noLitter(t, in)
			want := []string{"share/b", "share/MANIFEST", "share/a", "share/b"}
			if !slices.Equal(calls, want) || res.BuiltInputs != 3 || res.Rows != 3 {
				t.Errorf("built %q, want %q; %+v", calls, want, res)
			}
			if a, b := get(t, in, "share/a"), get(t, in, "share/b"); a != "1" || b != "3" {
				t.Errorf("a reader has %q and %q", a, b)
			}
		})
	}
}

// flipAt changes a byte of a file.
func flipAt(path string, at int) error {
	b, err := os.ReadFile(path)
	if err == nil {
		b[at] ^= 0x40
		err = os.WriteFile(path, b, 0o644)
	}
	return err
}

// TestForgedBase: a generation that is not the one that the pointer names, or
// whose table is none that a refresh makes, is no base.
func TestForgedBase(t *testing.T) {
	forge := func(t *testing.T, dir string, m *format.GenerationMeta, name string, size uint64) {
		d, err := digestOutput(dir+"/"+name, format.OutputFile)
		if err != nil {
			t.Fatal(err)
		}
		*m.Output(name) = format.Output{Path: name, Type: format.OutputFile, Mode: 0o644, Size: size, Digest: d}
	}
	origins := func(inputs ...uint32) func(t *testing.T, dir string, m *format.GenerationMeta) {
		return func(t *testing.T, dir string, m *format.GenerationMeta) {
			b := format.OriginsHeader(uint32(len(inputs)))
			for _, i := range inputs {
				b = format.AppendOrigin(b, i)
			}
			writeFile(t, dir+"/"+format.Origins, string(b), 0o644)
			m.Rows = uint64(len(inputs))
			forge(t, dir, m, format.Origins, uint64(len(b)))
		}
	}
	for name, tc := range map[string]struct {
		forge func(t *testing.T, dir string, m *format.GenerationMeta)
		named bool // by the pointer
	}{
		"rows exchanged": {origins(1, 0), false},
		"fewer rows":     {origins(0), true},
		"more rows":      {origins(0, 1, 1), true},
		"no such input":  {origins(0, 2), true},
		"rows in reverse": {func(t *testing.T, dir string, m *format.GenerationMeta) {
			f, err := os.Create(dir + "/" + format.Table)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			h, err := writeTable(f, m.Key, 2, func(yield func(mergedRow, error) bool) {
				_ = yield(mergedRow{key: []byte("share/a")}, nil) && yield(mergedRow{key: []byte("share/MANIFEST")}, nil)
			})
			if err != nil {
				t.Fatal(err)
			}
			forge(t, dir, m, format.Table, h.Size())
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			writeFile(t, root+"/share/a", "", 0o644)
			in := load(t, root, Cache{Witness: []string{}, BuildEach: func(_ context.Context, _ Inputs, input hashing.Input, emit func(k, v []byte) error) error {
				return emit([]byte(input.Path), nil)
			}})
			dir := in.cacheDir + "/c/" + format.Generation(refreshed(t, in).Key.String())
			g, err := in.owner.openGeneration(dir, hashing.Key((&refresher{Install: in, dir: in.cacheDir + "/c"}).hadAnyhow().Key))
			if err != nil {
				t.Fatal(err)
			}
			tc.forge(t, dir, g.meta)
			writeFile(t, dir+"/"+format.Meta, string(g.meta.Encode()), 0o644)
			if tc.named {
				p := (&refresher{Install: in, dir: in.cacheDir + "/c"}).hadAnyhow()
				p.Meta = sha256.Sum256(g.meta.Encode())
				b, err := p.Encode()
				if err != nil {
					t.Fatal(err)
				}
				writeFile(t, in.cacheDir+"/c/"+format.Current, string(b), 0o644)
			}
			if err := in.Verify(t.Context(), "c"); !errors.Is(err, syscache.ErrCorrupt) {
				t.Errorf("verify: %v", err)
			}
			writeFile(t, root+"/share/b", "", 0o644)
			if res := refreshed(t, in); res.BuiltInputs != 3 || res.Rows != 3 {
				t.Errorf("%+v", res)
			}
		})
	}
}

// TestEachEnds: after the first error no further input is built, and where the
// refresh is interrupted none at all.
func TestEachEnds(t *testing.T) {
	root := newRoot(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		writeFile(t, root+"/share/"+name, "", 0o644)
	}
	var calls []string
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in := load(t, root, Cache{Witness: []string{}, BuildEach: func(_ context.Context, _ Inputs, input hashing.Input, _ func(k, v []byte) error) error {
		if calls = append(calls, input.Path); len(calls) == 2 {
			return errors.New("enough")
		}
		if len(calls) == 4 {
			cancel()
		}
		return nil
	}})
	if _, err := in.Refresh(ctx, "c", nil); err == nil || len(calls) != 2 {
		t.Errorf("%v after %q", err, calls)
	}
	if _, err := in.Refresh(ctx, "c", nil); !errors.Is(err, context.Canceled) || len(calls) != 4 {
		t.Errorf("%v after %q", err, calls)
	}
}

// TestEachFails: an error, a panic or a row that is refused is told with the
// input, once, and ends the others.
func TestEachFails(t *testing.T) {
	for name, tc := range map[string]struct {
		build func(ctx context.Context, emit func(k, v []byte) error) error
		want  string
	}{
		"error": {func(context.Context, func(k, v []byte) error) error { return errors.New("no font") }, "build c: input share/b: no font"},
		"panic": {func(context.Context, func(k, v []byte) error) error { panic("no font") }, "build c: input share/b: panic: no font"},
		"row": {func(_ context.Context, emit func(k, v []byte) error) error {
			emit(bytes.Repeat([]byte("k"), format.MaxKey+1), nil)
			return nil
		}, "build c: input share/b: row 1: the key is 65536 bytes long, and at most 65535 are allowed"},
		"the key of another": {func(_ context.Context, emit func(k, v []byte) error) error { return emit([]byte("share/a"), nil) }, `build c: inputs share/a and share/b both have a row with the key "share/a"`},
		"a key twice": {func(_ context.Context, emit func(k, v []byte) error) error {
			return errors.Join(emit([]byte("k"), nil), emit([]byte("k"), nil))
		}, `build c: input share/b has two rows with the key "k"`},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			for _, name := range []string{"a", "b", "c"} {
				writeFile(t, root+"/share/"+name, "", 0o644)
			}
			ended := strings.Contains(tc.want, ": input share/b: ") // before all were called
			in := load(t, root, Cache{Witness: []string{}, Jobs: 4, BuildEach: func(ctx context.Context, _ Inputs, input hashing.Input, emit func(k, v []byte) error) error {
				switch {
				case input.Path == "share/b":
					return tc.build(ctx, emit)
				case input.Path == "share/c" && ended:
					<-ctx.Done()
					return ctx.Err()
				}
				return emit([]byte(input.Path), nil)
			}})
			_, err := in.Refresh(t.Context(), "c", nil)
			var b *BuildError
			if !errors.As(err, &b) || err.Error() != tc.want || (name == "panic") != (b.Stderr != "") {
				t.Errorf("%v, want %s", err, tc.want)
			}
			noLitter(t, in)
		})
	}
}

// eachScript builds a row for each input that it is given: its path and digest.
// It notes what it is given in a file of its own in $LOG.
const eachScript = `
[ -z "${SYSCACHE_KEY+set}" ] || exit 9
[ -d "$SYSCACHE_OUT" ] || exit 8
note=$LOG/$$
printf '%s\n' "$SYSCACHE_OUT" >"$note"
tr '\0' '\n' <"$SYSCACHE_INPUTS" >"$note.inputs"
while read -r digest path; do
	printf '{"from_base64":"%s","key_base64":"%s","value":"%s"}\n' "$(printf %s "$path" | base64 -w 0)" "$(printf %s "$path" | base64 -w 0)" "$digest"
done <"$note.inputs"
`

// batches returns what each process of eachScript was given, and empties log.
func batches(t *testing.T, log string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(log)
	if err != nil {
		t.Fatal(err)
	}
	outs := map[string]bool{}
	for _, e := range entries {
		text := readText(t, log+"/"+e.Name())
		os.Remove(log + "/" + e.Name())
		if !strings.HasSuffix(e.Name(), ".inputs") {
			outs[text] = true
			continue
		}
		var paths []string
		for line := range strings.Lines(text) {
			paths = append(paths, strings.TrimSpace(line[66:]))
		}
		all = append(all, strings.Join(paths, " "))
	}
	if len(outs) != len(all) {
		t.Errorf("%d processes wrote to %d directories", len(all), len(outs))
	}
	slices.Sort(all)
	return all
}

// TestEachCommand: inputs are dealt out to as many processes as there may be, of
// which each gets what is new or changed only.
func TestEachCommand(t *testing.T) {
	root, log := newRoot(t), t.TempDir()
	c := script(t, root, eachScript)
	c.Each, c.Jobs, c.Env = true, 2, map[string]string{"PATH": "/usr/bin:/bin", "LOG": log}
	for _, name := range []string{"a", "b", "c\xff"} {
		writeFile(t, root+"/share/"+name, name, 0o644)
	}
	in := load(t, root, c)
	for _, tc := range []struct {
		what        string
		change      func() error
		force       bool
		want        []string
		rows, built int
	}{
		{"at first", nil, false, []string{"share/MANIFEST share/b", "share/a share/c\xff"}, 4, 4},
		{"nothing", nil, false, nil, 4, 0},
		{"one changed", func() error { return os.WriteFile(root+"/share/b", []byte("B"), 0o644) }, false, []string{"share/b"}, 4, 1},
		{"one removed", func() error { return os.Remove(root + "/share/a") }, false, nil, 3, 0},
		{"one new, one of another mode", func() error {
			return errors.Join(os.WriteFile(root+"/share/d", nil, 0o644), os.Chmod(root+"/share/b", 0o600), os.Chmod(root+"/share/b", 0o755))
		}, false, []string{"share/b", "share/d"}, 4, 2},
		{"by force", nil, true, []string{"share/MANIFEST share/c\xff", "share/b share/d"}, 4, 4},
		{"another recipe", func() error {
			return os.WriteFile(root+"/libexec/build", []byte("#!/bin/sh\n"+eachScript+"# new\n"), 0o755)
		}, false, []string{"share/MANIFEST share/c\xff", "share/b share/d"}, 4, 4},
	} {
		if tc.change != nil {
			if err := tc.change(); err != nil {
				t.Fatal(err)
			}
		}
		res, err := in.Refresh(t.Context(), "c", &Options{Force: tc.force})
		if err == nil {
			err = in.Verify(t.Context(), "c")
		}
		if err != nil {
			t.Fatalf("%s: %v", tc.what, err)
		}
		if got := batches(t, log); !slices.Equal(got, tc.want) || res.BuiltInputs != tc.built || res.Rows != tc.rows {
			t.Errorf("%s: processes for %q, want %q; %+v", tc.what, got, tc.want, res)
		}
	}
	if got := get(t, in, "share/b"); got != `"`+hashing.Digest(blake3.Sum256([]byte("B"))).String()+`"` {
		t.Errorf("a reader has %s", got)
	}
}

// TestEachCommandList: a list of inputs that grows is no other recipe, unless it
// is said to be.
func TestEachCommandList(t *testing.T) {
	for _, named := range []bool{false, true} {
		root, log := newRoot(t), t.TempDir()
		c := script(t, root, eachScript)
		c.Each, c.Env = true, map[string]string{"PATH": "/usr/bin:/bin", "LOG": log}
		c.Inputs, c.InputsFrom = []string{}, "LIST"
		if named {
			c.Recipe = append(c.Recipe, "L*")
		}
		writeFile(t, root+"/share/a", "", 0o644)
		writeFile(t, root+"/LIST", "share/MANIFEST\n", 0o644)
		in := load(t, root, c)
		refreshed(t, in)
		batches(t, log)
		writeFile(t, root+"/LIST", "share/MANIFEST\nshare/a\n", 0o644)
		refreshed(t, in)
		want := "share/a"
		if named {
			want = "share/MANIFEST share/a"
		}
		if got := batches(t, log); !slices.Equal(got, []string{want}) {
			t.Errorf("named in the recipe %v: built %q, want %q", named, got, want)
		}
	}
}

// TestEachCommandFails: the first process that fails ends the others, and is the
// one that is told of.
func TestEachCommandFails(t *testing.T) {
	for name, tc := range map[string]struct{ script, want, stderr string }{
		"exit code":     {"echo it broke >&2; exit 3", "build c: it failed: exit status 3", "it broke"},
		"no tag":        {`echo '{"key":"k","value":1}'; sleep 1000`, `build c: line 1 of its output: no "from"`, ""},
		"another batch": {`echo '{"from":"share/a","key":"k","value":1}'; sleep 1000`, `build c: line 1 of its output: "share/a" is none of the inputs that it was given`, ""},
		"no input":      {`echo '{"from":"share/x","key":"k","value":1}'`, `build c: line 1 of its output: "share/x" is none of the inputs that it was given`, ""},
		"bad line":      {`echo x`, `build c: line 1 of its output: not a JSON object: "x"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			writeFile(t, root+"/share/a", "", 0o644)
			c := script(t, root, `grep -q MANIFEST "$SYSCACHE_INPUTS" || exec sleep 1000`+"\n"+tc.script)
			c.Each, c.Jobs, c.Env = true, 2, map[string]string{"PATH": "/usr/bin:/bin"}
			in := load(t, root, c)
			_, err := in.Refresh(t.Context(), "c", nil)
			var b *BuildError
			if !errors.As(err, &b) || err.Error() != tc.want || b.Stderr != tc.stderr {
				t.Errorf("%v, want %s; stderr %q", err, tc.want, b.Stderr)
			}
			noLitter(t, in)
		})
	}
	root := newRoot(t)
	in := load(t, root, script(t, root, `echo '{"from":"share/MANIFEST","key":"k","value":1}'`))
	if _, err := in.Refresh(t.Context(), "c", nil); err == nil || err.Error() != `build c: line 1 of its output: "from" without each` {
		t.Errorf("a row that is tagged in vain: %v", err)
	}
}

// TestEachDeclared: what a program cannot ask for.
func TestEachDeclared(t *testing.T) {
	each := func(context.Context, Inputs, hashing.Input, func(k, v []byte) error) error { return nil }
	whole := func(context.Context, Inputs, func(k, v []byte) error) error { return nil }
	for want, c := range map[string]Cache{
		"it has two functions to build it":                          {Build: whole, BuildEach: each},
		"it has both a command and a function to build it":          {Command: []string{"x"}, BuildEach: each},
		"each is for tables":                                        {Files: true, BuildEach: each},
		"each is for a command, and for functions BuildEach":        {Each: true, Build: whole},
		"jobs 65: at most 64, where each input is built for itself": {Jobs: 65, BuildEach: each},
		"jobs 2: at most 64, where each input is built for itself":  {Jobs: 2, Build: whole},
		"jobs -1: at most 64, where each input is built for itself": {Jobs: -1, BuildEach: each},
	} {
		c.Name, c.Inputs = "c", []string{"share/**"}
		if _, err := Load(newRoot(t), &LoadOptions{Caches: []Cache{c}}); err == nil || err.Error() != "cache c: "+want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestEachAtOnce: as many run at once as Jobs says: each waits for the other.
func TestEachAtOnce(t *testing.T) {
	root, log := newRoot(t), t.TempDir()
	writeFile(t, root+"/share/a", "", 0o644)
	c := script(t, root, `: >"$LOG/$$"; until [ "$(ls "$LOG" | wc -l)" -eq 2 ]; do sleep 0.01; done`)
	c.Each, c.Jobs, c.Timeout, c.Env = true, 2, time.Minute, map[string]string{"PATH": "/usr/bin:/bin", "LOG": log}
	refreshed(t, load(t, root, c))
	var both sync.WaitGroup
	both.Add(2)
	refreshed(t, load(t, root, Cache{Witness: []string{}, Jobs: 2, BuildEach: func(context.Context, Inputs, hashing.Input, func(k, v []byte) error) error {
		both.Done()
		both.Wait()
		return nil
	}}))
}
