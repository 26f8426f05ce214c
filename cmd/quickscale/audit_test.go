package main_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func TestAuditVerify_TellsWhatDoesNotAddUp(t *testing.T) {
	t.Parallel()
	for engine, address := range map[string]func(testing.TB, dbtest.Schema) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			given := address(t, dbtest.Of(admin.Migrations()))
			db, err := database.Open(t.Context(), given)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, db.Close()) })
			a, err := admin.New(admin.Config{DB: db.Writer(), ReadDB: db.Reader(), Staff: func(*http.Request) (admin.Staff, bool) {
				return admin.Staff{ID: "s1", Email: "ada@example.com"}, true
			}})
			require.NoError(t, err)
			look := func(path string) {
				w := httptest.NewRecorder()
				a.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
				require.Equal(t, http.StatusOK, w.Code)
			}
			look("/admin/")
			look("/admin/audit")
			c := cli{t, []string{"QUICKSCALE_DATABASE_URL=" + given}}
			code, out, problems := c.run("audit", "verify")
			require.Zero(t, code, problems)
			assert.Contains(t, out, "2 lines checked, 0 from before the chain, 0 faults")
			_, kept, found := strings.Cut(strings.TrimSpace(out), "last line ")
			require.True(t, found)
			look("/admin/audit?action=refund")
			code, _, problems = c.run("audit", "verify", "--kept", kept)
			assert.Zero(t, code, problems)
			code, out, _ = c.run("audit", "verify", "--kept", "2:ab")
			assert.Equal(t, 1, code)
			assert.Contains(t, out, "the log was rewritten")
			code, _, problems = c.run("audit", "verify", "--kept", "ab")
			assert.NotZero(t, code)
			assert.Contains(t, problems, "number:hash")

			_, err = db.Writer().ExecContext(t.Context(), "UPDATE qs_admin_audit_head SET n = 4, hash = 'x'")
			require.NoError(t, err)
			code, out, problems = c.run("audit", "verify", "--json")
			assert.Equal(t, 1, code)
			assert.Contains(t, problems, "not as it was written")
			assert.Contains(t, out, "lines were removed")
		})
	}
}
