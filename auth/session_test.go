package auth_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/web"
)

func sessionCookieOf(t *testing.T, a answer) *http.Cookie {
	t.Helper()
	for _, c := range a.Cookies() {
		if strings.HasSuffix(c.Name, "qs_session") {
			return c
		}
	}
	require.Fail(t, "there is no session cookie")
	return nil
}

func TestSession_CookieIsKeptFromScriptsAndOtherSites(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		c := sessionCookieOf(t, k.browser().logIn(email, password))
		assert.Equal(t, "__Host-qs_session", c.Name)
		assert.True(t, c.Secure && c.HttpOnly)
		assert.Equal(t, http.SameSiteLaxMode, c.SameSite)
		assert.Equal(t, "/", c.Path)
		assert.Empty(t, c.Domain)
		assert.Zero(t, c.MaxAge, "until the browser closes")
		assert.Len(t, c.Value, 43, "256 bits")
		remembered := sessionCookieOf(t, k.browser().post("/auth/login", "email", email, "password", password, "remember", "true"))
		assert.Equal(t, 30*24*3600, remembered.MaxAge)
		remembered.MaxAge, remembered.Value, remembered.Raw, c.Value, c.Raw = 0, "", "", "", ""
		assert.Equal(t, c, remembered, "only the number differs")
		for _, c := range k.browser().post("/auth/signup", "email", "new@example.com", "password", password).Cookies() {
			assert.True(t, c.Secure && c.HttpOnly && c.SameSite == http.SameSiteLaxMode, c.Name)
		}
	})
	run2 := func(t *testing.T, k *kit) {
		k.user("http@example.com")
		c := sessionCookieOf(t, k.browser().logIn("http@example.com", password))
		assert.Equal(t, "qs_session", c.Name)
		assert.True(t, !c.Secure && c.HttpOnly)
	}
	t.Run("over http", func(t *testing.T) {
		run(t, run2, func(c *auth.Config) {
			var err error
			c.Site, err = web.New(web.Config{})
			require.NoError(t, err)
		})
	})
}

func TestSession_LogInAlwaysGivesAnotherToken(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		// A token that somebody planted is not taken over.
		victim := k.browser()
		planted := strings.Repeat("A", 43)
		victim.jar.SetCookies(site, []*http.Cookie{{Name: "__Host-qs_session", Value: planted, Path: "/", Secure: true}})
		victim.logIn(email, password).leadsTo(t, "/account/")
		first := victim.cookie("__Host-qs_session")
		assert.NotEqual(t, planted, first)

		thief := victim.copy()
		require.True(t, thief.in())
		victim.logIn(email, password).leadsTo(t, "/account/")
		assert.NotEqual(t, first, victim.cookie("__Host-qs_session"))
		assert.False(t, thief.in(), "the session before has ended")
		assert.True(t, victim.in())
		assert.Equal(t, 1, countKind(k.events(u.ID), auth.EventLogOut))
	})
}

// A host with a log-in page of its own calls the same functions.
func TestSetSession_LetsTheHostLogIn(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		s, err := k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: password})
		require.NoError(t, err)
		assert.Equal(t, u.ID, slog.AnyValue(s).Resolve().String(), "the token is not logged")
		w := httptest.NewRecorder()
		k.SetSession(w, s)
		b := k.browser()
		b.jar.SetCookies(site, w.Result().Cookies())
		assert.True(t, b.in())
		require.NoError(t, k.LogOut(t.Context(), s.Token, auth.Client{}))
		require.NoError(t, k.LogOut(t.Context(), "nonsense", auth.Client{}))
		assert.False(t, b.in())
	})
}

func TestSession_OtherSecretsAreNoSession(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		b := k.browser()
		b.post("/auth/signup", "email", email, "password", password)
		_, token := k.link("auth.verify")
		u := k.user("other@example.com")
		_, key, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err)
		for _, value := range []string{b.cookie("__Host-qs_signup"), token, key, strings.Split(key, ".")[1], u.ID, ""} {
			b := k.browser()
			b.jar.SetCookies(site, []*http.Cookie{{Name: "__Host-qs_session", Value: value, Path: "/", Secure: true}})
			assert.False(t, b.in(), value)
		}
	})
}

