package stripetest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing/stripetest"
)

// changing is a subscription in the middle of its first period, and a change of it to another price.
type changing struct {
	t   *testing.T
	s   *stripetest.Test
	who *stripe.Customer
	sub *stripe.Subscription
}

func newChanging(t *testing.T, s *stripetest.Test, price *stripe.Price) *changing {
	t.Helper()
	c := &changing{t: t, s: s, who: customer(t, s, stripetest.CardSucceeds)}
	c.sub = subscribe(t, s, c.who.ID, price)
	c.to(c.middle())
	return c
}

func (c *changing) middle() int64 { return (c.sub.CurrentPeriodStart + c.sub.CurrentPeriodEnd) / 2 }

func (c *changing) to(at int64) {
	c.t.Helper()
	require.NoError(c.t, c.s.AdvanceTo(c.t.Context(), time.Unix(at, 0)))
}

func (c *changing) preview(price *stripe.Price, behavior string) (*stripe.Invoice, error) {
	return c.s.Stripe.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{Customer: &c.who.ID, Subscription: &c.sub.ID, SubscriptionProrationBehavior: &behavior,
		SubscriptionProrationDate: stripe.Int64(c.middle()), SubscriptionItems: []*stripe.SubscriptionItemsParams{{ID: &c.sub.Items.Data[0].ID, Price: &price.ID}}})
}

func (c *changing) change(price *stripe.Price, behavior, payment string) (*stripe.Subscription, error) {
	p := &stripe.SubscriptionParams{Items: []*stripe.SubscriptionItemsParams{{ID: &c.sub.Items.Data[0].ID, Price: &price.ID}}, ProrationBehavior: &behavior,
		ProrationDate: stripe.Int64(c.middle())}
	if payment != "" {
		p.PaymentBehavior = &payment
	}
	p.AddExpand("latest_invoice.payment_intent")
	return c.s.Stripe.Subscriptions.Update(c.sub.ID, p)
}

func amounts(inv *stripe.Invoice) (out []int64) {
	for _, l := range inv.Lines.Data {
		out = append(out, l.Amount)
	}
	return out
}

func TestRevision_UpgradeChargesWhatThePreviewSaid(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		basic, pro := plan(t, s, "Basic", 1000, "month"), plan(t, s, "Pro", 3000, "month")
		c := newChanging(t, s, basic)
		preview := must(c.preview(pro, "always_invoice"))(t)
		assert.Empty(t, preview.ID)
		assert.Equal(t, []int64{-500, 1500}, amounts(preview))
		assert.Equal(t, int64(1000), preview.AmountDue)
		assert.Len(t, invoices(t, s, c.sub.ID), 1, "a preview makes nothing")
		assert.Equal(t, basic.ID, subscription(t, s, c.sub.ID).Items.Data[0].Price.ID)

		sub := must(c.change(pro, "always_invoice", "pending_if_incomplete"))(t)
		inv := sub.LatestInvoice
		assert.Equal(t, pro.ID, sub.Items.Data[0].Price.ID)
		assert.Equal(t, c.sub.Items.Data[0].ID, sub.Items.Data[0].ID, "the item stays the same")
		assert.Equal(t, c.sub.CurrentPeriodEnd, sub.CurrentPeriodEnd)
		assert.Equal(t, stripe.InvoiceBillingReasonSubscriptionUpdate, inv.BillingReason)
		assert.Equal(t, amounts(preview), amounts(inv))
		assert.Equal(t, preview.AmountDue, inv.AmountPaid)
		for _, l := range inv.Lines.Data {
			assert.True(t, l.Proration)
			assert.Equal(t, c.middle(), l.Period.Start)
			assert.Equal(t, stripe.InvoiceLineItemTypeInvoiceItem, l.Type)
		}
		assert.Contains(t, inv.Lines.Data[0].Description, "Unused time on Basic")
		assert.Contains(t, inv.Lines.Data[1].Description, "Remaining time on Pro")

		// The renewal is the new price, as its preview says.
		next := must(s.Stripe.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{Customer: &c.who.ID}))(t)
		assert.Equal(t, []int64{3000}, amounts(next))
		c.to(c.sub.CurrentPeriodEnd + 7200)
		assert.Equal(t, int64(3000), subscription(t, s, c.sub.ID).LatestInvoice.AmountPaid)
	})
}

