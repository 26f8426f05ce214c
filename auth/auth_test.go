package auth_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/mail"
)

func TestNew_TellsAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := auth.New(auth.Config{BaseURL: "ftp://x", Path: "auth/", AccountPath: "//evil", Home: "https://evil", AdminEmail: "nobody", MinPassword: 7,
		MaxFailures: 2, LockFor: time.Second, SessionIdle: -1, HashConcurrency: -1, Limits: auth.Limits{Mail: auth.Limit{Max: -1, Per: time.Hour}}})
	require.Error(t, err)
	for _, name := range []string{"DB", "Mail", "BaseURL", "Path", "AccountPath", "Home", "AdminEmail", "MinPassword", "MaxFailures", "LockFor", "SessionIdle", "HashConcurrency", "Limits.Mail"} {
		require.ErrorContains(t, err, "Config."+name+" ")
	}
	for _, bad := range []auth.Config{{MaxFailures: 21}, {SessionCache: 11 * time.Second}, {LockFor: 25 * time.Hour}, {MinPassword: 129}, {Path: "/x", AccountPath: "/x"}} {
		bad.BaseURL, bad.DB, bad.Mail = base, &sqlx.DB{}, mailbox{}
		_, err := auth.New(bad)
		require.ErrorContains(t, err, "auth: Config.")
	}
}

// No answer but the session cookie's own holds what a browser must not show to others.
func TestPages_AreCompleteAndNeedNoScript(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		_, _, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: `<b>"key"`})
		require.NoError(t, err)
		in, out := k.browser(), k.browser()
		in.logIn(email, password).leadsTo(t, "/account/")
		check := func(b *browser, path string) {
			res := b.get(path)
			assert.Equal(t, http.StatusOK, res.StatusCode, path)
			assert.Len(t, regexp.MustCompile(`<h1[ >]`).FindAllString(res.body, -1), 1, path)
			assert.NotRegexp(t, `<script>|\sstyle=|\son[a-z]+=|<b>"key"`, res.body, path)
			assert.Equal(t, "no-store", res.Header.Get("Cache-Control"), path)
			for _, input := range regexp.MustCompile(`<input[^>]* id="([^"]+)"`).FindAllStringSubmatch(res.body, -1) {
				assert.Contains(t, res.body, `<label class="label" for="`+input[1]+`"`, path)
			}
			b.header["Accept"] = "application/json"
			res = b.get(path)
			b.header["Accept"] = "text/html"
			assert.Equal(t, http.StatusOK, res.StatusCode, path)
			assert.Contains(t, res.body, `"success":true`, path)
			assert.NotContains(t, res.body, "argon2id", path)
		}
		for _, path := range []string{"/auth/signup", "/auth/login?next=%2Fx", "/auth/verify/resend", "/auth/password/forgot"} {
			check(out, path)
		}
		for _, path := range []string{"/account/", "/account/profile", "/account/security", "/account/api-keys"} {
			check(in, path)
			out.get(path).leadsTo(t, "/auth/login?next="+url.QueryEscape(path))
			res := out.copy().json().get(path)
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode, path)
			assert.Equal(t, problem.CodeUnauthenticated, code(t, res))
		}
		in.get("/auth/login?next=%2Fthere").leadsTo(t, "/there")
		for _, path := range []string{"/auth/nowhere", "/account/nowhere"} {
			assert.Equal(t, http.StatusNotFound, in.get(path).StatusCode)
		}
		assert.Equal(t, http.StatusMethodNotAllowed, in.get("/auth/logout").StatusCode)
		in.get("/account/security/password").leadsTo(t, "/account/security")
	}, func(c *auth.Config) {
		c.Panels = func(*http.Request, auth.User) ([]auth.Panel, error) {
			return []auth.Panel{{Label: "Credits", Value: "12.5", URL: "/credits/", Action: "History"}}, nil
		}
	})
}

func TestDashboard_ShowsPanelsAndFirstSteps(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		body := b.get("/account/").body
		for _, want := range []string{"Hello, Ada", "12.5", `href="/credits/"`, "First steps", "Create an API key"} {
			assert.Contains(t, body, want)
		}
		_, _, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err)
		assert.NotContains(t, b.get("/account/").body, "First steps", "all are done")
		u2 := k.user("broken@example.com")
		b = k.browser()
		b.logIn(u2.Email, password)
		res := b.get("/account/")
		assert.Equal(t, http.StatusInternalServerError, res.StatusCode)
		assert.NotContains(t, res.body, "the ledger is away")
	}, func(c *auth.Config) {
		c.Panels = func(_ *http.Request, u auth.User) ([]auth.Panel, error) {
			if u.Email == "broken@example.com" {
				return nil, errors.New("the ledger is away")
			}
			return []auth.Panel{{Label: "Credits", Value: "12.5", URL: "/credits/", Action: "History"}}, nil
		}
	})
}

func TestDashboard_ShowsWhatOthersKnow(t *testing.T) {
	march := func(day int) time.Time { return time.Date(2026, 3, day, 0, 0, 0, 0, time.UTC) }
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		_, _, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err)
		b := k.browser()
		b.logIn(email, password)
		body := b.get("/account/").body
		for _, want := range []string{"First steps", `<a href="/shop">Buy`, "<rect ", `aria-label="Credits used by day`, "7.5", "9 Mar 2026", "Purchase: &lt;Starter&gt;", `href="/history"`} {
			assert.Contains(t, body, want)
		}
		k.user("broken@example.com")
		b = k.browser()
		b.logIn("broken@example.com", password)
		assert.Equal(t, http.StatusInternalServerError, b.get("/account/").StatusCode)
	}, func(c *auth.Config) {
		c.Overview = func(_ *http.Request, u auth.User) (auth.Overview, error) {
			if u.Email == "broken@example.com" {
				return auth.Overview{}, errors.New("the ledger is away")
			}
			return auth.Overview{
				Steps:    []auth.Step{{Label: "Buy credits", URL: "/shop"}},
				Use:      []auth.DayFigure{{Day: march(1), Value: 75, Text: "7.5"}, {Day: march(2)}},
				Expiring: []auth.DayFigure{{Day: march(9), Text: "40"}},
				Activity: []auth.Activity{{Text: "Purchase: <Starter>", Note: "+100", At: march(1)}}, ActivityURL: "/history",
			}, nil
		}
	})
}

