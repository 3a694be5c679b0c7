package syscache

import (
	"encoding/hex"
	"fmt"
)

// Key names a generation: the BLAKE3 hash (256 bits) of the build manifest it
// was built from.
type Key [32]byte

// ParseKey parses the 64 lower-case hexadecimal digits that String returns.
func ParseKey(s string) (Key, error) {
	var k Key
	if len(s) == 2*len(k) {
		if _, err := hex.Decode(k[:], []byte(s)); err == nil && k.String() == s {
			return k, nil
		}
	}
	return Key{}, fmt.Errorf("parse key %q: want %d lower-case hexadecimal digits", s, 2*len(k))
}

// String returns k as 64 lower-case hexadecimal digits.
func (k Key) String() string {
	var digits [2 * len(k)]byte
	hex.Encode(digits[:], k[:])
	return string(digits[:])
}

// Short returns the first 12 digits of String, for people to read.
func (k Key) Short() string { return hex.EncodeToString(k[:6]) }
