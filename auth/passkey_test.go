package auth_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

func TestPasskey_LogsInWithoutANameAndAsBothSteps(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		d := newAuthenticator(t)
		c, err := k.BeginPasskey(t.Context(), u.ID)
		require.NoError(t, err)
		o := d.options(c)
		assert.Equal(t, "app.example", o.RP.ID)
		assert.Equal(t, "required", o.Selection.ResidentKey)
		assert.Equal(t, "required", o.Selection.UserVerification)
		key, codes, err := k.AddPasskey(t.Context(), auth.AddPasskeyParams{UserID: u.ID, Handle: c.Handle, Name: "Laptop", Response: d.create(o)})
		require.NoError(t, err)
		assert.Equal(t, "Laptop", key.Name)
		assert.Len(t, codes, 10, "the first second step comes with backup codes")
		assert.Contains(t, k.events(u.ID), auth.EventPasskeyAdded)
		assert.Contains(t, k.mails()[len(k.mails())-1].Text, `passkey "Laptop" was added`)

		s, err := k.byPasskey(d)
		require.NoError(t, err)
		assert.Equal(t, u.ID, s.User.ID)
		keys, err := k.Passkeys(t.Context(), u.ID)
		require.NoError(t, err)
		require.Len(t, keys, 1)
		assert.Equal(t, k.clock.Now(), *keys[0].LastUsedAt)

		second := newAuthenticator(t)
		c, err = k.BeginPasskey(t.Context(), u.ID)
		require.NoError(t, err)
		require.Len(t, second.options(c).Exclude, 1, "the same device is not asked twice")
		_, codes, err = k.AddPasskey(t.Context(), auth.AddPasskeyParams{UserID: u.ID, Handle: c.Handle, Name: "Key", Response: second.create(second.options(c))})
		require.NoError(t, err)
		assert.Empty(t, codes, "those of before still work")
	})
}

func TestPasskey_IsTheSecondStepAfterAPassword(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		d := newAuthenticator(t)
		_, codes := k.register(u, d, "Key")
		token := k.first(email)
		c, err := k.BeginSecondPasskey(t.Context(), token, auth.Client{})
		require.NoError(t, err)
		o := d.options(c)
		require.Len(t, o.Allow, 1)
		response := d.get(o)
		s, err := k.FinishLogIn(t.Context(), auth.FinishLogInParams{Token: token, Handle: c.Handle, Response: response})
		require.NoError(t, err)
		assert.Equal(t, u.ID, s.User.ID)
		_, err = k.FinishLogIn(t.Context(), auth.FinishLogInParams{Token: k.first(email), Handle: c.Handle, Response: response})
		require.ErrorIs(t, err, auth.ErrPasskey, "a challenge is answered once")
		require.NoError(t, k.second(k.first(email), codes[0]), "without the device, a backup code")

		eve := k.user("eve@example.com")
		other := newAuthenticator(t)
		k.register(eve, other, "Key")
		token = k.first(email)
		c, err = k.BeginSecondPasskey(t.Context(), token, auth.Client{})
		require.NoError(t, err)
		_, err = k.FinishLogIn(t.Context(), auth.FinishLogInParams{Token: token, Handle: c.Handle, Response: other.get(other.options(c))})
		require.ErrorIs(t, err, auth.ErrPasskey, "another person's passkey")
		assert.Contains(t, k.events(u.ID), auth.EventCodeFailed)
	})
}

func TestPasskey_WhatIsSignedMustBeRight(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		d := newAuthenticator(t)
		k.register(u, d, "Key")
		for name, change := range map[string]func(d *authenticator){
			"another origin":             func(d *authenticator) { d.origin = "https://app.example.evil.example" },
			"http":                       func(d *authenticator) { d.origin = "http://app.example" },
			"a port":                     func(d *authenticator) { d.origin = "https://app.example:8443" },
			"another relying party":      func(d *authenticator) { d.rp = "evil.example" },
			"nobody was there":           func(d *authenticator) { d.flags = flagUV },
			"the person was not checked": func(d *authenticator) { d.flags = flagUP },
			"the kind of key changed":    func(d *authenticator) { d.flags |= flagBE },
			"another key":                func(d *authenticator) { d.key = newAuthenticator(t).key },
			"another id":                 func(d *authenticator) { d.id = newAuthenticator(t).id },
			"nobody's handle":            func(d *authenticator) { d.user = []byte("nobody") },
			"no handle":                  func(d *authenticator) { d.user = nil },
		} {
			wrong := *d
			change(&wrong)
			_, err := k.byPasskey(&wrong)
			require.ErrorIs(t, err, auth.ErrPasskey, name)
			d.counter = wrong.counter
		}
		_, err := k.byPasskey(d)
		require.NoError(t, err)
		_, err = k.LogInByPasskey(t.Context(), auth.PasskeyLogInParams{Handle: "x", Response: []byte("{")})
		require.ErrorIs(t, err, auth.ErrPasskey)
	})
}

