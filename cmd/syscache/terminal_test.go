//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/syscache/syscache/lock"
)

// limit bounds every wait: nothing here takes as long.
const limit = time.Minute

// An install is a root whose builder, while there is the FIFO "gate", says on
// the FIFO "started" that it runs, and then waits for a line on the gate.
type install struct {
	t          *testing.T
	root       string
	side       string
	said, gate *os.File
}

const gated = `
[cache.c]
inputs = ["share/**"]
build = ["/bin/sh", "-c", '''
echo '{"key": "k", "value": 1}'
if [ -p SIDE/gate ]; then
	echo $$ >SIDE/started
	read line <SIDE/gate
fi
''']
`

func newInstall(t *testing.T, config string) *install {
	t.Helper()
	i := &install{t: t, root: t.TempDir() + "/root", side: t.TempDir()}
	i.write("share/a", "1\n")
	i.write("etc/syscache.toml", strings.ReplaceAll(config, "SIDE", i.side))
	return i
}

func (i *install) must(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Fatal(err)
	}
}

func (i *install) write(path, text string) {
	i.t.Helper()
	i.must(os.MkdirAll(filepath.Dir(i.root+"/"+path), 0o755))
	i.must(os.WriteFile(i.root+"/"+path, []byte(text), 0o644))
}

// shut makes builders wait until open is called.
func (i *install) shut() {
	i.t.Helper()
	i.said = i.fifo("started")
	i.gate = i.fifo("gate")
}

// fifo makes a FIFO. It is kept open: what is written to one goes with the last
// who has it open.
func (i *install) fifo(name string) *os.File {
	i.t.Helper()
	i.must(unix.Mkfifo(i.side+"/"+name, 0o644))
	f, err := os.OpenFile(i.side+"/"+name, os.O_RDWR, 0)
	i.must(err)
	i.t.Cleanup(func() { f.Close() })
	return f
}

// started waits until a builder runs, and returns its process.
func (i *install) started() (pid int) {
	i.t.Helper()
	i.must(i.said.SetReadDeadline(time.Now().Add(limit)))
	_, err := fmt.Fscan(i.said, &pid)
	i.must(err)
	return pid
}

// open lets a builder end.
func (i *install) open() {
	i.t.Helper()
	_, err := i.gate.WriteString("go\n")
	i.must(err)
}

