package stripetest_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing/stripetest"
)

func TestConsole_ListsAndDoesWhatIsScripted(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		b := newBrowser(t)
		do := func(action string, form url.Values) (int, string) {
			status, body, _ := b.visit(s.URL+"/do/"+action, form)
			return status, body
		}
		price := plan(t, s, "Basic", 1000, "month")
		who := customer(t, s, stripetest.CardSucceeds)
		sub := subscribe(t, s, who.ID, price)
		status, body, _ := b.visit(s.URL+"/", nil)
		assert.Equal(t, 200, status)
		for _, want := range []string{sub.ID, who.ID, sub.LatestInvoice.ID, "customer.subscription.updated", "Faults", "Let time pass"} {
			assert.Contains(t, body, want)
		}

		status, _ = do("advance", url.Values{"amount": {"1"}, "unit": {"months"}})
		assert.Equal(t, 303, status)
		do("advance", url.Values{"amount": {"2"}, "unit": {"hours"}})
		assert.Len(t, invoices(t, s, sub.ID), 2)
		status, body = do("advance", url.Values{"amount": {"many"}, "unit": {"hours"}})
		assert.Equal(t, 422, status)
		assert.Contains(t, body, "from 1 to 1000")
		clock := must(s.Stripe.TestHelpersTestClocks.New(&stripe.TestHelpersTestClockParams{FrozenTime: stripe.Int64(1800000000)}))(t)
		do("advance", url.Values{"id": {clock.ID}, "amount": {"3"}, "unit": {"days"}})
		assert.Equal(t, int64(1800000000+3*86400), must(s.Stripe.TestHelpersTestClocks.Get(clock.ID, nil))(t).FrozenTime)

		pi := paid(t, s, stripetest.CardRefundPends)
		refund := must(s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID, Amount: stripe.Int64(500)}))(t)
		_, body, _ = b.visit(s.URL+"/object/"+refund.ID, nil)
		assert.Contains(t, body, "Succeed")
		do("refund", url.Values{"id": {refund.ID}, "outcome": {"succeeded"}})
		assert.Equal(t, stripe.RefundStatusSucceeded, must(s.Stripe.Refunds.Get(refund.ID, nil))(t).Status)
		do("refund", url.Values{"id": {refund.ID}, "outcome": {"failed"}})
		assert.Equal(t, stripe.RefundStatusFailed, must(s.Stripe.Refunds.Get(refund.ID, nil))(t).Status)
		status, body = do("refund", url.Values{"id": {refund.ID}, "outcome": {"failed"}})
		assert.Equal(t, 409, status)
		assert.Contains(t, body, "failed already")

		do("dispute", url.Values{"id": {pi.LatestCharge.ID}, "outcome": {"inquire"}})
		list := s.Stripe.Disputes.List(&stripe.DisputeListParams{PaymentIntent: &pi.ID})
		require.True(t, list.Next())
		id := list.Dispute().ID
		do("dispute", url.Values{"id": {id}, "outcome": {"escalate"}})
		do("dispute", url.Values{"id": {id}, "outcome": {"won"}})
		assert.Equal(t, stripe.DisputeStatusWon, must(s.Stripe.Disputes.Get(id, nil))(t).Status)
		status, _ = do("dispute", url.Values{"id": {id}})
		assert.Equal(t, 422, status)

		_, once := pack(t, s)
		o := session(t, s, once, nil)
		must(s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.Delayed}))(t)
		_, body, _ = b.visit(s.URL+"/object/"+o.ID, nil)
		assert.Contains(t, body, "The money came")
		status, _, _ = b.visit(s.URL+"/delayed/"+o.ID, url.Values{"outcome": {"succeeded"}})
		assert.Equal(t, 303, status)
		assert.Equal(t, stripe.CheckoutSessionPaymentStatusPaid, must(s.Stripe.CheckoutSessions.Get(o.ID, nil))(t).PaymentStatus)

		e := must(s.Stripe.WebhookEndpoints.New(&stripe.WebhookEndpointParams{URL: stripe.String("http://127.0.0.1:1/"), EnabledEvents: []*string{stripe.String("*")}}))(t)
		status, _ = do("roll", url.Values{"id": {e.ID}})
		assert.Equal(t, 303, status)
		si := must(s.Stripe.SetupIntents.New(&stripe.SetupIntentParams{PaymentMethod: stripe.String("pm_card_authenticationRequired"), Confirm: stripe.Bool(true)}))(t)
		do("authenticate", url.Values{"id": {si.ID}, "outcome": {"complete"}})
		assert.Equal(t, stripe.SetupIntentStatusSucceeded, must(s.Stripe.SetupIntents.Get(si.ID, nil))(t).Status)

		status, _ = do("fault", url.Values{"kind": {"rate_limit"}, "route": {"GET /v1/customers/{id}"}, "times": {"1"}, "probability": {"1"}, "seed": {"4"}})
		assert.Equal(t, 303, status)
		_, err := s.Stripe.Customers.Get(who.ID, nil)
		requireError(t, err, 429, "rate_limit", "")
		must(s.Stripe.Customers.Get(who.ID, nil))(t)
		do("fault", url.Values{"kind": {"latency"}, "delay": {"5"}})
		_, body, _ = b.visit(s.URL+"/", nil)
		assert.Contains(t, body, "Remove")
		require.NoError(t, s.RemoveFaults(t.Context()))
		status, body = do("fault", url.Values{"kind": {"latency"}, "times": {"-1"}})
		assert.Equal(t, 422, status)
		assert.Contains(t, body, "0 or more as times")
		status, _ = do("fault", url.Values{"kind": {"meteor"}})
		assert.Equal(t, 422, status)
		status, _ = do("nonsense", url.Values{})
		assert.Equal(t, 409, status)
	})
}

