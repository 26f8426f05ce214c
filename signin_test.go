package quickscale_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func environment(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestFromEnvironment_OtherSites(t *testing.T) {
	t.Parallel()
	e, err := quickscale.FromEnvironment(environment(map[string]string{
		"QUICKSCALE_OAUTH_GOOGLE_CLIENT_ID": "g", "QUICKSCALE_OAUTH_GOOGLE_CLIENT_SECRET": "s",
		"QUICKSCALE_OAUTH_GITHUB_CLIENT_ID": "h", "QUICKSCALE_OAUTH_GITHUB_CLIENT_SECRET": "s",
		"QUICKSCALE_OAUTH_MICROSOFT_CLIENT_ID": "m", "QUICKSCALE_OAUTH_MICROSOFT_CLIENT_SECRET": "s",
		"QUICKSCALE_OAUTH_APPLE_CLIENT_ID": "a", "QUICKSCALE_OAUTH_APPLE_CLIENT_SECRET": "s",
		"QUICKSCALE_OAUTH_OIDC_CLIENT_ID": "o", "QUICKSCALE_OAUTH_OIDC_CLIENT_SECRET": "s", "QUICKSCALE_OAUTH_OIDC_ISSUER": "https://id.example", "QUICKSCALE_OAUTH_OIDC_LABEL": "Acme",
		"QUICKSCALE_STAFF_SECOND_FACTOR": "true",
	}))
	require.NoError(t, err)
	var names []string
	for _, site := range e.Config.OAuth {
		names = append(names, site.Name+" "+site.Label)
	}
	assert.Equal(t, []string{"google Google", "github GitHub", "microsoft Microsoft", "apple Apple", "oidc Acme"}, names)
	assert.True(t, e.Config.StaffSecondFactor)

	none, err := quickscale.FromEnvironment(environment(nil))
	require.NoError(t, err)
	assert.Empty(t, none.Config.OAuth)
	assert.False(t, none.Config.StaffSecondFactor)
	for missing, values := range map[string]map[string]string{
		"QUICKSCALE_OAUTH_GOOGLE_CLIENT_SECRET": {"QUICKSCALE_OAUTH_GOOGLE_CLIENT_ID": "g"},
		"QUICKSCALE_OAUTH_GITHUB_CLIENT_ID":     {"QUICKSCALE_OAUTH_GITHUB_CLIENT_SECRET": "s"},
		"QUICKSCALE_OAUTH_OIDC_ISSUER":          {"QUICKSCALE_OAUTH_OIDC_CLIENT_ID": "o", "QUICKSCALE_OAUTH_OIDC_CLIENT_SECRET": "s"},
		"QUICKSCALE_STAFF_SECOND_FACTOR":        {"QUICKSCALE_STAFF_SECOND_FACTOR": "maybe"},
	} {
		_, err := quickscale.FromEnvironment(environment(values))
		require.ErrorContains(t, err, missing)
	}
}

func TestApp_OffersAllWaysIn(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, dbtest.Empty)
	app := newApp(t, db, func(cfg *quickscale.Config) { cfg.OAuth = []auth.OAuthProvider{auth.Google("id", "secret")} })
	require.NoError(t, app.Migrate(t.Context()))
	_, page, _ := get(t, app.Handler(), "/auth/login", "Accept", "text/html")
	assert.Contains(t, page, "Log in with a passkey")
	assert.Contains(t, page, "Go on with Google")

	// A form that another site's page sends changes nothing and leads to the same answer as a GET.
	r := httptest.NewRequest(http.MethodPost, "/auth/oauth/google/callback", strings.NewReader(url.Values{"state": {"s"}, "code": {"c"}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	app.Handler().ServeHTTP(w, r)
	assert.Equal(t, http.StatusSeeOther, w.Code)
	assert.Equal(t, "/auth/oauth/google/callback?code=c&state=s", w.Header().Get("Location"))
}

func TestApp_TheBackOfficeStaysClosedWithoutASecondStep(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, dbtest.Empty)
	app := newApp(t, db, func(cfg *quickscale.Config) { cfg.StaffSecondFactor = true })
	require.NoError(t, app.Migrate(t.Context()))
	ctx := context.Background()
	u, err := app.Auth.CreateUser(ctx, auth.CreateUserParams{Email: "staff@example.com", Password: "a long passphrase", Verified: true})
	require.NoError(t, err)
	s, err := app.Auth.LogIn(ctx, auth.LogInParams{Email: "staff@example.com", Password: "a long passphrase"})
	require.NoError(t, err)
	require.NoError(t, app.Auth.SetRole(ctx, u.ID, auth.RoleAdmin))
	visit := func() int {
		w := httptest.NewRecorder()
		app.Auth.SetSession(w, s)
		status, _, _ := get(t, app.Handler(), "/admin/", "Cookie", w.Header().Get("Set-Cookie"))
		return status
	}
	assert.Equal(t, http.StatusNotFound, visit(), "the session is from before")
	setup, err := app.Auth.BeginTOTP(ctx, u.ID)
	require.NoError(t, err)
	code, err := totp.GenerateCode(strings.ReplaceAll(setup.Secret, " ", ""), time.Now())
	require.NoError(t, err)
	_, err = app.Auth.ConfirmTOTP(ctx, u.ID, code, auth.Client{})
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, visit())
}

func TestFromEnvironment_TrustedProxies(t *testing.T) {
	t.Parallel()
	e, err := quickscale.FromEnvironment(environment(map[string]string{"QUICKSCALE_TRUSTED_PROXIES": "10.1.2.3/8, 192.0.2.7,2001:db8::/32"}))
	require.NoError(t, err)
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::/32")},
		e.Config.TrustedProxies)
	_, err = quickscale.FromEnvironment(environment(map[string]string{"QUICKSCALE_TRUSTED_PROXIES": "proxy.local"}))
	require.ErrorContains(t, err, "QUICKSCALE_TRUSTED_PROXIES")
}
