//go:build linux

package suites

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// clockEnv is how far the clock of a steppedTool is off.
const clockEnv = "SUITES_CLOCK"

// steppedTool returns the command, built so that all that it compares with the
// times of files, in hashing, syscache and syscache/refresh, is off by
// $SUITES_CLOCK: a machine whose clock stepped after the install was changed,
// before the command began. What else runs on this machine keeps its time. (It
// is no step while the command runs, and files keep being written in the old
// time.)
var steppedTool = sync.OnceValue(func() string {
	stepped := filepath.Dir(tool) + "/syscache-stepped"
	if err := buildStepped(stepped); err != nil {
		panic(err)
	}
	return stepped
})

func buildStepped(stepped string) error {
	dir, err := os.MkdirTemp(filepath.Dir(stepped), "stepped-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	replace := map[string]string{}
	put := func(path, text string) error {
		copied := fmt.Sprintf("%s/%d.go", dir, len(replace))
		replace[path] = copied
		return os.WriteFile(copied, []byte(text), 0o644)
	}
	for _, pkg := range []string{"hashing", "syscache", "syscache/refresh"} {
		top, err := filepath.Abs("../" + pkg)
		if err != nil {
			return err
		}
		files, err := filepath.Glob(top + "/*.go")
		if err != nil {
			return err
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			text := strings.ReplaceAll(string(b), "time.Now()", "time.Now().Add(clockStep)")
			text = strings.ReplaceAll(text, "return t.Nano()", "return t.Nano() + int64(clockStep)")
			if text != string(b) && !strings.HasSuffix(file, "_test.go") {
				if err := put(file, text); err != nil {
					return err
				}
			}
		}
		if err := put(top+"/step.go", fmt.Sprintf(`package %s

import (
	"os"
	"time"
)

var clockStep, _ = time.ParseDuration(os.Getenv(%q))
`, filepath.Base(pkg), clockEnv)); err != nil {
			return err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/overlay.json", overlay, 0o644); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-overlay", dir+"/overlay.json", "-o", stepped, "../cmd/syscache")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build syscache with a stepped clock: %w: %s", err, out)
	}
	return os.Chmod(stepped, 0o755)
}
