package stripetest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing/stripetest"
)

func subscriptionSession(t *testing.T, s *stripetest.Test, price *stripe.Price, change func(*stripe.CheckoutSessionParams)) *stripe.CheckoutSession {
	t.Helper()
	p := &stripe.CheckoutSessionParams{Mode: stripe.String("subscription"), SuccessURL: stripe.String("https://shop.example/ok"), ClientReferenceID: stripe.String("ref-1"),
		LineItems: []*stripe.CheckoutSessionLineItemParams{{Price: &price.ID, Quantity: stripe.Int64(1)}}, Metadata: map[string]string{"on": "session"},
		SubscriptionData: &stripe.CheckoutSessionSubscriptionDataParams{Metadata: map[string]string{"account": "a1"}}}
	if change != nil {
		change(p)
	}
	return must(s.Stripe.CheckoutSessions.New(p))(t)
}

func TestSubscription_ThroughCheckoutIsPaidAndRenewed(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		price := plan(t, s, "Basic", 1000, "month")
		o := subscriptionSession(t, s, price, nil)
		assert.Equal(t, int64(1000), o.AmountTotal)
		_, err := s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardFailsLater})
		require.ErrorContains(t, err, "declined")
		must(s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardSucceeds, Email: "ada@example.com", Name: "Ada"}))(t)
		get := &stripe.CheckoutSessionParams{}
		get.AddExpand("subscription.latest_invoice.payment_intent")
		get.AddExpand("customer")
		o = must(s.Stripe.CheckoutSessions.Get(o.ID, get))(t)
		sub := o.Subscription
		assert.Equal(t, stripe.CheckoutSessionPaymentStatusPaid, o.PaymentStatus)
		assert.Equal(t, "ada@example.com", o.Customer.Email)
		assert.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
		assert.Equal(t, map[string]string{"account": "a1"}, sub.Metadata, "the subscription's own, not the session's")
		require.NotNil(t, sub.DefaultPaymentMethod)
		first := sub.LatestInvoice
		assert.Equal(t, stripe.InvoiceBillingReasonSubscriptionCreate, first.BillingReason)
		assert.Equal(t, stripe.InvoiceStatusPaid, first.Status)
		assert.Equal(t, int64(1000), first.AmountPaid)
		assert.Equal(t, map[string]string{"account": "a1"}, first.SubscriptionDetails.Metadata)
		require.Len(t, first.Lines.Data, 1)
		assert.Equal(t, sub.CurrentPeriodEnd, first.Lines.Data[0].Period.End)
		assert.Equal(t, stripe.InvoiceLineItemTypeSubscription, first.Lines.Data[0].Type)
		assert.Equal(t, map[string]int{"invoice.created": 1, "invoice.finalized": 1, "invoice.updated": 1, "invoice.paid": 1, "invoice.payment_succeeded": 1,
			"customer.subscription.created": 1, "customer.subscription.updated": 1, "checkout.session.completed": 1, "payment_method.attached": 1},
			events(t, s, "invoice.", "customer.subscription.", "checkout.", "payment_method."))

		// The renewal is a draft for an hour, then it is paid.
		end := time.Unix(sub.CurrentPeriodEnd, 0)
		require.NoError(t, s.AdvanceTo(t.Context(), end))
		again := subscription(t, s, sub.ID)
		assert.Equal(t, stripe.InvoiceStatusDraft, again.LatestInvoice.Status)
		assert.Equal(t, sub.CurrentPeriodEnd, again.CurrentPeriodStart)
		require.NoError(t, s.AdvanceTo(t.Context(), end.Add(time.Hour)))
		again = subscription(t, s, sub.ID)
		assert.Equal(t, stripe.InvoiceStatusPaid, again.LatestInvoice.Status)
		assert.Equal(t, stripe.InvoiceBillingReasonSubscriptionCycle, again.LatestInvoice.BillingReason)
		assert.Equal(t, again.CurrentPeriodStart, again.LatestInvoice.Lines.Data[0].Period.Start)
		assert.Equal(t, again.CurrentPeriodEnd, again.LatestInvoice.Lines.Data[0].Period.End)
		require.ErrorContains(t, s.AdvanceTo(t.Context(), end), "does not go back")
		require.NoError(t, s.AdvanceTo(t.Context(), end.AddDate(1, 0, 0)))
		assert.Len(t, invoices(t, s, sub.ID)[:10], 10)
		items := s.Stripe.SubscriptionItems.List(&stripe.SubscriptionItemListParams{Subscription: &sub.ID})
		require.True(t, items.Next())
		assert.Equal(t, price.ID, items.SubscriptionItem().Price.ID)
	})
}

