package dbtest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/database"
)

// Count is what the statements of a context have cost.
type Count struct{ statements, nanoseconds atomic.Int64 }

// Statements is how many there were.
func (c *Count) Statements() int64 { return c.statements.Load() }

// Time is how long the driver had them, with the reading of their rows.
func (c *Count) Time() time.Duration { return time.Duration(c.nanoseconds.Load()) }

type countKey struct{}

// Counted returns a context whose statements are counted in a database of [CountingSQLite].
func Counted(ctx context.Context) (context.Context, *Count) {
	c := &Count{}
	return context.WithValue(ctx, countKey{}, c), c
}

// CountingSQLite is [SQLite] with a driver that counts the statements of contexts of [Counted], and their time.
func CountingSQLite(tb testing.TB, schema Schema) *database.DB {
	tb.Helper()
	plain := SQLite(tb, schema)
	var file string
	require.NoError(tb, plain.Writer().GetContext(tb.Context(), &file, "SELECT file FROM pragma_database_list WHERE name = 'main'"))
	open := func(more string) *sqlx.DB {
		dsn := "file:" + file + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=foreign_keys(1)" + more
		pool := sqlx.NewDb(sql.OpenDB(counter{dsn, plain.Writer().Driver()}), "sqlite")
		tb.Cleanup(func() { require.NoError(tb, pool.Close()) })
		return pool
	}
	write := open("&_txlock=immediate")
	write.SetMaxOpenConns(1)
	db, err := database.New(write, open(""))
	require.NoError(tb, err)
	return db
}

// counter opens connections that count.
type counter struct {
	dsn    string
	driver driver.Driver
}

// Connect implements driver.Connector.
func (c counter) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	return countingConn{conn.(sqliteConn)}, nil
}

// Driver implements driver.Connector.
func (c counter) Driver() driver.Driver { return c.driver }

// sqliteConn is what the driver's connections are.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

type countingConn struct{ sqliteConn }

// ExecContext implements driver.ExecerContext.
func (c countingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	defer count(ctx, 1)()
	return c.sqliteConn.ExecContext(ctx, query, args)
}

// QueryContext implements driver.QueryerContext.
func (c countingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	defer count(ctx, 1)()
	rows, err := c.sqliteConn.QueryContext(ctx, query, args)
	if err != nil {
		return nil, err
	}
	return countingRows{rows, ctx}, nil
}

// BeginTx implements driver.ConnBeginTx.
func (c countingConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	defer count(ctx, 0)()
	return c.sqliteConn.BeginTx(ctx, opts)
}

type countingRows struct {
	driver.Rows

	ctx context.Context //nolint:containedctx // that of the query, whose reading this is
}

// Next implements driver.Rows.
func (r countingRows) Next(dest []driver.Value) error {
	defer count(r.ctx, 0)()
	return r.Rows.Next(dest)
}

// Close implements io.Closer.
func (r countingRows) Close() error {
	defer count(r.ctx, 0)()
	return r.Rows.Close()
}

var _ io.Closer = countingRows{}

// count begins to measure; what it returns ends that.
func count(ctx context.Context, statements int64) func() {
	c, ok := ctx.Value(countKey{}).(*Count)
	if !ok {
		return func() {}
	}
	began := time.Now()
	return func() {
		c.statements.Add(statements)
		c.nanoseconds.Add(int64(time.Since(began)))
	}
}
