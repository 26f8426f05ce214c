package billing_test

import (
	"crypto/rand"
	"encoding/json"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

const day = 24 * time.Hour

// subscribe buys a plan for ada with a card.
func (s *shop) subscribe(price, card string) billing.Checkout {
	s.t.Helper()
	c, err := s.Checkout(s.t.Context(), billing.CheckoutParams{Customer: s.me, Price: price})
	require.NoError(s.t, err)
	_, err = s.double.Pay(s.t.Context(), c.SessionID, stripetest.Card{Number: card})
	require.NoError(s.t, err)
	s.quiet()
	return c
}

func (s *shop) subscription() billing.Subscription {
	s.t.Helper()
	sub, err := s.FindSubscription(s.t.Context(), s.me.Account)
	require.NoError(s.t, err)
	return sub
}

// same checks that our picture is Stripe's.
func (s *shop) same() billing.Subscription {
	s.t.Helper()
	ours := s.subscription()
	theirs, err := s.double.Stripe.Subscriptions.Get(ours.ID, nil)
	require.NoError(s.t, err)
	assert.Equal(s.t, theirs.Status, ours.Status)
	assert.Equal(s.t, theirs.Items.Data[0].Price.ID, ours.Plan.PriceID)
	assert.Equal(s.t, theirs.CurrentPeriodEnd, ours.PeriodEnd.Unix())
	assert.Equal(s.t, theirs.CancelAtPeriodEnd, ours.CancelAtPeriodEnd)
	return ours
}

func (s *shop) payments() []billing.Payment {
	s.t.Helper()
	payments, _, err := s.Payments(s.t.Context(), billing.PaymentsParams{Account: s.me.Account})
	require.NoError(s.t, err)
	return payments
}

func TestSubscription_EveryPaidPeriodGrantsItsCreditsOnceAndTheyExpireWithIt(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month", "features", "api")
		c := s.subscribe(plan.ID, stripetest.CardSucceeds)
		assert.Equal(t, billing.ModeSubscription, c.Mode)
		s.waitFor(c.SessionID, billing.CheckoutPaid)
		assert.Equal(t, "1000", s.balance())
		sub := s.same()
		assert.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
		assert.Equal(t, "Pro", sub.Plan.Name)
		assert.InDelta(t, 30, sub.DaysLeft(s.now()), 1)
		_, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: plan.ID})
		require.ErrorIs(t, err, billing.ErrSubscribed)
		for range 5 {
			require.NoError(t, s.deliver("evt_again_"+rand.Text(), "invoice.paid", s.payments()[0].InvoiceID))
			require.NoError(t, s.deliver("evt_again_"+rand.Text(), "customer.subscription.updated", sub.ID))
		}
		s.quiet()
		assert.Equal(t, "1000", s.balance())

		for period := range 2 {
			// Stripe takes about an hour to charge for the new period.
			s.advance(s.subscription().PeriodEnd.Sub(s.now()) + 2*time.Hour)
			assert.Equal(t, "1000", s.balance(), "what was left of period %d has expired", period+1)
			s.same()
		}
		payments := s.payments()
		require.Len(t, payments, 3)
		for _, p := range payments {
			assert.Equal(t, billing.TypeSubscription, p.Type)
			assert.Equal(t, billing.PaymentSucceeded, p.Status)
			assert.Equal(t, int64(2900), p.Price.Amount)
			assert.Equal(t, "1000", p.Credits.String())
			assert.NotEmpty(t, p.InvoiceURL)
			assert.NotEmpty(t, p.ChargeID)
			require.NotNil(t, p.CreditsExpire)
		}
		assert.Equal(t, s.subscription().PeriodEnd, *payments[0].CreditsExpire)
	})
}

// The page after the checkout knows all without any webhook.
func TestSubscription_ThePageFulfilsTooAndOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month")
		c, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: plan.ID})
		require.NoError(t, err)
		_, err = s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(t, err)
		var group errgroup.Group
		for range 4 {
			group.Go(func() error {
				_, err := s.SyncCheckout(t.Context(), ada.Account, c.SessionID)
				return err
			})
		}
		require.NoError(t, group.Wait())
		assert.Equal(t, "1000", s.balance())
		s.quiet()
		assert.Equal(t, "1000", s.balance())
		assert.Len(t, s.payments(), 1)
		_, body := s.request("GET", "/billing/success?session_id="+c.SessionID, nil)
		assert.Contains(t, body, "You are subscribed to Pro")
	})
}

