package auth_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/problem"
)

func TestAPIKey_ScannersFindItAndTellItFromOthers(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		_, token, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err)
		pattern := regexp.MustCompile(auth.KeyPattern)
		assert.Equal(t, token, pattern.FindString(`export KEY="`+token+`" # ours`))
		assert.True(t, auth.IsAPIKey(token))
		wrong := []byte(token)
		for i := len("qs_live_"); i < len(wrong); i++ {
			was := wrong[i]
			if wrong[i] = 'a'; was == 'a' {
				wrong[i] = 'b'
			}
			assert.False(t, auth.IsAPIKey(string(wrong)), "a slip at %d", i)
			wrong[i] = was
		}
		assert.Equal(t, 0, k.count(`SELECT COUNT(*) FROM qs_auth_api_keys WHERE last_used_at IS NOT NULL`))
	})
}

func TestAPIKey_OfTheOtherModeLetsNobodyIn(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		_, token, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(token, "qs_test_"))
		_, _, err = k.AuthenticateKey(t.Context(), token)
		require.NoError(t, err)
		_, _, err = newKit(t, k.db).AuthenticateKey(t.Context(), token)
		require.ErrorIs(t, err, auth.ErrKey)
	}, func(c *auth.Config) { c.KeyMode = auth.KeyTest })
}

func TestAPIKey_AllowsItsScopesAndNoOther(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u := k.user(email)
		for _, bad := range [][]string{nil, {"admin"}, {"read", "admin"}, {""}, {"read write"}} {
			_, _, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k", Scopes: bad})
			assert.NotEmpty(t, problem.FieldsOf(err)["scopes"], bad)
		}
		b := k.browser()
		b.logIn(email, password)
		res := b.post("/account/api-keys", "name", "k", "scopes", "read")
		require.Equal(t, http.StatusCreated, res.StatusCode, res.body)
		_, key, err := k.AuthenticateKey(t.Context(), regexp.MustCompile(auth.KeyPattern).FindString(res.body))
		require.NoError(t, err)
		assert.True(t, key.Allows("read"))
		assert.False(t, key.Allows("write"))
		assert.False(t, auth.APIKey{}.Allows("read"), "no scope is no access")
		assert.Equal(t, http.StatusUnprocessableEntity, b.post("/account/api-keys", "name", "k").StatusCode)
	}, func(c *auth.Config) { c.KeyScopes = []string{"read", "write"} })
}

func TestAPIKey_WorksFromItsNetworksOnly(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		k.user(email)
		b := k.browser()
		b.logIn(email, password)
		res := b.post("/account/api-keys", "name", "k", "networks", "192.0.2.0/24, 2001:db8::1")
		require.Equal(t, http.StatusCreated, res.StatusCode, res.body)
		token := regexp.MustCompile(auth.KeyPattern).FindString(res.body)
		from := func(peer, forwarded string) error {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = peer
			r.Header.Set("Authorization", "Bearer "+token)
			r.Header.Set("X-Forwarded-For", forwarded)
			_, _, err := k.AuthenticateRequest(r)
			return err
		}
		require.NoError(t, from("192.0.2.200:1", ""))
		require.NoError(t, from("[2001:db8::1]:1", ""))
		require.NoError(t, from("10.0.0.1:1", "192.0.2.7"), "through the proxy")
		for _, peer := range []string{"192.0.3.1:1", "[2001:db8::2]:1", "10.0.0.1:1", "@"} {
			require.ErrorIs(t, from(peer, ""), auth.ErrKey, peer)
		}
		require.ErrorIs(t, from("198.51.100.1:1", "192.0.2.7"), auth.ErrKey, "a header anyone can write")
		_, _, err := k.AuthenticateKey(t.Context(), token)
		require.ErrorIs(t, err, auth.ErrKey, "from nowhere")
		for _, bad := range []string{"nonsense", "192.0.2.0/33", "::ffff:192.0.2.1/120", strings.Repeat("192.0.2.1 ", 21)} {
			assert.Equal(t, http.StatusUnprocessableEntity, b.post("/account/api-keys", "name", "k", "networks", bad).StatusCode, bad)
		}
	}, func(c *auth.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
}

func TestAPIKey_IsReplacedWithAnOverlap(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		u, eve := k.user(email), k.user("eve@example.com")
		old, oldToken, err := k.CreateAPIKey(t.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k", Networks: []netip.Prefix{}})
		require.NoError(t, err)
		_, _, err = k.RegenerateAPIKey(t.Context(), auth.RegenerateAPIKeyParams{UserID: eve.ID, KeyID: old.ID})
		require.ErrorIs(t, err, auth.ErrNoKey)
		_, _, err = k.RegenerateAPIKey(t.Context(), auth.RegenerateAPIKeyParams{UserID: u.ID, KeyID: old.ID, Overlap: 8 * 24 * time.Hour})
		assert.NotEmpty(t, problem.FieldsOf(err)["overlap"])
		b := k.browser()
		b.logIn(email, password)
		res := b.post("/account/api-keys/"+old.ID+"/regenerate", "overlap", "24")
		require.Equal(t, http.StatusCreated, res.StatusCode, res.body)
		fresh := regexp.MustCompile(auth.KeyPattern).FindString(res.body)
		works := func(token string) bool {
			_, key, err := k.AuthenticateKey(t.Context(), token)
			return err == nil && key.Name == "k"
		}
		assert.NotEqual(t, oldToken, fresh)
		assert.True(t, works(oldToken))
		assert.True(t, works(fresh))
		k.clock.Advance(24 * time.Hour)
		assert.False(t, works(oldToken))
		assert.True(t, works(fresh))
		_, key, err := k.AuthenticateKey(t.Context(), fresh)
		require.NoError(t, err)
		_, token, err := k.RegenerateAPIKey(t.Context(), auth.RegenerateAPIKeyParams{UserID: u.ID, KeyID: key.ID})
		require.NoError(t, err)
		assert.False(t, works(fresh), "at once without an overlap")
		assert.True(t, works(token))
	})
}

func FuzzParseKey_TakesOnlyWhatWeMake(f *testing.F) {
	f.Add("qs_live_abcdefghijkl." + strings.Repeat("A", 49))
	f.Add("qs_test_.")
	f.Add(strings.Repeat("0", 6))
	f.Fuzz(func(t *testing.T, s string) {
		if auth.IsAPIKey(s) {
			require.Regexp(t, `^qs_(?:live|test)_[a-z0-9]{12}\.[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}$`, s)
		}
	})
}
