package refresh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/syscache/syscache/internal/format"
)

// grace is how long after a builder's end its output may take to end too, if
// nothing of it is left to be read; patience, how long if there is: what is slow
// may be our own disk.
var (
	grace    = 2 * time.Second
	patience = 30 * grace
)

// A BuildError is the failure of a builder, or a mistake in what it built.
type BuildError struct {
	Cache  string
	Err    error
	Stderr string // a command's last lines, or the stack of a function that panicked
}

// Error returns one line; Stderr is told apart.
func (e *BuildError) Error() string { return "build " + e.Cache + ": " + e.Err.Error() }

// Unwrap returns e.Err.
func (e *BuildError) Unwrap() error { return e.Err }

// runCommand runs c's command and emits the rows that it prints. list is where
// it finds what its inputs are.
func runCommand(ctx context.Context, d disk, c *Cache, in Inputs, list string, emit func(builtRow) error) error {
	if err := writeInputList(d, list, in); err != nil {
		return err
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, &HintedError{
		fmt.Errorf("not finished after %v", timeout), "give it longer: timeout; until it is done readers miss",
	})
	defer cancel()
	cmd := &exec.Cmd{
		Path: format.Join(in.Root, c.Command[0]),
		Args: c.Command,
		Dir:  in.Root,
		Env:  commandEnv(c, in, list),
	}
	p, err := start(cmd)
	if err != nil {
		return &BuildError{c.Name, cannotRun(cmd.Path, c.Command[0], err), ""}
	}
	rows := make(chan error, 1)
	go func() { rows <- readRows(p.stdout, emit) }()
	read, err := p.finish(ctx, rows)
	p.kill()
	if !read {
		<-rows // nothing is emitted after we return
	}
	if err != nil {
		return &BuildError{c.Name, err, p.stderr.String()}
	}
	return nil
}

// cannotRun says why a command could not be started. The kernel tells of a
// script's interpreter as of the script.
func cannotRun(path, name string, err error) error {
	var run *fs.PathError
	if !errors.As(err, &run) { // it did not come to that
		return err
	}
	err = run.Err
	hint := `install it, or correct build: its first word is a path, below the root or absolute; neither PATH nor a shell is asked (for one: ["/bin/sh", "-c", "..."])`
	_, missing := os.Stat(path)
	switch {
	case exhausted(err), errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("cannot run %s: %w", name, err) // no mistake of whoever wrote it
	case errors.Is(err, fs.ErrNotExist) && missing == nil:
		hint = "its first line names an interpreter that does not exist: correct that, or install it"
	case errors.Is(err, syscall.ENOEXEC):
		hint = "begin it with a line such as #!/bin/sh"
	case errors.Is(err, fs.ErrPermission):
		hint = "let whoever refreshes execute it: chmod +x"
	}
	return &HintedError{fmt.Errorf("cannot run %s: %w", name, err), hint}
}

// exhausted says whether it is the system, or a limit, that has nothing left:
// no mistake of whoever configured something.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// A process is a builder that runs, in a session of its own.
type process struct {
	cmd    *exec.Cmd
	stdout *os.File
	stderr *tail
	exited chan error // one value when the builder has ended
	gone   chan bool  // closed then
	quiet  chan bool  // closed when its stderr has ended
}

// starting is held from the making of a builder's pipes until our ends for it
// are closed. Another builder's process has them, too, between fork and exec,
// which on a busy machine takes seconds: it would count as one that this
// builder left behind.
var starting sync.Mutex

// start starts cmd with nothing of ours but the two pipes: a child that
// outlives the builder can hold neither the lock nor a file of ours.
func start(cmd *exec.Cmd) (*process, error) {
	starting.Lock()
	defer starting.Unlock()
	// An empty pipe rather than /dev/null, which a chroot may lack.
	stdin, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	w.Close()
	defer stdin.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer outW.Close()
	errR, errW, err := os.Pipe()
	if err != nil {
		outR.Close()
		return nil, err
	}
	defer errW.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, outW, errW
	cmd.SysProcAttr = ownSession()
	p := &process{cmd: cmd, stdout: outR, stderr: &tail{}, exited: make(chan error, 1), gone: make(chan bool), quiet: make(chan bool)}
	started := make(chan error, 1)
	go func() {
		// The kernel ends the builder with the thread that started it, so
		// that thread must last as long as the builder.
		runtime.LockOSThread()
		var err error
		if became {
			err = strip() // and the thread ends with this goroutine
		} else {
			defer runtime.UnlockOSThread()
		}
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			p.exited <- cmd.Wait()
			close(p.gone)
		}
	}()
	if err := <-started; err != nil {
		outR.Close()
		errR.Close()
		return nil, err
	}
	go func() {
		io.Copy(p.stderr, errR)
		errR.Close()
		close(p.quiet)
	}()
	return p, nil
}

