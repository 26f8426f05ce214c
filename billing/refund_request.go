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
)

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
		m, err := b.movement(ctx, tx, p, clawback(p.Credits, min(p.Amount, p.Refunded+p.Disputed+amount), p.Amount))
		if err != nil {
			return err
		}
		preview = RefundPreview{Payment: p.payment(), Amount: Money{amount, p.Currency}, Left: Money{left, p.Currency},
			Credits: m.take.String(), CreditsLeft: (p.Credits - p.Clawed).String()}
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
	params.SetIdempotencyKey(row.key())
	made, err := b.cfg.Stripe.Refunds.New(params)
	if err == nil {
		return b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.saveRefund(ctx, tx, made) })
	}
	failed := stripeError("refund", err)
	if isOutage(err) {
		return errors.Join(failed, b.doubtRefund(ctx, row))
	}
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

// key is the idempotency key of the next try.
func (r refundRow) key() string {
	if r.Generation == 0 {
		return "refund-" + r.ID.String()
	}
	return fmt.Sprintf("refund-%s-%d", r.ID, r.Generation)
}

// refundDoubt is how long Stripe is given to show a refund that it has answered with an error of its own.
const refundDoubt = time.Hour

// doubtRefund notes that Stripe has answered with an error of its own: the next try has a new key, and comes when it is
// plain that the refund was not made.
func (b *Billing) doubtRefund(ctx context.Context, row refundRow) error {
	return b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := b.lockAccount(ctx, tx, row.Account); err != nil {
			return err
		}
		now := b.now()
		n, err := b.db.ExecTx(ctx, tx, `UPDATE qs_billing_refunds SET generation = ?, doubt_until = ?, updated_at = ? WHERE id = ? AND status = 'requested' AND generation = ?`,
			row.Generation+1, database.At(now.Add(refundDoubt)), database.At(now), row.ID, row.Generation)
		if err != nil {
			return fmt.Errorf("billing: doubt refund %s: %w", row.ID, err)
		}
		if n == 0 {
			return nil // its outcome, or another's doubt, came first
		}
		row.UpdatedAt, row.Error = database.At(now), "Stripe answered with an error. Unless it turns out to have refunded, it is asked again in an hour."
		return b.refundStep(ctx, tx, row)
	})
}

// refundKey is the metadata that carries our refund's id.
const refundKey = "refund"

// ResumeRefunds goes on with refunds whose outcome was not recorded within a minute, because the process ended or
// Stripe's answer was lost: it looks whether Stripe has them, and asks for those that it has not, after an error of Stripe's
// own an hour later and under another key. Call it now and then; it returns how many have an outcome now.
func (b *Billing) ResumeRefunds(ctx context.Context) (resumed int, err error) {
	var rows []refundRow
	// Runs along qs_billing_refunds_open.
	const open = `SELECT ` + refundColumns + ` FROM qs_billing_refunds WHERE status = 'requested' AND updated_at < ? ORDER BY updated_at LIMIT 100`
	if err := b.db.Select(ctx, &rows, open, database.At(b.now().Add(-time.Minute))); err != nil {
		return 0, fmt.Errorf("billing: open refunds: %w", err)
	}
	for _, row := range rows {
		ended, one := b.resumeRefund(ctx, row)
		if ended {
			resumed++
		}
		err = errors.Join(err, one)
	}
	return resumed, err
}

func (b *Billing) resumeRefund(ctx context.Context, row refundRow) (ended bool, err error) {
	payment, err := b.anyPayment(ctx, row.Payment)
	if err != nil {
		return false, err
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
			err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return b.saveRefund(ctx, tx, r) })
			return err == nil, err
		}
	}
	if err := refunds.Err(); err != nil {
		return false, stripeError("list refunds", err)
	}
	if row.DoubtUntil != nil && b.now().Before(row.DoubtUntil.Time) {
		return false, nil
	}
	if err := b.askRefund(ctx, row); err != nil && !errors.Is(err, ErrRefundRefused) {
		return false, err
	}
	return true, nil
}
