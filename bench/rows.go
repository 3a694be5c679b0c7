//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/syscache/syscache/syscache/refresh"
)

// Rows are those of an index of modules: a key is a path of 30 bytes, a value 60
// bytes that begin with the key to look up next. All rows are one cycle, in
// random order.
const (
	keySize   = 30
	valueSize = 60
)

const families = 1000

func rowKey(i int) string { return fmt.Sprintf("sage/family_%03d/module_%07d", i%families, i) }

// cycle returns the successor of each of n rows, in one cycle (Sattolo's
// shuffle).
func cycle(n int) []int {
	next := make([]int, n)
	for i := range next {
		next[i] = i
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := n - 1; i > 0; i-- {
		k := rnd.IntN(i)
		next[i], next[k] = next[k], next[i]
	}
	return next
}

const rowSize = keySize + valueSize

// records are rows one after the other, sorted.
type records []byte

func makeRecords(n int) records {
	next := cycle(n)
	r := make(records, 0, n*rowSize)
	for family := range families {
		for i := family; i < n; i += families {
			r = fmt.Appendf(r, "%s%-*s", rowKey(i), valueSize, rowKey(next[i])+":class:line:doc")
		}
	}
	return r
}

func (r records) all(yield func(key, value []byte) bool) {
	for ; len(r) > 0; r = r[rowSize:] {
		if !yield(r[:keySize:keySize], r[keySize:rowSize:rowSize]) {
			return
		}
	}
}

// A store is an install with one cache of n rows and one file for a witness.
type store struct {
	root, cacheDir, cache string
	install               *refresh.Install
}

const witnessFile = "share/MANIFEST"

// store makes a store. Its files are inputs of other caches if there are any.
func (b *bench) store(name string, n int) (*store, error) {
	rows := makeRecords(n)
	s := &store{root: b.path(name), cache: "modules"}
	s.cacheDir = filepath.Join(s.root, "var/cache/syscache")
	file := filepath.Join(s.root, witnessFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, []byte("1\n"), 0o644); err != nil {
		return nil, err
	}
	var err error
	s.install, err = refresh.Load(s.root, &refresh.LoadOptions{Caches: []refresh.Cache{{
		Name: s.cache, Inputs: []string{witnessFile}, Witness: []string{witnessFile},
		Build: building(rows.all), BuildVersion: "1",
	}}})
	if err != nil {
		return nil, err
	}
	_, err = s.install.Refresh(context.Background(), s.cache, nil)
	return s, err
}

// building is a builder that emits rows.
func building(rows iter.Seq2[[]byte, []byte]) refresh.Build {
	return func(_ context.Context, _ refresh.Inputs, emit func(key, value []byte) error) error {
		for key, value := range rows {
			if err := emit(key, value); err != nil {
				return err
			}
		}
		return nil
	}
}

// generations publishes n generations more.
func (s *store) generations(n int) error {
	for i := range n {
		if err := os.WriteFile(filepath.Join(s.root, witnessFile), fmt.Appendf(nil, "%d\n", i+2), 0o644); err != nil {
			return err
		}
		if _, err := s.install.Refresh(context.Background(), s.cache, nil); err != nil {
			return err
		}
	}
	return nil
}

// rowStore returns the store of all rows, made once.
func (b *bench) rowStore() (*store, error) {
	if b.rowsMade == nil {
		s, err := b.store("rows", b.rows)
		if err != nil {
			return nil, err
		}
		b.rowsMade = s
	}
	return b.rowsMade, nil
}

// made returns a file of the rows in another format, made once.
func (b *bench) made(name string, make func(path string) error) (string, error) {
	path := b.path(name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := make(path); err != nil {
		return "", err
	}
	return path, nil
}

var bucket = []byte("rows")

// boltFile returns the rows as bbolt's file, filled as well as it can be: in the
// order of the keys, in one transaction, without a sync.
func (b *bench) boltFile() (string, error) {
	return b.made("rows.bolt", func(path string) error { return writeBolt(path, makeRecords(b.rows).all) })
}

func writeBolt(path string, rows iter.Seq2[[]byte, []byte]) error {
	db, err := bolt.Open(path, 0o644, &bolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true, Timeout: time.Second})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Update(func(tx *bolt.Tx) error {
		bk, err := tx.CreateBucket(bucket)
		if err != nil {
			return err
		}
		bk.FillPercent = 1
		for key, value := range rows {
			if err := bk.Put(key, value); err != nil {
				return err
			}
		}
		return nil
	})
}

// lines returns the rows as text, for those who are not written in Go: key, tab,
// value.
func (b *bench) lines() (string, error) {
	return b.made("rows.txt", func(path string) error {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		w := bufio.NewWriter(f)
		for key, value := range makeRecords(b.rows).all {
			fmt.Fprintf(w, "%s\t%s\n", key, value)
		}
		return w.Flush()
	})
}
