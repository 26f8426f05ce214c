package billing

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/webhook"
)

// Dispute is a payment that the customer's bank takes back, or asks about (docs.stripe.com/disputes).
type Dispute struct {
	ID        uuid.UUID            `json:"id"`
	DisputeID string               `json:"stripe_dispute"`
	Payment   uuid.UUID            `json:"payment"`
	Account   string               `json:"account"`
	Price     Money                `json:"amount"`
	Reason    stripe.DisputeReason `json:"reason"`
	// Status is Stripe's. Those that begin with warning_ are inquiries, which move no money.
	Status stripe.DisputeStatus `json:"status"`
	// DueBy is when evidence must be in. Nil: none is awaited.
	DueBy     *time.Time `json:"due_by,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	UpdatedAt time.Time  `json:"updated_at"`
}

// DisputeStep is one step of a dispute's trail.
type DisputeStep struct {
	Status stripe.DisputeStatus `json:"status"`
	// Price is what was disputed then.
	Price Money     `json:"amount"`
	At    time.Time `json:"at"`
}

type disputeRow struct {
	ID        uuid.UUID            `db:"id"`
	DisputeID string               `db:"dispute_id"`
	Payment   uuid.UUID            `db:"payment_id"`
	Account   string               `db:"account_id"`
	Amount    int64                `db:"amount"`
	Currency  string               `db:"currency"`
	Reason    stripe.DisputeReason `db:"reason"`
	Status    stripe.DisputeStatus `db:"status"`
	DueBy     *database.Time       `db:"due_by"`
	CreatedAt database.Time        `db:"created_at"`
	UpdatedAt database.Time        `db:"updated_at"`
}

const disputeColumns = `id, dispute_id, payment_id, account_id, amount, currency, reason, status, due_by, created_at, updated_at`

func (r disputeRow) dispute() Dispute {
	return Dispute{ID: r.ID, DisputeID: r.DisputeID, Payment: r.Payment, Account: r.Account, Price: Money{r.Amount, r.Currency}, Reason: r.Reason,
		Status: r.Status, DueBy: r.DueBy.Std(), CreatedAt: r.CreatedAt.Time, UpdatedAt: r.UpdatedAt.Time}
}

// DisputesParams choose a page of disputes.
type DisputesParams struct {
	// Account is whose payments. Empty: everybody's.
	Account string
	// Payment and Status, when set, choose those that have them.
	Payment uuid.UUID
	Status  stripe.DisputeStatus
	// Before is the last dispute of the page before. Zero: begin with the newest.
	Before uuid.UUID
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// Disputes returns a page of disputes, newest first, and whether older ones follow.
func (b *Billing) Disputes(ctx context.Context, p DisputesParams) (disputes []Dispute, more bool, err error) {
	// Runs along qs_billing_disputes_account, _payment, _status or the primary key.
	l := database.NewList(`SELECT ` + disputeColumns + ` FROM qs_billing_disputes`)
	l.If(p.Account != "", `account_id = ?`, p.Account)
	l.If(p.Payment != uuid.Nil, `payment_id = ?`, p.Payment)
	l.If(p.Status != "", `status = ?`, p.Status)
	l.If(p.Before != uuid.Nil, `id < ?`, p.Before)
	if disputes, more, err = database.Page(ctx, b.db, l, `id DESC`, p.Limit, disputeRow.dispute); err != nil {
		return nil, false, fmt.Errorf("billing: list disputes: %w", err)
	}
	return disputes, more, nil
}

// FindDispute returns a dispute, for staff; [ErrNoDispute] when there is none.
func (b *Billing) FindDispute(ctx context.Context, id uuid.UUID) (Dispute, error) {
	var row disputeRow
	err := b.db.Get(ctx, &row, `SELECT `+disputeColumns+` FROM qs_billing_disputes WHERE id = ?`, id)
	if database.IsNoRows(err) {
		return Dispute{}, ErrNoDispute
	}
	if err != nil {
		return Dispute{}, fmt.Errorf("billing: find dispute %s: %w", id, err)
	}
	return row.dispute(), nil
}

// DisputeTrail returns what happened to a dispute, first to last, as we heard of it.
func (b *Billing) DisputeTrail(ctx context.Context, id uuid.UUID) ([]DisputeStep, error) {
	var rows []struct {
		Status   stripe.DisputeStatus `db:"status"`
		Amount   int64                `db:"amount"`
		Currency string               `db:"currency"`
		At       database.Time        `db:"at"`
	}
	// Runs along qs_billing_dispute_steps_dispute.
	const find = `SELECT s.status, s.amount, d.currency, s.at FROM qs_billing_dispute_steps s JOIN qs_billing_disputes d ON d.id = s.dispute_id
		WHERE s.dispute_id = ? ORDER BY s.id`
	if err := b.db.Select(ctx, &rows, find, id); err != nil {
		return nil, fmt.Errorf("billing: trail of dispute %s: %w", id, err)
	}
	steps := make([]DisputeStep, len(rows))
	for i, r := range rows {
		steps[i] = DisputeStep{r.Status, Money{r.Amount, r.Currency}, r.At.Time}
	}
	return steps, nil
}

// ErrNoDispute says that there is no such dispute.
var ErrNoDispute error = problem.New(problem.CodeNotFound, "There is no such dispute.")

// Open says that the bank has not decided.
func (d Dispute) Open() bool { return isOpenDispute(d.Status) }

// Inquiry says that the bank only asks: no money and no credits have moved.
func (d Dispute) Inquiry() bool { return isInquiry(d.Status) }

// Holds says that the money, and its share of the credits, is away: while the dispute is open, and for good once it is lost.
func (d Dispute) Holds() bool {
	return !d.Inquiry() && (d.Open() || d.Status == stripe.DisputeStatusLost)
}

func (b *Billing) fetchDispute(ctx context.Context, id string) (*stripe.Dispute, error) {
	params := &stripe.DisputeParams{}
	params.Context = ctx
	params.AddExpand("payment_intent")
	return b.cfg.Stripe.Disputes.Get(id, params)
}

// onDispute takes a dispute over: while it is open, and once it is lost, its share of the payment's credits is taken
// back; winning gives back what no refund has taken. An inquiry moves nothing.
func (b *Billing) onDispute(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.Dispute]) error {
	return b.saveDispute(ctx, tx, ev.Object)
}

func (b *Billing) saveDispute(ctx context.Context, tx *sqlx.Tx, d *stripe.Dispute) error {
	payment, found, err := b.paymentOf(ctx, tx, d.PaymentIntent, d.Charge)
	if err != nil || !found {
		return err
	}
	if err := b.lockAccount(ctx, tx, payment.Account); err != nil {
		return err
	}
	var known []disputeRow
	if err := b.db.SelectTx(ctx, tx, &known, `SELECT `+disputeColumns+` FROM qs_billing_disputes WHERE dispute_id = ?`, d.ID); err != nil {
		return fmt.Errorf("billing: dispute %s: %w", d.ID, err)
	}
	row := disputeRow{DisputeID: d.ID, Payment: payment.ID, Account: payment.Account, Amount: d.Amount, Currency: string(d.Currency), Reason: d.Reason, Status: d.Status}
	before, news := stripe.DisputeStatus(""), true
	if len(known) > 0 {
		before, news = known[0].Status, known[0].Status != d.Status || known[0].Amount != d.Amount
		row.ID = known[0].ID
	} else if row.ID, err = uuid.NewV7(); err != nil {
		return fmt.Errorf("billing: make an id: %w", err)
	}
	if before != "" && !isOpenDispute(before) && isOpenDispute(d.Status) && !isInquiry(before) {
		return nil // a picture that is older: what is won or lost is not opened again
	}
	if d.EvidenceDetails != nil && isOpenDispute(d.Status) {
		row.DueBy = moment(d.EvidenceDetails.DueBy)
	}
	const upsert = `INSERT INTO qs_billing_disputes (` + disputeColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (dispute_id) DO UPDATE SET amount = excluded.amount, reason = excluded.reason, status = excluded.status, due_by = excluded.due_by,
			updated_at = excluded.updated_at`
	now := database.At(b.now())
	if _, err := b.db.ExecTx(ctx, tx, upsert, row.ID, d.ID, payment.ID, payment.Account, row.Amount, row.Currency, row.Reason, row.Status, row.DueBy, now, now); err != nil {
		return fmt.Errorf("billing: save dispute %s: %w", d.ID, err)
	}
	if news {
		if err := b.disputeStep(ctx, tx, row, now); err != nil {
			return err
		}
	}
	b.cfg.Logger.WarnContext(ctx, "dispute", slog.String("dispute", d.ID), slog.String("payment", payment.ID.String()), slog.String("account", payment.Account),
		slog.String("status", string(d.Status)))
	if err := b.converge(ctx, tx, payment.ID, "dispute "+d.ID); err != nil {
		return err
	}
	kind := disputeNotice(before, d.Status)
	if kind == "" {
		return nil
	}
	return b.notify(ctx, tx, Notice{Kind: kind, Account: payment.Account, Price: Money{row.Amount, row.Currency}, Description: payment.Description + " (" + payment.Receipt + ")",
		Key: "stripe:dispute:" + d.ID + ":" + string(kind)})
}

func (b *Billing) disputeStep(ctx context.Context, tx *sqlx.Tx, r disputeRow, at database.Time) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("billing: make an id: %w", err)
	}
	if _, err := b.db.ExecTx(ctx, tx, `INSERT INTO qs_billing_dispute_steps (id, dispute_id, status, amount, at) VALUES (?, ?, ?, ?, ?)`, id, r.ID, r.Status, r.Amount, at); err != nil {
		return fmt.Errorf("billing: trail of dispute %s: %w", r.DisputeID, err)
	}
	return nil
}