func TestSubscription_AnchorStaysAtTheMonthsEnd(t *testing.T) {
	t.Parallel()
	s := double(t)
	clock := must(s.Stripe.TestHelpersTestClocks.New(&stripe.TestHelpersTestClockParams{FrozenTime: stripe.Int64(time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC).Unix()), Name: stripe.String("n")}))(t)
	c := must(s.Stripe.Customers.New(&stripe.CustomerParams{Email: stripe.String("a@example.com"), TestClock: &clock.ID}))(t)
	saveCard(t, s, c.ID, stripetest.CardSucceeds)
	sub := subscribe(t, s, c.ID, plan(t, s, "Basic", 1000, "month"))
	var ends []string
	for range 4 {
		ends = append(ends, time.Unix(sub.CurrentPeriodEnd, 0).UTC().Format("2006-01-02"))
		must(s.Stripe.TestHelpersTestClocks.Advance(clock.ID, &stripe.TestHelpersTestClockAdvanceParams{FrozenTime: &sub.CurrentPeriodEnd}))(t)
		sub = subscription(t, s, sub.ID)
	}
	assert.Equal(t, []string{"2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31"}, ends)
}

func TestTestClock_MovesItsOwnCustomersOnly(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		start := now(t, s).Truncate(time.Second)
		clock := must(s.Stripe.TestHelpersTestClocks.New(&stripe.TestHelpersTestClockParams{FrozenTime: stripe.Int64(start.Unix())}))(t)
		price := plan(t, s, "Basic", 1000, "month")
		bound := must(s.Stripe.Customers.New(&stripe.CustomerParams{Email: stripe.String("ada@example.com"), TestClock: &clock.ID}))(t)
		saveCard(t, s, bound.ID, stripetest.CardSucceeds)
		free := customer(t, s, stripetest.CardSucceeds)
		inClock, outside := subscribe(t, s, bound.ID, price), subscribe(t, s, free.ID, price)
		assert.Equal(t, start.Unix(), inClock.Created)
		assert.Equal(t, clock.ID, inClock.TestClock.ID)

		to := start.AddDate(0, 3, 1)
		answer := must(s.Stripe.TestHelpersTestClocks.Advance(clock.ID, &stripe.TestHelpersTestClockAdvanceParams{FrozenTime: stripe.Int64(to.Unix())}))(t)
		assert.Equal(t, stripe.TestHelpersTestClockStatusAdvancing, answer.Status)
		answer = must(s.Stripe.TestHelpersTestClocks.Get(clock.ID, nil))(t)
		assert.Equal(t, stripe.TestHelpersTestClockStatusReady, answer.Status)
		assert.Equal(t, to.Unix(), answer.FrozenTime)
		assert.Len(t, invoices(t, s, inClock.ID), 4)
		assert.Len(t, invoices(t, s, outside.ID), 1)
		_, err := s.Stripe.TestHelpersTestClocks.Advance(clock.ID, &stripe.TestHelpersTestClockAdvanceParams{FrozenTime: stripe.Int64(start.Unix())})
		requireError(t, err, 400, "parameter_invalid", "frozen_time")

		// Lists leave the customers of clocks out unless they are asked for.
		list := s.Stripe.Customers.List(&stripe.CustomerListParams{Email: stripe.String("ada@example.com")})
		require.True(t, list.Next())
		assert.Equal(t, free.ID, list.Customer().ID)
		assert.False(t, list.Next())
		list = s.Stripe.Customers.List(&stripe.CustomerListParams{TestClock: &clock.ID})
		require.True(t, list.Next())
		assert.Equal(t, bound.ID, list.Customer().ID)

		must(s.Stripe.TestHelpersTestClocks.Del(clock.ID, nil))(t)
		assert.Equal(t, stripe.SubscriptionStatusCanceled, subscription(t, s, inClock.ID).Status)
		assert.True(t, must(s.Stripe.Customers.Get(bound.ID, nil))(t).Deleted)
		assert.Equal(t, map[string]int{"test_helpers.test_clock.created": 1, "test_helpers.test_clock.advancing": 1, "test_helpers.test_clock.ready": 1,
			"test_helpers.test_clock.deleted": 1}, events(t, s, "test_helpers."))
	})
}

