package refresh_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// goFiles parses the files of a package that are not tests.
func goFiles(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	files := map[string]*ast.File{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(name)] = f
	}
	return files
}

// changes are the functions of os, syscall, unix and windows that change files.
var changes = regexp.MustCompile(`^(os|syscall|unix|windows)\.(MoveFile.*|DeleteFile|SetFile.*|SetEndOfFile|Rename.*|Remove.*|Write.*|Pwrite.*|Create.*|Mk.*|Chmod.*|Lchmod|Fchmod.*|Chown.*|Lchown.*|Fchown.*|Symlink.*|Link|Linkat|Unlink.*|Truncate|Ftruncate|Chtimes|Utimes.*|Utimens.*|Futimes.*|CopyFS|Setxattr|Fsetxattr|Lsetxattr|Removexattr|Creat|Rmdir|O_RDWR|O_WRONLY|O_CREATE|O_CREAT|O_TRUNC|O_APPEND|Umask|Chdir|Setenv|Unsetenv)$`)

func selectors(f ast.Node, visit func(name string)) {
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok {
				visit(x.Name + "." + s.Sel.Name)
			}
		}
		return true
	})
}

// TestOnlyDiskChangesFiles: what a test's disk cannot fail, no test has seen
// fail.
func TestOnlyDiskChangesFiles(t *testing.T) {
	found := 0
	for name, f := range goFiles(t, ".") {
		selectors(f, func(s string) {
			if !changes.MatchString(s) {
				return
			}
			found++
			if name != "disk.go" && !strings.HasPrefix(name, "exchange_") {
				t.Errorf("%s uses %s: only disk.go changes files", name, s)
			}
		})
	}
	if found < 5 {
		t.Errorf("only %d uses found: does this test still look at anything?", found)
	}
}

// TestOnlyPublishRenames: and only publish.go renames a pointer or a
// generation into its place. state.go moves one out of it.
func TestOnlyPublishRenames(t *testing.T) {
	for name, f := range goFiles(t, ".") {
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Rename" {
				switch name {
				case "publish.go", "disk.go", "state.go":
				default:
					t.Errorf("%s renames", name)
				}
			}
			return true
		})
	}
}

// TestReadersChangeNothing guards I3 in the code.
func TestReadersChangeNothing(t *testing.T) {
	for _, dir := range []string{"..", "../../internal/witness", "../../internal/format"} {
		for name, f := range goFiles(t, dir) {
			selectors(f, func(s string) {
				if changes.MatchString(s) || strings.Contains(s, "Flock") {
					t.Errorf("%s/%s uses %s", dir, name, s)
				}
			})
		}
	}
}

// TestOnlyRenameChangesFiles: of what internal/unix has, so that what others use
// of it shows whether they change anything.
func TestOnlyRenameChangesFiles(t *testing.T) {
	found := 0
	for name, f := range goFiles(t, "../../internal/unix") {
		for _, d := range f.Decls {
			selectors(d, func(s string) {
				if !changes.MatchString(s) || strings.Contains(s, ".O_") || s == "windows.CreateFile" { // who opens says for what
					return
				}
				found++
				if fn, ok := d.(*ast.FuncDecl); name != "rename_windows.go" && (!ok || fn.Name.Name != "Rename") {
					t.Errorf("%s uses %s", name, s)
				}
			})
		}
	}
	if found < 3 {
		t.Errorf("only %d uses found: does this test still look at anything?", found)
	}
}

// TestOnlyLayoutKnowsPaths: what the command prints for people may name a path.
func TestOnlyLayoutKnowsPaths(t *testing.T) {
	path := regexp.MustCompile(`var/cache/syscache|usr/lib/syscache|etc/syscache|^\.(pending|new)|^(current|inventory|manifest|meta|lock)$`)
	found := 0
	for _, dir := range []string{".", "..", "../../internal/witness", "../../internal/format", "../../hashing"} {
		for name, f := range goFiles(t, dir) {
			ast.Inspect(f, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					s, err := strconv.Unquote(l.Value)
					if err != nil {
						t.Error(err)
					}
					if path.MatchString(s) {
						found++
						if dir+name != "../../internal/formatlayout.go" {
							t.Errorf("%s/%s has the path %q", dir, name, s)
						}
					}
				}
				return true
			})
		}
	}
	if found < 8 {
		t.Errorf("only %d found: does this test still look at anything?", found)
	}
}

// TestDependencies: every process of every user pays for what package syscache
// imports.
func TestDependencies(t *testing.T) {
	const module = "github.com/syscache/syscache/"
	for dir, allowed := range map[string][]string{
		"internal/unix":    {"golang.org/x/sys/"},
		"internal/format":  {"golang.org/x/sys/", module + "internal/unix"},
		"internal/witness": {"golang.org/x/sys/", module + "internal/"},
		"syscache":         {"golang.org/x/sys/", module + "internal/"},
	} {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", module+dir).Output()
		if err != nil {
			t.Fatal(err)
		}
		deps := strings.Fields(string(out))
		if len(deps) < 2 {
			t.Errorf("%s: %q", dir, deps)
		}
	deps:
		for _, dep := range deps {
			for _, a := range append(allowed, module+dir) {
				if strings.HasPrefix(dep, a) {
					continue deps
				}
			}
			t.Errorf("%s imports %s", dir, dep)
		}
	}
}
