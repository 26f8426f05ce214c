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
	const dead = `SELECT ` + callColumns + ` FROM qs_service_calls WHERE status = 'running' AND expires_at <= ? AND id > ? ORDER BY id LIMIT ?`
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
			one := s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return s.giveUp(ctx, tx, row) })
			if one != nil {
				err = errors.Join(err, one)
				continue
			}
			ended++
		}
		last = rows[len(rows)-1].ID
	}
}

// giveUp ends a call whose process has died. One that ended by itself meanwhile stays as it is.
func (s *Services) giveUp(ctx context.Context, tx *sqlx.Tx, row callRow) error {
	if row.HoldID != nil {
		// A hold that its time to live gave back before is no error. One that is settled belongs to a call that ended
		// after we had read it.
		if err := s.cfg.Ledger.ReleaseTx(ctx, tx, *row.HoldID); err != nil && !errors.Is(err, credits.ErrHoldSettled) {
			return fmt.Errorf("services: give back the hold of call %s: %w", row.ID, err)
		}
	}
	e := end{status: Failed, code: codeInterrupted, text: "The call was interrupted.", latency: s.now().Sub(row.CreatedAt.Time)}
	_, _, err := s.close(ctx, tx, row.ID, e)
	return err
}
