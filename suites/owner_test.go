//go:build linux

package suites

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Root refreshes alice's install: her command does not run as root in any
// respect, it inherits nothing, and all that is written is hers.
func TestRootBecomesTheOwner(t *testing.T) {
	r := newRoot(t, alice)
	r.fill()
	r.write("etc/syscache.toml", fmt.Sprintf(`[cache.c]
inputs = ["lib/**"]
build  = ["%s", "argument"]
env    = { %s = "confess" }
`, self, partEnv))
	cmd := as(admin, r.syscache("refresh", "--json")...)
	// What a package manager has open, and root's groups, are none of hers.
	secret, err := os.Open("/etc/shadow")
	r.must(err)
	defer secret.Close()
	cmd.ExtraFiles = []*os.File{secret}
	cmd.SysProcAttr.Credential.Groups = []uint32{0, 61003}
	cmd.Env = append(cmd.Env, "HOME=/root", "SECRET=x", "SUDO_USER=x")
	r.succeeded(run(t, cmd))

	for path, st := range r.walk(r.dir + "/var") {
		if st.UID != uint32(alice.uid) || st.GID != nogroup {
			t.Errorf("var%s belongs to %d:%d", path, st.UID, st.GID)
		}
	}
	get := func(key string) (words []string) {
		o := r.read(bob, goReader, "get", "c", key)
		if err := json.Unmarshal([]byte(o.stdout), &words); err != nil {
			t.Fatalf("get %s: %v", key, o)
		}
		return words
	}
	id, nobodys := fmt.Sprint(alice.uid), fmt.Sprint(nogroup) // no database knows her
	for _, c := range []struct {
		key  string
		want []string
	}{
		{"Uid:", []string{id, id, id, id}},
		{"Gid:", []string{nobodys, nobodys, nobodys, nobodys}},
		{"Groups:", []string{nobodys}},
		{"CapEff:", []string{"0000000000000000"}},
		{"CapPrm:", []string{"0000000000000000"}},
		{"CapInh:", []string{"0000000000000000"}},
		{"CapAmb:", []string{"0000000000000000"}},
		{"args", []string{self, "argument"}},
		{"dir", []string{r.dir}},
	} {
		if got := get(c.key); !slices.Equal(got, c.want) {
			t.Errorf("the builder had %s %q, want %q", c.key, got, c.want)
		}
	}
	var names []string
	for _, e := range get("env") {
		name, _, _ := strings.Cut(e, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{partEnv, "SYSCACHE_CACHE", "SYSCACHE_INPUTS", "SYSCACHE_KEY", "SYSCACHE_OUT", "SYSCACHE_ROOT"}; !slices.Equal(names, want) {
		t.Errorf("the builder had the environment %q, want %q", names, want)
	}
	// LESSONS: "A builder inherits descriptors: close-on-exec".
	for _, fd := range get("fds") {
		if !strings.HasPrefix(fd, "0 pipe:") && !strings.HasPrefix(fd, "1 pipe:") && !strings.HasPrefix(fd, "2 pipe:") {
			t.Errorf("the builder inherited descriptor %s", fd)
		}
	}
}

const nogroup = 65534

// shadow is a group that root alone has.
const shadow = 42

// known has the user database know alice, with her own group and those given,
// until the test ends: in the mount namespace of the suites.
func known(t *testing.T, groups ...int) {
	t.Helper()
	passwd := fmt.Sprintf("root:x:0:0::/:/bin/sh\nalice:x:%d:%d::/:/bin/sh\n", alice.uid, alice.uid)
	group := "root:x:0:\n"
	for _, gid := range groups {
		group += fmt.Sprintf("g%d:x:%d:alice\n", gid, gid)
	}
	for path, text := range map[string]string{"/etc/passwd": passwd, "/etc/group": group} {
		file := t.TempDir() + "/file"
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount(file, path, "", syscall.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Unmount(path, 0) })
	}
}

// The group of an install's directory is whatever it was made in, or left with:
// root hands it to the owner's builder only where the owner is known to have it.
func TestRootGivesNoGroupOfItsOwn(t *testing.T) {
	for _, c := range []struct {
		name  string
		known bool
		mode  os.FileMode
		group int // of the root
		has   int
	}{
		{"unknown", false, 0o755, shadow, nogroup},
		{"unknown, of root's group", false, 0o755, 0, nogroup},
		{"known", true, 0o755, shadow, alice.uid},
		{"known, a member", true, 0o755, maintainers, alice.uid},
		{"unknown, managed", false, 0o2775, shadow, nogroup},
		{"known, managed by others", true, 0o2775, shadow, alice.uid},
		{"known, managed by a group of theirs", true, 0o2775, maintainers, maintainers},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.known {
				known(t, maintainers)
			}
			r := newRoot(t, alice)
			r.fill()
			r.write("etc/syscache.toml", fmt.Sprintf("[cache.c]\ninputs = [\"lib/**\"]\nbuild = [\"%s\"]\nenv = { %s = \"confess\" }\n", self, partEnv))
			if c.mode&0o020 != 0 {
				for _, dir := range []string{"lib", "etc", ""} { // what members share
					r.must(os.Chown(r.path(dir), alice.uid, c.group))
				}
			}
			r.must(os.Chown(r.dir, alice.uid, c.group))
			r.must(syscall.Chmod(r.dir, uint32(c.mode)))
			o := run(t, as(admin, r.syscache("refresh", "--json")...))
			r.succeeded(o)
			for _, key := range []string{"Gid:", "Groups:"} {
				if o := r.read(alice, goReader, "get", "c", key); !strings.HasPrefix(o.stdout, fmt.Sprintf("[\"%d\"", c.has)) || strings.Contains(o.stdout, fmt.Sprintf("\"%d\"", shadow)) {
					t.Errorf("the builder had %s %v", key, o)
				}
			}
		})
	}
}

