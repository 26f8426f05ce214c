package billing_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
)

// What is heard late ends as what is heard in time.

func (s *shop) hear() {
	s.t.Helper()
	require.NoError(s.t, s.double.RemoveFaults(s.t.Context()))
	report, err := s.Reconcile(s.t.Context())
	require.NoError(s.t, err)
	require.Empty(s.t, report.Failed)
}

// Nothing was heard of a subscription that is paid for: a second one beside it would be paid for too.
func TestCheckout_RefusesASecondSubscriptionThoughNothingWasHeardOfTheFirst(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan, other := s.plan("Pro", "1000", 2900, "month"), s.plan("Team", "3000", 7900, "month")
		s.lose(1, 1)
		c, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: plan.ID})
		require.NoError(t, err)
		_, err = s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(t, err)
		// All that comes is the end of the checkout, after which its page cannot be given out again.
		require.NoError(t, s.deliver("evt_end", "checkout.session.completed", c.SessionID))
		s.waitFor(c.SessionID, billing.CheckoutPaid)
		_, err = s.FindSubscription(t.Context(), ada.Account)
		require.ErrorIs(t, err, billing.ErrNoSubscription)

		_, err = s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: other.ID})
		require.ErrorIs(t, err, billing.ErrSubscribed)
		assert.Equal(t, plan.ID, s.same().Plan.PriceID)
		_, err = s.double.Stripe.Subscriptions.Cancel(s.subscription().ID, nil)
		require.NoError(t, err)
		_, err = s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: other.ID})
		require.NoError(t, err, "that it ended is found out, too")
		assert.True(t, s.same().Ended())
	})
}

func TestRefund_OfExpiredCreditsOnlyWhatWasUsedIsOwed(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2000, "month")
		s.subscribe(plan.ID, stripetest.CardSucceeds)
		s.use("300")
		_, err := s.CancelSubscription(t.Context(), ada.Account, false)
		require.NoError(t, err)
		s.advance(40 * day)
		assert.Equal(t, "0", s.balance())
		p := s.payments()[0]
		_, err = s.refund(p.ID, 1000)
		require.NoError(t, err)
		assert.Equal(t, "0", s.debt(), "the half that goes back had expired unused")
		preview, err := s.PreviewRefund(t.Context(), p.ID, 600)
		require.NoError(t, err)
		assert.Equal(t, "100", preview.Credits)
		_, err = s.refund(p.ID, 600)
		require.NoError(t, err)
		assert.Equal(t, "100", s.debt(), "800 of 1000 went back, of which 700 had expired")
		r, err := s.refund(p.ID, 0)
		require.NoError(t, err)
		assert.Equal(t, "300", s.debt())
		require.NoError(t, s.double.FailRefund(t.Context(), r.RefundID, ""))
		s.quiet()
		assert.Equal(t, "100", s.debt())
		assert.Equal(t, "0", s.balance())
	})
}

// disputePlan is a dispute about a plan of 1000 credits, of which some are used, in the account of somebody who has a pack
// too and has cancelled the plan.
func (s *shop) disputePlan(used string) (dispute string) {
	s.t.Helper()
	plan := s.plan("Pro", "1000", 2000, "month")
	s.subscribe(plan.ID, stripetest.CardSucceeds)
	s.use(used)
	pack := s.buy(stripetest.CardSucceeds)
	require.Equal(s.t, billing.TypePurchase, pack.Type)
	_, err := s.CancelSubscription(s.t.Context(), ada.Account, false)
	require.NoError(s.t, err)
	id, err := s.double.OpenDispute(s.t.Context(), s.payments()[1].ChargeID, stripetest.DisputeParams{})
	require.NoError(s.t, err)
	s.quiet()
	return id
}

// A bank takes longer than a month to decide.
func TestDispute_WonAfterThePeriodGivesBackWhatWasTakenFromElsewhere(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		id := s.disputePlan("1000")
		assert.Equal(t, "0", s.balance())
		assert.Equal(t, "899.5", s.debt())
		s.advance(60 * day)
		require.NoError(t, s.double.CloseDispute(t.Context(), id, true))
		s.quiet()
		assert.Equal(t, "0", s.debt())
		assert.Equal(t, "100.5", s.balance(), "the pack's credits are back, for good")
		s.advance(60 * day)
		assert.Equal(t, "100.5", s.balance())
	})
}