func TestRevision_ProrationsWaitForTheRenewal(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		basic, pro := plan(t, s, "Basic", 1000, "month"), plan(t, s, "Pro", 3000, "month")
		c := newChanging(t, s, basic)
		preview := must(c.preview(pro, "create_prorations"))(t)
		assert.Equal(t, []int64{-500, 1500, 3000}, amounts(preview))
		sub := must(c.change(pro, "create_prorations", ""))(t)
		assert.Equal(t, pro.ID, sub.Items.Data[0].Price.ID)
		assert.Len(t, invoices(t, s, c.sub.ID), 1, "nothing is charged yet")
		items := s.Stripe.InvoiceItems.List(&stripe.InvoiceItemListParams{Customer: &c.who.ID})
		require.True(t, items.Next())
		assert.True(t, items.InvoiceItem().Proration)
		lines := s.Stripe.Invoices.UpcomingLines(&stripe.InvoiceUpcomingLinesParams{Customer: &c.who.ID})
		require.True(t, lines.Next())
		c.to(c.sub.CurrentPeriodEnd + 7200)
		renewal := subscription(t, s, c.sub.ID).LatestInvoice
		assert.Equal(t, amounts(preview), amounts(renewal))
		assert.Equal(t, preview.AmountDue, renewal.AmountPaid)
		assert.Equal(t, preview.PeriodEnd, renewal.PeriodEnd)

		// And with none nothing is ever charged for the rest of the period.
		d := newChanging(t, s, basic)
		must(d.change(pro, "none", ""))(t)
		d.to(d.sub.CurrentPeriodEnd + 7200)
		assert.Equal(t, []int64{3000}, amounts(subscription(t, s, d.sub.ID).LatestInvoice))
	})
}

func TestRevision_DowngradeNowGoesToTheBalance(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		basic, pro := plan(t, s, "Basic", 1000, "month"), plan(t, s, "Pro", 3000, "month")
		c := newChanging(t, s, pro)
		sub := must(c.change(basic, "always_invoice", ""))(t)
		assert.Equal(t, int64(-1000), sub.LatestInvoice.Total)
		assert.Zero(t, sub.LatestInvoice.AmountDue)
		assert.Equal(t, stripe.InvoiceStatusPaid, sub.LatestInvoice.Status)
		assert.Nil(t, sub.LatestInvoice.PaymentIntent)
		assert.Equal(t, int64(-1000), must(s.Stripe.Customers.Get(c.who.ID, nil))(t).Balance)
		preview := must(s.Stripe.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{Subscription: &sub.ID}))(t)
		assert.Zero(t, preview.AmountDue, "the balance pays it")
		c.to(c.sub.CurrentPeriodEnd + 7200)
		renewal := subscription(t, s, sub.ID).LatestInvoice
		assert.Equal(t, int64(1000), renewal.Total)
		assert.Zero(t, renewal.AmountPaid)
		assert.Zero(t, must(s.Stripe.Customers.Get(c.who.ID, nil))(t).Balance)
	})
}

func TestRevision_AnotherIntervalBeginsANewPeriod(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		basic, yearly := plan(t, s, "Basic", 1000, "month"), plan(t, s, "Basic, yearly", 10000, "year")
		c := newChanging(t, s, basic)
		preview := must(c.preview(yearly, "create_prorations"))(t)
		sub := must(c.change(yearly, "create_prorations", "error_if_incomplete"))(t)
		assert.Equal(t, []int64{-500, 10000}, amounts(preview))
		assert.Equal(t, amounts(preview), amounts(sub.LatestInvoice))
		assert.Equal(t, int64(9500), sub.LatestInvoice.AmountPaid)
		assert.False(t, sub.LatestInvoice.Lines.Data[1].Proration)
		assert.Equal(t, time.Unix(sub.CurrentPeriodStart, 0).UTC().AddDate(1, 0, 0).Unix(), sub.CurrentPeriodEnd)
		assert.Equal(t, sub.CurrentPeriodStart, sub.BillingCycleAnchor)
	})
}