func TestSubscription_Trials(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		price := plan(t, s, "Basic", 1000, "month")
		o := subscriptionSession(t, s, price, func(p *stripe.CheckoutSessionParams) { p.SubscriptionData.TrialPeriodDays = stripe.Int64(14) })
		assert.Zero(t, o.AmountTotal)
		must(s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardSucceeds, Email: "ada@example.com"}))(t)
		o = must(s.Stripe.CheckoutSessions.Get(o.ID, nil))(t)
		assert.Equal(t, stripe.CheckoutSessionPaymentStatusNoPaymentRequired, o.PaymentStatus)
		sub := subscription(t, s, o.Subscription.ID)
		assert.Equal(t, stripe.SubscriptionStatusTrialing, sub.Status)
		assert.Equal(t, sub.TrialEnd, sub.CurrentPeriodEnd)
		assert.Zero(t, sub.LatestInvoice.AmountDue)
		assert.Equal(t, stripe.InvoiceStatusPaid, sub.LatestInvoice.Status)
		pass(t, s, 11*day+time.Minute)
		assert.Equal(t, 1, events(t, s, "customer.subscription.")["customer.subscription.trial_will_end"])
		pass(t, s, 3*day+2*time.Hour)
		sub = subscription(t, s, sub.ID)
		assert.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
		assert.Equal(t, int64(1000), sub.LatestInvoice.AmountPaid)

		// Without a card the trial ends as its settings say.
		for missing, want := range map[string]stripe.SubscriptionStatus{"cancel": "canceled", "pause": "paused", "create_invoice": "past_due"} {
			c := customer(t, s, "")
			sub := subscribe(t, s, c.ID, price, func(p *stripe.SubscriptionParams) {
				p.TrialPeriodDays = stripe.Int64(5)
				p.TrialSettings = &stripe.SubscriptionTrialSettingsParams{EndBehavior: &stripe.SubscriptionTrialSettingsEndBehaviorParams{MissingPaymentMethod: &missing}}
			})
			pass(t, s, 5*day+2*time.Hour)
			assert.Equal(t, want, subscription(t, s, sub.ID).Status, missing)
			if missing != "pause" {
				continue
			}
			_, err := s.Stripe.Subscriptions.Resume(sub.ID, &stripe.SubscriptionResumeParams{BillingCycleAnchor: stripe.String("now")})
			requireError(t, err, 400, "resource_missing", "")
			saveCard(t, s, c.ID, stripetest.CardSucceeds)
			sub = must(s.Stripe.Subscriptions.Resume(sub.ID, &stripe.SubscriptionResumeParams{BillingCycleAnchor: stripe.String("now")}))(t)
			assert.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
			assert.Equal(t, int64(1000), subscription(t, s, sub.ID).LatestInvoice.AmountPaid)
		}
		seen := events(t, s, "customer.subscription.")
		assert.Equal(t, 1, seen["customer.subscription.paused"])
		assert.Equal(t, 1, seen["customer.subscription.resumed"])

		// A trial that ends now is paid now.
		c := customer(t, s, stripetest.CardSucceeds)
		sub = subscribe(t, s, c.ID, price, func(p *stripe.SubscriptionParams) { p.TrialEnd = stripe.Int64(now(t, s).Add(20 * day).Unix()) })
		sub = must(s.Stripe.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{TrialEndNow: stripe.Bool(true)}))(t)
		assert.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
		assert.Equal(t, int64(1000), subscription(t, s, sub.ID).LatestInvoice.AmountPaid)
	})
}

