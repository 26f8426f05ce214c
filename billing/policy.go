package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

// CreditPolicy is what becomes of a plan's credits when the plan changes at once. Under every policy a change grants no
// more than what was paid for it buys at the new plan's rate, so that going back and forth between plans yields nothing
// that was not paid for. docs/stripe.md has the policies with examples.
type CreditPolicy string

// The policies. "What was paid" is what the invoice of the change asks for the plans: the new one's share of the period
// less what the old one's unused share was worth, before discounts and taxes; its credits are new plan's credits × what
// was paid ÷ new plan's price, rounded down to a millionth.
const (
	// TransferRemaining makes what is left of the old plan's credits pay-as-you-go credits, which never expire, and grants
	// the credits of what was paid.
	TransferRemaining CreditPolicy = "transfer_remaining"
	// KeepUntilPeriodEnd leaves the old plan's credits until they expire, and grants the credits of what was paid.
	KeepUntilPeriodEnd CreditPolicy = "keep_until_period_end"
	// Expire takes what is left of the old plan's credits, and grants the credits of what was paid.
	Expire CreditPolicy = "expire"
	// Prorate leaves the old plan's credits until they expire, and grants the difference of the two plans' credits for the
	// rest of the period, but no more than the credits of what was paid.
	Prorate CreditPolicy = "prorate"
)

func (p CreditPolicy) valid() bool {
	switch p {
	case TransferRemaining, KeepUntilPeriodEnd, Expire, Prorate:
		return true
	}
	return false
}

// changeSum is what an invoice asks for a change of plan.
type changeSum struct {
	net     int64 // what was paid for the new plan less what the old one's rest was worth
	gained  int64 // for the new plan
	lost    int64 // for the old plan's rest, above zero
	line    *stripe.InvoiceLineItem
	oldLine *stripe.InvoiceLineItem // nil where nothing of the old plan was left
}

// sumChange adds up the lines of an invoice that are about plans; false when none is for a new one.
func sumChange(inv *stripe.Invoice) (changeSum, bool) {
	var c changeSum
	for _, line := range linesOf(inv) {
		if line.Price == nil || line.Price.Recurring == nil || line.Type != stripe.InvoiceLineItemTypeSubscription && !line.Proration {
			continue
		}
		c.net += line.Amount
		if line.Amount < 0 {
			c.lost -= line.Amount
			c.oldLine = line
		} else {
			c.gained += line.Amount
			c.line = line
		}
	}
	return c, c.line != nil
}

// changeGrant reckons what a change gives under a policy.
func changeGrant(policy CreditPolicy, c changeSum, to, from Offer, toQuantity, fromQuantity int64) credits.Amount {
	price, worth := big.NewInt(to.Price.Amount*toQuantity), big.NewInt(int64(to.Credits)*toQuantity)
	if price.Sign() <= 0 || c.net <= 0 {
		return 0
	}
	paid := share(worth, big.NewInt(c.net), price)
	if paid.Cmp(worth) > 0 {
		paid = worth
	}
	if policy == Prorate && from.Price.Amount > 0 {
		diff := share(worth, big.NewInt(c.gained), price)
		diff.Sub(diff, share(big.NewInt(int64(from.Credits)*fromQuantity), big.NewInt(c.lost), big.NewInt(from.Price.Amount*fromQuantity)))
		if diff.Cmp(paid) < 0 {
			paid = diff
		}
	}
	return credits.Amount(max(0, paid.Int64()))
}

// share is whole × part ÷ of, rounded down.
func share(whole, part, of *big.Int) *big.Int {
	s := new(big.Int).Mul(whole, part)
	return s.Quo(s, of)
}

// changeOf reckons the grant of a paid invoice for a change of plan.
func (b *Billing) changeOf(ctx context.Context, tx *sqlx.Tx, inv *stripe.Invoice) (grant, error) {
	c, ok := sumChange(inv)
	if !ok {
		return grant{}, nil
	}
	to, err := b.offerTx(ctx, tx, c.line.Price.ID)
	if err != nil {
		return grant{}, err
	}
	var from Offer
	var fromQuantity int64
	if c.oldLine != nil {
		if from, err = b.offerTx(ctx, tx, c.oldLine.Price.ID); err != nil {
			return grant{}, err
		}
		fromQuantity = c.oldLine.Quantity
	}
	return grant{amount: changeGrant(b.cfg.Policy, c, to, from, c.line.Quantity, fromQuantity), expires: periodEnd(inv, c.line, to), reason: "Change to " + to.Name}, nil
}

