//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/syscache"
)

var reading = []comparison{
	{"Go: Open, one Get, Close", openGetClose},
	{"the same, system calls: 100 rows", systemCalls(false, false)},
	{"the same, system calls: 100 rows, 50 generations", systemCalls(false, true)},
	{"the same, system calls: all rows", systemCalls(true, false)},
	{"Go: Get, each depending on the last", dependentGets},
	{"Go: allocations in Get", allocations},
}

func openGetClose(b *bench) (*trial, error) {
	s, err := b.rowStore()
	if err != nil {
		return nil, err
	}
	file, err := b.boltFile()
	if err != nil {
		return nil, err
	}
	key := []byte(rowKey(b.rows / 2))
	n := max(b.gets/5000, 1)
	return &trial{
		unit: seconds,
		ours: each(n, func() error { return repeat(n, func() error { return s.get(key) }) }),
		peers: []peer{{name: "bbolt, opened read-only", target: 0.2, run: each(n, func() error {
			return repeat(n, func() error { return boltGet(file, key) })
		})}},
	}, nil
}

func repeat(n int, f func() error) error {
	for range n {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) open() (*syscache.Reader, error) {
	return syscache.Open(s.root, s.cache, &syscache.ReadOptions{CacheDirs: []string{s.cacheDir}})
}

// reader returns an open reader of the rows, which is closed with the comparison.
func (b *bench) reader() (*syscache.Reader, error) {
	s, err := b.rowStore()
	if err != nil {
		return nil, err
	}
	r, err := s.open()
	if err == nil {
		b.cleanup(r.Close)
	}
	return r, err
}

func (s *store) get(key []byte) error {
	r, err := s.open()
	if err != nil {
		return err
	}
	_, err = r.Get(key)
	return errors.Join(err, r.Close())
}

func boltGet(file string, key []byte) error {
	db, err := bolt.Open(file, 0o644, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	err = db.View(func(tx *bolt.Tx) error {
		if tx.Bucket(bucket).Get(key) == nil {
			return errors.New("bbolt has no such row")
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// systemCalls counts what a program calls that reads 11 times, less what one
// calls that reads once: of 100 rows or all, and among one generation or many.
func systemCalls(all, many bool) func(b *bench) (*trial, error) {
	return func(b *bench) (*trial, error) {
		if exec.Command("strace", "-qq", "-o", os.DevNull, "true").Run() != nil {
			return &trial{missing: "strace that may trace"}, nil
		}
		s, err := b.rowStore()
		if !all {
			s, err = b.store(fmt.Sprintf("hundred-%t", many), 100)
		}
		if err == nil && many {
			err = s.generations(b.generations - 1)
		}
		if err != nil {
			return nil, err
		}
		const times = 10
		return &trial{unit: count, limit: new(12.0), ours: func() (float64, error) {
			few, err := b.traced(s, 1)
			if err != nil {
				return 0, err
			}
			many, err := b.traced(s, 1+times)
			return float64(many-few) / times, err
		}}, nil
	}
}

// traced counts the system calls of a reader that reads n times, but not those
// with which Go's runtime arranges its threads.
func (b *bench) traced(s *store, n int) (int, error) {
	log := b.path("strace")
	c := exec.Command("strace", "-f", "-qq", "-o", log, b.program("reader"),
		"get", s.root, s.cacheDir, s.cache, rowKey(50), strconv.Itoa(n))
	c.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off")
	if err := told(c); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(log)
	calls := 0
	for line := range strings.Lines(string(text)) {
		_, call, _ := strings.Cut(line, " ")
		if name, _, found := strings.Cut(strings.TrimLeft(call, " "), "("); found && !strings.HasPrefix(name, "<") && !ofRuntime[name] {
			calls++
		}
	}
	return calls, err
}

// ofRuntime are calls that depend on when the scheduler or the heap needs
// something, not on what the program asks for.
var ofRuntime = map[string]bool{
	"futex": true, "nanosleep": true, "sched_yield": true, "epoll_pwait": true, "getpid": true, "tgkill": true,
	"rt_sigreturn": true, "clone": true, "clone3": true, "gettid": true, "sigaltstack": true, "rt_sigprocmask": true,
	"mmap": true, "madvise": true, "prctl": true,
}

func dependentGets(b *bench) (*trial, error) {
	r, err := b.reader()
	if err != nil {
		return nil, err
	}
	loads, err := b.loads()
	if err != nil {
		return nil, err
	}
	inMap := b.inMap()
	inBolt, err := b.inBolt()
	if err != nil {
		return nil, err
	}
	return &trial{unit: seconds, ours: b.gettingEach(r.Get), peers: []peer{
		{name: "two dependent loads", target: 1.15, run: loads},
		{name: "Go map", target: 0.75, run: inMap},
		{name: "bbolt", target: 0.30, run: inBolt},
	}}, nil
}

// gettingEach is a sample of look-ups of which each needs the value of the last.
func (b *bench) gettingEach(get func([]byte) ([]byte, error)) sample {
	key := []byte(rowKey(0))
	return quiet(each(b.gets, func() error {
		for range b.gets {
			value, err := get(key)
			if err != nil {
				return err
			}
			key = value[:keySize]
		}
		return nil
	}))
}

// quiet collects garbage before a sample, not in it.
func quiet(s sample) sample {
	return func() (float64, error) {
		runtime.GC()
		return s()
	}
}

// loads is a sample of the floor: two loads, at random places of a mapped file,
// of which each needs what the last one read. Less cannot find a row: one in the
// index, one in the rows.
func (b *bench) loads() (sample, error) {
	const line = 64
	f, err := os.Create(b.path("loads"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(int64(b.mapping)); err != nil {
		return nil, err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, b.mapping, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	b.cleanup(func() error { return errors.Join(unix.Munmap(m), os.Remove(f.Name())) })
	for i, next := range cycle(b.mapping / line) {
		binary.LittleEndian.PutUint64(m[i*line:], uint64(next*line))
	}
	at := uint64(0)
	return quiet(each(b.gets, func() error {
		for range 2 * b.gets {
			at = binary.LittleEndian.Uint64(m[at:])
		}
		return nil
	})), nil
}

// inMap is a sample of look-ups in a Go map of strings.
func (b *bench) inMap() sample {
	m := make(map[string]string, b.rows)
	for key, value := range makeRecords(b.rows).all {
		m[string(key)] = string(value)
	}
	key := rowKey(0)
	return quiet(each(b.gets, func() error {
		for range b.gets {
			value, found := m[key]
			if !found {
				return errors.New("the map has no such row")
			}
			key = value[:keySize]
		}
		return nil
	}))
}

// inBolt is a sample of look-ups in one transaction.
func (b *bench) inBolt() (sample, error) {
	file, err := b.boltFile()
	if err != nil {
		return nil, err
	}
	db, err := bolt.Open(file, 0o644, &bolt.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	b.cleanup(db.Close)
	tx, err := db.Begin(false)
	if err != nil {
		return nil, err
	}
	b.cleanup(tx.Rollback)
	rows := tx.Bucket(bucket)
	return b.gettingEach(func(key []byte) ([]byte, error) { return rows.Get(key), nil }), nil
}

func allocations(b *bench) (*trial, error) {
	r, err := b.reader()
	if err != nil {
		return nil, err
	}
	key := []byte(rowKey(b.rows / 3))
	if err := repeat(100, func() error { _, err := r.Get(key); return err }); err != nil { // until it is mapped
		return nil, err
	}
	return &trial{unit: count, limit: new(0.0), ours: func() (float64, error) {
		return testing.AllocsPerRun(1000, func() { _, err = r.Get(key) }), err
	}}, nil
}
