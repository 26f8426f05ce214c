// Package database is the one place where the library meets SQL engines: it opens PostgreSQL and SQLite, tells the
// two dialects apart, runs transactions with retries, and applies migrations.
//
// Queries are written with ? placeholders and passed through [DB.Rebind]. What the dialects cannot share is a
// [Query], both texts side by side.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// DB is a database as the packages of this library use it: a pool that writes, a pool that reads, and the dialect
// that both speak. It is safe for concurrent use.
type DB struct {
	write   *sqlx.DB
	read    *sqlx.DB
	dialect Dialect
}

// New wraps pools that the caller opened and keeps owning. read may be nil, and then reads use write. SQLite wants
// two: one with a single connection that writes, so that writers queue in Go instead of failing with SQLITE_BUSY,
// and one for readers; [Open] makes such a pair.
//
// The dialect is taken from the driver's name when that is a known one and asked of the server otherwise, so any
// driver or wrapper that speaks one of the two dialects will do. The error says when it is neither.
func New(write, read *sqlx.DB) (*DB, error) {
	if write == nil {
		return nil, errors.New("database: DB is required")
	}
	if read == nil {
		read = write
	}
	dialect, err := detect(write)
	if err != nil {
		return nil, err
	}
	return &DB{write: write, read: read, dialect: dialect}, nil
}

// Dialect tells which SQL the database speaks.
func (d *DB) Dialect() Dialect { return d.dialect }

// Writer is the pool for transactions and for statements that change rows.
func (d *DB) Writer() *sqlx.DB { return d.write }

// Reader is the pool for queries outside transactions. What it returns is committed, and on SQLite may be older
// than what a transaction under way has written.
func (d *DB) Reader() *sqlx.DB { return d.read }

// Rebind turns the ? placeholders of query into those of the dialect. A question mark inside a literal or an
// operator must not be used with it.
func (d *DB) Rebind(query string) string { return d.dialect.Rebind(query) }

// Get reads one row into dest outside a transaction; sql.ErrNoRows when there is none.
func (d *DB) Get(ctx context.Context, dest any, query string, args ...any) error {
	return d.read.GetContext(ctx, dest, d.Rebind(query), args...)
}

// Select reads all rows into the slice that dest points to, outside a transaction.
func (d *DB) Select(ctx context.Context, dest any, query string, args ...any) error {
	return d.read.SelectContext(ctx, dest, d.Rebind(query), args...)
}

// GetTx is [DB.Get] inside tx.
func (d *DB) GetTx(ctx context.Context, tx *sqlx.Tx, dest any, query string, args ...any) error {
	return tx.GetContext(ctx, dest, d.Rebind(query), args...)
}

// SelectTx is [DB.Select] inside tx.
func (d *DB) SelectTx(ctx context.Context, tx *sqlx.Tx, dest any, query string, args ...any) error {
	return tx.SelectContext(ctx, dest, d.Rebind(query), args...)
}

// ExecTx runs a statement inside tx and returns the number of rows that it changed.
func (d *DB) ExecTx(ctx context.Context, tx *sqlx.Tx, query string, args ...any) (int64, error) {
	res, err := tx.ExecContext(ctx, d.Rebind(query), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Ping reports whether both pools answer.
func (d *DB) Ping(ctx context.Context) error {
	if err := d.write.PingContext(ctx); err != nil {
		return fmt.Errorf("database: ping: %w", err)
	}
	if err := d.read.PingContext(ctx); err != nil {
		return fmt.Errorf("database: ping the reader: %w", err)
	}
	return nil
}

// Close closes both pools. Only who opened them calls it.
func (d *DB) Close() error {
	err := d.write.Close()
	if d.read != d.write {
		err = errors.Join(err, d.read.Close())
	}
	return err
}

// detectTimeout bounds the question to a server whose driver has an unknown name.
const detectTimeout = 10 * time.Second

func detect(db *sqlx.DB) (Dialect, error) {
	switch db.DriverName() {
	case "postgres", "pgx", "pgx/v5", "cloudsqlpostgres":
		return Postgres, nil
	case "sqlite", "sqlite3":
		return SQLite, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), detectTimeout)
	defer cancel()
	var version string
	if err := db.GetContext(ctx, &version, "SELECT sqlite_version()"); err == nil {
		return SQLite, nil
	}
	if err := db.GetContext(ctx, &version, "SELECT version()"); err != nil {
		return "", fmt.Errorf("database: ask driver %q for its dialect: %w", db.DriverName(), err)
	}
	// PostgreSQL and the databases that speak its dialect (CockroachDB, YugabyteDB) name themselves here.
	for _, name := range []string{"PostgreSQL", "CockroachDB"} {
		if strings.Contains(version, name) {
			return Postgres, nil
		}
	}
	return "", fmt.Errorf("database: driver %q speaks neither PostgreSQL nor SQLite", db.DriverName())
}

// IsNoRows tells that a query found nothing.
func IsNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }
