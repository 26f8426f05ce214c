package quickscale_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	stripewebhook "github.com/stripe/stripe-go/v76/webhook"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/webhook"
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
	// Over https every cookie is bound to this very host.
	require.NoError(t, app.Migrate(t.Context()))
	r := httptest.NewRequest(http.MethodPost, "/auth/signup", strings.NewReader("email=grace%40example.com&password=correct+horse+battery"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	app.Handler().ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	cookies := w.Result().Cookies()
	require.Len(t, cookies, 1)
	for _, c := range cookies {
		assert.True(t, strings.HasPrefix(c.Name, "__Host-"), c.Name)
		assert.True(t, c.Secure && c.HttpOnly && c.SameSite == http.SameSiteLaxMode && c.Path == "/" && c.Domain == "", c.Name)
	}

	for _, c := range []struct {
		name, want string
		change     func(*quickscale.Config)
	}{
		{"no secret", "QUICKSCALE_SECRET_KEY", func(c *quickscale.Config) { c.SecretKey = "" }},
		{"the secret of development", "QUICKSCALE_SECRET_KEY", func(c *quickscale.Config) { c.SecretKey = "development-only-and-known-to-all" }},
		{"a double", "STRIPE_API_BASE", func(c *quickscale.Config) { c.StripeURL = "http://127.0.0.1:12111" }},
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
	_, err = read(map[string]string{"QUICKSCALE_BASE_URL": "https://app.example.com"}) // a proxy on this machine
	require.ErrorContains(t, err, "known password")
	e, err = read(map[string]string{"QUICKSCALE_BASE_URL": "http://localhost:3000"})
	require.NoError(t, err)
	assert.Equal(t, "http://localhost:3000", e.Config.BaseURL)
	e, err = read(map[string]string{"QUICKSCALE_ADDR": "0.0.0.0:8080", "QUICKSCALE_ENV": "development"})
	require.NoError(t, err)
	assert.Equal(t, "http://127.0.0.1:8080", e.Config.BaseURL)
	e, err = read(map[string]string{"QUICKSCALE_ADDR": "[::1]:8080"})
	require.NoError(t, err)
	assert.Equal(t, "http://[::1]:8080", e.Config.BaseURL)
	_, err = read(map[string]string{"QUICKSCALE_ADDR": "8080"})
	require.ErrorContains(t, err, "QUICKSCALE_ADDR")

	// All faults at once, also those that New finds.
	_, err = read(map[string]string{
		"QUICKSCALE_ENV": "production", "QUICKSCALE_ADDR": "8080", "QUICKSCALE_STAFF_SECOND_FACTOR": "maybe", "QUICKSCALE_TRUSTED_PROXIES": "us",
		"QUICKSCALE_OAUTH_GOOGLE_CLIENT_ID": "x", "QUICKSCALE_METRICS_TOKEN": "short", "QUICKSCALE_SECRET_KEY": "short",
	})
	for _, said := range []string{
		"QUICKSCALE_ADDR", "QUICKSCALE_STAFF_SECOND_FACTOR", "QUICKSCALE_TRUSTED_PROXIES", "QUICKSCALE_OAUTH_GOOGLE_CLIENT_SECRET", "QUICKSCALE_METRICS_TOKEN",
		"QUICKSCALE_SECRET_KEY", "QUICKSCALE_BASE_URL", "STRIPE_SECRET_KEY", "QUICKSCALE_SMTP_URL",
	} {
		require.ErrorContains(t, err, said)
	}
}

func TestSettings_FlagsThenEnvironmentThenFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "app.env")
	require.NoError(t, os.WriteFile(file, []byte("# ours\nQUICKSCALE_ADDR=127.0.0.1:1\nQUICKSCALE_ADMIN_EMAIL=file@example.com\nMINE='from the file'\n"), 0o600))
	env := map[string]string{"QUICKSCALE_CONFIG": file, "QUICKSCALE_ADDR": "127.0.0.1:2", "QUICKSCALE_SMTP_URL": "smtp://m"}
	getenv := func(name string) string { return env[name] }
	get, err := quickscale.Settings([]string{"-addr", "127.0.0.1:3", "--env=development"}, getenv)
	require.NoError(t, err)
	e, err := quickscale.FromEnvironment(get)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:3", e.Addr)
	assert.Equal(t, "smtp://m", e.Config.SMTPURL)
	assert.Equal(t, "file@example.com", e.Config.AdminEmail)
	assert.Equal(t, "from the file", get("MINE"))
	get, err = quickscale.Settings(nil, getenv)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:2", get("QUICKSCALE_ADDR"))

	_, err = quickscale.Settings([]string{"-config", file + ".no", "-database-url", "postgres://a:secret@h/d", "serve"}, getenv)
	for _, said := range []string{"app.env.no", "-database-url", `"serve"`} {
		require.ErrorContains(t, err, said)
	}
	assert.NotContains(t, err.Error(), "secret@")
	require.NoError(t, os.Chmod(file, 0o644))
	_, err = quickscale.Settings(nil, getenv)
	require.ErrorContains(t, err, "chmod")
	require.NoError(t, os.WriteFile(file, []byte("STRIPE_SECRET_KEY=sk_live_x\n!\n"), 0o600))
	require.NoError(t, os.Chmod(file, 0o600))
	_, err = quickscale.Settings(nil, getenv)
	require.ErrorContains(t, err, "NAME=value")
	assert.NotContains(t, err.Error(), "sk_live")
}

