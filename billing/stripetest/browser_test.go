package stripetest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/internal/browsertest"
)

// A person buys, authenticates, manages and pays late; the pages fit a phone, whose width every screenshot checks.
func TestPages_InABrowserAndOnAPhone(t *testing.T) {
	t.Parallel()
	s := double(t)
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<!DOCTYPE html><title>Shop</title><p>Shop"))
	}))
	t.Cleanup(shop.Close)
	b := browsertest.Open(t)
	b.Expect("favicon.ico")
	b.Expect("402")
	basic, pro := plan(t, s, "Basic", 1000, "month"), plan(t, s, "Pro", 3000, "month")
	half := coupon(t, s, func(p *stripe.CouponParams) { p.PercentOff = stripe.Float64(50) })
	must(s.Stripe.PromotionCodes.New(&stripe.PromotionCodeParams{Coupon: &half.ID, Code: stripe.String("HALF")}))(t)
	o := subscriptionSession(t, s, basic, func(p *stripe.CheckoutSessionParams) {
		p.SuccessURL, p.CancelURL, p.AllowPromotionCodes = stripe.String(shop.URL+"/thanks"), stripe.String(shop.URL), stripe.Bool(true)
	})
	b.Go(o.URL)
	b.Type("#code", "half")
	b.ClickText("Apply")
	b.See("−5.00 USD")
	b.Type("#email", "ada@example.com")
	b.Type("#number", "4000 0000 0000 9995")
	b.Type("#expiry", "12/49")
	b.Type("#cvc", "123")
	b.Click("#pay")
	b.See("insufficient funds")
	b.Screenshot("stripetest-checkout")
	b.Type("#number", stripetest.CardAuthenticate)
	b.Type("#expiry", "12/49")
	b.Type("#cvc", "123")
	b.Click("#pay")
	b.See("Your bank asks")
	b.Screenshot("stripetest-3ds")
	b.Click("#complete")
	assert.Equal(t, shop.URL+"/thanks", b.Location())
	o = must(s.Stripe.CheckoutSessions.Get(o.ID, nil))(t)
	sub := subscription(t, s, o.Subscription.ID)
	assert.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
	assert.Equal(t, int64(500), sub.LatestInvoice.AmountPaid)

	conf := configuration(t, s, basic, pro)
	portal := must(s.Stripe.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{Customer: &o.Customer.ID, Configuration: &conf.ID, ReturnURL: &shop.URL}))(t)
	b.Go(portal.URL)
	b.Type("#number", stripetest.CardSucceeds)
	b.ClickText("Save and use")
	b.See("…4242, 12/")
	b.Choose("select", pro.ID)
	b.ClickText("Change")
	b.See("30.00 USD / month")
	b.ClickText("Cancel")
	b.See("ends on")
	b.Screenshot("stripetest-portal")
	b.ClickText("Keep the subscription")
	b.See("next on")

	saveCard(t, s, o.Customer.ID, stripetest.CardFailsLater)
	pm := must(s.Stripe.Customers.Get(o.Customer.ID, nil))(t).InvoiceSettings.DefaultPaymentMethod.ID
	must(s.Stripe.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{DefaultPaymentMethod: &pm}))(t)
	require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(sub.CurrentPeriodEnd, 0).Add(2*time.Hour)))
	late := subscription(t, s, sub.ID).LatestInvoice
	b.Go(late.HostedInvoiceURL)
	b.Screenshot("stripetest-invoice")
	b.Type("#number", stripetest.CardSucceeds)
	b.Type("#expiry", "12/49")
	b.Type("#cvc", "123")
	b.Click("#pay")
	b.See("paid")
	assert.Equal(t, stripe.SubscriptionStatusActive, subscription(t, s, sub.ID).Status)

	b.Go(s.URL + "/")
	b.Choose("#kind", "error_after")
	b.Type("#route", "POST /v1/refunds")
	b.ClickText("Add fault")
	b.See("0 of 0")
	b.Screenshot("stripetest-overview")
	b.ClickText("Events")
	b.See("customer.subscription.updated")
	b.Screenshot("stripetest-events")
	b.Go(s.URL + "/object/" + late.ID)
	b.See("billing_reason")
	b.Screenshot("stripetest-object")
	b.CheckConsole()
}
