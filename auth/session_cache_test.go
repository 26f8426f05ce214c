package auth_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

// Where the clock of tests stands still, what is remembered would stay so for ever: whatever is seen here is what
// revocation reaches, and not what time does.
func TestSessionCache_ChangesThroughThisProcessHoldAtOnce(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		session := func(b *browser) string {
			sessions, _, err := k.Sessions(t.Context(), auth.SessionsParams{UserID: u.ID})
			require.NoError(t, err)
			require.NotEmpty(t, sessions)
			return sessions[0].ID
		}
		for _, c := range []struct {
			name string
			end  func(b *browser) error
		}{
			{"revoked", func(b *browser) error { return k.RevokeSession(t.Context(), u.ID, session(b), auth.Client{}) }},
			{"all revoked", func(*browser) error { return k.RevokeOtherSessions(t.Context(), u.ID, "", auth.Client{}) }},
			{"logged out", func(b *browser) error { return k.LogOut(t.Context(), b.cookie("__Host-qs_session"), auth.Client{}) }},
			{"a new role", func(*browser) error { return k.SetRole(t.Context(), u.ID, auth.RoleAdmin) }},
			{"the old role", func(*browser) error { return k.SetRole(t.Context(), u.ID, auth.RoleUser) }},
			{"a new password", func(*browser) error { return k.SetPassword(t.Context(), u.ID, password) }},
			{"factors reset", func(*browser) error {
				k.phone(u)
				return k.ResetFactors(t.Context(), u.ID, auth.Client{})
			}},
			{"confirmed anew", func(b *browser) error { return confirmAs(k, u, session(b)) }},
			{"closed for a bit", func(*browser) error { return reopened(k, u) }},
		} {
			k.clock.Advance(time.Hour)
			b := k.browser()
			b.logIn(email, password).leadsTo(t, "/account/")
			k.clock.Advance(10 * time.Second)
			require.True(t, b.in(), c.name)
			require.True(t, b.in(), c.name)
			require.NoError(t, c.end(b), c.name)
			assert.False(t, b.in(), c.name)
		}
		b := k.browser()
		b.logIn(email, password)
		k.clock.Advance(10 * time.Second)
		require.Contains(t, b.get("/account/").body, "Hello, Ada")
		require.NoError(t, k.SetName(t.Context(), u.ID, "Countess"))
		assert.Contains(t, b.get("/account/").body, "Hello, Countess")
	})
}

func confirmAs(k *kit, u auth.User, session string) error {
	_, err := k.Confirm(k.t.Context(), auth.ConfirmParams{UserID: u.ID, SessionID: session, Password: password})
	return err
}

func reopened(k *kit, u auth.User) error {
	if err := k.SetDisabled(k.t.Context(), u.ID, true); err != nil {
		return err
	}
	return k.SetDisabled(k.t.Context(), u.ID, false)
}

func TestSessionCache_ChangesThroughAnotherProcessHoldAfterASecond(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		other := newKit(t, k.db)
		b := k.browser()
		b.logIn(email, password)
		k.clock.Advance(10 * time.Second)
		require.True(t, b.in())
		require.NoError(t, other.RevokeOtherSessions(t.Context(), u.ID, "", auth.Client{}))
		k.clock.Advance(auth.DefaultSessionCache - time.Nanosecond)
		assert.True(t, b.in(), "the bound is what is promised, and this shows that something is remembered")
		k.clock.Advance(time.Nanosecond)
		assert.False(t, b.in())
	})
}

func TestSessionCache_CanBeTurnedOff(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		other := newKit(t, k.db)
		b := k.browser()
		b.logIn(email, password)
		k.clock.Advance(10 * time.Second)
		require.True(t, b.in())
		require.NoError(t, other.RevokeOtherSessions(t.Context(), u.ID, "", auth.Client{}))
		assert.False(t, b.in(), "at once, in every process")
	}, func(c *auth.Config) { c.SessionCache = -1 })
}

// A session that ends by its age does so whatever is remembered, and a clock that is set back prolongs nothing.
func TestSessionCache_DoesNotOutliveTheSession(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		for range 7 {
			k.clock.Advance(24*time.Hour - time.Minute)
			require.True(t, b.in())
		}
		k.clock.Advance(7*time.Minute - time.Second/2)
		require.True(t, b.in())
		k.clock.Advance(time.Second / 2)
		assert.False(t, b.in(), "half a second after it was remembered")

		b.logIn(email, password)
		k.clock.Advance(10 * time.Second)
		require.True(t, b.in())
		_, err := k.db.Writer().Exec(k.db.Rebind(`UPDATE qs_auth_sessions SET revoked_at = created_at WHERE user_id = ?`), u.ID)
		require.NoError(t, err)
		k.clock.Advance(-time.Hour)
		assert.False(t, b.in(), "what was read in the future is read again")
	})
}

// What a request costs the database: one read for a session that was not seen for a second, and none for one that was.
func TestSessionCache_ARequestReadsOnceAtMost(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		s, err := k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: password})
		require.NoError(t, err)
		k.clock.Advance(10 * time.Second)
		h := k.Load(k.RequireUser(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })))
		visit := func() int {
			r := httptest.NewRequest(http.MethodGet, base+"/", nil)
			r.AddCookie(&http.Cookie{Name: "__Host-qs_session", Value: s.Token})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		require.Equal(t, http.StatusNoContent, visit())
		require.NoError(t, k.db.Reader().Close())
		if k.db.Reader() != k.db.Writer() {
			require.NoError(t, k.db.Writer().Close())
		}
		assert.Equal(t, http.StatusNoContent, visit(), "remembered: without a database")
		k.clock.Advance(auth.DefaultSessionCache)
		assert.Equal(t, http.StatusInternalServerError, visit())
	})
}
