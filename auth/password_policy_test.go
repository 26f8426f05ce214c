package auth_test

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/problem"
)

func django(t *testing.T, password string, iterations int) string {
	t.Helper()
	key, err := pbkdf2.Key(sha256.New, password, []byte("saltsalt"), iterations, 32)
	require.NoError(t, err)
	return fmt.Sprintf("pbkdf2_sha256$%d$saltsalt$%s", iterations, base64.StdEncoding.EncodeToString(key))
}

func TestPassword_ImportedHashesLetInAndAreReplaced(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		old, err := bcrypt.GenerateFromPassword([]byte(password), 4)
		require.NoError(t, err)
		for address, hash := range map[string]string{"bcrypt@example.com": string(old), "y@example.com": "$2y$" + string(old)[4:], "django@example.com": django(t, password, 1000)} {
			u, err := k.CreateUser(t.Context(), auth.CreateUserParams{Email: address, PasswordHash: hash, Verified: true})
			require.NoError(t, err, address)
			stored := func() (s string) {
				require.NoError(t, k.db.Writer().Get(&s, k.db.Rebind(`SELECT password_hash FROM qs_auth_users WHERE id = ?`), u.ID))
				return s
			}
			assert.Equal(t, http.StatusUnauthorized, k.browser().logIn(address, "not the password").StatusCode, address)
			assert.Equal(t, hash, stored())
			k.browser().logIn(address, password).leadsTo(t, "/account/")
			assert.True(t, strings.HasPrefix(stored(), "$argon2id$"), address)
			k.browser().logIn(address, password).leadsTo(t, "/account/")
		}
	})
}

func TestPassword_PBKDF2AgreesWithTheStandard(t *testing.T) {
	t.Parallel()
	// RFC 7914, 11: PBKDF2-HMAC-SHA-256 of "passwd" and "salt", one iteration, the first 32 bytes.
	key, err := hex.DecodeString("55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc")
	require.NoError(t, err)
	right, imported, err := auth.MatchImported("passwd", "pbkdf2_sha256$1$salt$"+base64.StdEncoding.EncodeToString(key))
	require.NoError(t, err)
	assert.True(t, imported)
	assert.True(t, right)
}

func TestPassword_BcryptIgnoresNothing(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 72)
	hash, err := bcrypt.GenerateFromPassword([]byte(long), 4)
	require.NoError(t, err)
	for password, want := range map[string]bool{long: true, long + "y": false, long[1:]: false} {
		right, _, err := auth.MatchImported(password, string(hash))
		require.NoError(t, err)
		assert.Equal(t, want, right, len(password))
	}
}

func TestPassword_HashesThatCannotBeImported(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		costly, err := bcrypt.GenerateFromPassword([]byte("x"), 4)
		require.NoError(t, err)
		for _, bad := range []string{"x", "md5$salt$hash", "$1$x$y", "$2b$15$" + string(costly)[7:], "$2b$", django(t, "x", 1)[:40], strings.Replace(django(t, "x", 1), "$1$", "$2000001$", 1),
			"pbkdf2_sha256$-1$s$" + strings.Repeat("A", 43) + "=", "$argon2id$v=19$m=1048576,t=1,p=1$c2FsdHNhbHQ$" + strings.Repeat("A", 43)} {
			_, err := k.CreateUser(t.Context(), auth.CreateUserParams{Email: email, PasswordHash: bad})
			require.ErrorIs(t, err, auth.ErrHash, bad)
		}
	})
}

func TestPassword_IsTheSameHoweverItIsTyped(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		_, err := k.CreateUser(t.Context(), auth.CreateUserParams{Email: email, Password: "caf\u00e9 \u00c5ngstr\u00f6m", Verified: true})
		require.NoError(t, err)
		k.browser().logIn(email, "cafe\u0301 A\u030angstro\u0308m").leadsTo(t, "/account/")
		assert.Equal(t, http.StatusUnauthorized, k.browser().logIn(email, "cafe Angstrom").StatusCode)
	})
}

