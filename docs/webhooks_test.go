package docs_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

var goSnippet = regexp.MustCompile("(?s)```go\n(.*?)```")

// Each Go snippet of the guide is a whole file, and compiles.
func TestWebhooks_SnippetsCompile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("webhooks.md")
	require.NoError(t, err)
	snippets := goSnippet.FindAllSubmatch(text, -1)
	require.NotEmpty(t, snippets)
	here, err := filepath.Abs(".")
	require.NoError(t, err)
	dir := t.TempDir()
	// The files lie in this module for the compiler only.
	replace := map[string]string{}
	var packages []string
	for i, s := range snippets {
		name := "webhooks_snippet" + strconv.Itoa(i)
		file := filepath.Join(dir, name+".go")
		require.NoError(t, os.WriteFile(file, s[1], 0o600))
		replace[filepath.Join(here, name, "snippet.go")] = file
		packages = append(packages, "./"+name)
	}
	content, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	file := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"build", "-overlay", file}, packages...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