// The bank decides within the month. What was taken from a pack, because the plan's credits had been used, never expires.
func TestDispute_WonWithinThePeriodGivesBackForGoodWhatWasTakenFromElsewhere(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		id := s.disputePlan("950")
		assert.Equal(t, "849.5", s.debt(), "50 of the plan and 100.5 of the pack were there")
		require.NoError(t, s.double.CloseDispute(t.Context(), id, true))
		s.quiet()
		assert.Equal(t, "0", s.debt())
		assert.Equal(t, map[credits.Source]string{credits.Purchase: "100.5", credits.Subscription: "50"}, s.bySource())
		s.advance(60 * day)
		assert.Equal(t, "100.5", s.balance())
	})
}

// Credits that were given back count like those that never were away.
func TestRefund_CountsTheUseOfCreditsThatCameBack(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2000, "month")
		s.subscribe(plan.ID, stripetest.CardRefundPends)
		s.use("100")
		_, err := s.CancelSubscription(t.Context(), ada.Account, false)
		require.NoError(t, err)
		p := s.payments()[0]
		for range 2 {
			r, err := s.refund(p.ID, 0)
			require.NoError(t, err)
			require.NoError(t, s.double.FailRefund(t.Context(), r.RefundID, "expired_or_canceled_card"))
			s.quiet()
			s.use("300")
		}
		assert.Equal(t, "300", s.balance())
		s.advance(40 * day)
		assert.Equal(t, "0", s.balance())
		preview, err := s.PreviewRefund(t.Context(), p.ID, 0)
		require.NoError(t, err)
		assert.Equal(t, "700", preview.Credits)
		_, err = s.refund(p.ID, 0)
		require.NoError(t, err)
		assert.Equal(t, "700", s.debt(), "what was used is owed, before and after it was away")
	})
}

// A renewal and an upgrade are heard of when both their periods are over.
func TestChangePlan_HeardLateKeepsWhatWasLeft(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		small, large := s.plan("Small", "100", 1000, "month"), s.plan("Large", "900", 3000, "month")
		s.subscribe(small.ID, stripetest.CardSucceeds)
		sub := s.subscription()
		s.use("30")
		s.lose(1, 1)
		s.pass(sub.PeriodEnd.Sub(s.now()) + 10*day) // a renewal of which nothing is heard
		_, err := s.double.Stripe.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{ProrationBehavior: stripe.String("always_invoice"),
			Items: []*stripe.SubscriptionItemsParams{{ID: stripe.String(item(s, sub.ID)), Price: &large.ID}}}) // in Stripe
		require.NoError(t, err)
		_, err = s.double.Stripe.Subscriptions.Cancel(sub.ID, nil)
		require.NoError(t, err)
		s.pass(60 * day)
		s.hear()
		assert.Equal(t, "100", s.balance(), "the renewal's credits were left when the plan changed; the larger plan's have expired")
		s.hear()
		assert.Equal(t, "100", s.balance())
		for _, p := range s.payments() {
			if p.Type == billing.TypeSubscription && p.CreditsExpire == nil {
				_, err = s.refund(p.ID, 500)
				require.NoError(t, err)
			}
		}
		assert.Equal(t, "50", s.balance(), "money that goes back takes them where they are now")
	})
}

func item(s *shop, subscription string) string {
	s.t.Helper()
	sub, err := s.double.Stripe.Subscriptions.Get(subscription, nil)
	require.NoError(s.t, err)
	return sub.Items.Data[0].ID
}