func TestConsole_ListsPageAndObjectsAreShown(t *testing.T) {
	t.Parallel()
	s := double(t)
	for range 53 {
		must(customerWith(s, ""))(t)
	}
	first := must(s.Stripe.Customers.New(&stripe.CustomerParams{Name: stripe.String(`</pre><b>Ada`)}))(t)
	b := newBrowser(t)
	_, body, _ := b.visit(s.URL+"/objects/customer", nil)
	assert.Contains(t, body, first.ID)
	assert.Contains(t, body, "?before=")
	older := regexp.MustCompile(`href="([^"]*\?before=\d+)"`).FindStringSubmatch(body)
	require.NotNil(t, older)
	_, body, _ = b.visit(older[1], nil)
	assert.Equal(t, 4, strings.Count(body, "/object/cus_"), "the rest of the 54")
	_, body, _ = b.visit(s.URL+"/object/"+first.ID, nil)
	assert.NotContains(t, body, "<b>Ada")
	assert.Contains(t, body, "invoice_prefix")
	for _, path := range []string{"/objects/secrets", "/object/none", "/object/idem_x", "/invoices/none", "/receipts/none", "/portal/none"} {
		status, _, _ := b.visit(s.URL+path, nil)
		assert.Equal(t, 404, status, path)
	}
	for _, kind := range []string{"event", "price", "refund", "dispute", "invoice", "test_helpers.test_clock"} {
		status, _, _ := b.visit(s.URL+"/objects/"+kind, nil)
		assert.Equal(t, 200, status, kind)
	}
}

func TestInvoicePage_TakesACard(t *testing.T) {
	t.Parallel()
	s := double(t)
	price := plan(t, s, "Basic", 1000, "month")
	who := customer(t, s, stripetest.CardSucceeds)
	sub := subscribe(t, s, who.ID, price)
	saveCard(t, s, who.ID, stripetest.CardFailsLater)
	require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(sub.CurrentPeriodEnd, 0).Add(2*time.Hour)))
	page := subscription(t, s, sub.ID).LatestInvoice.HostedInvoiceURL
	b := newBrowser(t)
	_, body, _ := b.visit(page, nil)
	assert.Contains(t, body, "Pay 10.00 USD")
	card := func(number string) url.Values {
		return url.Values{"number": {number}, "expiry": {"12/49"}, "cvc": {"123"}}
	}
	status, body, _ := b.visit(page, card(stripetest.CardDeclined))
	assert.Equal(t, 402, status)
	assert.Contains(t, body, "declined")
	status, _, _ = b.visit(page, url.Values{"number": {"1"}})
	assert.Equal(t, 422, status)
	status, _, _ = b.visit(page, card(stripetest.CardSucceeds))
	assert.Equal(t, 303, status)
	_, body, _ = b.visit(page, nil)
	assert.Contains(t, body, "paid")
	assert.Equal(t, stripe.SubscriptionStatusActive, subscription(t, s, sub.ID).Status)
	status, _, _ = b.visit(page, card(stripetest.CardSucceeds))
	assert.Equal(t, 409, status)
}
