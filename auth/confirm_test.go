package auth_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

func guarded(k *kit) *browser {
	mux := http.NewServeMux()
	mux.Handle("/", k.h)
	mux.Handle("/vault", k.RequireRecentAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })))
	b := k.browser()
	b.h = mux
	return b
}

func TestRecentAuth_IsAskedForAgainAfterTenMinutes(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := guarded(k)
		b.get("/vault").leadsTo(t, "/auth/login?next=%2Fvault")
		b.logIn(email, password)
		assert.Equal(t, http.StatusTeapot, b.get("/vault").StatusCode, "a log-in is a proof")
		k.clock.Advance(10 * time.Minute)
		b.get("/vault?x=1").leadsTo(t, "/auth/confirm?next=%2Fvault%3Fx%3D1")
		b.header["Referer"] = base + "/account/security?y=2"
		b.post("/vault").leadsTo(t, "/auth/confirm?next=%2Faccount%2Fsecurity%3Fy%3D2")
		b.header["Referer"] = "https://evil.example/"
		b.post("/vault").leadsTo(t, "/auth/confirm?next=%2Faccount%2F")
		assert.Equal(t, "confirmation_required", code(t, guardedCopy(b).json().get("/vault")))

		page := b.get("/auth/confirm?next=%2Fvault")
		assert.Equal(t, http.StatusOK, page.StatusCode)
		assert.Contains(t, page.body, `name="password"`)
		assert.NotContains(t, page.body, `name="code"`)
		old := guardedCopy(b)
		res := b.post("/auth/confirm", "password", "not this one", "next", "/vault")
		assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
		assert.Contains(t, res.body, "This is not your password")
		b.post("/auth/confirm", "password", password, "next", "/vault").leadsTo(t, "/vault")
		assert.Equal(t, http.StatusTeapot, b.get("/vault").StatusCode)
		assert.False(t, old.in(), "the token was replaced")
		assert.Contains(t, k.events(u.ID), auth.EventConfirmed)
		k.clock.Advance(-5 * time.Minute)
		assert.Equal(t, http.StatusSeeOther, b.get("/vault").StatusCode, "a proof from the future counts for nothing")
	})
}

func guardedCopy(b *browser) *browser {
	c := b.copy()
	c.h = b.h
	return c
}

func TestConfirm_CountsWrongPasswordsAsALogInDoes(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		b := k.browser()
		b.logIn(email, password)
		for range 5 {
			assert.Equal(t, http.StatusUnprocessableEntity, b.post("/auth/confirm", "password", "not this one").StatusCode)
		}
		assert.Equal(t, http.StatusUnprocessableEntity, b.post("/auth/confirm", "password", password).StatusCode, "locked")
		assert.True(t, b.in(), "the session lives on")
		k.clock.Advance(auth.DefaultLockFor)
		b.post("/auth/confirm", "password", password, "next", "//evil.example").leadsTo(t, "/account/")
	})
}

func TestConfirm_OnlyInOnesOwnLiveSession(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		ada, eve := k.user(email), k.user("eve@example.com")
		s, err := k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: password})
		require.NoError(t, err)
		_, err = k.Confirm(t.Context(), auth.ConfirmParams{UserID: eve.ID, SessionID: s.Session.ID, Password: password})
		require.ErrorIs(t, err, auth.ErrNoSession)
		_, err = k.Confirm(t.Context(), auth.ConfirmParams{UserID: ada.ID, SessionID: "x", Password: password})
		require.ErrorIs(t, err, auth.ErrNoSession)
		require.NoError(t, k.LogOut(t.Context(), s.Token, auth.Client{}))
		_, err = k.Confirm(t.Context(), auth.ConfirmParams{UserID: ada.ID, SessionID: s.Session.ID, Password: password})
		require.ErrorIs(t, err, auth.ErrNoSession, "an ended session does not come back")
	})
}

func TestProxy_OnlyTheTrustedOnesAreBelieved(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		for _, test := range []struct{ peer, header, value, want string }{
			{"203.0.113.9:1", "X-Forwarded-For", "198.51.100.1", "203.0.113.9"},
			{"10.0.0.1:1", "X-Forwarded-For", "198.51.100.1", "198.51.100.1"},
			{"10.0.0.1:1", "X-Forwarded-For", "1.1.1.1, 198.51.100.1, 10.0.0.2", "198.51.100.1"},
			{"10.0.0.1:1", "X-Forwarded-For", "198.51.100.1, nonsense", "10.0.0.1"},
			{"10.0.0.1:1", "X-Forwarded-For", "[2001:db8::1]:4711", "2001:db8::1"},
			{"10.0.0.1:1", "X-Forwarded-For", "10.0.0.3", "10.0.0.3"},
			{"10.0.0.1:1", "Forwarded", "for=198.51.100.1", "10.0.0.1"},
			{"10.0.0.1:1", "X-Real-Ip", "198.51.100.1", "10.0.0.1"},
		} {
			b := k.browser()
			b.addr, b.header[test.header] = test.peer, test.value
			b.logIn(email, password).leadsTo(t, "/account/")
			var got string
			require.NoError(t, k.db.Writer().Get(&got, `SELECT ip FROM qs_auth_sessions ORDER BY id DESC LIMIT 1`))
			assert.Equal(t, test.want, got, "%+v", test)
		}
	}, func(c *auth.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
}

func TestProxy_ReadsForwarded(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		b := k.browser()
		b.addr, b.header["Forwarded"], b.header["X-Forwarded-For"] = "10.0.0.1:1", `for=1.1.1.1, For="[2001:db8:cafe::17]:4711";proto=https;by=10.0.0.9`, "8.8.8.8"
		b.logIn(email, password).leadsTo(t, "/account/")
		var got string
		require.NoError(t, k.db.Writer().Get(&got, `SELECT ip FROM qs_auth_sessions`))
		assert.Equal(t, "2001:db8:cafe::17", got)
	}, func(c *auth.Config) {
		c.TrustedProxies, c.ProxyHeader = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, "Forwarded"
	})
}

func TestNew_RefusesProxiesThatTrustEverybody(t *testing.T) {
	t.Parallel()
	_, err := auth.New(auth.Config{BaseURL: base, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, ProxyHeader: "X-Real-IP", RecentAuth: time.Second})
	require.Error(t, err)
	for _, name := range []string{"TrustedProxies", "ProxyHeader", "RecentAuth"} {
		assert.Equal(t, 1, strings.Count(err.Error(), "Config."+name+" "), name)
	}
}