func TestMigrate_TenProcessesAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		app := newApp(t, db)
		require.Error(t, app.Ready(t.Context()))
		status, body, _ := get(t, app.Health(), "/readyz")
		assert.Equal(t, http.StatusServiceUnavailable, status, body)
		assert.NotContains(t, body, "App.Migrate", "what is wrong is for the log")
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
			"/admin/": 404, "/nowhere": 404, "/": 200, "/about": 200, "/webhooks/stripe": 405,
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
		// Another site can change nothing, and the API says so in JSON to whoever asks.
		for path, kind := range map[string]string{"/auth/login": "text/html", "/auth/logout": "text/html", "/account/profile": "text/html", "/billing/checkout": "text/html",
			"/services/text": "text/html", "/api/v1/services/text": "application/json", "/api/v1/nothing": "application/json", "/admin/": "text/html", "/dev/mail": "text/html", "/nowhere": "text/html"} {
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader("email=a@b.c"))
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			w := httptest.NewRecorder()
			app.Handler().ServeHTTP(w, r)
			assert.Equal(t, http.StatusForbidden, w.Code, path)
			assert.Contains(t, w.Header().Get("Content-Type"), kind, path)
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			_, _, header := get(t, app.Health(), path)
			assert.Equal(t, "nosniff", header.Get("X-Content-Type-Options"), path)
			assert.Equal(t, "no-store", header.Get("Cache-Control"), path)
		}
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

// thing is what the test's service takes and gives.
type thing struct {
	Text string `json:"text"`
}

