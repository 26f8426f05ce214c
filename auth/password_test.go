package auth_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/problem"
)

func TestPassword_PolicyIsLengthAndBeingGuessable(t *testing.T) {
	t.Parallel()
	k := newKit(t, sqlite(t))
	for _, good := range []string{
		"plum gate", "gr8 umbrella tiles", "пароль из трёх слов", strings.Repeat("🦊", 3) + "zebra", " leading and trailing ", "all lower case words", "7391846203518",
		"acme is where i buy my anvils", "ada lovelace wrote programs", strings.Repeat("long enough ", 10) + "12345678",
	} {
		assert.Empty(t, k.CheckPassword(good, "ada"), good)
	}
	for _, bad := range []string{
		"", "short", "1234567", strings.Repeat("🦊", 7), strings.Repeat("ab c", 33), strings.Repeat("🦊", 128) + "x",
		"password", "Password1", "P@ssw0rd", "P@$$w0rd!", "passw0rd123", "letmein123!", "Welcome2024", "iloveyou", "qwertyuiop", "qwerty123", "1qaz2wsx", "12345678", "123456789", "87654321",
		"abcdefgh", "aaaaaaaa", "abababab", "abcabcabc", "Summer2026!", "football", "superman1", "trustno1", "Michael1985", "monkeymonkey", "11111111", "!!!!!!!!", "2026password",
		"correcthorsebatterystaple", "ada12345", "acme1234", "AcmeText1", "acme text!", "Acme-2026", "1Acme1acme1", "AdaAdaAda",
	} {
		assert.NotEmpty(t, k.CheckPassword(bad, "ada"), bad)
	}
}

func TestPassword_IsNeverCut(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		long := strings.Repeat("🦊", 127)
		_, err := k.CreateUser(t.Context(), auth.CreateUserParams{Email: email, Password: long + "x", Verified: true})
		require.NoError(t, err)
		b := k.browser()
		assert.Equal(t, http.StatusUnauthorized, b.logIn(email, long+"y").StatusCode)
		assert.Equal(t, http.StatusUnauthorized, b.logIn(email, " "+long+"x").StatusCode)
		b.logIn(email, long+"x").leadsTo(t, "/account/")
		before := k.Hashes()
		_, err = k.CreateUser(t.Context(), auth.CreateUserParams{Email: "b@example.com", Password: strings.Repeat("x", 513)})
		assert.Equal(t, problem.CodeInvalid, codeOf(err))
		_, err = k.SignUp(t.Context(), auth.SignUpParams{Email: "b@example.com", Password: strings.Repeat("xy z", 200)})
		assert.Contains(t, problem.FieldsOf(err), "password")
		assert.Equal(t, before, k.Hashes(), "refused before any work")
	})
}

func TestSignUp_TellsAllFieldsAtFault(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		res := k.browser().post("/auth/signup", "email", "nobody", "password", "short", "name", strings.Repeat("x", 101))
		assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
		for _, id := range []string{"f-email-error", "f-password-error", "f-name-error"} {
			assert.Contains(t, res.body, id)
		}
		assert.NotContains(t, res.body, "short", "a password is never shown again")
		res = k.browser().json().post("/auth/signup", "email", "ada@example.com", "password", "ada-12345")
		assert.Equal(t, problem.CodeInvalid, code(t, res))
		assert.Contains(t, res.body, "close to your address")
		for _, path := range []string{"/auth/password/forgot", "/auth/verify/resend", "/auth/login"} {
			assert.Equal(t, http.StatusUnprocessableEntity, k.browser().post(path, "email", "nobody", "password", "x").StatusCode)
		}
		assert.Equal(t, http.StatusUnprocessableEntity, k.browser().post("/auth/login", "email", email, "password", "").StatusCode)
		assert.Equal(t, http.StatusBadRequest, k.browser().do(http.MethodPost, "/auth/login", "application/json", "{").StatusCode)
	})
}

func TestLogIn_RehashesWhenParametersChange(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		stored := func() (hash string) {
			require.NoError(t, k.db.Writer().Get(&hash, `SELECT password_hash FROM qs_auth_users`))
			return hash
		}
		old := stored()
		require.Contains(t, old, "m=64,")
		b := k.browser()
		b.logIn(email, password).leadsTo(t, "/account/")
		assert.Equal(t, old, stored())
		k.UseHashMemory(128)
		assert.Equal(t, http.StatusUnauthorized, b.logIn(email, "wrong password").StatusCode)
		assert.Equal(t, old, stored(), "only who knows the password renews it")
		assert.Equal(t, 5, atOnce(t, 5, nil, func() error {
			_, err := k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: password})
			return err
		}), "also when several find it out of date together")
		assert.Contains(t, stored(), "m=128,")
		b.logIn(email, password).leadsTo(t, "/account/")
	})
}

