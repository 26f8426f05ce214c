package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/webhook"
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
}

const refundColumns = `id, payment_id, account_id, amount, currency, reason, note, staff, status, refund_id, row_id, error, created_at, updated_at`

func (r refundRow) refund() Refund {
	return Refund{ID: r.ID, Payment: r.Payment, Account: r.Account, Price: Money{r.Amount, r.Currency}, Reason: r.Reason, Note: r.Note, Staff: r.Staff,
		Status: r.Status, RefundID: deref(r.RefundID), Error: r.Error, CreatedAt: r.CreatedAt.Time, UpdatedAt: r.UpdatedAt.Time}
}

// RefundParams describe a refund by staff.
type RefundParams struct {
	// Payment is whose money goes back. Required.
	Payment uuid.UUID
	// Amount is in minor units, no more than what is left. 0: all that is left.
	Amount int64
	// Left is what was left when a person looked at the preview. When it is something else by now, because the form was
	// sent twice or somebody else refunded, nothing happens. 0: it does not matter.
	Left int64
	// Reason is one of Stripe's three. Required.
	Reason string
	// Note says why in words. Required.
	Note string
	// Staff is who refunds. Required.
	Staff string
}

// Errors of refunds.
var (
	ErrRefundReason  error = problem.Invalid(map[string]string{"reason": "Choose duplicate, fraudulent or requested_by_customer."})
	ErrRefundNote    error = problem.Invalid(map[string]string{"note": "Say why the money goes back."})
	ErrRefundStaff   error = problem.Invalid(map[string]string{"staff": "A refund needs who makes it."})
	ErrRefundAmount  error = problem.Invalid(map[string]string{"amount": "This must be above zero and no more than what is left of the payment."})
	ErrRefundChanged error = problem.New(problem.CodeConflict, "Something else was refunded or disputed since you looked. Look at the payment again.")
	ErrNotRefundable error = problem.New("not_refundable", "Nothing of this payment can be refunded.")
	ErrRefundRefused error = problem.New("refund_refused", "Stripe refused this refund. Its trail says why.")
)

// RefundPreview is what a refund would do.
type RefundPreview struct {
	Payment Payment `json:"payment"`
	// Amount goes back of Left, which no refund has asked for and no dispute holds.
	Amount Money `json:"refund"`
	Left   Money `json:"left"`
	// Credits are taken back of CreditsLeft, which refunds and disputes have not taken yet. What the account has used of
	// them becomes debt.
	Credits     string `json:"credits"`
	CreditsLeft string `json:"credits_left"`
}

// PreviewRefund tells what refunding would do; amount 0 means all that is left. The errors are [ErrNotFound],
// [ErrNotRefundable] and [ErrRefundAmount].
func (b *Billing) PreviewRefund(ctx context.Context, payment uuid.UUID, amount int64) (preview RefundPreview, err error) {
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		p, left, err := b.refundable(ctx, tx, payment)
		if err != nil {
			return err
		}
		if amount == 0 {
			amount = left
		}
		if amount < 0 || amount > left {
			return ErrRefundAmount
		}
		taken, err := b.toTake(ctx, tx, p, clawback(p.Credits, min(p.Amount, p.Refunded+p.Disputed+amount), p.Amount))
		if err != nil {
			return err
		}
		preview = RefundPreview{Payment: p.payment(), Amount: Money{amount, p.Currency}, Left: Money{left, p.Currency},
			Credits: max(0, taken).String(), CreditsLeft: (p.Credits - p.Clawed).String()}
		return nil
	})
	return preview, err
}

// refundable finds a payment, locks its account, and tells what can be refunded: what went back, what is asked for and
// what is disputed is not there any more.
func (b *Billing) refundable(ctx context.Context, tx *sqlx.Tx, id uuid.UUID) (p paymentRow, left int64, err error) {
	p, found, err := b.paymentTx(ctx, tx, `id = ?`, id)
	if err != nil {
		return p, 0, err
	}
	if !found {
		return p, 0, ErrNotFound
	}
	if err := b.lockAccount(ctx, tx, p.Account); err != nil {
		return p, 0, err
	}
	if p, _, err = b.paymentTx(ctx, tx, `id = ?`, id); err != nil { // as it is under the lock
		return p, 0, err
	}
	var asked int64
	const sum = `SELECT COALESCE(SUM(amount), 0) FROM qs_billing_refunds WHERE payment_id = ? AND status IN ('requested', 'pending', 'succeeded')`
	if err := b.db.GetTx(ctx, tx, &asked, sum, id); err != nil {
		return p, 0, fmt.Errorf("billing: refunds of payment %s: %w", id, err)
	}
	left = p.Amount - asked - p.Disputed
	if !p.payment().Kept() || p.Type == TypeRefund || left <= 0 || p.IntentID == nil && p.ChargeID == "" {
		return p, 0, ErrNotRefundable
	}
	return p, left, nil
}

