package refresh

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix/unixtest"
	"github.com/syscache/syscache/internal/witness"
)

var update = flag.Bool("update", false, "write testdata/format anew")

const goldenDir = "../../testdata/format"

func TestMain(m *testing.M) {
	unixtest.Umask(0o022) // what tests write, not what is tested: see TestModes
	os.Exit(m.Run())
}

// A vector is one case of testdata/format: a root, and what a reader must
// find there.
type vector struct {
	Case  string            `json:"case"`
	Cache string            `json:"cache"`
	Kind  string            `json:"kind"`
	Get   [][2]any          `json:"get"` // key, and value or nil
	Files map[string][]byte `json:"files,omitempty"`
	Error *string           `json:"error"` // of open, or else of every get

	make    func(*vectorRoot)
	origins bool // beside the table
}

// TestGolden writes every case and compares it with what is checked in: the
// bytes on disk do not change unless somebody means them to.
func TestGolden(t *testing.T) {
	dir := t.TempDir()
	list := vectors()
	for i := range list {
		v := &list[i]
		v.Kind = cmp.Or(v.Kind, "table")
		v.Get = append([][2]any{}, v.Get...)
		root := &vectorRoot{t: t, vector: v, dir: filepath.Join(dir, v.Case)}
		v.make(root)
	}
	text, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/cases.json", string(text)+"\n", 0o644)
	if *update {
		entries, _ := os.ReadDir(goldenDir)
		for _, e := range entries {
			if e.IsDir() {
				os.RemoveAll(goldenDir + "/" + e.Name())
			}
		}
		os.Remove(goldenDir + "/cases.json") // what may not change TestFrozen knows
		if err := os.CopyFS(goldenDir, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	old, now := listing(t, goldenDir), listing(t, dir)
	var differ []string
	for _, path := range slices.Sorted(maps.Keys(now)) {
		if old[path] != now[path] {
			differ = append(differ, path)
		}
		delete(old, path)
	}
	if differ = slices.AppendSeq(differ, maps.Keys(old)); len(differ) > 0 {
		t.Errorf("%d files of testdata/format are not what is written now: %q...\nif they should be: go test ./syscache/refresh -run TestGolden -update",
			len(differ), differ[:min(3, len(differ))])
	}
}

// TestFrozen: format version 1 is for ever. A case may be added; of one that is
// there no byte changes, nor what a reader is to find in it: that would be
// version 2. -update adds to the list what is new, and changes nothing.
func TestFrozen(t *testing.T) {
	const file = goldenDir + "/frozen.json"
	frozen := map[string]string{}
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &frozen)
	}
	if err != nil && !*update {
		t.Fatal(err)
	}
	now := listing(t, goldenDir)
	delete(now, "cases.json")
	var cases []json.RawMessage
	text, err = os.ReadFile(goldenDir + "/cases.json")
	if err != nil || json.Unmarshal(text, &cases) != nil {
		t.Fatalf("cases.json: %v", err)
	}
	for _, c := range cases {
		var v struct{ Case string }
		var compact bytes.Buffer
		if err := cmp.Or(json.Unmarshal(c, &v), json.Compact(&compact, c)); err != nil {
			t.Fatal(err)
		}
		now["case "+v.Case] = fmt.Sprintf("SHA-256 %x", sha256.Sum256(compact.Bytes()))
	}
	for _, path := range slices.Sorted(maps.Keys(now)) {
		switch want, there := frozen[path]; {
		case !there && *update:
			frozen[path] = now[path]
		case !there:
			t.Errorf("%s is new: go test ./syscache/refresh -run TestFrozen -update", path)
		case want != now[path]:
			t.Errorf("%s changed, and format version 1 is frozen: %s, was %s", path, now[path], want)
		}
	}
	for path := range frozen {
		if _, there := now[path]; !there {
			t.Errorf("%s is gone, and format version 1 is frozen", path)
		}
	}
	if *update {
		text, err := json.MarshalIndent(frozen, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, string(text)+"\n", 0o644)
	}
}