// applyPolicy deals with what is left of the old plan's credits when the plan changed, which may be a while ago. key is
// the occasion's.
func (b *Billing) applyPolicy(ctx context.Context, tx *sqlx.Tx, account, reference, key string, at time.Time) error {
	switch b.cfg.Policy {
	case TransferRemaining:
		done, err := b.cfg.Ledger.TransferTx(ctx, tx, credits.TransferParams{
			Account: account, From: credits.Subscription, Into: credits.Purchase, All: true, Reason: "Plan change: credits that were left", Reference: reference,
			IdempotencyKey: key + ":transfer",
		})
		if errors.Is(err, credits.ErrFrozen) {
			// Nothing moves in a frozen account; what is left stays as it is until it expires.
			b.cfg.Logger.WarnContext(ctx, "credits of a frozen account are not transferred", slog.String("account", account), slog.String("reference", reference))
			return nil
		}
		if err != nil {
			return fmt.Errorf("billing: transfer for %s: %w", reference, err)
		}
		if done.In.ID != uuid.Nil {
			// They expire no more, and what money that goes back takes of them is taken where they are now.
			const moved = `UPDATE qs_billing_payments SET entry_id = ?, credits_expire = NULL WHERE account_id = ? AND credits_expire > ? AND entry_id IS NOT NULL`
			if _, err := b.db.ExecTx(ctx, tx, moved, done.In.ID, account, database.At(b.now())); err != nil {
				return fmt.Errorf("billing: transfer for %s: %w", reference, err)
			}
		}
		return b.transferLapsed(ctx, tx, account, reference, key, at)
	case Expire:
		return b.expireRest(ctx, tx, account, reference, key)
	case KeepUntilPeriodEnd, Prorate:
	}
	return nil
}

// transferLapsed makes up for a change that we hear of late: what was left when the plan changed, and has expired since, is
// granted for good.
func (b *Billing) transferLapsed(ctx context.Context, tx *sqlx.Tx, account, reference, key string, at time.Time) error {
	var rows []paymentRow
	const find = `SELECT ` + paymentColumns + ` FROM qs_billing_payments WHERE account_id = ? AND credits_expire > ? AND credits_expire <= ? AND credits > clawed ORDER BY id`
	if err := b.db.SelectTx(ctx, tx, &rows, find, account, database.At(at), database.At(b.now())); err != nil {
		return fmt.Errorf("billing: plan credits of account %s: %w", account, err)
	}
	for _, p := range rows {
		used, err := b.used(ctx, tx, p)
		if err != nil {
			return err
		}
		left := p.Credits - p.Clawed - used
		if left <= 0 {
			continue
		}
		entry, err := b.cfg.Ledger.GrantTx(ctx, tx, credits.GrantParams{
			Account: account, Amount: left, Source: credits.Purchase, Reason: "Plan change: credits that were left", Reference: reference,
			IdempotencyKey: key + ":lapsed:" + p.ID.String(),
		})
		if err != nil {
			return fmt.Errorf("billing: credits that were left of payment %s: %w", p.ID, err)
		}
		p.EntryID, p.CreditsExpire = &entry.ID, nil
		if err := b.updatePayment(ctx, tx, p); err != nil {
			return err
		}
	}
	return nil
}

// expireRest takes what is left of the plan's credits that have not expired.
func (b *Billing) expireRest(ctx context.Context, tx *sqlx.Tx, account, reference, key string) error {
	var rows []paymentRow
	const find = `SELECT ` + paymentColumns + ` FROM qs_billing_payments
		WHERE account_id = ? AND credits_expire > ? AND entry_id IS NOT NULL AND credits > clawed ORDER BY id`
	if err := b.db.SelectTx(ctx, tx, &rows, find, account, database.At(b.now())); err != nil {
		return fmt.Errorf("billing: plan credits of account %s: %w", account, err)
	}
	for _, p := range rows {
		grants, err := b.grantsOf(ctx, tx, p)
		if err != nil {
			return err
		}
		for _, grant := range grants {
			_, err := b.cfg.Ledger.RevokeTx(ctx, tx, credits.RevokeParams{
				Account: account, Amount: p.Credits - p.Clawed, Grant: grant, Reason: "Plan change: the old plan's credits end", Reference: reference,
				IdempotencyKey: key + ":expire:" + grant.String(),
			})
			if err != nil {
				return fmt.Errorf("billing: end the credits of payment %s: %w", p.ID, err)
			}
		}
	}
	return nil
}

// orders of plans: a change is an upgrade when the new plan costs more for each period and its periods are not shorter.
func isUpgrade(from, to Offer) bool {
	return to.days() >= from.days() && to.Price.Amount > from.Price.Amount
}

// previewLife is how long the amount of a preview can be agreed to.
const previewLife = time.Hour
