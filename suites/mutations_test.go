//go:build linux

package suites

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A mutation takes one safeguard away. Some test must fail then: what no test
// misses is not guarded.
type mutation struct {
	name     string
	file     string // of the module
	old, new string // old stands there once
	pkg      string
	test     string
}

var mutations = []mutation{
	{
		"the directory is not synced after the pointer is renamed", "syscache/refresh/state.go",
		"\tif !r.durable {\n", "\tif false {\n",
		"syscache/refresh", "TestPowerLoss",
	},
	{
		"the staged directories are not synced", "syscache/refresh/build.go",
		"return g, st.disk.SyncDir(st.gen)\n", "return g, nil\n",
		"syscache/refresh", "TestPowerLoss",
	},
	{
		"the pointer is not synced", "syscache/refresh/publish.go",
		"\treturn t.file.Sync()\n", "\treturn nil\n",
		"syscache/refresh", "TestPowerLoss",
	},
	{
		"the lock file is not looked at again after the lock", "lock/lock.go",
		"if !a.names(f, seen) {", "if false {",
		"lock", "TestReplacedBeforeLocked",
	},
	{
		"after the lock, what another built meanwhile is not looked for", "syscache/refresh/refresh.go",
		"\tg := r.existing(ctx, s.key)\n", "\tvar g *generation\n",
		"syscache/refresh", "TestOutcomes",
	},
	{
		"the unchanged pointer is not recognised without the memo", "syscache/refresh/refresh.go",
		"\tif !r.force {\n", "\tif false {\n",
		"syscache/refresh", "TestUnchangedWritesNothing",
	},
	{
		"a token that is gone is not noticed", "syscache/refresh/publish.go",
		"\tif errors.Is(err, fs.ErrNotExist) {\n\t\treturn nil, overtaken(", "\tif errors.Is(err, fs.ErrNotExist) {\n\t\tif err := r.writeStale(r.dir, b); err != nil {\n\t\t\treturn nil, err\n\t\t}\n\t\terr = r.disk.Rename(r.dir+\"/\"+format.Stale, r.dir+\"/\"+format.Current)\n\t} else if false {\n\t\treturn nil, overtaken(",
		"suites", "TestInvalidateDuringABuild",
	},
	{
		"invalidate leaves the tokens", "syscache/refresh/publish.go",
		"\tif err := removeTokens(d, dir, \"\"); err != nil {", "\tif err := error(nil); err != nil {",
		"suites", "TestInvalidateDuringABuild",
	},
	{
		"the token is not asked for after nothing had changed", "syscache/refresh/refresh.go",
		"return err == nil && format.IdentityOf(&st) == before.id", "return err == nil || before != nil",
		"suites", "TestInvalidateWhileNothingIsBuilt",
	},
	{
		"other refreshers' tokens are left before the last rename", "syscache/refresh/publish.go",
		"\tif err := r.removeTokens(t.path); err != nil {", "\tif err := error(nil); err != nil {",
		"syscache/refresh", "TestOthersTokens",
	},
	{
		"no fchmod of the pointer", "syscache/refresh/publish.go",
		"\tif err := t.file.Chmod(publicMode); err != nil {\n\t\treturn err\n\t}\n", "",
		"syscache/refresh", "TestModes",
	},
	{
		"no fchmod of outputs", "syscache/refresh/build.go",
		"\terr := f.Chmod(mode)\n", "\tvar err error\n",
		"syscache/refresh", "TestModes",
	},
	{
		"directories get the mode that the umask leaves", "syscache/refresh/disk.go",
		"\treturn os.Chmod(path, mode) // a umask may have taken from it\n", "\treturn nil\n",
		"syscache/refresh", "TestModes",
	},
	{
		"the owner is not checked", "syscache/trust.go",
		"case !t.owner(st.Uid) && !t.member(st.Gid):", "case false:",
		"syscache", "TestUntrusted",
	},
	{
		"what everyone can write is trusted", "syscache/trust.go",
		"\tcase mode&0o002 != 0:\n", "\tcase false:\n",
		"syscache", "TestUntrusted",
	},
	{
		"the inputs are not looked at after the build", "syscache/refresh/refresh.go",
		"if changed := s.changed(after); changed != \"\" {", "if changed := \"\"; changed != \"\" {",
		"suites", "TestInputsChangedDuringTheBuild",
	},
	{
		"witnesses are recorded after the scan", "syscache/refresh/observe.go",
		"\ts.hashed = tree.Hashed\n", `	s.witnesses = nil
	for _, w := range r.c.Witness {
		recorded, err := r.recordWitness(ctx, strings.TrimSuffix(w, "/"))
		if err != nil {
			return nil, err
		}
		s.witnesses = append(s.witnesses, recorded)
	}
	s.hashed = tree.Hashed
`,
		"syscache/refresh", "TestWitnessBeforeScan",
	},
	{
		"\"not found\" is answered without the checksums of the index", "syscache/table.go",
		"\tif err := t.verify(format.SlotSize*i, format.SlotSize*n); err != nil {\n\t\treturn err\n\t}\n\treturn ErrNotFound", "\treturn ErrNotFound",
		"syscache", "TestEveryBitOfATable",
	},
	{
		"the cache is not marked stale before the build", "syscache/refresh/refresh.go",
		"\t\tif err := r.markStale(before); err != nil {\n\t\t\treturn nil, nil, err\n\t\t}\n", "",
		"suites", "TestStaleWhileItIsBuilt",
	},
	{
		"outputs are not copied", "syscache/refresh/build.go",
		"\tif err := st.copyDir(ctx, out, \".\", format.Files); err != nil {", "\tos.Remove(st.gen + \"/\" + format.Files)\n\tos.Rename(in.Out, st.gen+\"/\"+format.Files)\n\tos.Chmod(st.gen+\"/\"+format.Files, 0o755)\n\tst.outputs = append(st.outputs, format.Output{Path: format.Files, Type: format.OutputDir, Mode: 0o755})\n\tif err := error(nil); err != nil {",
		"syscache/refresh", "TestCopied",
	},
	{
		"nothing is swept", "syscache/refresh/publish.go",
		"\tif err := r.removeTokens(\"\"); err != nil {\n\t\treturn err\n\t}\n", "\treturn nil\n",
		"syscache/refresh", "TestSweep",
	},
	{
		"the reader does not look again after ENOENT", "syscache/open.go",
		"if _, moved := errors.AsType[movedError](err); moved {", "if false {",
		"syscache", "TestRepublishedMeanwhile",
	},
	{
		"the environment of a set-uid program counts", "internal/environ/secure_unix.go",
		"return a[1] != 0", "return false",
		"internal/environ", "TestGet",
	},
	{
		"what was written short is not noticed", "syscache/refresh/disk.go",
		"if err == nil && n < len(b) {", "if n < 0 {",
		"syscache/refresh", "TestFaults",
	},
	{
		"every file system is mapped", "syscache/source_linux.go",
		"return local(uint32(st.Type))", "return local(uint32(st.Type)) || true",
		"suites", "TestCutWhileOpen",
	},
	{
		"a file system without locks is an error", "lock/lock.go",
		"case unsupported(err):", "case false:",
		"lock", "TestUnsupported",
	},
	{
		"the times of images certify", "hashing/settle.go",
		"\tcase byMaker:\n\t\treturn false\n", "",
		"suites", "TestImageReplaced",
	},
	{
		"gc takes a pointer that it cannot read for absent", "syscache/refresh/collect.go",
		"case unknown(err):", "case false:",
		"suites", "TestUnreadablePointer",
	},
	{
		"so does an invalidate that of an image", "syscache/refresh/publish.go",
		"case unknown(err):", "case false:",
		"suites", "TestUnreadablePointer",
	},
	{
		"root becomes the owner with the group of the directory", "syscache/refresh/owner.go",
		"\tgid := groups[0]\n", "\tgid := st.Gid\n",
		"suites", "TestRootGivesNoGroupOfItsOwn",
	},
	{
		"an owner need not be a member of the group that manages", "syscache/refresh/owner.go",
		"&& slices.Contains(groups, st.Gid) {", "&& groups != nil {",
		"suites", "TestRootGivesNoGroupOfItsOwn",
	},
	{
		"a builder has the session's keyring", "syscache/refresh/become_linux.go",
		"unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)", "0, error(nil)",
		"suites", "TestBuilderHasNothingOfTheSessions",
	},
	{
		"a builder has what capabilities are inherited", "syscache/refresh/become_linux.go",
		"uintptr(unsafe.Pointer(&none[0])), 0); errno != 0 {", "0, 0); errno != 0 && uintptr(unsafe.Pointer(&none[0])) == 0 {",
		"suites", "TestBuilderHasNothingOfTheSessions",
	},
	{
		"whoever becomes the owner may keep capabilities", "syscache/refresh/become_linux.go",
		"if set.Effective|set.Permitted != 0 {", "if set.Effective == 1 {",
		"suites", "TestBuilderHasNothingOfTheSessions",
	},
	{
		"root of a namespace runs an unmapped owner's builder", "syscache/refresh/owner.go",
		"(stranger || uid == 0 && !alone()):", "stranger:",
		"suites", "TestRootOfANamespaceRunsNoBuilder",
	},
	{
		"what was seen under another declaration counts", "syscache/refresh/seen.go",
		"if m.declared != r.declared() || ", "if ",
		"syscache/refresh", "TestSeen",
	},
	{
		"who may go through a directory does not count", "syscache/refresh/seen.go",
		"err != nil || is != was {", "err != nil || is.Path != was.Path {",
		"syscache/refresh", "TestSeen",
	},
	{
		"a witness that moved is as it was seen", "syscache/refresh/seen.go",
		" || !witness.Unmoved(r.root, &witnesses[i]) {", " || i < 0 {",
		"syscache/refresh", "TestSeen",
	},
	{
		"what was seen is not looked at again", "syscache/refresh/seen.go",
		"return witness.CheckStats(r.root, stats) == nil", "return stats != nil",
		"syscache/refresh", "TestSeen",
	},
	{
		"what was seen with another pointer counts", "syscache/refresh/seen.go",
		" || m.pointer != hashing.Value(before.bytes) {", " {",
		"syscache/refresh", "TestSeenOfAnotherPointer",
	},
	{
		"what is published after all counts as durable", "syscache/refresh/refresh.go",
		"\tif g, inputs := r.recognized(before); g != nil {\n", "\tif g, inputs := r.recognized(before); g != nil {\n\t\tr.durable = true\n",
		"syscache/refresh", "TestSeenAndOvertaken",
	},
	{
		"rows of another recipe are carried over", "syscache/refresh/base.go",
		"|| !slices.Equal(r.parts(old), r.parts(s.manifest))", "",
		"syscache/refresh", "TestEach",
	},
	{
		"rows of a changed input are carried over", "syscache/refresh/base.go",
		"ok && now[j] == old.Inputs[i]", "ok",
		"syscache/refresh", "TestEach",
	},
	{
		"the generation whose rows are carried over is not read first", "syscache/refresh/base.go",
		"g := r.existing(ctx, p.Key)", "g := r.present(p.Key)",
		"syscache/refresh", "TestEach",
	},
}