func TestProfile_TakesANameAndNothingElse(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		b.post("/account/profile", "name", " Ada L. ", "role", "admin", "id", "x", "email", "eve@example.com", "verified_at", "x").leadsTo(t, "/account/profile")
		got, err := k.FindUser(t.Context(), u.ID)
		require.NoError(t, err)
		want := u
		want.Name, want.LastLoginAt = "Ada L.", got.LastLoginAt
		assert.Equal(t, want, got, "a form's other fields are ignored")
		for _, body := range []string{`{"name":"x","role":"admin"}`, `{"name":"x","id":"1"}`} {
			res := b.json().do(http.MethodPost, "/account/profile", "application/json", body)
			assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode, "and a JSON object's are refused")
		}
		for _, bad := range []string{strings.Repeat("x", 101), "a\x00b", "a\nb", "a\u2028b", "\xff", "\u202emoc.elpmaxe@nimda"} {
			res := b.post("/account/profile", "name", bad)
			assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode, "%q", bad)
		}
		require.ErrorIs(t, k.SetName(t.Context(), "0197d9a0-0000-7000-8000-000000000000", "x"), auth.ErrNotFound)
	})
}

// failingMailbox takes no mail.
type failingMailbox struct{}

func (failingMailbox) EnqueueTx(context.Context, *sqlx.Tx, mail.Message) error {
	return errors.New("the queue is away")
}

// A mail that cannot be queued undoes what it would tell of, and nobody is told that something was done.
func TestMails_CommitWithTheirCause(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		b := k.browser()
		b.logIn(email, password)
		before := k.dump()
		for _, path := range []string{"/auth/signup", "/auth/password/forgot", "/auth/verify/resend"} {
			for _, address := range []string{email, "new@example.com"} {
				res := k.browser().post(path, "email", address, "password", password)
				assert.Equal(t, http.StatusInternalServerError, res.StatusCode, path)
				assert.NotContains(t, res.body, "queue")
				assert.Empty(t, res.Cookies())
			}
		}
		assert.Equal(t, http.StatusInternalServerError, b.post("/account/security/email", "email", "new@example.com").StatusCode, "without its link back an address does not change")
		_, err := k.db.Writer().Exec(`DELETE FROM qs_auth_limits`) // attempts count, whatever comes of them
		require.NoError(t, err)
		before, _, _ = strings.Cut(before, "\nlimits\n")
		after, _, _ := strings.Cut(k.dump(), "\nlimits\n")
		assert.Equal(t, before, after)
		assert.True(t, b.in())
	}, func(c *auth.Config) { c.Mail = failingMailbox{} })
}

// The host chooses the driver.
func TestAuth_WorksOverPgx(t *testing.T) {
	t.Parallel()
	pool, err := sqlx.Open("pgx", dbtest.PostgresURL(t, schema))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close()) })
	db, err := database.New(pool, nil)
	require.NoError(t, err)
	k := newKit(t, db)
	b := k.browser()
	b.post("/auth/signup", "email", email, "password", password)
	_, token := k.link("auth.verify")
	b.post("/auth/verify", "token", token).leadsTo(t, "/account/")
	for _, path := range []string{"/account/", "/account/profile", "/account/security", "/account/api-keys"} {
		assert.Equal(t, http.StatusOK, b.get(path).StatusCode, path)
	}
	assert.Equal(t, http.StatusCreated, b.post("/account/api-keys", "name", "k").StatusCode)
	for range 6 {
		assert.Equal(t, http.StatusUnauthorized, k.browser().logIn(email, "wrong password").StatusCode)
	}
	b.post("/auth/password/forgot", "email", email)
	_, token = k.link("auth.reset")
	b.post("/auth/password/reset", "token", token, "password", "brand new words").leadsTo(t, "/auth/login")
	b.post("/auth/login", "email", email, "password", "brand new words", "remember", "on").leadsTo(t, "/account/")
	users, _, err := k.Users(t.Context(), auth.UsersParams{Query: "ada"})
	require.NoError(t, err)
	require.Len(t, users, 1)
	require.NoError(t, k.SetDisabled(t.Context(), users[0].ID, true))
	assert.False(t, b.in())
	k.clock.Advance(60 * 24 * time.Hour)
	_, err = k.Sweep(t.Context())
	require.NoError(t, err)
}

func TestTokenPages_KeepTheirAddressToThemselves(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		// Over http to another machine browsers send no Sec-Fetch-Site, and under no-referrer no origin either.
		for host, want := range map[string]string{"localhost:8080": "no-referrer", "127.0.0.1:8080": "no-referrer", "[::1]:8080": "no-referrer", "192.0.2.7:8080": "same-origin", "app.example": "same-origin"} {
			b := k.browser()
			b.h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Host = host
				k.h.ServeHTTP(w, r)
			})
			for _, path := range []string{"/auth/verify?token=x", "/auth/password/reset?token=x"} {
				assert.Equal(t, want, b.get(path).Header.Get("Referrer-Policy"), host)
			}
		}
	}, func(c *auth.Config) { c.Site = nil; c.BaseURL = "http://app.example" })
}
