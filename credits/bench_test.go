package credits_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// BenchmarkDebit times a debit of one account beside the least that SQL must do for it: a transaction that locks the
// balance, lowers it, and inserts an entry. "x-bare" is the ratio of the two, measured in one run.
func BenchmarkDebit(b *testing.B) {
	for _, engine := range []struct {
		name string
		open func(testing.TB, dbtest.Schema) *database.DB
	}{{"sqlite", dbtest.SQLite}, {"postgres", dbtest.Postgres}} {
		b.Run(engine.name, func(b *testing.B) {
			db := engine.open(b, schema)
			ctx := context.Background()
			l := newLedger(b, db, newClock())
			_, err := l.Grant(ctx, credits.GrantParams{Account: acc, Amount: credits.MaxAmount / 2, Source: credits.Purchase, Reason: "r"})
			require.NoError(b, err)
			_, err = db.Writer().ExecContext(ctx, "CREATE TABLE bare_accounts (id TEXT PRIMARY KEY, balance BIGINT NOT NULL)")
			require.NoError(b, err)
			_, err = db.Writer().ExecContext(ctx, "CREATE TABLE bare_entries (id TEXT PRIMARY KEY, account_id TEXT NOT NULL, amount BIGINT NOT NULL)")
			require.NoError(b, err)
			_, err = db.Writer().ExecContext(ctx, db.Rebind("INSERT INTO bare_accounts VALUES (?, ?)"), acc, int64(credits.MaxAmount/2))
			require.NoError(b, err)

			var ours, bare time.Duration
			for b.Loop() {
				began := time.Now()
				if _, err := l.Debit(ctx, credits.DebitParams{Account: acc, Amount: 1, Reason: "use"}); err != nil {
					b.Fatal(err)
				}
				ours += time.Since(began)
				began = time.Now()
				if err := bareDebit(ctx, db); err != nil {
					b.Fatal(err)
				}
				bare += time.Since(began)
			}
			b.ReportMetric(float64(ours)/float64(bare), "x-bare")
			b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/debit")
		})
	}
}

func bareDebit(ctx context.Context, db *database.DB) error {
	return db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		var balance int64
		if err := db.GetTx(ctx, tx, &balance, "SELECT balance FROM bare_accounts WHERE id = ?"+db.Dialect().ForUpdate(), acc); err != nil {
			return err
		}
		if _, err := db.ExecTx(ctx, tx, "UPDATE bare_accounts SET balance = ? WHERE id = ?", balance-1, acc); err != nil {
			return err
		}
		_, err := db.ExecTx(ctx, tx, "INSERT INTO bare_entries VALUES (?, ?, ?)", uuid.NewString(), acc, -1)
		return err
	})
}
