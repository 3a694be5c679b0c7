//go:build linux

package suites

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/syscache/syscache/hashing"
)

// The model of the soak: what each reader may see.
//
// Time is a counter. It ticks before and after each system call that changes
// the install (a step), and before and after each run of the command. A reader
// reads it before it asks (a) and after it was told that its generation is
// good, which Open or Current say (b). A state of the install was seen by
// somebody at some moment from the tick before the step that made it to the
// tick after the step that ended it.
//
// What a reader is given as fresh must be, row for row, what the cache is of
// the whole install at one moment in [low, b]. low is the latest of
//
//   - the beginning of each refresh, refresh --hook or invalidate that had
//     ended with success before a: what was looked at before is marked, or
//     replaced (I2);
//   - with witness = "inputs", a: an answer is that of a moment of the question;
//   - with a file, a directory or something absent as the witness, the first
//     moment at which it had a content that it also had in [a, b]: a change of
//     the witness that has ended is noticed, and what no witness shows is not.
//     Content is what counts, so a touch of the witness hides nothing, and one
//     whose old content is put back certifies again what it certified then;
//   - with witness = [], nothing else.
//
// What is given as stale, to who accepts that, must be that of one moment in
// [low, b] too, with the beginning of the last refresh that had succeeded
// before a as low: it is what was published last, or newer.
//
// A miss may say stale, at any time. It may say missing while no refresh has
// succeeded yet, or where two refreshes ran at some moment of the question,
// each of which may have published and collected what the other had: keep is
// short here. A file of a generation of the kind files may likewise be gone.
// Nothing else may happen: no corrupt or untrusted data, no other error, and
// no row that is missing or too many. Where everything rests after a refresh
// everybody must be given the install as it is; the soak checks that after
// each round.

// A node is a file, a directory or a symbolic link.
type node struct {
	dir     bool
	target  string // of a link, else ""
	content string
	mode    uint32
}

// A tree is an install: nodes by their paths below the root.
type tree map[string]node

func (t tree) file(name string) bool {
	n, ok := t[name]
	return ok && !n.dir && n.target == ""
}