// Refund gives money back and takes back its share of the credits that it bought, also of those that were used: what the
// account has not any more becomes debt. The refund is written down before Stripe is asked, so that neither a crash nor
// a lost answer refunds twice; [Billing.ResumeRefunds] goes on with what was interrupted. The errors are [ErrNotFound],
// [ErrRefundReason], [ErrRefundNote], [ErrRefundStaff], [ErrNotRefundable], [ErrRefundAmount], [ErrRefundChanged], [ErrRefundRefused], after
// which nothing was refunded, and [ErrStripe], after which it may have been: the refund stays requested until that is
// known.
func (b *Billing) Refund(ctx context.Context, p RefundParams) (Refund, error) {
	p.Note, p.Staff = strings.TrimSpace(p.Note), strings.TrimSpace(p.Staff)
	switch {
	case p.Reason != ReasonDuplicate && p.Reason != ReasonFraudulent && p.Reason != ReasonRequested:
		return Refund{}, ErrRefundReason
	case p.Note == "":
		return Refund{}, ErrRefundNote
	case p.Staff == "":
		return Refund{}, ErrRefundStaff
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Refund{}, fmt.Errorf("billing: make an id: %w", err)
	}
	var row refundRow
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		payment, left, err := b.refundable(ctx, tx, p.Payment)
		if err != nil {
			return err
		}
		if p.Left != 0 && p.Left != left {
			return ErrRefundChanged
		}
		amount := p.Amount
		if amount == 0 {
			amount = left
		}
		if amount < 0 || amount > left {
			return ErrRefundAmount
		}
		row = refundRow{ID: id, Payment: p.Payment, Account: payment.Account, Amount: amount, Currency: payment.Currency, Reason: p.Reason, Note: p.Note,
			Staff: p.Staff, Status: RefundRequested}
		return b.insertRefund(ctx, tx, &row)
	})
	if err != nil {
		return Refund{}, err
	}
	asked := b.askRefund(ctx, row)
	r, err := b.FindRefund(ctx, row.ID)
	if err != nil {
		return row.refund(), errors.Join(asked, err)
	}
	return r, asked
}

// askRefund asks Stripe for a refund that is written down, and records the answer. Asking again under the same key gets
// the same refund.
func (b *Billing) askRefund(ctx context.Context, row refundRow) error {
	payment, err := b.anyPayment(ctx, row.Payment)
	if err != nil {
		return err
	}
	params := &stripe.RefundParams{Amount: &row.Amount, Reason: &row.Reason, Metadata: map[string]string{refundKey: row.ID.String(), accountKey: row.Account}}
	if payment.IntentID != "" {
		params.PaymentIntent = &payment.IntentID
	} else {
		params.Charge = &payment.ChargeID
	}
	params.Context = ctx
	params.SetIdempotencyKey("refund-" + row.ID.String())
	made, err := b.cfg.Stripe.Refunds.New(params)
	if err == nil {
		return b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.saveRefund(ctx, tx, made) })
	}
	failed := stripeError("refund", err)
	if errors.Is(failed, ErrStripe) {
		return failed
	}
	b.cfg.Logger.WarnContext(ctx, "refund refused", slog.String("refund", row.ID.String()), slog.Any("error", err))
	why := "Stripe refused it."
	if e, ok := asStripe(err); ok {
		why = e.Msg
	}
	err = b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := b.lockAccount(ctx, tx, row.Account); err != nil {
			return err
		}
		now, found, err := b.refundTx(ctx, tx, `id = ?`, row.ID)
		if err != nil || !found || now.Status != RefundRequested {
			return err
		}
		now.Status, now.Error = RefundFailed, why
		return b.moveRefund(ctx, tx, now)
	})
	if err != nil {
		return err
	}
	return ErrRefundRefused
}

// refundKey is the metadata that carries our refund's id.
const refundKey = "refund"

// ResumeRefunds goes on with refunds whose outcome was not recorded within a minute, because the process ended or
// Stripe's answer was lost: it looks whether Stripe has them, and asks for those that it has not. Call it now and then;
// it returns how many have an outcome now.
func (b *Billing) ResumeRefunds(ctx context.Context) (resumed int, err error) {
	var rows []refundRow
	// Runs along qs_billing_refunds_open.
	const open = `SELECT ` + refundColumns + ` FROM qs_billing_refunds WHERE status = 'requested' AND updated_at < ? ORDER BY updated_at LIMIT 100`
	if err := b.db.Select(ctx, &rows, open, database.At(b.now().Add(-time.Minute))); err != nil {
		return 0, fmt.Errorf("billing: open refunds: %w", err)
	}
	for _, row := range rows {
		one := b.resumeRefund(ctx, row)
		if one == nil || errors.Is(one, ErrRefundRefused) {
			resumed++
			continue
		}
		err = errors.Join(err, one)
	}
	return resumed, err
}

