//go:build linux

package main

import (
	crand "crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

var changes = []comparison{
	{"`each = true`: refresh after 1 of 2,500 inputs changed, 20 ms an input", oneInput},
	{"hook on a root with 30 caches, one changed", oneCache},
}

// slowBuilder takes 20 ms an input, as a parser of something large does.
const slowBuilder = `import json, os, time
for entry in open(os.environ["SYSCACHE_INPUTS"]).read().split("\0")[:-1]:
    digest, path = entry.split("  ", 1)
    time.sleep(0.02)
    print(json.dumps({"key": path, "value": digest, "from": path}))
`

func oneInput(b *bench) (*trial, error) {
	if missing := lacks(python, "python3"); missing != "" {
		return &trial{missing: missing}, nil
	}
	root := b.path("each")
	if err := plant(root, b.inputs); err != nil {
		return nil, err
	}
	if err := configure(root, slowBuilder, `[cache.slow]
inputs  = ["lib/**"]
build   = ["`+python+`", "-I", "libexec/build"]
recipe  = ["libexec/build"]
each    = true
`); err != nil {
		return nil, err
	}
	refresh := func(args ...string) error {
		return command(b.program("syscache"), append([]string{"--root", root, "-q", "refresh"}, args...)...)
	}
	if err := refresh(); err != nil {
		return nil, err
	}
	edited := filepath.Join(root, "lib/site-packages/package000/module00000/some_file_0.py")
	ours := func() (float64, error) {
		if err := edit(edited); err != nil {
			return 0, err
		}
		return timed(func() error { return refresh() })()
	}
	return &trial{unit: seconds, ours: ours, peers: []peer{{
		name: "all of them built", target: 1. / 200, run: timed(func() error { return refresh("--force") }),
	}}}, nil
}

// configure writes a builder and a configuration.
func configure(root, builder, config string) error {
	for _, dir := range []string{"etc", "libexec"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	return errors.Join(
		os.WriteFile(filepath.Join(root, "libexec/build"), []byte(builder), 0o755),
		os.WriteFile(filepath.Join(root, "etc/syscache.toml"), []byte(config), 0o644))
}

func edit(file string) error { return os.WriteFile(file, []byte(crand.Text()), 0o644) }

// oneCache is of packages that each have a cache of what they installed, with a
// file of theirs for a witness.
func oneCache(b *bench) (*trial, error) {
	root := b.path("hook")
	var config strings.Builder
	for i := range b.caches {
		dir := fmt.Sprintf("package%02d", i)
		fmt.Fprintf(&config, "[cache.%s]\ninputs = [%q]\nwitness = [%q]\n", dir, dir+"/lib/**", dir+"/MANIFEST")
		fmt.Fprint(&config, "build = [\"/bin/sh\", \"libexec/build\"]\n")
		if err := errors.Join(plant(filepath.Join(root, dir), b.files/100), edit(filepath.Join(root, dir, "MANIFEST"))); err != nil {
			return nil, err
		}
	}
	if err := configure(root, `echo '{"key": "a", "value": "b"}'`+"\n", config.String()); err != nil {
		return nil, err
	}
	hook := func(args ...string) error {
		return told(exec.Command(b.program("syscache"), append([]string{"--root", root, "refresh", "--hook"}, args...)...))
	}
	if err := hook(); err != nil {
		return nil, err
	}
	changed := func(args ...string) sample {
		return func() (float64, error) {
			dir := filepath.Join(root, "package00")
			if err := errors.Join(edit(filepath.Join(dir, "lib/edited")), edit(filepath.Join(dir, "MANIFEST"))); err != nil {
				return 0, err
			}
			return timed(func() error { return hook(args...) })()
		}
	}
	idle := timed(func() error { return hook() })
	one := changed("package00")
	sum := func() (float64, error) {
		v, err := idle()
		w, err2 := one()
		return v + w, errors.Join(err, err2)
	}
	return &trial{unit: seconds, ours: changed(), peers: []peer{
		{name: "with none changed, and then that cache alone", target: 1, run: sum},
		{name: "with none changed", run: idle},
		{name: "that cache alone", run: one},
		{name: "find -printf '%p %s %T@ %i'", run: timed((&tree{root: root}).stats), missing: lacks("find", "findutils")},
	}}, nil
}
