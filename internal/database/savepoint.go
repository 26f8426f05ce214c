package database

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// TryTx runs fn inside tx so that tx can go on when fn fails: what fn has written is then undone, and failed is its
// error. err is what tx cannot go on with: the error of fn when the whole transaction must be tried again or ctx has
// ended, or that of the savepoint. fn may try in turn.
func (d *DB) TryTx(ctx context.Context, tx *sqlx.Tx, fn func(ctx context.Context) error) (failed, err error) {
	if _, err := tx.ExecContext(ctx, `SAVEPOINT qs_try`); err != nil {
		return nil, fmt.Errorf("database: set a savepoint: %w", err)
	}
	failed = fn(ctx)
	switch {
	case failed == nil:
	case IsRetryable(failed) || ctx.Err() != nil:
		return failed, failed
	default:
		if _, err := tx.ExecContext(ctx, `ROLLBACK TO SAVEPOINT qs_try`); err != nil {
			return failed, fmt.Errorf("database: go back to a savepoint: %w", errors.Join(failed, err))
		}
	}
	if _, err := tx.ExecContext(ctx, `RELEASE SAVEPOINT qs_try`); err != nil {
		return failed, fmt.Errorf("database: release a savepoint: %w", err)
	}
	return failed, nil
}
