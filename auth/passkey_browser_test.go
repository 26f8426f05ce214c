package auth_test

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/browsertest"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// served is an application at localhost, as a browser sees it.
func served(t *testing.T) (a *auth.Auth, address string) {
	t.Helper()
	db := dbtest.SQLite(t, schema)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	address = "http://localhost:" + port
	a, err = auth.New(auth.Config{DB: db.Writer(), ReadDB: db.Reader(), Mail: mailbox{db}, BaseURL: "http://127.0.0.1:" + port, Secret: bytes.Repeat([]byte("k"), 32),
		Logger: slog.New(slog.DiscardHandler), OAuth: []auth.OAuthProvider{auth.OpenID("acme", "Acme ID", "http://127.0.0.1:1", clientID, clientSecret)}})
	require.NoError(t, err)
	a.UseHashMemory(64)
	server := httptest.NewUnstartedServer(http.NewServeMux())
	server.Listener.Close()
	server.Listener = listener
	server.Config.Handler = a.Handler()
	server.Start()
	t.Cleanup(server.Close)
	return a, address
}

// A passkey as a person uses it, in Chromium with a device of its own: at an address of development, where BaseURL is
// an IP address and the browser is at localhost.
func TestBrowser_Passkey(t *testing.T) {
	t.Parallel()
	a, at := served(t)
	u, err := a.CreateUser(t.Context(), auth.CreateUserParams{Email: email, Password: password, Name: "Ada", Verified: true})
	require.NoError(t, err)
	b := browsertest.Open(t)
	b.Expect("422") // the console reports the status of a refusal
	device := b.Authenticator()

	b.Go(at + "/auth/login")
	b.See("Log in with a passkey")
	b.Screenshot("login-ways")
	logIn := func() {
		b.Type("#f-email", email)
		b.Type("#f-password", password)
		b.Click(`form[action="/auth/login"] button`)
	}
	logIn()
	b.Go(at + "/account/security")
	b.ClickText("Add a passkey")
	b.Screenshot("passkey-add")
	b.Type("#f-name", "Laptop")
	b.Click(`form[data-passkey="create"] button`)
	b.See("Your backup codes")
	b.Screenshot("backup-codes")
	assert.Equal(t, 1, device.Passkeys())
	b.ClickText("I have kept them")
	b.See("Laptop")
	b.Screenshot("security-passkey")
	b.ClickText("Add a passkey")
	b.Type("#f-name", "Again")
	b.Press(`form[data-passkey="create"] button`)
	b.See("has a passkey for your account already")

	logOut := func() {
		b.Go(at + "/account/security")
		require.NoError(t, a.RevokeOtherSessions(t.Context(), u.ID, "", auth.Client{}))
		b.Go(at + "/auth/login")
	}
	logOut()
	device.Recognises(false)
	b.Press(`form[data-passkey="get"] button`)
	b.See("Nothing was confirmed in time")
	device.Recognises(true)
	b.Click(`form[data-passkey="get"] button`)
	b.See("Hello, Ada")

	logOut()
	logIn()
	b.See("Second step")
	b.Screenshot("second-step")
	b.Click(`form[data-passkey="get"] button`)
	b.See("Hello, Ada")

	b.Go(at + "/auth/confirm?next=/account/security")
	b.Screenshot("confirm")
	b.Click(`form[data-passkey="get"] button`)
	b.See("Passkeys")
	keys, err := a.Passkeys(t.Context(), u.ID)
	require.NoError(t, err)
	require.Len(t, keys, 1)
	assert.NotNil(t, keys[0].LastUsedAt)
	b.ClickText("Rename")
	b.Type("#f-name", "Desk")
	b.Click("main form button")
	b.See("Desk")
	b.ClickText("Remove")
	b.See("The passkey is removed")
	b.CheckConsole()
}

func TestBrowser_AuthenticatorApp(t *testing.T) {
	t.Parallel()
	a, at := served(t)
	_, err := a.CreateUser(t.Context(), auth.CreateUserParams{Email: email, Password: password, Name: "Ada", Verified: true})
	require.NoError(t, err)
	b := browsertest.Open(t)
	b.Expect("422")
	b.Go(at + "/auth/login?next=/account/security")
	b.Type("#f-email", email)
	b.Type("#f-password", password)
	b.Click(`form[action="/auth/login"] button`)
	b.ClickText("Set up an app")
	b.Screenshot("totp")
	secret := strings.ReplaceAll(b.Text("#secret"), " ", "")
	b.Type("#f-code", "000000")
	b.Click("main form button")
	b.See("This code is not right")
	b.Screenshot("totp-wrong")
	code, err := totp.GenerateCode(secret, time.Now())
	require.NoError(t, err)
	b.Type("#f-code", code)
	b.Click("main form button")
	b.See("Your backup codes")
	b.ClickText("I have kept them")
	b.Screenshot("security-totp")
	b.CheckConsole()
}
