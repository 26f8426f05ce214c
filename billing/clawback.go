package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
)

// clawback is what of granted credits has to be taken back when gone of paid money went back: in proportion, rounded up
// to a millionth, so that what is kept is never more than the money that stayed bought.
func clawback(granted credits.Amount, gone, paid int64) credits.Amount {
	if gone <= 0 || paid <= 0 {
		return 0
	}
	taken := new(big.Int).Mul(big.NewInt(int64(granted)), big.NewInt(min(gone, paid)))
	taken.Add(taken, big.NewInt(paid-1))
	return credits.Amount(taken.Quo(taken, big.NewInt(paid)).Int64())
}

// converge brings a payment and its credits to what its refunds and disputes say by now, whatever they said before and
// in whichever order it was heard: the credits that are taken back move to a target, both ways. The account is locked.
func (b *Billing) converge(ctx context.Context, tx *sqlx.Tx, id uuid.UUID, because string) error {
	p, found, err := b.paymentTx(ctx, tx, `id = ?`, id)
	if err != nil || !found {
		return err
	}
	var gone struct {
		Refunded int64 `db:"refunded"`
		Disputed int64 `db:"disputed"`
	}
	const sums = `SELECT
		(SELECT COALESCE(SUM(amount), 0) FROM qs_billing_refunds WHERE payment_id = ? AND status IN ('pending', 'succeeded')) AS refunded,
		(SELECT COALESCE(SUM(amount), 0) FROM qs_billing_disputes WHERE payment_id = ? AND status IN ('needs_response', 'under_review', 'lost')) AS disputed`
	if err := b.db.GetTx(ctx, tx, &gone, sums, id, id); err != nil {
		return fmt.Errorf("billing: what went back of payment %s: %w", id, err)
	}
	p.Refunded, p.Disputed = min(gone.Refunded, p.Amount), min(gone.Disputed, p.Amount-min(gone.Refunded, p.Amount))
	switch {
	case p.Refunded == 0:
		p.Status = PaymentSucceeded
	case p.Refunded < p.Amount:
		p.Status = PaymentPartiallyRefunded
	default:
		p.Status = PaymentRefunded
	}
	target := clawback(p.Credits, p.Refunded+p.Disputed, p.Amount)
	take, err := b.toTake(ctx, tx, p, target)
	if err != nil {
		return err
	}
	from := p
	if b.expired(p) {
		from.CreditsExpire = nil // what comes back was taken from elsewhere
	}
	if err := b.moveCredits(ctx, tx, from, take, because); err != nil {
		return err
	}
	p.Clawed = target
	return b.updatePayment(ctx, tx, p)
}

// expired tells that what a payment bought does not count any more.
func (b *Billing) expired(p paymentRow) bool {
	return p.CreditsExpire != nil && !p.CreditsExpire.After(b.now())
}

// toTake is what has to be taken of an account for a payment's clawed credits to reach a target; below zero it comes back.
// What has expired unused is gone already, and does not come back.
func (b *Billing) toTake(ctx context.Context, tx *sqlx.Tx, p paymentRow, target credits.Amount) (credits.Amount, error) {
	if target == p.Clawed || !b.expired(p) {
		return target - p.Clawed, nil
	}
	used, err := b.used(ctx, tx, p)
	if err != nil {
		return 0, err
	}
	return max(0, target-(p.Credits-used)) - max(0, p.Clawed-(p.Credits-used)), nil
}

// moveCredits takes credits of a payment back, or gives them back below zero.
func (b *Billing) moveCredits(ctx context.Context, tx *sqlx.Tx, p paymentRow, take credits.Amount, because string) (err error) {
	metadata := map[string]string{"because": because, "payment": p.ID.String()}
	switch {
	case take == 0:
		return nil
	case take > 0:
		_, err = b.cfg.Ledger.RevokeTx(ctx, tx, credits.RevokeParams{
			Account: p.Account, Amount: take, Grant: *p.EntryID, IntoDebt: true, Reason: "Money back: " + p.Description, Reference: p.Receipt, Metadata: metadata,
		})
	default:
		source := credits.Purchase
		if p.CreditsExpire != nil {
			source = credits.Subscription
		}
		_, err = b.cfg.Ledger.GrantTx(ctx, tx, credits.GrantParams{
			Account: p.Account, Amount: -take, Source: source, ExpiresAt: p.CreditsExpire.Std(), Reason: "Money not back: " + p.Description, Reference: p.Receipt, Metadata: metadata,
		})
	}
	if errors.Is(err, credits.ErrErased) || errors.Is(err, credits.ErrAlreadyExpired) {
		// There is nobody, or nothing any more, to take from or give to.
		b.cfg.Logger.WarnContext(ctx, "credits cannot follow the money", slog.String("payment", p.ID.String()), slog.Any("error", err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("billing: credits of payment %s: %w", p.ID, err)
	}
	return nil
}
