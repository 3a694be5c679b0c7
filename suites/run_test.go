//go:build linux

package suites

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A user is one of those who share an install. None needs a passwd entry.
type user struct {
	name string
	uid  int
}

var (
	admin = user{"root", 0}
	alice = user{"alice", 61001}
	bob   = user{"bob", 61002}
	carol = user{"carol", 61003}
)

// limit bounds every process that a test waits for: nothing here takes as long.
const limit = 2 * time.Minute

// An outcome is how a process ended.
type outcome struct {
	stdout, stderr string
	code           int // -1: by a signal
	took           time.Duration
	usage          *syscall.Rusage
}

func (o outcome) String() string {
	return "exit " + strconv.Itoa(o.code) + "\nstdout: " + o.stdout + "\nstderr: " + o.stderr
}

// as returns a command that runs as u, in a group of its own and with little
// in its environment.
func as(u user, argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:    true,
		Pdeathsig:  syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.uid)},
	}
	return cmd
}

// asPart returns a command that has this binary play a part.
func asPart(u user, part string, args ...string) *exec.Cmd {
	cmd := as(u, append([]string{self}, args...)...)
	// A binary that the race detector watches would sleep a second at its end.
	cmd.Env = append(cmd.Env, partEnv+"="+part, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// A running process is one that has been started.
type running struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err bytes.Buffer
	start    time.Time
	done     chan struct{}
	failed   error
}

// start starts cmd, and ends it with the test if it has not ended by then.
func start(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{t: t, cmd: cmd, start: time.Now(), done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &r.out
	}
	cmd.Stderr = &r.err
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	go func() {
		r.failed = cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		// Where it has ended, a process of that number is another's.
		if !r.ended() || syscall.Kill(cmd.Process.Pid, 0) == syscall.ESRCH {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		<-r.done
	})
	return r
}

// ended says whether the process has ended.
func (r *running) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// wait waits for the end.
func (r *running) wait() outcome {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	select {
	case <-r.done:
	case <-ctx.Done():
		r.t.Fatalf("%s has not ended after %v\nstderr: %s", strings.Join(r.cmd.Args, " "), limit, r.err.String())
	}
	var exit *exec.ExitError
	if r.failed != nil && !errors.As(r.failed, &exit) {
		r.t.Fatalf("%s: %v", strings.Join(r.cmd.Args, " "), r.failed)
	}
	usage, _ := r.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return outcome{r.out.String(), r.err.String(), r.cmd.ProcessState.ExitCode(), time.Since(r.start), usage}
}

func run(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	return start(t, cmd).wait()
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// A reader is one of the two implementations.
type reader struct {
	name    string
	command func(root string, args ...string) []string
}

var (
	goReader     = reader{"go", func(root string, args ...string) []string { return append([]string{tool, "--root", root}, args...) }}
	pythonReader = reader{"python", func(root string, args ...string) []string {
		return append([]string{"/usr/bin/python3", "-ISB", python, "--root", root}, args...)
	}}
	readers = []reader{goReader, pythonReader}
)

// everybody calls f for each user and reader.
func everybody(t *testing.T, users []user, f func(t *testing.T, u user, how reader)) {
	t.Helper()
	for _, u := range users {
		for _, how := range readers {
			f(t, u, how)
		}
	}
}

// kill ends a process that a test's builder left, as processes names it.
func kill(t *testing.T, process string) {
	t.Helper()
	pid, err := strconv.Atoi(strings.Fields(process)[0])
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Error(err)
	}
}

// processes returns the id and command line of the processes whose environment
// or command line contains mark.
func processes(t *testing.T, mark string) (pids []string) {
	t.Helper()
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if _, err := strconv.Atoi(d.Name()); err != nil {
			continue
		}
		env, _ := os.ReadFile("/proc/" + d.Name() + "/environ")
		line, _ := os.ReadFile("/proc/" + d.Name() + "/cmdline")
		if bytes.Contains(env, []byte(mark)) || bytes.Contains(line, []byte(mark)) {
			pids = append(pids, d.Name()+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return pids
}