func TestRevision_PendingUpdateWaitsForItsMoney(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		basic, pro := plan(t, s, "Basic", 1000, "month"), plan(t, s, "Pro", 3000, "month")
		c := newChanging(t, s, basic)
		saveCard(t, s, c.who.ID, stripetest.CardFailsLater)

		_, err := c.change(pro, "always_invoice", "error_if_incomplete")
		requireError(t, err, 402, "card_declined", "")
		assert.Equal(t, basic.ID, subscription(t, s, c.sub.ID).Items.Data[0].Price.ID)
		assert.Len(t, invoices(t, s, c.sub.ID), 1, "all of it was undone")

		sub := must(c.change(pro, "always_invoice", "pending_if_incomplete"))(t)
		assert.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
		assert.Equal(t, basic.ID, sub.Items.Data[0].Price.ID, "the old plan until the money is there")
		require.NotNil(t, sub.PendingUpdate)
		assert.Equal(t, pro.ID, sub.PendingUpdate.SubscriptionItems[0].Price.ID)
		assert.Equal(t, stripe.InvoiceStatusOpen, sub.LatestInvoice.Status)
		assert.InDelta(t, now(t, s).Add(23*time.Hour).Unix(), sub.PendingUpdate.ExpiresAt, 10)

		good := saveCard(t, s, c.who.ID, stripetest.CardSucceeds)
		must(s.Stripe.Invoices.Pay(sub.LatestInvoice.ID, &stripe.InvoicePayParams{PaymentMethod: &good.ID}))(t)
		sub = subscription(t, s, c.sub.ID)
		assert.Equal(t, pro.ID, sub.Items.Data[0].Price.ID)
		assert.Nil(t, sub.PendingUpdate)

		// One whose money does not come is forgotten, and its invoice is void.
		d := newChanging(t, s, basic)
		saveCard(t, s, d.who.ID, stripetest.CardAuthenticate)
		sub = must(d.change(pro, "always_invoice", "pending_if_incomplete"))(t)
		assert.Equal(t, stripe.PaymentIntentStatusRequiresAction, sub.LatestInvoice.PaymentIntent.Status)
		pass(t, s, 24*time.Hour)
		expired := subscription(t, s, d.sub.ID)
		assert.Nil(t, expired.PendingUpdate)
		assert.Equal(t, basic.ID, expired.Items.Data[0].Price.ID)
		assert.Equal(t, stripe.InvoiceStatusVoid, expired.LatestInvoice.Status)
		seen := events(t, s, "customer.subscription.")
		assert.Equal(t, 1, seen["customer.subscription.pending_update_applied"])
		assert.Equal(t, 1, seen["customer.subscription.pending_update_expired"])

		// Voiding the invoice takes the change back, too; and 3-D Secure lets it through.
		e := newChanging(t, s, basic)
		saveCard(t, s, e.who.ID, stripetest.CardAuthenticate)
		sub = must(e.change(pro, "always_invoice", "pending_if_incomplete"))(t)
		must(s.Stripe.Invoices.VoidInvoice(sub.LatestInvoice.ID, nil))(t)
		assert.Nil(t, subscription(t, s, sub.ID).PendingUpdate)
		sub = must(e.change(pro, "always_invoice", "pending_if_incomplete"))(t)
		must(s.Authenticate(t.Context(), sub.LatestInvoice.PaymentIntent.ID, true))(t)
		assert.Equal(t, pro.ID, subscription(t, s, sub.ID).Items.Data[0].Price.ID)

		// allow_incomplete is the free upgrade that the facts warn of.
		f := newChanging(t, s, basic)
		saveCard(t, s, f.who.ID, stripetest.CardFailsLater)
		sub = must(f.change(pro, "always_invoice", "allow_incomplete"))(t)
		assert.Equal(t, pro.ID, sub.Items.Data[0].Price.ID)
		assert.Equal(t, stripe.SubscriptionStatusPastDue, subscription(t, s, sub.ID).Status)
	})
}

