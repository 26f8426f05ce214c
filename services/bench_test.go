package services_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// BenchmarkCall times an API call over HTTP beside the bare SQL of its two transactions: the statements with which a
// ledger reserves and settles one lot, on tables of their shape. "x-bare" is the ratio of the two, measured in one run.
func BenchmarkCall(b *testing.B) {
	for _, engine := range []struct {
		name string
		open func(testing.TB, dbtest.Schema) *database.DB
	}{{"sqlite", dbtest.SQLite}, {"postgres", dbtest.Postgres}} {
		b.Run(engine.name, func(b *testing.B) {
			s := newShop(b, engine.open(b, schema))
			s.grant(ada, "1000000000")
			s.add("echo", "0.000001", echo)
			server := httptest.NewServer(s.APIHandler())
			defer server.Close()
			bare := newBare(b, s.db)
			var ours, theirs time.Duration
			for b.Loop() {
				began := time.Now()
				if err := callOnce(b.Context(), server); err != nil {
					b.Fatal(err)
				}
				ours += time.Since(began)
				began = time.Now()
				if err := bare.call(b.Context()); err != nil {
					b.Fatal(err)
				}
				theirs += time.Since(began)
			}
			b.ReportMetric(float64(ours)/float64(theirs), "x-bare")
			b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/call")
		})
	}
}

func callOnce(ctx context.Context, server *httptest.Server) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/api/v1/services/echo", strings.NewReader(`{"text":"hi"}`))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+ada)
	res, err := server.Client().Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return http.ErrNotSupported
	}
	return nil
}

// bare is one account with one lot, on tables of a ledger's shape.
type bare struct {
	db  *database.DB
	lot string
	seq int64
}

func newBare(b *testing.B, db *database.DB) *bare {
	b.Helper()
	made := &bare{db: db, lot: uuid.NewString()}
	for _, table := range []string{
		`CREATE TABLE bare_accounts (id TEXT PRIMARY KEY, available BIGINT NOT NULL, held BIGINT NOT NULL, last_seq BIGINT NOT NULL)`,
		`CREATE TABLE bare_lots (id TEXT PRIMARY KEY, account_id TEXT NOT NULL, seq BIGINT NOT NULL, remaining BIGINT NOT NULL, held BIGINT NOT NULL)`,
		`CREATE TABLE bare_holds (id TEXT PRIMARY KEY, account_id TEXT NOT NULL, amount BIGINT NOT NULL, status TEXT NOT NULL, entry_id TEXT, expires_at TEXT NOT NULL)`,
		`CREATE TABLE bare_hold_lots (hold_id TEXT NOT NULL, lot_id TEXT NOT NULL, amount BIGINT NOT NULL, PRIMARY KEY (hold_id, lot_id))`,
		`CREATE TABLE bare_entries (id TEXT PRIMARY KEY, account_id TEXT NOT NULL, seq BIGINT NOT NULL, amount BIGINT NOT NULL, balance BIGINT NOT NULL, reason TEXT NOT NULL,
			UNIQUE (account_id, seq))`,
		`CREATE TABLE bare_allocations (entry_id TEXT NOT NULL, lot_id TEXT NOT NULL, amount BIGINT NOT NULL, PRIMARY KEY (entry_id, lot_id))`,
		`CREATE INDEX bare_lots_open ON bare_lots (account_id, seq) WHERE remaining > 0`,
		`CREATE INDEX bare_holds_open ON bare_holds (account_id, expires_at) WHERE status = 'open'`,
	} {
		_, err := db.Writer().ExecContext(b.Context(), table)
		require.NoError(b, err)
	}
	const much = int64(credits.MaxAmount / 2)
	_, err := db.Writer().ExecContext(b.Context(), db.Rebind(`INSERT INTO bare_accounts VALUES (?, ?, 0, 0)`), ada, much)
	require.NoError(b, err)
	_, err = db.Writer().ExecContext(b.Context(), db.Rebind(`INSERT INTO bare_lots VALUES (?, ?, 1, ?, 0)`), made.lot, ada, much)
	require.NoError(b, err)
	return made
}

type statement struct {
	query string
	args  []any
}

// call reserves one millionth in one transaction and settles it in another.
func (x *bare) call(ctx context.Context) error {
	hold, entry := uuid.NewString(), uuid.NewString()
	x.seq++
	var n int64
	var id, found string
	lock := x.db.Dialect().ForUpdate()
	err := x.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := x.db.GetTx(ctx, tx, &n, `SELECT available FROM bare_accounts WHERE id = ?`+lock, ada); err != nil {
			return err
		}
		if err := x.exec(ctx, tx, statement{`INSERT INTO bare_holds VALUES (?, ?, 1, 'open', NULL, '2026-01-01')`, []any{hold, ada}}); err != nil {
			return err
		}
		if err := x.db.GetTx(ctx, tx, &id, `SELECT id FROM bare_lots WHERE account_id = ? AND remaining > 0 ORDER BY seq LIMIT 1`, ada); err != nil {
			return err
		}
		return x.exec(ctx, tx,
			statement{`UPDATE bare_lots SET held = held + 1 WHERE id = ?`, []any{id}},
			statement{`INSERT INTO bare_hold_lots VALUES (?, ?, 1)`, []any{hold, id}},
			statement{`UPDATE bare_accounts SET available = available - 1, held = held + 1 WHERE id = ?`, []any{ada}})
	})
	if err != nil {
		return err
	}
	return x.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		const find = `SELECT account_id FROM bare_holds WHERE id = ?`
		if err := x.db.GetTx(ctx, tx, &found, find, hold); err != nil {
			return err
		}
		if err := x.db.GetTx(ctx, tx, &n, `SELECT available FROM bare_accounts WHERE id = ?`+lock, ada); err != nil {
			return err
		}
		if err := x.db.GetTx(ctx, tx, &found, find, hold); err != nil {
			return err
		}
		if err := x.exec(ctx, tx, statement{`INSERT INTO bare_entries VALUES (?, ?, ?, -1, ?, 'use')`, []any{entry, ada, x.seq, n}}); err != nil {
			return err
		}
		const shares = `SELECT s.lot_id FROM bare_hold_lots s JOIN bare_lots l ON l.id = s.lot_id WHERE s.hold_id = ? ORDER BY l.seq`
		if err := x.db.GetTx(ctx, tx, &id, shares, hold); err != nil {
			return err
		}
		return x.exec(ctx, tx,
			statement{`UPDATE bare_lots SET remaining = remaining - 1, held = held - 1 WHERE id = ?`, []any{id}},
			statement{`INSERT INTO bare_allocations VALUES (?, ?, -1)`, []any{entry, id}},
			statement{`UPDATE bare_holds SET status = 'settled', entry_id = ? WHERE id = ?`, []any{entry, hold}},
			statement{`UPDATE bare_accounts SET held = held - 1, last_seq = last_seq + 1 WHERE id = ?`, []any{ada}})
	})
}

func (x *bare) exec(ctx context.Context, tx *sqlx.Tx, statements ...statement) error {
	for _, s := range statements {
		if _, err := x.db.ExecTx(ctx, tx, s.query, s.args...); err != nil {
			return err
		}
	}
	return nil
}
