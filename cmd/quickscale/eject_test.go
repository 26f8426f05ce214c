package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
)

func TestEjectTemplates_CopiesWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	p := place{t: t, dir: t.TempDir()}
	builtin, err := quickscale.BuiltinTemplates()
	require.NoError(t, err)
	text := map[string]string{}
	for _, b := range builtin {
		text[b.Path] = string(b.Text)
	}
	var listed struct {
		Files  []struct{ Path, Action string }
		DryRun bool `json:"dry_run"`
	}
	list := func(args ...string) (paths []string) {
		listed.Files = nil
		require.NoError(t, json.Unmarshal([]byte(p.ok(append([]string{"eject-templates", "own", "--json"}, args...)...)), &listed))
		for _, f := range listed.Files {
			paths = append(paths, f.Path)
		}
		return paths
	}
	assert.Len(t, list("--dry-run"), len(builtin))
	assert.True(t, listed.DryRun)
	assert.NoDirExists(t, filepath.Join(p.dir, "own"))

	for only, want := range map[string][]string{
		"auth/login":           {"auth/login.html"},
		"auth/login.html":      {"auth/login.html"},
		"web/components/fiel*": {"web/components/field.html"},
		"credits":              {"credits/credits.html"},
	} {
		assert.Equal(t, want, list("--dry-run", "--only", only), only)
	}
	assert.Contains(t, list("--dry-run", "--only", "web"), "web/components/field.html")
	assert.Contains(t, p.fails(3, "eject-templates", "own", "--only", "auth/logn"), `"auth/logn"`)

	said := p.ok("eject-templates", "own", "--only", "auth/login,web/components/field")
	assert.Contains(t, said, `os.DirFS("own")`)
	for _, name := range []string{"auth/login.html", "web/components/field.html"} {
		got, err := os.ReadFile(filepath.Join(p.dir, "own", name))
		require.NoError(t, err)
		assert.Equal(t, text[name], string(got))
	}
	assert.NoFileExists(t, filepath.Join(p.dir, "own", "auth", "signup.html"))
}

func TestEjectTemplates_OverwritesNothingThatWasChanged(t *testing.T) {
	t.Parallel()
	p := place{t: t, dir: t.TempDir()}
	p.ok("eject-templates", "own", "--only", "auth/login")
	assert.Contains(t, p.ok("eject-templates", "own", "--only", "auth/login"), "unchanged")
	login := filepath.Join(p.dir, "own", "auth", "login.html")
	require.NoError(t, os.WriteFile(login, []byte("mine"), 0o600))
	assert.Contains(t, p.fails(2, "eject-templates", "own", "--only", "auth"), "auth/login.html")
	assert.NoFileExists(t, filepath.Join(p.dir, "own", "auth", "signup.html"), "all or nothing")
	got, err := os.ReadFile(login)
	require.NoError(t, err)
	assert.Equal(t, "mine", string(got))
	assert.Contains(t, p.ok("eject-templates", "own", "--only", "auth", "--force"), "overwrite")
	got, err = os.ReadFile(login)
	require.NoError(t, err)
	assert.NotEqual(t, "mine", string(got))
	p.fails(2, "eject-templates")
}
