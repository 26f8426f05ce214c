package stripetest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing/stripetest"
)

func TestInvoices_MadeByHand(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		who := customer(t, s, stripetest.CardSucceeds)
		_, once := pack(t, s)
		must(s.Stripe.InvoiceItems.New(&stripe.InvoiceItemParams{Customer: &who.ID, Price: &once.ID, Quantity: stripe.Int64(2), Description: stripe.String("Two packs")}))(t)
		gone := must(s.Stripe.InvoiceItems.New(&stripe.InvoiceItemParams{Customer: &who.ID, Amount: stripe.Int64(70), Currency: stripe.String("usd")}))(t)
		must(s.Stripe.InvoiceItems.Del(gone.ID, nil))(t)
		inv := must(s.Stripe.Invoices.New(&stripe.InvoiceParams{Customer: &who.ID, PendingInvoiceItemsBehavior: stripe.String("include"), Description: stripe.String("Thanks"), Metadata: map[string]string{"a": "b"}}))(t)
		assert.Equal(t, stripe.InvoiceStatusDraft, inv.Status)
		assert.Equal(t, stripe.InvoiceBillingReasonManual, inv.BillingReason)
		assert.Equal(t, []int64{2000}, amounts(inv))
		must(s.Stripe.InvoiceItems.New(&stripe.InvoiceItemParams{Customer: &who.ID, Amount: stripe.Int64(100), Currency: stripe.String("usd"), Invoice: &inv.ID}))(t)
		inv = must(s.Stripe.Invoices.FinalizeInvoice(inv.ID, nil))(t)
		assert.Equal(t, int64(2100), inv.AmountDue)
		assert.Regexp(t, `^[A-Z0-9]{8}-0001$`, inv.Number)
		inv = must(s.Stripe.Invoices.Pay(inv.ID, nil))(t)
		assert.Equal(t, stripe.InvoiceStatusPaid, inv.Status)
		assert.Equal(t, inv.ID, charge(t, s, inv.Charge.ID).Invoice.ID)
		_, err := s.Stripe.Invoices.Pay(inv.ID, nil)
		requireError(t, err, 400, "invoice_already_paid", "")
		_, err = s.Stripe.Invoices.VoidInvoice(inv.ID, nil)
		requireError(t, err, 400, "invoice_not_editable", "")
		lines := s.Stripe.Invoices.ListLines(&stripe.InvoiceListLinesParams{Invoice: &inv.ID})
		require.True(t, lines.Next())

		draft := must(s.Stripe.Invoices.New(&stripe.InvoiceParams{Customer: &who.ID, AutoAdvance: stripe.Bool(true)}))(t)
		assert.Empty(t, draft.Lines.Data)
		must(s.Stripe.Invoices.Update(draft.ID, &stripe.InvoiceParams{Metadata: map[string]string{"c": "d"}}))(t)
		must(s.Stripe.Invoices.Del(draft.ID, nil))(t)
		_, err = s.Stripe.Invoices.Get(draft.ID, nil)
		requireError(t, err, 404, "resource_missing", "id")

		open := func() *stripe.Invoice {
			must(s.Stripe.InvoiceItems.New(&stripe.InvoiceItemParams{Customer: &who.ID, Amount: stripe.Int64(900), Currency: stripe.String("usd")}))(t)
			inv := must(s.Stripe.Invoices.New(&stripe.InvoiceParams{Customer: &who.ID, PendingInvoiceItemsBehavior: stripe.String("include")}))(t)
			return must(s.Stripe.Invoices.FinalizeInvoice(inv.ID, nil))(t)
		}
		void := must(s.Stripe.Invoices.VoidInvoice(open().ID, nil))(t)
		assert.Equal(t, stripe.InvoiceStatusVoid, void.Status)
		bad := must(s.Stripe.Invoices.MarkUncollectible(open().ID, nil))(t)
		assert.Equal(t, stripe.InvoiceStatusUncollectible, bad.Status)
		bad = must(s.Stripe.Invoices.Pay(bad.ID, &stripe.InvoicePayParams{PaidOutOfBand: stripe.Bool(true)}))(t)
		assert.True(t, bad.PaidOutOfBand)
		asks := must(s.Stripe.PaymentMethods.Attach("pm_card_authenticationRequired", &stripe.PaymentMethodAttachParams{Customer: &who.ID}))(t)
		waiting := open()
		_, err = s.Stripe.Invoices.Pay(waiting.ID, &stripe.InvoicePayParams{PaymentMethod: &asks.ID})
		requireError(t, err, 402, "invoice_payment_intent_requires_action", "")
		must(s.Authenticate(t.Context(), waiting.PaymentIntent.ID, true))(t)
		assert.Equal(t, stripe.InvoiceStatusPaid, must(s.Stripe.Invoices.Get(waiting.ID, nil))(t).Status)
		off := open()
		_, err = s.Stripe.Invoices.Pay(off.ID, &stripe.InvoicePayParams{PaymentMethod: &asks.ID, OffSession: stripe.Bool(true)})
		requireError(t, err, 402, "authentication_required", "")
	})
}

