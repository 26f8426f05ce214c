package main_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/mail"
)

// accounts are those of a database, and the commands on it.
func accounts(t *testing.T) (*database.DB, *auth.Auth, cli) {
	t.Helper()
	given := dbtest.SQLiteURL(t, userSchema)
	db, err := database.Open(t.Context(), given)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	a, err := auth.New(auth.Config{DB: db.Writer(), ReadDB: db.Reader(), Mail: &mail.Queue{}, BaseURL: "http://127.0.0.1", Secret: bytes.Repeat([]byte("k"), 32)})
	require.NoError(t, err)
	return db, a, cli{t, []string{"QUICKSCALE_DATABASE_URL=" + given}}
}

func TestUserCreateAndList_MakeAccountsThatLetIn(t *testing.T) {
	t.Parallel()
	_, a, c := accounts(t)
	code, out, problems := c.run("user", "create", "ada@example.com", "--dry-run")
	require.Zero(t, code, problems)
	assert.Contains(t, out, "would have an account")
	_, err := a.FindUserByEmail(t.Context(), "ada@example.com")
	require.ErrorIs(t, err, auth.ErrNotFound)

	made := c.json("user", "create", "Ada@example.com", "--name", "Ada", "--verified", "--role", "staff")
	require.NotEmpty(t, made["password"])
	s, err := a.LogIn(t.Context(), auth.LogInParams{Email: "ada@example.com", Password: made["password"].(string)})
	require.NoError(t, err)
	assert.Equal(t, made["id"], s.User.ID)
	assert.Equal(t, auth.RoleStaff, s.User.Role)

	binary, err := binary()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), binary, "user", "create", "eve@example.com", "--verified", "--password-stdin")
	cmd.Env, cmd.Stdin = c.env, strings.NewReader("correct horse wire\n")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, string(text))
	assert.NotContains(t, string(text), "horse")
	_, err = a.LogIn(t.Context(), auth.LogInParams{Email: "eve@example.com", Password: "correct horse wire"})
	require.NoError(t, err)

	for _, bad := range []struct {
		code int
		say  string
		args []string
	}{
		{1, "user list", []string{"ada@example.com"}},
		{2, "user, staff or admin", []string{"b@example.com", "--role", "boss"}},
		{2, "--verified", []string{"b@example.com", "--role", "admin"}},
		{2, "e-mail address", []string{"nobody"}},
		{2, "no password on standard input", []string{"b@example.com", "--password-stdin"}},
		{2, "", nil},
	} {
		code, _, problems := c.run(append([]string{"user", "create"}, bad.args...)...)
		assert.Equal(t, bad.code, code, "%v: %s", bad.args, problems)
		assert.Contains(t, problems, bad.say, bad.args)
	}

	listed := c.json("user", "list", "--limit", "1")
	require.Len(t, listed["users"], 1)
	newest := listed["users"].([]any)[0].(map[string]any)
	assert.Equal(t, "eve@example.com", newest["email"])
	assert.Equal(t, true, listed["more"])
	code, out, problems = c.run("user", "list", "--before", newest["id"].(string))
	require.Zero(t, code, problems)
	assert.Contains(t, out, "Ada@example.com")
	assert.NotContains(t, out, "eve@example.com")
	_, out, _ = c.run("user", "list", "EVE")
	assert.Contains(t, out, "eve@example.com")
	assert.NotContains(t, out, "Ada@example.com")
	assert.NotContains(t, out+problems, "argon2id")
}

func TestUserResetFactors_AsksBeforeAndTellsTheOwner(t *testing.T) {
	t.Parallel()
	db, a, c := accounts(t)
	u, err := a.CreateUser(t.Context(), auth.CreateUserParams{Email: "ada@example.com", Password: "correct horse", Verified: true})
	require.NoError(t, err)
	code, _, problems := c.run("user", "reset-2fa", "ada@example.com")
	assert.Equal(t, 1, code)
	assert.Contains(t, problems, "no second step")
	_, err = db.Writer().Exec(`INSERT INTO qs_auth_totp (user_id, secret, confirmed_at, last_step, created_at) VALUES (?, '012345678901234567890123456789', '2026-01-01 00:00:00.000000+00:00', 1, '2026-01-01 00:00:00.000000+00:00')`, u.ID)
	require.NoError(t, err)
	second := func() bool {
		f, err := a.Factors(t.Context(), u.ID)
		require.NoError(t, err)
		return f.Second()
	}
	code, out, problems := c.run("user", "reset-2fa", "ada@example.com", "--dry-run")
	require.Zero(t, code, problems)
	assert.Contains(t, out, "would lose the authenticator app, 0 passkeys")
	for _, confirm := range []string{"", "eve@example.com"} {
		code, _, problems = c.run("user", "reset-2fa", "ada@example.com", "--confirm", confirm)
		assert.Equal(t, 2, code)
		assert.Contains(t, problems, "nothing was taken off")
	}
	require.True(t, second())
	code, _, problems = c.run("user", "reset-2fa", "nobody@example.com")
	assert.Equal(t, 3, code)
	assert.Contains(t, problems, "user list")

	done := c.json("user", "reset-2fa", "ada@example.com", "--confirm", "Ada@example.com")
	assert.Equal(t, u.ID, done["id"])
	assert.False(t, second())
	events, _, err := a.SecurityEvents(t.Context(), auth.EventsParams{UserID: u.ID})
	require.NoError(t, err)
	assert.Equal(t, auth.EventFactorsReset, events[0].Kind)
	assert.Regexp(t, `^cli:`, events[0].Agent)
	var kind string
	require.NoError(t, db.Reader().Get(&kind, `SELECT kind FROM qs_auth_notices WHERE user_id = ?`, u.ID))
	assert.Equal(t, "auth.change", kind, "the application mails it")
}