func isOpenDispute(s stripe.DisputeStatus) bool {
	return s == stripe.DisputeStatusNeedsResponse || s == stripe.DisputeStatusUnderReview || s == stripe.DisputeStatusWarningNeedsResponse || s == stripe.DisputeStatusWarningUnderReview
}

func isInquiry(s stripe.DisputeStatus) bool {
	return s == stripe.DisputeStatusWarningNeedsResponse || s == stripe.DisputeStatusWarningUnderReview || s == stripe.DisputeStatusWarningClosed
}

// disputeNotice is what staff have to know when a dispute comes into a status; empty when it is nothing new.
func disputeNotice(before, now stripe.DisputeStatus) NoticeKind {
	kind := func(s stripe.DisputeStatus) NoticeKind {
		switch s {
		case stripe.DisputeStatusNeedsResponse, stripe.DisputeStatusUnderReview:
			return NoticeDisputeOpened
		case stripe.DisputeStatusWon:
			return NoticeDisputeWon
		case stripe.DisputeStatusLost:
			return NoticeDisputeLost
		case stripe.DisputeStatusWarningNeedsResponse, stripe.DisputeStatusWarningUnderReview:
			return NoticeInquiry
		case stripe.DisputeStatusWarningClosed:
		}
		return ""
	}
	if k := kind(now); k != kind(before) {
		return k
	}
	return ""
}
