package survey

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/syscache/syscache/internal/format"
)

// Config returns caches as a configuration file of the install at root.
func Config(root string, caches []Cache) []byte {
	b := &strings.Builder{}
	comment(b, "A configuration that `syscache init` proposed for "+format.Show(root)+", from what it found there. "+
		"It is yours now: edit it, then refresh. Readers never read it.")
	b.WriteString(derive)
	for i := range caches {
		b.WriteByte('\n')
		caches[i].write(b)
	}
	return []byte(b.String())
}

func (c *Cache) write(b *strings.Builder) {
	comment(b, c.Found)
	for _, part := range []struct{ label, text string }{
		{"Shows: ", c.Shows}, {"Does not show: ", c.Hides}, {"Costs each reader: ", c.Costs}, {"Commented out: ", c.Off},
	} {
		if part.text != "" {
			b.WriteString("#\n")
			comment(b, part.label+part.text)
		}
	}
	mark := ""
	if c.Off != "" {
		mark = "# "
	}
	fmt.Fprintf(b, "%s[cache.%s]\n", mark, c.Name)
	fmt.Fprintf(b, "%sinputs  = %s\n", mark, list(c.Inputs))
	if len(c.Exclude) > 0 {
		fmt.Fprintf(b, "%sexclude = %s\n", mark, list(c.Exclude))
	}
	if c.Witness == nil {
		fmt.Fprintf(b, "%switness = \"inputs\"\n", mark)
	} else {
		fmt.Fprintf(b, "%switness = %s\n", mark, list(c.Witness))
	}
	b.WriteString("# build   = [\"libexec/derive\"]\n# recipe  = [\"libexec/derive\"]\n")
	if c.Sketch != "" {
		b.WriteString("#\n" + c.Sketch)
	}
}

// derive says what the caches are: nothing is known yet that derives one.
const derive = `#
# Until a command derives something, a cache is the built-in table: type, size,
# mode and digest of each file. The command in build prints a line of
# {"key": "...", "value": ...} a row; recipe names what else decides the result.
`

// width is where comments are broken.
const width = 80

// comment writes text as comment lines. Names in it have been through
// format.Show, so no line can end but where this ends it.
func comment(b *strings.Builder, text string) {
	n := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case n == 0:
			b.WriteString("#")
			n = 1
		case n+1+len(word) > width:
			b.WriteString("\n#")
			n = 1
		}
		b.WriteString(" " + word)
		n += 1 + len(word)
	}
	b.WriteByte('\n')
}

// list returns strings as a TOML array.
func list(items []string) string {
	quoted := make([]string, len(items))
	for i, s := range items {
		quoted[i] = quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote returns s, which is valid UTF-8, as a TOML string. (strconv.Quote
// writes \x00, \a and \v, which TOML does not know.)
func quote(s string) string {
	b := &strings.Builder{}
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(b, `\u%04X`, r)
		default:
			fmt.Fprintf(b, `\U%08X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// literal returns a pattern that matches just path; false if there is none.
func literal(path string) (string, bool) {
	if !utf8.ValidString(path) {
		return "", false
	}
	b := &strings.Builder{}
	for _, r := range path {
		if strings.ContainsRune(`*?[]{}\`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String(), true
}

// perStat is what a stat costs a reader, about.
const perStat = 1500 * time.Nanosecond

// cost says what checking c costs.
func (c count) cost() string {
	s := humanize.Comma(int64(c.n)) + " stats"
	switch {
	case c.more:
		return "more than " + s + ", so more than " + (time.Duration(c.n) * perStat).Round(time.Millisecond).String()
	case c.n == 1:
		return "one stat"
	}
	d := time.Duration(c.n) * perStat
	if d < time.Millisecond {
		return s + ", less than 1 ms"
	}
	return s + ", about " + fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}
