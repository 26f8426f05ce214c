package auth_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/auth"
)

func TestSignUp_LinkLogsInTheBrowserThatSignedUp(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		b := k.browser()
		res := b.post("/auth/signup", "email", " "+email+" ", "password", password, "name", "Ada", "role", "admin", "id", "me", "verified_at", "2026-01-01")
		require.Equal(t, http.StatusOK, res.StatusCode, res.body)
		assert.False(t, b.in(), "signing up is not logging in")
		assert.Equal(t, http.StatusConflict, b.logIn(email, password).StatusCode)
		u, err := k.FindUserByEmail(t.Context(), "ADA@example.COM")
		require.NoError(t, err)
		assert.Equal(t, auth.RoleUser, u.Role, "a form cannot choose the role")
		assert.Equal(t, email, u.Email, "as it was written, trimmed")
		assert.False(t, u.Verified())

		path, token := k.link("auth.verify")
		for _, method := range []string{http.MethodHead, http.MethodGet, http.MethodGet} {
			scanner := k.browser()
			res := scanner.do(method, path, "", "")
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.Equal(t, "no-referrer", res.Header.Get("Referrer-Policy"))
			assert.Empty(t, res.Cookies())
		}
		assert.Equal(t, http.StatusOK, b.get(path).StatusCode)
		u, err = k.FindUser(t.Context(), u.ID)
		require.NoError(t, err)
		require.False(t, u.Verified(), "opening a link changes nothing")

		b.post("/auth/verify", "token", token).leadsTo(t, "/account/")
		assert.True(t, b.in())
		assert.Contains(t, b.get("/account/").body, "Hello, Ada")
		assert.Empty(t, b.cookie("__Host-qs_signup"), "the ticket has done its work")
		assert.Equal(t, http.StatusConflict, k.browser().post("/auth/verify", "token", token).StatusCode, "once")
		assert.Equal(t, http.StatusConflict, k.browser().get(path).StatusCode)
		assert.Equal(t, []auth.EventKind{auth.EventSignUp, auth.EventVerified, auth.EventLogIn}, k.events(u.ID))
	})
}

func TestVerify_InAnotherBrowserNeedsThePasswordToo(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		b := k.browser()
		b.post("/auth/signup", "email", email, "password", password)
		_, token := k.link("auth.verify")

		phone := k.browser()
		phone.post("/auth/verify", "token", token).leadsTo(t, "/auth/login")
		assert.Contains(t, phone.get("/auth/login").body, "One step is left")
		assert.False(t, phone.in())
		assert.Equal(t, http.StatusUnauthorized, phone.logIn(email, "something else").StatusCode)
		assert.False(t, phone.in())
		phone.logIn(email, password).leadsTo(t, "/account/")
		assert.True(t, phone.in())
		assert.Equal(t, http.StatusConflict, b.post("/auth/verify", "token", token).StatusCode, "the link is spent")
		b.logIn(email, password).leadsTo(t, "/account/")

		program := k.browser().json()
		assert.Equal(t, "link_invalid", code(t, program.post("/auth/verify", "token", token)))
	})
}

func TestVerify_ProgramsAreToldThatThePasswordIsNeeded(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		_, err := k.SignUp(t.Context(), auth.SignUpParams{Email: email, Password: password})
		require.NoError(t, err)
		_, token := k.link("auth.verify")
		p := k.browser().json()
		assert.Equal(t, "password_required", code(t, p.do(http.MethodPost, "/auth/verify", "application/json", `{"token":"`+token+`"}`)))
		res := p.do(http.MethodPost, "/auth/login", "application/json", `{"email":"ada@example.com","password":"`+password+`","remember":true}`)
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.JSONEq(t, `{"success":true,"data":{"redirect":"/account/"}}`, res.body)
		assert.True(t, p.in())
	})
}

// Somebody signs up with an address of somebody else, who presses the button in the mail: nobody gets in by that, and
// the owner of the mailbox becomes the owner of the account.
func TestVerify_StrangersPasswordIsNeverActivated(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		thief, owner := k.browser(), k.browser()
		const stolen = "the thief's choice"
		thief.post("/auth/signup", "email", email, "password", stolen)
		_, token := k.link("auth.verify")
		owner.post("/auth/verify", "token", token).leadsTo(t, "/auth/login")
		assert.Equal(t, http.StatusConflict, thief.logIn(email, stolen).StatusCode)

		// The owner signs up too; the thief does so once more. Whose link the owner presses decides nothing.
		owner.post("/auth/signup", "email", email, "password", password)
		thief.post("/auth/signup", "email", email, "password", stolen)
		_, token = k.link("auth.verify")
		owner.post("/auth/verify", "token", token).leadsTo(t, "/auth/login")
		assert.Equal(t, http.StatusUnauthorized, owner.logIn(email, password).StatusCode)
		assert.Equal(t, http.StatusConflict, thief.logIn(email, stolen).StatusCode)

		owner.post("/auth/password/forgot", "email", email)
		_, token = k.link("auth.reset")
		owner.post("/auth/password/reset", "token", token, "password", password).leadsTo(t, "/auth/login")
		owner.logIn(email, password).leadsTo(t, "/account/")
		assert.True(t, owner.in())
		assert.Equal(t, http.StatusUnauthorized, thief.logIn(email, stolen).StatusCode)
		assert.False(t, thief.in())
	})
}