// status returns the state of each cache.
func (i *install) status() map[string]string {
	i.t.Helper()
	_, out, _ := call(i.t, "--root", i.root, "status")
	states := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(\S+) +(\S+)`).FindAllStringSubmatch(out, -1) {
		states[m[2]] = m[1]
	}
	return states
}

// A process is the command as it runs.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	tty *os.File // nil: stderr is a pipe

	mu    sync.Mutex
	out   bytes.Buffer
	more  chan bool // something came, or the end
	ended chan bool
}

// run starts the command, with stderr on a pipe.
func (i *install) run(args ...string) *process {
	i.t.Helper()
	p := i.process(args)
	r, w, err := os.Pipe()
	i.must(err)
	p.cmd.Stderr = w
	i.must(p.cmd.Start())
	w.Close()
	p.follow(r)
	return p
}

// runOnTerminal starts the command on a terminal of its own.
func (i *install) runOnTerminal(term string, args ...string) *process {
	i.t.Helper()
	p := i.process(args)
	p.cmd.Env = append(p.cmd.Env, "TERM="+term)
	tty, err := pty.StartWithSize(p.cmd, &pty.Winsize{Rows: 24, Cols: 100})
	i.must(err)
	p.tty = tty
	p.follow(tty)
	return p
}

func (i *install) process(args []string) *process {
	// A signal that we were started to ignore, as in the background of a
	// script, the command would, too. One that is caught it would not.
	for _, sig := range signals {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	cmd := exec.Command("syscache", append([]string{"--root", i.root}, args...)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	return &process{t: i.t, cmd: cmd, more: make(chan bool, 1), ended: make(chan bool)}
}

// follow collects what comes from r.
func (p *process) follow(r *os.File) {
	p.t.Cleanup(func() { p.cmd.Process.Kill(); <-p.ended })
	go func() {
		defer close(p.ended)
		defer r.Close()
		b := make([]byte, 4096)
		for {
			n, err := r.Read(b)
			p.mu.Lock()
			p.out.Write(b[:n])
			p.mu.Unlock()
			select {
			case p.more <- true:
			default:
			}
			if err != nil { // EIO where a terminal has no more users
				return
			}
		}
	}()
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// end returns the last of the output, for a message.
func (p *process) end() string {
	text := p.text()
	return fmt.Sprintf("%q", text[max(0, len(text)-300):])
}

// shows waits until the output matches.
func (p *process) shows(pattern string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	late := time.After(limit)
	for !re.MatchString(p.text()) {
		select {
		case <-p.more:
		case <-p.ended:
			if !re.MatchString(p.text()) {
				p.t.Fatalf("it ended without %q: %s", pattern, p.end())
			}
		case <-late:
			p.t.Fatalf("no %q: %s", pattern, p.end())
		}
	}
}

// wait waits for the end, and returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(limit):
		p.t.Fatalf("it does not end: %s", p.end())
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// screenOf is what a terminal shows after it was sent text.
func screenOf(t *testing.T, text string) string {
	t.Helper()
	var lines []string
	row, col := 0, 0
	for text != "" {
		for row >= len(lines) {
			lines = append(lines, "")
		}
		m := regexp.MustCompile(`^\x1b\[([0-9]*)([AJ])`).FindStringSubmatch(text)
		switch {
		case m != nil && m[2] == "A":
			n, _ := strconv.Atoi(m[1])
			row -= n
			text = text[len(m[0]):]
			continue
		case m != nil:
			if col != 0 {
				t.Fatal("erased from within a line")
			}
			lines = lines[:row]
			text = text[len(m[0]):]
			continue
		case text[0] == '\r':
			col = 0
		case text[0] == '\n':
			row++
		case text[0] < ' ':
			t.Fatalf("not understood: %q", text)
		default:
			lines[row] = lines[row][:min(col, len(lines[row]))] + text[:1]
			col++
		}
		text = text[1:]
	}
	if row != len(lines)-1 && row != len(lines) || col != 0 {
		t.Errorf("the cursor is left in line %d of %d, column %d", row, len(lines), col)
	}
	return strings.Join(lines, "\n") + "\n"
}

const built = `^syscache: c: built: 1 input, 1 row, 168 B, [0-9.]+m?s\n$`

// TestProgressOnTerminal: every phase that takes long is shown, and nothing of
// it remains.
func TestProgressOnTerminal(t *testing.T) {
	i := newInstall(t, gated)
	i.must(os.Truncate(i.root+"/share/a", 1<<30)) // takes a while to read
	i.shut()
	i.must(os.MkdirAll(i.root+"/var/cache/syscache/c", 0o755))
	l, err := lock.Acquire(t.Context(), i.root+"/var/cache/syscache/c/lock", nil)
	i.must(err)
	p := i.runOnTerminal("xterm", "refresh")
	p.shows(`syscache: c: waiting for pid \d+ \(.*\) of uid \d+, started \d+ \w+ ago\r\n`)
	p.shows(`\nc: waiting for the lock, \d+s\r\n`)
	i.must(l.Release())
	p.shows(`c: hash, 1 file, \d+ MiB, [0-9.]+ [GM]iB/s, \d+s\r\n`)
	i.started()
	p.shows(`c: build, 1 row, \d+s\r\n`)
	i.open()
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	lines := strings.SplitAfter(screenOf(t, p.text()), "\n")
	if len(lines) != 3 || !regexp.MustCompile(built).MatchString(lines[1]) {
		t.Errorf("the screen is left as\n%s", strings.Join(lines, ""))
	}
}

// TestNoProgress: where it is not wanted, or nobody could see it, there is none.
func TestNoProgress(t *testing.T) {
	type silent struct {
		name string
		*install
		*process
		want string
	}
	var all []silent
	start := func(name, want string, start func(i *install) *process) {
		i := newInstall(t, gated)
		i.shut()
		p := start(i)
		i.started()
		all = append(all, silent{name, i, p, want})
	}
	start("pipe", built, func(i *install) *process { return i.run("refresh") })
	start("dumb", built, func(i *install) *process { return i.runOnTerminal("dumb", "refresh") })
	start("quiet", `^$`, func(i *install) *process { return i.runOnTerminal("xterm", "refresh", "--quiet") })
	start("hook", `^$`, func(i *install) *process { return i.runOnTerminal("xterm", "refresh", "--hook") })
	start("json", `^{"cache":"c","outcome":"built",.*}\n$`, func(i *install) *process { return i.runOnTerminal("xterm", "refresh", "--json") })

	// They have been waiting for longer than this one when it shows something.
	shown := newInstall(t, gated)
	shown.shut()
	p := shown.runOnTerminal("xterm", "refresh")
	shown.started()
	p.shows(`c: build`)
	shown.open()
	p.wait()
	for _, s := range all {
		s.open()
		if code := s.wait(); code != 0 {
			t.Errorf("%s: exit code %d", s.name, code)
		}
		if got := strings.ReplaceAll(s.text(), "\r\n", "\n"); !regexp.MustCompile(s.want).MatchString(got) {
			t.Errorf("%s: %q", s.name, got)
		}
	}
}

// TestNoFlicker: what is done at once is not shown running.
func TestNoFlicker(t *testing.T) {
	for range 10 {
		i := newInstall(t, gated)
		began := time.Now()
		p := i.runOnTerminal("xterm", "refresh")
		p.wait()
		if time.Since(began) > patience {
			continue // the machine is busy
		}
		if got := strings.ReplaceAll(p.text(), "\r\n", "\n"); !regexp.MustCompile(built).MatchString(got) {
			t.Errorf("%q", got)
		}
		return
	}
	t.Error("no refresh was quick")
}

// TestSideBySide: one whose builder does not end keeps none of nine others
// waiting, and each is told as it is done, in a line of its own.
func TestSideBySide(t *testing.T) {
	config := gated
	for n := range 9 {
		config += fmt.Sprintf("[cache.d%d]\ninputs = [\"share/**\"]\n", n)
	}
	i := newInstall(t, config)
	i.shut()
	p := i.run("refresh")
	i.started()
	p.shows(`^(syscache: d\d: built: 1 input, 1 row, [^\n]*\n){9}$`)
	states := i.status()
	if states["c"] != "missing" || len(states) != 10 {
		t.Errorf("while one builds: %v", states)
	}
	for name, state := range states {
		if name != "c" && state != "fresh" {
			t.Errorf("%s: %s", name, state)
		}
	}
	i.open()
	if code := p.wait(); code != 0 || i.status()["c"] != "fresh" {
		t.Errorf("exit code %d, %s", code, i.status()["c"])
	}
	p.shows(`(?m)^syscache: c: built: `)
}

// TestErrorsInOrder: by name, whichever comes first.
func TestErrorsInOrder(t *testing.T) {
	const fails = "[cache.%s]\ninputs = [\"share/**\"]\nbuild = [\"/bin/sh\", \"-c\", \"%s; exit 3\"]\n"
	i := newInstall(t, fmt.Sprintf(fails+fails, "a", "read line <SIDE/gate", "b", "echo go >SIDE/gate"))
	i.shut()
	p := i.run("refresh")
	if code := p.wait(); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	p.shows(`^syscache: build a: it failed: exit status 3\nhint: .*\nsyscache: build b: it failed: exit status 3\nhint: .*\n$`)
}

// litter returns what is in a cache's directory beyond what belongs there.
func (i *install) litter() (names []string) {
	i.t.Helper()
	dir := i.root + "/var/cache/syscache/c"
	i.must(filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), ".") {
			names = append(names, path)
		}
		return err
	}))
	return names
}

// interrupted checks how p ended, and that the next refresh works.
func (i *install) interrupted(p *process, before string) {
	i.t.Helper()
	if code := p.wait(); code != exitFailure {
		i.t.Errorf("exit code %d", code)
	}
	if got := p.text(); before != got && p.tty == nil {
		i.t.Errorf("it said %q, want %q", got, before)
	}
	if l := i.litter(); len(l) > 0 {
		i.t.Errorf("left behind: %q", l)
	}
}

const sayInterrupted = "syscache: refresh c: interrupted\n"

var signals = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}

// TestIgnored: what nohup began goes on when the terminal is gone.
func TestIgnored(t *testing.T) {
	i := newInstall(t, gated)
	i.shut()
	p := i.process(nil)
	p.cmd = exec.Command("/bin/sh", "-c", `trap "" HUP; exec syscache --root "$0" refresh`, i.root)
	r, w, err := os.Pipe()
	i.must(err)
	p.cmd.Stderr = w
	i.must(p.cmd.Start())
	w.Close()
	p.follow(r)
	i.started()
	i.must(p.cmd.Process.Signal(syscall.SIGHUP))
	i.open()
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.end())
	}
}

// TestInterrupted: a signal leaves the old state, at whatever time it comes.
func TestInterrupted(t *testing.T) {
	for _, sig := range signals {
		t.Run(sig.String(), func(t *testing.T) {
			i := newInstall(t, gated)
			i.must(i.run("refresh", "--quiet").cmd.Wait())

			// While it builds what it has built before.
			i.shut()
			p := i.run("refresh", "--force")
			builder := i.started()
			i.must(p.cmd.Process.Signal(sig))
			i.interrupted(p, sayInterrupted)
			if err := unix.Kill(builder, 0); err != unix.ESRCH {
				t.Errorf("the builder is still there: %v", err)
			}
			if s := i.status()["c"]; s != "fresh" {
				t.Errorf("the inputs are as they were, and the cache is %s", s)
			}

			// While it builds for other inputs.
			i.write("share/a", "2\n")
			p = i.run("refresh")
			i.started()
			i.must(p.cmd.Process.Signal(sig))
			i.interrupted(p, sayInterrupted)
			if s := i.status()["c"]; s != "stale" {
				t.Errorf("the inputs changed, and the cache is %s", s)
			}
			if _, stdout, _ := call(t, "--root", i.root, "status"); strings.Contains(stdout, "failed") {
				t.Errorf("an interrupt is no failure of the cache's: %s", stdout)
			}

			// While it waits for the lock.
			l, err := lock.Acquire(context.Background(), i.root+"/var/cache/syscache/c/lock", nil)
			i.must(err)
			p = i.run("refresh")
			p.shows("waiting for pid .*\n")
			waiting := p.text()
			i.must(p.cmd.Process.Signal(sig))
			i.interrupted(p, waiting+sayInterrupted)
			i.must(l.Release())

			i.must(os.Remove(i.side + "/gate"))
			if code := i.run("refresh").wait(); code != 0 || i.status()["c"] != "fresh" {
				t.Errorf("the next refresh: exit code %d, %s", code, i.status()["c"])
			}
		})
	}
}

// TestControlC: pressed during a scan, it leaves the terminal clean and the
// cache as it was.
func TestControlC(t *testing.T) {
	i := newInstall(t, gated)
	i.must(i.run("refresh", "--quiet").cmd.Wait())
	i.must(os.Truncate(i.root+"/share/a", 1<<38)) // takes minutes to read
	p := i.runOnTerminal("xterm", "refresh")
	p.shows(`c: hash, 1/~1 file, `)
	_, err := io.WriteString(p.tty, "\x03")
	i.must(err)
	i.interrupted(p, "")
	got := strings.Replace(p.text(), "^C", "", 1) // the terminal's echo
	if got := screenOf(t, got); got != sayInterrupted {
		t.Errorf("the screen is left as\n%s", got)
	}
	i.must(os.Truncate(i.root+"/share/a", 2))
	if code := i.run("refresh").wait(); code != 0 {
		t.Errorf("the next refresh: exit code %d", code)
	}
}

// TestManyInterrupted: those that had not begun are told in one line.
func TestManyInterrupted(t *testing.T) {
	var config strings.Builder
	for n := range 2 * atOnce {
		config.WriteString(strings.ReplaceAll(gated, "[cache.c]", fmt.Sprintf("[cache.c%02d]", n)))
	}
	i := newInstall(t, config.String())
	i.shut()
	p := i.run("refresh")
	for range atOnce {
		i.started()
	}
	i.must(p.cmd.Process.Signal(os.Interrupt))
	if code := p.wait(); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	lines := strings.Split(strings.TrimSpace(p.text()), "\n")
	last := fmt.Sprintf("syscache: refresh: interrupted before %d caches had begun", atOnce)
	if len(lines) != atOnce+1 || lines[atOnce] != last || !slices.IsSorted(lines[:atOnce]) {
		t.Errorf("it said\n%s", p.text())
	}
}