func TestSubscription_FirstPaymentDecidesByItsBehavior(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		price := plan(t, s, "Basic", 1000, "month")
		_, err := s.Stripe.Subscriptions.New(&stripe.SubscriptionParams{Customer: &customer(t, s, "").ID, Items: []*stripe.SubscriptionItemsParams{{Price: &price.ID}}})
		requireError(t, err, 400, "resource_missing", "")

		fails := customer(t, s, stripetest.CardFailsLater)
		sub := subscribe(t, s, fails.ID, price)
		assert.Equal(t, stripe.SubscriptionStatusIncomplete, sub.Status)
		assert.Equal(t, stripe.PaymentIntentStatusRequiresPaymentMethod, sub.LatestInvoice.PaymentIntent.Status)
		_, err = s.Stripe.Subscriptions.New(&stripe.SubscriptionParams{Customer: &fails.ID, Items: []*stripe.SubscriptionItemsParams{{Price: &price.ID}},
			PaymentBehavior: stripe.String("error_if_incomplete")})
		requireError(t, err, 402, "card_declined", "")
		list := s.Stripe.Subscriptions.List(&stripe.SubscriptionListParams{Customer: &fails.ID, Status: stripe.String("all")})
		n := 0
		for list.Next() {
			n++
		}
		assert.Equal(t, 1, n, "the second was undone")
		pass(t, s, 24*time.Hour)
		sub = subscription(t, s, sub.ID)
		assert.Equal(t, stripe.SubscriptionStatusIncompleteExpired, sub.Status)
		assert.Equal(t, stripe.InvoiceStatusVoid, sub.LatestInvoice.Status)

		asks := customer(t, s, stripetest.CardAuthenticate)
		sub = subscribe(t, s, asks.ID, price)
		assert.Equal(t, stripe.SubscriptionStatusIncomplete, sub.Status)
		assert.Equal(t, stripe.PaymentIntentStatusRequiresAction, sub.LatestInvoice.PaymentIntent.Status)
		must(s.Authenticate(t.Context(), sub.LatestInvoice.PaymentIntent.ID, true))(t)
		assert.Equal(t, stripe.SubscriptionStatusActive, subscription(t, s, sub.ID).Status)
		_, err = s.Stripe.Subscriptions.New(&stripe.SubscriptionParams{Customer: &asks.ID, Items: []*stripe.SubscriptionItemsParams{{Price: &price.ID}},
			PaymentBehavior: stripe.String("error_if_incomplete")})
		requireError(t, err, 402, "subscription_payment_intent_requires_action", "")

		c := customer(t, s, "")
		sub = subscribe(t, s, c.ID, price, func(p *stripe.SubscriptionParams) {
			p.PaymentBehavior = stripe.String("default_incomplete")
			p.PaymentSettings = &stripe.SubscriptionPaymentSettingsParams{SaveDefaultPaymentMethod: stripe.String("on_subscription")}
		})
		assert.Equal(t, stripe.SubscriptionStatusIncomplete, sub.Status)
		pm := newCard(t, s, stripetest.CardSucceeds)
		must(s.Stripe.PaymentIntents.Confirm(sub.LatestInvoice.PaymentIntent.ID, &stripe.PaymentIntentConfirmParams{PaymentMethod: &pm.ID}))(t)
		sub = subscription(t, s, sub.ID)
		assert.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
		assert.Equal(t, pm.ID, sub.DefaultPaymentMethod.ID)
	})
}

func TestSubscription_PastDueIsRetriedAndEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		after stripetest.AfterRetries
		want  stripe.SubscriptionStatus
	}{{"", "canceled"}, {stripetest.AfterRetriesUnpaid, "unpaid"}, {stripetest.AfterRetriesPastDue, "past_due"}} {
		t.Run(string(c.want), func(t *testing.T) {
			t.Parallel()
			s := double(t, func(cfg *stripetest.Config) { cfg.AfterRetries = c.after })
			price := plan(t, s, "Basic", 1000, "month")
			who := customer(t, s, stripetest.CardSucceeds)
			sub := subscribe(t, s, who.ID, price)
			saveCard(t, s, who.ID, stripetest.CardFailsLater)
			require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(sub.CurrentPeriodEnd, 0).Add(2*time.Hour)))
			sub = subscription(t, s, sub.ID)
			assert.Equal(t, stripe.SubscriptionStatusPastDue, sub.Status)
			failed := sub.LatestInvoice
			assert.Equal(t, int64(1), failed.AttemptCount)
			assert.Equal(t, time.Unix(sub.CurrentPeriodStart, 0).Add(time.Hour+3*day).Unix(), failed.NextPaymentAttempt)
			_, err := s.Stripe.Invoices.Pay(failed.ID, nil)
			requireError(t, err, 402, "card_declined", "")
			pass(t, s, 3*day)
			failed = subscription(t, s, sub.ID).LatestInvoice
			assert.Equal(t, int64(2), failed.AttemptCount, "what somebody asked for does not count")
			pass(t, s, 5*day)
			assert.Equal(t, stripe.SubscriptionStatusPastDue, subscription(t, s, sub.ID).Status)
			pass(t, s, 7*day)
			sub = subscription(t, s, sub.ID)
			assert.Equal(t, c.want, sub.Status)
			assert.Equal(t, int64(4), sub.LatestInvoice.AttemptCount)
			assert.Zero(t, sub.LatestInvoice.NextPaymentAttempt)
			assert.Equal(t, 5, events(t, s, "invoice.")["invoice.payment_failed"])
			if c.want == "canceled" {
				assert.Equal(t, stripe.SubscriptionCancellationDetailsReason("payment_failed"), sub.CancellationDetails.Reason)
				return
			}
			pass(t, s, 31*day)
			renewal := subscription(t, s, sub.ID).LatestInvoice
			assert.Equal(t, c.want == "unpaid", renewal.Status == stripe.InvoiceStatusDraft, "an unpaid subscription's invoices stay drafts")
			saveCard(t, s, who.ID, stripetest.CardSucceeds)
			must(s.Stripe.Invoices.Pay(renewal.ID, nil))(t)
			assert.Equal(t, stripe.SubscriptionStatusActive, subscription(t, s, sub.ID).Status)
		})
	}
}