// One account, from all sides at once: services charge it, the host debits it, and webhooks grant to it, each event
// delivered twice, in two processes. Nothing is lost and nothing comes up from nowhere.
func TestApp_ServicesDebitsAndWebhooksOnOneAccountConserveTheSum(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		const (
			account          = "ada"
			rounds           = 15
			start, gift      = 20 * credits.Credit, 3 * credits.Credit
			price, taken     = 2 * credits.Credit, credits.Credit
			granted, perCall = "test.granted", "test-echo"
		)
		apps := make([]*quickscale.App, 2)
		for i := range apps {
			app := newApp(t, db, func(c *quickscale.Config) { c.JobPoll = 10 * time.Millisecond })
			if i == 0 {
				require.NoError(t, app.Migrate(t.Context()))
			}
			webhook.On(app.Webhooks, granted, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[thing]) error {
				_, err := app.Credits.GrantTx(ctx, tx, credits.GrantParams{Account: account, Amount: gift, Source: credits.Bonus, Reason: "Event " + ev.ID})
				return err
			})
			require.NoError(t, services.Register(app.Services, services.Func(services.Info{Name: perCall, Title: "Echo"},
				services.Fixed(price),
				func(_ context.Context, _ *services.Call, in thing) (thing, error) {
					if in.Text == "fail" {
						return in, errors.New("as asked")
					}
					return in, nil
				})))
			require.NoError(t, app.Start(t.Context()))
			t.Cleanup(func() { assert.NoError(t, app.Stop(context.Background())) })
			apps[i] = app
		}
		_, err := apps[0].Credits.Grant(t.Context(), credits.GrantParams{Account: account, Amount: start, Source: credits.Purchase, Reason: "test"})
		require.NoError(t, err)

		var charged, debited atomic.Int64
		var host sync.Map // the debits by their entries
		var group errgroup.Group
		for n := range rounds {
			for _, app := range apps {
				group.Go(func() error { // both processes get each event
					body := fmt.Appendf(nil, `{"id":"evt_%d","object":"event","type":%q,"api_version":%q,"created":%d,"data":{"object":{"id":"obj_%d"}}}`,
						n, granted, stripe.APIVersion, time.Now().Unix(), n%3)
					at := time.Now()
					r := httptest.NewRequest(http.MethodPost, "/webhooks/stripe", bytes.NewReader(body))
					signature := hex.EncodeToString(stripewebhook.ComputeSignature(at, body, stripetest.DefaultWebhookSecret))
					r.Header.Set("Stripe-Signature", fmt.Sprintf("t=%d,v1=%s", at.Unix(), signature))
					w := httptest.NewRecorder()
					app.Handler().ServeHTTP(w, r)
					if w.Code != http.StatusOK {
						return fmt.Errorf("event %d: %d %s", n, w.Code, w.Body)
					}
					return nil
				})
				group.Go(func() error {
					in := thing{"hello"}
					if n%4 == 3 {
						in.Text = "fail"
					}
					res, err := app.Services.Run(t.Context(), services.RunParams{Account: account, Service: perCall, Input: in})
					if _, failed := errors.AsType[*services.CallError](err); failed || errors.Is(err, credits.ErrInsufficient) {
						return nil
					}
					charged.Add(int64(res.Charged))
					return err
				})
				group.Go(func() error {
					// The same key in both processes: one debit.
					e, err := app.Credits.Debit(t.Context(), credits.DebitParams{Account: account, Amount: taken, Reason: "host", IdempotencyKey: fmt.Sprint("host-", n)})
					if errors.Is(err, credits.ErrInsufficient) {
						return nil
					}
					if _, told := host.LoadOrStore(e.ID, true); !told {
						debited.Add(int64(-e.Amount))
					}
					return err
				})
			}
		}
		require.NoError(t, group.Wait())
		require.Eventually(t, func() bool {
			waiting, _, err := apps[0].Webhooks.List(t.Context(), webhook.ListParams{Status: webhook.StatusReceived})
			return err == nil && len(waiting) == 0
		}, time.Minute, 20*time.Millisecond)

		entries, more, err := apps[0].Credits.History(t.Context(), credits.HistoryParams{Account: account, Limit: credits.MaxPage})
		require.NoError(t, err)
		require.False(t, more)
		var sum, grants credits.Amount
		for _, e := range entries {
			sum += e.Amount
			if e.Kind == credits.KindGrant {
				grants++
			}
		}
		lots, err := apps[0].Credits.Lots(t.Context(), account)
		require.NoError(t, err)
		var inLots credits.Amount
		for _, l := range lots {
			inLots += l.Remaining
		}
		calls, more, err := apps[1].Services.Usage(t.Context(), services.UsageParams{Account: account, Limit: services.MaxPage})
		require.NoError(t, err)
		require.False(t, more)
		var onCalls credits.Amount
		for _, c := range calls {
			assert.NotEqual(t, services.Running, c.Status)
			onCalls += c.Charged
		}
		balance, err := apps[1].Credits.Balance(t.Context(), account)
		require.NoError(t, err)
		rest := start + rounds*gift - credits.Amount(charged.Load()+debited.Load())
		assert.EqualValues(t, 1+rounds, grants, "each event grants once")
		assert.EqualValues(t, charged.Load(), onCalls, "what callers were told they paid is what the calls cost")
		assert.Positive(t, onCalls)
		assert.Equal(t, rest, sum, "entries")
		assert.Equal(t, rest, inLots, "lots")
		assert.Equal(t, rest, balance.Available, "balance")
		assert.Zero(t, balance.Held)
	})
}

