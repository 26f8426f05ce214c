package stripetest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"pgregory.net/rapid"

	"github.com/quickscale/quickscale/billing/stripetest"
)

// life is a subscription to which anything may happen.
type life struct {
	t      *rapid.T
	s      *stripetest.Test
	prices []*stripe.Price
	who    string
	sub    string
}

func (l *life) subscription() *stripe.Subscription {
	p := &stripe.SubscriptionParams{}
	p.AddExpand("latest_invoice")
	sub, err := l.s.Stripe.Subscriptions.Get(l.sub, p)
	require.NoError(l.t, err)
	return sub
}

func (l *life) over(sub *stripe.Subscription) bool {
	return sub.Status == stripe.SubscriptionStatusCanceled || sub.Status == stripe.SubscriptionStatusIncompleteExpired
}

// change previews a change, makes it, and compares what was said with what is charged, now or at the renewal.
func (l *life) change(t *rapid.T) {
	sub := l.subscription()
	if l.over(sub) || sub.Status == stripe.SubscriptionStatusIncomplete {
		return
	}
	price := rapid.SampledFrom(l.prices).Draw(t, "price")
	quantity := rapid.Int64Range(1, 3).Draw(t, "quantity")
	prorate := rapid.SampledFrom([]string{"create_prorations", "always_invoice", "none"}).Draw(t, "prorate")
	payment := rapid.SampledFrom([]string{"allow_incomplete", "pending_if_incomplete", "error_if_incomplete"}).Draw(t, "payment")
	now, err := l.s.Now(t.Context())
	require.NoError(t, err)
	date := min(max(now.Unix(), sub.CurrentPeriodStart), sub.CurrentPeriodEnd)
	items := []*stripe.SubscriptionItemsParams{{ID: &sub.Items.Data[0].ID, Price: &price.ID, Quantity: &quantity}}
	preview, err := l.s.Stripe.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{Customer: &l.who, Subscription: &l.sub, SubscriptionItems: items,
		SubscriptionProrationBehavior: &prorate, SubscriptionProrationDate: &date})
	if err != nil {
		require.ErrorContains(t, err, "No upcoming invoices", "a subscription that ends has none")
	}
	before := sub.LatestInvoice.ID
	_, err = l.s.Stripe.Subscriptions.Update(l.sub, &stripe.SubscriptionParams{Items: items, ProrationBehavior: &prorate, ProrationDate: &date, PaymentBehavior: &payment})
	if err != nil {
		require.Equal(t, "error_if_incomplete", payment, "%v", err)
		after := l.subscription()
		require.Equal(t, sub.Items.Data[0].Price.ID, after.Items.Data[0].Price.ID, "nothing changes")
		require.Equal(t, before, after.LatestInvoice.ID)
		return
	}
	after := l.subscription()
	if after.LatestInvoice.ID != before && preview != nil {
		require.Equal(t, amounts(preview), amounts(after.LatestInvoice))
		require.Equal(t, preview.AmountDue, after.LatestInvoice.AmountDue)
		if after.PendingUpdate != nil {
			require.Equal(t, stripe.InvoiceStatusOpen, after.LatestInvoice.Status)
			require.Equal(t, sub.Items.Data[0].Price.ID, after.Items.Data[0].Price.ID)
		}
	}
}

func (l *life) pass(t *rapid.T) {
	now, err := l.s.Now(t.Context())
	require.NoError(t, err)
	sub := l.subscription()
	var preview *stripe.Invoice
	if !l.over(sub) && sub.PendingUpdate == nil && rapid.Bool().Draw(t, "to the renewal") {
		preview, err = l.s.Stripe.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{Subscription: &l.sub})
		if err != nil {
			require.ErrorContains(t, err, "No upcoming invoices")
		}
		if end := time.Unix(sub.CurrentPeriodEnd, 0); end.After(now) && end.Sub(now) < 60*day && sub.Status == stripe.SubscriptionStatusActive {
			require.NoError(t, l.s.AdvanceTo(t.Context(), end))
			if after := l.subscription(); preview != nil && after.CurrentPeriodStart == sub.CurrentPeriodEnd {
				require.Equal(t, amounts(preview), amounts(after.LatestInvoice), "a renewal is what its preview said")
			}
			return
		}
	}
	require.NoError(t, l.s.AdvanceTo(t.Context(), now.Add(time.Duration(rapid.IntRange(1, 40*24).Draw(t, "hours"))*time.Hour)))
}

