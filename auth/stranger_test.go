package auth_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

// Whatever a stranger tries at the log-in, who is logged in can go on, prove anew who they are, and change or reset the
// password.
func TestStranger_LocksNobodyOutOfASessionOrAReset(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		k.clock.Advance(time.Hour)
		stranger := k.browser()
		for range 20 {
			stranger.logIn(email, "wrong password")
			stranger.post("/auth/magic/code", "code", "00000000")
			stranger.post("/auth/confirm", "password", "wrong password")
		}
		require.Equal(t, 1, countKind(k.events(u.ID), auth.EventLocked))
		require.Equal(t, http.StatusUnauthorized, k.browser().logIn(email, password).StatusCode, "the log-in is locked")
		assert.True(t, b.in())
		b.post("/auth/confirm", "password", password, "next", "/account/security").leadsTo(t, "/account/security")
		b.post("/account/security/email", "email", "new@example.com").leadsTo(t, "/account/security")
		b.post("/account/security/password", "current", password, "password", "brand new words").leadsTo(t, "/account/security")
		assert.True(t, b.in())
		stranger.post("/auth/password/forgot", "email", email)
		_, token := k.link("auth.reset")
		k.browser().post("/auth/password/reset", "token", token, "password", password).leadsTo(t, "/auth/login")
		b.logIn(email, password).leadsTo(t, "/account/")
	})
}

// The codes that somebody enters who knows the password are not those of the session either.
func TestStranger_WithThePasswordUsesUpNoCodesOfTheSession(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		p, _ := k.phone(u)
		s, err := k.FinishLogIn(t.Context(), auth.FinishLogInParams{Token: k.first(email), Code: p.code()})
		require.NoError(t, err)
		var retry *auth.RetryError
		for range 3 {
			token := k.first(email)
			for range 4 {
				err = k.second(token, "000000")
			}
		}
		require.ErrorAs(t, err, &retry, "the log-in takes no more codes")
		k.clock.Advance(time.Minute)
		_, err = k.Confirm(t.Context(), auth.ConfirmParams{UserID: u.ID, SessionID: s.Session.ID, Code: p.code()})
		require.NoError(t, err)
	}, func(c *auth.Config) { c.Limits.Code = auth.Limit{Max: 10, Per: 15 * time.Minute} })
}

// A password that was stolen beside a session is not enough where there is a second step.
func TestConfirm_AsksForTheSecondStepOfWhoHasOne(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		p, codes := k.phone(u)
		b := k.browser()
		b.logIn(email, password).leadsTo(t, "/auth/2fa")
		b.post("/auth/2fa", "code", p.code()).leadsTo(t, "/account/")
		k.clock.Advance(time.Hour)
		page := b.get("/auth/confirm").body
		assert.Contains(t, page, `name="code"`)
		assert.NotContains(t, page, `name="password"`)
		assert.Equal(t, http.StatusUnprocessableEntity, b.post("/auth/confirm", "password", password).StatusCode)
		assert.Equal(t, "invalid", code(t, b.copy().json().post("/auth/confirm", "password", password)))
		sessions, _, err := k.Sessions(t.Context(), auth.SessionsParams{UserID: u.ID})
		require.NoError(t, err)
		_, err = k.Confirm(t.Context(), auth.ConfirmParams{UserID: u.ID, SessionID: sessions[0].ID, Password: password})
		require.ErrorIs(t, err, auth.ErrSecondProof)
		b.header["Referer"] = base + "/account/security"
		b.post("/account/security/password", "current", password, "password", "brand new words").leadsTo(t, "/auth/confirm?next=%2Faccount%2Fsecurity")
		assert.Equal(t, "confirmation_required", code(t, b.copy().json().post("/account/security/password", "current", password, "password", "brand new words")))
		b.post("/auth/confirm", "code", codes[0], "next", "/account/security").leadsTo(t, "/account/security")
		b.post("/account/security/password", "current", password, "password", "brand new words").leadsTo(t, "/account/security")
	})
}

