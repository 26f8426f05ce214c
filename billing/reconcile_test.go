package billing_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/webhook"
)

// lose makes webhooks get lost, of each with a probability.
func (s *shop) lose(probability float64, seed uint64) {
	s.t.Helper()
	_, err := s.double.Inject(s.t.Context(), stripetest.Fault{Kind: stripetest.FaultLose, Probability: probability, Seed: seed})
	require.NoError(s.t, err)
}

// still waits until the inbox is empty and stays so: lost events are never delivered, so that quiet would wait for good.
func (s *shop) still() {
	s.t.Helper()
	empty := 0
	require.Eventually(s.t, func() bool {
		waiting, _, err := s.inbox.List(s.t.Context(), webhook.ListParams{Status: webhook.StatusReceived})
		if err != nil || len(waiting) > 0 {
			empty = 0
			return false
		}
		empty++
		return empty == 10
	}, 30*time.Second, 30*time.Millisecond)
}

func (s *shop) pass(d time.Duration) {
	s.t.Helper()
	to := s.now().Add(d)
	s.ahead.Store(int64(time.Until(to)))
	require.NoError(s.t, s.double.AdvanceTo(s.t.Context(), to))
}

// No webhook arrives at all, and nobody comes back from Stripe's page.
func TestReconcile_FindsAllThatWasMissedAndRepairsItOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month")
		s.lose(1, 1)
		for _, price := range []string{s.pack.ID, plan.ID} {
			c, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: price})
			require.NoError(t, err)
			_, err = s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
			require.NoError(t, err)
		}
		assert.Equal(t, "0", s.balance())
		report, err := s.Reconcile(t.Context())
		require.NoError(t, err)
		assert.Empty(t, report.Failed)
		assert.True(t, report.Since.IsZero(), "the first run walks everything")
		assert.Len(t, report.Repaired, 4, "two sessions, a subscription and its invoice: %v", report.Repaired)
		assert.Equal(t, "1100.5", s.balance())
		s.same()

		report, err = s.Reconcile(t.Context())
		require.NoError(t, err)
		assert.Empty(t, report.Repaired)
		assert.False(t, report.Since.IsZero())
		assert.NotZero(t, report.Checked)

		pack := s.payments()[len(s.payments())-1]
		for _, p := range s.payments() {
			if p.Type == billing.TypePurchase {
				pack = p
			}
		}
		_, err = s.double.Stripe.Refunds.New(&stripe.RefundParams{Charge: &pack.ChargeID, Amount: stripe.Int64(500)})
		require.NoError(t, err)
		_, err = s.double.OpenDispute(t.Context(), pack.ChargeID, stripetest.DisputeParams{})
		require.NoError(t, err)
		_, err = s.double.Stripe.Subscriptions.Update(s.subscription().ID, &stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(true)})
		require.NoError(t, err)
		report, err = s.Reconcile(t.Context())
		require.NoError(t, err)
		assert.Empty(t, report.Failed)
		assert.Len(t, report.Repaired, 3, "%v", report.Repaired)
		assert.Equal(t, "1000", s.balance())
		assert.True(t, s.same().CancelAtPeriodEnd)

		s.pass(40 * day)
		report, err = s.Reconcile(t.Context())
		require.NoError(t, err)
		assert.True(t, report.Since.IsZero(), "Stripe has forgotten the events of so long ago")
		assert.Equal(t, stripe.SubscriptionStatusCanceled, s.same().Status)
		assert.Equal(t, "0", s.balance())
	})
}

// What failed is told, and looked at again by the next run.
func TestReconcile_WhatFailsIsNotForgotten(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.lose(1, 1)
		c := s.checkout()
		_, err := s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(t, err)
		broken := func(r *http.Request) error {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, c.SessionID) {
				return context.DeadlineExceeded
			}
			return nil
		}
		s.breaks.Store(&broken)
		report, err := s.Reconcile(t.Context())
		require.NoError(t, err)
		require.Len(t, report.Failed, 1)
		assert.Equal(t, c.SessionID, report.Failed[0].ID)
		s.breaks.Store(nil)
		report, err = s.Reconcile(t.Context())
		require.NoError(t, err)
		assert.True(t, report.Since.IsZero())
		assert.Len(t, report.Repaired, 1)
		assert.Equal(t, "100.5", s.balance())

		down := func(*http.Request) error { return context.DeadlineExceeded }
		s.breaks.Store(&down)
		_, err = s.Reconcile(t.Context())
		require.ErrorIs(t, err, billing.ErrStripe)
	})
}