// A hash with smaller parameters is made up for, so that its account does not answer faster than none.
func TestHash_WhatFallsShortIsMadeUpFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ memory, passes, want uint32 }{
		{19 << 10, 2, 0}, {64 << 10, 1, 0}, {19 << 10, 1, 19 << 9}, {8, 1, 19<<10 - 4}, {19<<10 - 4, 2, 0},
	} {
		assert.Equal(t, c.want, auth.MissingMemory(c.memory, c.passes), "m=%d t=%d", c.memory, c.passes)
	}
}

// A hash of another system that lets in is replaced by one of ours, also by a locked account's owner once the lock is over;
// a locked account leaves it as it is, since the work for another one would show.
func TestLogIn_ALockedAccountsHashIsNotReplaced(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		k.UseHashMemory(128)
		b := k.browser()
		for range 5 {
			b.logIn(email, "wrong password")
		}
		before := k.Hashes()
		b.logIn(email, "wrong password")
		wrong := k.Hashes() - before
		b.logIn(email, password)
		assert.Equal(t, wrong, k.Hashes()-before-wrong)
		k.clock.Advance(5 * time.Minute)
		b.logIn(email, password).leadsTo(t, "/account/")
		assert.Contains(t, k.dump(), "m=128,")
	})
}

func TestLogIn_AHashOutOfBoundsIsNotCalculated(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		good, err := argon2id.CreateHash(password, &argon2id.Params{Memory: 64, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32})
		require.NoError(t, err)
		for _, bad := range []string{strings.Replace(good, "m=64", "m=4194304", 1), strings.Replace(good, "t=1", "t=1000000", 1), strings.Replace(good, "p=1", "p=200", 1), strings.Replace(good, "t=1", "t=0", 1),
			strings.Replace(good, "p=1", "p=0", 1), good + strings.Repeat("A", 400), "$argon2id$nonsense"} {
			_, err := k.db.Writer().Exec(k.db.Rebind(`UPDATE qs_auth_users SET password_hash = ?`), bad)
			require.NoError(t, err)
			_, err = k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: password})
			require.ErrorContains(t, err, "stored hash", bad)
			assert.NotContains(t, err.Error(), good[30:])
		}
		_, err = k.db.Writer().Exec(`UPDATE qs_auth_users SET password_hash = 'plain'`)
		require.Error(t, err, "the database takes nothing else")
	})
}

func TestHash_WaitsForItsTurnAndThenGivesUp(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		free, err := k.OccupyHasher(t.Context(), 10*time.Millisecond)
		require.NoError(t, err)
		for _, address := range []string{email, "unknown@example.com"} {
			res := k.browser().json().logIn(address, password)
			assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
			assert.Equal(t, "1", res.Header.Get("Retry-After"))
			assert.Equal(t, problem.CodeUnavailable, code(t, res))
		}
		assert.Equal(t, http.StatusServiceUnavailable, k.browser().post("/auth/signup", "email", "b@example.com", "password", password).StatusCode)
		free()
		k.browser().logIn(email, password).leadsTo(t, "/account/")
	}, func(c *auth.Config) { c.HashConcurrency = 2 })
}

func TestChangePassword_NeedsTheCurrentOneAndEndsOtherSessions(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b, other := k.browser(), k.browser()
		b.post("/auth/login", "email", email, "password", password, "remember", "true")
		other.logIn(email, password)
		thief := b.copy()
		const fresh = "brand new words"
		for _, c := range []struct{ current, password, field string }{{"wrong password", fresh, "f-current-error"}, {"", fresh, "f-current-error"}, {password, "short", "f-password-error"}, {password, "password1", "f-password-error"}} {
			res := b.post("/account/security/password", "current", c.current, "password", c.password)
			assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
			assert.Contains(t, res.body, c.field)
			assert.Contains(t, res.body, `<a href="/account/security" aria-current="page">`, "the page stays where it is in the navigation")
		}
		assert.True(t, other.in())
		_, err := k.ForgottenLink(t)
		require.NoError(t, err)
		_, link := k.link("auth.reset")

		before := b.cookie("__Host-qs_session")
		res := b.post("/account/security/password", "current", password, "password", fresh)
		res.leadsTo(t, "/account/security")
		assert.Positive(t, sessionCookieOf(t, res).MaxAge, "remembered as before")
		assert.NotEqual(t, before, b.cookie("__Host-qs_session"))
		assert.True(t, b.in())
		assert.False(t, other.in())
		assert.False(t, thief.in(), "this browser's old token too")
		assert.Equal(t, http.StatusUnauthorized, k.browser().logIn(email, password).StatusCode)
		k.browser().logIn(email, fresh).leadsTo(t, "/account/")
		assert.Equal(t, http.StatusConflict, k.browser().post("/auth/password/reset", "token", link, "password", "yet another one").StatusCode, "open links are cancelled")
		all := slices.DeleteFunc(k.mails(), func(m sentMail) bool { return m.Kind == "auth.device" })
		assert.Equal(t, "auth.password", all[len(all)-1].Kind)
		assert.Equal(t, 1, countKind(k.events(u.ID), auth.EventPasswordChanged))

		for range 5 {
			b.post("/account/security/password", "current", "wrong password", "password", "yet another one")
		}
		res = b.post("/account/security/password", "current", fresh, "password", "yet another one")
		assert.Equal(t, http.StatusTooManyRequests, res.StatusCode, "five guesses in five minutes")
		assert.Equal(t, "300", res.Header.Get("Retry-After"))
		assert.Zero(t, countKind(k.events(u.ID), auth.EventLocked), "in a session; the log-in has a count of its own")
		assert.True(t, b.in())
		_, err = k.ChangePassword(t.Context(), auth.ChangePasswordParams{UserID: "x"})
		require.ErrorIs(t, err, auth.ErrNotFound)
	})
}

