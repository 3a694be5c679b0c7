package syscache_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

func ExampleOpen() {
	root, remove := exampleInstall()
	defer remove()

	r, err := syscache.Open(root, "star-imports", nil)
	if err != nil {
		fmt.Println("derive it yourself:", err) // missing, stale, corrupt, untrusted, too new
		return
	}
	defer r.Close()
	value, err := r.Get([]byte("sage.rings.all"))
	fmt.Printf("%s %v\n", value, err)
	_, err = r.Get([]byte("sage.none"))
	fmt.Println(errors.Is(err, syscache.ErrNotFound))
	// Output:
	// version 1 <nil>
	// true
}

// A program that runs for long asks, before it uses what it has, whether that
// is current, and opens what is there if not. That is cheap enough for each
// request that it serves.
func ExampleReader_Current() {
	root, remove := exampleInstall()
	defer remove()

	var r *syscache.Reader
	lookUp := func(key string) (string, error) {
		if r != nil {
			if ok, _ := r.Current(); !ok { // an error, too, is one that Open will tell
				r.Close()
				r = nil
			}
		}
		if r == nil {
			var err error
			if r, err = syscache.Open(root, "star-imports", nil); err != nil {
				r = nil
				return "", err // until a refresh: derive it yourself
			}
		}
		value, err := r.Get([]byte(key))
		return string(value), err // a copy: r may be closed by the next look-up
	}
	fmt.Println(lookUp("sage.rings.all"))
	upgrade(root) // the install changes; its hook has not refreshed yet
	_, err := lookUp("sage.rings.all")
	fmt.Println(errors.Is(err, syscache.ErrStale))
	refreshExample(root)
	fmt.Println(lookUp("sage.rings.all"))
	r.Close()
	// Output:
	// version 1 <nil>
	// true
	// version 2 <nil>
}

// Where old data is better than none, stale data is accepted, with the reason.
func ExampleReadOptions_allowStale() {
	root, remove := exampleInstall()
	defer remove()
	upgrade(root)

	r, err := syscache.Open(root, "star-imports", &syscache.ReadOptions{AllowStale: true})
	if err != nil {
		fmt.Println("derive it yourself:", err)
		return
	}
	defer r.Close()
	value, err := r.Get([]byte("sage.rings.all"))
	fmt.Printf("%s %v\n", value, err)
	if why := r.Stale(); why != nil {
		fmt.Println("perhaps not up to date:", why)
	}
	// Output:
	// version 1 <nil>
	// perhaps not up to date: stale: witness MANIFEST changed since the last refresh
}

// exampleInstall returns the root of an install with one fresh cache.
func exampleInstall() (root string, remove func()) {
	root, err := os.MkdirTemp("", "syscache-example-")
	check(err)
	check(os.Chmod(root, 0o755))
	check(os.WriteFile(root+"/MANIFEST", []byte("version 1"), 0o644))
	refreshExample(root)
	return root, func() { os.RemoveAll(root) }
}

func upgrade(root string) {
	check(os.WriteFile(root+"/MANIFEST", []byte("version 2"), 0o644))
}

func refreshExample(root string) {
	in, err := refresh.Load(root, &refresh.LoadOptions{Caches: []refresh.Cache{{
		Name: "star-imports", Inputs: []string{"MANIFEST"}, Witness: []string{"MANIFEST"}, BuildVersion: "1",
		Build: func(_ context.Context, in refresh.Inputs, emit func(key, value []byte) error) error {
			b, err := os.ReadFile(root + "/MANIFEST")
			if err != nil {
				return err
			}
			return emit([]byte("sage.rings.all"), b)
		},
	}}})
	check(err)
	_, err = in.Refresh(context.Background(), "star-imports", nil)
	check(err)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
