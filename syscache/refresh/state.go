package refresh

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
	"github.com/syscache/syscache/syscache"
)

// state is the refresher's memory between refreshes. Losing it costs nothing
// but time: superseded generations then stay for another while.
type state struct {
	// Retired says since when, in seconds since the epoch, each generation is
	// not the published one.
	Retired map[string]int64 `json:"retired,omitempty"`
	Failure *Failure         `json:"failure,omitempty"`
	// Program says that a program declared the cache, not the configuration,
	// which can then not tell that it is gone.
	Program bool `json:"program,omitempty"`
}

// A Failure is why the last refresh failed.
type Failure struct {
	Time    time.Time `json:"time"`
	Message string    `json:"message"`
	Stderr  string    `json:"stderr,omitempty"`
}

func (r *refresher) readState() state {
	b, err := readRegular(r.dir+"/"+format.State, nil)
	if err != nil {
		return state{}
	}
	s, _ := decodeState(b)
	return s
}

// decodeState returns the zero state of what is none.
func decodeState(b []byte) (s state, err error) {
	if err := json.Unmarshal(b, &s); err != nil {
		return state{}, err
	}
	// From before the epoch to now may be more than an integer holds.
	maps.DeleteFunc(s.Retired, func(_ string, since int64) bool { return since < 0 })
	return s, nil
}

// saveState writes s if it is not what is there. Failing to is no failure of
// the refresh. An image ships no memory of how it was made.
func (r *refresher) saveState(s state) {
	b, err := json.Marshal(s)
	if err != nil || r.image {
		return
	}
	if old, err := readRegular(r.dir+"/"+format.State, nil); err == nil && bytes.Equal(old, b) {
		return
	}
	r.replace(format.State, b)
}

func (r *refresher) recordFailure(err error) {
	f := &Failure{Time: time.Now().UTC().Truncate(time.Second), Message: err.Error()}
	var b *BuildError
	if errors.As(err, &b) {
		f.Stderr = b.Stderr
	}
	s := r.state
	s.Failure = f
	r.saveState(s)
}

// inventory returns the digests that the last refresh of this cache knew.
func (r *refresher) inventory() *hashing.Inventory {
	if r.known == nil {
		r.known = &hashing.Inventory{}
		if b, err := readRegular(r.dir+"/"+format.Inventory, nil); err == nil {
			if known, err := hashing.DecodeInventory(b); err == nil {
				r.known = known
				r.saved = b
			}
		}
	}
	return r.known
}

// saveInventory writes the digests that are known now, if they are not those
// that are saved, so that the next refresh, even after a failure of this one,
// need not read those files again. They are let go of then: another look at the
// inputs, which is seldom, reads them back.
func (r *refresher) saveInventory() {
	if r.image {
		return
	}
	if b := r.known.Encode(); bytes.Equal(b, r.saved) || r.replace(format.Inventory, b) == nil {
		r.known, r.saved = nil, nil
	}
}

// tidy is what follows a refresh that succeeded: g is the generation that is
// published. Where there is nothing to do it writes nothing.
func (r *refresher) tidy(g *generation) error {
	if err := r.linkLatest(g); err != nil {
		return err
	}
	// Also where nothing was published: whoever published what is there may
	// have been killed before it was durable. It has to be before what it
	// replaced is removed.
	if !r.durable {
		if err := r.disk.SyncDir(r.dir); err != nil {
			return err
		}
	}
	if err := r.dropStale(); err != nil {
		return err
	}
	retired, err := r.collect(g.meta.Key)
	if err != nil {
		return err
	}
	r.saveState(state{Retired: retired, Program: r.c.file == "" && !r.unconfigured})
	return nil
}

// collect removes the generations that were superseded long enough ago, and
// returns since when the others are. Readers may still have one open: what
// they hold stays until they close it.
func (r *refresher) collect(key syscache.Key) (map[string]int64, error) {
	keep := r.c.Keep
	switch {
	case r.image: // nobody reads it yet
		keep = 0
	case keep == 0:
		keep = DefaultKeep
	}
	retired, _, err := r.collectAfter(key, keep)
	return retired, err
}

// collectAfter is collect with what is kept for how long, and says what it
// removed.
func (r *refresher) collectAfter(key syscache.Key, keep time.Duration) (map[string]int64, Collected, error) {
	var done Collected
	entries, err := listDir(r.dir + "/" + format.Generations)
	if err != nil {
		return nil, done, ignoreNotExist(err)
	}
	retired := map[string]int64{}
	for _, e := range entries {
		name := e.Name()
		if _, err := syscache.ParseKey(name); err != nil || name == key.String() {
			continue
		}
		since, known := r.state.Retired[name]
		if !known || since > now() { // the clock was set back
			since = now()
		}
		if now()-since < int64(keep/time.Second) {
			retired[name] = since
			done.Kept++
			continue
		}
		size := r.sizeOf(name)
		switch err := r.discard(r.dir + "/" + format.Generation(name)); {
		case unix.InUse(err): // what is left goes with a later refresh
			retired[name] = since
			done.Kept++
		case err != nil:
			return nil, done, err
		default:
			done.Bytes += size
			done.Removed++
		}
	}
	return retired, done, nil
}

// discard removes a generation, or what a build left. It is renamed first:
// no reader may find half of a generation, nor a refresher that no lock
// stopped (I8) half of what it builds.
func (r *refresher) discard(path string) error {
	scratch := filepath.Dir(path) + "/" + randomName(format.ScratchPrefix)
	if err := r.disk.Rename(path, scratch); err != nil {
		return ignoreNotExist(err)
	}
	// Such a refresher may just have published it.
	if cur, err := r.readCurrent(); err == nil && cur != nil && cur.pointer != nil && filepath.Base(path) == syscache.Key(cur.pointer.Key).String() {
		return r.disk.Rename(scratch, path)
	}
	return removeAll(r.disk, scratch)
}

// lstatAndRemove removes path if it exists, and does not even try if not: a
// read-only file system would fail the attempt.
func lstatAndRemove(d disk, path string) error {
	if _, err := os.Lstat(path); err != nil {
		return err
	}
	return d.Remove(path)
}

func now() int64 { return time.Now().Unix() }
