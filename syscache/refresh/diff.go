package refresh

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/syscache"
)

// Diff scans the inputs of a cache, as a refresh does, and returns what is
// another than when the published generation was built: nothing exactly if a
// refresh would not build. It changes nothing, and asks for no more rights than
// reading the inputs takes.
func (in *Install) Diff(ctx context.Context, cache string) ([]hashing.Change, error) {
	c, err := in.cache(cache)
	if err == nil {
		err = in.checkRoot()
	}
	if err != nil {
		return nil, err
	}
	r, err := syscache.Open(in.root, cache, in.readOptions(true))
	if err != nil {
		var e *syscache.Error
		if errors.As(err, &e) {
			e.Op = "diff"
		}
		return nil, err
	}
	key := r.Generation()
	r.Close()
	old, err := in.manifest(cache, key)
	if err != nil {
		return nil, &syscache.Error{
			Op: "diff", Root: in.root, Cache: cache, Err: syscache.ErrCorrupt, Detail: err.Error(),
			Hint: "who may write the install can run: syscache --root " + format.ShellQuote(in.root) + " refresh --force " + cache,
		}
	}
	ref := &refresher{Install: in, c: c, dir: in.cacheDir + "/" + cache, told: map[string]bool{}}
	s, err := ref.observe(ctx)
	if err != nil {
		return nil, err
	}
	return hashing.Diff(old, s.manifest), nil
}

// manifest returns the manifest of a generation, if it is as it was written.
func (in *Install) manifest(cache string, key syscache.Key) (*hashing.Manifest, error) {
	dir, err := in.generationDir(cache, key)
	if err != nil {
		return nil, err
	}
	g, err := in.owner.openGeneration(dir, key)
	if err != nil {
		return nil, err
	}
	b, err := in.owner.readPublished(dir + "/" + format.Manifest)
	if err != nil {
		return nil, err
	}
	m, err := hashing.DecodeManifest(b)
	if err == nil && (sha256.Sum256(b) != g.meta.Manifest || m.Key() != key) {
		err = errors.New("it does not have the key")
	}
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", dir, format.Manifest, err)
	}
	return m, nil
}