func TestSession_EndsByIdlenessAndAge(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		b, idle, kept := k.browser(), k.browser(), k.browser()
		b.logIn(email, password)
		idle.logIn(email, password)
		kept.post("/auth/login", "email", email, "password", password, "remember", "on")
		for range 6 { // never a day without a request
			k.clock.Advance(24*time.Hour - time.Second)
			require.True(t, b.in())
		}
		assert.False(t, idle.in(), "a day without a request")
		k.clock.Advance(23 * time.Hour)
		assert.True(t, b.in())
		k.clock.Advance(time.Hour + 6*time.Second)
		assert.False(t, b.in(), "7 days at most, used or not")
		k.clock.Advance(23*24*time.Hour - time.Second)
		assert.True(t, kept.in())
		k.clock.Advance(time.Second)
		assert.False(t, kept.in(), "30 days at most, used or not")
	})
}

func TestSession_LastUseIsWrittenOnceAMinute(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		seen := func() time.Time {
			sessions, _, err := k.Sessions(t.Context(), auth.SessionsParams{UserID: u.ID})
			require.NoError(t, err)
			require.Len(t, sessions, 1)
			return sessions[0].LastSeenAt
		}
		k.clock.Advance(59 * time.Second)
		require.True(t, b.in())
		assert.Equal(t, start, seen())
		k.clock.Advance(time.Second)
		require.True(t, b.in())
		assert.Equal(t, start.Add(time.Minute), seen())
		k.clock.Advance(-10 * time.Minute) // a clock that is set back ends and prolongs nothing
		require.True(t, b.in())
		assert.Equal(t, start.Add(time.Minute), seen())
	})
}

// Requests under way when a session is revoked do not bring it back.
func TestSession_RevokedNeverComesBack(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		k.clock.Advance(2 * time.Minute) // so that each request wants to write
		sessions, _, err := k.Sessions(t.Context(), auth.SessionsParams{UserID: u.ID})
		require.NoError(t, err)
		var group errgroup.Group
		for i := range 20 {
			group.Go(func() error {
				if i == 10 {
					return k.RevokeSession(t.Context(), u.ID, sessions[0].ID, auth.Client{})
				}
				b.copy().get("/account/")
				return nil
			})
		}
		require.NoError(t, group.Wait())
		assert.False(t, b.in())
		k.clock.Advance(2 * time.Minute)
		assert.False(t, b.in())
		assert.Equal(t, 0, k.count(`SELECT COUNT(*) FROM qs_auth_sessions WHERE revoked_at IS NULL`))
		require.ErrorIs(t, k.RevokeSession(t.Context(), u.ID, sessions[0].ID, auth.Client{}), auth.ErrNoSession)
	})
}

func TestLogOut_EndsTheSessionAndClearsTheBrowser(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		thief := b.copy()
		res := b.post("/auth/logout")
		res.leadsTo(t, "/auth/login")
		assert.Equal(t, `"cache"`, res.Header.Get("Clear-Site-Data"))
		assert.Negative(t, sessionCookieOf(t, res).MaxAge)
		assert.False(t, b.in())
		assert.False(t, thief.in(), "the token is worth nothing any more")
		b.post("/auth/logout").leadsTo(t, "/auth/login") // again is no error
		assert.Equal(t, 1, countKind(k.events(u.ID), auth.EventLogOut))
	})
}