func TestInvoices_OfAnAutomaticDraftArePaidAfterAnHour(t *testing.T) {
	t.Parallel()
	s := double(t)
	who := customer(t, s, stripetest.CardSucceeds)
	must(s.Stripe.InvoiceItems.New(&stripe.InvoiceItemParams{Customer: &who.ID, Amount: stripe.Int64(900), Currency: stripe.String("usd")}))(t)
	inv := must(s.Stripe.Invoices.New(&stripe.InvoiceParams{Customer: &who.ID, PendingInvoiceItemsBehavior: stripe.String("include"), AutoAdvance: stripe.Bool(true)}))(t)
	pass(t, s, time.Hour+time.Second)
	assert.Equal(t, stripe.InvoiceStatusPaid, must(s.Stripe.Invoices.Get(inv.ID, nil))(t).Status)

	// What is too little to charge waits in the balance.
	must(s.Stripe.InvoiceItems.New(&stripe.InvoiceItemParams{Customer: &who.ID, Amount: stripe.Int64(30), Currency: stripe.String("usd")}))(t)
	inv = must(s.Stripe.Invoices.New(&stripe.InvoiceParams{Customer: &who.ID, PendingInvoiceItemsBehavior: stripe.String("include")}))(t)
	inv = must(s.Stripe.Invoices.FinalizeInvoice(inv.ID, nil))(t)
	assert.Equal(t, stripe.InvoiceStatusPaid, inv.Status)
	assert.Equal(t, int64(30), must(s.Stripe.Customers.Get(who.ID, nil))(t).Balance)
}

