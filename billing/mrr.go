package billing

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
)

// Movement is how what an account pays for its plan in a month changed.
type Movement string

// The movements. A change of currency is churn in the one and reactivation in the other.
const (
	MovementNew          Movement = "new"          // it paid for none before
	MovementExpansion    Movement = "expansion"    // more
	MovementContraction  Movement = "contraction"  // less
	MovementChurn        Movement = "churn"        // nothing any more
	MovementReactivation Movement = "reactivation" // something again
)

// monthly is what a plan costs in a month, in minor units, rounded to the nearest: a year has 12 months, 52 weeks and 365
// days. Discounts, taxes and prorations do not count: it is the price as it stands in the catalogue.
func monthly(unit, quantity int64, interval string, count int64) int64 {
	per := map[string]int64{"day": 365, "week": 52, "month": 12, "year": 1}[interval]
	if per == 0 || count <= 0 {
		return 0
	}
	year := unit * quantity * per // of count intervals
	return (2*year + 12*count) / (2 * 12 * count)
}

// paying tells that a plan in this status brings revenue. A trial does not yet, and one whose collection is paused does
// not for now; one with an unpaid renewal does until Stripe gives it up.
func paying(status stripe.SubscriptionStatus, pause string) bool {
	return pause == "" && (status == stripe.SubscriptionStatusActive || status == stripe.SubscriptionStatusPastDue)
}

// mrrState is what an account pays in a month. Known is false for one that never paid.
type mrrState struct {
	Currency string `db:"currency"`
	Amount   int64  `db:"amount"`
	Known    bool   `db:"-"`
}

// moved is one movement.
type moved struct {
	currency string
	movement Movement
	amount   int64
}

// movements lead from one state to the next.
func movements(before mrrState, now mrrState) (all []moved) {
	if before.Amount > 0 && now.Amount > 0 && before.Currency != now.Currency {
		return []moved{{before.Currency, MovementChurn, -before.Amount}, {now.Currency, MovementReactivation, now.Amount}}
	}
	by := now.Amount - before.Amount
	switch {
	case by == 0:
		return nil
	case now.Amount == 0:
		return []moved{{before.Currency, MovementChurn, by}}
	case before.Amount == 0 && before.Known:
		return []moved{{now.Currency, MovementReactivation, by}}
	case before.Amount == 0:
		return []moved{{now.Currency, MovementNew, by}}
	case by > 0:
		return []moved{{now.Currency, MovementExpansion, by}}
	default:
		return []moved{{now.Currency, MovementContraction, by}}
	}
}

// mrrBatch is how many changes of plans are followed in one transaction.
const mrrBatch = 200

// FollowPlans brings the figures of plans up to date with the plans that changed since it was last called, and returns
// how many changes there were. Several at once do no harm.
func (b *Billing) FollowPlans(ctx context.Context) (changes int, err error) {
	for {
		n := 0
		err := b.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			n, err = b.followPlans(ctx, tx)
			return err
		})
		changes += n
		if err != nil || n < mrrBatch {
			return changes, err
		}
	}
}

func (b *Billing) followPlans(ctx context.Context, tx *sqlx.Tx) (int, error) {
	var due []struct {
		ID      int64  `db:"id"`
		Account string `db:"account_id"`
	}
	// Each change has a row of its own, and the plans are read after the rows: what changes meanwhile leaves another row.
	query := `SELECT id, account_id FROM qs_billing_mrr_due ORDER BY id LIMIT ?` + b.db.Dialect().ForUpdate()
	if err := b.db.SelectTx(ctx, tx, &due, query, mrrBatch); err != nil {
		return 0, fmt.Errorf("billing: plans that changed: %w", err)
	}
	done := map[string]bool{}
	for _, d := range due {
		if !done[d.Account] {
			if err := b.followPlan(ctx, tx, d.Account); err != nil {
				return 0, err
			}
		}
		done[d.Account] = true
		if _, err := b.db.ExecTx(ctx, tx, `DELETE FROM qs_billing_mrr_due WHERE id = ?`, d.ID); err != nil {
			return 0, fmt.Errorf("billing: note that a plan was followed: %w", err)
		}
	}
	return len(due), nil
}

// followPlan writes how one account's plan moved.
func (b *Billing) followPlan(ctx context.Context, tx *sqlx.Tx, account string) error {
	var plans []struct {
		Status    stripe.SubscriptionStatus `db:"status"`
		Pause     string                    `db:"pause_behavior"`
		Quantity  int64                     `db:"quantity"`
		Unit      int64                     `db:"unit_amount"`
		Currency  string                    `db:"currency"`
		Interval  string                    `db:"interval"`
		Count     int64                     `db:"interval_count"`
		UpdatedAt database.Time             `db:"updated_at"`
	}
	const plan = `SELECT s.status, s.pause_behavior, s.quantity, r.unit_amount, r.currency, r.interval, r.interval_count, s.updated_at
		FROM qs_billing_subscriptions s JOIN qs_billing_prices r ON r.id = s.price_id WHERE s.account_id = ?`
	if err := b.db.SelectTx(ctx, tx, &plans, plan, account); err != nil {
		return fmt.Errorf("billing: plan of account %s: %w", account, err)
	}
	if len(plans) == 0 {
		return nil // its price is not known yet, and comes back when it is
	}
	p := plans[0]
	now := mrrState{Currency: p.Currency}
	if paying(p.Status, p.Pause) {
		now.Amount = monthly(p.Unit, p.Quantity, p.Interval, p.Count)
	}
	var known []mrrState
	if err := b.db.SelectTx(ctx, tx, &known, `SELECT currency, amount FROM qs_billing_mrr WHERE account_id = ?`, account); err != nil {
		return fmt.Errorf("billing: monthly revenue of account %s: %w", account, err)
	}
	var before mrrState
	if len(known) > 0 {
		before = known[0]
		before.Known = true
	}
	moves := movements(before, now)
	if len(moves) == 0 {
		return nil
	}
	const state = `INSERT INTO qs_billing_mrr (account_id, currency, amount) VALUES (?, ?, ?)
		ON CONFLICT (account_id) DO UPDATE SET currency = excluded.currency, amount = excluded.amount`
	if _, err := b.db.ExecTx(ctx, tx, state, account, now.Currency, now.Amount); err != nil {
		return fmt.Errorf("billing: monthly revenue of account %s: %w", account, err)
	}
	const day = `INSERT INTO qs_billing_mrr_days (day, currency, movement, amount, accounts) VALUES (?, ?, ?, ?, 1)
		ON CONFLICT (day, currency, movement) DO UPDATE SET amount = qs_billing_mrr_days.amount + excluded.amount, accounts = qs_billing_mrr_days.accounts + 1`
	for _, m := range moves {
		if _, err := b.db.ExecTx(ctx, tx, day, p.UpdatedAt.Format(time.DateOnly), m.currency, m.movement, m.amount); err != nil {
			return fmt.Errorf("billing: movement of account %s: %w", account, err)
		}
	}
	return nil
}