func (b *Billing) resumeRefund(ctx context.Context, row refundRow) error {
	payment, err := b.anyPayment(ctx, row.Payment)
	if err != nil {
		return err
	}
	params := &stripe.RefundListParams{ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}}
	if payment.IntentID != "" {
		params.PaymentIntent = &payment.IntentID
	} else {
		params.Charge = &payment.ChargeID
	}
	// A key is forgotten after 24 hours; what Stripe lists is not.
	refunds := b.cfg.Stripe.Refunds.List(params)
	for refunds.Next() {
		if r := refunds.Refund(); r.Metadata[refundKey] == row.ID.String() {
			return b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.saveRefund(ctx, tx, r) })
		}
	}
	if err := refunds.Err(); err != nil {
		return stripeError("list refunds", err)
	}
	return b.askRefund(ctx, row)
}

// anyPayment is a payment whoever's it is.
func (b *Billing) anyPayment(ctx context.Context, id uuid.UUID) (Payment, error) {
	var row paymentRow
	err := b.db.Get(ctx, &row, `SELECT `+paymentColumns+` FROM qs_billing_payments WHERE id = ?`, id)
	if err != nil {
		return Payment{}, fmt.Errorf("billing: find payment %s: %w", id, err)
	}
	return row.payment(), nil
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
	if p.Limit <= 0 {
		p.Limit = DefaultPage
	}
	p.Limit = min(p.Limit, MaxPage)
	// Runs along qs_billing_refunds_payment, _account, _status, _staff or the primary key.
	query, args := `SELECT `+refundColumns+` FROM qs_billing_refunds WHERE 1 = 1`, []any{}
	if p.Payment != uuid.Nil {
		query, args = query+` AND payment_id = ?`, append(args, p.Payment)
	}
	if p.Account != "" {
		query, args = query+` AND account_id = ?`, append(args, p.Account)
	}
	for _, f := range []struct{ column, value string }{{"status", string(p.Status)}, {"reason", p.Reason}, {"staff", p.Staff}} {
		if f.value != "" {
			query, args = query+` AND `+f.column+` = ?`, append(args, f.value)
		}
	}
	if p.Before != uuid.Nil {
		query, args = query+` AND id < ?`, append(args, p.Before)
	}
	var rows []refundRow
	if err := b.db.Select(ctx, &rows, query+` ORDER BY id DESC LIMIT ?`, append(args, p.Limit+1)...); err != nil {
		return nil, false, fmt.Errorf("billing: list refunds: %w", err)
	}
	if more = len(rows) > p.Limit; more {
		rows = rows[:p.Limit]
	}
	refunds = make([]Refund, len(rows))
	for i, r := range rows {
		refunds[i] = r.refund()
	}
	return refunds, more, nil
}

func (b *Billing) fetchRefund(ctx context.Context, id string) (*stripe.Refund, error) {
	params := &stripe.RefundParams{}
	params.Context = ctx
	params.AddExpand("payment_intent")
	return b.cfg.Stripe.Refunds.Get(id, params)
}

func (b *Billing) onRefund(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.Refund]) error {
	return b.saveRefund(ctx, tx, ev.Object)
}

// chargePicture is a charge with all its refunds.
type chargePicture struct {
	*stripe.Charge

	refunds []*stripe.Refund
}

func (b *Billing) fetchCharge(ctx context.Context, id string) (*chargePicture, error) {
	params := &stripe.ChargeParams{}
	params.Context = ctx
	charge, err := b.cfg.Stripe.Charges.Get(id, params)
	if err != nil {
		return nil, stripeError("read charge "+id, err)
	}
	picture := &chargePicture{Charge: charge}
	list := &stripe.RefundListParams{Charge: &id, ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}}
	list.AddExpand("data.payment_intent")
	refunds := b.cfg.Stripe.Refunds.List(list)
	for refunds.Next() {
		picture.refunds = append(picture.refunds, refunds.Refund())
	}
	if err := refunds.Err(); err != nil {
		return nil, stripeError("list the refunds of charge "+id, err)
	}
	return picture, nil
}

func (b *Billing) onCharge(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[chargePicture]) error {
	for _, r := range ev.Object.refunds {
		if err := b.saveRefund(ctx, tx, r); err != nil {
			return err
		}
	}
	return nil
}

