package auth_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/browsertest"
)

// Every page fits a phone and a desk, and can be used with scripts and without; a picture of each is kept.
func TestBrowser_Pages(t *testing.T) {
	t.Parallel()
	for name, scripts := range map[string]bool{"js": true, "nojs": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, at := served(t)
			box := mailbox{a.Database()}
			u, err := a.CreateUser(t.Context(), auth.CreateUserParams{Email: email, Password: password, Name: "Ada", Verified: true})
			require.NoError(t, err)
			b := browsertest.Open(t)
			b.Expect("422")
			b.Expect("401")
			b.Expect("409")
			if !scripts {
				b.WithoutScripts()
			}
			look := func(path, name string) {
				t.Helper()
				b.Go(at + path)
				b.Screenshot("auth-" + name + map[bool]string{true: "", false: "-nojs"}[scripts])
				assert.Equal(t, 1, b.Count("h1"), path)
			}
			look("/auth/login?next=/account/security", "login")
			b.Phone()
			if scripts {
				b.Press("[data-burger]")
			}
			b.Click(`#menu a[href="/auth/signup"]`) // the menu of a phone leads on with scripts and without
			b.See("Have an account?")
			look("/auth/signup", "signup")
			look("/auth/password/forgot", "forgot")
			look("/auth/verify/resend", "resend")
			look("/auth/verify?token=x", "verify-broken")
			look("/auth/magic", "magic")
			b.Type("#f-email", email)
			b.Click("main form button")
			b.See("code")
			look("/auth/magic/code", "magic-code")
			b.Type("#f-code", "0000 0000")
			b.Click("main form button")
			b.See("This is not the code")
			b.Screenshot("auth-magic-code-wrong" + map[bool]string{true: "", false: "-nojs"}[scripts])
			path, _ := box.link(t, "auth.magic")
			look(path, "magic-link")
			require.NoError(t, a.ForgotPassword(t.Context(), email, auth.Client{}))
			path, _ = box.link(t, "auth.reset")
			look(path, "reset")

			b.Go(at + "/auth/login")
			b.Type("#f-email", email)
			b.Type("#f-password", "wrong password")
			b.Click(`form[action="/auth/login"] button`)
			b.See("is not right")
			b.Screenshot("auth-login-wrong" + map[bool]string{true: "", false: "-nojs"}[scripts])
			b.Type("#f-password", password)
			b.Click(`form[action="/auth/login"] button`)
			b.See("Hello, Ada")
			look("/account/", "dashboard")
			look("/account/security", "security")
			look("/account/api-keys", "api-keys")
			look("/account/profile", "profile")
			o, err := a.CreateOrganisation(t.Context(), auth.CreateOrganisationParams{UserID: u.ID, Name: "Acme"})
			require.NoError(t, err)
			_, _, err = a.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, AccountID: o.ID, Name: "Build server"})
			require.NoError(t, err)
			b.Go(at + "/account/organisation")
			b.Choose("#account-switch", o.ID)
			b.Click(".qs-switch button")
			b.See("Hello, Ada")
			look("/account/organisation", "organisation")
			look("/account/organisation/api-keys", "organisation-keys")
			look("/account/organisation/delete", "organisation-delete")
			b.Type("#f-name", "Acme")
			b.Click("main form button")
			b.See("Until then you can keep it")
			b.Screenshot("auth-organisation-ends" + map[bool]string{true: "", false: "-nojs"}[scripts])
			b.Click("main form button")
			b.See("Acme stays")
			look("/account/delete", "delete")
			look("/auth/unsubscribe?token=x", "unsubscribe-broken")
			require.NoError(t, a.SwitchAccount(t.Context(), u.ID, sessionNow(t, a, u), u.AccountID))
			b.Go(at + "/account/api-keys")
			b.Type("#f-name", "Deployment")
			b.Click(`form[action="/account/api-keys"] button`)
			b.See("qs_live_")
			b.Screenshot("auth-api-key-made" + map[bool]string{true: "", false: "-nojs"}[scripts])
			look("/auth/confirm?next=/account/security", "confirm-password")
			b.Type("#f-password", "wrong password")
			b.Click("main form button")
			b.See("This is not your password")

			setup, err := a.BeginTOTP(t.Context(), u.ID)
			require.NoError(t, err)
			code, err := totp.GenerateCode(strings.ReplaceAll(setup.Secret, " ", ""), time.Now())
			require.NoError(t, err)
			_, err = a.ConfirmTOTP(t.Context(), u.ID, code, auth.Client{})
			require.NoError(t, err)
			look("/auth/confirm?next=/account/security", "confirm-code")
			assert.Zero(t, b.Count("#f-password"))
			look("/account/security", "security-two-steps")
			look("/account/security/passkeys/new", "passkey-new")
			require.NoError(t, a.RequestEmailChange(t.Context(), auth.RequestEmailChangeParams{UserID: u.ID, Email: "ada@new.example"}))
			path, _ = box.link(t, "auth.emailchange")
			look(path, "email-confirm")
			path, _ = box.link(t, "auth.emailasked")
			look(path, "email-undo")

			require.NoError(t, a.RevokeOtherSessions(t.Context(), u.ID, "", auth.Client{}))
			b.Go(at + "/auth/login")
			b.Type("#f-email", email)
			b.Type("#f-password", password)
			b.Click(`form[action="/auth/login"] button`)
			b.See("Second step")
			b.Screenshot("auth-second-step" + map[bool]string{true: "", false: "-nojs"}[scripts])
			b.CheckConsole()
		})
	}
}

// How strong a password is can be seen while it is typed, and heard; without scripts there is a button.
func TestBrowser_PasswordStrengthIsShownWhileTyping(t *testing.T) {
	t.Parallel()
	_, at := served(t)
	b := browsertest.Open(t)
	b.Go(at + "/auth/signup")
	assert.Equal(t, 1, b.Count(`#password-strength[role="status"][aria-live="polite"]`), "screen readers tell what changes there")
	b.Type("#f-email", "ada@example.com")
	b.Type("#f-password", "password1")
	b.See("of the first")
	weak := b.Text("#password-strength")
	b.Screenshot("auth-strength-weak")
	b.Type("#f-password", "correct horse wire battery")
	b.See("Strong")
	assert.NotEqual(t, weak, b.Text("#password-strength"))
	assert.Equal(t, 1, b.Count(`#password-strength meter[aria-label="Strength"]`))
	b.Screenshot("auth-strength-strong")
	assert.Contains(t, b.Location(), "/auth/signup", "nothing was sent but the question")
	b.CheckConsole()

	b.WithoutScripts()
	b.Go(at + "/auth/signup")
	assert.Equal(t, 1, b.Count(`#password-strength button[formaction="/auth/password/strength"]`))
	res, err := http.PostForm(at+"/auth/password/strength", map[string][]string{"password": {"password1"}})
	require.NoError(t, err)
	defer res.Body.Close()
	assert.Equal(t, http.StatusOK, res.StatusCode)
}

// sessionNow is the latest log-in of a person.
func sessionNow(t *testing.T, a *auth.Auth, u auth.User) string {
	t.Helper()
	sessions, _, err := a.Sessions(t.Context(), auth.SessionsParams{UserID: u.ID, Limit: 1})
	require.NoError(t, err)
	require.NotEmpty(t, sessions)
	return sessions[0].ID
}