// Half a year of customers, of whose webhooks 30 % get lost and the others come twice and in any order.
func TestReconcile_HalfAYearOfBadDelivery(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		prices := []string{s.plan("Basic", "100", 1000, "month").ID, s.plan("Pro", "400", 3000, "month").ID}
		s.lose(0.3, 7)
		for _, f := range []stripetest.Fault{{Kind: stripetest.FaultDuplicate, Probability: 0.3, Seed: 8}, {Kind: stripetest.FaultReorder, Probability: 0.3, Seed: 9, Delay: 50 * time.Millisecond}} {
			_, err := s.double.Inject(t.Context(), f)
			require.NoError(t, err)
		}
		customers := make([]billing.Customer, 6)
		random := rand.New(rand.NewPCG(1, 2))
		for i := range customers {
			customers[i] = billing.Customer{Account: fmt.Sprintf("c%d", i), Email: fmt.Sprintf("c%d@example.com", i), Verified: true}
			for _, price := range []string{s.pack.ID, prices[i%2]} {
				c, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: customers[i], Price: price})
				require.NoError(t, err)
				_, err = s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
				require.NoError(t, err)
			}
		}
		for range 6 {
			s.still()
			_, err := s.Reconcile(t.Context())
			require.NoError(t, err)
			for _, who := range customers {
				s.me = who
				switch random.IntN(4) {
				case 0:
					_, err = s.ChangePlan(t.Context(), billing.ChangeParams{Account: who.Account, Price: prices[random.IntN(2)]})
				case 1:
					_, err = s.CancelSubscription(t.Context(), who.Account, false)
				case 2:
					_, err = s.ResumeSubscription(t.Context(), who.Account)
				case 3:
					p := s.payments()
					_, err = s.double.Stripe.Refunds.New(&stripe.RefundParams{Charge: &p[len(p)-1].ChargeID, Amount: stripe.Int64(100)})
				}
				if err != nil {
					require.NotErrorIs(t, err, billing.ErrStripe) // refusals are part of life
				}
			}
			s.pass(30*day + 13*time.Hour)
		}
		s.still()
		report, err := s.Reconcile(t.Context())
		require.NoError(t, err)
		require.Empty(t, report.Failed)
		for _, who := range customers {
			s.me = who
			s.same()
			s.checkBooks()
		}
		report, err = s.Reconcile(t.Context())
		require.NoError(t, err)
		assert.Empty(t, report.Repaired, "all is as Stripe has it")
	})
}

// checkBooks compares our payments with the double's charges, and the credits with both.
func (s *shop) checkBooks() {
	s.t.Helper()
	charges := s.double.Stripe.Charges.List(&stripe.ChargeListParams{Customer: stripe.String(s.customer())})
	theirs := map[string][2]int64{}
	for charges.Next() {
		if c := charges.Charge(); c.Paid {
			theirs[c.ID] = [2]int64{c.Amount, c.AmountRefunded}
		}
	}
	require.NoError(s.t, charges.Err())
	ours := map[string][2]int64{}
	for _, p := range s.payments() {
		if p.Kept() && p.Type != billing.TypeRefund {
			ours[p.ChargeID] = [2]int64{p.Price.Amount, p.Refunded}
			if p.Type == billing.TypePurchase {
				want := int64(p.Credits) * p.Refunded / p.Price.Amount
				assert.InDelta(s.t, want, int64(p.Clawed), 1)
			}
		}
	}
	assert.Equal(s.t, theirs, ours, s.me.Account)
}

// customer is the Stripe customer of whom the helpers are about.
func (s *shop) customer() string {
	s.t.Helper()
	sub, err := s.double.Stripe.Subscriptions.Get(s.subscription().ID, nil)
	require.NoError(s.t, err)
	return sub.Customer.ID
}

// A run of a clock that went ahead does not hide what happens until its time comes.
func TestReconcile_AClockThatWentAheadHidesNothing(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		_, err := s.Reconcile(t.Context())
		require.NoError(t, err)
		s.ahead.Store(int64(3 * day))
		_, err = s.Reconcile(t.Context())
		require.NoError(t, err)
		s.ahead.Store(0)
		missed := func() {
			t.Helper()
			s.lose(1, 1)
			c := s.checkout()
			_, err := s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
			require.NoError(t, err)
			require.NoError(t, s.double.RemoveFaults(t.Context()))
		}
		missed()
		report, err := s.Reconcile(t.Context())
		require.NoError(t, err)
		assert.NotEmpty(t, report.Repaired)
		assert.Equal(t, "100.5", s.balance())
		missed()
		s.pass(3*day + 2*time.Hour)
		report, err = s.Reconcile(t.Context())
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now(), report.Since, 2*time.Hour, "the last run of the right clock says where the next begins")
		assert.Equal(t, "201", s.balance())
	})
}