func TestVerify_TheNewestLinkForThreeDays(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		b := k.browser()
		b.post("/auth/signup", "email", email, "password", password)
		_, first := k.link("auth.verify")
		b.post("/auth/verify/resend", "email", strings.ToUpper(email))
		_, second := k.link("auth.verify")
		require.NotEqual(t, first, second)
		assert.Equal(t, http.StatusConflict, b.post("/auth/verify", "token", first).StatusCode, "a newer one cancels it")
		k.clock.Advance(3 * 24 * time.Hour)
		assert.Equal(t, http.StatusConflict, b.post("/auth/verify", "token", second).StatusCode, "too late")
		b.post("/auth/verify/resend", "email", email)
		_, third := k.link("auth.verify")
		k.clock.Advance(3*24*time.Hour - time.Second)
		for _, bad := range []string{"", "x", strings.Repeat("A", 43), first + "=", "' OR 1=1 --"} {
			assert.Equal(t, http.StatusConflict, b.post("/auth/verify", "token", bad).StatusCode, bad)
		}
		b.post("/auth/verify", "token", third).leadsTo(t, "/account/")
	})
}

// A link is for the address that it was sent to.
func TestVerify_IsBoundToTheAddress(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		ticket, err := k.SignUp(t.Context(), auth.SignUpParams{Email: email, Password: password})
		require.NoError(t, err)
		_, token := k.link("auth.verify")
		_, err = k.db.Writer().Exec(`UPDATE qs_auth_users SET email = 'eve@example.com', email_key = 'eve@example.com'`)
		require.NoError(t, err)
		_, err = k.VerifyEmail(t.Context(), auth.VerifyParams{Token: token, Ticket: ticket})
		require.ErrorIs(t, err, auth.ErrLink)
	})
}

func TestVerify_FiftyAtOnceSpendItOnce(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		ticket, err := k.SignUp(t.Context(), auth.SignUpParams{Email: email, Password: password})
		require.NoError(t, err)
		_, token := k.link("auth.verify")
		assert.Equal(t, 1, atOnce(t, 50, auth.ErrLink, func() error {
			_, err := k.VerifyEmail(t.Context(), auth.VerifyParams{Token: token, Ticket: ticket})
			return err
		}))
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_sessions`))
	})
}

// atOnce runs fn n times together and counts the successes; every failure must be want.
func atOnce(t *testing.T, n int, want error, fn func() error) int {
	t.Helper()
	var group errgroup.Group
	done := make(chan struct{}, n)
	for range n {
		group.Go(func() error {
			err := fn()
			if err == nil {
				done <- struct{}{}
				return nil
			}
			if want != nil && assert.ErrorIs(t, err, want) {
				return nil
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	return len(done)
}

func TestSignUp_TwentyAtOnceMakeOneUser(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		forms := []string{"ada@example.com", "ADA@example.com", "Ada@EXAMPLE.com", " ada@example.com"}
		var group errgroup.Group
		for i := range 20 {
			group.Go(func() error {
				_, err := k.SignUp(t.Context(), auth.SignUpParams{Email: forms[i%len(forms)], Password: password})
				return err
			})
		}
		require.NoError(t, group.Wait())
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_users`))
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_tokens WHERE ended_at IS NULL`))
		assert.Len(t, k.mails(), 20)
	})
}

func TestSignUp_KnownAddressIsToldByMailOnly(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		k.browser().post("/auth/signup", "email", "ada@example.com", "password", "another password", "name", "Eve")
		all := k.mails()
		require.Len(t, all, 1)
		assert.Equal(t, "auth.exists", all[0].Kind)
		assert.Equal(t, email, all[0].Recipient, "to the address that the owner wrote, not to what was entered now")
		assert.NotContains(t, all[0].Text, "Eve")
		assert.Contains(t, all[0].Text, base+"/auth/login")
		got, err := k.FindUser(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Equal(t, u, got)
		k.browser().logIn(email, password).leadsTo(t, "/account/")
	})
}

func TestSignUp_MailsGreetNobodyUnverifiedByName(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		b := k.browser()
		b.post("/auth/signup", "email", email, "password", password, "name", "Win at https://spam.example")
		b.post("/auth/password/forgot", "email", email)
		b.post("/auth/verify/resend", "email", email)
		for _, m := range k.mails() {
			assert.NotContains(t, m.Text, "spam")
		}
	})
}

// Links begin with BaseURL, whatever the request calls the host.
func TestMails_LinksComeFromTheConfiguration(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		b := k.browser()
		b.header["X-Forwarded-Host"] = "evil.example"
		b.header["X-Forwarded-Proto"] = "http"
		b.h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Host = "evil.example"
			k.h.ServeHTTP(w, r)
		})
		b.post("/auth/password/forgot", "email", email)
		b.post("/auth/signup", "email", "new@example.com", "password", password)
		b.post("/auth/verify/resend", "email", "none@example.com")
		require.Len(t, k.mails(), 3)
		for _, m := range k.mails() {
			assert.NotContains(t, m.Text, "evil")
			assert.Contains(t, m.Text, base+"/auth/")
		}
	})
}
