package credits_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

var errLost = errors.New("the connection is lost")

// fuse cuts a connection at a step: begin, commit or any statement.
type fuse struct {
	left atomic.Int64
	// late lets the step happen and loses its answer.
	late bool
}

// burns counts a step and tells whether it is the one that fails.
func (f *fuse) burns() bool { return f.left.Add(-1) == 0 }

// step does a step on a connection, unless the fuse burns.
func step[T any](f *fuse, c *brittleConn, do func() (T, error)) (T, error) {
	var none T
	if !f.burns() {
		return do()
	}
	if f.late {
		got, err := do()
		if err != nil {
			return none, err
		}
		if rows, ok := any(got).(driver.Rows); ok {
			err = rows.Close()
		}
		if err != nil {
			return none, err
		}
	}
	// The server rolls back what was not committed.
	return none, errors.Join(errLost, c.Close())
}

// brittle is a connector whose connections have a fuse.
type brittle struct {
	driver driver.Driver
	dsn    string
	fuse   *fuse
}

func (b brittle) Connect(context.Context) (driver.Conn, error) {
	c, err := b.driver.Open(b.dsn)
	return &brittleConn{base: c, fuse: b.fuse}, err
}

func (b brittle) Driver() driver.Driver { return b.driver }

type brittleConn struct {
	base driver.Conn
	fuse *fuse
	lost bool
	// SQLite goes on with a connection that was closed as long as it has statements.
	statements []driver.Stmt
}

func (c *brittleConn) Close() error {
	if c.lost {
		return nil
	}
	c.lost = true
	var err error
	for _, s := range c.statements {
		err = errors.Join(err, s.Close())
	}
	return errors.Join(err, c.base.Close())
}

func (c *brittleConn) IsValid() bool { return !c.lost }

func (c *brittleConn) Begin() (driver.Tx, error) { return nil, errors.New("BeginTx is used") }

func (c *brittleConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	tx, err := step(c.fuse, c, func() (driver.Tx, error) { return c.base.(driver.ConnBeginTx).BeginTx(ctx, o) })
	return brittleTx{tx, c}, err
}

func (c *brittleConn) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("PrepareContext is used")
}

func (c *brittleConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	s, err := c.base.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err == nil {
		c.statements = append(c.statements, s)
	}
	return brittleStmt{s, c}, err
}

func (c *brittleConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return step(c.fuse, c, func() (driver.Result, error) { return c.base.(driver.ExecerContext).ExecContext(ctx, query, args) })
}

func (c *brittleConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return step(c.fuse, c, func() (driver.Rows, error) { return c.base.(driver.QueryerContext).QueryContext(ctx, query, args) })
}

type brittleStmt struct {
	driver.Stmt
	c *brittleConn
}

func (s brittleStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return step(s.c.fuse, s.c, func() (driver.Result, error) { return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args) })
}

func (s brittleStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return step(s.c.fuse, s.c, func() (driver.Rows, error) { return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args) })
}

// Close leaves it to the connection, whose life is short.
func (s brittleStmt) Close() error { return nil }

type brittleTx struct {
	driver.Tx
	c *brittleConn
}

func (t brittleTx) Commit() error {
	_, err := step(t.c.fuse, t.c, func() (struct{}, error) { return struct{}{}, t.Tx.Commit() })
	return err
}

// brittleLedger is a ledger on the database at url whose connection fails at the n-th step, once.
func brittleLedger(t *testing.T, url string, engine database.Dialect, f *fuse, c *clock) (*credits.Ledger, func() error) {
	t.Helper()
	name, dsn := "postgres", url
	if engine == database.SQLite {
		name, dsn = "sqlite", "file:"+url[len("sqlite:"):]+"?_txlock=immediate&_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)"
	}
	known, err := sql.Open(name, dsn)
	require.NoError(t, err)
	d := known.Driver()
	require.NoError(t, known.Close())
	pool := sqlx.NewDb(sql.OpenDB(brittle{d, dsn, f}), name)
	if engine == database.SQLite {
		pool.SetMaxOpenConns(1)
	}
	l, err := credits.New(credits.Config{DB: pool, Clock: c.Now})
	require.NoError(t, err)
	return l, pool.Close
}

