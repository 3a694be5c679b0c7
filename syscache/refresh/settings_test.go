package refresh

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
)

// TestSettingsAreDocumented: config.example.toml and syscache.toml(5) have
// every setting, and none else.
func TestSettingsAreDocumented(t *testing.T) {
	want := slices.Sorted(maps.Keys(settings))
	page := readText(t, "../../docs/syscache.toml.5.md")
	var entries []string
	for _, m := range regexp.MustCompile(`(?m)^\*\*([a-z_]+)\*\* = `).FindAllStringSubmatch(page, -1) {
		entries = append(entries, m[1])
	}
	slices.Sort(entries)
	if diff := cmp.Diff(want, entries); diff != "" {
		t.Errorf("docs/syscache.toml.5.md (-want +got)\n%s", diff)
	}
	var example struct {
		Cache map[string]map[string]any
	}
	if _, err := toml.Decode(readText(t, "../../config.example.toml"), &example); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, cache := range example.Cache {
		for key := range cache {
			used[key] = true
		}
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(used))); diff != "" {
		t.Errorf("config.example.toml (-want +got)\n%s", diff)
	}
}

// TestManualExample: the example of syscache.toml(5) is one.
func TestManualExample(t *testing.T) {
	m := regexp.MustCompile("(?s)```\n(\\[cache.*?)```").FindStringSubmatch(readText(t, "../../docs/syscache.toml.5.md"))
	if m == nil {
		t.Fatal("it is not there")
	}
	if caches, mistakes := parseConfig("syscache.toml", []byte(m[1])); len(mistakes) > 0 || len(caches) != 1 {
		t.Errorf("%d caches, %v", len(caches), mistakes)
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
