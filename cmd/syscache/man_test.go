//go:build unix

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"unicode"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/syscache/syscache/internal/format"
)

// The man pages in docs/man are made here, from the same commands and flags
// as --help. They bear the version and no date, so that they go stale only
// when what they say does. `make man` writes them.

var update = flag.Bool("update", false, "write docs/man")

const manDir = "../../docs/man"

// files are the paths of FILES in syscache(1).
var files = []struct{ Path, Text string }{
	{format.ConfigFile, "The administrator's configuration: **syscache.toml**(5)."},
	{format.ConfigDropIns + "/*" + format.DropInExtension, "More of it. A file here masks the package's of the same name."},
	{format.PackageDropIns + "/*" + format.DropInExtension, "The configuration that packages bring."},
	{inCache(format.Current), "The pointer: which generation is published, and its witnesses."},
	{inCache(format.Stale), "The pointer after the cache was marked stale."},
	{inCache(format.Generations + "/KEY/"), "A generation, never changed:"},
	{
		format.Meta + ", " + format.Manifest + ", " + format.Table + ", " + format.Origins + ", " + format.Files + "/",
		"what it consists of; what it was built from; its rows, and the input of each where **each** asks for that; or its files.",
	},
	{inCache(format.Latest), "Where the configuration asks for it: a symbolic link to the files of the last generation."},
	{inCache(format.Lock), "The refreshers' lock. It is never removed."},
	{inCache(format.Inventory), "The refreshers' memo of the digests of inputs."},
	{inCache(format.State), "The refreshers' memo of superseded generations, and of the last failure."},
	{inCache(format.Seen), "The refreshers' memo of how the install was when the pointer was last found right."},
	{inCache(format.TokenPrefix + "*"), "A refresh that is under way, or that was killed. The next one sweeps it."},
	{inCache(format.ScratchPrefix + "*"), "A file or directory that such a refresh is writing or removing."},
	{format.ImageCacheDir + "/", "A second cache_dir, which an OS image ships. It is read where the first does not have the cache."},
}

func inCache(name string) string { return format.CacheDir + "/CACHE/" + name }

// manPages returns each page by its name, in Markdown.
func manPages(t *testing.T) map[string]string {
	t.Helper()
	root := (&app{stdout: io.Discard, screen: &screen{w: io.Discard}}).command()
	pages := map[string]string{
		"syscache.1":      mainPage(t, root),
		"syscache.toml.5": title("SYSCACHE.TOML", 5) + "\n" + readDoc(t, "syscache.toml.5.md"),
	}
	for _, c := range verbs(root) {
		pages["syscache-"+c.Name()+".1"] = verbPage(c)
	}
	return pages
}

// verbs returns the commands that a user sees, sorted by name.
func verbs(root *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(root.Commands()), func(c *cobra.Command) bool {
		return !c.IsAvailableCommand() || c.Name() == "help"
	})
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func title(name string, section int) string {
	manual := map[int]string{1: "User Commands", 5: "File Formats"}[section]
	return fmt.Sprintf("%% %q \"%d\" \"\" \"syscache %s\" %q\n", name, section, version, manual)
}

