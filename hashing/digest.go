package hashing

import (
	"encoding/hex"
	"fmt"
	"io"

	"github.com/zeebo/blake3"

	"github.com/syscache/syscache/syscache"
)

// A Digest is the BLAKE3 hash (256 bits) of an input's content, or of a value
// that is part of a recipe.
type Digest [32]byte

// A Key is the hash of a build manifest: a generation's name.
type Key = syscache.Key

// The contexts of BLAKE3's derive-key mode keep apart what could otherwise be
// the same bytes. File contents are hashed plainly, so that b3sum agrees.
const (
	contextKey   = "github.com/syscache/syscache 2026-11-21 build manifest v1"
	contextLink  = "github.com/syscache/syscache 2026-11-21 symbolic link v1"
	contextValue = "github.com/syscache/syscache 2026-11-21 recipe value v1"
)

// ParseDigest parses the 64 lower-case hexadecimal digits that String returns.
func ParseDigest(s string) (Digest, error) {
	k, err := syscache.ParseKey(s)
	if err != nil {
		return Digest{}, fmt.Errorf("parse digest %q: want 64 lower-case hexadecimal digits", s)
	}
	return Digest(k), nil
}

// String returns d as 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first 12 digits of String, for people to read.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// Sum returns the digest of all that r yields.
func Sum(r io.Reader) (Digest, error) {
	h := blake3.New()
	_, err := io.Copy(h, r)
	return finish(h), err
}

// Value returns the digest of a value in a recipe.
func Value(b []byte) Digest { return derive(contextValue, b) }

// KeyOf returns the key of an encoded manifest.
func KeyOf(manifest []byte) Key { return Key(derive(contextKey, manifest)) }

// link returns the digest of a symbolic link's target.
func link(target string) Digest { return derive(contextLink, []byte(target)) }

func derive(context string, b []byte) Digest {
	h := blake3.NewDeriveKey(context)
	h.Write(b)
	return finish(h)
}

func finish(h *blake3.Hasher) (d Digest) {
	h.Sum(d[:0])
	return d
}
