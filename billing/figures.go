package billing

import (
	"context"
	"fmt"
	"time"
)

// DayFigures are what was paid and paid back in one currency on one day.
type DayFigures struct {
	// Day is in UTC, as 2026-03-01, or a month, as 2026-03.
	Day      string `db:"day"      json:"day"`
	Currency string `db:"currency" json:"currency"`
	// Paid and Refunded are minor units. A payment counts on the day on which it was made, also when it came to succeed later;
	// a refund on its own day, from when it is on its way.
	Paid     int64 `db:"paid"     json:"paid"`
	Payments int64 `db:"payments" json:"payments"`
	Refunded int64 `db:"refunded" json:"refunded"`
	Refunds  int64 `db:"refunds"  json:"refunds"`
	// Credits are millionths of a credit that were sold.
	Credits int64 `db:"credits" json:"credits_micro"`
}

// Revenue is what was paid less what was paid back.
func (d DayFigures) Revenue() Money { return Money{d.Paid - d.Refunded, d.Currency} }

// MovementFigures are how what is paid for plans moved.
type MovementFigures struct {
	// Day is in UTC, as 2026-03-01.
	Day      string   `db:"day"      json:"day"`
	Currency string   `db:"currency" json:"currency"`
	Movement Movement `db:"movement" json:"movement"`
	// Amount is minor units a month, below zero for contraction and churn.
	Amount int64 `db:"amount" json:"amount"`
	// Accounts is how many moved.
	Accounts int64 `db:"accounts" json:"accounts"`
}

// MRR is what is paid for plans in a month, in one currency.
type MRR struct {
	Monthly Money `json:"monthly"`
	// Subscribers is how many accounts pay it.
	Subscribers int64 `json:"subscribers"`
}

// FiguresParams choose days and months.
type FiguresParams struct {
	// From is the first day, and MonthsFrom the first month.
	From, MonthsFrom time.Time
}

// Figures are sums of payments and plans.
type Figures struct {
	// Days are those from the first one on, Months those from the first one on; each in order, and only those in which something happened.
	Days      []DayFigures      `json:"days"`
	Months    []DayFigures      `json:"months"`
	Movements []MovementFigures `json:"movements"`
	// MRR is as it is now, by currency.
	MRR []MRR `json:"mrr"`
	// PastDue is how many plans have a renewal that was not paid.
	PastDue int64 `json:"past_due"`
}

// Figures returns sums by day and month. It reads what is kept by day, whatever the number of payments and plans.
func (b *Billing) Figures(ctx context.Context, p FiguresParams) (f Figures, err error) {
	f = Figures{Days: []DayFigures{}, Months: []DayFigures{}, Movements: []MovementFigures{}, MRR: []MRR{}}
	const sums = `CAST(SUM(paid) AS BIGINT) AS paid, CAST(SUM(payments) AS BIGINT) AS payments, CAST(SUM(refunded) AS BIGINT) AS refunded,
		CAST(SUM(refunds) AS BIGINT) AS refunds, CAST(SUM(credits) AS BIGINT) AS credits FROM qs_billing_days WHERE day >= ? `
	const days = `SELECT day, currency, ` + sums + `GROUP BY day, currency ORDER BY day, currency`
	if err := b.db.Select(ctx, &f.Days, days, p.From.UTC().Format(time.DateOnly)); err != nil {
		return f, fmt.Errorf("billing: sums of days: %w", err)
	}
	const months = `SELECT substr(day, 1, 7) AS day, currency, ` + sums + `GROUP BY substr(day, 1, 7), currency ORDER BY 1, 2`
	if err := b.db.Select(ctx, &f.Months, months, p.MonthsFrom.UTC().Format("2006-01")); err != nil {
		return f, fmt.Errorf("billing: sums of months: %w", err)
	}
	const movements = `SELECT day, currency, movement, amount, accounts FROM qs_billing_mrr_days WHERE day >= ? ORDER BY day, currency, movement`
	if err := b.db.Select(ctx, &f.Movements, movements, p.From.UTC().Format(time.DateOnly)); err != nil {
		return f, fmt.Errorf("billing: movements of plans: %w", err)
	}
	var now []struct {
		Currency    string `db:"currency"`
		Amount      int64  `db:"amount"`
		Subscribers int64  `db:"subscribers"`
	}
	const monthly = `SELECT currency, CAST(SUM(amount) AS BIGINT) AS amount, CAST(SUM(CASE WHEN movement IN ('new', 'reactivation') THEN accounts
			WHEN movement = 'churn' THEN -accounts ELSE 0 END) AS BIGINT) AS subscribers
		FROM qs_billing_mrr_days GROUP BY currency ORDER BY currency`
	if err := b.db.Select(ctx, &now, monthly); err != nil {
		return f, fmt.Errorf("billing: monthly revenue of plans: %w", err)
	}
	for _, m := range now {
		f.MRR = append(f.MRR, MRR{Money{m.Amount, m.Currency}, m.Subscribers})
	}
	// Runs along qs_billing_subscriptions_status.
	if err := b.db.Get(ctx, &f.PastDue, `SELECT COUNT(*) FROM qs_billing_subscriptions WHERE status = 'past_due'`); err != nil {
		return f, fmt.Errorf("billing: plans with an unpaid renewal: %w", err)
	}
	return f, nil
}
