package survey

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/syscache/syscache/internal/format"
	"github.com/syscache/syscache/internal/unix"
)

// atRefresh ends what a witness does not show.
const atRefresh = " Refresh after it."

// python finds site-packages, and with them whether conda made the tree.
func python(t *tree) *Cache {
	const conda = "conda-meta/history"
	dirs, left := siteDirs(t)
	c := &Cache{Name: "python"}
	if t.isFile(conda) {
		c.Witness = []string{conda}
	}
	if len(dirs) == 0 {
		if c.Witness == nil {
			return nil
		}
		return condaOnly(c)
	}
	stats := count{n: len(c.Witness)}
	for _, dir := range dirs {
		pattern, _ := literal(dir)
		c.Inputs = append(c.Inputs, pattern+"/**/*.{py,so}")
		c.Witness = append(c.Witness, dir+"/")
		n := t.entries(dir)
		stats.n += n.n + 1
		stats.more = stats.more || n.more
	}
	c.Found = "Python: " + show(dirs) + left
	c.Shows = "packages that pip installs, upgrades or removes: their dist-info directories come and go beside them. "
	if c.Witness[0] == conda {
		c.Found = "Python in a conda environment: " + show(dirs) + left
		c.Shows += "And every transaction of conda or mamba: " + conda + " is written after its files."
	}
	c.Hides = "an edit in place below a package, nor one version installed over itself, nor code that lies elsewhere (pip install -e)." + atRefresh +
		" And not while pip runs: what it still writes then could go unnoticed."
	c.Costs = stats.cost()
	return c
}

func condaOnly(c *Cache) *Cache {
	c.Name, c.Inputs = "conda", []string{"conda-meta/*.json"}
	c.Found = "A conda environment without Python: what is installed in it."
	c.Shows = "every transaction of conda or mamba: the history is written after its files."
	c.Hides = "an edit by anything else." + atRefresh
	c.Costs = count{n: 1}.cost()
	return c
}

