package refresh

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix/unixtest"
	"github.com/syscache/syscache/lock"
)

// patient returns a root that is in good health: two caches, refreshed.
func patient(t *testing.T) string {
	t.Helper()
	top, err := os.MkdirTemp("", "syscache-doctor-") // unlike t.TempDir's, its parents let all in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	root := top + "/root"
	writeFile(t, root+"/share/MANIFEST", "1\n", 0o644)
	writeFile(t, root+"/lib/a", "a", 0o644)
	writeFile(t, root+"/libexec/build", "#!/bin/sh\n", 0o755)
	writeFile(t, root+"/etc/syscache.toml", `[cache.a]
inputs = ["lib/**"]
witness = ["share/MANIFEST"]
build = ["libexec/build"]
recipe = ["libexec/*"]
[cache.b]
inputs = ["lib/**"]
`, 0o644)
	for _, dir := range []string{top, root} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	in := loadFile(t, root)
	for _, c := range []string{"a", "b"} {
		if _, err := in.Refresh(t.Context(), c, nil); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func loadFile(t *testing.T, root string) *Install {
	t.Helper()
	in, err := Load(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// TestDoctor makes one thing after the other bad, for real.
func TestDoctor(t *testing.T) {
	chmod := func(path string, mode os.FileMode) func(root string) error {
		return func(root string) error { return os.Chmod(root+path, mode) }
	}
	notRoot := errors.New("not root")
	chown := func(path string, uid, gid int) func(root string) error {
		return func(root string) error {
			if os.Geteuid() != 0 {
				return notRoot
			}
			return os.Chown(root+path, uid, gid)
		}
	}
	write := func(path, text string, mode os.FileMode) func(root string) error {
		return func(root string) error { writeFile(t, root+path, text, mode); return os.Chmod(root+path, mode) }
	}
	appendTo := func(path, text string) func(root string) error {
		return func(root string) error {
			b, err := os.ReadFile(root + path)
			writeFile(t, root+path, string(b)+text, 0o644)
			return err
		}
	}
	witness := func(w string) func(root string) error {
		return func(root string) error {
			writeFile(t, root+"/etc/syscache.toml", fmt.Sprintf("[cache.a]\ninputs = [\"lib/**\"]\nwitness = [%q]\n", w), 0o644)
			return nil
		}
	}
	both := func(steps ...func(root string) error) func(root string) error {
		return func(root string) error {
			for _, step := range steps {
				if err := step(root); err != nil {
					return err
				}
			}
			return nil
		}
	}
	// The kernel sets no time of change that a test could choose.
	repoint := func(cache string, change func(p *format.Pointer)) func(root string) error {
		return func(root string) error {
			path := root + "/var/cache/syscache/" + cache + "/current"
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			p, err := format.DecodePointer(b)
			if err != nil {
				return err
			}
			change(p)
			if b, err = p.Encode(); err != nil {
				return err
			}
			return os.WriteFile(path, b, 0o644)
		}
	}
	const cacheDir = "/var/cache/syscache"
	for name, tc := range map[string]struct {
		make  func(root string) error
		level Level
		check string
		want  string
	}{
		"a parent that all can write":        {chmod("/..", 0o777), Problem, "above", "everyone can write"},
		"a parent that keeps users out":      {chmod("/..", 0o700), Warning, "above", "not everyone can enter"},
		"a parent that its group can write":  {both(chown("/..", 0, 61003), chmod("/..", 0o775)), Warning, "above", "group 61003 can write"},
		"a parent of another's":              {chown("/..", 61003, 0), Problem, "above", "belongs to uid 61003"},
		"a closed way to the cache_dir":      {chmod("/var/cache", 0o750), Problem, "cache-dir", "/var/cache (mode 0750): the others find no cache"},
		"a closed cache":                     {chmod(cacheDir+"/a/g", 0o700), Problem, "state", "/a/g (mode 0700): the others miss"},
		"a closed pointer":                   {chmod(cacheDir+"/a/current", 0o600), Problem, "state", "not everyone can read"},
		"a private root":                     {chmod("", 0o750), OK, "audience", "others cannot enter it (mode 0750)"},
		"a managed root":                     {chmod("", 0o2775), OK, "audience", "refresh, but not root"},
		"a cache_dir that all can write":     {chmod(cacheDir, 0o777), Problem, "cache-dir", "everyone can write"},
		"a pointer that all can write":       {chmod(cacheDir+"/a/current", 0o666), Problem, "state", "untrusted"},
		"a damaged pointer":                  {write(cacheDir+"/a/current", "nonsense", 0o644), Problem, "state", "corrupt"},
		"no cache_dir yet":                   {func(root string) error { return os.RemoveAll(root + "/var") }, Note, "cache-dir", "does not exist yet"},
		"a configuration that all can write": {chmod("/etc/syscache.toml", 0o666), Problem, "configuration", "everyone can write it"},
		"a mistake":                          {appendTo("/etc/syscache.toml", "x = 1\n"), Problem, "configuration", "unknown key"},
		"no configuration":                   {func(root string) error { return os.RemoveAll(root + "/etc") }, Note, "configuration", "nothing is configured"},
		"stale":                              {write("/share/MANIFEST", "2\n", 0o644), Note, "state", "stale"},
		"an input whose times certify nothing": {repoint("b", func(p *format.Pointer) {
			p.Stats = format.EncodeStats([]format.StatDir{{Path: "lib", Files: []format.StatFile{{Name: "a"}}}})
		}), Problem, "times", "lib/a certified nothing"},
		"what readers are told of that": {repoint("b", func(p *format.Pointer) {
			p.Stats = format.EncodeStats([]format.StatDir{{Path: "lib", Files: []format.StatFile{{Name: "a"}}}})
		}), Note, "state", "or an image's (look at the clock, touch what is named"},
		"a directory whose times certify nothing": {repoint("b", func(p *format.Pointer) {
			p.Stats = format.EncodeStats([]format.StatDir{{Path: "lib", Check: true}})
		}), Problem, "times", "lib certified nothing"},
		"a witness whose times certify nothing": {
			repoint("a", func(p *format.Pointer) { p.Witnesses[0].Identity = [32]byte{} }), Warning, "times", "witness share/MANIFEST certified nothing",
		},
		"a cache_dir that leads elsewhere": {both(func(root string) error { return os.Rename(root+cacheDir, root+"/../elsewhere") }, func(root string) error { return os.Symlink("../../../elsewhere", root+cacheDir) }), Note, "locking", "syscache is not a directory"},
		"a lock that is a FIFO":            {both(func(root string) error { return os.Remove(root + cacheDir + "/a/lock") }, func(root string) error { return unixtest.Mkfifo(root+cacheDir+"/a/lock", 0o600) }), Problem, "locking", "it is not a regular file"},
		"a lock that all can open":         {chmod(cacheDir+"/a/lock", 0o644), Warning, "locking", "keep all refreshers out"},
		"a stranger in a cache":            {write(cacheDir+"/a/core", "", 0o600), Note, "leftovers", "/a/core is nothing of syscache's"},
		"a stranger among the generations": {write(cacheDir+"/a/g/\n", "", 0o600), Note, "leftovers", `/a/g/\n" is nothing of syscache's`},
		"a probe is left":                  {write(cacheDir+"/.new-1", "", 0o600), Note, "leftovers", "of a doctor that was killed"},
		"a token is left":                  {write(cacheDir+"/a/.pending-1", "", 0o600), Note, "leftovers", "a refresh was killed: 1 leftover"},
		"staging is left":                  {write(cacheDir+"/a/g/.new-1/x", "", 0o600), Note, "leftovers", "a refresh was killed: 1 leftover"},
		"a superseded generation":          {both(write("/lib/a", "b", 0o644), func(root string) error { _, err := loadFile(t, root).Refresh(t.Context(), "a", nil); return err }), Note, "leftovers", "1 generation that readers are no longer led to, kept for 24h"},
		"an undeclared cache":              {witness("share/MANIFEST"), Note, "leftovers", "cache b is not configured"},
		"a stranger in the cache_dir":      {write(cacheDir+"/README", "", 0o644), Note, "leftovers", "is nothing of syscache's"},
		"dpkg's status":                    {both(write("/var/lib/dpkg/status", "", 0o644), witness("var/lib/dpkg/status")), Warning, "witness", "var/lib/dpkg/status is a bad witness"},
		"rpm's database":                   {both(write("/usr/lib/sysimage/rpm/rpmdb.sqlite", "", 0o644), witness("usr/lib/sysimage/rpm/rpmdb.sqlite")), Warning, "witness", "is a bad witness"},
		"rpm's directory":                  {both(write("/var/lib/rpm/x", "", 0o644), witness("var/lib/rpm/")), Warning, "witness", "is a bad witness"},
		"git's HEAD":                       {both(write("/.git/HEAD", "", 0o644), witness(".git/HEAD")), Warning, "witness", "is a bad witness"},
		"a branch":                         {both(write("/.git/refs/heads/main", "", 0o644), witness(".git/refs/heads/main")), Warning, "witness", "is a bad witness"},
		"a witness that is not there":      {witness("share/none"), Warning, "witness", "witness share/none does not exist"},
		"a witness behind a door":          {both(write("/share/private/W", "", 0o644), chmod("/share/private", 0o750), witness("share/private/W")), Problem, "witness", "/share/private (mode 0750): the others miss, for they cannot check witness share/private/W"},
		"a witness through a link":         {both(func(root string) error { return os.Symlink("share", root+"/link") }, witness("link/MANIFEST")), Problem, "witness", "goes through the symbolic link"},
		"a link as a witness":              {both(func(root string) error { return os.Symlink("MANIFEST", root+"/share/l") }, witness("share/l")), Note, "witness", "is a symbolic link"},
		"a big witness":                    {both(write("/share/big", strings.Repeat("x", 2<<20), 0o644), witness("share/big")), Note, "witness", "has 2097152 bytes"},
		"a directory of many": {both(func(root string) error {
			for i := range manyEntries + 1 {
				writeFile(t, fmt.Sprintf("%s/share/many/%d", root, i), "", 0o644)
			}
			return nil
		}, witness("share/many/")), Note, "witness", "has 1001 entries"},
		"a witness for few":                {chmod("/share/MANIFEST", 0o600), Note, "witness", "not everyone can read witness share/MANIFEST (mode 0600)"},
		"a directory for few":              {both(chmod("/share", 0o711), witness("share/")), Problem, "witness", "not everyone can list witness share (mode 0711)"},
		"no witness":                       {write("/etc/syscache.toml", "[cache.a]\ninputs = [\"lib/**\"]\nwitness = []\n", 0o644), Note, "witness", "it has no witness"},
		"a builder that is gone":           {func(root string) error { return os.Remove(root + "/libexec/build") }, Problem, "builder", "syscache.toml:4:10: "},
		"a builder that is not executable": {chmod("/libexec/build", 0o644), Problem, "builder", "is not a file that the owner of the install can execute"},
		"a builder that all can write":     {chmod("/libexec/build", 0o777), Problem, "builder", "everyone can write"},
		"a builder without #!":             {write("/libexec/build", "echo\n", 0o755), Problem, "builder", "without a first line"},
		"a builder without interpreter":    {write("/libexec/build", "#!/none/sh -e\n", 0o755), Problem, "builder", "is run by /none/sh: no such file"},
		"a builder with carriage returns":  {write("/libexec/build", "#!/bin/sh\r\n", 0o755), Problem, "builder", `is run by "/bin/sh\r": no such file`},
		"a builder with a bad interpreter": {write("/libexec/build", "#! /etc/passwd -e\n", 0o755), Problem, "builder", "is run by /etc/passwd, which cannot be executed"},
		"a builder for root alone":         {both(chmod("/libexec/build", 0o710), chown("", 61001, 61001)), Problem, "builder", "can execute (uid 0, mode 0710)"},
		"a FIFO as builder":                {both(func(root string) error { return os.Remove(root + "/libexec/build") }, func(root string) error { return unixtest.Mkfifo(root+"/libexec/build", 0o755) }), Problem, "builder", "is not a file"},
		"a builder that is no recipe":      {write("/etc/syscache.toml", "[cache.a]\ninputs = [\"lib/**\"]\nbuild = [\"libexec/build\"]\n", 0o644), Note, "builder", "libexec/build is not in recipe"},
		"a builder that failed": {both(write("/libexec/build", "#!/bin/sh\nexit 3\n", 0o755), func(root string) error {
			if _, err := loadFile(t, root).Refresh(t.Context(), "a", nil); err == nil {
				return errors.New("it did not fail")
			}
			return nil
		}), Warning, "state", "the last refresh failed at"},
	} {
		t.Run(name, func(t *testing.T) {
			root := patient(t)
			if err := tc.make(root); errors.Is(err, notRoot) {
				t.Skip("skipped: not root")
			} else if err != nil {
				t.Fatal(err)
			}
			found := loadFile(t, root).Doctor(t.Context())
			if !slices.ContainsFunc(found, func(f Finding) bool {
				return f.Level == tc.level && f.Check == tc.check && strings.Contains(f.Message+" ("+f.Hint, tc.want)
			}) {
				t.Errorf("no %s of %s: %s\n%s", tc.level, tc.check, tc.want, show(found))
			}
			for _, f := range found {
				if f.Hint == "" && (f.Level == Warning || f.Level == Problem) || strings.Contains(f.Message, "\n") {
					t.Errorf("without a hint, or of many lines: %+v", f)
				}
			}
		})
	}
}

func show(found []Finding) string {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "  %s %s %s: %s (%s)\n", f.Level, f.Check, f.Cache, f.Message, f.Hint)
	}
	return b.String()
}

// TestDoctorOfGoodHealth: there is nothing to complain of, each check has
// spoken, and nothing is left behind.
func TestDoctorOfGoodHealth(t *testing.T) {
	root := patient(t)
	before := tree(t, root)
	found := loadFile(t, root).Doctor(t.Context())
	var checks []string
	for _, f := range found {
		if f.Level != OK {
			t.Errorf("%+v", f)
		}
		checks = append(checks, f.Check)
	}
	for _, want := range []string{"above", "audience", "file-system", "locking", "clock", "space", "configuration", "state", "cost"} {
		if !slices.Contains(checks, want) {
			t.Errorf("nothing of %s", want)
		}
	}
	after := tree(t, root)
	for path := range after {
		if _, ok := before[path]; !ok {
			t.Errorf("left: %s", path)
		}
	}
}

// TestDoctorOfAPrivateRoot: whom the root keeps out is not missed further down.
func TestDoctorOfAPrivateRoot(t *testing.T) {
	for _, mode := range []os.FileMode{0o700, 0o750} {
		root := patient(t)
		for _, dir := range []string{"", "/share", "/var", "/var/cache/syscache/a/g"} {
			if err := os.Chmod(root+dir, mode); err != nil {
				t.Fatal(err)
			}
		}
		found := loadFile(t, root).Doctor(t.Context())
		if slices.ContainsFunc(found, func(f Finding) bool { return f.Level == Problem || f.Level == Warning }) {
			t.Errorf("of mode %v:\n%s", mode, show(found))
		}
		elsewhere, err := Load(root, &LoadOptions{CacheDir: root + "/../caches"})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []string{"a", "b"} {
			if _, err := elsewhere.Refresh(t.Context(), c, nil); err != nil {
				t.Fatal(err)
			}
		}
		found = elsewhere.Doctor(t.Context())
		if slices.ContainsFunc(found, func(f Finding) bool { return f.Level == Problem || f.Level == Warning }) {
			t.Errorf("of mode %v, with caches elsewhere:\n%s", mode, show(found))
		}
	}
}

// TestDoctorWhileRefreshing: what a refresher works on is no leftover.
func TestDoctorWhileRefreshing(t *testing.T) {
	root := patient(t)
	dir := root + "/" + format.CacheDir + "/a/"
	writeFile(t, dir+format.TokenPrefix+"1", "", 0o600)
	l, err := lock.Acquire(t.Context(), dir+format.Lock, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if found := show(loadFile(t, root).Doctor(t.Context())); !strings.Contains(found, "it is being refreshed") || strings.Contains(found, "killed") {
		t.Error(found)
	}
}

// TestDoctorLeavesTheLock as it is: nobody holds one that is not there.
func TestDoctorLeavesTheLock(t *testing.T) {
	root := patient(t)
	dir := root + "/" + format.CacheDir + "/a/"
	writeFile(t, dir+format.TokenPrefix+"1", "", 0o600)
	look := func() {
		t.Helper()
		if found := show(loadFile(t, root).Doctor(t.Context())); !strings.Contains(found, "a refresh was killed") {
			t.Error(found)
		}
	}
	if err := os.Chmod(dir+format.Lock, 0o640); err != nil {
		t.Fatal(err)
	}
	look()
	if fi, err := os.Lstat(dir + format.Lock); err != nil || fi.Mode() != 0o640 {
		t.Error("it changed the lock:", fi.Mode(), err)
	}
	if err := os.Remove(dir + format.Lock); err != nil {
		t.Fatal(err)
	}
	look()
	if _, err := os.Lstat(dir + format.Lock); !errors.Is(err, os.ErrNotExist) {
		t.Error("it made a lock:", err)
	}
}

// TestDoctorOfAnImage: it has no identities, so readers read the witness.
func TestDoctorOfAnImage(t *testing.T) {
	root := patient(t)
	in, err := Load(root, &LoadOptions{CacheDir: root + "/" + format.ImageCacheDir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Refresh(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	if found := show(in.Doctor(t.Context())); strings.Contains(found, "problem") || strings.Contains(found, "certified nothing") {
		t.Error(found)
	}
	if err := os.Chmod(root+"/share/MANIFEST", 0o600); err != nil {
		t.Fatal(err)
	}
	if found := show(in.Doctor(t.Context())); !strings.Contains(found, "problem witness a: not everyone can read") {
		t.Error(found)
	}
	// Where nobody named it, readers find it all the same.
	if err := errors.Join(os.RemoveAll(root+"/var"), os.Chmod(root+"/usr", 0o700), os.Chmod(root+"/..", 0o700)); err != nil {
		t.Fatal(err)
	}
	if found := show(loadFile(t, root).Doctor(t.Context())); !strings.Contains(found, "problem state a: not everyone can enter "+root+"/usr (mode 0700)") ||
		!strings.Contains(found, "problem witness a: not everyone can read") || strings.Contains(found, "certified nothing") || strings.Count(found, "can enter") != 2 { // and the parent, once
		t.Error(found)
	}
}

// TestDoctorCountsStats: the witness itself, and what is in it.
func TestDoctorCountsStats(t *testing.T) {
	root := patient(t)
	writeFile(t, root+"/etc/syscache.toml", "[cache.a]\ninputs = [\"lib/**\"]\nwitness = [\"share/\", \"lib/a\"]\n", 0o644)
	if _, err := loadFile(t, root).Refresh(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	if found := show(loadFile(t, root).Doctor(t.Context())); !strings.Contains(found, "(3 stats)") {
		t.Error(found)
	}
}

// TestDoctorOfASharedCacheDir: of two roots that name a cache alike the first
// has it.
func TestDoctorOfASharedCacheDir(t *testing.T) {
	first, second := patient(t), patient(t)
	load := func(root string) *Install {
		in, err := Load(root, &LoadOptions{CacheDir: first + "/../shared"})
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	for _, c := range []string{"a", "b"} {
		if _, err := load(first).Refresh(t.Context(), c, nil); err != nil {
			t.Fatal(err)
		}
	}
	if found := show(load(first).Doctor(t.Context())); strings.Contains(found, "another root") || !strings.Contains(found, "ok state a: fresh") {
		t.Error(found)
	}
	if found := show(load(second).Doctor(t.Context())); !strings.Contains(found, "problem state a: the cache_dir holds a cache of this name of another root, "+first) {
		t.Error(found)
	}
	writeFile(t, second+"/etc/syscache.toml", "[cache.c]\ninputs = [\"lib/**\"]\n", 0o644)
	if found := show(load(second).Doctor(t.Context())); !strings.Contains(found, "shared/a is a cache of another root") {
		t.Error(found)
	}
}

// TestDoctorOfAFullDisk has the root on file systems that are full, in one way
// or another.
func TestDoctorOfAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: not root")
	}
	many := `[cache.a]
kind = "files"
inputs = ["lib/**"]
build = ["/bin/sh", "-c", "cd $SYSCACHE_OUT; i=0; while [ $i -lt 600 ]; do : >$i; i=$((i+1)); done"]
`
	for _, tc := range []struct{ options, config, want string }{
		{"size=64k", "", "bytes free"},
		{"nr_inodes=40", "", "inodes left"},
		{"nr_inodes=1700", many, "inodes left; what is published takes 600"},
		{"ro", "", "nobody can refresh: "},
	} {
		root := patient(t)
		dir := root + "/var"
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=755,"+tc.options, "tmpfs", dir).CombinedOutput(); err != nil {
			t.Skipf("skipped: no mount: %v\n%s", err, out)
		}
		if tc.config != "" {
			writeFile(t, root+"/etc/syscache.toml", tc.config, 0o644)
			if _, err := loadFile(t, root).Refresh(t.Context(), "a", nil); err != nil {
				t.Error(err)
			}
		}
		found := show(loadFile(t, root).Doctor(t.Context()))
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		for _, want := range []string{tc.want, "the cache_dir is on tmpfs, another than the root's"} {
			if !strings.Contains(found, want) {
				t.Errorf("%s: nothing of %s:\n%s", tc.options, want, found)
			}
		}
	}
}