// finish waits for the builder and for the reading of its output, and says
// whether the latter has ended.
func (p *process) finish(ctx context.Context, rows <-chan error) (read bool, err error) {
	exited := false
	var late <-chan time.Time
	var since time.Time
	for !read || !exited {
		select {
		case err := <-rows:
			read = true
			if err != nil {
				return read, p.firstCause(err)
			}
		case err := <-p.exited:
			if err != nil {
				p.settle()
				return read, fmt.Errorf("it failed: %w", err)
			}
			exited, since = true, time.Now()
			late = time.After(grace)
		case <-late:
			if time.Since(since) < patience && unread(p.stdout) {
				late = time.After(grace)
				continue
			}
			return read, &HintedError{
				errors.New("it left a process behind that holds its output open"),
				"let it wait for what it starts, or redirect the output of that",
			}
		case <-ctx.Done():
			return read, context.Cause(ctx)
		}
	}
	p.settle()
	return read, nil
}

// firstCause returns the builder's own failure if there is one: a bad last
// line is then only what it left.
func (p *process) firstCause(err error) error {
	select {
	case exit := <-p.exited:
		if exit != nil {
			err = fmt.Errorf("it failed: %w", exit)
		}
	case <-time.After(grace / 10):
	}
	p.settle()
	return err
}

// settle waits a moment for the rest of stderr.
func (p *process) settle() {
	select {
	case <-p.quiet:
	case <-time.After(grace / 10):
	}
}

// kill ends whatever is left of the builder's process group and our reading.
func (p *process) kill() {
	select {
	case <-p.gone:
		killRest(p.cmd.Process.Pid)
	default:
		killGroup(p.cmd.Process.Pid)
	}
	p.stdout.Close()
	select { // it no longer runs when we return, or the kernel cannot end it
	case <-p.gone:
	case <-time.After(grace):
	}
}

func commandEnv(c *Cache, in Inputs, list string) []string {
	env := []string{
		"SYSCACHE_ROOT=" + in.Root,
		"SYSCACHE_CACHE=" + c.Name,
		"SYSCACHE_INPUTS=" + list,
		"SYSCACHE_OUT=" + in.Out,
	}
	if !c.each() { // else the next generation, of another key, has the same rows
		env = append(env, "SYSCACHE_KEY="+in.Key.String())
	}
	for name, value := range c.Env {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}

// writeInputList writes what SYSCACHE_INPUTS names: for each input its digest,
// two spaces, its path and a NUL, as sha256sum -z does.
func writeInputList(d disk, path string, in Inputs) error {
	var b bytes.Buffer
	for _, f := range in.Files {
		fmt.Fprintf(&b, "%s  %s\x00", f.Digest, f.Path)
	}
	f, err := d.Create(path)
	if err != nil {
		return err
	}
	err = writeAll(f, b.Bytes())
	return errors.Join(err, f.Close())
}

// A tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const (
	tailBytes = 8 << 10
	tailLines = 20
)

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if len(t.b) > 2*tailBytes {
		t.b = append(t.b[:0], t.b[len(t.b)-tailBytes:]...)
	}
	return len(b), nil
}

// String returns the last lines, with what could control a terminal made
// visible.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimRight(string(t.b[max(0, len(t.b)-tailBytes):]), "\n"), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	for i, l := range lines {
		lines[i] = strings.Map(func(r rune) rune {
			if r != '\t' && (r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0) {
				return '\uFFFD'
			}
			return r
		}, l)
	}
	return strings.Join(lines, "\n")
}
