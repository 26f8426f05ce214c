package auth_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

func TestLogIn_FiveFailuresLockForFiveMinutes(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		old := k.browser()
		old.logIn(email, password).leadsTo(t, "/account/")
		b := k.browser()
		for range 4 {
			assert.Equal(t, http.StatusUnauthorized, b.logIn(email, "wrong password").StatusCode)
		}
		b.logIn(email, password).leadsTo(t, "/account/") // which sets the count back
		b = k.browser()
		for range 5 {
			b.logIn(email, "wrong password")
		}
		assert.Equal(t, http.StatusUnauthorized, b.logIn(email, password).StatusCode, "locked, even for the right one")
		assert.True(t, old.in(), "sessions go on")
		k.clock.Advance(4 * time.Minute)
		b.logIn(email, "wrong password")
		assert.Equal(t, http.StatusUnauthorized, b.logIn(email, password).StatusCode)
		k.clock.Advance(time.Minute)
		b.logIn(email, password).leadsTo(t, "/account/") // tries meanwhile did not prolong it
		kinds := k.events(u.ID)
		assert.Equal(t, 1, countKind(kinds, auth.EventLocked))
		assert.Equal(t, 1, countKind(kinds, auth.EventUnlocked))

		b = k.browser()
		for range 5 {
			b.logIn(email, "wrong password")
		}
		k.clock.Advance(5 * time.Minute)
		for range 4 {
			b.logIn(email, "wrong password")
		}
		b.logIn(email, password).leadsTo(t, "/account/") // after a lock the count begins anew
	})
}

func countKind(kinds []auth.EventKind, kind auth.EventKind) (n int) {
	for _, k := range kinds {
		if k == kind {
			n++
		}
	}
	return n
}

func TestLogIn_HundredWrongAtOnceCountAsHundred(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		assert.Zero(t, atOnce(t, 100, auth.ErrCredentials, func() error {
			_, err := k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: "wrong password"})
			return err
		}))
		assert.Equal(t, 100, k.count(`SELECT failed_logins FROM qs_auth_users`))
		kinds := k.events(u.ID)
		assert.Equal(t, 100, countKind(kinds, auth.EventLogInFailed))
		assert.Equal(t, 1, countKind(kinds, auth.EventLocked))
	})
}

func TestLogIn_ResetWorksWhileLocked(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		for range 6 {
			b.logIn(email, "wrong password")
		}
		b.post("/auth/password/forgot", "email", email)
		_, token := k.link("auth.reset")
		b.post("/auth/password/reset", "token", token, "password", "brand new words").leadsTo(t, "/auth/login")
		b.logIn(email, "brand new words").leadsTo(t, "/account/")
		assert.Equal(t, 1, countKind(k.events(u.ID), auth.EventUnlocked))
	})
}

func TestLogIn_DisabledIsToldToWhoKnowsThePassword(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		require.NoError(t, k.SetDisabled(t.Context(), u.ID, true))
		assert.False(t, b.in(), "at once")
		b.json()
		assert.Equal(t, "account_disabled", code(t, b.logIn(email, password)))
		assert.Equal(t, "invalid_credentials", code(t, b.logIn(email, "wrong password")))
		b.post("/auth/password/forgot", "email", email)
		assert.Equal(t, "auth.noaccount", k.mails()[0].Kind, "no link leads in")
		require.NoError(t, k.SetDisabled(t.Context(), u.ID, false))
		require.NoError(t, k.SetDisabled(t.Context(), u.ID, false), "again changes nothing")
		assert.False(t, b.in(), "old sessions stay ended")
		assert.Equal(t, http.StatusOK, b.logIn(email, password).StatusCode)
		assert.Equal(t, []auth.EventKind{auth.EventSignUp, auth.EventVerified, auth.EventLogIn, auth.EventDisabled, auth.EventLogInFailed, auth.EventEnabled, auth.EventLogIn}, k.events(u.ID))
	})
}

func TestLogIn_NextStaysOnThisSite(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		k.browser().post("/auth/login", "email", email, "password", password, "next", "/billing/?a=b").leadsTo(t, "/billing/?a=b")
		for _, evil := range []string{"//evil.example", `/\evil.example`, "https://evil.example", "https:evil", "javascript:alert(1)", "/\t/evil", "%2F%2Fevil", "/\r\nSet-Cookie: x=y", "http://app.example@evil"} {
			b := k.browser()
			assert.NotContains(t, b.get("/auth/login?next="+strings.ReplaceAll(urlEscape(evil), "+", "%20")).body, `name="next"`, evil)
			b.post("/auth/login", "email", email, "password", password, "next", evil).leadsTo(t, "/account/")
		}
	})
}

// No route but a POST changes anything, and no other site can make one.
func TestRoutes_RefuseOtherSitesAndChangeNothingOnGET(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		session := b.cookie("__Host-qs_session")
		id := "0197d9a0-0000-7000-8000-000000000000"
		posts := []string{"/auth/signup", "/auth/login", "/auth/logout", "/auth/verify", "/auth/verify/resend", "/auth/password/forgot", "/auth/password/reset", "/account/profile",
			"/account/security/password", "/account/security/sessions/revoke-others", "/account/security/sessions/" + id + "/revoke", "/account/api-keys", "/account/api-keys/" + id + "/revoke"}
		events := len(k.events(u.ID))
		for _, path := range posts {
			for _, header := range [][2]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
				evil := b.copy()
				evil.header[header[0]] = header[1]
				res := evil.post(path, "email", email, "password", password, "name", "Eve")
				assert.Equal(t, http.StatusForbidden, res.StatusCode, "%s %v", path, header)
			}
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				b.do(method, path, "", "")
			}
		}
		assert.Len(t, k.events(u.ID), events)
		assert.Empty(t, k.mails())
		assert.Equal(t, session, b.cookie("__Host-qs_session"))
		assert.True(t, b.in())
	})
}