func TestPasskey_RegistrationMustBeRight(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u, eve := k.user(email), k.user("eve@example.com")
		for name, change := range map[string]func(d *authenticator){
			"another origin":             func(d *authenticator) { d.origin = "https://evil.example" },
			"another relying party":      func(d *authenticator) { d.rp = "evil.example" },
			"the person was not checked": func(d *authenticator) { d.flags = flagUP },
		} {
			d := newAuthenticator(t)
			change(d)
			c, err := k.BeginPasskey(t.Context(), u.ID)
			require.NoError(t, err)
			_, _, err = k.AddPasskey(t.Context(), auth.AddPasskeyParams{UserID: u.ID, Handle: c.Handle, Name: "x", Response: d.create(d.options(c))})
			require.ErrorIs(t, err, auth.ErrPasskey, name)
			honest := newAuthenticator(t)
			_, _, err = k.AddPasskey(t.Context(), auth.AddPasskeyParams{UserID: u.ID, Handle: c.Handle, Name: "x", Response: honest.create(honest.options(c))})
			require.ErrorIs(t, err, auth.ErrPasskey, "%s: the challenge is spent", name)
		}
		d := newAuthenticator(t)
		c, err := k.BeginPasskey(t.Context(), u.ID)
		require.NoError(t, err)
		_, _, err = k.AddPasskey(t.Context(), auth.AddPasskeyParams{UserID: eve.ID, Handle: c.Handle, Name: "x", Response: d.create(d.options(c))})
		require.ErrorIs(t, err, auth.ErrPasskey, "another person's challenge")
		c, err = k.BeginPasskey(t.Context(), u.ID)
		require.NoError(t, err)
		_, _, err = k.AddPasskey(t.Context(), auth.AddPasskeyParams{UserID: u.ID, Handle: c.Handle, Name: " ", Response: d.create(d.options(c))})
		assert.Equal(t, "invalid", codeOf(err))
		k.clock.Advance(5 * time.Minute)
		_, _, err = k.AddPasskey(t.Context(), auth.AddPasskeyParams{UserID: u.ID, Handle: c.Handle, Name: "x", Response: d.create(d.options(c))})
		require.ErrorIs(t, err, auth.ErrPasskey, "after five minutes")
		assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_passkeys`))

		k.register(u, d, "x")
		c, err = k.BeginPasskey(t.Context(), eve.ID)
		require.NoError(t, err)
		_, _, err = k.AddPasskey(t.Context(), auth.AddPasskeyParams{UserID: eve.ID, Handle: c.Handle, Name: "x", Response: d.create(d.options(c))})
		require.ErrorIs(t, err, auth.ErrPasskeyKnown)
	})
}

func TestPasskey_AChallengeIsOfOneBrowserOneKindAndOneUse(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		d := newAuthenticator(t)
		k.register(u, d, "Key")
		c, err := k.BeginPasskeyLogIn(t.Context(), auth.Client{})
		require.NoError(t, err)
		response := d.get(d.options(c))
		log := func(handle string) error {
			_, err := k.LogInByPasskey(t.Context(), auth.PasskeyLogInParams{Handle: handle, Response: response})
			return err
		}
		other, err := k.BeginPasskeyLogIn(t.Context(), auth.Client{})
		require.NoError(t, err)
		require.ErrorIs(t, log(other.Handle), auth.ErrPasskey, "the answer to another challenge")
		require.ErrorIs(t, log(strings.Repeat("A", 43)), auth.ErrPasskey)
		require.NoError(t, log(c.Handle))
		require.ErrorIs(t, log(c.Handle), auth.ErrPasskey)
		second, err := k.BeginSecondPasskey(t.Context(), k.first(email), auth.Client{})
		require.NoError(t, err)
		_, err = k.LogInByPasskey(t.Context(), auth.PasskeyLogInParams{Handle: second.Handle, Response: d.get(d.options(second))})
		require.ErrorIs(t, err, auth.ErrPasskey, "that of a second step does not log in by itself")
	})
}

func TestPasskey_TwentyAtOnceWithOneAnswerAreOneLogIn(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		d := newAuthenticator(t)
		k.register(k.user(email), d, "Key")
		c, err := k.BeginPasskeyLogIn(t.Context(), auth.Client{})
		require.NoError(t, err)
		response := d.get(d.options(c))
		var in atomic.Int32
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				_, err := k.LogInByPasskey(t.Context(), auth.PasskeyLogInParams{Handle: c.Handle, Response: response})
				if err == nil {
					in.Add(1)
				} else {
					assert.ErrorIs(t, err, auth.ErrPasskey)
				}
			})
		}
		group.Wait()
		assert.EqualValues(t, 1, in.Load())
	})
}

func TestPasskey_ACopyIsNoticedAndLetsNobodyIn(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		d := newAuthenticator(t)
		_, codes := k.register(u, d, "Key")
		thief := *d
		for range 2 {
			_, err := k.byPasskey(d)
			require.NoError(t, err)
		}
		_, err := k.byPasskey(&thief)
		require.ErrorIs(t, err, auth.ErrPasskey)
		_, err = k.byPasskey(d)
		require.ErrorIs(t, err, auth.ErrPasskey, "nobody can tell which of the two is the copy")
		keys, err := k.Passkeys(t.Context(), u.ID)
		require.NoError(t, err)
		assert.NotNil(t, keys[0].ClonedAt)
		assert.Contains(t, k.events(u.ID), auth.EventPasskeyCloned)
		assert.Contains(t, k.mails()[len(k.mails())-1].Text, "only a copy of it could")
		require.NoError(t, k.second(k.first(email), codes[0]), "the second step does not go away by it")
	})
}

func TestPasskey_ACounterThatStaysAtZeroIsNoCopy(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		d := newAuthenticator(t)
		d.counter = 0
		d.flags |= flagBE // as the passkeys of password managers are
		k.register(k.user(email), d, "Synced")
		for range 3 {
			c, err := k.BeginPasskeyLogIn(t.Context(), auth.Client{})
			require.NoError(t, err)
			d.counter = ^uint32(0) // get adds one
			_, err = k.LogInByPasskey(t.Context(), auth.PasskeyLogInParams{Handle: c.Handle, Response: d.get(d.options(c))})
			require.NoError(t, err)
		}
	})
}

func TestPasskey_IsRenamedAndRemovedByItsOwner(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u, eve := k.user(email), k.user("eve@example.com")
		d := newAuthenticator(t)
		key, _ := k.register(u, d, "Key")
		require.ErrorIs(t, k.RenamePasskey(t.Context(), eve.ID, key.ID, "Mine"), auth.ErrNoPasskey)
		require.ErrorIs(t, k.RemovePasskey(t.Context(), eve.ID, key.ID, auth.Client{}), auth.ErrNoPasskey)
		assert.Equal(t, "invalid", codeOf(k.RenamePasskey(t.Context(), u.ID, key.ID, strings.Repeat("x", 101))))
		require.NoError(t, k.RenamePasskey(t.Context(), u.ID, key.ID, "Blue key"))
		keys, err := k.Passkeys(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Equal(t, "Blue key", keys[0].Name)
		require.NoError(t, k.RemovePasskey(t.Context(), u.ID, key.ID, auth.Client{}))
		assert.Contains(t, k.mails()[len(k.mails())-1].Text, `"Blue key" was removed`)
		_, err = k.byPasskey(d)
		require.ErrorIs(t, err, auth.ErrPasskey)
		_, err = k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: password})
		require.NoError(t, err, "without a second step there is none to ask for")
		assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_backup_codes`))
	})
}