func TestSubscription_PastDueRecoversOnTheHostedPage(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		price := plan(t, s, "Basic", 1000, "month")
		who := customer(t, s, stripetest.CardSucceeds)
		sub := subscribe(t, s, who.ID, price)
		saveCard(t, s, who.ID, stripetest.CardAuthenticate)
		require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(sub.CurrentPeriodEnd, 0).Add(2*time.Hour)))
		sub = subscription(t, s, sub.ID)
		assert.Equal(t, stripe.SubscriptionStatusPastDue, sub.Status)
		assert.Equal(t, stripe.PaymentIntentStatusRequiresAction, sub.LatestInvoice.PaymentIntent.Status)
		assert.Equal(t, 1, events(t, s, "invoice.")["invoice.payment_action_required"])
		require.ErrorContains(t, s.PayInvoice(t.Context(), sub.LatestInvoice.ID, stripetest.Card{Number: stripetest.CardDeclined}), "declined")
		require.NoError(t, s.PayInvoice(t.Context(), sub.LatestInvoice.ID, stripetest.Card{Number: stripetest.CardSucceeds}))
		sub = subscription(t, s, sub.ID)
		assert.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
		assert.Equal(t, stripe.InvoiceStatusPaid, sub.LatestInvoice.Status)
		require.ErrorContains(t, s.PayInvoice(t.Context(), sub.LatestInvoice.ID, stripetest.Card{Number: stripetest.CardSucceeds}), "paid")
		require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(sub.CurrentPeriodEnd, 0).Add(2*time.Hour)))
		assert.Equal(t, stripe.InvoiceStatusPaid, subscription(t, s, sub.ID).LatestInvoice.Status, "with the new card")
	})
}

func TestSubscription_CancelsKeepsAndPauses(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		price := plan(t, s, "Basic", 1000, "month")
		who := customer(t, s, stripetest.CardSucceeds)
		sub := subscribe(t, s, who.ID, price)
		update := func(p *stripe.SubscriptionParams) *stripe.Subscription {
			return must(s.Stripe.Subscriptions.Update(sub.ID, p))(t)
		}

		sub = update(&stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(true), CancellationDetails: &stripe.SubscriptionCancellationDetailsParams{Feedback: stripe.String("unused")}})
		assert.True(t, sub.CancelAtPeriodEnd)
		assert.Equal(t, sub.CurrentPeriodEnd, sub.CancelAt)
		assert.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
		sub = update(&stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(false)})
		assert.Zero(t, sub.CancelAt)
		assert.Zero(t, sub.CanceledAt)

		sub = update(&stripe.SubscriptionParams{PauseCollection: &stripe.SubscriptionPauseCollectionParams{Behavior: stripe.String("void"), ResumesAt: stripe.Int64(time.Unix(sub.CurrentPeriodEnd, 0).Add(day).Unix())}})
		assert.Equal(t, stripe.SubscriptionPauseCollectionBehaviorVoid, sub.PauseCollection.Behavior)
		require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(sub.CurrentPeriodEnd, 0).Add(2*time.Hour)))
		sub = subscription(t, s, sub.ID)
		assert.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
		assert.Equal(t, stripe.InvoiceStatusVoid, sub.LatestInvoice.Status)
		pass(t, s, day)
		assert.Nil(t, subscription(t, s, sub.ID).PauseCollection, "resumed by itself")

		sub = update(&stripe.SubscriptionParams{PauseCollection: &stripe.SubscriptionPauseCollectionParams{Behavior: stripe.String("keep_as_draft")}})
		require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(sub.CurrentPeriodEnd, 0).Add(2*time.Hour)))
		assert.Equal(t, stripe.InvoiceStatusDraft, subscription(t, s, sub.ID).LatestInvoice.Status)
		resume := &stripe.SubscriptionParams{}
		resume.AddExtra("pause_collection", "")
		sub = update(resume)
		assert.Nil(t, sub.PauseCollection)
		sub = update(&stripe.SubscriptionParams{PauseCollection: &stripe.SubscriptionPauseCollectionParams{Behavior: stripe.String("mark_uncollectible")}})
		require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(sub.CurrentPeriodEnd, 0).Add(2*time.Hour)))
		assert.Equal(t, stripe.InvoiceStatusUncollectible, subscription(t, s, sub.ID).LatestInvoice.Status)
		update(resume)

		sub = update(&stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(true)})
		require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(sub.CurrentPeriodEnd, 0)))
		ended := subscription(t, s, sub.ID)
		assert.Equal(t, stripe.SubscriptionStatusCanceled, ended.Status)
		assert.Equal(t, sub.CurrentPeriodEnd, ended.EndedAt)
		_, err := s.Stripe.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(false)})
		requireError(t, err, 400, "parameter_invalid", "")
		_, err = s.Stripe.Subscriptions.Cancel(sub.ID, nil)
		requireError(t, err, 404, "resource_missing", "id")

		other := subscribe(t, s, who.ID, price)
		at := time.Unix(other.CurrentPeriodStart, 0).Add(10 * day)
		must(s.Stripe.Subscriptions.Update(other.ID, &stripe.SubscriptionParams{CancelAt: stripe.Int64(at.Unix())}))(t)
		require.NoError(t, s.AdvanceTo(t.Context(), at))
		assert.Equal(t, stripe.SubscriptionStatusCanceled, subscription(t, s, other.ID).Status)

		// Canceled now with a proration: the rest goes to the customer's balance and pays the next subscription.
		third := subscribe(t, s, who.ID, price)
		mid := (third.CurrentPeriodStart + third.CurrentPeriodEnd) / 2
		require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(mid, 0)))
		canceled := must(s.Stripe.Subscriptions.Cancel(third.ID, &stripe.SubscriptionCancelParams{Prorate: stripe.Bool(true), InvoiceNow: stripe.Bool(true)}))(t)
		assert.Equal(t, stripe.SubscriptionStatusCanceled, canceled.Status)
		assert.Equal(t, int64(-500), must(s.Stripe.Customers.Get(who.ID, nil))(t).Balance)
		fourth := subscribe(t, s, who.ID, price)
		assert.Equal(t, int64(500), fourth.LatestInvoice.AmountPaid)
		assert.Equal(t, int64(-500), fourth.LatestInvoice.StartingBalance)
		assert.Zero(t, must(s.Stripe.Customers.Get(who.ID, nil))(t).Balance)
	})
}

