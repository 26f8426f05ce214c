package billing_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

// books are all rows that a reconciliation may write, so that two states can be compared.
func (s *shop) books() map[string]int {
	s.t.Helper()
	counts := map[string]int{}
	for _, table := range []string{"qs_billing_payments", "qs_billing_subscriptions", "qs_billing_refunds", "qs_billing_refund_steps", "qs_billing_disputes",
		"qs_billing_reconciliations", "qs_credit_entries", "qs_credit_lots"} {
		var n int
		require.NoError(s.t, s.db.Get(s.t.Context(), &n, `SELECT COUNT(*) FROM `+table))
		counts[table] = n
	}
	return counts
}

func TestReconcile_ADryRunTellsWhatARunRepairsAndRepairsNothing(t *testing.T) {
	told := newNotes()
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month")
		s.lose(1, 1)
		for _, price := range []string{s.pack.ID, plan.ID} {
			c, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: price})
			require.NoError(t, err)
			_, err = s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
			require.NoError(t, err)
		}
		before := s.books()
		dry, err := s.ReconcileWith(t.Context(), billing.ReconcileParams{DryRun: true})
		require.NoError(t, err)
		assert.True(t, dry.DryRun)
		assert.Empty(t, dry.Failed)
		assert.Len(t, dry.Repaired, 4, "two sessions, a subscription and its invoice: %v", dry.Repaired)
		assert.Equal(t, before, s.books())
		assert.Equal(t, "0", s.balance())

		repaired, err := s.Reconcile(t.Context())
		require.NoError(t, err)
		assert.Equal(t, dry.Repaired, repaired.Repaired, "the run does what the rehearsal told")
		assert.Equal(t, dry.Checked, repaired.Checked)
		assert.Equal(t, "1100.5", s.balance())

		pack := s.purchase()
		_, err = s.double.Stripe.Refunds.New(&stripe.RefundParams{Charge: &pack.ChargeID, Amount: stripe.Int64(500)})
		require.NoError(t, err)
		_, err = s.double.OpenDispute(t.Context(), pack.ChargeID, stripetest.DisputeParams{})
		require.NoError(t, err)
		before = s.books()
		dry, err = s.ReconcileWith(t.Context(), billing.ReconcileParams{DryRun: true})
		require.NoError(t, err)
		assert.Len(t, dry.Repaired, 2)
		assert.Equal(t, before, s.books())
		assert.Equal(t, "1100.5", s.balance())
		assert.Empty(t, told.kinds(s), "nobody is told of what did not happen")
		repaired, err = s.Reconcile(t.Context())
		require.NoError(t, err)
		assert.Equal(t, dry.Repaired, repaired.Repaired)
		assert.Equal(t, []billing.NoticeKind{billing.NoticeDisputeOpened}, told.kinds(s))

		dry, err = s.ReconcileWith(t.Context(), billing.ReconcileParams{DryRun: true, All: true})
		require.NoError(t, err)
		assert.True(t, dry.Since.IsZero())
		assert.Empty(t, dry.Repaired)
		assert.Empty(t, dry.Failed)

		// An object that cannot be read is told as one that failed, in a rehearsal too.
		broken := func(r *http.Request) error {
			if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v1/disputes/") {
				return context.DeadlineExceeded
			}
			return nil
		}
		s.breaks.Store(&broken)
		dry, err = s.ReconcileWith(t.Context(), billing.ReconcileParams{DryRun: true, All: true})
		require.NoError(t, err)
		require.Len(t, dry.Failed, 1)
		require.ErrorIs(t, dry.Failed[0].Err, context.DeadlineExceeded)
	}, told.watch)
}

// The rehearsal undoes the payment, so that its refund has none.
func TestReconcile_ADryRunTellsWhatDependsOnWhatIsMissing(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.lose(1, 1)
		c := s.checkout()
		_, err := s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(t, err)
		charges := s.double.Stripe.Charges.List(nil)
		require.True(t, charges.Next())
		_, err = s.double.Stripe.Refunds.New(&stripe.RefundParams{Charge: &charges.Charge().ID})
		require.NoError(t, err)
		dry, err := s.ReconcileWith(t.Context(), billing.ReconcileParams{DryRun: true})
		require.NoError(t, err)
		assert.Len(t, dry.Repaired, 1)
		require.Len(t, dry.Failed, 1)
		assert.Equal(t, "refund", dry.Failed[0].Kind)
		require.ErrorContains(t, dry.Failed[0].Err, "not known yet")
		repaired, err := s.Reconcile(t.Context())
		require.NoError(t, err)
		assert.Len(t, repaired.Repaired, 2)
		assert.Empty(t, repaired.Failed)
		assert.Equal(t, "0", s.balance())
	})
}

// purchase is the payment of the pack.
func (s *shop) purchase() billing.Payment {
	s.t.Helper()
	list, _, err := s.Payments(s.t.Context(), billing.PaymentsParams{Account: s.me.Account, Type: billing.TypePurchase})
	require.NoError(s.t, err)
	require.Len(s.t, list, 1)
	return list[0]
}

// A run that looks at the last minutes only must not keep the next one from looking at what is before them.
func TestReconcile_ALaterSinceDoesNotHideWhatIsBefore(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		_, err := s.Reconcile(t.Context())
		require.NoError(t, err)
		s.lose(1, 1)
		c := s.checkout()
		_, err = s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(t, err)
		s.pass(5 * time.Hour)
		late, err := s.ReconcileWith(t.Context(), billing.ReconcileParams{Since: s.now().Add(-time.Minute)})
		require.NoError(t, err)
		assert.Empty(t, late.Repaired)
		assert.WithinDuration(t, s.now().Add(-time.Minute), late.Since, time.Minute)
		usual, err := s.Reconcile(t.Context())
		require.NoError(t, err)
		assert.Len(t, usual.Repaired, 1)
		assert.Equal(t, "100.5", s.balance())

		far, err := s.ReconcileWith(t.Context(), billing.ReconcileParams{Since: s.now().Add(-40 * day)})
		require.NoError(t, err)
		assert.True(t, far.Since.IsZero(), "longer ago than Stripe keeps events: everything")
		assert.NotZero(t, far.Checked)
		// A run since earlier than usual counts as the last one.
		early, err := s.ReconcileWith(t.Context(), billing.ReconcileParams{Since: s.now().Add(-24 * time.Hour)})
		require.NoError(t, err)
		next, err := s.ReconcileWith(t.Context(), billing.ReconcileParams{DryRun: true})
		require.NoError(t, err)
		assert.True(t, next.Since.After(early.Since))
	})
}