// below returns the paths of files below lib.
func (t tree) below() (names []string) {
	for name := range t {
		if strings.HasPrefix(name, "lib/") && t.file(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// firstLines returns the first line of each file below lib.
func (t tree) firstLines() map[string]string {
	rows := map[string]string{}
	for _, name := range t.below() {
		rows[name], _, _ = strings.Cut(t[name].content, "\n")
	}
	return rows
}

// lines is what soakLines makes of t: a JSON string a file.
func (t tree) lines() map[string]string {
	rows := t.firstLines()
	for name, line := range rows {
		rows[name] = quoted(line)
	}
	return rows
}

// files is what the built-in builder makes of t.
func (t tree) files() map[string]string {
	rows := map[string]string{}
	for name, n := range t {
		if n.dir || !strings.HasPrefix(name, "lib/") {
			continue
		}
		kind, size, digest := "file", len(n.content), hashing.Digest{}
		if n.target == "" {
			digest, _ = hashing.Sum(strings.NewReader(n.content))
		} else {
			kind, size, digest = "symlink", len(n.target), hashing.Target(n.target)
		}
		rows[name] = fmt.Sprintf(`{"type":"%s","size":%d,"mode":"%04o","digest":"%s"}`, kind, size, n.mode, digest)
	}
	return rows
}

// entries is what a witness shows of a directory: the names and contents in it.
func (t tree) entries(dir string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if path.Dir(name) == dir {
			fmt.Fprintf(&b, "%s %v\n", name, t.shown(name))
		}
	}
	return b.String()
}

// shown is what a witness shows of a name: the times apart, its mode is no
// part of what it certifies.
func (t tree) shown(name string) string {
	n, ok := t[name]
	return fmt.Sprintf("%v %v %q %q", ok, n.dir, n.target, n.content)
}

// A soaked cache is one of those that the soak declares.
type soaked struct {
	name     string
	settings string
	witness  func(t tree) string // nil: the inputs
	rows     func(t tree) map[string]string
	files    bool // the kind
}

var soakedCaches = []soaked{
	{name: "inputs", settings: `build = ["libexec/lines"]` + "\n" + `keep = "1ms"`, rows: tree.lines},
	{name: "builtin", settings: `keep = "1s"`, rows: tree.files},
	{
		name: "file", settings: `build = ["libexec/lines"]` + "\n" + `witness = ["share/MANIFEST"]` + "\n" + `keep = "1ms"`, rows: tree.lines,
		witness: func(t tree) string { return t.shown("share/MANIFEST") },
	},
	{
		name: "directory", settings: `build = ["libexec/copy"]` + "\n" + `witness = ["lib/"]` + "\n" + `kind = "files"` + "\n" + `latest = true` + "\n" + `keep = "1s"`, rows: tree.firstLines,
		witness: func(t tree) string { return t.entries("lib") }, files: true,
	},
	{
		name: "absent", settings: `build = ["libexec/lines"]` + "\n" + `witness = ["share/INSTALLING", "share/MANIFEST"]` + "\n" + `keep = "1s"`, rows: tree.lines,
		witness: func(t tree) string { return t.shown("share/INSTALLING") + t.shown("share/MANIFEST") },
	},
	{
		name: "none", settings: `build = ["libexec/lines"]` + "\n" + "witness = []\n" + `keep = "1ms"`, rows: tree.lines,
		witness: func(t tree) string { return "" },
	},
}

// canonical is rows as one string.
func canonical(rows map[string]string) string {
	var b bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(&b, "%q=%q\n", key, rows[key])
	}
	return b.String()
}

// A span is the moments from one tick to another, both included.
type span struct{ from, to uint64 }

const forever = ^uint64(0)

func (s span) meets(t span) bool { return s.from <= t.to && t.from <= s.to }

// A past is what one value was, and when.
type past struct {
	spans  []span   // in their order
	values []string // of spans
	of     map[string][]span
}

// becomes records that the value is another from tick on.
func (p *past) becomes(value string, tick uint64) {
	if p.of == nil {
		p.of = map[string][]span{}
	}
	if n := len(p.values); n > 0 && p.values[n-1] == value {
		return
	}
	p.spans, p.values = append(p.spans, span{tick, forever}), append(p.values, value)
	p.of[value] = append(p.of[value], span{tick, forever})
}

// ended records that the step that made the last value ended: nobody sees the
// one before it any more.
func (p *past) ended(tick uint64) {
	if n := len(p.spans) - 2; n >= 0 && p.spans[n].to == forever {
		p.spans[n].to = tick
		all := p.of[p.values[n]]
		for i := range all {
			if all[i].from == p.spans[n].from {
				all[i].to = tick
			}
		}
	}
}

// had says whether the value was so at some moment of s.
func (p *past) had(value string, s span) bool {
	return slices.ContainsFunc(p.of[value], s.meets)
}

// in returns the values that there were in s, the last first.
func (p *past) in(s span) (values []string) {
	for i := len(p.spans) - 1; i >= 0 && p.spans[i].to >= s.from; i-- {
		if p.spans[i].meets(s) {
			values = append(values, p.values[i])
		}
	}
	return values
}

// A life is what the model knows of one cache.
type life struct {
	rows, witness past
	marks         marks  // of refreshes and invalidates that succeeded
	published     marks  // of refreshes that did
	runs          []span // of who publishes, collects or marks
}

// Marks are spans in the order of their ends, each with the latest beginning
// up to it.
type marks []span

func (m *marks) add(s span) {
	if n := len(*m); n > 0 {
		s.from = max(s.from, (*m)[n-1].from)
	}
	*m = append(*m, s)
}

// before returns the latest beginning of those that had ended before tick, 0
// if none had.
func (m marks) before(tick uint64) uint64 {
	n := sort.Search(len(m), func(i int) bool { return m[i].to >= tick })
	if n == 0 {
		return 0
	}
	return m[n-1].from
}

// A model is what the soak knows. The clock is set only by tick.
type model struct {
	sync.Mutex
	now   uint64
	show  func(tick uint64) // to the readers
	tree  tree
	lives map[string]*life
}

func newModel(show func(tick uint64)) *model {
	m := &model{show: show, tree: tree{}, lives: map[string]*life{}}
	for _, c := range soakedCaches {
		m.lives[c.name] = &life{}
	}
	m.record()
	return m
}

// tick returns the next moment. It is called locked.
func (m *model) tick() uint64 {
	m.now++
	m.show(m.now)
	return m.now
}

func (m *model) record() {
	for _, c := range soakedCaches {
		l := m.lives[c.name]
		l.rows.becomes(canonical(c.rows(m.tree)), m.now+1)
		if c.witness != nil {
			l.witness.becomes(c.witness(m.tree), m.now+1)
		}
	}
}

// step records what do, one system call, makes of the install.
func (m *model) step(change func(t tree), do func() error) error {
	m.Lock()
	change(m.tree)
	m.record() // before the clock shows that it may be so
	m.tick()
	m.Unlock()
	err := do()
	m.Lock()
	defer m.Unlock()
	end := m.tick()
	for _, l := range m.lives {
		l.rows.ended(end - 1)
		l.witness.ended(end - 1)
	}
	return err
}

// begin records that something starts to refresh, collect or mark caches.
func (m *model) begin(caches []string) uint64 {
	m.Lock()
	defer m.Unlock()
	start := m.tick()
	for _, name := range caches {
		m.lives[name].runs = append(m.lives[name].runs, span{start, forever})
	}
	return start
}

// end records that what began at start has ended, whether readers are now told
// nothing older, and whether because something was published.
func (m *model) end(caches []string, start uint64, marked, published bool) {
	m.Lock()
	defer m.Unlock()
	end := m.tick()
	for _, name := range caches {
		l := m.lives[name]
		for i := range l.runs {
			if l.runs[i].from == start {
				l.runs[i].to = end
			}
		}
		if marked {
			l.marks.add(span{start, end - 1})
		}
		if published {
			l.published.add(span{start, end - 1})
		}
	}
}

// A reply is what a reader tells of one question: rows, or why there are none.
type reply struct {
	Who, How, Cache string
	A, B            uint64
	Stale           bool // given as stale, to who accepts that
	Rows            map[string]string
	Miss            string // "stale", "missing" or "gone"
	Error           string // what never happens
}

// judge returns what is wrong with a reply, "" if nothing is.
func (m *model) judge(r *reply) string {
	m.Lock()
	defer m.Unlock()
	l, asked := m.lives[r.Cache], span{r.A, r.B}
	switch {
	case r.Error != "":
		return r.Error
	case r.Miss == "stale":
		return ""
	case r.Miss != "":
		return l.judgeMiss(r.Miss, asked)
	}
	low := l.published.before(r.A)
	if !r.Stale {
		low = m.low(r.Cache, asked)
	}
	rows := canonical(r.Rows)
	if low <= r.B && l.rows.had(rows, span{low, r.B}) {
		return ""
	}
	return fmt.Sprintf("these rows were not so in [%d, %d], but in %v; they were then\n%s", low, r.B, l.rows.of[rows], strings.Join(l.rows.in(span{low, r.B}), "\n"))
}

// low is the earliest moment of which a fresh answer may be.
func (m *model) low(cache string, asked span) uint64 {
	l := m.lives[cache]
	low := l.marks.before(asked.from)
	if l.witness.of == nil {
		return asked.from
	}
	first := forever
	for _, value := range l.witness.in(asked) {
		first = min(first, l.witness.of[value][0].from)
	}
	return max(low, first)
}

func (l *life) judgeMiss(miss string, asked span) string {
	if len(l.published) == 0 || l.published[0].to >= asked.from {
		return ""
	}
	n := 0
	for _, run := range l.runs {
		if run.meets(asked) {
			n++
		}
	}
	// Two: a second collects what the pointer that was read names; or it marks
	// what was published at the moment at which the old mark is removed, and is
	// put back.
	if n >= 2 || n == 1 && miss == "gone" {
		return ""
	}
	return fmt.Sprintf("%s, though it is published, and while %d refreshes, gcs or invalidates run", miss, n)
}