func TestRevision_ErrorsOfChanges(t *testing.T) {
	t.Parallel()
	s := double(t)
	basic, pro := plan(t, s, "Basic", 1000, "month"), plan(t, s, "Pro", 3000, "month")
	euro := must(s.Stripe.Prices.New(&stripe.PriceParams{Product: &basic.Product.ID, Currency: stripe.String("eur"), UnitAmount: stripe.Int64(1), Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("month")}}))(t)
	_, once := pack(t, s)
	c := newChanging(t, s, basic)
	item := c.sub.Items.Data[0].ID
	for name, try := range map[string]struct {
		change      func(p *stripe.SubscriptionParams)
		code, param string
	}{
		"another's item":   {func(p *stripe.SubscriptionParams) { p.Items[0].ID = stripe.String("si_x") }, "resource_missing", "items[0][id]"},
		"no such price":    {func(p *stripe.SubscriptionParams) { p.Items[0].Price = stripe.String("price_x") }, "resource_missing", "items[0][price]"},
		"one-time price":   {func(p *stripe.SubscriptionParams) { p.Items[0].Price = &once.ID }, "parameter_invalid", "items[0][price]"},
		"the same price":   {func(p *stripe.SubscriptionParams) { p.Items[0].ID, p.Items[0].Price = nil, &basic.ID }, "parameter_invalid", "items[0][price]"},
		"another currency": {func(p *stripe.SubscriptionParams) { p.Items[0].ID, p.Items[0].Price = nil, &euro.ID }, "parameter_invalid", "items"},
		"nothing left":     {func(p *stripe.SubscriptionParams) { p.Items[0].Price, p.Items[0].Deleted = nil, stripe.Bool(true) }, "parameter_invalid", "items"},
		"date outside":     {func(p *stripe.SubscriptionParams) { p.ProrationDate = stripe.Int64(c.sub.CurrentPeriodEnd + 1) }, "parameter_invalid", "proration_date"},
		"behavior":         {func(p *stripe.SubscriptionParams) { p.ProrationBehavior = stripe.String("maybe") }, "parameter_invalid", "proration_behavior"},
		"payment":          {func(p *stripe.SubscriptionParams) { p.PaymentBehavior = stripe.String("maybe") }, "parameter_invalid", "payment_behavior"},
		"pending with other": {func(p *stripe.SubscriptionParams) {
			p.PaymentBehavior, p.Metadata = stripe.String("pending_if_incomplete"), map[string]string{"a": "b"}
		}, "parameter_invalid", "payment_behavior"},
		"both ends": {func(p *stripe.SubscriptionParams) {
			p.CancelAt, p.CancelAtPeriodEnd = stripe.Int64(c.sub.CurrentPeriodEnd), stripe.Bool(true)
		}, "parameter_invalid", "cancel_at"},
		"sent invoices": {func(p *stripe.SubscriptionParams) { p.CollectionMethod = stripe.String("send_invoice") }, "unsupported_by_double", "collection_method"},
		"taxes":         {func(p *stripe.SubscriptionParams) { p.DefaultTaxRates = []*string{stripe.String("txr_1")} }, "parameter_unknown", "default_tax_rates[0]"},
	} {
		p := &stripe.SubscriptionParams{Items: []*stripe.SubscriptionItemsParams{{ID: &item, Price: &pro.ID}}}
		try.change(p)
		_, err := s.Stripe.Subscriptions.Update(c.sub.ID, p)
		var e *stripe.Error
		require.ErrorAs(t, err, &e, name)
		assert.Equal(t, try.code, string(e.Code), name)
		assert.Equal(t, try.param, e.Param, name)
	}
	assert.Equal(t, basic.ID, subscription(t, s, c.sub.ID).Items.Data[0].Price.ID)
	must(s.Stripe.Subscriptions.Update(c.sub.ID, &stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(true)}))(t)
	_, err := s.Stripe.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{Customer: &c.who.ID})
	requireError(t, err, 404, "invoice_upcoming_none", "")
	_, err = s.Stripe.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{Customer: &customer(t, s, "").ID})
	requireError(t, err, 404, "invoice_upcoming_none", "")
}

