package refresh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/syscache"
	"github.com/syscache/syscache/syscache/refresh"
)

// A program declares its own cache, besides those that the administrator and
// packages configure. A mistake in one of their files is not the program's
// concern: Load returns what is declared without one.
func ExampleLoad() {
	root, remove := exampleRoot(map[string]string{
		"etc/syscache.toml":             "[cache.modules]\ninputs = [\"lib/**\"]\n",
		"usr/lib/syscache.d/other.toml": "[cache.other]\ninputs = [\"share/**\"]\nwitnes = []\n",
	})
	defer remove()

	in, err := refresh.Load(root, &refresh.LoadOptions{Caches: []refresh.Cache{titles}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(in.Names())
	for _, m := range in.Mistakes() {
		fmt.Printf("%s:%d: %s\n", filepath.Base(m.File), m.Line, m.Msg)
	}
	// Output:
	// [modules titles]
	// other.toml:3: unknown key "witnes"
}

// titles is the first line of each document.
var titles = refresh.Cache{
	Name:   "titles",
	Inputs: []string{"share/doc/*.txt"},
	Build: func(ctx context.Context, in refresh.Inputs, emit func(key, value []byte) error) error {
		for _, f := range in.Files {
			text, err := os.ReadFile(filepath.Join(in.Root, f.Path))
			if err != nil {
				return err
			}
			title, _, _ := bytes.Cut(text, []byte("\n"))
			if err := emit([]byte(filepath.Base(f.Path)), title); err != nil {
				return err
			}
		}
		return nil
	},
	BuildVersion: "1", // changes when Build does
}

// A post-install step: it becomes the install's owner, if it is root, and
// refreshes the program's own cache. Nothing is built, or written, where
// nothing changed.
func ExampleInstall_Refresh() {
	root, remove := exampleDocs()
	defer remove()

	if err := refresh.BecomeOwner(root); err != nil {
		fmt.Println(err)
		return
	}
	in, err := refresh.Load(root, &refresh.LoadOptions{Caches: []refresh.Cache{titles}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 2 {
		res, err := in.Refresh(context.Background(), "titles", &refresh.Options{Wait: time.Minute})
		if err != nil {
			// What was there is still there, marked stale if the inputs changed.
			fmt.Println(err)
			return
		}
		fmt.Println(res.Outcome, res.Inputs, "inputs,", res.Rows, "rows")
	}

	r, err := syscache.Open(root, "titles", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	title, err := r.Get([]byte("intro.txt"))
	fmt.Printf("%s %v\n", title, err)
	// Output:
	// built 2 inputs, 2 rows
	// unchanged 2 inputs, 2 rows
	// Beginning <nil>
}

// A table that is built input by input: a refresh builds what is new or changed,
// here by two goroutines, and carries the rows of all else over.
func ExampleEachBuild() {
	root, remove := exampleDocs()
	defer remove()

	words := refresh.Cache{
		Name:   "words",
		Inputs: []string{"share/doc/*.txt"},
		BuildEach: func(ctx context.Context, in refresh.Inputs, input hashing.Input, emit func(key, value []byte) error) error {
			text, err := os.ReadFile(filepath.Join(in.Root, input.Path))
			if err != nil {
				return err
			}
			return emit([]byte(input.Path), []byte(strconv.Itoa(len(bytes.Fields(text)))))
		},
		BuildVersion: "1",
		Jobs:         2,
	}
	for range 2 {
		in, err := refresh.Load(root, &refresh.LoadOptions{Caches: []refresh.Cache{words}})
		if err != nil {
			fmt.Println(err)
			return
		}
		res, err := in.Refresh(context.Background(), "words", nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(res.BuiltInputs, "of", res.Inputs, "inputs,", res.Rows, "rows")
		edit(root)
	}
	// Output:
	// 2 of 2 inputs, 2 rows
	// 1 of 2 inputs, 2 rows
}

// Status is a reader's view: what the witnesses say, without a scan.
func ExampleInstall_Status() {
	in, remove := exampleTitles()
	defer remove()

	s := in.Status("titles")
	fmt.Println(s.Err, s.Rows, "rows, witness:", s.Witness)

	edit(in.Root())
	s = in.Status("titles")
	fmt.Println(errors.Is(s.Err, syscache.ErrStale), s.Rows, "rows for those who accept stale data")
	fmt.Println(s.Err)
	// Output:
	// <nil> 2 rows, witness: 2 files in 1 directory
	// true 2 rows for those who accept stale data
	// open titles: stale: input share/doc/intro.txt changed since the last refresh
}

// Invalidate is for what no witness shows: no reader believes the cache until
// the next refresh, which finds that nothing has to be built.
func ExampleInstall_Invalidate() {
	in, remove := exampleTitles()
	defer remove()

	if err := in.Invalidate("titles"); err != nil {
		fmt.Println(err)
		return
	}
	_, err := syscache.Open(in.Root(), "titles", nil)
	fmt.Println(errors.Is(err, syscache.ErrStale))

	res, err := in.Refresh(context.Background(), "titles", nil)
	fmt.Println(res.Outcome, err)
	// Output:
	// true
	// recertified <nil>
}

// Verify reads every byte. What it finds corrupt a forced refresh replaces.
func ExampleInstall_Verify() {
	in, remove := exampleTitles()
	defer remove()

	ctx := context.Background()
	fmt.Println(in.Verify(ctx, "titles"))

	damage(in)
	err := in.Verify(ctx, "titles")
	fmt.Println(errors.Is(err, syscache.ErrCorrupt))

	_, err = in.Refresh(ctx, "titles", &refresh.Options{Force: true})
	fmt.Println(err, in.Verify(ctx, "titles"))
	// Output:
	// <nil>
	// true
	// <nil> <nil>
}

// exampleRoot makes an install of these files.
func exampleRoot(files map[string]string) (root string, remove func()) {
	root, err := os.MkdirTemp("", "syscache-example-")
	if err == nil {
		err = os.Chmod(root, 0o755)
	}
	for path, text := range files {
		path = filepath.Join(root, path)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	}
	if err != nil {
		panic(err)
	}
	return root, func() { os.RemoveAll(root) }
}

func exampleDocs() (root string, remove func()) {
	return exampleRoot(map[string]string{
		"share/doc/intro.txt": "Beginning\n...",
		"share/doc/more.txt":  "Deepening\n...",
	})
}

// exampleTitles is exampleDocs with the cache titles, refreshed.
func exampleTitles() (*refresh.Install, func()) {
	root, remove := exampleDocs()
	in, err := refresh.Load(root, &refresh.LoadOptions{Caches: []refresh.Cache{titles}})
	if err == nil {
		_, err = in.Refresh(context.Background(), "titles", nil)
	}
	if err != nil {
		panic(err)
	}
	return in, remove
}

func edit(root string) {
	if err := os.WriteFile(root+"/share/doc/intro.txt", []byte("Another beginning\n"), 0o644); err != nil {
		panic(err)
	}
}

// damage overwrites the end of the cache's table.
func damage(in *refresh.Install) {
	tables, _ := filepath.Glob(in.CacheDir() + "/titles/g/*/table")
	for _, path := range tables {
		text, err := os.ReadFile(path)
		if err == nil {
			text[len(text)-1] ^= 1
			err = os.WriteFile(path, text, 0o644)
		}
		if err != nil {
			panic(err)
		}
	}
}