// An upgrade's webhook comes before that of the renewal before it.
func TestChangePlan_TakesOverWhatWasPaidBeforeFirst(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		small, large := s.plan("Small", "100", 1000, "month"), s.plan("Large", "900", 3000, "month")
		s.subscribe(small.ID, stripetest.CardSucceeds)
		sub := s.subscription()
		s.lose(1, 1)
		s.pass(sub.PeriodEnd.Sub(s.now()) + 10*day)
		_, err := s.ChangePlan(t.Context(), billing.ChangeParams{Account: ada.Account, Price: large.ID})
		require.NoError(t, err)
		b, err := s.ledger.Balance(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.Equal(t, "100", b.BySource[credits.Purchase].String())
		assert.Positive(t, b.BySource[credits.Subscription])
		before := b.Available
		s.hear()
		b, err = s.ledger.Balance(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.Equal(t, before, b.Available)
	})
}

// An invoice that was never paid is in the history though nothing was heard while it was tried.
func TestInvoice_GivenUpIsKeptThoughNothingWasHeardOfItsAttempts(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2000, "month")
		s.subscribe(plan.ID, stripetest.CardSucceeds)
		sub := s.subscription()
		pm, err := s.double.Stripe.PaymentMethods.Attach("pm_card_chargeCustomerFail", &stripe.PaymentMethodAttachParams{Customer: stripe.String(s.customer())})
		require.NoError(t, err)
		_, err = s.double.Stripe.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{DefaultPaymentMethod: &pm.ID})
		require.NoError(t, err)
		s.lose(1, 1)
		s.pass(sub.PeriodEnd.Sub(s.now()) + 2*time.Hour)
		open := s.double.Stripe.Invoices.List(&stripe.InvoiceListParams{Subscription: &sub.ID, Status: stripe.String("open")})
		require.True(t, open.Next())
		_, err = s.double.Stripe.Invoices.MarkUncollectible(open.Invoice().ID, nil)
		require.NoError(t, err)
		s.hear()
		assert.Equal(t, billing.PaymentCanceled, s.payments()[0].Status)
	})
}

// An invoice was refused at first. That it was paid after all, nothing was heard; that half of it went back, was.
func TestRefund_HeardBeforeThePaymentOfAnInvoiceThatWasRefusedAtFirst(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month", "trial_days", "7")
		s.subscribe(plan.ID, stripetest.CardFailsLater)
		s.advance(7*day + 2*time.Hour)
		p := s.payments()[0]
		require.Equal(t, billing.PaymentFailed, p.Status)
		s.lose(1, 1)
		require.NoError(t, s.double.PayInvoice(t.Context(), p.InvoiceID, stripetest.Card{Number: stripetest.CardSucceeds}))
		inv, err := s.double.Stripe.Invoices.Get(p.InvoiceID, nil)
		require.NoError(t, err)
		refund, err := s.double.Stripe.Refunds.New(&stripe.RefundParams{Charge: &inv.Charge.ID, Amount: stripe.Int64(1450)})
		require.NoError(t, err)
		_, err = s.double.OpenDispute(t.Context(), inv.Charge.ID, stripetest.DisputeParams{Amount: 290})
		require.NoError(t, err)
		require.NoError(t, s.deliver("evt_refunded", "charge.refunded", inv.Charge.ID))
		require.Eventually(t, func() bool { return s.attempts("evt_refunded") > 0 }, 20*time.Second, 20*time.Millisecond)
		assert.Equal(t, billing.PaymentFailed, s.payments()[0].Status, "it is tried again when the payment is known")
		s.hear()
		assert.Equal(t, "400", s.balance(), "the period's credits, less what went back and is disputed")
		got := s.payment(p.ID)
		assert.Equal(t, billing.PaymentPartiallyRefunded, got.Status)
		assert.Equal(t, int64(1450), got.Refunded)
		assert.Equal(t, int64(290), got.Disputed)
		require.NoError(t, s.deliver("evt_refund", "charge.refund.updated", refund.ID))
		s.hear()
		assert.Equal(t, "400", s.balance())
	})
}

// attempts is how often an event was worked.
func (s *shop) attempts(event string) int {
	s.t.Helper()
	e, err := s.inbox.Find(s.t.Context(), event)
	if err != nil {
		return 0
	}
	return e.Attempts
}
