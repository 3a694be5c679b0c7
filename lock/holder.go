package lock

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Holder is the process that holds a lock, as far as the system tells. It is
// for messages only: by the time it is read, another process may hold the lock,
// and the holder writes its command line itself.
type Holder struct {
	PID     int       // 0: unknown
	UID     int       // whose the process is; -1: unknown
	Command string    // base name and verb, as "syscache refresh"; printable; "": unknown
	Since   time.Time // when the process started, not when it took the lock; zero: unknown
}

// String is "pid 4242 (syscache refresh) of uid 0, started 12 s ago", as far
// as known. How long it has held the lock, nothing tells.
func (h Holder) String() string {
	if h.PID == 0 {
		return "another process"
	}
	s := fmt.Sprintf("pid %d", h.PID)
	if h.Command != "" {
		s += " (" + h.Command + ")"
	}
	if h.UID >= 0 {
		s += fmt.Sprintf(" of uid %d", h.UID)
	}
	if !h.Since.IsZero() {
		s += ", started " + rough(time.Since(h.Since)) + " ago"
	}
	return s
}

func rough(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h", int(d.Hours()))
}

// valued are the flags of the syscache command whose value may follow as an
// argument of its own.
var valued = []string{"--root", "--cache-dir", "--wait"}

// commandOf shortens a command line, its arguments each ended by NUL, to the
// base name of the program and the first argument that looks like a verb. Paths
// do not, and values of flags are passed over.
func commandOf(cmdline string) string {
	name, rest, _ := strings.Cut(cmdline, "\x00")
	if name == "" {
		return ""
	}
	name = printable(path.Base(name), 40)
	isValue := false
	for arg := range strings.SplitSeq(rest, "\x00") {
		if isVerb(arg) && !isValue {
			return name + " " + arg
		}
		isValue = !isValue && slices.Contains(valued, arg)
	}
	return name
}

func isVerb(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return s != "" && s[0] != '-' && len(s) <= 20
}

// printable makes what an unprivileged process says of itself safe for root's
// terminal: line ends, escape sequences, and marks that turn the direction of
// text become "?", and no more than limit runes remain.
func printable(s string, limit int) string {
	var b strings.Builder
	for n, r := range []rune(s) {
		if n == limit {
			b.WriteString("...")
			break
		}
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
