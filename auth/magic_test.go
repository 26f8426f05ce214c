package auth_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

var magicPattern = regexp.MustCompile(`\d{4} \d{4}`)

// code is that of the latest log-in mail.
func (k *kit) code() string {
	k.t.Helper()
	for _, m := range slices.Backward(k.mails()) {
		if m.Kind == "auth.magic" {
			return magicPattern.FindString(m.Text)
		}
	}
	require.Fail(k.t, "there is no log-in mail")
	return ""
}

func TestMagic_TheCodeLogsInOnceInTheBrowserThatAsked(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.post("/auth/magic", "email", email, "next", "/there", "remember", "true").leadsTo(t, "/auth/magic/code")
		assert.Equal(t, http.StatusOK, b.get("/auth/magic/code").StatusCode)
		code := k.code()
		other := k.browser()
		assert.Equal(t, http.StatusUnauthorized, other.post("/auth/magic/code", "code", code).StatusCode, "another browser")
		before := b.copy()
		b.post("/auth/magic/code", "code", code).leadsTo(t, "/there")
		assert.True(t, b.in())
		assert.Empty(t, b.cookie("__Host-qs_magic"))
		assert.Equal(t, http.StatusUnauthorized, before.post("/auth/magic/code", "code", code).StatusCode, "once")
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_sessions WHERE remember = ?`, true))
		assert.Contains(t, k.events(u.ID), auth.EventLogIn)
	})
}

func TestMagic_TheLinkNeedsTheBrowserAndAButton(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		b := k.browser()
		b.post("/auth/magic", "email", email, "next", "https://evil.example/")
		path, token := k.link("auth.magic")
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			scanner := k.browser()
			res := scanner.do(method, path, "", "")
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.NotContains(t, res.body, token)
			assert.Equal(t, "no-referrer", res.Header.Get("Referrer-Policy"))
			assert.Equal(t, http.StatusUnauthorized, scanner.post("/auth/magic/link", "token", token).StatusCode, "without the cookie it lets nobody in")
		}
		assert.Contains(t, b.get(path).body, token)
		assert.False(t, b.in(), "opening a link changes nothing")
		b.post("/auth/magic/link", "token", token).leadsTo(t, "/account/")
		assert.True(t, b.in())
	})
}

func TestMagic_FiveTriesAndTenMinutes(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		b := k.browser()
		ask := func() string {
			b.post("/auth/magic", "email", email)
			return k.code()
		}
		code := ask()
		wrong := "0000 0000"
		if code == wrong {
			wrong = "1111 1111"
		}
		for range 5 {
			assert.Equal(t, http.StatusUnprocessableEntity, b.post("/auth/magic/code", "code", wrong).StatusCode)
		}
		assert.Equal(t, http.StatusUnauthorized, b.post("/auth/magic/code", "code", code).StatusCode, "too many")
		code = ask()
		k.clock.Advance(10 * time.Minute)
		assert.Equal(t, http.StatusUnauthorized, b.post("/auth/magic/code", "code", code).StatusCode, "too late")
		code = ask()
		require.NoError(t, k.SetPassword(t.Context(), k.id(email), "quite another one"))
		assert.Equal(t, http.StatusUnauthorized, b.post("/auth/magic/code", "code", code).StatusCode, "a new password ends what waits")
		code = ask()
		for range 5 {
			k.browser().logIn(email, "wrong password")
		}
		b.post("/auth/magic/code", "code", strings.ReplaceAll(code, " ", "")).leadsTo(t, "/account/")
	})
}

func (k *kit) id(address string) string {
	k.t.Helper()
	u, err := k.FindUserByEmail(k.t.Context(), address)
	require.NoError(k.t, err)
	return u.ID
}

func TestMagic_TwentyAtOnceSpendItOnce(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		handle, err := k.RequestMagic(t.Context(), auth.RequestMagicParams{Email: email})
		require.NoError(t, err)
		_, link := k.link("auth.magic")
		assert.Equal(t, 1, atOnce(t, 20, auth.ErrMagic, func() error {
			_, _, err := k.MagicLogIn(t.Context(), auth.MagicLogInParams{Handle: handle, Link: link})
			return err
		}))
		assert.Equal(t, 1, k.count(`SELECT COUNT(*) FROM qs_auth_sessions`))
	})
}

// Whoever signed up with a stranger's address chose the password: a log-in by mail must not bless it.
func TestMagic_DoesNotConfirmAStrangersSignUp(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		thief, owner := k.browser(), k.browser()
		thief.post("/auth/signup", "email", email, "password", "the thief's choice")
		owner.post("/auth/magic", "email", email).leadsTo(t, "/auth/magic/code")
		kinds := []string{}
		for _, m := range k.mails() {
			kinds = append(kinds, m.Kind)
		}
		assert.Equal(t, []string{"auth.verify", "auth.verify"}, kinds)
		assert.Equal(t, http.StatusConflict, thief.logIn(email, "the thief's choice").StatusCode)
	})
}

func TestMagic_CodesCannotBeTriedOutOnACopyOfTheTable(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		handle, err := k.RequestMagic(t.Context(), auth.RequestMagicParams{Email: email})
		require.NoError(t, err)
		_, link := k.link("auth.magic")
		for _, secret := range []string{handle, link, strings.ReplaceAll(k.code(), " ", "")} {
			assert.NotContains(t, k.dump(), secret)
		}
	})
}
