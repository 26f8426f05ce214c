package billing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// Run is a reconciliation that was begun.
type Run struct {
	ID        uuid.UUID `json:"id"`
	StartedAt time.Time `json:"started_at"`
	// FinishedAt is nil while it runs, when it was interrupted, and when an object failed: the next run begins where this one did.
	FinishedAt *time.Time `json:"finished_at,omitempty"`
	Checked    int        `json:"checked"`
	Repaired   int        `json:"repaired"`
	Failed     int        `json:"failed"`
}

// RunItem is one object that a run repaired, or failed at.
type RunItem struct {
	// Kind and Object are Stripe's, such as refund and re_…; they are empty for what stopped the whole run.
	Kind   string `json:"kind"`
	Object string `json:"object"`
	// Before and After are what we held, empty for nothing.
	Before string `json:"before"`
	After  string `json:"after"`
	// Error is why it failed; empty for a repair.
	Error string `json:"error,omitempty"`
}

// maxRunItems bounds what is kept of one run.
const maxRunItems = 1000

// ReconcileAndKeep is [Billing.Reconcile] whose report can be read afterwards with [Billing.RunItems], its first 1,000
// objects. A report that cannot be written is an error too, though the repairs stay.
func (b *Billing) ReconcileAndKeep(ctx context.Context) (Reconciliation, error) {
	r, err := b.Reconcile(ctx)
	var items []RunItem
	for _, f := range r.Failed {
		items = append(items, RunItem{Kind: f.Kind, Object: f.ID, Error: f.Err.Error()})
	}
	if err != nil {
		items = append(items, RunItem{Error: err.Error()})
	}
	for _, done := range r.Repaired {
		items = append(items, RunItem{Kind: done.Kind, Object: done.ID, Before: done.Before, After: done.After})
	}
	// Also when ctx has ended: why a run stopped is worth knowing.
	return r, errors.Join(err, b.keepItems(context.WithoutCancel(ctx), r.ID, items[:min(len(items), maxRunItems)]))
}

func (b *Billing) keepItems(ctx context.Context, run uuid.UUID, items []RunItem) error {
	if len(items) == 0 {
		return nil
	}
	err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		var begun []uuid.UUID
		if err := b.db.SelectTx(ctx, tx, &begun, `SELECT id FROM qs_billing_reconciliations WHERE id = ?`, run); err != nil || len(begun) == 0 {
			return err
		}
		const insert = `INSERT INTO qs_billing_reconciliation_items (run_id, position, kind, object_id, before, after, error) VALUES (?, ?, ?, ?, ?, ?, ?)`
		for i, item := range items {
			if _, err := b.db.ExecTx(ctx, tx, insert, run, i, item.Kind, item.Object, item.Before, item.After, item.Error); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("billing: keep the report of reconciliation %s: %w", run, err)
	}
	return nil
}

// Runs returns the latest reconciliations, newest first; limit is at most 500, 0 means 50.
func (b *Billing) Runs(ctx context.Context, limit int) ([]Run, error) {
	var rows []struct {
		ID         uuid.UUID      `db:"id"`
		StartedAt  database.Time  `db:"started_at"`
		FinishedAt *database.Time `db:"finished_at"`
		Checked    int            `db:"checked"`
		Repaired   int            `db:"repaired"`
		Failed     int            `db:"failed"`
	}
	// Runs along the primary key: ids are UUIDv7 and grow with time.
	const list = `SELECT id, started_at, finished_at, checked, repaired, failed FROM qs_billing_reconciliations ORDER BY id DESC LIMIT ?`
	if err := b.db.Select(ctx, &rows, list, database.PageSize(limit)); err != nil {
		return nil, fmt.Errorf("billing: list reconciliations: %w", err)
	}
	runs := make([]Run, len(rows))
	for i, r := range rows {
		runs[i] = Run{r.ID, r.StartedAt.Time, r.FinishedAt.Std(), r.Checked, r.Repaired, r.Failed}
	}
	return runs, nil
}

// RunItems returns what a run of [Billing.ReconcileAndKeep] repaired and failed at, failures first.
func (b *Billing) RunItems(ctx context.Context, run uuid.UUID) ([]RunItem, error) {
	var rows []struct {
		Kind   string `db:"kind"`
		Object string `db:"object_id"`
		Before string `db:"before"`
		After  string `db:"after"`
		Error  string `db:"error"`
	}
	const list = `SELECT kind, object_id, before, after, error FROM qs_billing_reconciliation_items WHERE run_id = ? ORDER BY position`
	if err := b.db.Select(ctx, &rows, list, run); err != nil {
		return nil, fmt.Errorf("billing: report of reconciliation %s: %w", run, err)
	}
	items := make([]RunItem, len(rows))
	for i, r := range rows {
		items[i] = RunItem(r)
	}
	return items, nil
}
