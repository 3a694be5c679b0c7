package refresh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache"
)

// A meddling is what somebody else does in one go between two operations of a
// refresh, whom no lock keeps out.
var meddlings = map[string]func(w *world) error{
	"a refresh": (*world).other,
	"an edit and a refresh": func(w *world) error {
		w.edit("edited\n")
		return w.other()
	},
	"an invalidate": func(w *world) error { return w.install().Invalidate("c") },
	"an edit and an invalidate": func(w *world) error {
		w.edit("edited\n")
		return w.install().Invalidate("c")
	},
}

// other is another refresher, for whom there is another lock: as where flock
// keeps nobody out.
func (w *world) other() error {
	in := w.install()
	err := os.Remove(in.cacheDir + "/c/" + format.Lock)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	_, err = in.Refresh(context.Background(), "c", nil)
	return err
}

// TestWithoutLock has somebody meddle before each operation of a refresh, in
// turn, and readers look after each that follows. No witness helps them: what
// they have must be right because whoever looked first publishes last or not at
// all (I2, I8).
func TestWithoutLock(t *testing.T) {
	for scene, set := range map[string]func(w *world){
		"first": func(*world) {},
		"next": func(w *world) {
			w.refresh("")
			w.edit("version 2\n")
		},
		"back": func(w *world) {
			w.refresh("")
			w.edit("version 2\n")
			w.c.Keep = 0
			w.refresh("")
			w.edit("version 1\n")
		},
		"forced": func(w *world) {
			w.refresh("")
			w.heal.Force = true
		},
	} {
		for name, meddle := range meddlings {
			for _, files := range kinds(scene) {
				t.Run(fmt.Sprintf("%s/%s/files=%v", scene, name, files), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, files, func(w *world) {
						w.c = imageCache(files, new(int))
						w.c.Witness, w.c.Keep = []string{}, 1
						set(w)
					})
					inputs := w.inputs()
					for i := 0; w.meddled(i, inputs, meddle) && !t.Failed(); i++ {
					}
				})
			}
		}
	}
}

// inputs returns what the inputs hold.
func (w *world) inputs() string {
	b, err := os.ReadFile(w.root + "/share/MANIFEST")
	w.must(err)
	return string(b)
}

// meddled refreshes, and meddles before the i-th operation. It returns false if
// there is none.
func (w *world) meddled(i int, inputs string, meddle func(w *world) error) bool {
	w.restore(w.start)
	if w.inputs() != inputs {
		w.edit(inputs)
	}
	what := ""
	look := func(when string) {
		got, err := w.read(false)
		switch {
		case err == nil && got == w.inputs(), errors.Is(err, syscache.ErrStale), errors.Is(err, syscache.ErrMissing):
		default:
			w.t.Errorf("%s, %s: a reader has %q, %v; the inputs are %q", what, when, got, err, w.inputs())
		}
		if err == nil {
			if err := w.install().Verify(context.Background(), "c"); err != nil {
				w.t.Errorf("%s, %s: %v", what, when, err)
			}
		}
	}
	in := w.install()
	d := &tracedDisk{}
	d.before = func(op *operation) error {
		if len(d.ops) != i+1 {
			return nil
		}
		what = fmt.Sprintf("before operation %d, %s", i, op.name)
		if err := meddle(w); err != nil {
			w.t.Errorf("%s: %v", what, err)
		}
		look("at once")
		return nil
	}
	d.after = func(op *operation) error {
		if what != "" {
			look("after " + op.name)
		}
		return nil
	}
	in.disk = d
	if err := w.op(in); err != nil {
		w.t.Errorf("%s: %v", what, err)
	}
	if what == "" {
		return false
	}
	look("in the end")
	w.new = w.inputs()
	w.heals(what)
	// What is kept of other inputs is of those inputs.
	for _, text := range []string{inputs, "edited\n"} {
		w.edit(text)
		if _, err := w.install().Refresh(context.Background(), "c", nil); err != nil {
			w.t.Errorf("%s: %v", what, err)
		}
		look(fmt.Sprintf("with %q again", text))
	}
	return true
}
