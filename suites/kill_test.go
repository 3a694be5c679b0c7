//go:build linux

package suites

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/syscache/syscache/syscache"
)

// killSeed replays a run: SUITES_KILL_SEED=... as the failing run printed it.
const killSeed = "SUITES_KILL_SEED"

// Five hundred refreshes of a changed install, each killed at a random instant:
// readers then have the new data or a miss, and those who accept stale data
// the old or the new. The next refresh heals, and nothing lies about (I1, I6,
// I10).
func TestKilledAtRandomInstants(t *testing.T) {
	slow(t)
	killed(t, 500)
}

// The same, a few times.
func TestKilledNowAndThen(t *testing.T) { killed(t, 10) }

func killed(t *testing.T, times int) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(killSeed); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", killSeed, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r := newLines(t, admin, `keep = "1ms"`)
	r.write("lib/one", "0\n")
	r.refresh()
	usual := time.Hour
	for i := range 5 {
		r.write("lib/one", fmt.Sprintln("usual", i))
		o := run(t, as(admin, r.syscache("refresh", "--json")...))
		r.succeeded(o)
		usual = min(usual, o.took)
	}
	last := r.contents()["lib/one"]
	seen := map[string]int{}
	for i := range times {
		now := fmt.Sprint("edit ", i)
		r.write("lib/one", now+"\n")
		cmd := as(admin, r.syscache("refresh", "--json")...)
		refresh := start(t, cmd)
		time.Sleep(time.Duration(random.Int64N(int64(usual) * 3 / 2))) // not a wait: the instant
		syscall.Kill(cmd.Process.Pid, syscall.SIGKILL)
		if o := refresh.wait(); o.code == 0 {
			seen["finished before"]++
		}
		fresh, err := answer(r.dir, "lib/one")
		switch {
		case err == nil && fresh == quoted(now):
			seen["new"]++
		case errors.Is(err, syscache.ErrStale):
			seen["stale"]++
		default:
			t.Fatalf("kill %d: %q, %v; want %q or stale", i, fresh, err, now)
		}
		stale, err := staleAnswer(r.dir)
		if err != nil || stale != quoted(now) && stale != quoted(last) {
			t.Fatalf("kill %d: with stale data accepted: %q, %v; want %q or %q", i, stale, err, last, now)
		}
		if i%25 == 0 { // the other reader, and another user
			if o := r.read(bob, pythonReader, "get", "c", "lib/one"); o.code != 4 && o.stdout != quoted(now)+"\n" {
				t.Fatalf("kill %d: python: %v", i, o)
			}
		}
		r.refresh()
		if fresh, err := answer(r.dir, "lib/one"); err != nil || fresh != quoted(now) {
			t.Fatalf("kill %d: after a refresh: %q, %v", i, fresh, err)
		}
		last = now
	}
	t.Logf("a refresh takes %v; after the kills: %v", usual.Round(time.Millisecond), seen)
	if times > 100 && (seen["new"] == 0 || seen["stale"] < times/4) {
		t.Error("the instants were not spread over the whole of a refresh")
	}
}

func quoted(s string) string { return `"` + s + `"` }

func staleAnswer(dir string) (string, error) {
	reader, err := syscache.Open(dir, "c", &syscache.ReadOptions{AllowStale: true})
	if err != nil {
		return "", err
	}
	defer reader.Close()
	value, err := reader.Get([]byte("lib/one"))
	return string(value), err
}