func TestSchedule_DowngradesAtThePeriodsEnd(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		basic, pro := plan(t, s, "Basic", 1000, "month"), plan(t, s, "Pro", 3000, "month")
		c := newChanging(t, s, pro)
		schedule := must(s.Stripe.SubscriptionSchedules.New(&stripe.SubscriptionScheduleParams{FromSubscription: &c.sub.ID}))(t)
		require.Len(t, schedule.Phases, 1)
		assert.Equal(t, c.sub.CurrentPeriodEnd, schedule.Phases[0].EndDate)
		_, err := s.Stripe.SubscriptionSchedules.New(&stripe.SubscriptionScheduleParams{FromSubscription: &c.sub.ID})
		requireError(t, err, 400, "parameter_invalid", "from_subscription")
		schedule = must(s.Stripe.SubscriptionSchedules.Update(schedule.ID, &stripe.SubscriptionScheduleParams{EndBehavior: stripe.String("release"),
			Phases: []*stripe.SubscriptionSchedulePhaseParams{
				{Items: []*stripe.SubscriptionSchedulePhaseItemParams{{Price: &pro.ID, Quantity: stripe.Int64(1)}}, StartDate: &schedule.Phases[0].StartDate, EndDate: &schedule.Phases[0].EndDate},
				{Items: []*stripe.SubscriptionSchedulePhaseItemParams{{Price: &basic.ID, Quantity: stripe.Int64(1)}}, Iterations: stripe.Int64(1), ProrationBehavior: stripe.String("none")},
			}}))(t)
		require.Len(t, schedule.Phases, 2)
		sub := subscription(t, s, c.sub.ID)
		assert.Equal(t, pro.ID, sub.Items.Data[0].Price.ID, "not yet")
		assert.Equal(t, schedule.ID, sub.Schedule.ID)
		_, err = s.Stripe.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(true)})
		requireError(t, err, 400, "parameter_invalid", "")
		preview := must(s.Stripe.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{Customer: &c.who.ID}))(t)
		assert.Equal(t, []int64{1000}, amounts(preview))

		c.to(c.sub.CurrentPeriodEnd + 7200)
		sub = subscription(t, s, c.sub.ID)
		assert.Equal(t, basic.ID, sub.Items.Data[0].Price.ID)
		assert.Equal(t, []int64{1000}, amounts(sub.LatestInvoice))
		assert.Equal(t, int64(1000), sub.LatestInvoice.AmountPaid)
		assert.Equal(t, stripe.InvoiceBillingReasonSubscriptionCycle, sub.LatestInvoice.BillingReason)
		c.to(sub.CurrentPeriodEnd + 7200)
		sub = subscription(t, s, c.sub.ID)
		assert.Nil(t, sub.Schedule, "released after its last phase")
		assert.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
		assert.Equal(t, int64(1000), sub.LatestInvoice.AmountPaid)
		schedule = must(s.Stripe.SubscriptionSchedules.Get(schedule.ID, nil))(t)
		assert.Equal(t, stripe.SubscriptionScheduleStatusReleased, schedule.Status)
		assert.Equal(t, c.sub.ID, schedule.ReleasedSubscription.ID)

		// Taken back before it happens; and ended with its subscription.
		other := must(s.Stripe.SubscriptionSchedules.New(&stripe.SubscriptionScheduleParams{FromSubscription: &c.sub.ID}))(t)
		other = must(s.Stripe.SubscriptionSchedules.Release(other.ID, nil))(t)
		assert.Equal(t, stripe.SubscriptionScheduleStatusReleased, other.Status)
		third := must(s.Stripe.SubscriptionSchedules.New(&stripe.SubscriptionScheduleParams{FromSubscription: &c.sub.ID}))(t)
		third = must(s.Stripe.SubscriptionSchedules.Cancel(third.ID, nil))(t)
		assert.Equal(t, stripe.SubscriptionScheduleStatusCanceled, third.Status)
		assert.Equal(t, stripe.SubscriptionStatusCanceled, subscription(t, s, c.sub.ID).Status)
		_, err = s.Stripe.SubscriptionSchedules.Cancel(third.ID, nil)
		requireError(t, err, 400, "parameter_invalid", "")
		list := s.Stripe.SubscriptionSchedules.List(&stripe.SubscriptionScheduleListParams{Customer: &c.who.ID})
		require.True(t, list.Next())
		assert.Equal(t, map[string]int{"subscription_schedule.created": 2, "subscription_schedule.released": 2, "subscription_schedule.canceled": 1},
			events(t, s, "subscription_schedule."), "of the last 30 days")
	})
}

func TestSchedule_CancelsWhenItEndsAndChangesWithinAPeriod(t *testing.T) {
	t.Parallel()
	s := double(t)
	basic, pro := plan(t, s, "Basic", 1000, "month"), plan(t, s, "Pro", 3000, "month")
	c := newChanging(t, s, basic)
	schedule := must(s.Stripe.SubscriptionSchedules.New(&stripe.SubscriptionScheduleParams{FromSubscription: &c.sub.ID}))(t)
	quarter := c.middle() + (c.sub.CurrentPeriodEnd-c.middle())/2
	item := func(p *stripe.Price) []*stripe.SubscriptionSchedulePhaseItemParams {
		return []*stripe.SubscriptionSchedulePhaseItemParams{{Price: &p.ID}}
	}
	must(s.Stripe.SubscriptionSchedules.Update(schedule.ID, &stripe.SubscriptionScheduleParams{EndBehavior: stripe.String("cancel"), Phases: []*stripe.SubscriptionSchedulePhaseParams{
		{Items: item(basic), StartDate: &c.sub.CurrentPeriodStart, EndDate: &quarter},
		{Items: item(pro), EndDate: &c.sub.CurrentPeriodEnd, ProrationBehavior: stripe.String("always_invoice")},
	}}))(t)
	c.to(quarter)
	sub := subscription(t, s, c.sub.ID)
	assert.Equal(t, pro.ID, sub.Items.Data[0].Price.ID)
	assert.Equal(t, []int64{-250, 750}, amounts(sub.LatestInvoice))
	c.to(c.sub.CurrentPeriodEnd)
	assert.Equal(t, stripe.SubscriptionStatusCanceled, subscription(t, s, c.sub.ID).Status)
	assert.Equal(t, stripe.SubscriptionScheduleStatusCompleted, must(s.Stripe.SubscriptionSchedules.Get(schedule.ID, nil))(t).Status)
}

