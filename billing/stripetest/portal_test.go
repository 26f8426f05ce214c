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

func configuration(t *testing.T, s *stripetest.Test, prices ...*stripe.Price) *stripe.BillingPortalConfiguration {
	t.Helper()
	on := func() *bool { return stripe.Bool(true) }
	update := &stripe.BillingPortalConfigurationFeaturesSubscriptionUpdateParams{Enabled: on(), DefaultAllowedUpdates: []*string{stripe.String("price")}, ProrationBehavior: stripe.String("always_invoice")}
	for _, p := range prices {
		update.Products = append(update.Products, &stripe.BillingPortalConfigurationFeaturesSubscriptionUpdateProductParams{Product: &p.Product.ID, Prices: []*string{&p.ID}})
	}
	return must(s.Stripe.BillingPortalConfigurations.New(&stripe.BillingPortalConfigurationParams{
		BusinessProfile: &stripe.BillingPortalConfigurationBusinessProfileParams{Headline: stripe.String("Shop")},
		Features: &stripe.BillingPortalConfigurationFeaturesParams{
			PaymentMethodUpdate: &stripe.BillingPortalConfigurationFeaturesPaymentMethodUpdateParams{Enabled: on()},
			SubscriptionCancel:  &stripe.BillingPortalConfigurationFeaturesSubscriptionCancelParams{Enabled: on(), Mode: stripe.String("at_period_end")},
			SubscriptionUpdate:  update,
			InvoiceHistory:      &stripe.BillingPortalConfigurationFeaturesInvoiceHistoryParams{Enabled: on()},
		}}))(t)
}

func TestPortal_CardsPlansAndCanceling(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		basic, pro := plan(t, s, "Basic", 1000, "month"), plan(t, s, "Pro", 3000, "month")
		c := newChanging(t, s, basic)
		conf := configuration(t, s, basic, pro)
		p := must(s.Stripe.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{Customer: &c.who.ID, Configuration: &conf.ID, ReturnURL: stripe.String("https://shop.example/account")}))(t)
		b := newBrowser(t)
		status, body, _ := b.visit(p.URL, nil)
		assert.Equal(t, 200, status)
		for _, want := range []string{"active", "10.00 USD / month", "Pro · 30.00 USD / month", "https://shop.example/account", "…4242"} {
			assert.Contains(t, body, want)
		}
		do := func(action string, form url.Values) (int, string) {
			status, body, _ := b.visit(p.URL+"/"+action, form)
			return status, body
		}
		status, body = do("card", url.Values{"number": {stripetest.CardDeclined}})
		assert.Equal(t, 422, status)
		assert.Contains(t, body, "declined")
		status, _ = do("card", url.Values{"number": {"5555 5555 5555 4444"}})
		assert.Equal(t, 303, status)
		get := &stripe.CustomerParams{}
		get.AddExpand("invoice_settings.default_payment_method")
		assert.Equal(t, "4444", must(s.Stripe.Customers.Get(c.who.ID, get))(t).InvoiceSettings.DefaultPaymentMethod.Card.Last4)
		it := s.Stripe.PaymentMethods.List(&stripe.PaymentMethodListParams{Customer: &c.who.ID})
		require.True(t, it.Next())
		require.True(t, it.Next())
		status, _ = do("default", url.Values{"method": {it.PaymentMethod().ID}})
		assert.Equal(t, 303, status)

		status, _ = do("plan", url.Values{"subscription": {c.sub.ID}, "price": {pro.ID}})
		assert.Equal(t, 303, status)
		sub := subscription(t, s, c.sub.ID)
		assert.Equal(t, pro.ID, sub.Items.Data[0].Price.ID)
		assert.InDelta(t, 1000, sub.LatestInvoice.AmountPaid, 2)
		foreign := plan(t, s, "Secret", 1, "month")
		status, body = do("plan", url.Values{"subscription": {c.sub.ID}, "price": {foreign.ID}})
		assert.Equal(t, 422, status)
		assert.Contains(t, body, "does not offer this plan")

		status, _ = do("cancel", url.Values{"subscription": {c.sub.ID}})
		assert.Equal(t, 303, status)
		assert.True(t, subscription(t, s, c.sub.ID).CancelAtPeriodEnd)
		_, body, _ = b.visit(p.URL, nil)
		assert.Contains(t, body, "Keep the subscription")
		do("resume", url.Values{"subscription": {c.sub.ID}})
		assert.False(t, subscription(t, s, c.sub.ID).CancelAtPeriodEnd)

		// Another's subscription is not there.
		other := newChanging(t, s, basic)
		status, _ = do("cancel", url.Values{"subscription": {other.sub.ID}})
		assert.NotEqual(t, 303, status)
		assert.False(t, subscription(t, s, other.sub.ID).CancelAtPeriodEnd)

		// A plan whose payment fails does not change.
		saveCard(t, s, other.who.ID, stripetest.CardFailsLater)
		op := must(s.Stripe.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{Customer: &other.who.ID, Configuration: &conf.ID}))(t)
		status, body, _ = b.visit(op.URL+"/plan", url.Values{"subscription": {other.sub.ID}, "price": {pro.ID}})
		assert.Equal(t, 422, status)
		assert.Contains(t, body, "declined")
		assert.Equal(t, basic.ID, subscription(t, s, other.sub.ID).Items.Data[0].Price.ID)

		pass(t, s, 2*time.Hour)
		status, _, _ = b.visit(p.URL, nil)
		assert.Equal(t, 404, status, "sessions are short")
	})
}

func TestPortal_WithoutAConfigurationOffersLess(t *testing.T) {
	t.Parallel()
	s := double(t)
	basic := plan(t, s, "Basic", 1000, "month")
	c := newChanging(t, s, basic)
	p := must(s.Stripe.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{Customer: &c.who.ID}))(t)
	b := newBrowser(t)
	status, body, _ := b.visit(p.URL+"/plan", url.Values{"subscription": {c.sub.ID}, "price": {basic.ID}})
	assert.Equal(t, 422, status)
	assert.Contains(t, body, "does not offer this.")
	status, _, _ = b.visit(p.URL+"/nonsense", url.Values{})
	assert.Equal(t, 422, status)

	conf := configuration(t, s, basic)
	conf = must(s.Stripe.BillingPortalConfigurations.Update(conf.ID, &stripe.BillingPortalConfigurationParams{Active: stripe.Bool(false)}))(t)
	assert.False(t, conf.Active)
	_, err := s.Stripe.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{Customer: &c.who.ID, Configuration: &conf.ID})
	requireError(t, err, 400, "parameter_invalid", "configuration")
	_, err = s.Stripe.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{Customer: &c.who.ID, ReturnURL: stripe.String("nowhere")})
	requireError(t, err, 400, "url_invalid", "return_url")
	_, err = s.Stripe.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{})
	requireError(t, err, 400, "parameter_missing", "customer")
	_, err = s.Stripe.BillingPortalConfigurations.New(&stripe.BillingPortalConfigurationParams{Features: &stripe.BillingPortalConfigurationFeaturesParams{
		SubscriptionUpdate: &stripe.BillingPortalConfigurationFeaturesSubscriptionUpdateParams{Enabled: stripe.Bool(true)}}})
	requireError(t, err, 400, "parameter_missing", "features[subscription_update][products]")
	list := s.Stripe.BillingPortalConfigurations.List(nil)
	require.True(t, list.Next())
}
