//go:build unix

package lock

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The users of a lock are processes, so most tests start some: the test binary
// itself, told by the environment which part to play.
const (
	partEnv = "SYSCACHE_LOCK_TEST_PART"
	pathEnv = "SYSCACHE_LOCK_TEST_PATH"
	argEnv  = "SYSCACHE_LOCK_TEST_ARG"
)

func TestMain(m *testing.M) {
	part, path, arg := os.Getenv(partEnv), os.Getenv(pathEnv), os.Getenv(argEnv)
	if part == "" {
		os.Exit(m.Run())
	}
	play, ok := map[string]func(path, arg string) error{
		"hold": hold, "count": count, "abandon": abandon, "linger": linger, "create": create, "try": try,
	}[part]
	if !ok {
		fmt.Fprintln(os.Stderr, "no part", part)
		os.Exit(2)
	}
	if err := play(path, arg); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// hold locks, waiting as long as it takes, and releases when its standard input ends.
func hold(path, _ string) error {
	l, err := Acquire(context.Background(), path, &Options{
		Wait:    -1,
		Waiting: func(h Holder) { fmt.Println("waiting") },
	})
	if err != nil {
		return err
	}
	fmt.Println("locked", time.Now().UnixNano())
	io.Copy(io.Discard, os.Stdin)
	if err := l.Release(); err != nil {
		return err
	}
	fmt.Println("released")
	return nil
}

// count increments the number in the file path+".count" arg times, each time
// under the lock and without any other precaution.
func count(path, arg string) error {
	io.Copy(io.Discard, os.Stdin) // the starting signal
	n, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	for range n {
		if err := increment(path); err != nil {
			return err
		}
	}
	return nil
}

func increment(path string) error {
	l, err := Acquire(context.Background(), path, &Options{Wait: -1})
	if err != nil {
		return err
	}
	defer l.Release()
	b, err := os.ReadFile(path + ".count")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(b))
	if err != nil {
		return err
	}
	return os.WriteFile(path+".count", []byte(strconv.Itoa(n+1)), 0o600)
}

// abandon locks and ends without releasing, but leaves a child behind, as a
// build command may leave a daemon.
func abandon(path, _ string) error {
	l, err := Acquire(context.Background(), path, nil)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.Command(exe)
	c.Env = append(os.Environ(), partEnv+"=linger")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		return err
	}
	fmt.Println("locked", l.Exclusive())
	os.Exit(0)
	return nil
}

func linger(_, _ string) error {
	fmt.Println("lingering")
	io.Copy(io.Discard, os.Stdin)
	fmt.Println("still there")
	return nil
}

// create locks a file of the mode in arg under the umask there: "0660 0077".
func create(path, arg string) error {
	var mode, umask uint32
	if _, err := fmt.Sscanf(arg, "%o %o", &mode, &umask); err != nil {
		return err
	}
	syscall.Umask(int(umask))
	l, err := Acquire(context.Background(), path, &Options{Mode: os.FileMode(mode)})
	if err != nil {
		return err
	}
	return l.Release()
}

// try locks twice without waiting and says how that went.
func try(path, _ string) error {
	for range 2 {
		l, err := Acquire(context.Background(), path, &Options{Warn: func(s string) { fmt.Println("warning:", s) }})
		if err != nil {
			return err
		}
		fmt.Println("exclusive", l.Exclusive())
		if err := l.Release(); err != nil {
			return err
		}
	}
	return nil
}

// patience is how long anything may take before a test fails: far longer than
// it does on a busy machine.
const patience = 30 * time.Second

type process struct {
	*exec.Cmd
	t     *testing.T
	stdin io.Closer
	pipe  *os.File
	out   *bufio.Reader // of pipe
}

// start starts a process that plays part; edit, if not nil, has the last word.
// Its output stays readable after its end, and after that of its children.
func start(t *testing.T, part, path, arg string, edit func(*exec.Cmd)) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe)
	c.Args = []string{"/opt/sage/bin/syscache", "--quiet", "refresh", "star-imports"}
	c.Env = append(os.Environ(), partEnv+"="+part, pathEnv+"="+path, argEnv+"="+arg,
		"GORACE=atexit_sleep_ms=0") // the race detector's second of sleep at the end of each
	c.Stderr = os.Stderr
	if edit != nil {
		edit(c)
	}
	inR, inW := pipe(t)
	outR, outW := pipe(t)
	c.Stdin, c.Stdout = inR, outW
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	inR.Close()
	outW.Close()
	p := &process{Cmd: c, t: t, stdin: inW, pipe: outR, out: bufio.NewReader(outR)}
	t.Cleanup(func() {
		if p.ProcessState == nil {
			p.Process.Kill()
			p.Wait()
		}
	})
	return p
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// expect reads one line, which must begin with word, and returns the rest.
func (p *process) expect(word string) string {
	p.t.Helper()
	p.pipe.SetReadDeadline(time.Now().Add(patience))
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("waiting for %q from pid %d: %v", word, p.Process.Pid, err)
	}
	rest, ok := strings.CutPrefix(line, word)
	if !ok {
		p.t.Fatalf("pid %d says %q, want %q", p.Process.Pid, line, word)
	}
	return strings.TrimSpace(rest)
}

// finish ends the process's input and waits for its good end.
func (p *process) finish() {
	p.t.Helper()
	p.stdin.Close()
	p.pipe.SetReadDeadline(time.Now().Add(patience))
	rest, _ := io.ReadAll(p.out)
	if err := p.waitOrKill(); err != nil {
		p.t.Fatalf("pid %d: %v; it said %q", p.Process.Pid, err, rest)
	}
}

func (p *process) waitOrKill() error {
	t := time.AfterFunc(patience, func() { p.Process.Kill() })
	defer t.Stop()
	return p.Wait()
}

// holder starts a process that holds the lock at path.
func holder(t *testing.T, path string) *process {
	t.Helper()
	p := start(t, "hold", path, "", nil)
	p.expect("locked")
	return p
}

func lockPath(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "lock")
}

func mustAcquire(t *testing.T, path string, o *Options) *Lock {
	t.Helper()
	l, err := Acquire(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Release() })
	if !l.Exclusive() {
		t.Fatalf("lock %s: not exclusive", path)
	}
	return l
}

func mustRelease(t *testing.T, l *Lock) {
	t.Helper()
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

func inode(t *testing.T, path string) syscall.Stat_t {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}
