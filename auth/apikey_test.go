package auth_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

func TestAPIKey_IsShownOnceAndLetsIn(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		b := k.browser()
		b.logIn(email, password)
		res := b.post("/account/api-keys", "name", " Server ", "user_id", "x", "prefix", "qs_mine", "expires_at", "2026-03-31")
		require.Equal(t, http.StatusCreated, res.StatusCode)
		token := regexp.MustCompile(`qs_live_[a-z0-9]{12}\.[A-Za-z0-9_-]{49}`).FindString(res.body)
		require.NotEmpty(t, token)
		assert.NotContains(t, b.get("/account/api-keys").body, token, "once")
		assert.Contains(t, b.get("/account/api-keys").body, token[:20])

		got, key, err := k.AuthenticateKey(t.Context(), token)
		require.NoError(t, err)
		assert.Equal(t, u.ID, got.ID)
		assert.Equal(t, "Server", key.Name)
		assert.Equal(t, token[:20], key.Prefix)
		assert.Equal(t, time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC), *key.ExpiresAt, "the end of the day")

		program := b.copy().json()
		res = program.do(http.MethodPost, "/account/api-keys", "application/json", `{"name":"Second","expires_at":"2026-03-01T13:00:00Z"}`)
		require.Equal(t, http.StatusCreated, res.StatusCode)
		var made struct {
			Data struct {
				Key   auth.APIKey `json:"key"`
				Token string      `json:"token"`
			} `json:"data"`
		}
		require.NoError(t, json.Unmarshal([]byte(res.body), &made))
		_, second, err := k.AuthenticateKey(t.Context(), made.Data.Token)
		require.NoError(t, err)
		assert.Equal(t, made.Data.Key.ID, second.ID)
		res = program.get("/account/api-keys")
		assert.NotContains(t, res.body, made.Data.Token)
		assert.NotContains(t, res.body, "hash")
		assert.Equal(t, []auth.EventKind{auth.EventKeyCreated, auth.EventKeyCreated}, k.events(u.ID)[3:])

		for _, bad := range [][]string{{"name", ""}, {"name", strings.Repeat("x", 101)}, {"name", "a\x00"}, {"name", "x", "expires_at", "soon"}, {"name", "x", "expires_at", "2026-02-27"}, {"name", "x", "expires_at", "2126-03-01"}, {"name", "x", "expires_at", "9999-12-31"}} {
			res := b.post("/account/api-keys", bad...)
			assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode, bad)
			assert.Contains(t, res.body, "is-danger", bad)
			assert.Equal(t, http.StatusOK, b.get("/account/api-keys").StatusCode, "and the page still opens")
		}
		for _, body := range []string{`{"name":"x","user_id":"y"}`, `{"name":"x","id":"y"}`} {
			assert.Equal(t, http.StatusUnprocessableEntity, program.do(http.MethodPost, "/account/api-keys", "application/json", body).StatusCode)
		}
	})
}

// Whatever is wrong with a key, the answer is one and the same.
func TestAPIKey_RefusalsDoNotTellWhy(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		mint := func(expires *time.Time) (auth.APIKey, string) {
			key, token, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k", ExpiresAt: expires})
			require.NoError(t, err)
			return key, token
		}
		refused := func(token, why string) {
			_, _, err := k.AuthenticateKey(t.Context(), token)
			assert.Same(t, auth.ErrKey, err, why)
		}
		hour := start.Add(time.Hour)
		good, token := mint(nil)
		_, expiring := mint(&hour)
		prefix, secret, _ := strings.Cut(token, ".")
		_, other, _ := strings.Cut(expiring, ".")
		for _, bad := range []string{"", ".", token + "x", token[:len(token)-1], prefix, prefix + ".", "." + secret, prefix + "." + other, "qs_aaaaaaaaaaaa." + secret, strings.ToUpper(token), " " + token,
			"qs_aaaaaaaaaaa%." + secret, prefix + "." + strings.Repeat("A", 43)} {
			refused(bad, bad)
		}
		assert.Equal(t, problem.CodeUnauthenticated, codeOf(auth.ErrKey))
		assert.Equal(t, http.StatusUnauthorized, web.Status(codeOf(auth.ErrKey)))
		_, _, err := k.AuthenticateKey(t.Context(), expiring)
		require.NoError(t, err)
		k.clock.Advance(time.Hour)
		refused(expiring, "expired")
		_, _, err = k.AuthenticateKey(t.Context(), token)
		require.NoError(t, err)
		require.NoError(t, k.SetDisabled(t.Context(), u.ID, true))
		refused(token, "disabled")
		_, _, err = k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.ErrorIs(t, err, auth.ErrDisabled)
		require.NoError(t, k.SetDisabled(t.Context(), u.ID, false))
		_, err = k.db.Writer().Exec(`UPDATE qs_auth_users SET verified_at = NULL`)
		require.NoError(t, err)
		refused(token, "unverified")
		_, _, err = k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.ErrorIs(t, err, auth.ErrUnverified)
		_, err = k.db.Writer().Exec(k.db.Rebind(`UPDATE qs_auth_users SET verified_at = created_at`))
		require.NoError(t, err)
		require.NoError(t, k.RevokeAPIKey(t.Context(), u.ID, good.ID, auth.Client{}))
		refused(token, "revoked")
		require.ErrorIs(t, k.RevokeAPIKey(t.Context(), u.ID, good.ID, auth.Client{}), auth.ErrNoKey)
	})
}