func TestSubscriptionItems_AreAddedChangedAndTakenAway(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		basic, pro, seats := plan(t, s, "Basic", 1000, "month"), plan(t, s, "Pro", 3000, "month"), plan(t, s, "Seats", 200, "month")
		yearly := plan(t, s, "Yearly", 100, "year")
		c := newChanging(t, s, basic)
		item := must(s.Stripe.SubscriptionItems.Update(c.sub.Items.Data[0].ID, &stripe.SubscriptionItemParams{Price: &pro.ID, ProrationBehavior: stripe.String("always_invoice"),
			ProrationDate: stripe.Int64(c.middle()), PaymentBehavior: stripe.String("pending_if_incomplete")}))(t)
		assert.Equal(t, pro.ID, item.Price.ID)
		assert.Equal(t, int64(1000), subscription(t, s, c.sub.ID).LatestInvoice.AmountPaid)
		added := must(s.Stripe.SubscriptionItems.New(&stripe.SubscriptionItemParams{Subscription: &c.sub.ID, Price: &seats.ID, Quantity: stripe.Int64(5), ProrationBehavior: stripe.String("none"),
			Metadata: map[string]string{"kind": "seats"}}))(t)
		assert.Equal(t, int64(5), added.Quantity)
		assert.Equal(t, "seats", must(s.Stripe.SubscriptionItems.Get(added.ID, nil))(t).Metadata["kind"])
		preview := must(s.Stripe.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{Subscription: &c.sub.ID}))(t)
		assert.Equal(t, []int64{3000, 1000}, amounts(preview))
		_, err := s.Stripe.SubscriptionItems.New(&stripe.SubscriptionItemParams{Subscription: &c.sub.ID, Price: &seats.ID})
		requireError(t, err, 400, "parameter_invalid", "price")
		_, err = s.Stripe.SubscriptionItems.New(&stripe.SubscriptionItemParams{Subscription: &c.sub.ID, Price: &yearly.ID})
		requireError(t, err, 400, "parameter_invalid", "items")
		must(s.Stripe.SubscriptionItems.Del(added.ID, nil))(t)
		_, err = s.Stripe.SubscriptionItems.Get(added.ID, nil)
		requireError(t, err, 404, "resource_missing", "id")
		_, err = s.Stripe.SubscriptionItems.Del(item.ID, nil)
		requireError(t, err, 400, "parameter_invalid", "items")
	})
}

func ExampleServer_AdvanceTo() {
	s, err := stripetest.NewServer(stripetest.Config{BaseURL: "http://127.0.0.1:12111"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, api := context.Background(), s.Client()
	price, _ := api.Prices.New(&stripe.PriceParams{Currency: stripe.String("usd"), UnitAmount: stripe.Int64(900), ProductData: &stripe.PriceProductDataParams{Name: stripe.String("Plan")},
		Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("month")}})
	session, err := api.CheckoutSessions.New(&stripe.CheckoutSessionParams{Mode: stripe.String("subscription"), SuccessURL: stripe.String("https://shop.example/thanks"),
		LineItems: []*stripe.CheckoutSessionLineItemParams{{Price: &price.ID, Quantity: stripe.Int64(1)}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := s.Pay(ctx, session.ID, stripetest.Card{Number: stripetest.CardSucceeds, Email: "ada@example.com"}); err != nil {
		fmt.Println(err)
		return
	}
	session, _ = api.CheckoutSessions.Get(session.ID, nil)
	sub, _ := api.Subscriptions.Get(session.Subscription.ID, nil)
	// The renewal is a draft for an hour, and paid then.
	if err := s.AdvanceTo(ctx, time.Unix(sub.CurrentPeriodEnd, 0).Add(time.Hour)); err != nil {
		fmt.Println(err)
		return
	}
	invoices := api.Invoices.List(&stripe.InvoiceListParams{Subscription: &sub.ID})
	for invoices.Next() {
		fmt.Println(invoices.Invoice().BillingReason, invoices.Invoice().AmountPaid)
	}
	// Output:
	// subscription_cycle 900
	// subscription_create 900
}
