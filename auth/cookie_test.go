package auth_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// Every cookie that any page sets is tied to this host and kept from scripts and other sites, with no word of who it is.
func TestCookies_AreTiedToTheHostInProduction(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		seen := map[string]bool{}
		check := func(a answer) answer {
			t.Helper()
			for _, c := range a.Cookies() {
				seen[c.Name] = true
				if strings.HasSuffix(c.Name, "qs_flash") {
					continue // internal/web's own, with a message
				}
				assert.True(t, strings.HasPrefix(c.Name, "__Host-qs_"), c.Name)
				assert.True(t, c.Secure && c.HttpOnly, c.Name)
				assert.Equal(t, http.SameSiteLaxMode, c.SameSite, c.Name)
				assert.Equal(t, "/", c.Path, c.Name)
				assert.Empty(t, c.Domain, c.Name)
				if c.MaxAge >= 0 {
					assert.Regexp(t, `^[A-Za-z0-9_-]{43}$`, c.Value, "%s is a secret that means nothing elsewhere", c.Name)
				}
			}
			return a
		}
		b := k.browser()
		check(b.post("/auth/signup", "email", "new@example.com", "password", password))
		_, token := k.link("auth.verify")
		check(k.browser().post("/auth/verify", "token", token))
		check(b.post("/auth/verify", "token", token))
		check(k.browser().post("/auth/magic", "email", email))
		check(k.browser().post("/auth/passkey/begin"))
		check(k.browser().post("/auth/oauth/github"))
		b = k.browser()
		check(b.logIn(email, password))
		check(b.post("/auth/confirm", "password", password))
		check(b.post("/account/security/password", "current", password, "password", password))
		k.phone(u)
		check(b.logIn(email, password))
		check(b.post("/auth/logout"))
		for _, name := range []string{"session", "signup", "confirm", "pending", "magic", "device", "passkey", "oauth"} {
			assert.True(t, seen["__Host-qs_"+name], "no page set qs_"+name)
		}
	}, func(c *auth.Config) { c.OAuth = []auth.OAuthProvider{auth.GitHub("id", "secret")} })
}

// Whatever is sent as a cookie, nobody gets in by it, nothing breaks, and nothing is looked up that we did not make.
func FuzzCookies(f *testing.F) {
	k := newKit(f, dbtest.SQLite(f, schema))
	k.user(email)
	s, err := k.LogIn(f.Context(), auth.LogInParams{Email: email, Password: password})
	require.NoError(f, err)
	h := k.RequireUser(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for _, c := range []string{"", "__Host-qs_session=" + s.Token, "__Host-qs_session=" + strings.Repeat("A", 43), "qs_session=" + s.Token, "__Host-qs_session=\"" + s.Token + "\"",
		"__Host-qs_session=x; __Host-qs_session=" + s.Token, "__Host-qs_session=" + s.Token + "\x00", "__host-qs_session=" + s.Token, "__Host-qs_session=' OR 1=1 --", ";;;=;", "__Host-qs_device=\xff"} {
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, cookie string) {
		r := httptest.NewRequest(http.MethodGet, base+"/", nil)
		r.Header["Cookie"] = []string{cookie}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusTeapot {
			require.Contains(t, cookie, "__Host-qs_session=")
			require.Contains(t, cookie, s.Token)
			return
		}
		require.Equal(t, http.StatusSeeOther, w.Code)
	})
}

// A session that somebody planted in a browser is never the one that its owner gets, by whatever way they come in.
func TestFixation_NoWayInTakesOverWhatTheBrowserHad(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		thiefs, err := k.LogIn(t.Context(), auth.LogInParams{Email: k.user("eve@example.com").Email, Password: password})
		require.NoError(t, err)
		planted := func() *browser {
			b := k.browser()
			b.jar.SetCookies(site, []*http.Cookie{{Name: "__Host-qs_session", Value: thiefs.Token, Path: "/", Secure: true}})
			return b
		}
		fresh := func(way string, b *browser) {
			t.Helper()
			got := b.cookie("__Host-qs_session")
			assert.NotEmpty(t, got, way)
			assert.NotEqual(t, thiefs.Token, got, way)
			assert.Contains(t, b.get("/account/").body, "Hello, Ada", way)
			thiefs, err = k.LogIn(t.Context(), auth.LogInParams{Email: "eve@example.com", Password: password})
			require.NoError(t, err)
		}
		b := planted()
		b.logIn(email, password)
		fresh("password", b)
		b = planted()
		b.post("/auth/magic", "email", email)
		b.post("/auth/magic/code", "code", k.code())
		fresh("code", b)
		b = planted()
		b.post("/auth/magic", "email", email)
		_, link := k.link("auth.magic")
		b.post("/auth/magic/link", "token", link)
		fresh("link", b)
		b = k.browser()
		b.logIn(email, password)
		before := b.copy()
		k.clock.Advance(10 * time.Minute)
		b.post("/auth/confirm", "password", password)
		assert.NotEqual(t, before.cookie("__Host-qs_session"), b.cookie("__Host-qs_session"))
		assert.False(t, before.in(), "a proof gives another token too")
		p, _ := k.phone(u)
		b = planted()
		b.logIn(email, password)
		assert.Empty(t, k.count(`SELECT COUNT(*) FROM qs_auth_sessions WHERE token_hash = ? AND revoked_at IS NULL`, hashed(thiefs.Token)), "what was there ends with the first step")
		k.clock.Advance(time.Minute)
		b.post("/auth/2fa", "code", p.code())
		fresh("second step", b)
		// What waits for the second step is no session, also where a browser claims that it is.
		b = k.browser()
		b.logIn(email, password)
		b.jar.SetCookies(site, []*http.Cookie{{Name: "__Host-qs_session", Value: b.cookie("__Host-qs_pending"), Path: "/", Secure: true}})
		assert.False(t, b.in())
	})
}
