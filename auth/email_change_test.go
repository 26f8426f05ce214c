package auth_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/problem"
)

const newEmail = "Ada@new.example"

// changed asks for another address and opens the link that came there.
func (k *kit) changed(b *browser) {
	k.t.Helper()
	b.post("/account/security/email", "email", newEmail).leadsTo(k.t, "/account/security")
	_, token := k.link("auth.emailchange")
	b.post("/auth/email/confirm", "token", token).leadsTo(k.t, "/auth/login")
}

func TestEmailChange_NeedsTheNewAddressAndEndsSessions(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		b.post("/account/security/email", "email", newEmail).leadsTo(t, "/account/security")
		assert.Equal(t, u.ID, k.id(email), "nothing changes yet")
		path, token := k.link("auth.emailchange")
		assert.Contains(t, k.browser().get(path).body, newEmail)
		assert.Equal(t, u.ID, k.id(email), "opening a link changes nothing")
		k.browser().post("/auth/email/confirm", "token", token).leadsTo(t, "/auth/login")
		assert.Equal(t, http.StatusConflict, b.post("/auth/email/confirm", "token", token).StatusCode, "once")
		assert.False(t, b.in())
		assert.Equal(t, http.StatusUnauthorized, b.logIn(email, password).StatusCode)
		b.logIn(newEmail, password).leadsTo(t, "/account/")
		var to []string
		for _, m := range k.mails() {
			to = append(to, m.Kind+" "+m.Recipient)
		}
		assert.Equal(t, []string{"auth.emailasked " + email, "auth.emailchange " + newEmail, "auth.emailchanged " + email}, to)
		assert.Subset(t, k.events(u.ID), []auth.EventKind{auth.EventEmailAsked, auth.EventEmailChanged})
	})
}

func TestEmailChange_TheOldAddressHasAWayBack(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		thief := k.browser()
		thief.logIn(email, password)
		k.changed(thief)
		thief.logIn(newEmail, password)
		_, key, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err)
		path, token := k.link("auth.emailchanged")
		k.clock.Advance(72*time.Hour - time.Second)
		owner := k.browser()
		assert.Contains(t, owner.get(path).body, newEmail)
		owner.post("/auth/email/undo", "token", token).leadsTo(t, "/auth/login")
		assert.Equal(t, u.ID, k.id(email))
		assert.False(t, thief.in())
		assert.Equal(t, http.StatusUnauthorized, thief.logIn(email, password).StatusCode, "the password is off")
		_, _, err = k.AuthenticateKey(t.Context(), key)
		require.ErrorIs(t, err, auth.ErrKey)
		_, reset := k.link("auth.reset")
		owner.post("/auth/password/reset", "token", reset, "password", "brand new words").leadsTo(t, "/auth/login")
		owner.logIn(email, "brand new words").leadsTo(t, "/account/")
		assert.Equal(t, http.StatusConflict, owner.post("/auth/email/undo", "token", token).StatusCode, "once")
	})
}

func TestEmailChange_CanBeStoppedBeforeAndIsTooLateAfter(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		ask := func() string {
			require.NoError(t, k.RequestEmailChange(t.Context(), auth.RequestEmailChangeParams{UserID: u.ID, Email: newEmail}))
			_, token := k.link("auth.emailchange")
			return token
		}
		first := ask()
		second := ask()
		require.ErrorIs(t, k.ConfirmEmailChange(t.Context(), first, auth.Client{}), auth.ErrLink, "a newer one")
		_, undo := k.link("auth.emailasked")
		require.NoError(t, k.UndoEmailChange(t.Context(), undo, auth.Client{}))
		require.ErrorIs(t, k.ConfirmEmailChange(t.Context(), second, auth.Client{}), auth.ErrLink, "stopped")
		third := ask()
		k.clock.Advance(24 * time.Hour)
		require.ErrorIs(t, k.ConfirmEmailChange(t.Context(), third, auth.Client{}), auth.ErrLink, "too late")
		fourth := ask()
		require.NoError(t, k.SetPassword(t.Context(), u.ID, "brand new words"))
		require.ErrorIs(t, k.ConfirmEmailChange(t.Context(), fourth, auth.Client{}), auth.ErrLink, "a new password drops it")
		require.NoError(t, k.ConfirmEmailChange(t.Context(), ask(), auth.Client{}))
		_, undo = k.link("auth.emailchanged")
		k.clock.Advance(72 * time.Hour)
		require.ErrorIs(t, k.UndoEmailChange(t.Context(), undo, auth.Client{}), auth.ErrLink)
	})
}

