package refresh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/syscache/syscache/lock"
	"github.com/syscache/syscache/syscache"
)

// failed refreshes "c", whose build is to fail, and returns the error. What
// was there before stays, for those who accept stale data.
func failed(t *testing.T, in *Install, ctx context.Context) error {
	t.Helper()
	_, err := in.Refresh(ctx, "c", nil)
	if err == nil {
		t.Fatal("no error")
	}
	noLitter(t, in)
	if got := get(t, in, "k"); !strings.Contains(got, "stale") {
		t.Errorf("readers have %q", got)
	}
	r, err2 := syscache.Open(in.root, "c", in.readOptions(true))
	if err2 != nil {
		t.Fatal(err2)
	}
	defer r.Close()
	if v, err := r.Get([]byte("k")); err != nil || string(v) != "old" {
		t.Errorf("the old generation has %q, %v", v, err)
	}
	return err
}

type emitFunc = func(key, value []byte) error

// TestBuildPanics: a panic is the builder's failure, like any other.
func TestBuildPanics(t *testing.T) {
	for name, tc := range map[string]struct {
		value any
		want  string
		is    error
	}{
		"a text":           {"no such font", "build c: panic: no such font", nil},
		"an error":         {fmt.Errorf("font: %w", fs.ErrNotExist), "build c: panic: font: file does not exist", fs.ErrNotExist},
		"nil":              {nil, "build c: panic: panic called with nil argument", nil},
		"one of runtime's": {"index", "build c: panic: runtime error: index out of range [3]", nil},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			v := "old"
			refreshed(t, load(t, root, value(&v)))
			panics := true
			in := load(t, root, Cache{Witness: []string{}, BuildVersion: "2", Build: func(_ context.Context, _ Inputs, emit func(k, v []byte) error) error {
				if err := emit([]byte("k"), []byte("new")); err != nil || !panics {
					return err
				}
				if tc.value == "index" {
					return explode(make([]error, 3))
				}
				panic(tc.value)
			}})
			err := failed(t, in, t.Context())
			var b *BuildError
			if !errors.As(err, &b) || !strings.HasPrefix(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v", err)
			}
			if strings.Contains(err.Error(), "\n") || !strings.HasPrefix(b.Stderr, "panic(") || !strings.Contains(b.Stderr, "function_test.go") {
				t.Errorf("the stack is\n%s", b.Stderr)
			}
			if f := in.Status("c").Failure; f == nil || f.Message != err.Error() || f.Stderr != b.Stderr {
				t.Errorf("status: %+v", f)
			}
			panics = false
			refreshed(t, in)
			if got := get(t, in, "k"); got != "new" {
				t.Errorf("afterwards: %q", got)
			}
		})
	}
}

func explode(s []error) error { return s[len(s)] }

// TestEmit: emit keeps nothing that it is given, takes rows from many
// goroutines, and none is lost unseen.
func TestEmit(t *testing.T) {
	const goroutines, each = 8, 1000
	in := load(t, newRoot(t), Cache{Witness: []string{}, Build: func(_ context.Context, _ Inputs, emit func(k, v []byte) error) error {
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				var b []byte
				for n := range each {
					b = fmt.Appendf(b[:0], "%d.%d", g, n)
					emit(b, b)
					clear(b)
				}
			})
		}
		wg.Wait()
		return nil
	}})
	if res := refreshed(t, in); res.Rows != goroutines*each {
		t.Errorf("%d rows", res.Rows)
	}
	for _, key := range []string{"0.0", "7.999", "3.141"} {
		if got := get(t, in, key); got != key {
			t.Errorf("%s: %q", key, got)
		}
	}
}

