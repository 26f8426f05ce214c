package billing_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// write runs one statement in a transaction of its own.
func (s *shop) write(query string, args ...any) {
	s.t.Helper()
	assert.NoError(s.t, s.db.InTx(s.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := s.db.ExecTx(ctx, tx, query, args...)
		return err
	}))
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// The sums by day are those of all payments, whatever happened to the payments and in which order, also at once.
func TestFigures_OfDaysAreTheFullSums(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		s := newShop(t, db)
		begin := time.Date(2026, 1, 30, 0, 0, 0, 0, time.UTC)
		const workers, steps = 4, 60
		var all sync.WaitGroup
		for w := range workers {
			all.Go(func() {
				r := rand.New(rand.NewPCG(7, uint64(w)))
				var made []uuid.UUID
				for range steps {
					status := pick(r, billing.PaymentPending, billing.PaymentSucceeded, billing.PaymentFailed, billing.PaymentCanceled, billing.PaymentPartiallyRefunded, billing.PaymentRefunded)
					if len(made) > 0 && r.IntN(2) == 0 {
						s.write(`UPDATE qs_billing_payments SET status = ?, credits = ?, updated_at = ? WHERE id = ?`, status, r.IntN(5), database.At(begin), pick(r, made...))
						continue
					}
					id := uuid.Must(uuid.NewV7())
					amount, kind := int64(r.IntN(10_000)), pick(r, billing.TypePurchase, billing.TypeSubscription, billing.TypeRefund)
					if kind == billing.TypeRefund {
						amount = -amount
					}
					at := database.At(begin.Add(time.Duration(r.IntN(4*24)) * time.Hour))
					// As payments are written: what has the same number does nothing.
					s.write(`INSERT INTO qs_billing_payments (id, account_id, type, status, amount, currency, credits, description, receipt_number, created_at, updated_at)
						VALUES (?, 'ada', ?, ?, ?, ?, ?, 'x', ?, ?, ?) ON CONFLICT (receipt_number) DO NOTHING`,
						id, kind, status, amount, pick(r, "usd", "eur"), r.IntN(5), fmt.Sprintf("RCP-%d-%d", w, r.IntN(50)), at, at)
					made = append(made, id)
				}
			})
		}
		all.Wait()
		payments, more, err := s.Payments(t.Context(), billing.PaymentsParams{Limit: billing.MaxPage})
		require.NoError(t, err)
		require.False(t, more)
		require.NotEmpty(t, payments)
		days, months := map[string]billing.DayFigures{}, map[string]billing.DayFigures{}
		add := func(to map[string]billing.DayFigures, day string, p billing.Payment) {
			f := to[day+p.Price.Currency]
			f.Day, f.Currency = day, p.Price.Currency
			switch {
			case p.Type == billing.TypeRefund && (p.Status == billing.PaymentPending || p.Status == billing.PaymentSucceeded):
				f.Refunded, f.Refunds = f.Refunded-p.Price.Amount, f.Refunds+1
			case p.Type != billing.TypeRefund && p.Kept():
				f.Paid, f.Payments, f.Credits = f.Paid+p.Price.Amount, f.Payments+1, f.Credits+int64(p.Credits)
			}
			to[day+p.Price.Currency] = f
		}
		for _, p := range payments {
			add(days, p.CreatedAt.Format(time.DateOnly), p)
			add(months, p.CreatedAt.Format("2006-01"), p)
		}
		figures, err := s.Figures(t.Context(), billing.FiguresParams{From: begin, MonthsFrom: begin})
		require.NoError(t, err)
		for want, got := range map[*map[string]billing.DayFigures][]billing.DayFigures{&days: figures.Days, &months: figures.Months} {
			byKey := map[string]billing.DayFigures{}
			for _, f := range got {
				byKey[f.Day+f.Currency] = f
			}
			assert.Equal(t, *want, byKey)
			assert.True(t, slices.IsSortedFunc(got, func(a, b billing.DayFigures) int {
				return slices.Compare([]string{a.Day, a.Currency}, []string{b.Day, b.Currency})
			}))
		}
		figures, err = s.Figures(t.Context(), billing.FiguresParams{From: begin.AddDate(0, 0, 2), MonthsFrom: begin.AddDate(0, 1, 0)})
		require.NoError(t, err)
		for _, f := range figures.Days {
			assert.GreaterOrEqual(t, f.Day, "2026-02-01")
		}
	})
}