// Whether the new address has an account is told to its owner only.
func TestEmailChange_TellsNobodyThatAnAddressIsTaken(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user("taken@example.com")
		ada := k.user(email)
		k.user("eve@example.com")
		bodies := map[string]answer{}
		for who, address := range map[string]string{email: "taken@example.com", "eve@example.com": "free@example.com"} {
			b := k.browser()
			b.logIn(who, password)
			bodies[who] = b.post("/account/security/email", "email", address)
		}
		one, two := bodies[email], bodies["eve@example.com"]
		assert.Equal(t, one.StatusCode, two.StatusCode)
		assert.Equal(t, one.body, two.body)
		assert.Equal(t, one.Header.Get("Location"), two.Header.Get("Location"))
		assert.True(t, slices.ContainsFunc(k.mails(), func(m sentMail) bool { return m.Kind == "auth.exists" && m.Recipient == "taken@example.com" }))
		require.ErrorIs(t, k.RequestEmailChange(t.Context(), auth.RequestEmailChangeParams{UserID: ada.ID, Email: "ADA@example.com"}), auth.ErrSameEmail)
		err := k.RequestEmailChange(t.Context(), auth.RequestEmailChangeParams{UserID: ada.ID, Email: "a@b.example\r\nBcc: all@example.com"})
		assert.NotEmpty(t, problem.FieldsOf(err)["email"], "no header can be added to a mail")
	})
}

func TestEmailChange_TwoToOneAddressAtOnce(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		var tokens []string
		for _, address := range []string{"a@example.com", "b@example.com", "c@example.com", "d@example.com"} {
			u := k.user(address)
			require.NoError(t, k.RequestEmailChange(t.Context(), auth.RequestEmailChangeParams{UserID: u.ID, Email: newEmail}))
			_, token := k.link("auth.emailchange")
			tokens = append(tokens, token)
		}
		next := make(chan string, len(tokens))
		for _, token := range tokens {
			next <- token
		}
		assert.Equal(t, 1, atOnce(t, len(tokens), auth.ErrLink, func() error { return k.ConfirmEmailChange(t.Context(), <-next, auth.Client{}) }))
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_users WHERE email_key = 'ada@new.example'`))
	})
}

func TestEmailChange_OfTheAccountThatAskedAndLately(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		b := k.browser()
		b.logIn(email, password)
		k.clock.Advance(10 * time.Minute)
		assert.Contains(t, b.post("/account/security/email", "email", newEmail).Header.Get("Location"), "/auth/confirm")
		assert.Empty(t, k.mails())
	})
}

func TestDevice_ANewBrowserIsTold(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		b.post("/auth/logout")
		b.logIn(email, password)
		assert.Empty(t, k.mails(), "the first one, and the same again")
		other := k.browser()
		other.header["User-Agent"] = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
		other.logIn(email, password)
		mails := k.mails()
		require.Len(t, mails, 1)
		assert.Equal(t, "auth.device", mails[0].Kind)
		assert.Contains(t, mails[0].Text, "Firefox on Windows, from the address 192.0.2.1")
		assert.Contains(t, k.events(u.ID), auth.EventNewDevice)
		k.user("eve@example.com")
		other.post("/auth/logout")
		other.logIn("eve@example.com", password)
		assert.Len(t, k.mails(), 1, "the first one of another person")
	})
}

func TestHooks_AreCalledOnceInTheTransaction(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		var calls []string
		note := func(what string) func(context.Context, *sqlx.Tx, auth.User) error {
			return func(_ context.Context, _ *sqlx.Tx, u auth.User) error {
				calls = append(calls, what+" "+u.Email)
				return nil
			}
		}
		events := 0
		k = newKit(t, k.db, func(c *auth.Config) {
			c.Hooks = auth.Hooks{OnSignUp: note("signup"), OnVerify: note("verify"), OnPasswordChange: note("password"),
				OnLogIn: func(ctx context.Context, tx *sqlx.Tx, u auth.User, s auth.Session) error {
					return note("login "+s.IP)(ctx, tx, u)
				},
				OnEmailChange: func(ctx context.Context, tx *sqlx.Tx, u auth.User, before string) error {
					return note("email "+before+" ->")(ctx, tx, u)
				},
				OnEvent: func(context.Context, *sqlx.Tx, string, auth.Event) error { events++; return nil }}
		})
		b := k.browser()
		b.post("/auth/signup", "email", email, "password", password)
		b.post("/auth/signup", "email", email, "password", password)
		_, token := k.link("auth.verify")
		b.post("/auth/verify", "token", token)
		b.post("/account/security/password", "current", password, "password", "brand new words")
		k.changed(b)
		assert.Equal(t, []string{"signup " + email, "verify " + email, "login 192.0.2.1 " + email, "password " + email, "email " + email + " -> " + newEmail}, calls)
		assert.Equal(t, k.count(`SELECT COUNT(*) FROM qs_auth_events`), events)
	})
}

func TestHooks_AnErrorUndoesWhatTheyAreToldOf(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		k = newKit(t, k.db, func(c *auth.Config) {
			c.Hooks.OnLogIn = func(context.Context, *sqlx.Tx, auth.User, auth.Session) error { return errors.New("no") }
		})
		assert.Equal(t, http.StatusInternalServerError, k.browser().logIn(email, password).StatusCode)
		assert.Equal(t, 0, k.count(`SELECT COUNT(*) FROM qs_auth_sessions`))
	})
}
