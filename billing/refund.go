package billing

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// RefundStatus is where a refund stands.
type RefundStatus string

// The statuses of refunds. Each comes after those above it, and the last two end a refund.
const (
	RefundRequested RefundStatus = "requested" // written down; Stripe may or may not know
	RefundPending   RefundStatus = "pending"   // on its way
	RefundSucceeded RefundStatus = "succeeded" // the money is back, though it can still fail days later
	RefundFailed    RefundStatus = "failed"    // the money stayed
	RefundCanceled  RefundStatus = "canceled"  // the money stayed
)

// rank orders the statuses, so that an older picture changes nothing.
func (s RefundStatus) rank() int {
	switch s {
	case RefundRequested:
		return 0
	case RefundPending:
		return 1
	case RefundSucceeded:
		return 2
	case RefundFailed, RefundCanceled:
	}
	return 3
}

// The reasons that Stripe knows.
const (
	ReasonDuplicate  = "duplicate"
	ReasonFraudulent = "fraudulent"
	ReasonRequested  = "requested_by_customer"
)

// Refund is money that goes back, or was to.
type Refund struct {
	ID      uuid.UUID `json:"id"`
	Payment uuid.UUID `json:"payment"`
	Account string    `json:"account"`
	Price   Money     `json:"amount"`
	Reason  string    `json:"reason"`
	Note    string    `json:"note,omitempty"`
	// Staff is who asked for it; empty for refunds made in Stripe's Dashboard.
	Staff    string       `json:"staff,omitempty"`
	Status   RefundStatus `json:"status"`
	RefundID string       `json:"stripe_refund,omitempty"`
	// Error is why it failed.
	Error     string    `json:"error,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// RefundStep is one step of a refund's trail.
type RefundStep struct {
	Status RefundStatus `json:"status"`
	Note   string       `json:"note,omitempty"`
	At     time.Time    `json:"at"`
}

type refundRow struct {
	ID        uuid.UUID     `db:"id"`
	Payment   uuid.UUID     `db:"payment_id"`
	Account   string        `db:"account_id"`
	Amount    int64         `db:"amount"`
	Currency  string        `db:"currency"`
	Reason    string        `db:"reason"`
	Note      string        `db:"note"`
	Staff     string        `db:"staff"`
	Status    RefundStatus  `db:"status"`
	RefundID  *string       `db:"refund_id"`
	RowID     *uuid.UUID    `db:"row_id"`
	Error     string        `db:"error"`
	CreatedAt database.Time `db:"created_at"`
	UpdatedAt database.Time `db:"updated_at"`
	// Generation is that of the idempotency key, and DoubtUntil when the next try is. Nil: at once.
	Generation int64          `db:"generation"`
	DoubtUntil *database.Time `db:"doubt_until"`
}

const refundColumns = `id, payment_id, account_id, amount, currency, reason, note, staff, status, refund_id, row_id, error, created_at, updated_at, generation, doubt_until`

func (r refundRow) refund() Refund {
	return Refund{ID: r.ID, Payment: r.Payment, Account: r.Account, Price: Money{r.Amount, r.Currency}, Reason: r.Reason, Note: r.Note, Staff: r.Staff,
		Status: r.Status, RefundID: deref(r.RefundID), Error: r.Error, CreatedAt: r.CreatedAt.Time, UpdatedAt: r.UpdatedAt.Time}
}

// FindRefund returns a refund, for staff; [ErrNotFound] when there is none.
func (b *Billing) FindRefund(ctx context.Context, id uuid.UUID) (Refund, error) {
	var row refundRow
	err := b.db.Get(ctx, &row, `SELECT `+refundColumns+` FROM qs_billing_refunds WHERE id = ?`, id)
	if database.IsNoRows(err) {
		return Refund{}, ErrNotFound
	}
	if err != nil {
		return Refund{}, fmt.Errorf("billing: find refund %s: %w", id, err)
	}
	return row.refund(), nil
}

// RefundTrail returns what happened to a refund, first to last.
func (b *Billing) RefundTrail(ctx context.Context, id uuid.UUID) ([]RefundStep, error) {
	var rows []struct {
		Status RefundStatus  `db:"status"`
		Note   string        `db:"note"`
		At     database.Time `db:"at"`
	}
	if err := b.db.Select(ctx, &rows, `SELECT status, note, at FROM qs_billing_refund_steps WHERE refund_id = ? ORDER BY id`, id); err != nil {
		return nil, fmt.Errorf("billing: trail of refund %s: %w", id, err)
	}
	steps := make([]RefundStep, len(rows))
	for i, r := range rows {
		steps[i] = RefundStep{r.Status, r.Note, r.At.Time}
	}
	return steps, nil
}

// RefundsParams choose a page of refunds.
type RefundsParams struct {
	// Payment and Account, when set, choose those of a payment or an account.
	Payment uuid.UUID
	Account string
	// Status, Reason and Staff, when set, choose those that have them.
	Status RefundStatus
	Reason string
	Staff  string
	// Before is the last refund of the page before. Zero: begin with the newest.
	Before uuid.UUID
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// Refunds returns a page of refunds, newest first, and whether older ones follow.
func (b *Billing) Refunds(ctx context.Context, p RefundsParams) (refunds []Refund, more bool, err error) {
	// Runs along qs_billing_refunds_payment, _account, _status, _staff or the primary key.
	l := database.NewList(`SELECT ` + refundColumns + ` FROM qs_billing_refunds`)
	l.If(p.Payment != uuid.Nil, `payment_id = ?`, p.Payment)
	l.If(p.Account != "", `account_id = ?`, p.Account)
	l.If(p.Status != "", `status = ?`, p.Status)
	l.If(p.Reason != "", `reason = ?`, p.Reason)
	l.If(p.Staff != "", `staff = ?`, p.Staff)
	l.If(p.Before != uuid.Nil, `id < ?`, p.Before)
	if refunds, more, err = database.Page(ctx, b.db, l, `id DESC`, p.Limit, refundRow.refund); err != nil {
		return nil, false, fmt.Errorf("billing: list refunds: %w", err)
	}
	return refunds, more, nil
}

func (b *Billing) refundTx(ctx context.Context, tx *sqlx.Tx, where string, args ...any) (r refundRow, found bool, err error) {
	err = b.db.GetTx(ctx, tx, &r, `SELECT `+refundColumns+` FROM qs_billing_refunds WHERE `+where, args...)
	if database.IsNoRows(err) {
		return refundRow{}, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("billing: find a refund: %w", err)
	}
	return r, true, nil
}

func (b *Billing) insertRefund(ctx context.Context, tx *sqlx.Tx, r *refundRow) error {
	r.CreatedAt = database.At(b.now())
	r.UpdatedAt = r.CreatedAt
	const insert = `INSERT INTO qs_billing_refunds (` + refundColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, NULL)`
	_, err := b.db.ExecTx(ctx, tx, insert, r.ID, r.Payment, r.Account, r.Amount, r.Currency, r.Reason, r.Note, r.Staff, r.Status, r.RefundID, r.RowID,
		r.Error, r.CreatedAt, r.UpdatedAt)
	if err != nil {
		return fmt.Errorf("billing: write refund %s: %w", r.ID, err)
	}
	return b.refundStep(ctx, tx, *r)
}

func (b *Billing) moveRefund(ctx context.Context, tx *sqlx.Tx, r refundRow) error {
	r.UpdatedAt = database.At(b.now())
	const update = `UPDATE qs_billing_refunds SET status = ?, refund_id = ?, row_id = ?, error = ?, updated_at = ? WHERE id = ?`
	if _, err := b.db.ExecTx(ctx, tx, update, r.Status, r.RefundID, r.RowID, r.Error, r.UpdatedAt, r.ID); err != nil {
		return fmt.Errorf("billing: move refund %s: %w", r.ID, err)
	}
	return b.refundStep(ctx, tx, r)
}

func (b *Billing) refundStep(ctx context.Context, tx *sqlx.Tx, r refundRow) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("billing: make an id: %w", err)
	}
	note := r.Error
	if note == "" && r.Status == RefundRequested {
		note = r.Note
	}
	_, err = b.db.ExecTx(ctx, tx, `INSERT INTO qs_billing_refund_steps (id, refund_id, status, note, at) VALUES (?, ?, ?, ?, ?)`,
		id, r.ID, r.Status, note, r.UpdatedAt)
	if err != nil {
		return fmt.Errorf("billing: trail of refund %s: %w", r.ID, err)
	}
	b.cfg.Logger.InfoContext(ctx, "refund moved", slog.String("refund", r.ID.String()), slog.String("payment", r.Payment.String()),
		slog.String("account", r.Account), slog.String("status", string(r.Status)), slog.String("staff", r.Staff))
	return nil
}
