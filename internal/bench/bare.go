package main

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// bare is what a ledger is compared with: a balance and a list of entries, without lots, holds, keys or history in
// order.
type bare struct {
	db    *database.DB
	debit *sqlx.Stmt
}

// newBare makes the tables, with the ledger's accounts.
func newBare(ctx context.Context, db *database.DB) (*bare, error) {
	fill := ""
	if db.Dialect() == database.Postgres {
		fill = " WITH (fillfactor = 70)"
	}
	for _, query := range []string{
		`CREATE TABLE bare_accounts (id TEXT PRIMARY KEY, balance BIGINT NOT NULL CHECK (balance >= 0))` + fill,
		`CREATE TABLE bare_entries (id UUID PRIMARY KEY, account_id TEXT NOT NULL, amount BIGINT NOT NULL, created_at TIMESTAMPTZ NOT NULL)`,
	} {
		if _, err := db.Writer().ExecContext(ctx, query); err != nil {
			return nil, err
		}
	}
	if _, err := db.Writer().ExecContext(ctx, db.Rebind(`INSERT INTO bare_accounts SELECT id, ? FROM qs_credit_accounts`), int64(opening)); err != nil {
		return nil, err
	}
	b := &bare{db: db}
	if db.Dialect() != database.Postgres {
		return b, nil
	}
	var err error
	b.debit, err = db.Writer().PreparexContext(ctx, `WITH a AS (
			UPDATE bare_accounts SET balance = balance - $2 WHERE id = $1 AND balance >= $2 RETURNING balance)
		INSERT INTO bare_entries SELECT $3, $1, -$2, $4 FROM a RETURNING id`)
	return b, err
}

// single is pgbench's best: one prepared statement that lowers the balance, where it is enough, and adds the entry.
func (b *bare) single(ctx context.Context, account string) error {
	var id uuid.UUID
	key, err := uuid.NewV7()
	if err != nil {
		return err
	}
	return b.debit.GetContext(ctx, &id, account, 1, key, time.Now())
}

var errBroke = errors.New("the balance does not suffice")

// naive is the usual transaction: lock and read the balance, change it, add the entry, commit.
func (b *bare) naive(ctx context.Context, account string) error {
	key, err := uuid.NewV7()
	if err != nil {
		return err
	}
	return b.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		var balance int64
		if err := b.db.GetTx(ctx, tx, &balance, `SELECT balance FROM bare_accounts WHERE id = ?`+b.db.Dialect().ForUpdate(), account); err != nil {
			return err
		}
		if balance < 1 {
			return errBroke
		}
		if _, err := b.db.ExecTx(ctx, tx, `UPDATE bare_accounts SET balance = ? WHERE id = ?`, balance-1, account); err != nil {
			return err
		}
		_, err := b.db.ExecTx(ctx, tx, `INSERT INTO bare_entries VALUES (?, ?, ?, ?)`, key, account, -1, database.At(time.Now()))
		return err
	})
}