// saveRefund takes a refund over as Stripe has it, and makes the credits follow. One that we did not ask for was made in
// Stripe's Dashboard.
func (b *Billing) saveRefund(ctx context.Context, tx *sqlx.Tx, r *stripe.Refund) error {
	payment, found, err := b.paymentOf(ctx, tx, r.PaymentIntent, r.Charge)
	if err != nil || !found {
		return err
	}
	if err := b.lockAccount(ctx, tx, payment.Account); err != nil {
		return err
	}
	row, found, err := b.refundTx(ctx, tx, `refund_id = ?`, r.ID)
	if err != nil {
		return err
	}
	if ours, parseErr := uuid.Parse(r.Metadata[refundKey]); !found && parseErr == nil {
		if row, found, err = b.refundTx(ctx, tx, `id = ? AND payment_id = ? AND refund_id IS NULL`, ours, payment.ID); err != nil {
			return err
		}
	}
	status := refundStatus(r.Status)
	if !found {
		row = refundRow{Payment: payment.ID, Account: payment.Account, Amount: r.Amount, Currency: string(r.Currency), Reason: string(r.Reason),
			Note: "Made in Stripe", Status: RefundRequested}
		if row.ID, err = uuid.NewV7(); err != nil {
			return fmt.Errorf("billing: make an id: %w", err)
		}
		if err := b.insertRefund(ctx, tx, &row); err != nil {
			return err
		}
	}
	if status.rank() <= row.Status.rank() {
		return nil // it is known, or the picture is older
	}
	row.RefundID, row.Status, row.Error = &r.ID, status, string(r.FailureReason)
	if err := b.keepRefundRow(ctx, tx, payment.ID, &row); err != nil {
		return err
	}
	if err := b.moveRefund(ctx, tx, row); err != nil {
		return err
	}
	if err := b.tellRefunded(ctx, tx, row); err != nil {
		return err
	}
	return b.converge(ctx, tx, payment.ID, "refund "+r.ID)
}

// paymentOf finds the payment that a payment intent or a charge is of. One that should be here and is not yet, because
// its event is still on its way, is an error, so that this is tried again.
func (b *Billing) paymentOf(ctx context.Context, tx *sqlx.Tx, intent *stripe.PaymentIntent, charge *stripe.Charge) (p paymentRow, found bool, err error) {
	intentID, chargeID := "", ""
	if intent != nil {
		intentID = intent.ID
	}
	if charge != nil {
		chargeID = charge.ID
	}
	if p, found, err = b.paymentTx(ctx, tx, `intent_id = ?`, intentID); found || err != nil {
		return p, found, err
	}
	if p, found, err = b.paymentTx(ctx, tx, `charge_id = ? AND charge_id <> ''`, chargeID); found || err != nil {
		return p, found, err
	}
	if intent != nil && (intent.Metadata["checkout"] != "" || intent.Metadata[topUpKey] != "" || intent.Invoice != nil) {
		var customers []string
		if intent.Customer != nil {
			if err := b.db.SelectTx(ctx, tx, &customers, `SELECT account_id FROM qs_billing_customers WHERE customer_id = ?`, intent.Customer.ID); err != nil {
				return p, false, fmt.Errorf("billing: account of customer %s: %w", intent.Customer.ID, err)
			}
		}
		if len(customers) > 0 {
			return p, false, fmt.Errorf("billing: the payment of intent %s is not known yet", intentID)
		}
	}
	b.cfg.Logger.InfoContext(ctx, "charge is not ours", slog.String("intent", intentID), slog.String("charge", chargeID))
	return p, false, nil
}

func refundStatus(s stripe.RefundStatus) RefundStatus {
	switch s {
	case stripe.RefundStatusSucceeded:
		return RefundSucceeded
	case stripe.RefundStatusFailed:
		return RefundFailed
	case stripe.RefundStatusCanceled:
		return RefundCanceled
	default: // requires_action too: the money is on its way as soon as the person has answered
		return RefundPending
	}
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
	const insert = `INSERT INTO qs_billing_refunds (` + refundColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
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
	if r.Status == RefundRequested {
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

// keepRefundRow writes or changes the refund's line in the history of payments.
func (b *Billing) keepRefundRow(ctx context.Context, tx *sqlx.Tx, payment uuid.UUID, r *refundRow) error {
	status := map[RefundStatus]PaymentStatus{RefundPending: PaymentPending, RefundSucceeded: PaymentSucceeded, RefundFailed: PaymentFailed, RefundCanceled: PaymentCanceled}[r.Status]
	if r.RowID != nil {
		line, found, err := b.paymentTx(ctx, tx, `id = ?`, *r.RowID)
		if err != nil || !found {
			return err
		}
		line.Status = status
		return b.updatePayment(ctx, tx, line)
	}
	of, _, err := b.paymentTx(ctx, tx, `id = ?`, payment)
	if err != nil {
		return err
	}
	line, err := b.insertPayment(ctx, tx, paymentRow{Account: r.Account, Type: TypeRefund, Status: status, Amount: -r.Amount, Currency: r.Currency,
		Description: "Refund of " + of.Receipt, ChargeID: of.ChargeID, SubscriptionID: of.SubscriptionID})
	r.RowID = &line.ID
	return err
}
