package hashing

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"runtime"
	"testing"

	"github.com/syscache/syscache/internal/format"
)

func file(path string, n int64) File {
	return File{
		Input: Input{Path: path, Type: RegularFile, Mode: 0o644, Size: uint64(n), Digest: Value([]byte(path))},
		ID:    format.Identity{Size: n, Mtime: n + 1, Ctime: n + 2, Inode: uint64(n + 3)},
	}
}

func known() *Inventory {
	link := file("link", 7)
	link.Type = Symlink
	racy := file("racy", 8)
	racy.ID = format.Identity{}
	a, b := &Tree{}, &Tree{}
	a.Files = append(a.Files, file("a", 1), file("c\xff\n", 2), link, racy)
	b.Files = append(b.Files, file("a", 9), file("b", 3), file("z/z", 4))
	return NewInventory(a, b)
}

func TestInventory(t *testing.T) {
	decoded, err := DecodeInventory(known().Encode())
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]*Inventory{"new": known(), "decoded": decoded} {
		if v.Len() != 4 {
			t.Errorf("%s: %d entries, want 4", name, v.Len())
		}
		for path, n := range map[string]int64{"a": 1, "b": 3, "c\xff\n": 2, "z/z": 4} {
			f := file(path, n)
			if d, ok := v.Digest(path, f.ID); !ok || d != f.Digest {
				t.Errorf("%s: Digest(%q) = %v, %v", name, path, d, ok)
			}
			for _, id := range []format.Identity{
				{},
				{Size: f.ID.Size + 1, Mtime: f.ID.Mtime, Ctime: f.ID.Ctime, Inode: f.ID.Inode},
				{Size: f.ID.Size, Mtime: f.ID.Mtime + 1, Ctime: f.ID.Ctime, Inode: f.ID.Inode},
				{Size: f.ID.Size, Mtime: f.ID.Mtime, Ctime: f.ID.Ctime + 1, Inode: f.ID.Inode},
				{Size: f.ID.Size, Mtime: f.ID.Mtime, Ctime: f.ID.Ctime, Inode: f.ID.Inode + 1},
			} {
				if _, ok := v.Digest(path, id); ok {
					t.Errorf("%s: Digest(%q) of the wrong identity %v", name, path, id)
				}
			}
		}
		for _, path := range []string{"link", "racy", "", "zz", "c"} {
			if _, ok := v.Digest(path, file(path, 7).ID); ok {
				t.Errorf("%s: knows %q", name, path)
			}
		}
	}
}

func TestInventoryEmpty(t *testing.T) {
	var none *Inventory
	for _, v := range []*Inventory{none, {}, NewInventory(), NewInventory(&Tree{})} {
		if _, ok := v.Digest("a", file("a", 1).ID); ok || v.Len() != 0 {
			t.Error("an empty inventory knows something")
		}
		if v, err := DecodeInventory(v.Encode()); err != nil || v.Len() != 0 {
			t.Errorf("DecodeInventory = %v, %v", v, err)
		}
	}
}

// reseal puts a right checksum at the end.
func reseal(b []byte) []byte {
	b = b[:len(b)-4]
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func badInventories() map[string][]byte {
	good := known().Encode()
	with := func(at int, c byte) []byte {
		b := bytes.Clone(good)
		b[at] = c
		return reseal(b)
	}
	bad := map[string][]byte{
		"magic":       with(0, 's'),
		"version":     with(8, 2),
		"fewer":       with(12, good[12]-1),
		"more":        with(12, good[12]+1),
		"many":        with(15, 0xff),
		"path":        with(18, '/'),
		"order":       with(18, 'y'),
		"length":      with(17, 0xff),
		"longer":      reseal(append(bytes.Clone(good), 0, 0, 0, 0, 0)),
		"checksum":    append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1),
		"no identity": reseal(append(append(bytes.Clone(good[:19]), make([]byte, 32)...), good[51:]...)),
	}
	for i := range good {
		bad[fmt.Sprintf("cut at %d", i)] = good[:i]
		if i > 4 {
			bad[fmt.Sprintf("cut at %d and sealed", i)] = reseal(bytes.Clone(good[:i]))
		}
	}
	return bad
}

func TestDecodeInventoryRejects(t *testing.T) {
	for name, b := range badInventories() {
		if _, err := DecodeInventory(b); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
}

func manyFiles(n int) *Tree {
	t := &Tree{Files: make([]File, n)}
	for i, in := range manyInputs(n) {
		t.Files[i] = File{in, format.Identity{Size: int64(i), Mtime: 1, Ctime: 1, Inode: 1}}
	}
	return t
}

// TestInventoryMemory: 100,000 files may cost some 15 MB.
func TestInventoryMemory(t *testing.T) {
	tree := manyFiles(100_000)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	v := NewInventory(tree)
	n := heap() - before
	runtime.KeepAlive(tree)
	runtime.KeepAlive(v)
	t.Logf("%d bytes for %d files", n, v.Len())
	if n > 15<<20 {
		t.Errorf("%d bytes for %d files", n, v.Len())
	}
}

func BenchmarkInventoryDigest(b *testing.B) {
	tree := manyFiles(100_000)
	v := NewInventory(tree)
	i := 0
	for b.Loop() {
		f := &tree.Files[i]
		if _, ok := v.Digest(f.Path, f.ID); !ok {
			b.Fatal(f.Path)
		}
		i = (i + 1) % len(tree.Files)
	}
}