func TestAPIKey_IsItsOwnersOnly(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u, eve := k.user(email), k.user("eve@example.com")
		key, token, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "Ada's"})
		require.NoError(t, err)
		evil := k.browser()
		evil.logIn(eve.Email, password)
		assert.Equal(t, http.StatusNotFound, evil.post("/account/api-keys/"+key.ID+"/revoke").StatusCode)
		assert.Equal(t, http.StatusNotFound, evil.post("/account/api-keys/nonsense/revoke").StatusCode)
		assert.NotContains(t, evil.get("/account/api-keys?before=ffffffff-ffff-7fff-bfff-ffffffffffff").body, key.Prefix)
		require.ErrorIs(t, k.RevokeAPIKey(t.Context(), eve.ID, key.ID, auth.Client{}), auth.ErrNoKey)
		_, _, err = k.AuthenticateKey(t.Context(), token)
		require.NoError(t, err)
		b := k.browser()
		b.logIn(email, password)
		b.post("/account/api-keys/"+key.ID+"/revoke").leadsTo(t, "/account/api-keys")
		assert.Contains(t, b.get("/account/api-keys").body, "Revoked")
		_, _, err = k.AuthenticateKey(t.Context(), token)
		require.ErrorIs(t, err, auth.ErrKey)
	})
}

func TestAPIKey_LastUseIsWrittenOnceAMinute(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		_, token, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err)
		used := func() *time.Time {
			keys, _, err := k.APIKeys(t.Context(), auth.APIKeysParams{UserID: u.ID})
			require.NoError(t, err)
			return keys[0].LastUsedAt
		}
		assert.Nil(t, used())
		for _, step := range []time.Duration{0, 59 * time.Second, time.Second} {
			k.clock.Advance(step)
			_, _, err := k.AuthenticateKey(t.Context(), token)
			require.NoError(t, err)
			assert.Equal(t, k.clock.Now().Truncate(time.Minute), *used())
		}
	})
}

func TestAPIKey_AHundredAndNoMore(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		var last auth.APIKey
		assert.Equal(t, 100, atOnce(t, 110, auth.ErrTooManyKeys, func() error {
			_, _, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
			return err
		}))
		keys, more, err := k.APIKeys(t.Context(), auth.APIKeysParams{UserID: u.ID})
		require.NoError(t, err)
		assert.True(t, more)
		last = keys[len(keys)-1]
		rest, more, err := k.APIKeys(t.Context(), auth.APIKeysParams{UserID: u.ID, Before: last.ID, Limit: 500})
		require.NoError(t, err)
		assert.False(t, more)
		assert.Len(t, rest, 50)
		require.NoError(t, k.RevokeAPIKey(t.Context(), u.ID, last.ID, auth.Client{}))
		_, _, err = k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err, "a revoked one does not count")
	})
}

func TestBearerToken_ReadsTheHeader(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{"Bearer abc": "abc", "bearer  abc ": "abc", "": "", "Bearer": "", "Bearer ": "", "Basic abc": "", "abc": ""} {
		r := httptest.NewRequest(http.MethodGet, "/?access_token=no", nil)
		r.Header.Set("Authorization", header)
		got, ok := auth.BearerToken(r)
		assert.Equal(t, want, got, header)
		assert.Equal(t, want != "", ok, header)
	}
}