func mainPage(t *testing.T, root *cobra.Command) string {
	t.Helper()
	var list strings.Builder
	seeAlso := []string{"**syscache.toml**(5)"}
	for _, c := range verbs(root) {
		fmt.Fprintf(&list, "%s\n:   %s. See **syscache-%s**(1).\n\n", useLine(c), esc(c.Short), c.Name())
		seeAlso = append(seeAlso, "**syscache-"+c.Name()+"**(1)")
	}
	type exitCode struct {
		Code    int
		Meaning string
	}
	var codes []exitCode
	for code, meaning := range exitMeanings {
		codes = append(codes, exitCode{code, meaning})
	}
	var b strings.Builder
	err := template.Must(template.New("").Funcs(template.FuncMap{"esc": esc}).Parse(readDoc(t, "syscache.1.md"))).Execute(&b, map[string]any{
		"Title": title("SYSCACHE", 1), "Short": esc(lower(root.Short)), "Description": prose(root.Long),
		"Verbs": list.String(), "Options": options(root.PersistentFlags()), "ExitCodes": codes,
		"CacheDir": format.CacheDir, "Files": files, "SeeAlso": strings.Join(seeAlso, ", "),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func verbPage(c *cobra.Command) string {
	var b strings.Builder
	name := "syscache-" + c.Name()
	b.WriteString(title(strings.ToUpper(name), 1))
	fmt.Fprintf(&b, "\n# NAME\n%s \\- %s\n", name, esc(lower(c.Short)))
	fmt.Fprintf(&b, "\n# SYNOPSIS\n**syscache** \\[*option* ...] %s\n", useLine(c))
	fmt.Fprintf(&b, "\n# DESCRIPTION\n%s\n", prose(c.Long))
	c.InitDefaultHelpFlag()
	fmt.Fprintf(&b, "\n# OPTIONS\n%s", options(c.NonInheritedFlags()))
	b.WriteString("Options of all verbs are in **syscache**(1).\n")
	fmt.Fprintf(&b, "\n# EXAMPLES\n%s\n", prose(c.Example))
	b.WriteString("\n# EXIT STATUS\nSee **syscache**(1).\n\n# SEE ALSO\n**syscache**(1), **syscache.toml**(5)\n")
	return b.String()
}

// useLine is a verb's usage, its arguments set off.
func useLine(c *cobra.Command) string {
	name, args, _ := strings.Cut(c.Use, " ")
	return strings.TrimSpace("**" + name + "** " + esc(args))
}

func options(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		if f.Shorthand != "" {
			fmt.Fprintf(&b, "**-%s**, ", f.Shorthand)
		}
		fmt.Fprintf(&b, "**--%s**", f.Name)
		if value != "" {
			fmt.Fprintf(&b, " *%s*", value)
		}
		fmt.Fprintf(&b, "\n:   %s", esc(upper(usage)))
		if !slices.Contains([]string{"", "false", "0", "0s", "[]"}, f.DefValue) {
			fmt.Fprintf(&b, " (default %s)", f.DefValue)
		}
		b.WriteString(".\n\n")
	})
	return b.String()
}

// prose turns a help text into Markdown: what is indented stays as it is.
func prose(text string) string {
	var b strings.Builder
	inCode := false
	for line := range strings.SplitSeq(text, "\n") {
		if code := strings.HasPrefix(line, "  "); code != inCode && line != "" {
			b.WriteString("```\n")
			inCode = code
		}
		if inCode {
			b.WriteString(strings.TrimPrefix(line, "  ") + "\n")
		} else {
			b.WriteString(esc(line) + "\n")
		}
	}
	if inCode {
		b.WriteString("```\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// esc keeps Markdown from seeing anything in s.
func esc(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\\`*_{}[]<>#|~", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func lower(s string) string { return string(unicode.ToLower(rune(s[0]))) + s[1:] }

func upper(s string) string { return string(unicode.ToUpper(rune(s[0]))) + s[1:] }

func TestManPages(t *testing.T) {
	want := map[string]string{}
	for name, text := range manPages(t) {
		want[name] = render(text)
	}
	if *update {
		writeManPages(t, want)
	}
	got := map[string]string{}
	paths, err := filepath.Glob(manDir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got[filepath.Base(path)] = string(b)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/man is not what the help is now: make man writes it (-want +got)\n%s", diff)
	}
}

// render makes a page of Markdown. What md2man leaves to be mended: a justified
// path is hard to read and a hyphenated one wrong, code is not set off, and a
// hyphen is no minus where somebody copies it from.
func render(text string) string {
	head, body, _ := strings.Cut(string(md2man.Render([]byte(text))), ".SH NAME\n")
	var b strings.Builder
	b.WriteString(strings.TrimPrefix(head, ".nh\n") + ".ad l\n.nr HY 0\n.SH NAME\n")
	for line := range strings.Lines(body) {
		switch {
		case line == ".EX\n":
			line = ".RS 4\n" + line
		case line == ".EE\n":
			line += ".RE\n"
		case line[0] != '.':
			line = strings.ReplaceAll(line, "-", `\-`)
		}
		b.WriteString(line)
	}
	return b.String()
}

func writeManPages(t *testing.T, pages map[string]string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(manDir), os.MkdirAll(manDir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, text := range pages {
		if err := os.WriteFile(manDir+"/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestManPagesFormat: the formatter has nothing to say, on a narrow terminal
// either.
func TestManPagesFormat(t *testing.T) {
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skip("skipped: no groff")
	}
	for _, name := range slices.Sorted(maps.Keys(manPages(t))) {
		for _, width := range []string{"-rLL=78n", "-rLL=60n"} {
			var stdout, stderr bytes.Buffer
			cmd := exec.Command("groff", "-t", "-man", "-Kutf8", "-Tutf8", "-ww", width, manDir+"/"+name)
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil || stderr.Len() > 0 || stdout.Len() == 0 {
				t.Errorf("%s: %v\n%s", name, err, stderr.String())
			}
		}
	}
}

// TestManFiles: FILES has every name that layout.go has.
func TestManFiles(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../internal/format/layout.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		all.WriteString(f.Path + "\n")
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for _, v := range spec.Values {
			if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if name, _ := strconv.Unquote(lit.Value); !strings.Contains(all.String(), name) {
					t.Errorf("syscache(1) does not mention %s, %q", spec.Names[0], name)
				}
			}
		}
		return false
	})
}

// TestManIsNotLinked: what makes the pages is no part of the command.
func TestManIsNotLinked(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil || strings.Contains(string(out), "md2man") || !strings.Contains(string(out), "cobra") {
		t.Errorf("%v\n%s", err, out)
	}
}
