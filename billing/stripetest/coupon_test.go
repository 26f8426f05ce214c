package stripetest_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing/stripetest"
)

func coupon(t *testing.T, s *stripetest.Test, change func(*stripe.CouponParams)) *stripe.Coupon {
	t.Helper()
	p := &stripe.CouponParams{Duration: stripe.String("once"), Name: stripe.String("Spring")}
	change(p)
	return must(s.Stripe.Coupons.New(p))(t)
}

func TestCoupons_InCheckout(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		_, price := pack(t, s)
		quarter := coupon(t, s, func(p *stripe.CouponParams) { p.PercentOff = stripe.Float64(25) })
		o := session(t, s, price, func(p *stripe.CheckoutSessionParams) {
			p.Discounts = []*stripe.CheckoutSessionDiscountParams{{Coupon: &quarter.ID}}
		})
		assert.Equal(t, int64(2000), o.AmountSubtotal)
		assert.Equal(t, int64(1500), o.AmountTotal)
		assert.Equal(t, int64(500), o.TotalDetails.AmountDiscount)
		must(s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardSucceeds}))(t)
		get := &stripe.CheckoutSessionParams{}
		get.AddExpand("payment_intent")
		get.AddExpand("line_items")
		o = must(s.Stripe.CheckoutSessions.Get(o.ID, get))(t)
		assert.Equal(t, int64(1500), o.PaymentIntent.AmountReceived)
		assert.Equal(t, int64(500), o.LineItems.Data[0].AmountDiscount)
		assert.Equal(t, int64(1), must(s.Stripe.Coupons.Get(quarter.ID, nil))(t).TimesRedeemed)

		// All of it: nothing is to pay, and no card is needed.
		all := coupon(t, s, func(p *stripe.CouponParams) { p.AmountOff, p.Currency = stripe.Int64(5000), stripe.String("usd") })
		o = session(t, s, price, func(p *stripe.CheckoutSessionParams) {
			p.Discounts = []*stripe.CheckoutSessionDiscountParams{{Coupon: &all.ID}}
		})
		assert.Zero(t, o.AmountTotal)
		b := newBrowser(t)
		_, body, _ := b.visit(o.URL, nil)
		assert.Contains(t, body, "Nothing to pay")
		status, _, _ := b.visit(o.URL, url.Values{"method": {"none"}, "email": {"a@example.com"}})
		assert.Equal(t, 303, status)
		o = must(s.Stripe.CheckoutSessions.Get(o.ID, nil))(t)
		assert.Equal(t, stripe.CheckoutSessionPaymentStatusNoPaymentRequired, o.PaymentStatus)
		assert.Nil(t, o.PaymentIntent)
	})
}

