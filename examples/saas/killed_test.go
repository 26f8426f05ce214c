package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// jam makes whoever writes an entry of the ledger wait for good: a call has then set its price aside and done its work,
// and its charge is under way. The price is set aside without an entry.
var jam = database.Query{
	Postgres: `CREATE FUNCTION test_jam() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(600); RETURN NEW; END' LANGUAGE plpgsql;
		CREATE TRIGGER test_jam BEFORE INSERT ON qs_credit_entries FOR EACH ROW EXECUTE FUNCTION test_jam();`,
	SQLite: `CREATE TRIGGER test_jam BEFORE INSERT ON qs_credit_entries BEGIN
		SELECT COUNT(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000000) SELECT i FROM n); END;`,
}

var unjam = database.Query{
	Postgres: `DROP TRIGGER test_jam ON qs_credit_entries; DROP FUNCTION test_jam;`,
	SQLite:   `DROP TRIGGER test_jam;`,
}

// A process that is killed between a service's work and its charge: nothing is charged, what was set aside comes back by
// itself, and the same Idempotency-Key charges once after that.
func TestSmoke_KilledInTheMiddleOfACall(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite":   sqlite,
		"postgres": func(t *testing.T) string { t.Helper(); return dbtest.PostgresURL(t, dbtest.Empty) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			databaseURL := url(t)
			p := start(t, databaseURL)
			v := visit(t, p)
			v.join("grace@example.com")
			v.buy()
			key := v.find(v.post("/account/api-keys", "name", "laptop"), `(qs_[a-z0-9_]+\.[A-Za-z0-9_-]+)`)
			db, err := database.Open(t.Context(), databaseURL)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, db.Close()) })

			execute(t, db, jam.For(db.Dialect()))
			gone := make(chan error, 1)
			go func() {
				_, _, err := callWithKey(t.Context(), v, key, "once")
				gone <- err
			}()
			running := func() (n int) {
				require.NoError(t, db.Get(t.Context(), &n, `SELECT COUNT(*) FROM qs_service_calls WHERE status = 'running'`))
				return n
			}
			require.Eventually(t, func() bool { return running() == 1 }, time.Minute, 10*time.Millisecond)
			time.Sleep(200 * time.Millisecond) // the work of the example takes no time: the charge waits now
			p.kill()
			require.Error(t, <-gone, "nobody was told of a result")
			// What the dead process had asked of the server goes with its connection, sooner or later.
			if db.Dialect() == database.Postgres {
				execute(t, db, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event = 'PgSleep'`)
			}
			execute(t, db, unjam.For(db.Dialect()))

			startAt(t, strings.TrimPrefix(p.base, "http://"), databaseURL)
			assert.Equal(t, "99.5", v.balance(), "the price is still set aside")
			assert.Equal(t, 1, running())
			status, out, err := callWithKey(t.Context(), v, key, "once")
			require.NoError(t, err)
			assert.Equal(t, http.StatusConflict, status)
			assert.Equal(t, "call_in_progress", out.Error.Code)

			// Instead of waiting for the ninety seconds to pass, they are taken back.
			const past = `2026-01-01 00:00:00.000000+00:00`
			execute(t, db, `UPDATE qs_credit_holds SET expires_at = '`+past+`' WHERE status = 'open'`)
			execute(t, db, `UPDATE qs_credit_accounts SET next_change_at = '`+past+`' WHERE next_change_at IS NOT NULL`)
			execute(t, db, `UPDATE qs_service_calls SET expires_at = '`+past+`' WHERE status = 'running'`)
			assert.Equal(t, "100", v.balance(), "it came back by itself")

			var call string
			for range 3 {
				status, out, err = callWithKey(t.Context(), v, key, "once")
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, status, out.Error.Message)
				assert.Equal(t, "0.5", out.Data.CreditsCharged)
				if call == "" {
					call = out.Data.CallID
				}
				assert.Equal(t, call, out.Data.CallID)
				assert.Equal(t, "99.5", v.balance())
			}
			var debits, holds int
			require.NoError(t, db.Get(t.Context(), &debits, `SELECT COUNT(*) FROM qs_credit_entries WHERE kind = 'debit'`))
			require.NoError(t, db.Get(t.Context(), &holds, `SELECT COUNT(*) FROM qs_credit_holds WHERE status = 'open'`))
			assert.Equal(t, 1, debits)
			assert.Zero(t, holds)
			assert.Zero(t, running())
		})
	}
}

func execute(t *testing.T, db *database.DB, statements string) {
	t.Helper()
	_, err := db.Writer().ExecContext(t.Context(), statements)
	require.NoError(t, err)
}

// callWithKey counts words under an Idempotency-Key.
func callWithKey(ctx context.Context, v *visitor, key, idempotencyKey string) (status int, out apiAnswer, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, v.base+"/api/v1/services/text-analysis", strings.NewReader(`{"text":"one two three"}`))
	if err != nil {
		return 0, out, err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Idempotency-Key", idempotencyKey)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, out, err
	}
	defer res.Body.Close()
	return res.StatusCode, out, json.NewDecoder(res.Body).Decode(&out)
}