// siteDirs returns the directories that hold a Python's packages, and what to
// say of those that cannot be named.
func siteDirs(t *tree) (dirs []string, left string) {
	const most = 8 // more are no install, but somebody's joke
	for _, lib := range []string{"lib", "usr/lib"} {
		if !t.isDir(lib) {
			continue
		}
		for _, name := range t.names(lib) {
			for _, site := range []string{"site-packages", "dist-packages"} {
				dir := lib + "/" + name + "/" + site
				if !strings.HasPrefix(name, "python3") || !t.isDir(dir) {
					continue
				}
				if _, ok := literal(dir); !ok || len(dirs) == most {
					left = ". Left out: " + format.Show(dir)
					continue
				}
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs, left
}

// spack finds a Spack instance, or the tree of installs of one. Spack renames
// its index into place after the files of a package and, when it was built, its
// post-install hooks; those of a binary package run afterwards.
func spack(t *tree) *Cache {
	for _, store := range []string{"opt/spack/", ""} {
		index := store + ".spack-db/index.json"
		if !t.isFile(index) {
			continue
		}
		return &Cache{
			Name:    "spack",
			Inputs:  []string{store + "*/*/.spack/spec.json", store + "*/*/*/.spack/spec.json"},
			Witness: []string{index},
			Found:   "Spack: the spec of every package that is installed.",
			Shows:   "packages installed or removed: Spack writes the index after their files.",
			Hides:   "what changes in a package's prefix without Spack." + atRefresh + " And not from a hook of Spack's: the index is written after most of them, so the cache would be stale at once.",
			Costs:   count{n: 1}.cost(),
		}
	}
	return nil
}

// dpkg finds a system that dpkg installed.
func dpkg(t *tree) *Cache {
	const info = "var/lib/dpkg/info"
	if !t.isFile("var/lib/dpkg/status") || !t.isDir(info) {
		return nil
	}
	n := t.entries(info)
	n.n++
	return &Cache{
		Name:    "dpkg",
		Inputs:  []string{info + "/*.list"},
		Witness: []string{info + "/"},
		Found: "dpkg: the list of files of every package. For what the packages brought, name it instead, as in usr/share/applications/**: " +
			"the witness is as good for that. (var/lib/dpkg/status is not: it is rewritten after the hooks have run.)",
		Shows: "packages installed, upgraded or removed.",
		Hides: "an edit of a package's files without dpkg." + atRefresh,
		Costs: n.cost(),
	}
}

// git finds a work tree. An update moves the log of HEAD after the files; HEAD
// itself stays as it is on a pull. git appends to a log that exists, whatever
// core.logAllRefUpdates is.
func git(t *tree) *Cache {
	st := t.look(".git")
	if st == nil || isType(st, unix.S_IFDIR) && t.lstat(".git/HEAD") == nil ||
		!isType(st, unix.S_IFDIR) && !isType(st, unix.S_IFREG) { // a file: the repository is elsewhere
		return nil
	}
	c := &Cache{Name: "git", Inputs: []string{"**"}, Exclude: []string{".git/**"}}
	if t.isFile(".git/logs/HEAD") {
		c.Found = "A git work tree. Let git ignore var/cache/syscache, lest git clean removes it."
		c.Witness = []string{".git/logs/HEAD"}
		c.Shows = "a commit, pull, checkout or reset: git writes the log after the files. (.git/HEAD does not change on a pull.)"
		c.Hides = "an uncommitted edit in the work tree." + atRefresh + " And not while a clone runs: it writes the log before the files."
		c.Costs = count{n: 1}.cost()
		return c
	}
	c.Found = "A git work tree without .git/logs/HEAD that all can look at: every input is its own witness."
	c.everyInput(t.walk("", []string{".git"}, ignore))
	return c
}

func ignore(string, *unix.Stat_t) {}

// everyInput makes the inputs the witness of c.
func (c *Cache) everyInput(n count) {
	c.Shows = "every change of an input, and files that come and go."
	c.Hides = "a change behind a symbolic link."
	c.Costs = n.cost()
	if n.more {
		c.Costs += ". Name fewer inputs, or a file that the installer writes last"
	}
}

// lastly are files that some installers write last.
var lastly = []string{"MANIFEST", "install_manifest.txt", "share/*/MANIFEST", "RECORD", ".installed", "VERSION"}

// plain proposes a table of all files, for a root in which nothing is known.
func plain(t *tree) Cache {
	c := Cache{Name: "files", Inputs: []string{"**"}, Found: "Nothing that init knows was found: all files."}
	if t.root == "/" {
		c.everyInput(count{maxFiles, true})
		return c
	}
	last, written := t.candidate()
	newer := ""
	n := t.walk("", []string{format.CacheDir, format.ConfigFile}, func(path string, st *unix.Stat_t) {
		if newer == "" && format.IdentityOf(st).Ctime > written {
			newer = path
		}
	})
	c.everyInput(n)
	switch {
	case last == "":
	case newer != "":
		c.Found += fmt.Sprintf(" %s is not what was written last: %s is newer. If the installer does write it last, it is the cheaper witness.", format.Show(last), format.Show(newer))
	default:
		c.Witness = []string{last}
		c.Shows = "an install that writes " + format.Show(last) + " last. Make sure that yours does: all that is known is that nothing that was looked at is newer."
		c.Hides = "an edit that leaves it alone." + atRefresh
		c.Costs = count{n: 1}.cost() + fmt.Sprintf(`. The default, witness = "inputs", shows every change and costs %s`, n.cost())
	}
	return c
}

// candidate returns the first of lastly that is there, and when it was written.
func (t *tree) candidate() (path string, written int64) {
	for _, name := range lastly {
		paths := []string{name}
		if before, after, found := strings.Cut(name, "*"); found {
			paths = nil
			dir := strings.TrimSuffix(before, "/")
			if t.isDir(dir) {
				for _, name := range t.names(dir) {
					paths = append(paths, before+name+after)
				}
			}
		}
		for _, path := range paths {
			if st := t.look(path); t.isFile(path) && utf8.ValidString(path) {
				return path, format.IdentityOf(st).Ctime
			}
		}
	}
	return "", 0
}

// modules finds trees of modulefiles, for Lmod or Environment Modules.
func modules(t *tree) *Cache {
	dirs := t.moduleTrees()
	if len(dirs) == 0 {
		return nil
	}
	c := &Cache{Name: "modules", Found: "Modulefiles: " + show(dirs)}
	var n count
	for _, dir := range dirs {
		pattern, _ := literal(dir)
		c.Inputs = append(c.Inputs, pattern+"/**")
		sub := t.walk(dir, nil, ignore)
		n.n += sub.n
		n.more = n.more || sub.more
	}
	c.everyInput(n)
	c.Sketch = spider(c.Inputs, dirs)
	return c
}

// notModules are directories that may have modulefiles somewhere below them,
// but are no tree of them.
var notModules = []string{
	"bin", "boot", "dev", "etc", "home", "include", "lib", "lib64", "libexec", "media", "mnt", "opt", "proc", "root", "run",
	"sbin", "share", "srv", "sys", "tmp", "usr", "var",
}

// moduleTrees returns the directories in which there are modulefiles.
func (t *tree) moduleTrees() (dirs []string) {
	const most = 16
	candidates := []string{"modulefiles", "share/modulefiles", "usr/share/modulefiles", "modules/all"}
	for _, name := range t.names("") {
		if !slices.Contains(notModules, name) && t.isDir(name) {
			candidates = append(candidates, name)
		}
	}
	for _, dir := range candidates {
		within := func(d string) bool { return d == dir || strings.HasPrefix(d, dir+"/") }
		if _, ok := literal(dir); !ok || len(dirs) == most || slices.ContainsFunc(dirs, within) {
			continue
		}
		if t.isDir(dir) && (dir == "modulefiles" || t.hasModule(dir)) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// hasModule says whether there is a modulefile close below dir, as
// Compiler/gcc/12/openmpi/4.lua is.
func (t *tree) hasModule(dir string) bool {
	const depth, entries = 4, 50
	below := []string{dir}
	for range depth {
		var next []string
		for _, d := range below {
			names := t.names(d)
			for _, name := range names[:min(len(names), entries)] {
				path := d + "/" + name
				switch {
				case t.late():
					return false
				case t.isDir(path):
					next = append(next, path)
				case t.isFile(path) && isModule(path, t.head(path)):
					return true
				}
			}
		}
		below = next[:min(len(next), entries)]
	}
	return false
}

// isModule says whether a file that begins with text is a modulefile.
func isModule(path, text string) bool {
	if strings.HasPrefix(text, "#%Module") {
		return true
	}
	return strings.HasSuffix(path, ".lua") && (strings.Contains(text, "whatis(") || strings.Contains(text, "prepend_path("))
}

// spider is a sketch of Lmod's own cache of the directories.
func spider(inputs, dirs []string) string {
	const lmod = "/usr/share/lmod/lmod/libexec/update_lmod_system_cache_files"
	paths := make([]string, len(dirs))
	for i, dir := range dirs {
		if strings.ContainsFunc(dir, func(r rune) bool { return r < ' ' || r == 0x7f || r == ':' }) {
			return ""
		}
		paths[i] = `"$SYSCACHE_ROOT"/` + format.ShellQuote(dir)
	}
	command := lmod + ` -d "$SYSCACHE_OUT" -t "$SYSCACHE_OUT/timestamp" ` + strings.Join(paths, ":")
	return `# Lmod's own cache of them, made once for all users. Correct the path of Lmod,
# and let lmodrc.lua name the directory and the timestamp in it. Of a hierarchy
# only what MODULEPATH begins with belongs on the command line.
# [cache.spider]
# kind    = "files"
# inputs  = ` + list(inputs) + `
# build   = ["/bin/sh", "-c", ` + quote(command) + `]
# env     = { PATH = "/usr/bin:/bin" }
# recipe  = [` + quote(lmod) + `]
`
}

// show lists paths for a comment.
func show(paths []string) string {
	shown := make([]string, len(paths))
	for i, p := range paths {
		shown[i] = format.Show(p)
	}
	return strings.Join(shown, ", ")
}