// Everything that can go wrong with parameters, in one table.
func TestErrors_SayTypeCodeAndParam(t *testing.T) {
	t.Parallel()
	s := double(t)
	who := customer(t, s, "")
	price := plan(t, s, "Basic", 1000, "month")
	product, once := pack(t, s)
	x := stripe.String("x")
	for _, c := range []struct {
		name        string
		call        func() error
		status      int
		code, param string
	}{
		{"amount missing", func() error {
			_, err := s.Stripe.PaymentIntents.New(&stripe.PaymentIntentParams{Currency: stripe.String("usd")})
			return err
		}, 400, "parameter_missing", "amount"},
		{"amount too small", func() error {
			_, err := s.Stripe.PaymentIntents.New(&stripe.PaymentIntentParams{Amount: stripe.Int64(49), Currency: stripe.String("usd")})
			return err
		}, 400, "amount_too_small", "amount"},
		{"amount too large", func() error {
			_, err := s.Stripe.PaymentIntents.New(&stripe.PaymentIntentParams{Amount: stripe.Int64(1e9), Currency: stripe.String("usd")})
			return err
		}, 400, "amount_too_large", "amount"},
		{"currency", func() error {
			_, err := s.Stripe.PaymentIntents.New(&stripe.PaymentIntentParams{Amount: stripe.Int64(100), Currency: stripe.String("dollars")})
			return err
		}, 400, "parameter_invalid", "currency"},
		{"manual capture", func() error {
			_, err := s.Stripe.PaymentIntents.New(&stripe.PaymentIntentParams{Amount: stripe.Int64(100), Currency: stripe.String("usd"), CaptureMethod: stripe.String("manual")})
			return err
		}, 400, "unsupported_by_double", "capture_method"},
		{"confirm without method", func() error {
			_, err := s.Stripe.PaymentIntents.New(&stripe.PaymentIntentParams{Amount: stripe.Int64(100), Currency: stripe.String("usd"), Confirm: stripe.Bool(true)})
			return err
		}, 400, "payment_intent_unexpected_state", "payment_method"},
		{"off session without confirm", func() error {
			_, err := s.Stripe.PaymentIntents.New(&stripe.PaymentIntentParams{Amount: stripe.Int64(100), Currency: stripe.String("usd"), OffSession: stripe.Bool(true)})
			return err
		}, 400, "parameter_invalid", "off_session"},
		{"intent", func() error { _, err := s.Stripe.PaymentIntents.Get("pi_x", nil); return err }, 404, "resource_missing", "id"},
		{"card number", func() error {
			_, err := s.Stripe.PaymentMethods.New(&stripe.PaymentMethodParams{Type: stripe.String("card"), Card: &stripe.PaymentMethodCardParams{Number: stripe.String("4111111111111111"), ExpMonth: stripe.Int64(1), ExpYear: stripe.Int64(2049)}})
			return err
		}, 402, "incorrect_number", "card[number]"},
		{"expired", func() error {
			_, err := s.Stripe.PaymentMethods.New(&stripe.PaymentMethodParams{Type: stripe.String("card"), Card: &stripe.PaymentMethodCardParams{Number: stripe.String(stripetest.CardSucceeds), ExpMonth: stripe.Int64(1), ExpYear: stripe.Int64(2020)}})
			return err
		}, 402, "invalid_expiry_year", "card[exp_year]"},
		{"type of method", func() error {
			_, err := s.Stripe.PaymentMethods.New(&stripe.PaymentMethodParams{Type: stripe.String("ideal")})
			return err
		}, 400, "unsupported_by_double", "type"},
		{"methods of nobody", func() error {
			it := s.Stripe.PaymentMethods.List(&stripe.PaymentMethodListParams{})
			it.Next()
			return it.Err()
		}, 400, "parameter_missing", "customer"},
		{"list by a customer who is not there", func() error {
			it := s.Stripe.Charges.List(&stripe.ChargeListParams{Customer: x})
			it.Next()
			return it.Err()
		}, 400, "resource_missing", "customer"},
		{"subscription without items", func() error {
			_, err := s.Stripe.Subscriptions.New(&stripe.SubscriptionParams{Customer: &who.ID})
			return err
		}, 400, "parameter_missing", "items"},
		{"trial in the past", func() error {
			_, err := s.Stripe.Subscriptions.New(&stripe.SubscriptionParams{Customer: &who.ID, TrialEnd: stripe.Int64(1), Items: []*stripe.SubscriptionItemsParams{{Price: &price.ID}}})
			return err
		}, 400, "parameter_invalid", "trial_end"},
		{"interval", func() error {
			_, err := s.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(1), Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("moon")}})
			return err
		}, 400, "parameter_invalid", "recurring[interval]"},
		{"interval count", func() error {
			_, err := s.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(1), Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("year"), IntervalCount: stripe.Int64(4)}})
			return err
		}, 400, "parameter_invalid_integer", "recurring[interval_count]"},
		{"metered", func() error {
			_, err := s.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(1), Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("month"), UsageType: stripe.String("metered")}})
			return err
		}, 400, "unsupported_by_double", "recurring[usage_type]"},
		{"tiers", func() error {
			_, err := s.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), TiersMode: stripe.String("graduated"), Tiers: []*stripe.PriceTierParams{{UpToInf: stripe.Bool(true), UnitAmount: stripe.Int64(1)}}})
			return err
		}, 400, "unsupported_by_double", "tiers"},
		{"product with prices", func() error { _, err := s.Stripe.Products.Del(product.ID, nil); return err }, 400, "parameter_invalid", ""},
		{"setup session without currency", func() error {
			_, err := s.Stripe.CheckoutSessions.New(&stripe.CheckoutSessionParams{Mode: stripe.String("setup"), SuccessURL: stripe.String("https://shop.example")})
			return err
		}, 400, "parameter_missing", "currency"},
		{"one-time price in subscription mode", func() error {
			_, err := s.Stripe.CheckoutSessions.New(&stripe.CheckoutSessionParams{Mode: stripe.String("subscription"), SuccessURL: stripe.String("https://shop.example"),
				LineItems: []*stripe.CheckoutSessionLineItemParams{{Price: &price.ID, Quantity: stripe.Int64(1)}, {Price: &once.ID, Quantity: stripe.Int64(1)}}})
			return err
		}, 400, "unsupported_by_double", "line_items[1][price]"},
		{"schedule of nothing", func() error {
			_, err := s.Stripe.SubscriptionSchedules.New(&stripe.SubscriptionScheduleParams{Customer: &who.ID})
			return err
		}, 400, "unsupported_by_double", "customer"},
		{"upcoming of nobody", func() error { _, err := s.Stripe.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{}); return err }, 400, "parameter_missing", "customer"},
		{"limit", func() error {
			it := s.Stripe.Customers.List(&stripe.CustomerListParams{ListParams: stripe.ListParams{Limit: stripe.Int64(101)}})
			it.Next()
			return it.Err()
		}, 400, "parameter_invalid", "limit"},
		{"page after nothing", func() error {
			it := s.Stripe.Customers.List(&stripe.CustomerListParams{ListParams: stripe.ListParams{StartingAfter: stripe.String("cus_x")}})
			it.Next()
			return it.Err()
		}, 400, "resource_missing", "starting_after"},
		{"expand", func() error {
			p := &stripe.CustomerParams{}
			p.AddExpand("nonsense")
			_, err := s.Stripe.Customers.Get(who.ID, p)
			return err
		}, 400, "parameter_invalid", "expand"},
		{"clock", func() error { _, err := s.Stripe.Customers.New(&stripe.CustomerParams{TestClock: x}); return err }, 400, "resource_missing", "test_clock"},
		{"clock without time", func() error {
			_, err := s.Stripe.TestHelpersTestClocks.New(&stripe.TestHelpersTestClockParams{})
			return err
		}, 400, "parameter_missing", "frozen_time"},
	} {
		err := c.call()
		var e *stripe.Error
		if assert.ErrorAs(t, err, &e, c.name) {
			assert.Equal(t, c.status, e.HTTPStatusCode, c.name)
			assert.Equal(t, c.code, string(e.Code), c.name)
			assert.Equal(t, c.param, e.Param, c.name)
			assert.NotEmpty(t, e.Msg, c.name)
		}
	}
}