// What is paid in a month is the sum of what moved, and the sum over all plans, after any history.
func TestFigures_OfPlansAreTheFullSums(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		s := newShop(t, db)
		r := rand.New(rand.NewPCG(11, 13))
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		// A month's worth of each, at a quantity of 1.
		prices := map[string]int64{"p_month": 1000, "p_year": 1000, "p_quarter": 1000, "p_week": 1083, "p_euro": 700, "p_late": 500}
		price := func(id, currency, interval string, unit, count int64) {
			s.write(`INSERT INTO qs_billing_prices (id, product_id, active, currency, unit_amount, interval, interval_count, updated_at) VALUES (?, 'prod', TRUE, ?, ?, ?, ?, ?)`,
				id, currency, unit, interval, count, database.At(at))
		}
		price("p_month", "usd", "month", 1000, 1)
		price("p_year", "usd", "year", 12_000, 1)
		price("p_quarter", "usd", "month", 3000, 3)
		price("p_week", "usd", "week", 250, 1)
		price("p_euro", "eur", "month", 700, 1)
		type plan struct {
			status, price, pause string
			quantity             int64
		}
		plans := map[string]plan{}
		for step := range 250 {
			at = at.Add(5 * time.Hour)
			account := fmt.Sprintf("a%d", r.IntN(12))
			p := plan{pick(r, "active", "active", "past_due", "canceled", "trialing", "unpaid"), pick(r, slices.Sorted(maps.Keys(prices))...), pick(r, "", "", "", "void"), int64(1 + r.IntN(3))}
			s.write(`INSERT INTO qs_billing_subscriptions (account_id, subscription_id, customer_id, item_id, status, price_id, quantity, currency, period_start, period_end,
					cancel_at_period_end, pause_behavior, version, created_at, updated_at) VALUES (?, ?, 'cus', 'si', ?, ?, ?, 'usd', ?, ?, FALSE, ?, 1, ?, ?)
				ON CONFLICT (account_id) DO UPDATE SET status = excluded.status, price_id = excluded.price_id, quantity = excluded.quantity,
					pause_behavior = excluded.pause_behavior, updated_at = excluded.updated_at`,
				account, "sub_"+account, p.status, p.price, p.quantity, database.At(at), database.At(at), p.pause, database.At(at), database.At(at))
			plans[account] = p
			if step == 200 {
				price("p_late", "usd", "month", 500, 1)
			}
			if r.IntN(3) == 0 {
				_, err := s.FollowPlans(t.Context())
				require.NoError(t, err)
			}
		}
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				_, err := s.FollowPlans(t.Context())
				assert.NoError(t, err)
			})
		}
		all.Wait()
		want, subscribers := map[string]int64{}, map[string]int64{}
		for _, p := range plans {
			currency := "usd"
			if p.price == "p_euro" {
				currency = "eur"
			}
			if (p.status == "active" || p.status == "past_due") && p.pause == "" {
				amount := prices[p.price] * p.quantity
				if p.price == "p_week" {
					amount = (2*250*52*p.quantity + 12) / 24
				}
				want[currency] += amount
				subscribers[currency]++
			}
		}
		figures, err := s.Figures(t.Context(), billing.FiguresParams{From: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
		require.NoError(t, err)
		moved, seen := map[string]int64{}, map[billing.Movement]bool{}
		for _, m := range figures.Movements {
			moved[m.Currency] += m.Amount
			seen[m.Movement] = true
			assert.Equal(t, m.Amount < 0, m.Movement == billing.MovementChurn || m.Movement == billing.MovementContraction, "%+v", m)
		}
		assert.Len(t, seen, 5, "the history has every movement")
		for _, m := range figures.MRR {
			assert.Equal(t, want[m.Monthly.Currency], m.Monthly.Amount, m.Monthly.Currency)
			assert.Equal(t, want[m.Monthly.Currency], moved[m.Monthly.Currency], m.Monthly.Currency)
			assert.Equal(t, subscribers[m.Monthly.Currency], m.Subscribers, m.Monthly.Currency)
		}
		assert.Len(t, figures.MRR, 2)
		n, err := s.FollowPlans(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n)
	})
}