// TestMutationsApply: each safeguard is where its mutation looks for it.
func TestMutationsApply(t *testing.T) {
	for _, m := range mutations {
		if b, err := os.ReadFile("../" + m.file); err != nil || strings.Count(string(b), m.old) != 1 {
			t.Errorf("%s: not once in %s (%v): say anew what the safeguard is", m.name, m.file, err)
		}
	}
}

// TestMutations takes each safeguard away, in turn, and runs the test that is
// to miss it.
func TestMutations(t *testing.T) {
	slow(t)
	if os.Getenv(mutated) != "" {
		t.Fatal("a mutation of a mutation")
	}
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) { m.run(t) })
	}
}

// mutated is set where a mutated module is tested.
const mutated = "SUITES_MUTATED"

func (m *mutation) run(t *testing.T) {
	module, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	source, err := os.ReadFile(module + "/" + m.file)
	if err != nil {
		t.Fatal(err)
	}
	without := strings.Replace(string(source), m.old, m.new, 1)
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {module + "/" + m.file: dir + "/mutated.go"}})
	err = errors.Join(err, os.WriteFile(dir+"/mutated.go", []byte(without), fs.ModePerm), os.WriteFile(dir+"/overlay.json", overlay, fs.ModePerm))
	if err != nil {
		t.Fatal(err)
	}
	// In all that the test builds too: the suites build the command.
	cmd := exec.Command("go", "test", "-count=1", "-run", "^"+m.test+"$", "./"+m.pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOFLAGS=-overlay="+dir+"/overlay.json", mutated+"=1")
	if m.pkg == "suites" {
		cmd.Env = append(cmd.Env, "SYSCACHE_SUITES=1") // elsewhere the quick ones are to catch it
	}
	out, err := cmd.CombinedOutput()
	switch {
	case strings.Contains(string(out), "[build failed]") || strings.Contains(string(out), "build syscache:"):
		t.Fatalf("does not compile:\n%s", out)
	case err == nil:
		t.Errorf("%s passes all the same:\n%s", m.test, out)
	case !strings.Contains(string(out), "--- FAIL: "+m.test+" "):
		t.Errorf("%s did not fail, something else did:\n%s", m.test, out)
	}
}
