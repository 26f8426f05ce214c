package webhook_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

func buyer(account string) billing.Customer {
	return billing.Customer{Account: account, Email: account + "@example.com", Name: "Ada Lovelace", Verified: true}
}

// plan makes a monthly price of a product that is worth credits, lets billing know it, and returns it.
func (s *shop) plan(t *testing.T, name, worth string, amount int64) string {
	t.Helper()
	product, err := s.double.Stripe.Products.New(&stripe.ProductParams{Name: &name, Metadata: map[string]string{"credits": worth}})
	require.NoError(t, err)
	price, err := s.double.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: &amount,
		Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("month")}})
	require.NoError(t, err)
	require.NoError(t, s.SyncCatalogue(t.Context()))
	return price.ID
}

// subscribe buys a plan. Billing hears of it from the page after the checkout, without any event.
func (s *shop) subscribe(t *testing.T, account, price string) billing.Subscription {
	t.Helper()
	c, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: buyer(account), Price: price})
	require.NoError(t, err)
	_, err = s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
	require.NoError(t, err)
	_, err = s.SyncCheckout(t.Context(), account, c.SessionID)
	require.NoError(t, err)
	sub, err := s.FindSubscription(t.Context(), account)
	require.NoError(t, err)
	return sub
}

func (s *shop) latest(t *testing.T, subscription string) *stripe.Subscription {
	t.Helper()
	sub, err := s.double.Stripe.Subscriptions.Get(subscription, nil)
	require.NoError(t, err)
	return sub
}

// useCard makes a card what pays for a subscription from now on.
func (s *shop) useCard(t *testing.T, subscription, card string) {
	t.Helper()
	method, err := s.double.Stripe.PaymentMethods.Attach(card, &stripe.PaymentMethodAttachParams{Customer: &s.latest(t, subscription).Customer.ID})
	require.NoError(t, err)
	_, err = s.double.Stripe.Subscriptions.Update(subscription, &stripe.SubscriptionParams{DefaultPaymentMethod: &method.ID})
	require.NoError(t, err)
}

// payLatest pays a subscription's open invoice as its subscriber does.
func (s *shop) payLatest(t *testing.T, subscription string) {
	t.Helper()
	require.NoError(t, s.double.PayInvoice(t.Context(), s.latest(t, subscription).LatestInvoice.ID, stripetest.Card{Number: stripetest.CardSucceeds}))
}

// change moves a subscription to another price at Stripe, as billing does, but behind billing's back.
func (s *shop) change(t *testing.T, subscription, price string, at time.Time) {
	t.Helper()
	_, err := s.double.Stripe.Subscriptions.Update(subscription, &stripe.SubscriptionParams{
		Items:             []*stripe.SubscriptionItemsParams{{ID: &s.latest(t, subscription).Items.Data[0].ID, Price: &price}},
		ProrationBehavior: stripe.String("always_invoice"), PaymentBehavior: stripe.String("pending_if_incomplete"), ProrationDate: stripe.Int64(at.Unix()),
	})
	require.NoError(t, err)
}
