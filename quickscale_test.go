package quickscale_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// newApp wires an application in development on an empty database.
func newApp(t *testing.T, db *database.DB, change ...func(*quickscale.Config)) *quickscale.App {
	t.Helper()
	cfg := quickscale.Config{DB: db.Writer(), ReadDB: db.Reader(), Mode: quickscale.Development, BaseURL: "http://127.0.0.1:1", Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	app, err := quickscale.New(cfg)
	require.NoError(t, err)
	return app
}

func get(t *testing.T, h http.Handler, path string, header ...string) (int, string, http.Header) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)
	return w.Code, string(body), w.Result().Header
}

func TestNew_TellsAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := quickscale.New(quickscale.Config{SecretKey: "short", StripeKey: "pk_test_x"})
	require.Error(t, err)
	for _, said := range []string{"Config.DB", "QUICKSCALE_BASE_URL", "QUICKSCALE_SECRET_KEY", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "QUICKSCALE_SMTP_URL"} {
		assert.ErrorContains(t, err, said)
	}
}

func TestNew_ProductionTakesNoSimulation(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, dbtest.Empty)
	whole := quickscale.Config{
		DB: db.Writer(), ReadDB: db.Reader(), BaseURL: "https://app.example.com/", SecretKey: strings.Repeat("k", 32), StripeKey: "sk_test_1",
		WebhookSecrets: []string{"whsec_1"}, SMTPURL: "smtp://mail.example.com:587",
	}
	app, err := quickscale.New(whole)
	require.NoError(t, err)
	assert.Empty(t, app.Simulated())
	for _, path := range []string{"/dev/mail", "/dev/stripe/", "/dev/stripe/v1/customers"} {
		status, _, _ := get(t, app.Handler(), path)
		assert.Equal(t, http.StatusNotFound, status, path)
	}
	_, _, header := get(t, app.Handler(), "/nowhere")
	assert.Contains(t, header.Get("Strict-Transport-Security"), "max-age")
	assert.Contains(t, header.Get("Content-Security-Policy"), "form-action 'self' https://checkout.stripe.com")

	for _, c := range []struct {
		name, want string
		change     func(*quickscale.Config)
	}{
		{"no secret", "QUICKSCALE_SECRET_KEY", func(c *quickscale.Config) { c.SecretKey = "" }},
		{"the secret of development", "QUICKSCALE_SECRET_KEY", func(c *quickscale.Config) { c.SecretKey = "development-only-and-known-to-all" }},
		{"no Stripe", "STRIPE_SECRET_KEY", func(c *quickscale.Config) { c.StripeKey = "" }},
		{"no webhook secret", "STRIPE_WEBHOOK_SECRET", func(c *quickscale.Config) { c.WebhookSecrets = nil }},
		{"no mail", "QUICKSCALE_SMTP_URL", func(c *quickscale.Config) { c.SMTPURL = "" }},
		{"http", "must be https", func(c *quickscale.Config) { c.BaseURL = "http://app.example.com" }},
		{"a path", "a scheme and a host only", func(c *quickscale.Config) { c.BaseURL = "https://app.example.com/app" }},
		{"an unknown mode", "QUICKSCALE_ENV", func(c *quickscale.Config) { c.Mode = "staging" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := whole
			c.change(&cfg)
			_, err := quickscale.New(cfg)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestFromEnvironment_ReadsTheContract(t *testing.T) {
	t.Parallel()
	read := func(vars map[string]string) (quickscale.Environment, error) {
		return quickscale.FromEnvironment(func(name string) string { return vars[name] })
	}
	e, err := read(nil)
	require.NoError(t, err)
	assert.Equal(t, quickscale.Development, e.Config.Mode)
	assert.Equal(t, "127.0.0.1:8080", e.Addr)
	assert.Equal(t, "sqlite:quickscale.db", e.DatabaseURL)
	assert.Equal(t, "http://127.0.0.1:8080", e.Config.BaseURL)

	e, err = read(map[string]string{
		"QUICKSCALE_ENV": "production", "QUICKSCALE_ADDR": ":80", "QUICKSCALE_BASE_URL": "https://x.example", "QUICKSCALE_DATABASE_URL": "postgres://db/x",
		"QUICKSCALE_SECRET_KEY": "k", "STRIPE_SECRET_KEY": "sk_live_1", "STRIPE_WEBHOOK_SECRET": "whsec_1, whsec_2", "QUICKSCALE_SMTP_URL": "smtp://m",
		"QUICKSCALE_ADMIN_EMAIL": "a@x.example",
	})
	require.NoError(t, err)
	assert.Equal(t, quickscale.Environment{Addr: ":80", DatabaseURL: "postgres://db/x", Config: quickscale.Config{
		Mode: quickscale.Production, BaseURL: "https://x.example", SecretKey: "k", StripeKey: "sk_live_1", WebhookSecrets: []string{"whsec_1", "whsec_2"},
		SMTPURL: "smtp://m", AdminEmail: "a@x.example",
	}}, e)

	// Development is for one's own machine, unless it is asked for in so many words.
	for _, addr := range []string{":8080", "0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"} {
		_, err = read(map[string]string{"QUICKSCALE_ADDR": addr})
		require.ErrorContains(t, err, "known password", addr)
	}
	e, err = read(map[string]string{"QUICKSCALE_ADDR": "0.0.0.0:8080", "QUICKSCALE_ENV": "development"})
	require.NoError(t, err)
	assert.Equal(t, "http://127.0.0.1:8080", e.Config.BaseURL)
	e, err = read(map[string]string{"QUICKSCALE_ADDR": "[::1]:8080"})
	require.NoError(t, err)
	assert.Equal(t, "http://[::1]:8080", e.Config.BaseURL)
	_, err = read(map[string]string{"QUICKSCALE_ADDR": "8080"})
	require.ErrorContains(t, err, "QUICKSCALE_ADDR")
}

func TestMigrate_TenProcessesAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		app := newApp(t, db)
		require.Error(t, app.Ready(t.Context()))
		status, body, _ := get(t, app.Health(), "/readyz")
		assert.Equal(t, http.StatusServiceUnavailable, status, body)
		assert.NotContains(t, body, "migrations", "what is wrong is for the log")
		var group errgroup.Group
		for range 10 {
			group.Go(func() error { return newApp(t, db).Migrate(t.Context()) })
		}
		require.NoError(t, group.Wait())
		require.NoError(t, app.Ready(t.Context()))
		status, _, _ = get(t, app.Health(), "/readyz")
		assert.Equal(t, http.StatusOK, status)
	})
}