func TestUpcoming_OfANewSubscription(t *testing.T) {
	t.Parallel()
	s := double(t)
	who := customer(t, s, "")
	price := plan(t, s, "Basic", 1000, "month")
	off := coupon(t, s, func(p *stripe.CouponParams) { p.PercentOff = stripe.Float64(10) })
	inv := must(s.Stripe.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{Customer: &who.ID, Coupon: &off.ID, SubscriptionItems: []*stripe.SubscriptionItemsParams{{Price: &price.ID, Quantity: stripe.Int64(3)}}}))(t)
	assert.Equal(t, int64(3000), inv.Subtotal)
	assert.Equal(t, int64(2700), inv.AmountDue)
	assert.Zero(t, must(s.Stripe.Coupons.Get(off.ID, nil))(t).TimesRedeemed)
}

func TestSubscription_TwelveIntervalsAndQuantities(t *testing.T) {
	t.Parallel()
	s := double(t)
	start := time.Date(2028, 2, 29, 8, 0, 0, 0, time.UTC)
	clock := must(s.Stripe.TestHelpersTestClocks.New(&stripe.TestHelpersTestClockParams{FrozenTime: stripe.Int64(start.Unix())}))(t)
	who := must(s.Stripe.Customers.New(&stripe.CustomerParams{TestClock: &clock.ID}))(t)
	saveCard(t, s, who.ID, stripetest.CardSucceeds)
	product := must(s.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("P")}))(t)
	for _, c := range []struct {
		interval string
		count    int64
		want     string
	}{{"day", 10, "2028-03-10"}, {"week", 2, "2028-03-14"}, {"month", 1, "2028-03-29"}, {"month", 3, "2028-05-29"}, {"year", 1, "2029-02-28"}} {
		price := must(s.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(100),
			Recurring: &stripe.PriceRecurringParams{Interval: &c.interval, IntervalCount: &c.count}}))(t)
		sub := subscribe(t, s, who.ID, price, func(p *stripe.SubscriptionParams) { p.Items[0].Quantity = stripe.Int64(7) })
		assert.Equal(t, c.want, time.Unix(sub.CurrentPeriodEnd, 0).UTC().Format("2006-01-02"), "%d %s", c.count, c.interval)
		assert.Equal(t, int64(700), sub.LatestInvoice.AmountPaid)
	}
}