// What root's session has in its keyring, no builder of another's can read, nor
// does it have capabilities that root's caller wanted kept.
func TestBuilderHasNothingOfTheSessions(t *testing.T) {
	r := newRoot(t, alice)
	r.fill()
	r.write("etc/syscache.toml", fmt.Sprintf("[cache.c]\ninputs = [\"lib/**\"]\nbuild = [\"%s\"]\nenv = { %s = \"confess\" }\n", self, partEnv))
	caps := []string{"/usr/bin/setpriv", "--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"}
	r.succeeded(run(t, asPart(admin, "hold-key", append(caps, r.syscache("refresh", "--json")...)...)))
	if o := r.read(alice, goReader, "get", "c", "key"); o.stdout != "[]\n" {
		t.Errorf("the builder reads root's key: %v", o)
	}
	for _, key := range []string{"CapEff:", "CapPrm:", "CapInh:", "CapAmb:"} {
		if o := r.read(alice, goReader, "get", "c", key); o.stdout != "[\"0000000000000000\"]\n" {
			t.Errorf("the builder had %s %v", key, o)
		}
	}
	keep := append([]string{"/usr/bin/setpriv", "--securebits", "+no_setuid_fixup"}, r.syscache("refresh", "--force")...)
	if o := run(t, as(admin, keep...)); o.code != 1 || !strings.Contains(o.stderr, "capabilities stay") {
		t.Errorf("root becomes alice and keeps its capabilities: %v", o)
	}
}

func init() { parts["confess"], parts["hold-key"] = confess, holdKey }

// holdKey runs a command in a session whose keyring has a key in it.
func holdKey(argv []string) error {
	runtime.LockOSThread()
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
		return err
	}
	if _, err := unix.AddKey("user", "syscache-test", []byte("hunter2"), unix.KEY_SPEC_SESSION_KEYRING); err != nil {
		return err
	}
	if got := sessionKey(); len(got) != 1 || got[0] != "hunter2" {
		return fmt.Errorf("the key that was added: %q", got)
	}
	os.Unsetenv(partEnv)
	return syscall.Exec(argv[0], argv, os.Environ())
}

// sessionKey returns the key that holdKey holds, if it can be read from here.
func sessionKey() []string {
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", "syscache-test", 0)
	if err != nil {
		return []string{}
	}
	b := make([]byte, 100)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, b, 0)
	if err != nil {
		return []string{}
	}
	return []string{string(b[:n])}
}

// confess is a builder that tells, in rows, what it runs as.
func confess(args []string) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	fds := []string{}
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		// Go's runtime opens some of its own, and we the directory just read.
		own := strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "/sys/fs/cgroup/") || strings.HasPrefix(to, "/proc/")
		if err == nil && !own {
			fds = append(fds, e.Name()+" "+to)
		}
	}
	dir, err := syscall.Getwd()
	if err != nil {
		return err
	}
	rows := map[string][]string{"fds": fds, "env": os.Environ(), "args": os.Args, "dir": {dir}, "key": sessionKey()}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if words := strings.Fields(line); len(words) > 0 {
			rows[words[0]] = words[1:]
		}
	}
	out := json.NewEncoder(os.Stdout)
	for key, value := range rows {
		if err := out.Encode(map[string]any{"key": key, "value": value}); err != nil {
			return err
		}
	}
	return nil
}

