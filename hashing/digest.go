package hashing

import (
	"encoding/hex"
	"fmt"
	"io"

	"github.com/zeebo/blake3"

	"github.com/syscache/syscache/syscache"
)

// Key names a generation: the hash of the build manifest.
type Key = syscache.Key

// The derive-key contexts keep the domains apart: no file's contents can be
// made to have the digest of a link, a recipe value or a manifest.
const (
	manifestContext = "github.com/syscache/syscache 2026-11-21 build manifest v1"
	targetContext   = "github.com/syscache/syscache 2026-11-21 symlink target v1"
	valueContext    = "github.com/syscache/syscache 2026-11-21 recipe value v1"
)

// A Digest is a BLAKE3 hash of 256 bits: of the contents of a file (what
// b3sum prints), of the target of a symbolic link, or of a recipe value.
type Digest [32]byte

// ParseDigest parses the 64 lower-case hexadecimal digits that String returns.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) == 2*len(d) {
		if _, err := hex.Decode(d[:], []byte(s)); err == nil && d.String() == s {
			return d, nil
		}
	}
	return Digest{}, fmt.Errorf("parse digest %q: want %d lower-case hexadecimal digits", s, 2*len(d))
}

// String returns d as 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first 12 digits of String, for people to read.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// Sum returns the digest of all that r holds, as of a file's contents.
func Sum(r io.Reader) (Digest, error) {
	h := blake3.New()
	if _, err := io.CopyBuffer(h, r, make([]byte, bufferSize)); err != nil {
		return Digest{}, err
	}
	var d Digest
	h.Sum(d[:0])
	return d, nil
}

// Value returns the digest of a recipe value that is no file: a command line,
// an environment value.
func Value(b []byte) Digest { return derive(valueContext, b) }

// Target returns the digest of a symbolic link's target.
func Target(target string) Digest { return derive(targetContext, []byte(target)) }

// KeyOf returns the key of an encoded manifest.
func KeyOf(manifest []byte) Key { return Key(derive(manifestContext, manifest)) }

func derive(context string, b []byte) (d Digest) {
	blake3.DeriveKey(context, b, d[:])
	return d
}
