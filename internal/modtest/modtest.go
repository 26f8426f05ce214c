// Package modtest makes modules of hosts, for the tests of what reads and writes a host's code.
package modtest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
	"golang.org/x/tools/txtar"
)

// library is this module's path.
const library = "github.com/quickscale/quickscale"

// New makes a module, example.com/acme, that requires this library as it stands in the working tree, and returns its
// folder, which is gone when the test ends. files is a txtar text of what is in it besides go.mod and go.sum.
func New(tb testing.TB, files string) string {
	tb.Helper()
	root := libraryRoot(tb)
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(tb, err)
	mod, err := modfile.Parse("go.mod", text, nil)
	require.NoError(tb, err)
	require.NoError(tb, mod.AddModuleStmt("example.com/acme"))
	require.NoError(tb, mod.AddRequire(library, "v0.0.0"))
	require.NoError(tb, mod.AddReplace(library, "", root, ""))
	text, err = mod.Format()
	require.NoError(tb, err)
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(tb, err)
	dir := tb.TempDir()
	for _, f := range slices.Concat(txtar.Parse([]byte(files)).Files, []txtar.File{{Name: "go.mod", Data: text}, {Name: "go.sum", Data: sums}}) {
		to := filepath.Join(dir, filepath.FromSlash(f.Name))
		require.NoError(tb, os.MkdirAll(filepath.Dir(to), 0o750))
		require.NoError(tb, os.WriteFile(to, f.Data, 0o600))
	}
	return dir
}

// libraryRoot is the folder of this library's go.mod, above the package whose tests run.
func libraryRoot(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	require.NoError(tb, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		above := filepath.Dir(dir)
		require.NotEqual(tb, dir, above, "no go.mod above the test")
		dir = above
	}
}