// ForgottenLink asks for a link as its owner would.
func (k *kit) ForgottenLink(t *testing.T) (string, error) {
	t.Helper()
	if err := k.ForgotPassword(t.Context(), email, auth.Client{}); err != nil {
		return "", err
	}
	_, token := k.link("auth.reset")
	return token, nil
}

func TestReset_OnceWithinHalfAnHourAndNotALogIn(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b, other := k.browser(), k.browser()
		other.logIn(email, password)
		_, key, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err)
		b.post("/auth/password/forgot", "email", email)
		_, first := k.link("auth.reset")
		b.post("/auth/password/forgot", "email", email)
		path, second := k.link("auth.reset")
		const fresh = "brand new words"
		reset := func(token, pass string, more ...string) answer {
			return b.post("/auth/password/reset", append([]string{"token", token, "password", pass}, more...)...)
		}
		assert.Equal(t, http.StatusConflict, reset(first, fresh).StatusCode, "a newer one cancels it")
		assert.Equal(t, http.StatusConflict, b.post("/auth/verify", "token", second).StatusCode, "it is for one purpose")
		for range 2 {
			res := b.get(path)
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.Equal(t, "no-referrer", res.Header.Get("Referrer-Policy"))
		}
		res := reset(second, "password1")
		assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
		assert.Contains(t, res.body, second, "the form can be sent again")
		reset(second, fresh).leadsTo(t, "/auth/login")
		assert.False(t, b.in(), "a reset is no log-in")
		assert.False(t, other.in())
		assert.Equal(t, http.StatusConflict, reset(second, fresh).StatusCode, "once")
		_, _, err = k.AuthenticateKey(t.Context(), key)
		require.ErrorIs(t, err, auth.ErrKey, "keys go unless their owner says otherwise")
		b.logIn(email, fresh).leadsTo(t, "/account/")
		assert.Contains(t, k.events(u.ID), auth.EventPasswordReset)
		assert.Contains(t, k.events(u.ID), auth.EventKeyRevoked)

		_, key, err = k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err)
		third, err := k.ForgottenLink(t)
		require.NoError(t, err)
		k.clock.Advance(30*time.Minute - time.Second)
		reset(third, fresh, "keep_api_keys", "true").leadsTo(t, "/auth/login")
		_, _, err = k.AuthenticateKey(t.Context(), key)
		require.NoError(t, err)
		fourth, err := k.ForgottenLink(t)
		require.NoError(t, err)
		k.clock.Advance(30 * time.Minute)
		assert.Equal(t, http.StatusConflict, reset(fourth, fresh).StatusCode, "too late")
	})
}

func TestReset_FiftyAtOnceSpendItOnce(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		token, err := k.ForgottenLink(t)
		require.NoError(t, err)
		assert.Equal(t, 1, atOnce(t, 50, auth.ErrLink, func() error {
			return k.ResetPassword(t.Context(), auth.ResetParams{Token: token, Password: "brand new words"})
		}))
		assert.Equal(t, 1, countKind(k.events(u.ID), auth.EventPasswordReset))
	})
}

// A log-in under way while the password is replaced leaves no session behind.
func TestReset_LeavesNoSessionOfTheOldPassword(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		token, err := k.ForgottenLink(t)
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() {
			done <- k.ResetPassword(t.Context(), auth.ResetParams{Token: token, Password: "brand new words"})
		}()
		for range 20 {
			if _, err := k.LogIn(t.Context(), auth.LogInParams{Email: email, Password: password}); err != nil {
				require.ErrorIs(t, err, auth.ErrCredentials)
			}
		}
		require.NoError(t, <-done)
		assert.Zero(t, k.count(`SELECT COUNT(*) FROM qs_auth_sessions WHERE revoked_at IS NULL`))
	})
}

func TestSetPassword_IsForTrustedCallers(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		for range 5 {
			k.browser().logIn(email, "wrong password")
		}
		require.NoError(t, k.SetPassword(t.Context(), u.ID, "quickscale-dev"))
		assert.False(t, b.in())
		b.logIn(email, "quickscale-dev").leadsTo(t, "/account/")
		assert.Equal(t, problem.CodeInvalid, codeOf(k.SetPassword(t.Context(), u.ID, "short")))
		require.ErrorIs(t, k.SetPassword(t.Context(), "x", "long enough"), auth.ErrNotFound)
	})
}
