package refresh

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/syscache/syscache/internal/format"
)

// TestSources: which files count, in which order, and what a bad one fails.
func TestSources(t *testing.T) {
	declare := func(names ...string) string {
		var b strings.Builder
		for _, n := range names {
			b.WriteString("[cache." + n + "]\ninputs = [\"share/**\"]\n")
		}
		return b.String()
	}
	const (
		main  = format.ConfigFile
		admin = format.ConfigDropIns + "/"
		pack  = format.PackageDropIns + "/"
	)
	for name, tc := range map[string]struct {
		files    map[string]string
		names    []string
		mistakes []string // the beginnings of their lines below the root
	}{
		"all three places": {
			map[string]string{main: declare("a"), admin + "x.toml": declare("b"), pack + "y.toml": declare("c", "d")},
			[]string{"a", "b", "c", "d"},
			nil,
		},
		"only a package's": {map[string]string{pack + "y.toml": declare("c")}, []string{"c"}, nil},
		"a package's is replaced": {
			map[string]string{admin + "x.toml": declare("b"), pack + "x.toml": declare("c")}, []string{"b"}, nil,
		},
		"a package's is masked by an empty file": {
			map[string]string{admin + "x.toml": "", pack + "x.toml": declare("c"), pack + "y.toml": declare("d")}, []string{"d"}, nil,
		},
		"a package's is masked by a link to /dev/null": {
			map[string]string{admin + "x.toml": "->/dev/null", pack + "x.toml": declare("c"), pack + "y.toml": declare("d")}, []string{"d"}, nil,
		},
		"a link elsewhere masks too, and is a mistake": {
			map[string]string{admin + "x.toml": "->/etc/hostname", pack + "x.toml": declare("c"), pack + "y.toml": declare("d")},
			[]string{"d"},
			[]string{admin + "x.toml: it is a symbolic link"},
		},
		"what is masked may be bad": {
			map[string]string{admin + "x.toml": declare("b"), pack + "x.toml": "nonsense"}, []string{"b"}, nil,
		},
		"other names are not read": {
			map[string]string{pack + "y.toml.dpkg-new": "nonsense", pack + "y.toml~": "nonsense", pack + ".y.toml": "nonsense", pack + "README": "nonsense", pack + "z.toml": declare("z")},
			[]string{"z"},
			nil,
		},
		"a bad one fails its own": {
			map[string]string{main: declare("a"), pack + "x.toml": declare("b") + "x = 1\n", pack + "y.toml": declare("c")},
			[]string{"a", "c"},
			[]string{pack + "x.toml:3:5: unknown key"},
		},
		"one that is not TOML fails its own": {
			map[string]string{main: declare("a"), pack + "x.toml": "[cache.b", pack + "y.toml": declare("c")},
			[]string{"a", "c"},
			[]string{pack + "x.toml:1:8: "},
		},
		"a duplicate is the later one's mistake": {
			map[string]string{main: declare("a"), admin + "w.toml": declare("b"), pack + "x.toml": declare("c", "b"), pack + "y.toml": declare("d", "a"), pack + "z.toml": declare("e")},
			[]string{"a", "b", "e"},
			[]string{pack + "x.toml:3:1: cache b is declared at ", pack + "y.toml:3:1: cache a is declared at "},
		},
		"a duplicate in a bad file takes no name": {
			map[string]string{admin + "w.toml": declare("b") + "x = 1", pack + "x.toml": declare("b")},
			[]string{"b"},
			[]string{admin + "w.toml:3:5: "},
		},
		"a mask alone is not unconfigured": {map[string]string{admin + "x.toml": "->/dev/null", pack + "x.toml": declare("b")}, []string{}, nil},
		"all bad is not unconfigured":      {map[string]string{main: "x"}, []string{}, []string{main + ":1:"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			for path, text := range tc.files {
				if target, link := strings.CutPrefix(text, "->"); link {
					writeFile(t, root+"/"+path, "", 0o644)
					if err := errors.Join(os.Remove(root+"/"+path), os.Symlink(target, root+"/"+path)); err != nil {
						t.Fatal(err)
					}
					continue
				}
				writeFile(t, root+"/"+path, text, 0o644)
			}
			in, err := Load(root, nil)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.names, in.Names()); d != "" || in.Unconfigured() {
				t.Errorf("names (-want +got):\n%s", d)
			}
			got := in.Mistakes()
			for i, m := range got {
				if i >= len(tc.mistakes) || !strings.HasPrefix(m.Error(), in.Root()+"/"+tc.mistakes[i]) || m.Hint == "" {
					t.Errorf("mistake %v, hint %q", m, m.Hint)
				}
			}
			if len(got) != len(tc.mistakes) {
				t.Errorf("%d mistakes, want %q", len(got), tc.mistakes)
			}
		})
	}
}

// TestUntrustedDropIns: a directory of drop-ins that others can write is not
// read, nor does it mask anything.
func TestUntrustedDropIns(t *testing.T) {
	root := newRoot(t)
	writeFile(t, root+"/"+format.ConfigDropIns+"/x.toml", "", 0o644)
	writeFile(t, root+"/"+format.PackageDropIns+"/x.toml", "[cache.c]\ninputs = [\"share/**\"]\n", 0o644)
	if err := os.Chmod(root+"/"+format.ConfigDropIns, 0o777); err != nil {
		t.Fatal(err)
	}
	in, err := Load(root, nil)
	if err != nil || !cmp.Equal(in.Names(), []string{"c"}) {
		t.Errorf("%v, %v", in.Names(), err)
	}
	if m := in.Mistakes(); len(m) != 1 || !strings.Contains(m[0].Error(), "everyone can write") || !strings.Contains(m[0].Hint, "chmod go-w") {
		t.Errorf("%v", m)
	}
}
