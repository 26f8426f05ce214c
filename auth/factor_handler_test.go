package auth_test

import (
	"encoding/json"
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
)

var secretPattern = regexp.MustCompile(`id="secret">([^<]+)<`)

// secretOn is the secret that a page shows.
func secretOn(t *testing.T, page answer) string {
	t.Helper()
	m := secretPattern.FindStringSubmatch(page.body)
	require.NotNil(t, m, page.body)
	return strings.ReplaceAll(html.UnescapeString(m[1]), " ", "")
}

var codePattern = regexp.MustCompile(`<li><code>([A-Z2-9-]+)</code></li>`)

// codesOn are the backup codes that a page shows.
func codesOn(page answer) (codes []string) {
	for _, m := range codePattern.FindAllStringSubmatch(page.body, -1) {
		codes = append(codes, m[1])
	}
	return codes
}

func data(t *testing.T, a answer, into any) {
	t.Helper()
	var body struct {
		Data json.RawMessage `json:"data"`
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &body), a.body)
	require.NoError(t, json.Unmarshal(body.Data, into), a.body)
}

func TestTOTPPages_SetUpLogInAndRemove(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		assert.Contains(t, b.get("/account/security").body, "Set up an app")
		b.post("/account/security/totp/begin").leadsTo(t, "/account/security/totp")
		page := b.get("/account/security/totp")
		assert.Contains(t, page.Header.Get("Content-Security-Policy"), "img-src 'self' data:")
		assert.Contains(t, page.Header.Get("Cache-Control"), "no-store")
		p := phone{k, secretOn(t, page)}
		bad := b.post("/account/security/totp", "code", "12345")
		assert.Equal(t, http.StatusUnprocessableEntity, bad.StatusCode)
		assert.Contains(t, bad.body, `id="f-code-error"`)
		done := b.post("/account/security/totp", "code", p.code())
		require.Equal(t, http.StatusCreated, done.StatusCode, done.body)
		codes := codesOn(done)
		require.Len(t, codes, 10)
		assert.Contains(t, done.body, `download="backup-codes.txt"`)
		assert.Contains(t, done.body, "data:text/plain;charset=utf-8,Backup%20codes")
		assert.NotContains(t, b.get("/account/security").body, codes[0], "they are shown once")

		k.clock.Advance(time.Minute)
		early := k.browser()
		early.logIn(email, password)
		early.post("/auth/2fa", "code", codes[9]).leadsTo(t, "/account/")
		assert.Contains(t, b.get("/account/security").body, "Log out all other devices")
		b.post("/account/security/sessions/revoke-others")
		assert.False(t, early.in(), "the page offers to end the sessions from before")

		second := k.browser()
		second.post("/auth/login", "email", email, "password", password, "next", "/account/profile", "remember", "true").leadsTo(t, "/auth/2fa?next=%2Faccount%2Fprofile")
		assert.False(t, second.in())
		form := second.get("/auth/2fa?next=%2Faccount%2Fprofile")
		assert.Contains(t, form.body, `autocomplete="one-time-code"`)
		wrong := second.post("/auth/2fa", "code", "000000", "next", "/account/profile")
		assert.Equal(t, http.StatusUnprocessableEntity, wrong.StatusCode)
		assert.Contains(t, wrong.body, `value="/account/profile"`)
		second.post("/auth/2fa", "code", p.code(), "next", "https://evil.example").leadsTo(t, "/account/")
		assert.True(t, second.in())
		sessions, _, err := k.Sessions(t.Context(), auth.SessionsParams{UserID: u.ID})
		require.NoError(t, err)
		assert.True(t, sessions[0].Remember, "what the first step chose holds")
		second.get("/auth/2fa").leadsTo(t, "/auth/login")

		again := b.post("/account/security/backup-codes")
		require.Equal(t, http.StatusCreated, again.StatusCode)
		assert.NotEqual(t, codes, codesOn(again))
		b.get("/account/security/backup-codes").leadsTo(t, "/account/security")
		b.post("/account/security/totp/remove").leadsTo(t, "/account/security")
		third := k.browser()
		third.logIn(email, password).leadsTo(t, "/account/")
	})
}