// TestEmitRefused: a row that is not taken fails the build, whether or not the
// function looks at emit's error.
func TestEmitRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		build func(emit emitFunc, cancel func())
		files bool
		want  string
	}{
		"a long key": {func(emit emitFunc, cancel func()) {
			emit([]byte("k"), nil)
			emit(make([]byte, 1<<20), nil)
			emit([]byte("l"), nil)
		}, false, "build c: row 2: the key is 1048576 bytes long"},
		"a row for files": {func(emit emitFunc, cancel func()) { emit([]byte("k"), nil) }, true, "build c: it emitted a row"},
		"interrupted": {func(emit emitFunc, cancel func()) {
			cancel()
			if err := emit([]byte("k"), nil); !errors.Is(err, context.Canceled) {
				t.Errorf("emit after it was interrupted: %v", err)
			}
		}, false, "refresh c: interrupted"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			root := newRoot(t)
			v := "old"
			refreshed(t, load(t, root, value(&v)))
			in := load(t, root, Cache{Witness: []string{}, BuildVersion: "2", Files: tc.files, Build: func(_ context.Context, _ Inputs, emit func(k, v []byte) error) error {
				tc.build(emit, cancel)
				return nil
			}})
			if err := failed(t, in, ctx); !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestEmitLate: what a goroutine emits that Build left behind is in no table.
func TestEmitLate(t *testing.T) {
	var kept func(k, v []byte) error
	in := load(t, newRoot(t), Cache{Witness: []string{}, Build: func(_ context.Context, _ Inputs, emit func(k, v []byte) error) error {
		kept = emit
		return emit([]byte("k"), nil)
	}})
	refreshed(t, in)
	if err := kept([]byte("l"), nil); err == nil {
		t.Error("a row was taken after the end")
	}
}

// TestRefreshAtOnce: the lock excludes goroutines as it does processes, and
// refreshes of different caches run side by side.
func TestRefreshAtOnce(t *testing.T) {
	root := newRoot(t)
	var built, running, most atomic.Int32
	together := make(chan bool)
	build := func(ctx context.Context, _ Inputs, emit func(k, v []byte) error) error {
		built.Add(1)
		if n := running.Add(1); n == 3 {
			close(together) // one of each cache: they do not wait for each other
		} else if n > 3 {
			most.Store(n)
		}
		defer running.Add(-1)
		select {
		case <-together:
		case <-ctx.Done():
		}
		return emit([]byte("k"), []byte("v"))
	}
	var caches []Cache
	names := []string{"a", "b", "c"}
	for _, name := range names {
		caches = append(caches, Cache{Name: name, Inputs: []string{"share/**"}, Build: build})
	}
	in, err := Load(root, &LoadOptions{Caches: caches, Warn: func(msg string) { t.Error(msg) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var outcomes sync.Map
	var wg sync.WaitGroup
	for _, name := range names {
		for n := range 5 {
			wg.Go(func() {
				res, err := in.Refresh(ctx, name, &Options{Wait: -1})
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				outcomes.Store(fmt.Sprint(name, n), res.Outcome)
			})
		}
	}
	wg.Wait()
	if built.Load() != 3 || most.Load() != 0 {
		t.Errorf("%d builds, and %d at once", built.Load(), most.Load())
	}
	got := map[Outcome]int{}
	outcomes.Range(func(_, o any) bool { got[o.(Outcome)]++; return true })
	if d := cmp.Diff(map[Outcome]int{Built: 3, Unchanged: 12}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	noLitter(t, in)
}

// TestRefreshHeld: without a wait, a second refresh in the process is told who
// holds the lock.
func TestRefreshHeld(t *testing.T) {
	var in *Install
	var held *lock.HeldError
	in = load(t, newRoot(t), Cache{Build: func(ctx context.Context, _ Inputs, emit func(k, v []byte) error) error {
		if _, err := in.Refresh(ctx, "c", nil); !errors.As(err, &held) {
			t.Errorf("inside a refresh: %v", err)
		}
		return emit([]byte("k"), nil)
	}})
	refreshed(t, in)
	if held == nil || !strings.Contains(held.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("%v", held)
	}
}

// TestNoOptions: nil stands for the zero value everywhere.
func TestNoOptions(t *testing.T) {
	root := newRoot(t)
	v := "1"
	in := load(t, root, value(&v))
	refreshed(t, in)
	if _, err := in.Collect(t.Context(), "c", nil); err != nil {
		t.Error(err)
	}
	if names := Known(root, nil); len(names) != 1 {
		t.Errorf("known: %q", names)
	}
	if names, err := InvalidateAll(root, nil); err != nil || len(names) != 1 {
		t.Errorf("invalidated: %q, %v", names, err)
	}
	if _, err := Load(root, nil); err != nil {
		t.Error(err)
	}
}
