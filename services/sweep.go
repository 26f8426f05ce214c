package services

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

// sweepBatch is how many calls one statement of [Services.Sweep] finds.
const sweepBatch = 100

// Sweep ends the calls whose process has died in the middle: those that still run a minute after their time limit are
// marked as failed, and what was set aside for them is given back. It returns how many it ended. Each call is a
// transaction of its own, and a call that fails to end does not stop the others: the errors are joined. Run it
// periodically, in any number of processes.
func (s *Services) Sweep(ctx context.Context) (ended int, err error) {
	// Runs along qs_service_calls_running.
	const dead = `SELECT ` + callColumns + ` FROM qs_service_calls WHERE status IN ('queued', 'running') AND expires_at <= ? AND id > ? ORDER BY id LIMIT ?`
	now, last := s.now(), uuid.Nil
	for {
		var rows []callRow
		if err := s.db.Select(ctx, &rows, dead, database.At(now), last, sweepBatch); err != nil {
			return ended, fmt.Errorf("services: calls to sweep: %w", err)
		}
		if len(rows) == 0 {
			return ended, err
		}
		for _, row := range rows {
			closed := false
			one := s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
				closed, err = s.giveUp(ctx, tx, row)
				return err
			})
			if err = errors.Join(err, one); one == nil && closed {
				ended++
			}
		}
		last = rows[len(rows)-1].ID
	}
}

// interrupted is what a person is told of a call that was given up.
const interrupted = "The call was interrupted before its outcome was recorded."

// giveUp ends a call whose process has died, and returns false when it has ended by itself meanwhile.
func (s *Services) giveUp(ctx context.Context, tx *sqlx.Tx, row callRow) (bool, error) {
	settled := false
	if row.HoldID != nil {
		// A hold that its time to live gave back before is no error.
		err := s.cfg.Ledger.ReleaseTx(ctx, tx, *row.HoldID)
		if settled = errors.Is(err, credits.ErrHoldSettled); err != nil && !settled {
			return false, fmt.Errorf("services: give back the hold of call %s: %w", row.ID, err)
		}
	}
	e := end{status: Failed, code: codeInterrupted, text: interrupted, latency: max(0, s.now().Sub(row.CreatedAt.Time))}
	closed, _, err := s.close(ctx, tx, row.ID, e)
	if err == nil && closed && settled {
		return false, fmt.Errorf("services: call %s was charged and did not end", row.ID)
	}
	if err == nil && closed && row.Notify {
		err = s.tell(ctx, tx, row.ID)
	}
	return closed, err
}
