package refresh

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache"
)

// TestOpenReader: a process that has a generation open neither stops the next
// from being published nor sees anything of it.
func TestOpenReader(t *testing.T) {
	root := os.Getenv("SYSCACHE_TEST_ROOT")
	if root != "" {
		r, err := syscache.Open(root, "c", nil)
		for in := bufio.NewScanner(os.Stdin); err == nil; {
			var v []byte
			if v, err = r.Get([]byte("k")); err == nil {
				fmt.Printf("%s\n", v)
			}
			if !in.Scan() {
				break
			}
		}
		os.Exit(0)
	}
	root = newRoot(t)
	v := "old"
	c := faultyCache(false, &v)
	c.Keep = 1 // a second; the clock goes on
	refreshed(t, load(t, root, c))
	cmd := exec.Command(os.Args[0], "-test.run=^TestOpenReader$")
	cmd.Env = append(os.Environ(), "SYSCACHE_TEST_ROOT="+root)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewScanner(stdout)
	reads := func(want string) {
		t.Helper()
		if !out.Scan() || out.Text() != want {
			t.Errorf("the reader has %q, want %q", out.Text(), want)
		}
	}
	reads("old")
	for i := range 3 { // old is collected on the way, or kept until it is closed
		v = fmt.Sprintf("new %d", i)
		writeFile(t, root+"/share/MANIFEST", v, 0o644)
		refreshed(t, load(t, root, c))
		if got := get(t, load(t, root, c), "k"); got != v {
			t.Errorf("a new reader has %q, want %q", got, v)
		}
		fmt.Fprintln(in)
		reads("old")
	}
	in.Close()
	cmd.Wait()
	refreshed(t, load(t, root, c))
	noLitter(t, load(t, root, c))
}

// TestCurrentIsHeld: a program that shares the pointer with nobody keeps it from
// being replaced. The old stays, and of the new nothing.
func TestCurrentIsHeld(t *testing.T) {
	root := newRoot(t)
	v := "old"
	in := load(t, root, faultyCache(false, &v))
	refreshed(t, in)
	current := in.cacheDir + "/c/" + format.Current
	before, err := os.ReadFile(current)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(current)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	writeFile(t, root+"/share/MANIFEST", "version 1\n", 0o644) // the same bytes: recertified
	if res, err := in.Refresh(context.Background(), "c", nil); err == nil {
		t.Errorf("published: %+v", res)
	}
	if after, err := os.ReadFile(current); err != nil || string(after) != string(before) {
		t.Errorf("the pointer is another, %v", err)
	}
	noLitter(t, in)
	f.Close()
	refreshed(t, in)
	if got := get(t, in, "k"); got != "old" {
		t.Errorf("then %q", got)
	}
}
