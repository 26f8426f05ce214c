package services

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// DefaultKeepOutputs is how long outputs and idempotency keys of calls are kept.
const DefaultKeepOutputs = 30 * 24 * time.Hour

const pruneBatch = 500

// Prune removes the outputs and idempotency keys of calls that ended longer than [Config.KeepOutputs] ago, in small
// transactions, and returns how many; the usage rows stay. It forgets the quotas of accounts that have made no calls
// lately. Call it once a day, in any number of processes; it can be interrupted.
func (s *Services) Prune(ctx context.Context) (pruned int64, err error) {
	// Runs along qs_service_calls_kept.
	const remove = `UPDATE qs_service_calls SET output = NULL, idempotency_key = NULL, cached_until = NULL
		WHERE id IN (SELECT id FROM qs_service_calls WHERE output IS NOT NULL AND finished_at < ? ORDER BY finished_at LIMIT ?)`
	before := database.At(s.now().Add(-s.cfg.KeepOutputs))
	for {
		var n int64
		err := s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			n, err = s.db.ExecTx(ctx, tx, remove, before, pruneBatch)
			return err
		})
		if err != nil {
			return pruned, fmt.Errorf("services: prune outputs: %w", err)
		}
		if pruned += n; n < pruneBatch {
			break
		}
	}
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := s.db.ExecTx(ctx, tx, `DELETE FROM qs_service_quotas WHERE full_at < ?`, s.now().UnixMicro())
		return err
	})
	if err != nil {
		return pruned, fmt.Errorf("services: prune quotas: %w", err)
	}
	return pruned, nil
}
