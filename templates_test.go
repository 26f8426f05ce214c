package quickscale_test

import (
	"log/slog"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// withTemplates wires an application with templates of the host's.
func withTemplates(t *testing.T, files fstest.MapFS, change ...func(*quickscale.Config)) (*quickscale.App, error) {
	t.Helper()
	db := dbtest.SQLite(t, dbtest.Empty)
	cfg := quickscale.Config{DB: db.Writer(), ReadDB: db.Reader(), Mode: quickscale.Development, BaseURL: "http://127.0.0.1:1", Logger: slog.New(slog.DiscardHandler), Templates: files}
	for _, f := range change {
		f(&cfg)
	}
	return quickscale.New(cfg)
}

// The library's own templates pass the check that those of hosts go through, whatever of the library is wired.
func TestBuiltinTemplates_CopiesOfAllOfThemStart(t *testing.T) {
	t.Parallel()
	builtin, err := quickscale.BuiltinTemplates()
	require.NoError(t, err)
	files := fstest.MapFS{}
	for _, b := range builtin {
		files[b.Path] = &fstest.MapFile{Data: b.Text}
	}
	for _, needed := range []string{"web/layout.html", "web/components/field.html", "auth/login.html", "auth/_account.html", "billing/offers.html", "outbound/endpoints.html", "mail/outbox.html"} {
		assert.Contains(t, files, needed)
	}
	_, err = withTemplates(t, files)
	require.NoError(t, err)
	_, err = withTemplates(t, files, func(c *quickscale.Config) { c.WithoutOutbound, c.WithoutOrganisations = true, true })
	require.NoError(t, err, "what is not wired may be replaced too")
}

// Every page's data has a type by which a replacement is checked, and all mistakes are told at once.
func TestBuiltinTemplates_EveryPageIsCheckedAgainstItsData(t *testing.T) {
	t.Parallel()
	builtin, err := quickscale.BuiltinTemplates()
	require.NoError(t, err)
	files := fstest.MapFS{}
	for _, b := range builtin {
		if strings.HasPrefix(path.Base(b.Path), "_") || strings.HasPrefix(b.Path, "web/") && b.Path != "web/error.html" {
			continue
		}
		files[b.Path] = &fstest.MapFile{Data: []byte(`{{define "title"}}{{end}}{{define "content"}}{{.Data.NoSuchField}}{{end}}`)}
	}
	_, err = withTemplates(t, files)
	require.Error(t, err)
	for name := range files {
		assert.ErrorContains(t, err, name+":1", "of %s the data is not known: its package's pageData lacks it", name)
	}
}