func (l *life) card(t *rapid.T) {
	number := rapid.SampledFrom([]string{stripetest.CardSucceeds, stripetest.CardSucceeds, stripetest.CardFailsLater, stripetest.CardAuthenticate}).Draw(t, "card")
	pm, err := l.s.Stripe.PaymentMethods.New(&stripe.PaymentMethodParams{Type: stripe.String("card"), Card: &stripe.PaymentMethodCardParams{Number: &number, ExpMonth: stripe.Int64(12), ExpYear: stripe.Int64(2099)}})
	require.NoError(t, err)
	_, err = l.s.Stripe.PaymentMethods.Attach(pm.ID, &stripe.PaymentMethodAttachParams{Customer: &l.who})
	require.NoError(t, err)
	_, err = l.s.Stripe.Customers.Update(l.who, &stripe.CustomerParams{InvoiceSettings: &stripe.CustomerInvoiceSettingsParams{DefaultPaymentMethod: &pm.ID}})
	require.NoError(t, err)
}

func (l *life) pay(t *rapid.T) {
	if inv := l.subscription().LatestInvoice; inv.Status == stripe.InvoiceStatusOpen {
		require.NoError(t, l.s.PayInvoice(t.Context(), inv.ID, stripetest.Card{Number: stripetest.CardSucceeds}))
	}
}

func (l *life) cancel(t *rapid.T) {
	if l.over(l.subscription()) {
		return
	}
	_, err := l.s.Stripe.Subscriptions.Update(l.sub, &stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(rapid.Bool().Draw(t, "ends"))})
	require.NoError(t, err)
}

// books checks that no money came from nowhere: what the invoices ask for was charged, is open, or stands in the balance.
func (l *life) books(t *rapid.T) {
	paid, totals, due := int64(0), int64(0), int64(0)
	it := l.s.Stripe.Invoices.List(&stripe.InvoiceListParams{Customer: &l.who, ListParams: stripe.ListParams{Limit: stripe.Int64(100)}})
	for it.Next() {
		inv := it.Invoice()
		sum := int64(0)
		for _, line := range inv.Lines.Data {
			sum += line.Amount
		}
		require.Equal(t, inv.Subtotal, sum)
		if inv.Status == stripe.InvoiceStatusDraft || inv.Status == stripe.InvoiceStatusVoid {
			continue
		}
		totals, due, paid = totals+inv.Total, due+inv.AmountDue, paid+inv.AmountPaid
		require.Equal(t, inv.AmountDue, inv.AmountPaid+inv.AmountRemaining)
	}
	require.NoError(t, it.Err())
	c, err := l.s.Stripe.Customers.Get(l.who, nil)
	require.NoError(t, err)
	require.Equal(t, totals, due+c.Balance)
	charged := int64(0)
	charges := l.s.Stripe.Charges.List(&stripe.ChargeListParams{Customer: &l.who, ListParams: stripe.ListParams{Limit: stripe.Int64(100)}})
	for charges.Next() {
		if charges.Charge().Paid {
			charged += charges.Charge().Amount
		}
	}
	require.NoError(t, charges.Err())
	require.Equal(t, paid, charged)
}

// TestLife_PreviewsComeTrueAndTheBooksBalance lets anything happen to a subscription, in any order.
func TestLife_PreviewsComeTrueAndTheBooksBalance(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		s := double(t)
		l := &life{t: r, s: s, prices: []*stripe.Price{plan(t, s, "Free", 0, "month"), plan(t, s, "Basic", 1000, "month"), plan(t, s, "Pro", 2999, "month"), plan(t, s, "Yearly", 10001, "year")}}
		l.who = customer(t, s, stripetest.CardSucceeds).ID
		l.sub = subscribe(t, s, l.who, rapid.SampledFrom(l.prices).Draw(r, "first"), func(p *stripe.SubscriptionParams) {
			if rapid.Bool().Draw(r, "trial") {
				p.TrialPeriodDays = stripe.Int64(10)
			}
			if rapid.Bool().Draw(r, "coupon") {
				p.Coupon = &coupon(t, s, func(p *stripe.CouponParams) { p.PercentOff, p.Duration = stripe.Float64(15), stripe.String("forever") }).ID
			}
		}).ID
		r.Repeat(map[string]func(*rapid.T){"change": l.change, "pass": l.pass, "card": l.card, "pay": l.pay, "cancel": l.cancel, "": l.books})
	})
}