// Root runs no builder of an install that another user could have changed:
// a directory on the way to the cache that somebody else owns or may write is
// refused, and so is such a configuration.
func TestRefusesWhatOthersCanWrite(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(r *root) error
	}{
		{"cache_dir of bob", func(r *root) error { return os.Chown(r.dir+"/var/cache", bob.uid, bob.uid) }},
		{"cache_dir for all", func(r *root) error { return os.Chmod(r.dir+"/var/cache/syscache", 0o777) }},
		{"cache of bob", func(r *root) error { return os.Chown(r.cache(""), bob.uid, bob.uid) }},
		{"generations of bob", func(r *root) error { return os.Chown(r.cache("g"), bob.uid, bob.uid) }},
		{"configuration of bob", func(r *root) error { return os.Chown(r.dir+"/etc/syscache.toml", bob.uid, bob.uid) }},
		{"configuration for all", func(r *root) error { return os.Chmod(r.dir+"/etc/syscache.toml", 0o666) }},
		{"root for all", func(r *root) error { return os.Chmod(r.dir, 0o777) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newLines(t, admin)
			r.refresh()
			r.must(c.spoil(r))
			r.write("lib/one", "changed\n")
			r.refused()
			if r.builds() != 1 {
				t.Error("the builder ran")
			}
		})
	}
}

// Readers believe no file that somebody else could have written, and follow no
// link that lies where a file should: exit 7 in both implementations.
func TestReadersTrustOnlyTheInstall(t *testing.T) {
	elsewhere := func(name string) func(r *root) error {
		return func(r *root) error {
			moved := r.side + "/moved"
			if err := os.Rename(r.path(name), moved); err != nil {
				return err
			}
			return os.Symlink(moved, r.path(name))
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(r *root, table string) error
	}{
		{"pointer of bob", func(r *root, _ string) error { return os.Chown(r.cache("current"), bob.uid, bob.uid) }},
		{"pointer for all", func(r *root, _ string) error { return os.Chmod(r.cache("current"), 0o646) }},
		{"pointer for a group", func(r *root, _ string) error { return os.Chmod(r.cache("current"), 0o664) }},
		{"pointer is a link", func(r *root, _ string) error { return elsewhere(r.cache("current"))(r) }},
		{"pointer is a FIFO", func(r *root, _ string) error {
			os.Remove(r.cache("current"))
			return syscall.Mkfifo(r.cache("current"), 0o644)
		}},
		{"cache of bob", func(r *root, _ string) error { return os.Chown(r.cache(""), bob.uid, bob.uid) }},
		{"cache for all", func(r *root, _ string) error { return os.Chmod(r.cache(""), 0o777) }},
		{"cache is a link", func(r *root, _ string) error {
			return elsewhere(strings.TrimSuffix(r.cache(""), "/"))(r)
		}},
		{"table of bob", func(_ *root, table string) error { return os.Chown(table, bob.uid, bob.uid) }},
		{"table for all", func(_ *root, table string) error { return os.Chmod(table, 0o666) }},
		{"table is a link", func(r *root, table string) error { return elsewhere(table)(r) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newLines(t, admin)
			key := r.refresh().Key
			r.must(c.spoil(r, r.cache("g/"+key+"/table")))
			everybody(t, []user{admin, carol}, func(t *testing.T, u user, how reader) {
				if o := r.read(u, how, "get", "c", "lib/one"); o.code != 7 || o.stdout != "" {
					t.Errorf("%s (%s): %v", u.name, how.name, o)
				}
			})
		})
	}
}

// A refresh follows no link that lies where its lock should, and does not wait
// for one who can never be there.
func TestLockIsARegularFile(t *testing.T) {
	r := newLines(t, admin)
	r.refresh()
	precious := r.side + "/precious"
	r.write(precious, "precious\n")
	r.must(os.Chmod(precious, 0o640))
	r.must(os.Remove(r.cache("lock")))
	r.must(os.Symlink(precious, r.cache("lock")))
	r.refused()
	if fi, err := os.Stat(precious); err != nil || fi.Mode() != 0o640 || r.readFile(precious) != "precious\n" {
		t.Errorf("what the link leads to was touched: %v, %v", fi.Mode(), err)
	}
	r.must(os.Remove(r.cache("lock")))
	r.must(syscall.Mkfifo(r.cache("lock"), 0o600))
	r.refused()
}
