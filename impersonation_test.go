package quickscale_test

import (
	"context"
	"io"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/services"
)

// changing are the routes of each package that change something, with ids of nothing in them: the guard stands before
// they are looked up.
var changing = map[string][]string{
	"auth": {
		"/auth/signup", "/auth/login", "/auth/verify", "/auth/verify/resend", "/auth/password/forgot", "/auth/password/strength", "/auth/password/reset",
		"/auth/confirm", "/auth/confirm/passkey/begin", "/auth/confirm/passkey", "/auth/magic", "/auth/magic/code", "/auth/magic/link", "/auth/email/confirm", "/auth/email/undo",
		"/auth/oauth/google", "/auth/oauth/link", "/auth/passkey/begin", "/auth/passkey", "/auth/2fa", "/auth/2fa/passkey/begin", "/auth/2fa/passkey",
		"/auth/2fa/setup/begin", "/auth/2fa/setup", "/auth/invitation", "/auth/unsubscribe",
		"/account/security/email", "/account/security/password", "/account/security/sessions/revoke-others", "/account/security/sessions/ID/revoke",
		"/account/security/totp/begin", "/account/security/totp", "/account/security/totp/remove", "/account/security/backup-codes", "/account/security/passkeys/begin",
		"/account/security/passkeys", "/account/security/passkeys/ID", "/account/security/passkeys/ID/remove", "/account/security/identities/google",
		"/account/security/identities/google/unlink", "/account/security/password/add",
		"/account/profile", "/account/profile/picture", "/account/profile/picture/remove", "/account/export", "/account/delete", "/account/delete/cancel",
		"/account/api-keys", "/account/api-keys/ID/regenerate", "/account/api-keys/ID/revoke", "/account/impersonation/ID",
		"/account/organisation", "/account/organisation/switch", "/account/organisation/name", "/account/organisation/leave", "/account/organisation/invitations",
		"/account/organisation/invitations/ID/resend", "/account/organisation/invitations/ID/revoke", "/account/organisation/members/ID/role",
		"/account/organisation/members/ID/owner", "/account/organisation/members/ID/remove", "/account/organisation/delete", "/account/organisation/delete/cancel",
		"/account/organisation/api-keys/ID/revoke",
	},
	"billing": {
		"/billing/checkout", "/billing/subscription/change", "/billing/subscription/cancel", "/billing/subscription/resume", "/billing/subscription/pause",
		"/billing/auto-topup", "/billing/auto-topup/stop", "/billing/payment-methods/add", "/billing/payment-methods/pm_1/default", "/billing/payment-methods/pm_1/remove", "/billing/portal",
	},
	"services": {
		"/services/echo", "/services/calls/ID/cancel", "/api/v1/services/echo", "/api/v1/services/echo/quote", "/api/v1/calls/ID/cancel", "/api/v1/docs/echo",
	},
	"webhook/outbound": {
		"/account/webhooks/", "/account/webhooks/ID", "/account/webhooks/ID/enable", "/account/webhooks/ID/disable", "/account/webhooks/ID/roll", "/account/webhooks/ID/test",
		"/account/webhooks/ID/delete", "/account/webhooks/ID/deliveries/ID/resend",
	},
	"credits": {},
}

// let are the routes that go on: stopping, logging out, and what another site's form is led through to a GET.
var let = map[string]int{"auth": 3}

// TestImpersonation_EachRouteThatChangesIsListed has who adds a route find this file.
func TestImpersonation_EachRouteThatChangesIsListed(t *testing.T) {
	t.Parallel()
	for dir, routes := range changing {
		files, err := fs.Glob(os.DirFS(dir), "*.go")
		require.NoError(t, err)
		n := 0
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := fs.ReadFile(os.DirFS(dir), name)
			require.NoError(t, err)
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
				n += strings.Count(string(text), `("`+method+` `)
			}
		}
		assert.Equal(t, n, len(routes)+let[dir], "the routes of %s that change something are not all in the list", dir)
	}
}

// person is a browser with cookies.
type person struct {
	t   *testing.T
	h   http.Handler
	jar *cookiejar.Jar
}

var home, _ = url.Parse("http://127.0.0.1:1")

func signIn(t *testing.T, app *quickscale.App, address string) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	p := &person{t, app.Handler(), jar}
	s, err := app.Auth.LogIn(t.Context(), auth.LogInParams{Email: address, Password: "correct horse battery"})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	app.Auth.SetSession(w, s)
	jar.SetCookies(home, w.Result().Cookies())
	return p
}