// listing returns what git keeps of a tree: contents, links and the x bit.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		if err != nil || d.IsDir() || slices.Contains([]string{"README.md", "read.py", "frozen.json"}, rel) {
			return err
		}
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			all[rel] = "link " + target
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		all[rel] = fmt.Sprintf("%o %d bytes, SHA-256 %x", fi.Mode()&0o100, len(b), sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// vectorRoot is the root of a case while it is made.
type vectorRoot struct {
	t *testing.T
	*vector
	dir string
}

func (r *vectorRoot) path(rel string) string { return r.dir + "/" + rel }

func (r *vectorRoot) file(rel, text string) { writeFile(r.t, r.path(rel), text, 0o644) }

func (r *vectorRoot) link(rel, target string) {
	r.t.Helper()
	os.MkdirAll(filepath.Dir(r.path(rel)), 0o755)
	if err := os.Symlink(target, r.path(rel)); err != nil {
		r.t.Fatal(err)
	}
}

// edit changes a file's bytes.
func (r *vectorRoot) edit(rel string, change func(b []byte) []byte) {
	r.t.Helper()
	b, err := os.ReadFile(r.path(rel))
	if err != nil {
		r.t.Fatal(err)
	}
	r.file(rel, string(change(b)))
}

// cacheDir and so on are relative to the root.
func (r *vectorRoot) cacheDir() string { return format.CacheDir + "/" + r.Cache }

// table makes a generation of rows, and publishes it.
func (r *vectorRoot) table(rows map[string]string, change ...func(*format.Pointer)) (dir string) {
	r.t.Helper()
	m := r.manifest()
	dir = r.cacheDir() + "/" + format.Generation(m.Key().String())
	r.file(dir+"/"+format.Manifest, string(m.Encode()))
	var outputs []format.Output
	if r.origins {
		origins := format.OriginsHeader(uint32(len(rows)))
		for range rows {
			origins = format.AppendOrigin(origins, 0)
		}
		r.file(dir+"/"+format.Origins, string(origins))
		outputs = append(outputs, format.Output{
			Path: format.Origins, Type: format.OutputFile, Mode: 0o644, Size: uint64(len(origins)), Digest: sha256.Sum256(origins),
		})
	}
	f, err := realDisk{}.Create(r.path(dir + "/" + format.Table))
	if err != nil {
		r.t.Fatal(err)
	}
	h, err := writeTable(f, m.Key(), len(rows), sortedRows(rows))
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	f.Close()
	sum, _ := digestOutput(r.path(dir+"/"+format.Table), format.OutputFile)
	r.publish(dir, &format.GenerationMeta{
		Kind: format.KindTable, Key: m.Key(), Manifest: sha256.Sum256(m.Encode()), Rows: h.Rows,
		Outputs: append(outputs, format.Output{Path: format.Table, Type: format.OutputFile, Mode: 0o644, Size: h.Size(), Digest: sum}),
	}, h.Size(), change)
	return dir
}

func (r *vectorRoot) manifest() *hashing.Manifest {
	return &hashing.Manifest{
		Recipe: []hashing.Part{{Label: "cache", Digest: hashing.Value([]byte(r.Cache))}, {Label: "case", Digest: hashing.Value([]byte(r.Case))}},
		Inputs: []hashing.Input{{Path: "share/MANIFEST", Type: hashing.RegularFile, Mode: 0o644, Size: 9}},
	}
}

func (r *vectorRoot) publish(dir string, m *format.GenerationMeta, tableSize uint64, change []func(*format.Pointer)) {
	r.t.Helper()
	meta := m.Encode()
	r.file(dir+"/"+format.Meta, string(meta))
	p := &format.Pointer{Kind: m.Kind, Cache: r.Cache, Key: m.Key, Meta: sha256.Sum256(meta), TableSize: tableSize}
	for _, f := range change {
		f(p)
	}
	b, err := p.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	r.file(r.cacheDir()+"/"+format.Current, string(b))
}

// files makes a generation of what is below the directory files, and
// publishes it.
func (r *vectorRoot) files(make func(dir string)) {
	r.t.Helper()
	m := r.manifest()
	dir := r.cacheDir() + "/" + format.Generation(m.Key().String())
	r.file(dir+"/"+format.Manifest, string(m.Encode()))
	make(dir + "/" + format.Files)
	meta := &format.GenerationMeta{Kind: format.KindFiles, Key: m.Key(), Manifest: sha256.Sum256(m.Encode())}
	err := filepath.WalkDir(r.path(dir+"/"+format.Files), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		o := format.Output{Path: path[len(r.path(dir))+1:], Type: format.OutputFile, Mode: uint16(fi.Mode().Perm()), Size: uint64(fi.Size())}
		switch d.Type() {
		case fs.ModeDir:
			o.Type, o.Size = format.OutputDir, 0
		case fs.ModeSymlink:
			o.Type = format.OutputSymlink
		}
		o.Digest, _ = digestOutput(path, o.Type)
		meta.Outputs = append(meta.Outputs, o)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	slices.SortFunc(meta.Outputs, func(a, b format.Output) int { return strings.Compare(a.Path, b.Path) })
	r.publish(dir, meta, 0, nil)
}

// witnesses records paths by content alone: no inode or time survives git.
func (r *vectorRoot) witnesses(paths ...string) func(*format.Pointer) {
	return func(p *format.Pointer) {
		for _, path := range paths {
			w, err := witness.Observe(r.dir, path)
			if err != nil {
				r.t.Fatal(err)
			}
			w.Identity = [32]byte{}
			p.Witnesses = append(p.Witnesses, w)
		}
	}
}

func vectors() []vector {
	small := map[string]string{"alpha": "1", "beta": `{"two":2}`, "gamma": ""}
	fail := func(s string) *string { return &s }
	numbered := func(n int) map[string]string {
		rows := map[string]string{}
		for i := range n {
			rows[fmt.Sprintf("key-%d", i*i)] = strings.Repeat(fmt.Sprint(i), i%7)
		}
		return rows
	}
	plain := func(name string, rows map[string]string, get ...[2]any) vector {
		return vector{Case: name, Cache: "demo", Get: get, make: func(r *vectorRoot) { r.table(rows) }}
	}
	// witnessed is a case whose witnesses are recorded, and then changed.
	witnessed := func(name string, err *string, change func(r *vectorRoot), paths ...string) vector {
		v := vector{Case: name, Cache: "demo", Error: err, make: func(r *vectorRoot) {
			r.file("share/MANIFEST", "version 1\n")
			r.file("lib/plugins/a.so", "a")
			r.file("lib/plugins/sub/below", "below")
			r.link("lib/plugins/link", "a.so")
			r.link("opt", "share/MANIFEST")
			r.table(small, r.witnesses(paths...))
			if change != nil {
				change(r)
			}
		}}
		if err == nil {
			v.Get = gets(small, "alpha", "gamma", "absent")
		}
		return v
	}
	broken := func(name, err string, change func(r *vectorRoot, table string), get ...[2]any) vector {
		return vector{Case: name, Cache: "demo", Error: fail(err), Get: get, make: func(r *vectorRoot) {
			change(r, r.table(small)+"/"+format.Table)
		}}
	}
	const current = format.CacheDir + "/demo/" + format.Current
	equal := map[string]string{}
	for _, k := range equalHashes(41) {
		equal[k] = "value of " + fmt.Sprintf("%x", k)
	}
	outside := equalHashes(41)[17]
	delete(equal, outside)
	odd := map[string]string{
		"": "the empty key", "\x00": "NUL", "a\nb": "newline", "\xff\xfe": "not UTF-8", "a": "", "a\x00": "\x00", "ä": "ä", "z z": "\"",
	}
	list := []vector{
		plain("table-empty", nil, gets(nil, "", "a")...),
		plain("table-1", map[string]string{"only": "row"}, gets(map[string]string{"only": "row"}, "only", "", "onl", "only\x00")...),
		plain("table-64", numbered(64), gets(numbered(64), "key-0", "key-3969", "key-2", "zzz")...),
		plain("table-65", numbered(65), gets(numbered(65), "key-0", "key-4096", "key-2", "")...),
		plain("table-1000", numbered(1000), gets(numbered(1000), "key-0", "key-998001", "key-49", "key-2", "key")...),
		plain("table-equal-hashes", equal, gets(equal, append(slices.Sorted(maps.Keys(equal)), outside)...)...),
		plain("table-odd-keys", odd, gets(odd, append(slices.Sorted(maps.Keys(odd)), "\xff", "\n")...)...),
		{Case: "table-origins", Cache: "demo", origins: true, Get: gets(small, "alpha", "absent"), make: func(r *vectorRoot) { r.table(small) }},
		{Case: "files", Cache: "tree", Kind: "files", Files: map[string][]byte{
			"README": []byte("hello\n"), "bin/tool": []byte("#!/bin/sh\n"), "bin/alias": []byte("tool"), "empty": {}, "up/down/link": []byte("../../README"),
		}, make: func(r *vectorRoot) {
			r.files(func(dir string) {
				r.file(dir+"/README", "hello\n")
				writeFile(r.t, r.path(dir+"/bin/tool"), "#!/bin/sh\n", 0o755)
				r.link(dir+"/bin/alias", "tool")
				r.file(dir+"/empty", "")
				r.link(dir+"/up/down/link", "../../README")
			})
		}},

		witnessed("witness-holds", nil, nil, "share/MANIFEST", "lib/plugins", "opt", "nothing/here"),
		witnessed("witness-below-moved", nil, func(r *vectorRoot) { r.file("lib/plugins/sub/below", "another") }, "lib/plugins"),
		witnessed("witness-file-changed", fail("stale"), func(r *vectorRoot) { r.file("share/MANIFEST", "version 2\n") }, "opt", "share/MANIFEST"),
		witnessed("witness-file-gone", fail("stale"), func(r *vectorRoot) { os.Remove(r.path("share/MANIFEST")) }, "share/MANIFEST"),
		witnessed("witness-file-now-link", fail("stale"), func(r *vectorRoot) {
			os.Rename(r.path("share/MANIFEST"), r.path("share/M"))
			r.link("share/MANIFEST", "M")
		}, "share/MANIFEST"),
		witnessed("witness-directory-added", fail("stale"), func(r *vectorRoot) { r.file("lib/plugins/b.so", "b") }, "lib/plugins"),
		witnessed("witness-directory-changed", fail("stale"), func(r *vectorRoot) { r.file("lib/plugins/a.so", "A") }, "lib/plugins"),
		witnessed("witness-directory-removed", fail("stale"), func(r *vectorRoot) { os.Remove(r.path("lib/plugins/link")) }, "lib/plugins"),
		witnessed("witness-symlink-changed", fail("stale"), func(r *vectorRoot) {
			os.Remove(r.path("opt"))
			r.link("opt", "share")
		}, "opt"),
		witnessed("witness-appeared", fail("stale"), func(r *vectorRoot) { r.file("nothing/here", "") }, "nothing/here"),
		{Case: "witness-identity-moved", Cache: "demo", Get: gets(small, "alpha"), make: func(r *vectorRoot) {
			r.file("share/MANIFEST", "version 1\n")
			r.table(small, r.witnesses("share/MANIFEST"), func(p *format.Pointer) { p.Witnesses[0].Identity[31] = 1 })
		}},
		{Case: "stats-stale", Cache: "demo", Error: fail("stale"), make: func(r *vectorRoot) {
			r.file("lib/a", "a")
			r.table(small, someStats)
		}},
		{Case: "stats-corrupt", Cache: "demo", Error: fail("corrupt"), make: func(r *vectorRoot) {
			r.file("lib/a", "a")
			r.table(small, someStats)
			r.edit(current, func(b []byte) []byte { b[len(b)-5] ^= 1; return b })
		}},

		{Case: "missing", Cache: "demo", Error: fail("missing"), make: func(r *vectorRoot) { r.file("share/MANIFEST", "version 1\n") }},
		broken("missing-generation", "missing", func(r *vectorRoot, table string) { os.RemoveAll(filepath.Dir(r.path(table))) }),
		broken("missing-table", "missing", func(r *vectorRoot, table string) { os.Remove(r.path(table)) }),
		{Case: "other-root", Cache: "demo", Error: fail("missing"), make: func(r *vectorRoot) {
			r.table(small, func(p *format.Pointer) { p.Root = "/nonexistent/root" })
		}},
		broken("marked-stale", "stale", func(r *vectorRoot, _ string) {
			os.Rename(r.path(current), r.path(format.CacheDir+"/demo/"+format.Stale))
		}),
		broken("too-new", "too new", func(r *vectorRoot, _ string) {
			r.edit(current, func(b []byte) []byte { b[8] = 2; return seal(b, len(b)) })
		}),
		broken("too-new-layout", "too new", func(r *vectorRoot, _ string) {
			r.edit(current, func(b []byte) []byte {
				b = append(b[:8:8], 2, 0, 0, 0, 28, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 9, 9)
				return append(seal(b[:28:28], 28), 9, 9)
			})
		}),
		broken("corrupt-pointer", "corrupt", func(r *vectorRoot, _ string) {
			r.edit(current, func(b []byte) []byte { b[41] ^= 0x10; return b })
		}),
		broken("truncated-pointer", "corrupt", func(r *vectorRoot, _ string) {
			r.edit(current, func(b []byte) []byte { return b[:len(b)-3] })
		}),
		broken("empty-pointer", "corrupt", func(r *vectorRoot, _ string) { r.file(current, "") }),
		broken("other-cache", "corrupt", func(r *vectorRoot, _ string) {
			r.edit(current, func(b []byte) []byte { copy(b[106:], "demi"); return seal(b, len(b)) })
		}),
		broken("corrupt-row", "corrupt", func(r *vectorRoot, table string) {
			r.edit(table, func(b []byte) []byte { b[format.TableHeaderSize+12] ^= 1; return b })
		}, [2]any{[]byte("alpha"), nil}),
		broken("corrupt-index", "corrupt", func(r *vectorRoot, table string) {
			r.edit(table, func(b []byte) []byte { b[len(b)-4-4-8] ^= 1; return b })
		}, [2]any{[]byte("absent"), nil}),
		broken("corrupt-header", "corrupt", func(r *vectorRoot, table string) {
			r.edit(table, func(b []byte) []byte { b[88] ^= 1; return b })
		}),
		broken("displacement-beyond-slots", "corrupt", func(r *vectorRoot, table string) {
			r.edit(table, func(b []byte) []byte { b[91] = 0xFF; seal(b, format.TableHeaderSize); return b })
		}),
		{Case: "root-not-absolute", Cache: "demo", Error: fail("corrupt"), make: func(r *vectorRoot) {
			r.table(small, func(p *format.Pointer) { p.Root = "nonexistent/root" })
		}},
		broken("truncated-table", "corrupt", func(r *vectorRoot, table string) {
			r.edit(table, func(b []byte) []byte { return b[:len(b)-1] })
		}),
		broken("table-of-another-key", "corrupt", func(r *vectorRoot, table string) {
			r.edit(table, func(b []byte) []byte { b[16] ^= 1; seal(b, format.TableHeaderSize); return b })
		}),
		broken("untrusted-pointer", "untrusted", func(r *vectorRoot, _ string) {
			os.Rename(r.path(current), r.path(format.CacheDir+"/demo/elsewhere"))
			r.link(current, "elsewhere")
		}),
		broken("untrusted-table", "untrusted", func(r *vectorRoot, table string) {
			os.Rename(r.path(table), r.path(table+"2"))
			r.link(table, "table2")
		}),

		{Case: "image", Cache: "demo", Get: gets(small, "beta"), make: func(r *vectorRoot) {
			r.table(small)
			os.MkdirAll(filepath.Dir(r.path(format.ImageCacheDir)), 0o755)
			os.Rename(r.path(format.CacheDir), r.path(format.ImageCacheDir))
		}},
		{Case: "image-generation", Cache: "demo", Get: gets(small, "beta"), make: func(r *vectorRoot) {
			r.table(small)
			os.MkdirAll(r.path(format.ImageCacheDir+"/demo"), 0o755)
			os.Rename(r.path(r.cacheDir()+"/g"), r.path(format.ImageCacheDir+"/demo/g"))
		}},
		{Case: "image-overruled", Cache: "demo", Error: fail("stale"), make: func(r *vectorRoot) {
			r.table(small)
			os.MkdirAll(filepath.Dir(r.path(format.ImageCacheDir)), 0o755)
			os.Rename(r.path(format.CacheDir), r.path(format.ImageCacheDir))
			r.file(r.cacheDir()+"/"+format.Stale, "anything")
		}},
	}
	return list
}

func someStats(p *format.Pointer) {
	id := format.Identity{Size: 1, Mtime: 2, Ctime: 3, Inode: 4}
	p.HasStats, p.Stats = true, format.EncodeStats([]format.StatDir{{Path: "lib", Check: true, ID: id, Files: []format.StatFile{{Name: "a", ID: id}}}})
}

// gets are look-ups of keys, and what rows has of them.
func gets(rows map[string]string, keys ...string) (list [][2]any) {
	for _, k := range keys {
		if v, ok := rows[k]; ok {
			list = append(list, [2]any{[]byte(k), []byte(v)})
		} else {
			list = append(list, [2]any{[]byte(k), nil})
		}
	}
	return list
}

// seal puts right the CRC-32 in the last four bytes of b[:n].
func seal(b []byte, n int) []byte {
	binary.LittleEndian.PutUint32(b[n-4:], crc32.ChecksumIEEE(b[:n-4]))
	return b
}

// equalHashes returns n keys of 8 bytes with one CRC-32.
func equalHashes(n int) (keys []string) {
	table := crc32.MakeTable(crc32.IEEE)
	for i := range n {
		k := binary.BigEndian.AppendUint32(nil, uint32(i))
		// The four bytes that take the register to where the hash wants it:
		// from the end, each table entry is known by its highest byte.
		reg, want := ^crc32.ChecksumIEEE(k), ^uint32(0xC0111DED)
		var at [4]byte
		for j := 3; j >= 0; j-- {
			for t, e := range table {
				if e>>24 == want>>24 {
					at[j] = byte(t)
					want = (want ^ e) << 8
					break
				}
			}
		}
		for j := range at {
			b := byte(reg) ^ at[j]
			reg = reg>>8 ^ table[at[j]]
			k = append(k, b)
		}
		keys = append(keys, string(k))
	}
	return keys
}

func TestEqualHashes(t *testing.T) {
	for _, k := range equalHashes(300) {
		if got := crc32.ChecksumIEEE([]byte(k)); got != 0xC0111DED {
			t.Fatalf("the CRC-32 of %x is %x", k, got)
		}
	}
}

func sortedRows(rows map[string]string) iter.Seq2[mergedRow, error] {
	return func(yield func(mergedRow, error) bool) {
		for i, k := range slices.Sorted(maps.Keys(rows)) {
			if !yield(mergedRow{[]byte(k), []byte(rows[k]), uint64(i + 1)}, nil) {
				return
			}
		}
	}
}

// writeFile writes a file with an exact mode, and makes the directories above
// it.
func writeFile(t testing.TB, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// TestGoldenVerifies: the good cases are what a refresh would have published.
func TestGoldenVerifies(t *testing.T) {
	for _, v := range vectors() {
		if v.Error != nil {
			continue
		}
		root := t.TempDir()
		if err := os.Chmod(root, 0o755); err != nil {
			t.Fatal(err)
		}
		v.make(&vectorRoot{t: t, vector: &v, dir: root})
		in, err := Load(root, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Verify(t.Context(), v.Cache); err != nil {
			t.Errorf("%s: verify: %v", v.Case, err)
		}
		if s := in.Status(v.Cache); s.Err != nil {
			t.Errorf("%s: status: %v", v.Case, s.Err)
		}
	}
}
