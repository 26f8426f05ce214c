package database

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jmoiron/sqlx"
)

// Retry limits of InTx: ten tries with full jitter between 5 ms and 500 ms last some two seconds, longer than any
// transaction of this library holds its locks.
const (
	maxTries     = 10
	firstBackoff = 5 * time.Millisecond
	maxBackoff   = 500 * time.Millisecond
)

// InTx runs fn in a transaction and commits it when fn returns nil. A transaction that fails because of another
// one (serialization failure, deadlock, a busy SQLite) is rolled back and fn runs again, up to ten times, so fn must
// have no effect outside tx. The last error is returned when the tries are used up or ctx ends.
//
// The isolation is READ COMMITTED on PostgreSQL, where fn locks what it decides on with [Dialect.ForUpdate], and
// serializable on SQLite. A panic in fn rolls back and goes on.
func (d *DB) InTx(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error {
	var err error
	for try := range maxTries {
		if try > 0 {
			if waitErr := backoff(ctx, try); waitErr != nil {
				return errors.Join(err, waitErr)
			}
		}
		if err = d.once(ctx, fn); err == nil || !IsRetryable(err) {
			return err
		}
	}
	return fmt.Errorf("database: gave up after %d tries: %w", maxTries, err)
}

// InTxOnce is [DB.InTx] without a second try, for those who have another way when another transaction is in theirs.
func (d *DB) InTxOnce(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error {
	return d.once(ctx, fn)
}

func (d *DB) once(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) (err error) {
	tx, err := d.write.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("database: begin: %w", err)
	}
	done := false
	defer func() {
		if done {
			return
		}
		// The rollback's own error adds nothing: the cause is fn's error, its panic, or a lost connection.
		_ = tx.Rollback()
	}()
	if err := fn(ctx, tx); err != nil {
		return err
	}
	done = true
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("database: commit: %w", err)
	}
	return nil
}

func backoff(ctx context.Context, try int) error {
	ceiling := min(maxBackoff, firstBackoff<<try)
	timer := time.NewTimer(firstBackoff + rand.N(ceiling))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
