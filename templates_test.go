package quickscale_test

import (
	"log/slog"
	"net/http"
	"path"
	"regexp"
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
	for _, needed := range []string{"web/layout.html", "web/components/field.html", "auth/login.html", "auth/_account.html", "billing/offers.html", "public/home.html", "public/_hero.html", "outbound/endpoints.html", "mail/outbox.html"} {
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

// A theme reaches the pages, and a mistake in it does not reach anybody.
func TestTheme_OfTheApplication(t *testing.T) {
	t.Parallel()
	app, err := withTemplates(t, nil, func(c *quickscale.Config) {
		c.Theme = quickscale.Theme{Primary: "#087f5b", Scheme: quickscale.SchemeDark}
	})
	require.NoError(t, err)
	_, page, _ := get(t, app.Handler(), "/auth/login")
	assert.Contains(t, page, `data-theme="dark"`)
	sheet := regexp.MustCompile(`/static/theme/theme-[0-9a-f]+\.css`).FindString(page)
	code, css, _ := get(t, app.Handler(), sheet)
	assert.Equal(t, http.StatusOK, code)
	assert.Contains(t, css, "--bulma-primary-h:161.8deg")
	_, err = withTemplates(t, nil, func(c *quickscale.Config) { c.Theme.Primary = "green" })
	require.ErrorContains(t, err, "Theme.Primary")
}

func TestGallery_IsThereInDevelopmentOnly(t *testing.T) {
	t.Parallel()
	app, err := withTemplates(t, nil)
	require.NoError(t, err)
	code, page, _ := get(t, app.Handler(), "/dev/ui")
	assert.Equal(t, http.StatusOK, code)
	assert.Contains(t, page, "Components")
	code, _, _ = get(t, app.Handler(), "/dev/ui/error/429")
	assert.Equal(t, http.StatusTooManyRequests, code)
	app, err = withTemplates(t, nil, func(c *quickscale.Config) {
		c.Mode, c.BaseURL, c.SecretKey, c.StripeKey, c.WebhookSecrets, c.SMTPURL = quickscale.Production, "https://app.example.com", strings.Repeat("k", 32), "sk_test_1",
			[]string{"whsec_1"}, "smtp://mail.example.com:587"
	})
	require.NoError(t, err)
	for _, path := range []string{"/dev/ui", "/dev/ui/error/429"} {
		code, _, _ = get(t, app.Handler(), path)
		assert.Equal(t, http.StatusNotFound, code, path)
	}
}

// The host's own routes fail as the library's do: where there is none, where a handler panics, and in JSON for programs.
func TestErrorPages_OfTheHostsOwnRoutes(t *testing.T) {
	t.Parallel()
	app, err := withTemplates(t, nil)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/", app.Handler())
	mux.Handle("GET /mine", app.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret state") })))
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/nowhere":          {404, "Page not found"},
		"/mine":             {500, "Something went wrong"},
		"/billing/checkout": {405, "Nothing was changed"},
		"/auth/logout":      {405, "Nothing was changed"},
	} {
		code, page, header := get(t, mux, path, "Accept", "text/html")
		assert.Equal(t, want.code, code, path)
		assert.Contains(t, page, want.text, path)
		assert.Contains(t, page, "<header>", "in the layout: %s", path)
		assert.NotContains(t, page, "secret state")
		assert.NotEmpty(t, header.Get("Content-Security-Policy"))
		code, body, _ := get(t, mux, path, "Accept", "application/json")
		assert.Equal(t, want.code, code, path)
		assert.Contains(t, body, `"success":false`, path)
	}
}