func TestCheckout_AnAccountHasOnePageForASubscription(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		basic, pro := s.plan("Basic", "100", 900, "month"), s.plan("Pro", "1000", 2900, "month")
		open := func(price string) (billing.Checkout, error) {
			return s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: price})
		}
		var group errgroup.Group
		for range 6 {
			group.Go(func() error {
				_, err := open(basic.ID)
				return err
			})
		}
		require.NoError(t, group.Wait())
		first, err := open(basic.ID)
		require.NoError(t, err)
		other, err := open(pro.ID)
		require.NoError(t, err)
		assert.NotEqual(t, first.ID, other.ID)
		_, err = s.double.Pay(t.Context(), first.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.Error(t, err, "the first page is closed")
		_, err = s.double.Pay(t.Context(), other.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(t, err)
		_, err = open(basic.ID)
		require.ErrorIs(t, err, billing.ErrSubscribed, "closing the page finds that it was paid a moment ago")
		s.quiet()
		it := s.double.Stripe.Subscriptions.List(&stripe.SubscriptionListParams{})
		n := 0
		for it.Next() {
			n++
		}
		require.NoError(t, it.Err())
		assert.Equal(t, 1, n)
		assert.Equal(t, "1000", s.balance())
	})
}

func TestSubscription_TrialIsForNewSubscribersAndGivesItsOwnCredits(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month", "trial_days", "14", "trial_credits", "50")
		c := s.subscribe(plan.ID, stripetest.CardSucceeds)
		s.waitFor(c.SessionID, billing.CheckoutPaid)
		assert.Equal(t, "50", s.balance())
		sub := s.same()
		assert.Equal(t, stripe.SubscriptionStatusTrialing, sub.Status)
		require.NotNil(t, sub.TrialEnd)
		entitled, err := s.Entitled(t.Context(), ada.Account, "")
		require.NoError(t, err)
		assert.True(t, entitled)
		s.advance(14*day + 2*time.Hour)
		assert.Equal(t, "1000", s.balance())
		assert.Equal(t, stripe.SubscriptionStatusActive, s.same().Status)

		_, err = s.CancelSubscription(t.Context(), ada.Account, true)
		require.NoError(t, err)
		s.quiet()
		assert.Equal(t, stripe.SubscriptionStatusCanceled, s.same().Status)
		assert.Equal(t, "1000", s.balance(), "they are paid for, and last until the period's end")
		again := s.subscribe(plan.ID, stripetest.CardSucceeds)
		assert.Zero(t, again.TrialDays, "one trial for each account")
		assert.Equal(t, stripe.SubscriptionStatusActive, s.same().Status)
		assert.Equal(t, "2000", s.balance())
	})
}

func TestSubscription_CancelAtPeriodEndAndResume(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		_, err := s.CancelSubscription(t.Context(), ada.Account, false)
		require.ErrorIs(t, err, billing.ErrNoSubscription)
		plan := s.plan("Pro", "1000", 2900, "month", "features", "api")
		s.subscribe(plan.ID, stripetest.CardSucceeds)
		_, err = s.ResumeSubscription(t.Context(), ada.Account)
		require.ErrorIs(t, err, billing.ErrNotCanceled)
		sub, err := s.CancelSubscription(t.Context(), ada.Account, false)
		require.NoError(t, err)
		assert.True(t, sub.CancelAtPeriodEnd, "known at once, without a webhook")
		sub, err = s.ResumeSubscription(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.False(t, sub.CancelAtPeriodEnd)
		_, err = s.CancelSubscription(t.Context(), ada.Account, false)
		require.NoError(t, err)
		entitled, err := s.Entitled(t.Context(), ada.Account, "api")
		require.NoError(t, err)
		assert.True(t, entitled, "access lasts until the end")
		s.advance(sub.PeriodEnd.Sub(s.now()) + time.Minute)
		assert.Equal(t, stripe.SubscriptionStatusCanceled, s.same().Status)
		assert.Equal(t, "0", s.balance())
		entitled, err = s.Entitled(t.Context(), ada.Account, "api")
		require.NoError(t, err)
		assert.False(t, entitled)
		_, err = s.CancelSubscription(t.Context(), ada.Account, true)
		require.ErrorIs(t, err, billing.ErrEnded)
	})
}