func TestPromotionCodes_AreEnteredOnThePage(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		_, price := pack(t, s)
		half := coupon(t, s, func(p *stripe.CouponParams) { p.PercentOff = stripe.Float64(50) })
		code := must(s.Stripe.PromotionCodes.New(&stripe.PromotionCodeParams{Coupon: &half.ID, Code: stripe.String("spring"), MaxRedemptions: stripe.Int64(1)}))(t)
		assert.Equal(t, "SPRING", code.Code)
		assert.Equal(t, half.ID, code.Coupon.ID)
		_, err := s.Stripe.PromotionCodes.New(&stripe.PromotionCodeParams{Coupon: &half.ID, Code: stripe.String("SPRING")})
		requireError(t, err, 400, "resource_already_exists", "code")
		found := s.Stripe.PromotionCodes.List(&stripe.PromotionCodeListParams{Code: stripe.String("SPRING"), Active: stripe.Bool(true)})
		require.True(t, found.Next())
		assert.Equal(t, half.ID, found.PromotionCode().Coupon.ID)

		o := session(t, s, price, func(p *stripe.CheckoutSessionParams) { p.AllowPromotionCodes = stripe.Bool(true) })
		b := newBrowser(t)
		status, body, _ := b.visit(o.URL+"/promotion", url.Values{"code": {"WINTER"}})
		assert.Equal(t, 422, status)
		assert.Contains(t, body, "This code is invalid.")
		status, _, _ = b.visit(o.URL+"/promotion", url.Values{"code": {"spring"}})
		assert.Equal(t, 303, status)
		_, body, _ = b.visit(o.URL, nil)
		assert.Contains(t, body, "−10.00 USD")
		require.NoError(t, s.ApplyPromotionCode(t.Context(), o.ID, ""))
		assert.Equal(t, int64(2000), must(s.Stripe.CheckoutSessions.Get(o.ID, nil))(t).AmountTotal)
		require.NoError(t, s.ApplyPromotionCode(t.Context(), o.ID, "SPRING"))
		must(s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardSucceeds}))(t)
		assert.Equal(t, int64(1000), must(s.Stripe.CheckoutSessions.Get(o.ID, nil))(t).AmountTotal)
		assert.Equal(t, int64(1), must(s.Stripe.PromotionCodes.Get(code.ID, nil))(t).TimesRedeemed)

		o = session(t, s, price, func(p *stripe.CheckoutSessionParams) { p.AllowPromotionCodes = stripe.Bool(true) })
		require.ErrorContains(t, s.ApplyPromotionCode(t.Context(), o.ID, "SPRING"), "no longer valid")
		must(s.Stripe.PromotionCodes.Update(code.ID, &stripe.PromotionCodeParams{Active: stripe.Bool(false)}))(t)
		require.ErrorContains(t, s.ApplyPromotionCode(t.Context(), o.ID, "SPRING"), "invalid")
		require.ErrorContains(t, s.ApplyPromotionCode(t.Context(), session(t, s, price, nil).ID, "SPRING"), "takes no promotion codes")

		first := must(s.Stripe.PromotionCodes.New(&stripe.PromotionCodeParams{Coupon: &half.ID, Code: stripe.String("first"),
			Restrictions: &stripe.PromotionCodeRestrictionsParams{FirstTimeTransaction: stripe.Bool(true), MinimumAmount: stripe.Int64(3000), MinimumAmountCurrency: stripe.String("usd")}}))(t)
		assert.True(t, first.Restrictions.FirstTimeTransaction)
		require.ErrorContains(t, s.ApplyPromotionCode(t.Context(), o.ID, "FIRST"), "larger order")
	})
}

func TestCoupons_OfSubscriptionsLastAsLongAsTheySay(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		price := plan(t, s, "Basic", 1000, "month")
		for _, c := range []struct {
			duration string
			months   int64
			want     []int64
		}{{"once", 0, []int64{800, 1000, 1000}}, {"repeating", 2, []int64{800, 800, 1000}}, {"forever", 0, []int64{800, 800, 800}}} {
			off := coupon(t, s, func(p *stripe.CouponParams) {
				p.PercentOff, p.Duration = stripe.Float64(20), &c.duration
				if c.months > 0 {
					p.DurationInMonths = &c.months
				}
			})
			who := customer(t, s, stripetest.CardSucceeds)
			sub := subscribe(t, s, who.ID, price, func(p *stripe.SubscriptionParams) { p.Coupon = &off.ID })
			got := []int64{sub.LatestInvoice.AmountPaid}
			for range 2 {
				require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(sub.CurrentPeriodEnd, 0).Add(2*time.Hour)))
				sub = subscription(t, s, sub.ID)
				got = append(got, sub.LatestInvoice.AmountPaid)
			}
			assert.Equal(t, c.want, got, c.duration)
		}

		// Of a customer; and taken away.
		off := coupon(t, s, func(p *stripe.CouponParams) { p.PercentOff, p.Duration = stripe.Float64(10), stripe.String("forever") })
		who := customer(t, s, stripetest.CardSucceeds)
		who = must(s.Stripe.Customers.Update(who.ID, &stripe.CustomerParams{Coupon: &off.ID}))(t)
		assert.Equal(t, off.ID, who.Discount.Coupon.ID)
		assert.Equal(t, int64(900), subscribe(t, s, who.ID, price).LatestInvoice.AmountPaid)
		must(s.Stripe.Customers.DeleteDiscount(who.ID, nil))(t)
		assert.Equal(t, int64(1000), subscribe(t, s, who.ID, price).LatestInvoice.AmountPaid)
		_, err := s.Stripe.Customers.DeleteDiscount(who.ID, nil)
		requireError(t, err, 404, "resource_missing", "id")

		// Put on a subscription later, and taken off again.
		sub := subscribe(t, s, who.ID, price)
		sub = must(s.Stripe.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{Coupon: &off.ID}))(t)
		assert.Equal(t, off.ID, sub.Discount.Coupon.ID)
		preview := must(s.Stripe.Invoices.Upcoming(&stripe.InvoiceUpcomingParams{Subscription: &sub.ID}))(t)
		assert.Equal(t, int64(900), preview.AmountDue)
		must(s.Stripe.Subscriptions.DeleteDiscount(sub.ID, nil))(t)
		assert.Nil(t, subscription(t, s, sub.ID).Discount)
		assert.Positive(t, events(t, s, "customer.discount.")["customer.discount.deleted"])

		// A free first month through checkout.
		free := coupon(t, s, func(p *stripe.CouponParams) { p.PercentOff = stripe.Float64(100) })
		o := subscriptionSession(t, s, price, func(p *stripe.CheckoutSessionParams) {
			p.Discounts = []*stripe.CheckoutSessionDiscountParams{{Coupon: &free.ID}}
			p.PaymentMethodCollection = stripe.String("if_required")
		})
		must(s.Pay(t.Context(), o.ID, stripetest.Card{Email: "ada@example.com"}))(t)
		o = must(s.Stripe.CheckoutSessions.Get(o.ID, nil))(t)
		assert.Equal(t, stripe.CheckoutSessionPaymentStatusNoPaymentRequired, o.PaymentStatus)
		assert.Equal(t, stripe.SubscriptionStatusActive, subscription(t, s, o.Subscription.ID).Status)
	})
}

