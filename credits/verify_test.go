package credits_test

import (
	"context"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"log/slog"

	"crypto/ed25519"
	"fmt"
	"github.com/quickscale/quickscale/internal/jobs"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// tamper does what only the database's owner can: it runs statements past the triggers and the foreign keys.
func tamper(t *testing.T, db *database.DB, queries ...string) {
	t.Helper()
	tx, err := db.Writer().BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Commit()) }()
	if db.Dialect() == database.Postgres {
		queries = append([]string{`SET LOCAL session_replication_role = replica`}, queries...)
	} else {
		var triggers []struct {
			Name string `db:"name"`
			SQL  string `db:"sql"`
		}
		require.NoError(t, tx.Select(&triggers, `SELECT name, sql FROM sqlite_master WHERE type = 'trigger'`))
		for _, trigger := range triggers {
			queries = append([]string{"DROP TRIGGER " + trigger.Name}, append(queries, trigger.SQL)...)
		}
		queries = append([]string{`PRAGMA defer_foreign_keys = ON`}, queries...)
	}
	for _, query := range queries {
		_, err := tx.ExecContext(t.Context(), query)
		require.NoError(t, err, query)
	}
}

func TestVerify_ReportsEachDiscrepancy(t *testing.T) {
	t.Parallel()
	for rule, query := range map[string]string{
		"the account owns the sum":      `UPDATE qs_credit_accounts SET available = available + 1, head_free = head_free + 1 WHERE id = 'acct-1'`,
		"the account owes":              `UPDATE qs_credit_accounts SET debt = debt + 1 WHERE id = 'in debt'`,
		"numbered without a gap":        `UPDATE qs_credit_accounts SET last_seq = last_seq + 1 WHERE id = 'acct-1'`,
		"follows from the one before":   `UPDATE qs_credit_entries SET balance = balance + 1 WHERE account_id = 'acct-1' AND seq = 2`,
		"an entry is the sum":           `UPDATE qs_credit_allocations SET amount = amount - 1`,
		"free and held of a lot":        `UPDATE qs_credit_lots SET free = free - 1 WHERE amount = 40`,
		"available what is free":        `UPDATE qs_credit_accounts SET available = available + 1, purchase = purchase + 1 WHERE id = 'acct-1'`,
		"held what its open holds":      `UPDATE qs_credit_accounts SET held = held - 1 WHERE id = 'acct-1'`,
		"a hold is the sum":             `UPDATE qs_credit_hold_lots SET amount = amount - 1`,
		"each source has available":     `UPDATE qs_credit_accounts SET purchase = purchase + 1, bonus = bonus - 1 WHERE id = 'acct-1'`,
		"lots with something left are ": `UPDATE qs_credit_lots SET priority = 1 WHERE amount = 40`,
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
				l := newLedger(t, db, newClock())
				grant(t, l, credits.Purchase, 10, nil)
				grant(t, l, credits.Purchase, 20, nil)
				grant(t, l, credits.Purchase, 70, nil)
				grant(t, l, credits.Bonus, 40, nil)
				debit(t, l, 12)
				reserve(t, l, 25, time.Hour)
				for i := range 5 {
					grantTo(t, l, fmt.Sprintf("other-%d", i), 5)
				}
				grantTo(t, l, "in debt", 5)
				_, err := l.Revoke(t.Context(), credits.RevokeParams{Account: "in debt", Amount: 9, IntoDebt: true, Reason: "refund"})
				require.NoError(t, err)
				all, err := l.VerifyAll(t.Context(), nil)
				require.NoError(t, err)
				require.Empty(t, all)

				tamper(t, db, query)
				var batches, accounts int
				for next, first := "", true; first || next != ""; first = false {
					report, err := l.Verify(t.Context(), credits.VerifyParams{After: next, Accounts: 2})
					require.NoError(t, err)
					all = append(all, report.Discrepancies...)
					next = report.Next
					batches++
					accounts += report.Accounts
				}
				assert.Equal(t, 4, batches)
				assert.Equal(t, 7, accounts)
				found := false
				for _, d := range all {
					found = found || strings.Contains(d.Rule, rule)
				}
				assert.True(t, found, "%v", all)
			})
		})
	}
}

// counted reads the counters of the ledger, by the value of their one attribute.
func counted(t *testing.T, reader *sdkmetric.ManualReader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &all))
	counts := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			for _, point := range m.Data.(metricdata.Sum[int64]).DataPoints {
				for _, a := range point.Attributes.ToSlice() {
					counts[m.Name+" "+a.Value.AsString()] = point.Value
				}
			}
		}
	}
	return counts
}