func TestConfirm_WrongCodesOfOneSessionAreLimited(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		p, _ := k.phone(u)
		s, err := k.FinishLogIn(t.Context(), auth.FinishLogInParams{Token: k.first(email), Code: p.code()})
		require.NoError(t, err)
		k.clock.Advance(time.Minute)
		confirm := func(code string) error {
			_, err := k.Confirm(t.Context(), auth.ConfirmParams{UserID: u.ID, SessionID: s.Session.ID, Code: code})
			return err
		}
		for range 10 {
			require.ErrorIs(t, confirm("000000"), auth.ErrCode)
		}
		var retry *auth.RetryError
		require.ErrorAs(t, confirm(p.code()), &retry)
		require.NoError(t, k.second(k.first(email), p.code()), "and use up none of the log-in's")
	}, func(c *auth.Config) { c.Limits.Code = auth.Limit{Max: 10, Per: 15 * time.Minute} })
}

// Who found a browser open ends no session with it after a while.
func TestSecurity_EndingSessionsAsksWhoIsThere(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b, other := k.browser(), k.browser()
		b.logIn(email, password)
		other.logIn(email, password)
		k.clock.Advance(10 * time.Minute)
		sessions, _, err := k.Sessions(t.Context(), auth.SessionsParams{UserID: u.ID})
		require.NoError(t, err)
		b.header["Referer"] = base + "/account/security"
		for _, path := range []string{"/account/security/sessions/revoke-others", "/account/security/sessions/" + sessions[0].ID + "/revoke"} {
			b.post(path).leadsTo(t, "/auth/confirm?next=%2Faccount%2Fsecurity")
			assert.Equal(t, "confirmation_required", code(t, b.copy().json().post(path)))
		}
		assert.True(t, other.in())
		b.post("/auth/confirm", "password", password).leadsTo(t, "/account/")
		b.post("/account/security/sessions/revoke-others").leadsTo(t, "/account/security")
		assert.False(t, other.in())
	})
}

// Another role needs another log-in: no token from before has the new rights, or keeps the old ones.
func TestSetRole_EndsSessionsAndWhatWaits(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		p, _ := k.phone(u)
		s, err := k.FinishLogIn(t.Context(), auth.FinishLogInParams{Token: k.first(email), Code: p.code()})
		require.NoError(t, err)
		waits := k.first(email)
		k.clock.Advance(time.Minute)
		require.NoError(t, k.SetRole(t.Context(), u.ID, auth.RoleUser))
		_, err = k.Confirm(t.Context(), auth.ConfirmParams{UserID: u.ID, SessionID: s.Session.ID, Code: p.code()})
		require.NoError(t, err, "the role that they have changes nothing")
		require.NoError(t, k.SetRole(t.Context(), u.ID, auth.RoleAdmin))
		assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_sessions WHERE revoked_at IS NULL`))
		k.clock.Advance(time.Minute)
		require.ErrorIs(t, k.second(waits, p.code()), auth.ErrPending)
	})
}

// A log-in that waits for its second step ends with the password that began it, and with the account.
func TestSecondStep_EndsWithThePasswordAndTheAccount(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		p, _ := k.phone(u)
		for name, end := range map[string]func() error{
			"set by staff": func() error { return k.SetPassword(t.Context(), u.ID, password) },
			"reset": func() error {
				token, err := k.ForgottenLink(t)
				if err != nil {
					return err
				}
				return k.ResetPassword(t.Context(), auth.ResetParams{Token: token, Password: password})
			},
			"changed": func() error {
				_, err := k.ChangePassword(t.Context(), auth.ChangePasswordParams{UserID: u.ID, Current: password, New: password})
				return err
			},
			"closed":        func() error { return reopened(k, u) },
			"devices ended": func() error { return k.RevokeOtherSessions(t.Context(), u.ID, "", auth.Client{}) },
			"another role":  func() error { return k.SetRole(t.Context(), u.ID, auth.RoleAdmin) },
		} {
			k.clock.Advance(time.Minute)
			waits := k.first(email)
			require.NoError(t, end(), name)
			require.ErrorIs(t, k.second(waits, p.code()), auth.ErrPending, name)
			require.NoError(t, k.second(k.first(email), p.code()), name)
		}
		waits := k.first(email)
		require.NoError(t, k.SetDisabled(t.Context(), u.ID, true))
		k.clock.Advance(time.Minute)
		require.ErrorIs(t, k.second(waits, p.code()), auth.ErrPending)
	})
}
