package scaffold_test

import (
	"flag"
	"go/format"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"github.com/quickscale/quickscale/internal/scaffold"
)

var update = flag.Bool("update", false, "write the golden files anew")

// combinations are what is compared with golden files; cmd/quickscale builds and drives projects of the same choices.
var combinations = map[string]scaffold.Params{
	"sqlite": {Name: "acme", Version: "v1.2.3"},
	"postgres": {
		Name: "acme-text", Module: "git.example.com/acme/text", Database: scaffold.Postgres, Samples: []string{"jsoncheck", "wordcount"},
		OAuth: []string{"google", "oidc"}, Without: scaffold.Optional(), Version: "v1.2.3", Replace: "../quickscale",
	},
}

func TestFiles_AreTheGoldenOnes(t *testing.T) {
	t.Parallel()
	for name, p := range combinations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := scaffold.Files(p)
			require.NoError(t, err)
			var got txtar.Archive
			for _, f := range files {
				got.Files = append(got.Files, txtar.File{Name: f.Path, Data: f.Content})
				assert.NotContains(t, string(f.Content), "[[", f.Path)
				assert.True(t, strings.HasSuffix(string(f.Content), "\n") && !strings.HasSuffix(string(f.Content), "\n\n"), "%s ends with one line break", f.Path)
				if filepath.Ext(f.Path) == ".go" {
					formatted, err := format.Source(f.Content)
					require.NoError(t, err, f.Path)
					assert.Equal(t, string(formatted), string(f.Content), f.Path)
					assert.Less(t, strings.Count(string(f.Content), "\n"), 220, "%s is small enough to read", f.Path)
				}
			}
			golden := filepath.Join("testdata", name+".txtar")
			if *update {
				require.NoError(t, os.WriteFile(golden, txtar.Format(&got), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			assert.Equal(t, string(want), string(txtar.Format(&got)), "go test ./internal/scaffold -update writes it anew")
		})
	}
}

func TestFiles_TellsAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := scaffold.Files(scaffold.Params{
		Name: "Acme!", Module: "not a path", Database: "mysql", Samples: []string{"poems"}, OAuth: []string{"github", "github"},
		Without: []string{"credits"}, Replace: "a\nb",
	})
	for _, said := range []string{"the name", "module path", "mysql", `no sample "poems": there is wordcount, jsoncheck`, `"github" is given twice`, `"credits": there is outbound, organisations`, "version", "go.mod"} {
		require.ErrorContains(t, err, said)
	}
	for _, name := range []string{"", "-a", "a-", "1a", "a_b", "ä", strings.Repeat("a", 41)} {
		_, err := scaffold.Files(scaffold.Params{Name: name, Version: "v1.0.0"})
		assert.ErrorContains(t, err, "the name", name)
	}
}

// The project asks for the Go that the library asks for: with an older one it would not build.
func TestFiles_AskForTheLibrarysGo(t *testing.T) {
	t.Parallel()
	ours, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	files, err := scaffold.Files(combinations["sqlite"])
	require.NoError(t, err)
	var theirs string
	for _, f := range files {
		if f.Path == "go.mod" {
			theirs = string(f.Content)
		}
	}
	line := func(mod string) string {
		_, rest, _ := strings.Cut(mod, "\ngo ")
		version, _, _ := strings.Cut(rest, "\n")
		return version
	}
	assert.NotEmpty(t, line(theirs))
	assert.Equal(t, line(string(ours)), line(theirs))
}

func TestWrite_TakesAnEmptyFolderAndNoOther(t *testing.T) {
	t.Parallel()
	files := []scaffold.File{{Path: "a.txt", Content: []byte("a")}, {Path: "b/c.txt", Content: []byte("c")}}
	dir := filepath.Join(t.TempDir(), "new")
	require.NoError(t, scaffold.Write(dir, files))
	content, err := os.ReadFile(filepath.Join(dir, "b", "c.txt"))
	require.NoError(t, err)
	assert.Equal(t, "c", string(content))
	require.ErrorIs(t, scaffold.Write(dir, files), scaffold.ErrNotEmpty)
	assert.FileExists(t, filepath.Join(dir, "a.txt"), "what was there stays")
	require.NoError(t, scaffold.Write(t.TempDir(), files), "a folder that is there and empty")
}

// A project that cannot be written whole is not left behind in part.
func TestWrite_LeavesNothingHalfDone(t *testing.T) {
	t.Parallel()
	clash := []scaffold.File{{Path: "a", Content: []byte("a")}, {Path: "a/b", Content: []byte("b")}}
	dir := filepath.Join(t.TempDir(), "new")
	require.Error(t, scaffold.Write(dir, clash))
	assert.NoDirExists(t, dir)
	there := t.TempDir()
	require.Error(t, scaffold.Write(there, clash))
	left, err := os.ReadDir(there)
	require.NoError(t, err)
	assert.Empty(t, left)
}
