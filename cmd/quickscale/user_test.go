package main_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/mail"
)

var userSchema = dbtest.Of(auth.Migrations())

func TestUserPromote_GivesARoleAndSaysWhyNot(t *testing.T) {
	t.Parallel()
	for engine, address := range map[string]func(testing.TB, dbtest.Schema) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			given := address(t, userSchema)
			db, err := database.Open(t.Context(), given)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, db.Close()) })
			a, err := auth.New(auth.Config{DB: db.Writer(), ReadDB: db.Reader(), Mail: &mail.Queue{}, BaseURL: "http://127.0.0.1"})
			require.NoError(t, err)
			u, err := a.CreateUser(t.Context(), auth.CreateUserParams{Email: "ada@example.com", Password: "correct horse", Verified: true})
			require.NoError(t, err)
			_, err = a.CreateUser(t.Context(), auth.CreateUserParams{Email: "new@example.com", Password: "correct horse"})
			require.NoError(t, err)
			role := func() auth.Role {
				got, err := a.FindUser(t.Context(), u.ID)
				require.NoError(t, err)
				return got.Role
			}
			c := cli{t, []string{"QUICKSCALE_DATABASE_URL=" + given}}
			code, out, problems := c.run("user", "promote", "ADA@example.com", "--dry-run")
			require.Zero(t, code, problems)
			assert.Contains(t, out, "would get the role admin")
			assert.Equal(t, auth.RoleUser, role())
			code, out, _ = c.run("user", "promote", "ada@example.com", "--json")
			require.Zero(t, code)
			assert.Contains(t, out, `"role": "admin"`)
			assert.Equal(t, auth.RoleAdmin, role())
			code, out, _ = c.run("user", "promote", "ada@example.com")
			require.Zero(t, code)
			assert.Contains(t, out, "already")
			code, _, _ = c.run("user", "promote", "ada@example.com", "--role", "staff")
			require.Zero(t, code)
			assert.Equal(t, auth.RoleStaff, role())
			for _, bad := range []struct {
				code int
				say  string
				args []string
			}{
				{3, "sign up first", []string{"nobody@example.com"}},
				{2, "user, staff or admin", []string{"ada@example.com", "--role", "boss"}},
				{1, "not confirmed", []string{"new@example.com"}},
				{2, "", nil},
			} {
				code, _, problems := c.run(append([]string{"user", "promote"}, bad.args...)...)
				assert.Equal(t, bad.code, code, "%v", bad.args)
				assert.Contains(t, problems, bad.say)
			}
			require.NoError(t, a.SetDisabled(t.Context(), u.ID, true))
			code, _, problems = c.run("user", "promote", "ada@example.com")
			assert.Equal(t, 1, code)
			assert.Contains(t, problems, "closed")
		})
	}
}