func TestVerify_TheDailyJobCountsWhatItFinds(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, withJobs, func(t *testing.T, db *database.DB) {
		e, err := jobs.New(jobs.Config{DB: db, PollInterval: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		reader := sdkmetric.NewManualReader()
		c := newClock()
		slow := func() time.Time { // each look at the clock is a minute later, so that a job gives up after a batch
			c.Advance(time.Minute)
			return c.Now()
		}
		l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader(), Jobs: e.Client(), Clock: slow, Logger: slog.New(slog.DiscardHandler),
			Metrics: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))})
		require.NoError(t, err)
		for n := range credits.DefaultVerifyAccounts + 5 { // more than a batch
			grantTo(t, l, fmt.Sprintf("a-%d", n), 5)
		}
		tamper(t, db, `UPDATE qs_credit_entries SET balance = balance + 1 WHERE account_id = 'a-7'`)
		require.NoError(t, l.AddWorkers(e.Workers()))
		e.Client().PeriodicJobs().AddMany(l.PeriodicJobs())
		require.NoError(t, e.Start(t.Context()))
		const accounts, rule = "quickscale.credits.verified account", "quickscale.credits.discrepancies each balance follows from the one before"
		require.Eventually(t, func() bool { return counted(t, reader)[accounts] >= credits.DefaultVerifyAccounts+5 }, 20*time.Second, 20*time.Millisecond)
		require.NoError(t, e.Stop(context.Background()))
		counts := counted(t, reader)
		assert.Equal(t, int64(credits.DefaultVerifyAccounts+5), counts[accounts], "once a day")
		assert.Equal(t, int64(1), counts[rule])
		var n int
		require.NoError(t, db.Get(t.Context(), &n, `SELECT COUNT(*) FROM river_job WHERE kind = 'credits_verify'`))
		assert.GreaterOrEqual(t, n, 2, "a job leaves the rest to the next")
		faults, err := l.Faults(t.Context(), c.Now().AddDate(0, 0, -1))
		require.NoError(t, err)
		require.Len(t, faults, 1)
		assert.Equal(t, "a-7", faults[0].Account)
		faults, err = l.Faults(t.Context(), c.Now())
		require.NoError(t, err)
		assert.Empty(t, faults, "seen before")
	})
}