func TestSubscription_SendsWhatItReplaced(t *testing.T) {
	t.Parallel()
	s := double(t)
	sub := subscribe(t, s, customer(t, s, stripetest.CardSucceeds).ID, plan(t, s, "Basic", 1000, "month"))
	must(s.Stripe.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(true)}))(t)
	it := s.Stripe.Events.List(&stripe.EventListParams{Type: stripe.String("customer.subscription.updated")})
	require.True(t, it.Next())
	get := &stripe.CustomerParams{}
	get.AddExpand("subscriptions")
	who := must(s.Stripe.Customers.Get(sub.Customer.ID, get))(t)
	require.Len(t, who.Subscriptions.Data, 1)
	assert.Equal(t, sub.ID, who.Subscriptions.Data[0].ID)
	before := it.Event().Data.PreviousAttributes
	assert.Equal(t, false, before["cancel_at_period_end"])
	assert.Contains(t, before, "cancel_at")
	assert.NotContains(t, before, "items")
	assert.NotEmpty(t, it.Event().Request.ID)
}

func TestSubscription_DelayedPaymentOfTheFirstInvoice(t *testing.T) {
	t.Parallel()
	s := double(t)
	price := plan(t, s, "Basic", 1000, "month")
	for _, ok := range []bool{true, false} {
		o := subscriptionSession(t, s, price, nil)
		must(s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.Delayed, Email: "a@example.com"}))(t)
		o = must(s.Stripe.CheckoutSessions.Get(o.ID, nil))(t)
		assert.Equal(t, stripe.CheckoutSessionPaymentStatusUnpaid, o.PaymentStatus)
		sub := subscription(t, s, o.Subscription.ID)
		assert.Equal(t, stripe.InvoiceStatusOpen, sub.LatestInvoice.Status)
		assert.Equal(t, stripe.PaymentIntentStatusProcessing, sub.LatestInvoice.PaymentIntent.Status)
		require.NoError(t, s.SettleDelayed(t.Context(), o.ID, ok))
		sub = subscription(t, s, sub.ID)
		assert.Equal(t, ok, sub.LatestInvoice.Status == stripe.InvoiceStatusPaid)
	}
}
