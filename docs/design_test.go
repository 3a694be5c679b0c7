package docs

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// section returns what stands below a heading of the second level.
func section(t *testing.T, file, heading string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, below, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no section %q", file, heading)
	}
	below, _, _ = strings.Cut(below, "\n## ")
	return below
}

// TestInvariants: the table names files that there are, and tests that are in
// them, for each invariant of the package.
func TestInvariants(t *testing.T) {
	doc, err := os.ReadFile("../syscache/doc.go")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{} // by invariant: the columns
	for line := range strings.Lines(section(t, "DESIGN.md", "Where each invariant is kept")) {
		if strings.HasPrefix(line, "| I") {
			cells := strings.Split(line, "|")
			invariant, _, _ := strings.Cut(strings.TrimSpace(cells[1]), " ")
			rows[invariant] = cells[2:]
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^//   - (I[0-9]+) `).FindAllStringSubmatch(string(doc), -1) {
		cells := rows[m[1]]
		delete(rows, m[1])
		if len(cells) < 2 {
			t.Errorf("%s has no row", m[1])
			continue
		}
		for _, file := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[0], -1) {
			if _, err := os.Stat("../" + file[1]); err != nil {
				t.Errorf("%s: %v", m[1], err)
			}
		}
		if err := guards(cells[1]); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
	}
	for invariant := range rows {
		t.Errorf("%s is none of the package's", invariant)
	}
}

// guards checks a cell of the form "`file` Test, Test; `file` Test".
func guards(cell string) error {
	for part := range strings.SplitSeq(cell, ";") {
		m := regexp.MustCompile("^ `([^`]+)` (.+?) *$").FindStringSubmatch(part)
		if m == nil {
			return fmt.Errorf("%q is not a file and its tests", part)
		}
		text, err := os.ReadFile("../" + m[1])
		if err != nil {
			return err
		}
		for name := range strings.SplitSeq(m[2], ", ") {
			if !strings.Contains(string(text), "\nfunc "+name+"(") {
				return fmt.Errorf("%s has no %s", m[1], name)
			}
		}
	}
	return nil
}

// TestStair: each package imports only what stands above it, and each has a
// step.
func TestStair(t *testing.T) {
	const module = "github.com/syscache/syscache/"
	out, err := exec.Command("go", "list", "-f", `{{if .GoFiles}}{{.ImportPath}} {{join .Imports " "}}{{end}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(strings.ReplaceAll(line, module, "./"))
		imports[fields[0]] = fields[1:]
	}
	for name := range imports { // those that use the others, and that none uses
		if top, _, _ := strings.Cut(name[2:], "/"); top == "examples" || top == "bench" || top == "packaging" {
			delete(imports, name)
		}
	}
	var above []string
	for _, m := range regexp.MustCompile(`(?m)^    (\S+)  `).FindAllStringSubmatch(section(t, "DESIGN.md", "The packages are a stair"), -1) {
		name := "./" + m[1]
		if _, there := imports[name]; !there {
			t.Errorf("there is no %s", name)
		}
		for _, i := range imports[name] {
			if strings.HasPrefix(i, "./") && !slices.Contains(above, i) {
				t.Errorf("%s imports %s, which does not stand above it", name, i)
			}
		}
		delete(imports, name)
		above = append(above, name)
	}
	for name := range imports {
		t.Errorf("%s has no step", name)
	}
}