func TestCoupons_AreCheckedAndDeleted(t *testing.T) {
	t.Parallel()
	s := double(t)
	_, price := pack(t, s)
	limited := coupon(t, s, func(p *stripe.CouponParams) {
		p.ID, p.PercentOff, p.MaxRedemptions, p.RedeemBy = stripe.String("LIMITED"), stripe.Float64(10), stripe.Int64(1), stripe.Int64(now(t, s).Add(48*time.Hour).Unix())
	})
	with := func() error {
		_, err := s.Stripe.CheckoutSessions.New(&stripe.CheckoutSessionParams{Mode: stripe.String("payment"), SuccessURL: stripe.String("https://shop.example/ok"),
			LineItems: []*stripe.CheckoutSessionLineItemParams{{Price: &price.ID, Quantity: stripe.Int64(1)}}, Discounts: []*stripe.CheckoutSessionDiscountParams{{Coupon: &limited.ID}}})
		return err
	}
	require.NoError(t, with())
	pass(t, s, 49*time.Hour)
	requireError(t, with(), 400, "coupon_expired", "discounts[0][coupon]")
	must(s.Stripe.Coupons.Update(limited.ID, &stripe.CouponParams{Name: stripe.String("Old")}))(t)
	must(s.Stripe.Coupons.Del(limited.ID, nil))(t)
	requireError(t, with(), 400, "resource_missing", "discounts[0][coupon]")
	for _, c := range []struct {
		change func(*stripe.CouponParams)
		param  string
	}{
		{func(*stripe.CouponParams) {}, "percent_off"},
		{func(p *stripe.CouponParams) { p.PercentOff = stripe.Float64(101) }, "percent_off"},
		{func(p *stripe.CouponParams) { p.AmountOff = stripe.Int64(100) }, "currency"},
		{func(p *stripe.CouponParams) { p.PercentOff, p.Duration = stripe.Float64(1), stripe.String("repeating") }, "duration_in_months"},
		{func(p *stripe.CouponParams) { p.PercentOff, p.DurationInMonths = stripe.Float64(1), stripe.Int64(2) }, "duration_in_months"},
		{func(p *stripe.CouponParams) { p.PercentOff, p.RedeemBy = stripe.Float64(1), stripe.Int64(1) }, "redeem_by"},
		{func(p *stripe.CouponParams) {
			p.PercentOff, p.AppliesTo = stripe.Float64(1), &stripe.CouponAppliesToParams{Products: []*string{stripe.String("prod_x")}}
		}, "applies_to"},
	} {
		p := &stripe.CouponParams{Duration: stripe.String("once")}
		c.change(p)
		_, err := s.Stripe.Coupons.New(p)
		var e *stripe.Error
		require.ErrorAs(t, err, &e, c.param)
		assert.Equal(t, c.param, e.Param)
	}
	assert.Equal(t, map[string]int{"coupon.created": 1, "coupon.updated": 1, "coupon.deleted": 1}, events(t, s, "coupon."))
}
