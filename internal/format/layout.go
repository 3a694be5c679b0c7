package format

import (
	"strconv"
	"strings"
)

// This file knows every path. Nothing else joins one together.

// The cache_dirs of a root, in the order in which readers look, relative to
// it. Refreshers write the first; an image may ship the second.
const (
	CacheDir      = "var/cache/syscache"
	ImageCacheDir = "usr/lib/syscache"
)

// The configuration, relative to the root: the administrator's file, the
// administrator's drop-ins, and the packages', of which a file of the same name
// among the administrator's takes the place. Of a name that two of them declare
// the first here has it.
const (
	ConfigFile      = "etc/syscache.toml"
	ConfigDropIns   = "etc/syscache.d"
	PackageDropIns  = "usr/lib/syscache.d"
	DropInExtension = ".toml"
)

// Names in a cache's directory.
const (
	Lock        = "lock"
	Current     = "current"
	Stale       = "stale"
	Inventory   = "inventory"
	State       = "state"
	Seen        = "seen"
	Generations = "g"
	// Latest is a symbolic link to the files of the published generation.
	Latest = "latest"

	// TokenPrefix begins the name of a refresher's token, which becomes the
	// new pointer.
	TokenPrefix = ".pending-"
	// ScratchPrefix begins the name of a file that is renamed over another,
	// or of a directory that was moved out of the way to be removed.
	ScratchPrefix = ".new-"
)

// Names in a generation's directory.
const (
	Meta     = "meta"
	Manifest = "manifest"
	Table    = "table"
	Origins  = "origins" // of a table that is built input by input
	Files    = "files"
)

// Generation returns the path of a generation's directory, relative to the
// cache's.
func Generation(key string) string { return Generations + "/" + key }

// MaxCacheName is the length of the longest name of a cache, in bytes.
const MaxCacheName = 64

// ValidCacheName says whether name may name a cache:
// [a-z0-9][a-z0-9._-]*, at most MaxCacheName bytes.
func ValidCacheName(name string) bool {
	if name == "" || len(name) > MaxCacheName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// ValidPath says whether path is relative, with no empty, "." or ".."
// component and no NUL: what a root-relative path in any of our files must be.
func ValidPath(path string) bool {
	if path == "" || strings.IndexByte(path, 0) >= 0 {
		return false
	}
	for c := range strings.SplitSeq(path, "/") {
		if c == "" || c == "." || c == ".." {
			return false
		}
	}
	return true
}

// validStatPath says whether path may name a directory of the stat section:
// as ValidPath, or the root itself (""), or absolute.
func validStatPath(path string) bool {
	return path == "" || path == "/" || ValidPath(strings.TrimPrefix(path, "/"))
}

// Join returns the absolute path of a root-relative path; one that is
// absolute is returned as it is.
func Join(root, path string) string {
	switch {
	case path == "":
		return root
	case path[0] == '/':
		return path
	case strings.HasSuffix(root, "/"):
		return root + path
	}
	return root + "/" + path
}

// Joined says whether path is Join(root, relative).
func Joined(path, root, relative string) bool {
	dir, found := strings.CutSuffix(path, relative)
	dir, slash := strings.CutSuffix(dir, "/")
	return found && slash && dir == strings.TrimSuffix(root, "/")
}

// ShellQuote returns a path as a shell takes it.
func ShellQuote(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%", r)
	}
	if path != "" && strings.TrimFunc(path, plain) == "" {
		return path
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		quoted := strconv.Quote(path)
		return "$'" + strings.ReplaceAll(quoted[1:len(quoted)-1], "'", `\'`) + "'"
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// Show returns a path for a message: the root as ".", and odd names quoted.
func Show(path string) string {
	if path == "" {
		return "."
	}
	for i := range len(path) {
		if c := path[i]; c < ' ' || c >= 0x7f {
			return strconv.Quote(path)
		}
	}
	return path
}
