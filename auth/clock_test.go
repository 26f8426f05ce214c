package auth_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

// A clock that is set back, or was ahead for a while, lets nobody in for longer than was promised at the time, locks
// nobody out for ever, and breaks nothing.
func TestClock_StepsBackAndForth(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		_, key, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err)
		_, err = k.ForgottenLink(t)
		require.NoError(t, err)
		_, link := k.link("auth.reset")

		k.clock.Advance(-3 * time.Hour)
		assert.True(t, b.in(), "a session from the future is alive")
		_, _, err = k.AuthenticateKey(t.Context(), key)
		require.NoError(t, err)
		assert.Equal(t, http.StatusSeeOther, guardedVisit(k, b).StatusCode, "a proof from the future is none")
		b.post("/auth/confirm", "password", password).leadsTo(t, "/account/")
		assert.Equal(t, http.StatusTeapot, guardedVisit(k, b).StatusCode)
		assert.Equal(t, http.StatusOK, k.browser().get("/auth/password/reset?token="+link).StatusCode, "a link lives until the time that its mail told")

		// Locked by a clock that was ahead by a day: the lock ends with the time that it was made for, or with a reset.
		k.clock.Advance(3*time.Hour + 24*time.Hour)
		for range 5 {
			k.browser().logIn(email, "wrong password")
		}
		k.clock.Advance(-24 * time.Hour)
		assert.Equal(t, http.StatusUnauthorized, k.browser().logIn(email, password).StatusCode)
		k.browser().post("/auth/password/reset", "token", link, "password", password).leadsTo(t, "/auth/login")
		k.browser().logIn(email, password).leadsTo(t, "/account/")

		// Counts of a window that began in the future end with it.
		b = k.browser()
		k.clock.Advance(time.Hour)
		b.logIn(email, password).leadsTo(t, "/account/")
		k.clock.Advance(-time.Hour)
		b.logIn(email, password).leadsTo(t, "/account/")
		k.clock.Advance(-time.Hour)
		u2 := k.user("grace@example.com")
		assert.Less(t, u.ID, u2.ID, "ids go on growing: lists and pages do not lose anybody")

		// A leap ahead ends what it should, and the way back brings nothing to life that was ended.
		require.NoError(t, k.RevokeOtherSessions(t.Context(), u.ID, "", auth.Client{}))
		k.clock.Advance(40 * 24 * time.Hour)
		assert.False(t, b.in())
		_, err = k.Sweep(t.Context())
		require.NoError(t, err)
		k.clock.Advance(-40 * 24 * time.Hour)
		assert.False(t, b.in())
		b.logIn(email, password).leadsTo(t, "/account/")
		assert.True(t, b.in())
	})
}

func guardedVisit(k *kit, b *browser) answer {
	b.h = k.RequireRecentAuth(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer func() { b.h = k.h }()
	return b.get("/vault")
}

// A code of an app is not accepted again when the server's clock is set back to it.
func TestClock_SetBackDoesNotBringACodeBack(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		p, _ := k.phone(u)
		spent := p.code()
		require.NoError(t, k.second(k.first(email), spent))
		k.clock.Advance(10 * time.Minute)
		require.NoError(t, k.second(k.first(email), p.code()))
		k.clock.Advance(-10 * time.Minute)
		require.ErrorIs(t, k.second(k.first(email), spent), auth.ErrCode)
	})
}