func TestSecurity_SessionsAreListedAndEnded(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u, eve := k.user(email), k.user("eve@example.com")
		here, phone, tablet, evil := k.browser(), k.browser(), k.browser(), k.browser()
		phone.header["User-Agent"] = "Phone <script>"
		for _, b := range []*browser{here, phone, tablet} {
			b.logIn(email, password)
		}
		evil.logIn(eve.Email, password)
		body := here.get("/account/security").body
		assert.Contains(t, body, "This device")
		assert.Contains(t, body, "Phone &lt;script&gt;")
		assert.NotContains(t, body, here.cookie("__Host-qs_session"))
		sessions, _, err := k.Sessions(t.Context(), auth.SessionsParams{UserID: u.ID})
		require.NoError(t, err)
		require.Len(t, sessions, 3)

		at := "/account/security/sessions/" + sessions[1].ID + "/revoke"
		assert.Equal(t, http.StatusNotFound, evil.post(at).StatusCode, "another's session")
		require.ErrorIs(t, k.RevokeSession(t.Context(), eve.ID, sessions[1].ID, auth.Client{}), auth.ErrNoSession)
		assert.True(t, phone.in())
		here.post(at).leadsTo(t, "/account/security")
		assert.False(t, phone.in())
		here.post("/account/security/sessions/revoke-others").leadsTo(t, "/account/security")
		assert.True(t, here.in())
		assert.False(t, tablet.in())
		assert.True(t, evil.in(), "nobody else's ended")
		for _, id := range []string{"x", "", "{" + sessions[0].ID + "}", strings.ToUpper(sessions[0].ID)} {
			require.ErrorIs(t, k.RevokeSession(t.Context(), u.ID, id, auth.Client{}), auth.ErrNoSession)
		}
		for range 22 {
			k.browser().logIn(email, password)
		}
		assert.Contains(t, here.get("/account/security").body, "sessions_before=")
		assert.Contains(t, here.get("/account/security").body, "events_before=")
		page, more, err := k.Sessions(t.Context(), auth.SessionsParams{UserID: u.ID, Limit: 20})
		require.NoError(t, err)
		assert.True(t, more)
		rest, more, err := k.Sessions(t.Context(), auth.SessionsParams{UserID: u.ID, Limit: 20, Before: page[19].ID})
		require.NoError(t, err)
		assert.False(t, more)
		assert.Len(t, rest, 3)
	})
}

func TestRequire_LetsThroughWhoMayPass(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		var seen []string
		page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			u, ok := auth.UserFrom(r.Context())
			_, session := auth.SessionFrom(r.Context())
			assert.Equal(t, ok, session)
			seen = append(seen, u.Email)
			w.WriteHeader(http.StatusNoContent)
		})
		b, program := k.browser(), k.browser().json()
		visit := func(b *browser, h http.Handler, method string) answer {
			b.h = h
			defer func() { b.h = k.h }()
			return b.do(method, "/page?a=b", "", "")
		}
		user, verified, admin := k.RequireUser(page), k.RequireVerified(page), k.RequireRole(auth.RoleAdmin)(page)
		for _, h := range []http.Handler{user, verified, admin} {
			visit(b, h, http.MethodGet).leadsTo(t, "/auth/login?next=%2Fpage%3Fa%3Db")
			visit(b, h, http.MethodPost).leadsTo(t, "/auth/login?next=%2Faccount%2F")
			assert.Equal(t, http.StatusUnauthorized, visit(program, h, http.MethodGet).StatusCode)
		}
		assert.Equal(t, http.StatusNoContent, visit(b, k.Load(page), http.MethodGet).StatusCode)
		b.logIn(email, password)
		program.logIn(email, password)
		assert.Equal(t, http.StatusNoContent, visit(b, user, http.MethodGet).StatusCode)
		assert.Equal(t, http.StatusNoContent, visit(b, verified, http.MethodGet).StatusCode)
		assert.Equal(t, http.StatusForbidden, visit(b, admin, http.MethodGet).StatusCode)
		assert.Equal(t, "forbidden", code(t, visit(program, admin, http.MethodGet)))
		require.NoError(t, k.SetRole(t.Context(), u.ID, auth.RoleAdmin))
		visit(b, user, http.MethodGet).leadsTo(t, "/auth/login?next=%2Fpage%3Fa%3Db") // another role needs another session
		b.logIn(email, password)
		program.logIn(email, password)
		assert.Equal(t, http.StatusNoContent, visit(b, admin, http.MethodGet).StatusCode)
		_, err := k.db.Writer().Exec(`UPDATE qs_auth_users SET verified_at = NULL`)
		require.NoError(t, err)
		k.clock.Advance(auth.DefaultSessionCache)
		assert.Equal(t, "email_unverified", code(t, visit(program, verified, http.MethodGet)))
		assert.Equal(t, []string{"", email, email, email}, seen)
	})
}