func TestNotify_MailsWhoseCreditsRunLowOrExpire(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		app := newApp(t, db, func(c *quickscale.Config) {
			c.LowCredits, c.JobPoll = 5*credits.Credit, 20*time.Millisecond
			c.MailTemplates = fstest.MapFS{"credits.low.txt": {Data: []byte("Subject: Low at {{site}}\n\nOnly {{.Available}} left. {{.Buy}}\n")}}
		})
		require.NoError(t, app.Migrate(t.Context()))
		require.NoError(t, app.Start(t.Context()))
		t.Cleanup(func() { assert.NoError(t, app.Stop(context.Background())) })
		u, err := app.Auth.CreateUser(t.Context(), auth.CreateUserParams{Email: "ada@example.com", Password: "correct horse battery", Verified: true, Role: auth.RoleUser})
		require.NoError(t, err)
		// The account is one of two people, and the other wants no such mails.
		_, err = app.Auth.CreateOrganisation(t.Context(), auth.CreateOrganisationParams{UserID: u.ID, Name: "Acme", Share: true})
		require.NoError(t, err)
		ben, err := app.Auth.CreateUser(t.Context(), auth.CreateUserParams{Email: "ben@example.com", Password: "correct horse battery", Verified: true})
		require.NoError(t, err)
		const join = `INSERT INTO qs_auth_members (organisation_id, user_id, role, joined_at) VALUES (?, ?, 'billing', ?)`
		_, err = db.Writer().ExecContext(t.Context(), db.Rebind(join), u.ID, ben.ID, database.At(time.Now()))
		require.NoError(t, err)
		require.NoError(t, app.Auth.SetNotify(t.Context(), ben.ID, false))
		soon := time.Now().Add(48 * time.Hour)
		_, err = app.Credits.Grant(t.Context(), credits.GrantParams{Account: u.ID, Amount: 10 * credits.Credit, Source: credits.Bonus, Reason: "Trial", ExpiresAt: &soon})
		require.NoError(t, err)
		_, err = app.Credits.WarnExpiring(t.Context())
		require.NoError(t, err)
		for range 2 { // once per crossing
			_, err = app.Credits.Debit(t.Context(), credits.DebitParams{Account: u.ID, Amount: 3 * credits.Credit, Reason: "Use"})
			require.NoError(t, err)
		}
		// An account of the host's own that no user has is nobody's to mail.
		_, err = app.Credits.Grant(t.Context(), credits.GrantParams{Account: "a machine", Amount: credits.Credit, Source: credits.Bonus, Reason: "Trial", ExpiresAt: &soon})
		require.NoError(t, err)

		type message struct{ To, Subject, Text string }
		var page struct {
			Data struct{ Messages []message }
		}
		require.Eventually(t, func() bool {
			_, body, _ := get(t, app.Handler(), "/dev/mail", "Accept", "application/json")
			require.NoError(t, json.Unmarshal([]byte(body), &page))
			return len(page.Data.Messages) >= 2
		}, time.Minute, 50*time.Millisecond)
		require.Len(t, page.Data.Messages, 2)
		bySubject := map[string]message{}
		for _, m := range page.Data.Messages {
			assert.Equal(t, "ada@example.com", m.To)
			bySubject[m.Subject] = m
		}
		assert.Contains(t, bySubject["Low at QuickScale"].Text, "Only 4 left. http://127.0.0.1:1/billing/", "the host's own text")
		expiring := bySubject["Some of your credits for QuickScale expire soon"].Text
		assert.Contains(t, expiring, "/credits/")
		_, stop, found := strings.Cut(expiring, "No more mails like this one: http://127.0.0.1:1")
		require.True(t, found, expiring)
		click := httptest.NewRequest(http.MethodPost, strings.TrimSpace(stop), strings.NewReader("List-Unsubscribe=One-Click"))
		click.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer := httptest.NewRecorder()
		app.Handler().ServeHTTP(answer, click)
		assert.Equal(t, http.StatusOK, answer.Code)
		assert.Contains(t, answer.Body.String(), "no more mails about your credits")
		profile, err := app.Auth.Profile(t.Context(), u.ID)
		require.NoError(t, err)
		assert.False(t, profile.Notify, "one click without a log-in")
	})
}
