package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// DefaultStale is how long an event may be overdue before [Processor.Sweep] makes it a new job.
const DefaultStale = 15 * time.Minute

// Sweep makes a new job for each event that is overdue by stale (0: 15 minutes), since its own is lost: the process that
// ran it was killed and River has not noticed yet, or somebody removed it. An event that has two jobs runs once. Call it
// every few minutes; it returns how many it found, at most [MaxActed] at a time.
func (p *Processor) Sweep(ctx context.Context, stale time.Duration) (n int, err error) {
	if stale <= 0 {
		stale = DefaultStale
	}
	err = p.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		now := p.now()
		// Runs along qs_webhook_events_due.
		query := `SELECT id FROM qs_webhook_events WHERE status = 'received' AND next_at < ? ORDER BY next_at LIMIT ?` + p.db.Dialect().ForUpdate()
		var ids []string
		if err := p.db.SelectTx(ctx, tx, &ids, query, database.At(now.Add(-stale)), MaxActed); err != nil {
			return err
		}
		if n = len(ids); n == 0 {
			return nil
		}
		update, args, err := sqlx.In(`UPDATE qs_webhook_events SET next_at = ? WHERE id IN (?)`, database.At(now), ids)
		if err != nil {
			return err
		}
		if _, err := p.db.ExecTx(ctx, tx, update, args...); err != nil {
			return err
		}
		return p.enqueue(ctx, tx, ids)
	})
	if err != nil {
		return 0, fmt.Errorf("webhook: sweep: %w", err)
	}
	return n, nil
}