func TestHandler_ServesTheContract(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		app := newApp(t, db)
		require.NoError(t, app.Migrate(t.Context()))
		for path, want := range map[string]int{
			"/auth/signup": 200, "/auth/login": 200, "/auth/password/forgot": 200, "/billing/": 200, "/services/": 200, "/dev/mail": 200, "/dev/stripe/": 200,
			"/account/": 303, "/account/api-keys": 303, "/credits/": 303, "/billing/payments": 303,
			"/api/v1/services": 401, "/api/v1/credits": 401, "/api/v1/nothing": 404,
			"/admin/": 404, "/nowhere": 404, "/": 404, "/webhooks/stripe": 405,
			"/auth": 307, "/billing": 307,
		} {
			status, body, header := get(t, app.Handler(), path)
			assert.Equal(t, want, status, "%s: %s", path, body)
			if strings.HasPrefix(path, "/dev/stripe") || strings.HasPrefix(path, "/webhooks") {
				continue
			}
			assert.NotContains(t, header.Get("Content-Security-Policy"), "unsafe", path)
			assert.NotEmpty(t, header.Get("Content-Security-Policy"), path)
		}
		// The same addresses speak JSON, in the one shape.
		for path, code := range map[string]string{"/nowhere": "not_found", "/admin/": "not_found", "/account/": "unauthenticated", "/credits/": "unauthenticated", "/api/v1/services": "unauthenticated"} {
			_, body, _ := get(t, app.Handler(), path, "Accept", "application/json")
			var failure struct {
				Success bool
				Error   struct{ Code, Message string }
			}
			require.NoError(t, json.Unmarshal([]byte(body), &failure), "%s: %s", path, body)
			assert.Equal(t, code, failure.Error.Code, path)
			assert.NotEmpty(t, failure.Error.Message, path)
		}
		// Another site can change nothing.
		r := httptest.NewRequest(http.MethodPost, "/auth/login", strings.NewReader("email=a@b.c"))
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		w := httptest.NewRecorder()
		app.Handler().ServeHTTP(w, r)
		assert.Equal(t, http.StatusForbidden, w.Code)
	})
}

func TestPages_AreTheHostsInTheLayout(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, dbtest.Empty)
	app := newApp(t, db, func(c *quickscale.Config) {
		c.Name, c.Nav = "Acme", []quickscale.Link{{Label: "Docs", URL: "/docs"}}
		c.Templates = fstest.MapFS{"web/header.html": {Data: []byte(`{{define "header"}}<header>{{range .Chrome.Nav}}{{.Label}} {{end}}</header>{{end}}`)}}
	})
	require.NoError(t, app.Migrate(t.Context()))
	pages, err := app.Pages(fstest.MapFS{"templates/hello.html": {Data: []byte(`{{define "title"}}Hello{{end}}{{define "content"}}<h1>{{.Data}}</h1>{{end}}`)}})
	require.NoError(t, err)
	h := app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { pages.Render(w, r, http.StatusOK, "hello", "<b>you</b>") }))
	status, body, header := get(t, h, "/hello")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "<title>Hello · Acme</title>")
	assert.Contains(t, body, "&lt;b&gt;you&lt;/b&gt;")
	assert.Contains(t, body, "<header>Docs Services Pricing </header>", "the host's header replaces the built-in one")
	assert.NotEmpty(t, header.Get("Content-Security-Policy"))
	_, err = app.Pages(fstest.MapFS{"templates/broken.html": {Data: []byte(`{{define "title"}}`)}})
	require.ErrorContains(t, err, "broken.html")
}