// Each operation is cut off at each of its steps, before the step and after it, and is then done again with the same
// key. It has taken effect once, and nothing was ever half there.
func TestFailure_AtEveryStepLeavesAllOrNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	operations := map[string]func(l *credits.Ledger, account, key string, hold uuid.UUID) error{
		"grant": func(l *credits.Ledger, account, key string, _ uuid.UUID) error {
			_, err := l.Grant(ctx, credits.GrantParams{Account: account, Amount: 7, Source: credits.Subscription, Reason: "r", IdempotencyKey: key})
			return err
		},
		"debit": func(l *credits.Ledger, account, key string, _ uuid.UUID) error {
			_, err := l.Debit(ctx, credits.DebitParams{Account: account, Amount: 3, Reason: "r", IdempotencyKey: key})
			return err
		},
		"debit of two lots": func(l *credits.Ledger, account, key string, _ uuid.UUID) error {
			_, err := l.Debit(ctx, credits.DebitParams{Account: account, Amount: 13, Reason: "r", IdempotencyKey: key})
			return err
		},
		"reserve": func(l *credits.Ledger, account, key string, _ uuid.UUID) error {
			_, err := l.Reserve(ctx, credits.ReserveParams{Account: account, Amount: 12, TTL: time.Hour, Reason: "r", IdempotencyKey: key})
			return err
		},
		"reserve of one lot": func(l *credits.Ledger, account, key string, _ uuid.UUID) error {
			_, err := l.Reserve(ctx, credits.ReserveParams{Account: account, Amount: 2, TTL: time.Hour, Reason: "r", IdempotencyKey: key})
			return err
		},
		"settle": func(l *credits.Ledger, _, _ string, hold uuid.UUID) error {
			_, err := l.Settle(ctx, hold, 3)
			return err
		},
		"settle into debt": func(l *credits.Ledger, _, _ string, hold uuid.UUID) error {
			_, err := l.Settle(ctx, hold, 40)
			return err
		},
		"release": func(l *credits.Ledger, _, _ string, hold uuid.UUID) error { return l.Release(ctx, hold) },
		"transfer": func(l *credits.Ledger, account, key string, _ uuid.UUID) error {
			_, err := l.Transfer(ctx, credits.TransferParams{Account: account, To: account + "-2", Amount: 12, Reason: "r", IdempotencyKey: key})
			return err
		},
		"revoke": func(l *credits.Ledger, account, key string, _ uuid.UUID) error {
			_, err := l.Revoke(ctx, credits.RevokeParams{Account: account, Amount: 30, IntoDebt: true, Reason: "r", IdempotencyKey: key})
			return err
		},
	}
	for _, engine := range []struct {
		dialect database.Dialect
		url     func(testing.TB, dbtest.Schema) string
	}{{database.SQLite, dbtest.SQLiteURL}, {database.Postgres, dbtest.PostgresURL}} {
		t.Run(string(engine.dialect), func(t *testing.T) {
			t.Parallel()
			url := engine.url(t, schema)
			db, err := database.Open(ctx, url)
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			c := newClock()
			sound := newLedger(t, db, c)
			for name, do := range operations {
				// What the operation comes to when nothing fails.
				prepare := func() (account string, hold uuid.UUID) {
					account = uuid.NewString()
					for _, source := range []credits.Source{credits.Purchase, credits.Bonus} {
						_, err := sound.Grant(ctx, credits.GrantParams{Account: account, Amount: 10, Source: source, Reason: "r"})
						require.NoError(t, err)
					}
					h, err := sound.Reserve(ctx, credits.ReserveParams{Account: account, Amount: 4, TTL: time.Hour, Reason: "r"})
					require.NoError(t, err)
					return account, h.ID
				}
				account, hold := prepare()
				require.NoError(t, do(sound, account, "key", hold), name)
				want := balance(t, sound, account)
				for _, late := range []bool{false, true} {
					failures := 0
					for n := int64(1); ; n++ {
						account, hold := prepare()
						f := &fuse{late: late}
						f.left.Store(n)
						l, closeIt := brittleLedger(t, url, engine.dialect, f, c)
						err := do(l, account, "key", hold)
						_ = closeIt() // the connection may be lost
						if f.left.Load() > 0 {
							require.NoError(t, err)
							break // it has fewer steps
						}
						failures++
						require.NoError(t, do(sound, account, "key", hold), "%s, again after step %d failed (late: %t)", name, n, late)
						assert.Equal(t, want, balance(t, sound, account), "%s, step %d failed (late: %t): %v", name, n, late, err)
					}
					assert.Positive(t, failures, name)
				}
			}
			check(t, db)
		})
	}
}

// On PostgreSQL what a plain account does is one statement each, which is its own transaction.
func TestFast_OneStepForEachUseOfAPlainAccount(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	url := dbtest.PostgresURL(t, schema)
	db, err := database.Open(ctx, url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	var f fuse
	l, closeIt := brittleLedger(t, url, database.Postgres, &f, newClock())
	defer func() { require.NoError(t, closeIt()) }()
	grantTo(t, l, acc, 100)
	var holds []credits.Hold
	for range 2 {
		h, err := l.Reserve(ctx, credits.ReserveParams{Account: acc, Amount: 10, TTL: time.Hour, Reason: "r"})
		require.NoError(t, err)
		holds = append(holds, h)
	}
	for name, use := range map[string]func() error{
		"debit": func() error {
			_, err := l.Debit(ctx, credits.DebitParams{Account: acc, Amount: 1, Reason: "r", IdempotencyKey: "k"})
			return err
		},
		"reserve": func() error {
			_, err := l.Reserve(ctx, credits.ReserveParams{Account: acc, Amount: 1, TTL: time.Hour, Reason: "r", IdempotencyKey: "k"})
			return err
		},
		"settle":  func() error { _, err := l.Settle(ctx, holds[0].ID, 4); return err },
		"release": func() error { return l.Release(ctx, holds[1].ID) },
	} {
		f.left.Store(0)
		require.NoError(t, use(), name)
		assert.Equal(t, int64(-1), f.left.Load(), name)
	}
	b := balance(t, l, acc)
	assert.Equal(t, credits.Amount(94), b.Available)
	assert.Equal(t, credits.Amount(1), b.Held)
	check(t, db)
}

// A failure in a group falls on its own caller: here a text that PostgreSQL refuses to store.
func TestGroup_AFailureFallsOnItsOwnCaller(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t, schema)
	l := newLedger(t, db, newClock())
	grantTo(t, l, acc, 1000)
	errs := together(t, db, 20, func(i int) error {
		reason := "use"
		if i == 7 {
			reason = "a zero byte: \x00"
		}
		_, err := l.Debit(context.Background(), credits.DebitParams{Account: acc, Amount: 1, Reason: reason})
		return err
	})
	for i, err := range errs {
		if i == 7 {
			require.Error(t, err)
		} else {
			require.NoError(t, err, fmt.Sprint(i))
		}
	}
	assert.Equal(t, credits.Amount(1000-19), available(t, l))
	check(t, db)
}

func (t brittleTx) Rollback() error {
	if t.c.lost {
		return errLost
	}
	return t.Tx.Rollback()
}