func TestPassword_TheOriginalsRuleIsAnOption(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		for _, bad := range []string{"plum-gate 50", "PLUM-GATE 50", "Plum-gate fifty", "Plumgate50x"} {
			assert.NotEmpty(t, k.CheckPassword(bad), bad)
		}
		assert.Empty(t, k.CheckPassword("Plum-gate 50"))
	}, func(c *auth.Config) { c.MixedPasswords = true })
}

func TestPassword_TheCommonestAreRefused(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		for _, bad := range []string{"baseball", "jennifer", "mercedes", "Blink182!", "startrek1", "slipknot666", "charlie123"} {
			assert.NotEmpty(t, k.CheckPassword(bad), bad)
		}
		assert.GreaterOrEqual(t, auth.CommonPasswords(), 10_000)
	})
}

// leaked knows one password, as Have I Been Pwned would.
type leaked struct {
	suffix string
	asked  *[]string
	err    error
}

func (l leaked) Range(_ context.Context, prefix string) ([]string, error) {
	*l.asked = append(*l.asked, prefix)
	return []string{strings.Repeat("0", 35), l.suffix}, l.err
}

func TestPassword_LeakedOnesAreRefusedAndTheServiceLearnsNothing(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		sum := sha1.Sum([]byte("plum gate fifty"))
		hash := strings.ToUpper(hex.EncodeToString(sum[:]))
		var asked []string
		k = newKit(t, k.db, func(c *auth.Config) { c.Breaches = leaked{hash[5:], &asked, nil} })
		_, err := k.SignUp(t.Context(), auth.SignUpParams{Email: email, Password: "plum gate fifty"})
		assert.Contains(t, problem.FieldsOf(err)["password"], "leaked")
		_, err = k.SignUp(t.Context(), auth.SignUpParams{Email: email, Password: "plum gate fifty one"})
		require.NoError(t, err)
		require.Len(t, asked, 2)
		assert.Equal(t, hash[:5], asked[0])
		k = newKit(t, k.db, func(c *auth.Config) { c.Breaches = leaked{hash[5:], &asked, errors.New("away")} })
		_, err = k.SignUp(t.Context(), auth.SignUpParams{Email: "eve@example.com", Password: "plum gate fifty"})
		require.NoError(t, err, "a service that does not answer refuses nobody")
		assert.Contains(t, k.log.String(), "does not answer")
		assert.NotContains(t, k.log.String(), "plum gate")
	})
}

func TestPwnedPasswords_ReadsTheRange(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/range/ABCDE", r.URL.Path)
		assert.Equal(t, "true", r.Header.Get("Add-Padding"))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "0018A45C4D1DEF81644B54AB7F969B88D65:3\r\n00D4F6E8FA6EECAD2A3AA415EEC418D38EC:0\r\nnonsense\r\n")
	}))
	t.Cleanup(server.Close)
	p := auth.PwnedPasswords{URL: server.URL + "/range/"}
	got, err := p.Range(t.Context(), "ABCDE")
	require.NoError(t, err)
	assert.Equal(t, []string{"0018A45C4D1DEF81644B54AB7F969B88D65"}, got)
	status = http.StatusServiceUnavailable
	_, err = p.Range(t.Context(), "ABCDE")
	require.ErrorContains(t, err, "503")
}

func TestStrength_IsToldWithoutAnAccount(t *testing.T) {
	run(t, func(t *testing.T, k *kit) {
		for password, want := range map[string]string{"password": "Very weak", "ada12345": "Very weak", "plum gate fifty umbrella tiles": "Strong"} {
			res := k.browser().post("/auth/password/strength", "password", password, "email", "ada@example.com")
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.Contains(t, res.body, want, password)
			assert.Contains(t, res.body, `<meter`)
			assert.Contains(t, k.browser().json().post("/auth/password/strength", "password", password, "email", "ada@example.com").body, `"label":"`+want+`"`)
		}
		assert.Equal(t, http.StatusOK, k.browser().post("/auth/password/strength", "password", strings.Repeat("é", 4000)).StatusCode)
		assert.Contains(t, k.browser().get("/auth/signup").body, `hx-post="/auth/password/strength"`)
	})
}
