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
		(SELECT COALESCE(SUM(CASE WHEN currency = ? THEN amount ELSE ? END), 0) FROM qs_billing_disputes WHERE payment_id = ? AND status IN ('needs_response', 'under_review', 'lost')) AS disputed`
	// Stripe may reckon a dispute in the currency of the bank: then it counts for the whole payment.
	if err := b.db.GetTx(ctx, tx, &gone, sums, id, p.Currency, p.Amount, id); err != nil {
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
	m, err := b.movement(ctx, tx, p, target)
	if err != nil {
		return err
	}
	if err := b.moveCredits(ctx, tx, p, m, because); err != nil {
		return err
	}
	p.Clawed = target
	return b.updatePayment(ctx, tx, p)
}

// expired tells that what a payment bought does not count any more.
func (b *Billing) expired(p paymentRow) bool {
	return p.CreditsExpire != nil && (p.EntryID == nil || !p.CreditsExpire.After(b.now()))
}

// movement is what happens to an account's credits when what was taken because of a payment moves to a target.
type movement struct {
	// take goes: the payment's own credits first, then others of the account, and what they cannot cover is owed.
	take credits.Amount
	// own comes back with the expiry that it had.
	own credits.Amount
	// other comes back for good: it was taken from other credits, or was owed.
	other credits.Amount
}

// movement reckons what has to happen. What was used of a payment's credits was not taken of them, but of others, and what has
// expired unused is gone already and does not come back.
func (b *Billing) movement(ctx context.Context, tx *sqlx.Tx, p paymentRow, target credits.Amount) (m movement, err error) {
	expired := b.expired(p)
	switch {
	case target == p.Clawed:
		return m, nil
	case target > p.Clawed && !expired:
		return movement{take: target - p.Clawed}, nil
	case p.CreditsExpire == nil:
		return movement{other: p.Clawed - target}, nil
	}
	used, err := b.used(ctx, tx, p)
	if err != nil {
		return m, err
	}
	unused := p.Credits - used
	m.other = max(0, p.Clawed-unused) - max(0, target-unused)
	if target > p.Clawed {
		return movement{take: -m.other}, nil
	}
	if !expired {
		m.own = p.Clawed - target - m.other
	}
	return m, nil
}

// moveCredits carries a movement out.
func (b *Billing) moveCredits(ctx context.Context, tx *sqlx.Tx, p paymentRow, m movement, because string) error {
	metadata := map[string]string{"because": because, "payment": p.ID.String()}
	if m.take > 0 {
		_, err := b.cfg.Ledger.RevokeTx(ctx, tx, credits.RevokeParams{
			Account: p.Account, Amount: m.take, Grant: *p.EntryID, IntoDebt: true, Reason: "Money back: " + p.Description, Reference: p.Receipt, Metadata: metadata,
		})
		if err := b.follows(ctx, p, err); err != nil {
			return err
		}
	}
	back := credits.GrantParams{Account: p.Account, Reason: "Money not back: " + p.Description, Reference: p.Receipt, Metadata: metadata}
	if m.other > 0 {
		back.Amount, back.Source = m.other, credits.Purchase
		_, err := b.cfg.Ledger.GrantTx(ctx, tx, back)
		if err := b.follows(ctx, p, err); err != nil {
			return err
		}
	}
	if m.own > 0 {
		back.Amount, back.Source, back.ExpiresAt = m.own, credits.Subscription, p.CreditsExpire.Std()
		entry, err := b.cfg.Ledger.GrantTx(ctx, tx, back)
		if err != nil {
			return b.follows(ctx, p, err)
		}
		if _, err := b.db.ExecTx(ctx, tx, `INSERT INTO qs_billing_payment_grants (entry_id, payment_id) VALUES (?, ?)`, entry.ID, p.ID); err != nil {
			return fmt.Errorf("billing: keep the grant of payment %s: %w", p.ID, err)
		}
	}
	return nil
}

// follows makes an error of a movement that did not come about. There may be nobody, or nothing any more, to take from or
// give to.
func (b *Billing) follows(ctx context.Context, p paymentRow, err error) error {
	if errors.Is(err, credits.ErrErased) || errors.Is(err, credits.ErrAlreadyExpired) {
		b.cfg.Logger.WarnContext(ctx, "credits cannot follow the money", slog.String("payment", p.ID.String()), slog.Any("error", err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("billing: credits of payment %s: %w", p.ID, err)
	}
	return nil
}

// grantsOf are the ledger's entries that granted a payment's credits: the first one, and those that gave them back.
func (b *Billing) grantsOf(ctx context.Context, tx *sqlx.Tx, p paymentRow) ([]uuid.UUID, error) {
	var back []uuid.UUID
	if err := b.db.SelectTx(ctx, tx, &back, `SELECT entry_id FROM qs_billing_payment_grants WHERE payment_id = ? ORDER BY entry_id`, p.ID); err != nil {
		return nil, fmt.Errorf("billing: grants of payment %s: %w", p.ID, err)
	}
	if p.EntryID == nil { // its credits had expired before they were granted
		return back, nil
	}
	return append([]uuid.UUID{*p.EntryID}, back...), nil
}

// used is what of a payment's credits was used, also of those that were taken back and came back.
func (b *Billing) used(ctx context.Context, tx *sqlx.Tx, p paymentRow) (sum credits.Amount, err error) {
	grants, err := b.grantsOf(ctx, tx, p)
	if err != nil {
		return 0, err
	}
	for _, grant := range grants {
		used, err := b.cfg.Ledger.UsedTx(ctx, tx, p.Account, grant)
		if err != nil {
			return 0, fmt.Errorf("billing: what was used of payment %s: %w", p.ID, err)
		}
		sum += used
	}
	return min(sum, p.Credits), nil
}