func TestSeal_TellsOfEveryTampering(t *testing.T) {
	t.Parallel()
	for name, query := range map[string]string{
		"a changed amount":      `UPDATE qs_credit_entries SET amount = -1, balance = 99, available = 99 WHERE account_id = 'acct-1' AND seq = 2`,
		"a changed reason":      `UPDATE qs_credit_entries SET reason = 'another' WHERE account_id = 'acct-1' AND seq = 2`,
		"a changed time":        `UPDATE qs_credit_entries SET created_at = '2020-01-01 00:00:00.000000+00:00' WHERE account_id = 'acct-1' AND seq = 2`,
		"a changed share":       `UPDATE qs_credit_allocations SET amount = amount - 1`,
		"a removed entry":       `DELETE FROM qs_credit_entries WHERE account_id = 'acct-1' AND seq = 3`,
		"an exchanged account":  `UPDATE qs_credit_entries SET account_id = 'other-1' WHERE account_id = 'acct-1' AND seq = 4`,
		"a changed root":        `UPDATE qs_credit_seals SET root = 'x' WHERE n = 1`,
		"a removed seal":        `DELETE FROM qs_credit_seal_spans WHERE n = 1; DELETE FROM qs_credit_seals WHERE n = 1`,
		"a changed run of some": `UPDATE qs_credit_seal_spans SET to_seq = to_seq - 1 WHERE account_id = 'acct-1' AND n = 1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
				l := newLedger(t, db, newClock())
				grant(t, l, credits.Purchase, 100, nil)
				debit(t, l, 10)
				debit(t, l, 10)
				grant(t, l, credits.Purchase, 30, nil)
				debit(t, l, 100)
				for range 2 {
					grantTo(t, l, "other-1", 5)
					n, err := l.Seal(t.Context())
					require.NoError(t, err)
					assert.Positive(t, n)
				}
				n, err := l.Seal(t.Context())
				require.NoError(t, err)
				assert.Zero(t, n, "all is sealed")
				found, err := l.VerifyAll(t.Context(), nil)
				require.NoError(t, err)
				require.Empty(t, found)
				tamper(t, db, strings.Split(query, ";")...)
				report, err := l.VerifySeals(t.Context(), 0, 10)
				require.NoError(t, err)
				assert.NotEmpty(t, report.Discrepancies)
			})
		})
	}
}

func TestSeal_AnInsertedEntryIsSeen(t *testing.T) {
	run(t, func(t *testing.T, db *database.DB, l *credits.Ledger, _ *clock) {
		grantTo(t, l, "victim", 5)
		_, err := l.Seal(t.Context())
		require.NoError(t, err)
		tamper(t, db, fmt.Sprintf(`INSERT INTO qs_credit_entries (id, account_id, seq, kind, amount, balance, available, reason, created_at)
			VALUES ('%s', 'victim', 2, 'debit', -5, 0, 0, 'never happened', '2026-03-01 12:00:00.000000+00:00')`, uuid.New()))
		found, err := l.VerifyAll(t.Context(), nil)
		require.NoError(t, err)
		require.NotEmpty(t, found)
		assert.Equal(t, "victim", found[0].Account)
		tamper(t, db, `DELETE FROM qs_credit_entries WHERE seq = 2`)
	})
}

func TestSeal_GoesInBatchesThatContinueLongHistories(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t, schema)
	l := newLedger(t, db, newClock())
	grantTo(t, l, acc, 1_000_000)
	tamper(t, db, `INSERT INTO qs_credit_entries (id, account_id, seq, kind, amount, balance, available, lot_id, reason, created_at)
		SELECT gen_random_uuid(), id, 1 + i, 'debit', -1, available - i, available - i, head_lot, 'use', last_at
		FROM qs_credit_accounts, generate_series(1, 25000) AS i`,
		`UPDATE qs_credit_accounts SET available = available - 25000, head_free = head_free - 25000, last_seq = last_seq + 25000`)
	grantTo(t, l, "z", 5)
	n, err := l.Seal(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 25002, n)
	var seals int
	require.NoError(t, db.Get(t.Context(), &seals, `SELECT COUNT(*) FROM qs_credit_seals`))
	assert.Equal(t, 3, seals)
	found, err := l.VerifyAll(t.Context(), nil)
	require.NoError(t, err)
	assert.Empty(t, found)
	tamper(t, db, `UPDATE qs_credit_entries SET reason = 'another' WHERE account_id = 'acct-1' AND seq = 15000`)
	first, err := l.VerifySeals(t.Context(), 0, 1)
	require.NoError(t, err)
	assert.Empty(t, first.Discrepancies)
	assert.Equal(t, int64(1), first.Next)
	second, err := l.VerifySeals(t.Context(), first.Next, 1)
	require.NoError(t, err)
	require.Len(t, second.Discrepancies, 1)
	assert.Equal(t, "2", second.Discrepancies[0].ID)
	third, err := l.VerifySeals(t.Context(), second.Next, 1)
	require.NoError(t, err)
	assert.Empty(t, third.Discrepancies)
	assert.Zero(t, third.Next)
}

// Who owns the database can rewrite history and seal it anew; a receipt that was kept elsewhere tells.
func TestReceipt_TellsThatAllWasRewritten(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		public, private, err := ed25519.GenerateKey(nil)
		require.NoError(t, err)
		l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader(), Clock: newClock().Now, SigningKey: private})
		require.NoError(t, err)
		_, err = l.SealReceipt(t.Context())
		require.ErrorIs(t, err, credits.ErrNotSealed)
		grant(t, l, credits.Purchase, 100, nil)
		_, err = l.Seal(t.Context())
		require.NoError(t, err)
		receipt, err := l.SealReceipt(t.Context())
		require.NoError(t, err)
		require.NoError(t, l.CheckReceipt(t.Context(), receipt, public))
		debit(t, l, 1)
		_, err = l.Seal(t.Context())
		require.NoError(t, err)
		require.NoError(t, l.CheckReceipt(t.Context(), receipt, public), "later seals build on it")

		forged := receipt
		forged.Entries++
		require.ErrorIs(t, l.CheckReceipt(t.Context(), forged, public), credits.ErrReceiptSignature)
		tamper(t, db, `DELETE FROM qs_credit_seal_spans`, `DELETE FROM qs_credit_seals`, `UPDATE qs_credit_entries SET reason = 'rewritten' WHERE seq = 1`)
		_, err = l.Seal(t.Context())
		require.NoError(t, err)
		found, err := l.VerifyAll(t.Context(), nil)
		require.NoError(t, err)
		assert.Empty(t, found, "the new chain is whole")
		require.ErrorIs(t, l.CheckReceipt(t.Context(), receipt, public), credits.ErrReceiptRoot)

		unsigned := newLedger(t, db, newClock())
		_, err = unsigned.SealReceipt(t.Context())
		require.ErrorIs(t, err, credits.ErrNoSigningKey)
	})
}