// send returns the status and the body; form is of name=value.
func (p *person) send(method, path, form string, header ...string) (int, string) {
	p.t.Helper()
	r := httptest.NewRequest(method, home.String()+path, strings.NewReader(form))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.Header.Set("Accept", "text/html")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	for _, c := range p.jar.Cookies(home) {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	p.h.ServeHTTP(w, r)
	p.jar.SetCookies(home, w.Result().Cookies())
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(p.t, err)
	return w.Code, string(body)
}

type said struct {
	Text string `json:"text" validate:"required"`
}

// Staff who act as somebody see all pages under a banner, change nothing by any route of any package nor by the API, and
// are themselves again after half an hour.
func TestImpersonation_ChangesNothingAnywhere(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		var later atomic.Int64
		app := newApp(t, db, func(c *quickscale.Config) {
			c.OAuth = []auth.OAuthProvider{auth.Google("id", "secret")}
			c.Clock = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		})
		require.NoError(t, app.Migrate(t.Context()))
		require.NoError(t, services.Register(app.Services, services.Func(services.Info{Name: "echo", Title: "Echo", Summary: "Says it again.", Version: "1"}, services.Fixed(credits.Credit),
			func(_ context.Context, _ *services.Call, in said) (said, error) { return in, nil })))
		for address, role := range map[string]auth.Role{"ada@example.com": auth.RoleUser, "sue@example.com": auth.RoleStaff} {
			_, err := app.Auth.CreateUser(t.Context(), auth.CreateUserParams{Email: address, Name: "Somebody", Password: "correct horse battery", Verified: true, Role: role})
			require.NoError(t, err)
		}
		ada, err := app.Auth.FindUserByEmail(t.Context(), "ada@example.com")
		require.NoError(t, err)
		sue, err := app.Auth.FindUserByEmail(t.Context(), "sue@example.com")
		require.NoError(t, err)
		_, err = app.Credits.Grant(t.Context(), credits.GrantParams{Account: ada.AccountID, Amount: 9 * credits.Credit, Source: credits.Purchase, Reason: "Pack"})
		require.NoError(t, err)
		own, err := app.Pages(fstest.MapFS{"templates/own.html": {Data: []byte(`{{define "title"}}Own{{end}}{{define "content"}}<h1>Own page</h1>{{end}}`)}})
		require.NoError(t, err)
		mux := http.NewServeMux()
		mux.Handle("/", app.Handler())
		mux.Handle("/own", app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { own.Render(w, r, http.StatusOK, "own", nil) })))
		b := signIn(t, app, sue.Email)
		b.h = mux
		status, body := b.send(http.MethodPost, "/account/impersonation/"+ada.ID, "reason=ticket+7")
		require.Equal(t, http.StatusSeeOther, status, body)

		for _, path := range []string{
			"/account/", "/account/profile", "/account/security", "/account/api-keys", "/account/organisation", "/account/delete", "/account/webhooks/", "/billing/", "/billing/payments",
			"/billing/auto-topup", "/billing/payment-methods", "/credits/", "/services/", "/services/echo", "/api/v1/docs", "/own", "/nowhere",
		} {
			_, body := b.send(http.MethodGet, path, "")
			assert.Contains(t, body, `class="qs-banner"`, path)
			assert.Contains(t, body, "ada@example.com", path)
		}

		before := everything(t, db)
		id := uuid.Must(uuid.NewV7()).String()
		for _, routes := range changing {
			for _, path := range routes {
				path = strings.ReplaceAll(path, "ID", id)
				for _, accept := range []string{"text/html", "application/json"} {
					status, body := b.send(http.MethodPost, path, "text=hi&name=Eve&email=eve@example.com&password=correct+horse+wire", "Accept", accept)
					assert.Equal(t, http.StatusForbidden, status, "%s %s", path, accept)
					assert.Contains(t, body, "You act as somebody else", "%s %s", path, accept)
				}
			}
		}
		for _, method := range []string{http.MethodPut, http.MethodPatch, http.MethodDelete} {
			for _, path := range []string{"/account/profile", "/billing/checkout", "/services/echo", "/api/v1/services/echo"} {
				status, _ := b.send(method, path, "")
				assert.Equal(t, http.StatusForbidden, status, "%s %s", method, path)
			}
		}
		// MCP takes API keys alone, so a browser that acts as somebody spends nothing by it.
		status, _ = b.send(http.MethodPost, "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}`, "Content-Type", "application/json")
		assert.Equal(t, http.StatusUnauthorized, status)
		for _, path := range []string{"/admin/", "/admin/users/" + ada.ID} {
			status, _ = b.send(http.MethodGet, path, "")
			assert.Equal(t, http.StatusNotFound, status, "%s is the staff's", path)
		}
		status, _ = b.send(http.MethodPost, "/admin/users/"+ada.ID+"/credits", "amount=5&reason=gift")
		assert.Equal(t, http.StatusNotFound, status)
		assert.Equal(t, before, everything(t, db), "something was changed")

		later.Store(int64(auth.DefaultImpersonateFor))
		status, _ = b.send(http.MethodPost, "/services/echo", "text=hi")
		assert.Equal(t, http.StatusSeeOther, status, "the form is carried out for nobody")
		_, body = b.send(http.MethodGet, "/account/", "")
		assert.NotContains(t, body, `class="qs-banner"`)
		assert.Contains(t, body, "sue@example.com")
		balance, err := app.Credits.Balance(t.Context(), ada.AccountID)
		require.NoError(t, err)
		assert.Equal(t, 9*credits.Credit, balance.Available)
		for _, u := range []auth.User{ada, sue} {
			events, _, err := app.Auth.SecurityEvents(t.Context(), auth.EventsParams{UserID: u.ID})
			require.NoError(t, err)
			kinds := map[auth.EventKind]string{}
			for _, e := range events {
				kinds[e.Kind] = e.Detail
			}
			assert.Contains(t, kinds[auth.EventImpersonateStart], "ticket 7", "why is kept with the events of both")
			assert.Contains(t, kinds, auth.EventImpersonateStop)
		}
	})
}

// everything is all that is kept about people and accounts, but for the sessions, whose last use is noted.
func everything(t *testing.T, db *database.DB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, table := range personTables(t, db) {
		if table != "qs_auth_sessions" && table != "qs_service_quotas" {
			all[table] = dump(t, db, table)
		}
	}
	return all
}
