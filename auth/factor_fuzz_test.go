package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// Whatever is sent in place of a browser's answer, nobody gets in and nothing breaks.
func FuzzLogInByPasskey(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"id":"AA","rawId":"AA","type":"public-key","response":{}}`,
		`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"AAAA","signature":"AA","userHandle":"AA"}}`, "\x00", "[[[["} {
		f.Add([]byte(seed))
	}
	db := dbtest.SQLite(f, schema)
	a, err := auth.New(auth.Config{DB: db.Writer(), ReadDB: db.Reader(), Mail: mailbox{db}, BaseURL: base})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, response []byte) {
		c, err := a.BeginPasskeyLogIn(t.Context(), auth.Client{})
		require.NoError(t, err)
		_, err = a.LogInByPasskey(t.Context(), auth.PasskeyLogInParams{Handle: c.Handle, Response: response})
		require.ErrorIs(t, err, auth.ErrPasskey)
	})
}

// Whatever is typed in place of a code, nobody gets in: the app's secret is known to nobody.
func FuzzConfirmTOTP(f *testing.F) {
	for _, seed := range []string{"", "12 34 5", "AAAA-AAAA", "aaaaaaaa", "\u0660\u0660\u0660\u0660\u0660\u0660", strings.Repeat("9", 1000), "' OR 1=1 --", "\x00"} {
		f.Add(seed)
	}
	db := dbtest.SQLite(f, schema)
	a, err := auth.New(auth.Config{DB: db.Writer(), ReadDB: db.Reader(), Mail: mailbox{db}, BaseURL: base, Secret: []byte(strings.Repeat("k", 32)),
		Limits: auth.Limits{Code: auth.Limit{Max: 1_000_000_000, Per: time.Hour}}})
	require.NoError(f, err)
	a.UseHashMemory(64)
	u, err := a.CreateUser(f.Context(), auth.CreateUserParams{Email: email, Password: password, Verified: true})
	require.NoError(f, err)
	_, err = a.BeginTOTP(f.Context(), u.ID)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, code string) {
		if len(code) == 6 && strings.Trim(code, "0123456789") == "" {
			code += "0" // one of a million would be right
		}
		_, err := a.ConfirmTOTP(t.Context(), u.ID, code, auth.Client{})
		require.ErrorIs(t, err, auth.ErrCode)
	})
}