func TestTOTPPages_AnswerJSON(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		b := k.browser().json()
		b.logIn(email, password)
		var setup auth.TOTPSetup
		a := b.post("/account/security/totp/begin")
		require.Equal(t, http.StatusCreated, a.StatusCode)
		data(t, a, &setup)
		p := phone{k, strings.ReplaceAll(setup.Secret, " ", "")}
		var made struct {
			Codes []string `json:"backup_codes"`
		}
		a = b.do(http.MethodPost, "/account/security/totp", "application/json", `{"code":"`+p.code()+`"}`)
		require.Equal(t, http.StatusCreated, a.StatusCode, a.body)
		data(t, a, &made)
		assert.Len(t, made.Codes, 10)
		var page struct {
			SignIn struct {
				Factors auth.Factors `json:"factors"`
			} `json:"sign_in"`
		}
		data(t, b.get("/account/security"), &page)
		assert.Equal(t, 10, page.SignIn.Factors.BackupCodes)

		k.clock.Advance(time.Minute)
		other := k.browser().json()
		a = other.logIn(email, password)
		assert.Equal(t, http.StatusUnauthorized, a.StatusCode)
		assert.Equal(t, "second_step", code(t, a))
		assert.NotContains(t, a.body, other.cookie("__Host-qs_pending"), "the token is in the cookie only")
		a = other.post("/auth/2fa", "code", "000000")
		assert.Equal(t, "invalid", code(t, a))
		a = other.post("/auth/2fa", "code", p.code())
		assert.Equal(t, http.StatusOK, a.StatusCode, a.body)
		assert.True(t, other.in())
		assert.Equal(t, "login_expired", code(t, other.post("/auth/2fa", "code", p.code())))
	})
}

func TestTOTPPages_WithoutASecretThereAreNone(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		assert.NotContains(t, b.get("/account/security").body, "Set up an app")
		assert.Equal(t, http.StatusServiceUnavailable, b.post("/account/security/totp/begin").StatusCode)
		_, err := k.BeginTOTP(t.Context(), u.ID)
		require.ErrorIs(t, err, auth.ErrNoSecret)
		_, err = k.ConfirmTOTP(t.Context(), u.ID, "123456", auth.Client{})
		require.ErrorIs(t, err, auth.ErrNoSecret)
	}, func(cfg *auth.Config) { cfg.Secret = nil })
}

func TestLogOut_EndsAlsoALogInThatWaits(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		p, _ := k.phone(k.user(email))
		b := k.browser()
		b.logIn(email, password)
		require.NotEmpty(t, b.cookie("__Host-qs_pending"))
		b.post("/auth/logout")
		assert.Empty(t, b.cookie("__Host-qs_pending"))
		b.post("/auth/2fa", "code", p.code()).leadsTo(t, "/auth/login")
		assert.False(t, b.in())
	})
}

func TestFactors_WhatChangesThemAsksWhoIsThere(t *testing.T) {
	runOAuth(t, func(t *testing.T, k *kit, _ *idp) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		k.clock.Advance(10 * time.Minute)
		before := k.events(u.ID)
		const id = "01900000-0000-7000-8000-000000000000"
		at := "/account/security/"
		for path, method := range map[string]string{
			at + "totp/begin": "POST", at + "totp": "POST", at + "totp/remove": "POST", at + "backup-codes": "POST", at + "passkeys/new": "GET",
			at + "passkeys/begin": "POST", at + "passkeys": "POST", at + "passkeys/" + id: "POST", at + "passkeys/" + id + "/remove": "POST",
			at + "identities/acme": "POST", at + "identities/" + id + "/unlink": "POST", at + "password/add": "POST", "/auth/oauth/link": "POST",
		} {
			a := b.do(method, path, "", "")
			require.Equal(t, http.StatusSeeOther, a.StatusCode, path)
			assert.True(t, strings.HasPrefix(a.Header.Get("Location"), "/auth/confirm?next="), path)
		}
		assert.Equal(t, before, k.events(u.ID), "nothing was done")
		b.post("/auth/confirm", "password", password)
		b.post(at+"totp/begin").leadsTo(t, "/account/security/totp")
	})
}

func TestLacksSecondFactor_TellsOfStaffInASessionFromBefore(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		lacks := func() bool {
			t.Helper()
			u, err := k.FindUser(t.Context(), u.ID)
			require.NoError(t, err)
			lacks, err := k.LacksSecondFactor(t.Context(), u)
			require.NoError(t, err)
			return lacks
		}
		assert.False(t, lacks(), "users may go without")
		require.NoError(t, k.SetRole(t.Context(), u.ID, auth.RoleAdmin))
		assert.True(t, lacks())
		assert.Contains(t, b.get("/account/security").body, "The back office opens to you once")
		k.phone(u)
		assert.False(t, lacks())
	}, func(cfg *auth.Config) { cfg.StaffSecondFactor = true })
}
