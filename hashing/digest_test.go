package hashing

import (
	"bytes"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
)

// Of the empty string and of "abc", as b3sum prints them.
const (
	emptySum = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
	abcSum   = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
)

func TestSum(t *testing.T) {
	for content, want := range map[string]string{"": emptySum, "abc": abcSum} {
		d, err := Sum(strings.NewReader(content))
		if err != nil || d.String() != want {
			t.Errorf("Sum(%q) = %v, %v; want %s", content, d, err, want)
		}
	}
	long := bytes.Repeat([]byte("0123456789abcdef"), 3*bufferSize/16+1)
	if d, err := Sum(bytes.NewReader(long)); err != nil || d != blake3.Sum256(long) {
		t.Errorf("Sum of %d bytes = %v, %v", len(long), d, err)
	}
}

func TestDomainsAreApart(t *testing.T) {
	file, err := Sum(strings.NewReader("abc"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Digest]string{}
	for name, d := range map[string]Digest{
		"file": file, "target": Target("abc"), "value": Value([]byte("abc")), "key": Digest(KeyOf([]byte("abc"))),
	} {
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s of the same bytes have the same digest", name, other)
		}
		seen[d] = name
	}
}

func TestParseDigest(t *testing.T) {
	d, err := ParseDigest(abcSum)
	if err != nil || d.String() != abcSum || d.Short() != abcSum[:12] {
		t.Errorf("ParseDigest = %v %s, %v", d, d.Short(), err)
	}
	for _, bad := range []string{"", abcSum[1:], abcSum + "0", strings.ToUpper(abcSum), "g" + abcSum[1:], " " + abcSum[1:]} {
		if d, err := ParseDigest(bad); err == nil {
			t.Errorf("ParseDigest(%q) = %v", bad, d)
		}
	}
}
