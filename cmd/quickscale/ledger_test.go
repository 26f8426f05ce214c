package main_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func TestLedgerVerify_TellsWhatDoesNotAddUp(t *testing.T) {
	t.Parallel()
	for engine, address := range map[string]func(testing.TB, dbtest.Schema) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			given := address(t, schema)
			db, err := database.Open(t.Context(), given)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, db.Close()) })
			ledger, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
			require.NoError(t, err)
			for i := range 3 {
				_, err := ledger.Grant(t.Context(), credits.GrantParams{Account: fmt.Sprintf("a%d", i), Amount: 5 * credits.Credit, Source: credits.Purchase, Reason: "Pack"})
				require.NoError(t, err)
			}
			c := cli{t, []string{"QUICKSCALE_DATABASE_URL=" + given}}
			code, out, problems := c.run("ledger", "seal")
			require.Zero(t, code, problems)
			assert.Contains(t, out, "3 entries sealed")
			code, out, problems = c.run("ledger", "verify")
			require.Zero(t, code, problems)
			assert.Contains(t, out, "3 accounts and 1 seals checked, 0 discrepancies")

			_, err = db.Writer().ExecContext(t.Context(), db.Rebind("UPDATE qs_credit_accounts SET available = available + 1, head_free = head_free + 1 WHERE id = ?"), "a1")
			require.NoError(t, err)
			code, out, problems = c.run("ledger", "verify", "--json")
			assert.Equal(t, 1, code)
			assert.Contains(t, problems, "discrepancies")
			assert.Contains(t, out, `"account": "a1"`)
			assert.NotContains(t, out, `"account": "a2"`)
			code, _, problems = c.run("ledger", "verify", "--after", "a1")
			assert.Zero(t, code, "%s", problems)
		})
	}
}