func TestSubscription_PastDueIsToldGracedAndRecovered(t *testing.T) {
	n := newNotes()
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month", "trial_days", "7", "features", "api")
		s.subscribe(plan.ID, stripetest.CardFailsLater)
		s.advance(7*day + 2*time.Hour)
		sub := s.same()
		assert.Equal(t, stripe.SubscriptionStatusPastDue, sub.Status)
		require.NotEmpty(t, sub.PayURL)
		assert.Equal(t, "0", s.balance())
		notices := n.of(s)
		require.NotEmpty(t, notices)
		assert.Equal(t, billing.NoticePaymentFailed, notices[0].Kind)
		assert.Equal(t, "Pro", notices[0].Description)
		assert.Equal(t, sub.PayURL, notices[0].URL)
		payments := s.payments()
		require.Len(t, payments, 1)
		assert.Equal(t, billing.PaymentFailed, payments[0].Status)
		for _, path := range []string{"/billing/subscription", "/billing/payments"} {
			_, body := s.request("GET", path, nil)
			assert.Contains(t, body, "Pay now", path)
		}
		entitled, err := s.Entitled(t.Context(), ada.Account, "api")
		require.NoError(t, err)
		assert.True(t, entitled, "within the days of grace")

		require.NoError(t, s.double.PayInvoice(t.Context(), payments[0].InvoiceID, stripetest.Card{Number: stripetest.CardSucceeds}))
		s.quiet()
		sub = s.same()
		assert.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
		assert.Empty(t, sub.PayURL)
		assert.Nil(t, sub.PastDueSince)
		assert.Equal(t, "1000", s.balance())
		after := s.payments()
		require.Len(t, after, 1)
		assert.Equal(t, payments[0].ID, after[0].ID, "it is the same payment, paid now")
		assert.Equal(t, billing.PaymentSucceeded, after[0].Status)
	}, func(c *billing.Config) {
		c.Grace = 2 * day
		n.watch(c)
	})
}

func TestSubscription_CurrencyAndStrangersSubscriptions(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		plan := s.plan("Pro", "1000", 2900, "month")
		euros, err := s.double.Stripe.Prices.New(&stripe.PriceParams{Product: &plan.Product.ID, Currency: stripe.String("eur"), UnitAmount: stripe.Int64(2700),
			Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("month")}})
		require.NoError(t, err)
		s.subscribe(plan.ID, stripetest.CardSucceeds)
		_, err = s.CancelSubscription(t.Context(), ada.Account, true)
		require.NoError(t, err)
		s.quiet()
		_, err = s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: euros.ID})
		require.ErrorIs(t, err, billing.ErrCurrency)

		stranger, err := s.double.Stripe.Customers.New(&stripe.CustomerParams{Email: stripe.String(ada.Email)})
		require.NoError(t, err)
		card, err := s.double.Stripe.PaymentMethods.Attach("pm_card_visa", &stripe.PaymentMethodAttachParams{Customer: &stranger.ID})
		require.NoError(t, err)
		_, err = s.double.Stripe.Subscriptions.New(&stripe.SubscriptionParams{Customer: &stranger.ID, DefaultPaymentMethod: &card.ID, Items: []*stripe.SubscriptionItemsParams{{Price: &plan.ID}}})
		require.NoError(t, err)
		s.quiet()
		assert.Equal(t, stripe.SubscriptionStatusCanceled, s.subscription().Status, "never by e-mail")
		assert.Equal(t, "1000", s.balance())
	})
}

func TestPages_Subscription(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		_, body := s.request("GET", "/billing/subscription", nil)
		assert.Contains(t, body, "No subscription yet")
		plan := s.plan("Pro", "1000", 2900, "month")
		res, _ := s.request("POST", "/billing/checkout", url.Values{"price": {plan.ID}})
		require.Equal(t, 303, res.StatusCode)
		s.subscribe(plan.ID, stripetest.CardSucceeds)
		_, body = s.request("GET", "/billing/", nil)
		assert.Contains(t, body, "Your plan")
		assert.NotContains(t, body, "Subscribe to Pro")
		_, body = s.request("GET", "/billing/subscription", nil)
		assert.Contains(t, body, "29.00 USD every month")
		res, _ = s.request("POST", "/billing/checkout", url.Values{"price": {plan.ID}})
		assert.Equal(t, "/billing/subscription", res.Header.Get("Location"))
		res, _ = s.request("POST", "/billing/subscription/cancel", nil)
		assert.Equal(t, 303, res.StatusCode)
		_, body = s.request("GET", "/billing/subscription", nil)
		assert.Contains(t, body, "Keep my subscription")
		res, body = s.request("POST", "/billing/subscription/resume", nil, "Accept", "application/json")
		assert.Equal(t, 200, res.StatusCode)
		var got struct{ Data billing.Subscription }
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		assert.False(t, got.Data.CancelAtPeriodEnd)
		res, body = s.request("POST", "/billing/subscription/resume", nil, "Accept", "application/json")
		assert.Equal(t, 409, res.StatusCode)
		assert.Contains(t, body, "subscription_not_canceled")
		res, _ = s.request("POST", "/billing/subscription/cancel", url.Values{"now": {"true"}})
		assert.Equal(t, 303, res.StatusCode)
		_, body = s.request("GET", "/billing/subscription", nil)
		assert.Contains(t, body, "Choose a plan")
		s.who = nil
		res, _ = s.request("POST", "/billing/subscription/cancel", nil, "Accept", "application/json")
		assert.Equal(t, 401, res.StatusCode)
	})
}
