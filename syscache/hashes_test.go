package syscache_test

import (
	"context"
	"math/bits"
	"os"
	"testing"

	"github.com/syscache/syscache/syscache/refresh"
)

// TestChosenHashes: CRC-32 is no secret, and who names the rows can give
// millions of them one hash, or hashes side by side that want the same few
// places. They are built like any others, and whatever is looked up, there or
// not, takes some reads for each doubling of the rows, in both languages.
func TestChosenHashes(t *testing.T) {
	n := 20_000
	if os.Getenv("SYSCACHE_SUITES") != "" {
		n = 2_000_000
	}
	for name, hash := range map[string]func(i uint32) uint32{
		"one hash":         func(uint32) uint32 { return 0xC0111DED },
		"hashes in a row":  func(i uint32) uint32 { return 0x80000000 + i },
		"the greatest one": func(uint32) uint32 { return 1<<32 - 1 },
	} {
		t.Run(name, func(t *testing.T) {
			key := func(i int) []byte { return []byte(keyWith(uint32(i), hash(uint32(i)))) }
			root := newRoot(t)
			publish(t, root, refresh.Cache{
				Name: "c", Inputs: []string{"share/**"}, Witness: []string{}, BuildVersion: name,
				Build: func(_ context.Context, _ refresh.Inputs, emit func(k, v []byte) error) error {
					for i := range n {
						if i == n/2 {
							continue // absent in their midst
						}
						if err := emit(key(i), key(i)[:4]); err != nil {
							return err
						}
					}
					return nil
				},
			})
			// The first 64 slots are walked, each with its row; then each halving
			// reads a page, its checksum, a slot and a row.
			most := float64(2*64 + 6*bits.Len(uint(n)) + 20)
			r := open(t, root).Unmapped()
			reads := func(key []byte, want string) float64 {
				return testing.AllocsPerRun(1, func() { // a read is an allocation
					v, err := r.Get(key)
					if want == "" && kindOf(err) != "not found" || want != "" && (err != nil || string(v) != want) {
						t.Fatalf("get %x: %x, %v, want %x", key, v, err, want)
					}
				})
			}
			var q question
			worst := 0.0
			step := max(1, n/500)
			for i := 1; i < n; i += step {
				if i == n/2 {
					continue
				}
				worst = max(worst, reads(key(i), string(key(i)[:4])))
				if i%(20*step) == 1 {
					q.Get = append(q.Get, key(i))
				}
			}
			there := len(q.Get)
			absent := [][]byte{{}, key(n / 2), key(n - 1)[:4]}
			for _, i := range []uint32{uint32(n), uint32(n) + 1, 1 << 31, 1<<32 - 1} {
				absent = append(absent, []byte(keyWith(i, hash(i))), []byte(keyWith(i, hash(i%uint32(n)))))
			}
			for _, k := range absent {
				worst = max(worst, reads(k, ""))
			}
			if worst > most {
				t.Errorf("%v reads for a look-up among %d rows, want at most %v", worst, n, most)
			}
			q.Root, q.Cache, q.Get = root, "c", append(q.Get, absent...)
			a := newPython(t).ask(q)
			for i, got := range a.Get {
				if want := map[bool]string{true: value(q.Get[i][:min(4, len(q.Get[i]))]), false: "not found"}[i < there]; got != want {
					t.Errorf("in Python, get %x: %s, want %s", q.Get[i], got, want)
				}
			}
			if each := a.Reads / len(q.Get); a.Open != "ok" || float64(each) > most {
				t.Errorf("in Python %s, and %d reads for a look-up among %d rows", a.Open, each, n)
			}
			t.Logf("%d rows: at most %v reads for a look-up; in Python %d on average", n, worst, a.Reads/len(q.Get))
		})
	}
}