// An inner Load relies on the outer one, and who shows no session costs no query at all.
func TestLoad_ReadsOnceAtMost(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		b.h = k.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.NoError(t, k.RevokeOtherSessions(t.Context(), u.ID, "", auth.Client{}))
			k.Load(k.RequireUser(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))).ServeHTTP(w, r)
		}))
		assert.Equal(t, http.StatusNoContent, b.get("/").StatusCode)
		assert.Equal(t, http.StatusSeeOther, b.get("/account/").StatusCode)

		require.NoError(t, k.db.Reader().Close())
		if k.db.Reader() != k.db.Writer() {
			require.NoError(t, k.db.Writer().Close())
		}
		h := k.Load(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
		for cookie, want := range map[string]int{"": 204, "short": 204, strings.Repeat("*", 43): 204, strings.Repeat("A", 43): 500} {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.AddCookie(&http.Cookie{Name: "__Host-qs_session", Value: cookie})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			assert.Equal(t, want, w.Code, cookie)
		}
	})
}

func TestClientOf_ReadsTheConnectionOnly(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{"192.0.2.1:80": "192.0.2.1", "[2001:db8::1]:80": "2001:db8::1", "[::ffff:192.0.2.1]:80": "192.0.2.1", "[fe80::1%eth0]:80": "fe80::1", "192.0.2.1": "192.0.2.1", "@": "", "": ""} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = addr
		r.Header.Set("X-Forwarded-For", "203.0.113.9")
		r.Header.Set("X-Real-IP", "203.0.113.9")
		r.Header.Set("User-Agent", strings.Repeat("é", 400)+"\x00\xff")
		c := auth.ClientOf(r)
		assert.Equal(t, want, c.IP, addr)
		assert.Equal(t, strings.Repeat("é", 300), c.Agent)
	}
}

// A host's own rows and ours commit together, or not at all.
func TestTx_TwinsJoinTheCallersTransaction(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		work := func(ctx context.Context, tx *sqlx.Tx) (u auth.User, token string, err error) {
			if u, err = k.CreateUserTx(ctx, tx, auth.CreateUserParams{Email: email, Password: password, Verified: true}); err != nil {
				return u, "", err
			}
			if err = k.SetRoleTx(ctx, tx, u.ID, auth.RoleAdmin); err != nil {
				return u, "", err
			}
			if err = k.SetNameTx(ctx, tx, u.ID, "Ada"); err != nil {
				return u, "", err
			}
			_, token, err = k.CreateAPIKeyTx(ctx, tx, auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
			return u, token, err
		}
		tx, err := k.db.Writer().Beginx()
		require.NoError(t, err)
		_, _, err = work(t.Context(), tx)
		require.NoError(t, err)
		require.NoError(t, tx.Rollback())
		for _, table := range []string{"qs_auth_users", "qs_auth_events", "qs_auth_api_keys"} {
			assert.Zero(t, k.count(`SELECT COUNT(*) FROM `+table), table)
		}
		tx, err = k.db.Writer().Beginx()
		require.NoError(t, err)
		u, token, err := work(t.Context(), tx)
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
		got, key, err := k.AuthenticateKey(t.Context(), token)
		require.NoError(t, err)
		assert.Equal(t, u.ID, got.ID)
		assert.Equal(t, "Ada", got.Name)
		assert.True(t, got.IsStaff())
		tx, err = k.db.Writer().Beginx()
		require.NoError(t, err)
		require.NoError(t, k.RevokeAPIKeyTx(t.Context(), tx, u.ID, key.ID, auth.Client{}))
		require.NoError(t, k.SetDisabledTx(t.Context(), tx, u.ID, true))
		require.NoError(t, tx.Rollback())
		_, _, err = k.AuthenticateKey(t.Context(), token)
		require.NoError(t, err)
	})
}

func TestSession_DeviceIsToldInPlainWords(t *testing.T) {
	t.Parallel()
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36":                                   "Chrome on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0":           "Edge on Windows",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1": "Safari on iPhone",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Gecko/20100101 Firefox/140.0":                                                    "Firefox on macOS",
		"curl/8.5.0":            "curl/8.5.0",
		strings.Repeat("é", 50): strings.Repeat("é", 40) + "…",
		"":                      "",
	} {
		assert.Equal(t, want, auth.Session{Agent: agent}.Device())
		assert.Equal(t, want, auth.Event{Agent: agent}.Device())
	}
}
