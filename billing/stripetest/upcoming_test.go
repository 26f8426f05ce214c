package stripetest_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing/stripetest"
)

// upcomings are the invoices of the invoice.upcoming events, newest first.
func upcomings(t *testing.T, s *stripetest.Test) (out []stripe.Invoice) {
	t.Helper()
	it := s.Stripe.Events.List(&stripe.EventListParams{Type: stripe.String("invoice.upcoming")})
	for it.Next() {
		var inv stripe.Invoice
		require.NoError(t, json.Unmarshal(it.Event().Data.Raw, &inv))
		out = append(out, inv)
	}
	require.NoError(t, it.Err())
	return out
}

func TestUpcoming_IsToldAWeekBeforeTheRenewalAndChangesNothing(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		who, pro := customer(t, s, stripetest.CardSucceeds), plan(t, s, "Pro", 2900, "month")
		sub := subscribe(t, s, who.ID, pro)
		must(s.Stripe.InvoiceItems.New(&stripe.InvoiceItemParams{Customer: &who.ID, Subscription: &sub.ID, Amount: stripe.Int64(500), Currency: stripe.String("usd")}))(t)
		end := time.Unix(sub.CurrentPeriodEnd, 0)
		require.NoError(t, s.AdvanceTo(t.Context(), end.Add(-7*day-time.Second)))
		assert.Empty(t, upcomings(t, s))
		pass(t, s, 3*time.Second)
		told := upcomings(t, s)
		require.Len(t, told, 1)
		assert.Empty(t, told[0].ID, "it does not exist yet")
		assert.Equal(t, int64(3400), told[0].AmountDue)
		assert.Equal(t, sub.ID, told[0].Subscription.ID)
		assert.Equal(t, end.Add(time.Hour).Unix(), told[0].NextPaymentAttempt)
		asked := must(s.Stripe.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{Subscription: &sub.ID}))(t)
		assert.Equal(t, asked.AmountDue, told[0].AmountDue)
		assert.Len(t, told[0].Lines.Data, len(asked.Lines.Data))
		assert.Len(t, invoices(t, s, sub.ID), 1, "telling makes no invoice")
		require.NoError(t, s.AdvanceTo(t.Context(), end.Add(2*time.Hour)))
		made := invoices(t, s, sub.ID)
		require.Len(t, made, 2)
		assert.Equal(t, told[0].AmountDue, made[0].AmountPaid)
		assert.Len(t, upcomings(t, s), 1, "once for each renewal")

		pass(t, s, 25*day)
		told = upcomings(t, s)
		require.Len(t, told, 1, "the first event is more than 30 days old")
		assert.Equal(t, int64(2900), told[0].AmountDue)
		must(s.Stripe.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(true)}))(t)
		pass(t, s, 60*day)
		assert.Equal(t, stripe.SubscriptionStatusCanceled, subscription(t, s, sub.ID).Status)

		ends := subscribe(t, s, who.ID, pro, func(p *stripe.SubscriptionParams) { p.CancelAtPeriodEnd = stripe.Bool(true) })
		subscribe(t, s, who.ID, plan(t, s, "Daily", 100, "day"))
		pass(t, s, 29*day)
		for _, inv := range upcomings(t, s) {
			assert.NotEqual(t, ends.ID, inv.Subscription.ID, "what ends has no next invoice, and a day's period is too short to be told of")
		}
	})
}

func TestCustomer_IsDelinquentWhileAnAutomaticPaymentIsMissing(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		who, pro := customer(t, s, stripetest.CardSucceeds), plan(t, s, "Pro", 2900, "month")
		delinquent := func() bool { return must(s.Stripe.Customers.Get(who.ID, nil))(t).Delinquent }
		sub := subscribe(t, s, who.ID, pro)
		saveCard(t, s, who.ID, stripetest.CardFailsLater)
		assert.False(t, delinquent())
		require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(sub.CurrentPeriodEnd, 0).Add(2*time.Hour)))
		assert.True(t, delinquent())
		require.NoError(t, s.PayInvoice(t.Context(), invoices(t, s, sub.ID)[0].ID, stripetest.Card{Number: stripetest.CardSucceeds}))
		assert.False(t, delinquent())

		broken := newCard(t, s, stripetest.CardFailsLater)
		must(s.Stripe.PaymentMethods.Attach(broken.ID, &stripe.PaymentMethodAttachParams{Customer: &who.ID}))(t)
		must(s.Stripe.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{DefaultPaymentMethod: &broken.ID}))(t)
		require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(subscription(t, s, sub.ID).CurrentPeriodEnd, 0).Add(2*time.Hour)))
		assert.True(t, delinquent())
		must(s.Stripe.Invoices.MarkUncollectible(invoices(t, s, sub.ID)[0].ID, nil))(t)
		assert.False(t, delinquent())
	})
}
