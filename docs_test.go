package quickscale_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"
)

// documents are README.md, CHANGELOG.md and everything under docs/.
func documents(t *testing.T) []string {
	t.Helper()
	files := []string{"README.md", "CHANGELOG.md"}
	require.NoError(t, filepath.WalkDir("docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) == ".md" {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// snippet is a fenced block of code.
type snippet struct{ file, language, code string }

func snippets(t *testing.T, file string) (found []snippet) {
	t.Helper()
	source, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, ast.Walk(goldmark.DefaultParser().Parse(text.NewReader(source)), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if block, ok := n.(*ast.FencedCodeBlock); ok && entering {
			found = append(found, snippet{file, string(block.Language(source)), string(block.Lines().Value(source))})
		}
		return ast.WalkContinue, nil
	}))
	return found
}

// Every Go snippet is a whole program or file, and compiles as a reader would compile it.
func TestDocs_GoSnippetsCompile(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	require.NoError(t, err)
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	var targets []string
	for _, file := range documents(t) {
		for i, s := range snippets(t, file) {
			if s.language != "go" {
				continue
			}
			name := fmt.Sprintf("%s_%d", strings.NewReplacer("/", "_", ".", "_").Replace(strings.ToLower(file)), i)
			kept := filepath.Join(dir, name+".go")
			require.NoError(t, os.WriteFile(kept, []byte(s.code), 0o600))
			overlay.Replace[filepath.Join(here, "internal", "snippets", name, "main.go")] = kept
			targets = append(targets, "./internal/snippets/"+name)
			formatted, err := exec.CommandContext(t.Context(), "gofmt", "-l", kept).CombinedOutput()
			require.NoError(t, err, "%s", formatted)
			assert.Empty(t, string(formatted), "gofmt would change a snippet of %s:\n%s", file, s.code)
		}
	}
	require.NotEmpty(t, targets)
	content, err := json.Marshal(overlay)
	require.NoError(t, err)
	replace := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(replace, content, 0o600))
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", os.DevNull, "-overlay", replace}, targets...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

var (
	link = regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)
	// In code the same signs are a call with types.
	fenced = regexp.MustCompile("(?ms)^```.*?^```")
)

func TestDocs_LocalLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	for _, file := range documents(t) {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(string(source), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			_, err := os.Stat(filepath.Join(filepath.Dir(file), m[1]))
			assert.NoError(t, err, "%s links to %s", file, m[1])
		}
	}
}