func TestPasskey_TheLastWayInStays(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, p *idp) {
		k.browser().through(p)
		u, err := k.FindUserByEmail(t.Context(), "ada@example.com")
		require.NoError(t, err)
		key, _ := k.register(u, newAuthenticator(t), "Key")
		linked, err := k.Identities(t.Context(), u.ID)
		require.NoError(t, err)
		require.NoError(t, k.Unlink(t.Context(), u.ID, linked[0].ID, auth.Client{}), "the passkey is a way in")
		require.ErrorIs(t, k.RemovePasskey(t.Context(), u.ID, key.ID, auth.Client{}), auth.ErrLastWayIn)
		require.NoError(t, k.AddPassword(t.Context(), u.ID, password, auth.Client{}))
		require.NoError(t, k.RemovePasskey(t.Context(), u.ID, key.ID, auth.Client{}))
	})
}

func TestPasskey_ClosedAccountsStayClosed(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		d := newAuthenticator(t)
		k.register(u, d, "Key")
		require.NoError(t, k.SetDisabled(t.Context(), u.ID, true))
		_, err := k.byPasskey(d)
		require.ErrorIs(t, err, auth.ErrDisabled)
	})
}

func TestPasskeyPages_AnswerToTheScript(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		d := newAuthenticator(t)
		b := k.browser()
		b.logIn(email, password)
		page := b.get("/account/security/passkeys/new")
		assert.Contains(t, page.body, `data-begin="/account/security/passkeys/begin"`)
		assert.Contains(t, page.body, "<noscript>")
		assert.Contains(t, page.body, "/static/app/passkey-")
		var c struct {
			Options json.RawMessage `json:"options"`
		}
		a := b.post("/account/security/passkeys/begin")
		require.Equal(t, http.StatusOK, a.StatusCode)
		data(t, a, &c)
		assert.NotContains(t, a.body, b.cookie("__Host-qs_passkey"))
		bad := b.post("/account/security/passkeys", "name", "Laptop", "credential", "{}")
		assert.Equal(t, http.StatusUnprocessableEntity, bad.StatusCode)
		a = b.post("/account/security/passkeys", "name", "Laptop", "credential", string(d.create(d.options(auth.PasskeyChallenge{Options: c.Options}))))
		require.Equal(t, http.StatusCreated, a.StatusCode, a.body)
		require.Len(t, codesOn(a), 10)
		page = b.get("/account/security")
		assert.Contains(t, page.body, "Laptop")
		keys, err := k.Passkeys(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Contains(t, b.get("/account/security/passkeys/"+keys[0].ID).body, `value="Laptop"`)
		b.post("/account/security/passkeys/"+keys[0].ID, "name", "Desk").leadsTo(t, "/account/security")
		var list struct {
			Passkeys []auth.Passkey `json:"passkeys"`
		}
		data(t, b.json().get("/account/security/passkeys"), &list)
		assert.Equal(t, "Desk", list.Passkeys[0].Name)

		other := k.browser()
		data(t, other.post("/auth/passkey/begin"), &c)
		other.post("/auth/passkey", "credential", string(d.get(d.options(auth.PasskeyChallenge{Options: c.Options}))), "next", "/credits/").leadsTo(t, "/credits/")
		assert.True(t, other.in())

		third := k.browser()
		third.logIn(email, password).leadsTo(t, "/auth/2fa")
		assert.Contains(t, third.get("/auth/2fa").body, `data-begin="/auth/2fa/passkey/begin"`)
		data(t, third.post("/auth/2fa/passkey/begin"), &c)
		thief := k.browser()
		response := string(d.get(d.options(auth.PasskeyChallenge{Options: c.Options})))
		assert.Equal(t, "passkey_invalid", code(t, thief.json().post("/auth/passkey", "credential", response)), "without the browser's cookie")
		third.post("/auth/2fa/passkey", "credential", response).leadsTo(t, "/account/")
		assert.True(t, third.in())
		assert.Equal(t, "login_expired", code(t, k.browser().json().post("/auth/2fa/passkey/begin")))

		b.header["Accept"] = "text/html"
		b.post("/account/security/passkeys/"+keys[0].ID+"/remove").leadsTo(t, "/account/security")
	})
}

func TestPasskeys_AreNotOfferedAtAnIPAddress(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		assert.NotContains(t, b.get("/auth/login").body, "passkey")
		_, err := k.BeginPasskey(t.Context(), u.ID)
		require.ErrorIs(t, err, auth.ErrNoPasskeys)
		_, err = k.BeginPasskeyLogIn(t.Context(), auth.Client{})
		require.ErrorIs(t, err, auth.ErrNoPasskeys)
		_, err = k.LogInByPasskey(t.Context(), auth.PasskeyLogInParams{})
		require.ErrorIs(t, err, auth.ErrNoPasskeys)
		assert.Equal(t, http.StatusServiceUnavailable, b.post("/auth/passkey/begin").StatusCode)
	}, func(cfg *auth.Config) { cfg.BaseURL = "https://192.0.2.7" })
}
