package format

import (
	"iter"
	"math"
	"unsafe"
)

// Stats is an encoded stat section: every directory and file that a refresh
// read, with its identity. It is kept encoded: a reader walks it once and
// keeps nothing.
type Stats []byte

// A StatDir is one directory of a stat section, with the files in it.
type StatDir struct {
	Path  string // relative to the root, "" for the root itself, or absolute
	Check bool   // the directory's own identity counts
	ID    Identity
	Files []StatFile // sorted by name
}

// A StatFile is one file in a StatDir.
type StatFile struct {
	Name string
	ID   Identity
}

// EncodeStats encodes dirs, which must be sorted by path.
func EncodeStats(dirs []StatDir) Stats {
	files := 0
	for _, d := range dirs {
		files += len(d.Files)
	}
	b := make([]byte, 0, 64*(len(dirs)+files)+12)
	b = le.AppendUint32(b, uint32(len(dirs)))
	b = le.AppendUint32(b, uint32(files))
	for _, d := range dirs {
		b = appendStr16(b, d.Path)
		check := byte(0)
		if d.Check {
			check = 1
		}
		b = append(b, check)
		b = d.ID.Append(b)
		b = le.AppendUint32(b, uint32(len(d.Files)))
		for _, f := range d.Files {
			b = append(b, byte(len(f.Name)))
			b = append(b, f.Name...)
			b = f.ID.Append(b)
		}
	}
	return le.AppendUint32(b, Checksum(b))
}

// Counts returns the number of directories and files that s lists. It does
// not verify s.
func (s Stats) Counts() (dirs, files int) {
	c := Cursor{Rest: s}
	return int(c.U32()), int(c.U32())
}

// Check returns nil if s is whole, else why it is corrupt.
func (s Stats) Check() error {
	for _, err := range s.All() {
		if err != nil {
			return err
		}
	}
	return nil
}

// All yields the directories of s, after verifying its checksum, and ends
// with an error where the structure is wrong. What it yields refers to s; the
// Files slice of a StatDir is reused for the next.
func (s Stats) All() iter.Seq2[StatDir, error] {
	return func(yield func(StatDir, error) bool) {
		if len(s) < 12 || Checksum(s[:len(s)-4]) != le.Uint32(s[len(s)-4:]) {
			yield(StatDir{}, corrupt("stat section checksum"))
			return
		}
		c := Cursor{Rest: s[:len(s)-4]}
		dirs, files := c.U32(), c.U32()
		var d StatDir
		last := ""
		for i := range dirs {
			n, ok := c.statDir(&d, files)
			if !ok || i > 0 && d.Path <= last {
				yield(StatDir{}, corrupt("stat section structure"))
				return
			}
			files, last = files-n, d.Path
			if !yield(d, nil) {
				return
			}
		}
		if files != 0 || len(c.Rest) != 0 {
			yield(StatDir{}, corrupt("stat section structure"))
		}
	}
}

// Parts verifies all of s, and cuts it into parts of about size bytes.
func (s Stats) Parts(size int) ([]StatsPart, error) {
	var parts []StatsPart
	start, at := 8, 8
	for d, err := range s.All() {
		if err != nil {
			return nil, err
		}
		at += d.size()
		if at-start >= size {
			parts, start = append(parts, StatsPart(s[start:at])), at
		}
	}
	if at > start {
		parts = append(parts, StatsPart(s[start:at]))
	}
	return parts, nil
}

// A StatsPart is some of the directories of a verified stat section.
type StatsPart []byte

// All yields the directories of p, as Stats.All does.
func (p StatsPart) All() iter.Seq[*StatDir] {
	return func(yield func(*StatDir) bool) {
		var d StatDir
		for c := (Cursor{Rest: p}); len(c.Rest) > 0; {
			if _, ok := c.statDir(&d, math.MaxUint32); !ok || !yield(&d) {
				return
			}
		}
	}
}

// size returns the encoded length of d.
func (d *StatDir) size() int {
	n := 2 + len(d.Path) + 1 + IdentitySize + 4
	for i := range d.Files {
		n += 1 + len(d.Files[i].Name) + IdentitySize
	}
	return n
}

// statDir reads the next directory into d, of whose files at most most may
// be left; it returns how many it has.
func (c *Cursor) statDir(d *StatDir, most uint32) (files uint32, ok bool) {
	d.Path = view(c.Bytes(int(c.U16())))
	check := c.U8()
	d.Check = check == 1
	d.ID = c.Identity()
	n := c.U32()
	if c.Bad || check > 1 || n > most || !validStatPath(d.Path) || !d.Check && d.ID != (Identity{}) {
		return 0, false
	}
	d.Files = d.Files[:0]
	for range n {
		name := view(c.Bytes(int(c.U8())))
		id := c.Identity()
		if c.Bad || !validName(name) || len(d.Files) > 0 && name <= d.Files[len(d.Files)-1].Name {
			return 0, false
		}
		d.Files = append(d.Files, StatFile{name, id})
	}
	return n, true
}

// view returns b as a string without a copy: of 100,000 names these would take
// as long as all else. Nobody writes to an encoded section.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func validName(name string) bool {
	if !ValidPath(name) {
		return false
	}
	for i := range len(name) {
		if name[i] == '/' {
			return false
		}
	}
	return true
}
