package billing

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/webhook"
)

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
