package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Ages of what [Processor.Prune] takes away.
const (
	DefaultKeepPayloads = 90 * 24 * time.Hour
	DefaultKeepRows     = 400 * 24 * time.Hour
	// MinKeepRows is how long rows are kept at least: Stripe delivers again for three days.
	MinKeepRows = 7 * 24 * time.Hour
	pruneBatch  = 500
)

// PruneParams say what is old enough.
type PruneParams struct {
	// Payloads is how long payloads are kept after receipt. 0: 90 days.
	Payloads time.Duration
	// Rows is how long rows are kept after receipt, at least a week. 0: 400 days. The ids stay for ever, so that an event
	// that comes again, or is listed by Stripe, is still known.
	Rows time.Duration
	// DryRun tells what would be pruned and does nothing.
	DryRun bool
}

// Pruned counts what was pruned, or would be.
type Pruned struct {
	Payloads int  `json:"payloads"`
	Rows     int  `json:"rows"`
	DryRun   bool `json:"dry_run"`
}

// ended are the statuses of events that nobody has to look at any more. What waits or is dead is never pruned.
var ended = []Status{StatusDone, StatusIgnored, StatusSkipped}

// Prune takes away old payloads and rows of events that came to an end, in small transactions. Call it once a day; it
// can be interrupted, and any number of processes may call it at once.
func (p *Processor) Prune(ctx context.Context, params PruneParams) (Pruned, error) {
	if params.Payloads == 0 {
		params.Payloads = DefaultKeepPayloads
	}
	if params.Rows == 0 {
		params.Rows = DefaultKeepRows
	}
	if params.Payloads < 0 || params.Rows < MinKeepRows {
		return Pruned{}, problem.Invalid(map[string]string{"rows": "Rows are kept for seven days or longer, and payloads for no negative time."})
	}
	pruned := Pruned{DryRun: params.DryRun}
	for _, status := range ended {
		n, err := p.pruneStatus(ctx, status, p.now().Add(-params.Rows), false, params.DryRun)
		pruned.Rows += n
		if err != nil {
			return pruned, err
		}
		n, err = p.pruneStatus(ctx, status, p.now().Add(-params.Payloads), true, params.DryRun)
		pruned.Payloads += n
		if err != nil {
			return pruned, err
		}
	}
	return pruned, nil
}

type pruneRow struct {
	ID         string        `db:"id"`
	ReceivedAt database.Time `db:"received_at"`
}

// pruneStatus goes through the events of a status that were received before a time, the oldest first.
func (p *Processor) pruneStatus(ctx context.Context, status Status, before time.Time, payloads, dry bool) (n int, err error) {
	after := pruneRow{ReceivedAt: database.At(time.Unix(0, 0))}
	for {
		// Runs along qs_webhook_events_status.
		query := `SELECT id, received_at FROM qs_webhook_events WHERE status = ? AND received_at < ? AND (received_at, id) > (?, ?)`
		if payloads {
			query += ` AND payload <> ''`
		}
		var rows []pruneRow
		err := p.db.Select(ctx, &rows, query+` ORDER BY received_at, id LIMIT ?`, status, database.At(before), after.ReceivedAt, after.ID, pruneBatch)
		if err != nil {
			return n, fmt.Errorf("webhook: find what to prune: %w", err)
		}
		if len(rows) == 0 {
			return n, nil
		}
		after = rows[len(rows)-1]
		if dry {
			n += len(rows)
			continue
		}
		ids := make([]string, len(rows))
		for i, r := range rows {
			ids[i] = r.ID
		}
		done, err := p.pruneIDs(ctx, ids, status, before, payloads)
		n += done
		if err != nil {
			return n, fmt.Errorf("webhook: prune: %w", err)
		}
	}
}

func (p *Processor) pruneIDs(ctx context.Context, ids []string, status Status, before time.Time, payloads bool) (n int, err error) {
	statements := []struct {
		text string
		args []any
	}{{`UPDATE qs_webhook_events SET payload = '' WHERE id IN (?) AND status = ?`, []any{ids, status}}}
	if !payloads {
		statements = []struct {
			text string
			args []any
		}{
			// An object's count is of use while an event about it is under way.
			{`DELETE FROM qs_webhook_objects WHERE touched_at < ? AND id IN (SELECT CASE WHEN account = '' THEN object_id ELSE account || '/' || object_id END
				FROM qs_webhook_events WHERE id IN (?) AND status = ?)`, []any{database.At(before), ids, status}},
			{`INSERT INTO qs_webhook_seen (id, seen_at) SELECT id, received_at FROM qs_webhook_events WHERE id IN (?) AND status = ? ON CONFLICT (id) DO NOTHING`,
				[]any{ids, status}},
			{`DELETE FROM qs_webhook_events WHERE id IN (?) AND status = ?`, []any{ids, status}},
		}
	}
	err = p.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		for _, s := range statements {
			query, args, err := sqlx.In(s.text, s.args...)
			if err != nil {
				return err
			}
			changed, err := p.db.ExecTx(ctx, tx, query, args...)
			if err != nil {
				return err
			}
			n = int(changed) // of the last one, which is the one that counts
		}
		return nil
	})
	return n, err
}
