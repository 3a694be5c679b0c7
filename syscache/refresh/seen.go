package refresh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/witness"
)

// seen is a refresher's memo of how the install was when a refresh last found
// the pointer right, or made it so. Where all of it is as it was, another scan
// would come to the same pointer: to stat what the last one read is enough, as
// it is for readers. Losing it costs a scan.
//
// It is written when the pointer is durable, and removed before another is
// published. So whoever finds it need not sync again either.
type seen struct {
	declared hashing.Digest   // of all that is declared
	pointer  hashing.Digest   // of the pointer
	inputs   uint32           // how many there were
	passed   []hashing.Access // directories of which stats certifies nothing
	stats    format.Stats     // all else that the scan read; empty: it is the pointer's
}

const (
	seenMagic = "SYSC-SEE"
	// seenVersion must change with the meaning of a scan, too: a memo of
	// another program is of no use then.
	seenVersion = 1
)

func (m *seen) encode() []byte {
	le := binary.LittleEndian
	b := append([]byte(nil), seenMagic...)
	b = le.AppendUint32(b, seenVersion)
	b = append(b, m.declared[:]...)
	b = append(b, m.pointer[:]...)
	b = le.AppendUint32(b, m.inputs)
	b = le.AppendUint32(b, uint32(len(m.passed)))
	for _, a := range m.passed {
		b = le.AppendUint16(b, uint16(len(a.Path)))
		b = append(b, a.Path...)
		for _, v := range []uint32{a.Mode, a.UID, a.GID} {
			b = le.AppendUint32(b, v)
		}
	}
	return sealed(append(b, m.stats...))
}

func sealed(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }

// decodeSeen decodes what encode returns. The stats refer to b and are not
// verified.
func decodeSeen(b []byte) (*seen, error) {
	if len(b) < 4 || crc32.ChecksumIEEE(b[:len(b)-4]) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, errors.New("seen: wrong checksum")
	}
	c := format.Cursor{Rest: b[:len(b)-4]}
	if string(c.Bytes(len(seenMagic))) != seenMagic || c.U32() != seenVersion {
		return nil, errors.New("seen: wrong magic or version")
	}
	m := &seen{declared: c.Hash(), pointer: c.Hash(), inputs: c.U32()}
	for range c.U32() {
		a := hashing.Access{Path: c.Str16(), Mode: c.U32(), UID: c.U32(), GID: c.U32()}
		if c.Bad {
			break // whatever the number claims
		}
		m.passed = append(m.passed, a)
	}
	if m.stats = format.Stats(c.Rest); c.Bad {
		return nil, errors.New("seen: lengths do not add up")
	}
	return m, nil
}

// recognized returns the published generation, and the number of its inputs,
// if the install is as it was when before was last found right; else nil, and
// only a scan can tell.
func (r *refresher) recognized(before *published) (g *generation, inputs int) {
	if r.force || before == nil || before.pointer == nil {
		return nil, 0
	}
	b, err := readRegular(r.dir+"/"+format.Seen, nil)
	if err != nil {
		return nil, 0
	}
	m, err := decodeSeen(b)
	if err != nil || m.pointer != hashing.Value(before.bytes) {
		return nil, 0
	}
	stats := m.stats
	if before.pointer.HasStats {
		stats = before.pointer.Stats
	}
	if m.declared != r.declared() || !r.asItWas(before.pointer.Witnesses, stats, m.passed) {
		return nil, 0
	}
	g = r.present(before.pointer.Key)
	if g == nil || g.digest != before.pointer.Meta {
		return nil, 0
	}
	return g, int(m.inputs)
}

// asItWas says whether all that a scan looked at is as it was then. False may be
// wrong.
func (r *refresher) asItWas(witnesses []format.Witness, stats format.Stats, passed []hashing.Access) bool {
	for _, was := range passed {
		if is, err := hashing.AccessOf(r.root, was.Path); err != nil || is != was {
			return false
		}
	}
	for i := range witnesses {
		if noLinks(r.root, "witness", witnesses[i].Path) != nil || !witness.Unmoved(r.root, &witnesses[i]) {
			return false
		}
	}
	return witness.CheckStats(r.root, stats) == nil
}

// unmoved says whether the install is as it was when s was taken, without
// another scan. False may be wrong.
func (r *refresher) unmoved(s *snapshot) bool {
	return !s.open && len(r.told) == 0 && r.asItWas(s.witnesses, s.stats, s.passed)
}

// remember keeps for saveSeen that pointer is what s comes to. What had to be
// warned of is warned of by the next refresh too, so that has to look.
func (r *refresher) remember(pointer []byte, s *snapshot) {
	if r.image || len(r.told) > 0 || s.open {
		return
	}
	r.seen = &seen{
		declared: r.declared(), pointer: hashing.Value(pointer), inputs: uint32(len(s.manifest.Inputs)),
		passed: s.passed,
	}
	if r.c.Witness != nil {
		r.seen.stats = s.stats
	}
}

// saveSeen writes what was seen. The pointer must be durable. Failing to is no
// failure of the refresh.
func (r *refresher) saveSeen() {
	if r.seen != nil {
		r.replace(format.Seen, r.seen.encode())
	}
}

// forgetSeen removes the memo, before another pointer is published.
func (r *refresher) forgetSeen() error {
	return ignoreNotExist(lstatAndRemove(r.disk, r.dir+"/"+format.Seen))
}

// declared returns the digest of the declaration, and of where it is.
func (r *refresher) declared() hashing.Digest {
	c := r.c
	b := fmt.Appendf(nil, "%q %q %t\n", r.root, r.cacheDir, r.internal)
	b = fmt.Appendf(b, "%q %v %q %q %q %t %q %q\n", c.Name, c.kind(), c.Inputs, c.Exclude, c.InputsFrom, c.Witness != nil, c.Witness, c.Recipe)
	b = fmt.Appendf(b, "%q %q %t %t %t %q\n", c.Command, c.Env, c.Build != nil, c.Each, c.BuildEach != nil, c.BuildVersion)
	return hashing.Value(b)
}
