package stripetest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing/stripetest"
)

func customerWith(s *stripetest.Test, key string) (*stripe.Customer, error) {
	p := &stripe.CustomerParams{Email: stripe.String("a@example.com")}
	if key != "" {
		p.SetIdempotencyKey(key)
	}
	return s.Stripe.Customers.New(p)
}

func customers(t *testing.T, s *stripetest.Test) (n int) {
	t.Helper()
	it := s.Stripe.Customers.List(nil)
	for it.Next() {
		n++
	}
	require.NoError(t, it.Err())
	return n
}

func TestFaults_OfCallsHappenBeforeAndAfterTheEffect(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		inject := func(kind stripetest.FaultKind) {
			t.Helper()
			must(s.Inject(t.Context(), stripetest.Fault{Kind: kind, Route: "POST /v1/customers", Times: 1}))(t)
		}
		inject(stripetest.FaultRateLimit)
		_, err := customerWith(s, "k1")
		requireError(t, err, 429, "rate_limit", "")
		must(customerWith(s, "k1"))(t)
		assert.Equal(t, 1, customers(t, s))

		inject(stripetest.FaultLockTimeout)
		_, err = customerWith(s, "k0")
		requireError(t, err, 429, "lock_timeout", "")

		inject(stripetest.FaultErrorBefore)
		_, err = customerWith(s, "k2")
		requireError(t, err, 500, "", "")
		_, err = customerWith(s, "k2")
		requireError(t, err, 500, "", "")
		assert.Equal(t, 1, customers(t, s), "the 500 is answered again, and nothing was done")

		inject(stripetest.FaultErrorAfter)
		_, err = customerWith(s, "k3")
		requireError(t, err, 500, "", "")
		_, err = customerWith(s, "k3")
		requireError(t, err, 500, "", "")
		assert.Equal(t, 2, customers(t, s), "done, and said to have failed")

		inject(stripetest.FaultDropBefore)
		_, err = customerWith(s, "k4")
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Equal(t, 2, customers(t, s))
		inject(stripetest.FaultDropAfter)
		_, err = customerWith(s, "k5")
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Equal(t, 3, customers(t, s))
		again := must(customerWith(s, "k5"))(t)
		assert.NotEmpty(t, again.ID)
		assert.Equal(t, 3, customers(t, s), "the key finds what was done")
		inject(stripetest.FaultDropAfter)
		_, err = s.Client().Customers.New(nil)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "without a network, too")

		id := must(s.Inject(t.Context(), stripetest.Fault{Kind: stripetest.FaultLatency, Delay: 300 * time.Millisecond, Route: "GET /v1/customers*"}))(t)
		began := time.Now()
		_ = customers(t, s)
		assert.Greater(t, time.Since(began), 300*time.Millisecond)
		require.NoError(t, s.RemoveFaults(t.Context(), id))
		must(s.Inject(t.Context(), stripetest.Fault{Kind: stripetest.FaultLatency, Delay: time.Second, Route: "POST /v1/customers", Times: 1}))(t)
		done := make(chan error, 1)
		go func() {
			_, err := customerWith(s, "k6")
			done <- err
		}()
		require.Eventually(t, func() bool { return customers(t, s) == 5 }, 10*time.Second, time.Millisecond)
		require.Eventually(t, func() bool { // the twin of a call that is under way
			_, err := customerWith(s, "k6")
			var e *stripe.Error
			return errors.As(err, &e) && e.HTTPStatusCode == http.StatusConflict && e.Code == stripe.ErrorCodeIdempotencyKeyInUse
		}, 10*time.Second, time.Millisecond)
		require.NoError(t, <-done)
		must(customerWith(s, "k6"))(t)
		began = time.Now()
		_ = customers(t, s)
		assert.Less(t, time.Since(began), 300*time.Millisecond)

		_, err = s.Inject(t.Context(), stripetest.Fault{Kind: "meteor"})
		require.ErrorContains(t, err, "no fault")
		_, err = s.Inject(t.Context(), stripetest.Fault{Kind: stripetest.FaultLatency, Probability: 2})
		require.ErrorContains(t, err, "at most 1")
	})
}

func TestFaults_AreTheSameForTheSameSeed(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		run := func(seed uint64) (out []bool) {
			must(s.Inject(t.Context(), stripetest.Fault{Kind: stripetest.FaultErrorBefore, Route: "GET /v1/customers", Probability: 0.4, Seed: seed}))(t)
			for range 40 {
				it := s.Stripe.Customers.List(nil)
				it.Next()
				out = append(out, it.Err() != nil)
			}
			require.NoError(t, s.RemoveFaults(t.Context()))
			return out
		}
		first := run(7)
		assert.Equal(t, first, run(7))
		assert.NotEqual(t, first, run(8))
		n := 0
		for _, hit := range first {
			if hit {
				n++
			}
		}
		assert.InDelta(t, 16, n, 10)
	})
}

func (e *endpoint) ids(kind string) (out []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.events {
		if string(ev.Type) == kind {
			out = append(out, ev.ID)
		}
	}
	return out
}

func TestFaults_OfWebhooks(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, "whsec_1", 0)
	s := double(t, func(c *stripetest.Config) { c.WebhookURL, c.WebhookSecret = e.URL, "whsec_1" })
	_, price := pack(t, s) // before any fault
	fault := func(f stripetest.Fault) {
		t.Helper()
		require.NoError(t, s.RemoveFaults(t.Context()))
		must(s.Inject(t.Context(), f))(t)
	}
	undelivered := func() (out []string) {
		it := s.Stripe.Events.List(&stripe.EventListParams{DeliverySuccess: stripe.Bool(false)})
		for it.Next() {
			out = append(out, string(it.Event().Type))
		}
		require.NoError(t, it.Err())
		return out
	}

	fault(stripetest.Fault{Kind: stripetest.FaultDuplicate, Route: "customer.*"})
	must(customerWith(s, ""))(t)
	require.Eventually(t, func() bool { return len(e.ids("customer.created")) == 2 }, 10*time.Second, 5*time.Millisecond)
	assert.Len(t, slices.Compact(e.ids("customer.created")), 1, "one event twice")
	require.Eventually(t, func() bool { return len(undelivered()) == 0 }, 10*time.Second, 5*time.Millisecond)

	fault(stripetest.Fault{Kind: stripetest.FaultTwin, Route: "coupon.created"})
	coupon(t, s, func(p *stripe.CouponParams) { p.PercentOff = stripe.Float64(1) })
	require.Eventually(t, func() bool { return len(e.ids("coupon.created")) == 2 }, 10*time.Second, 5*time.Millisecond)
	assert.Len(t, slices.Compact(e.ids("coupon.created")), 2, "two events of one change")

	fault(stripetest.Fault{Kind: stripetest.FaultLose, Route: "product.created"})
	must(s.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Lost")}))(t)
	require.Eventually(t, func() bool { return slices.Equal(undelivered(), []string{"product.created"}) }, 10*time.Second, 5*time.Millisecond)
	assert.Len(t, e.ids("product.created"), 1, "only the first one, before the fault")
	ok := s.Stripe.Events.List(&stripe.EventListParams{DeliverySuccess: stripe.Bool(true), Type: stripe.String("product.created")})
	require.True(t, ok.Next())
	assert.False(t, ok.Next())

	fault(stripetest.Fault{Kind: stripetest.FaultDelay, Route: "*", Delay: 700 * time.Millisecond})
	began := time.Now()
	must(s.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Late")}))(t)
	require.Eventually(t, func() bool { return len(e.ids("product.created")) == 2 }, 10*time.Second, 5*time.Millisecond)
	assert.Greater(t, time.Since(began), 600*time.Millisecond)

	fault(stripetest.Fault{Kind: stripetest.FaultReorder, Delay: 500 * time.Millisecond, Seed: 3})
	var sent []string
	for i := range 8 {
		p := must(s.Stripe.Prices.New(&stripe.PriceParams{Product: &price.Product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(int64(100 + i))}))(t)
		sent = append(sent, p.ID)
	}
	require.Eventually(t, func() bool { return len(e.ids("price.created")) == 9 }, 10*time.Second, 5*time.Millisecond)
	var came []string
	e.mu.Lock()
	for _, ev := range e.events {
		if ev.Type == "price.created" {
			came = append(came, ev.GetObjectValue("id"))
		}
	}
	e.mu.Unlock()
	assert.ElementsMatch(t, sent, came[1:])
	assert.NotEqual(t, sent, came[1:])
}

func TestEndpoints_AreChangedAndTheirSecretsRolled(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		e := newEndpoint(t, "whsec_other", 0)
		made := must(s.Stripe.WebhookEndpoints.New(&stripe.WebhookEndpointParams{URL: &e.URL, EnabledEvents: []*string{stripe.String("price.created")}, APIVersion: stripe.String("2023-10-16")}))(t)
		made = must(s.Stripe.WebhookEndpoints.Update(made.ID, &stripe.WebhookEndpointParams{EnabledEvents: []*string{stripe.String("customer.created")}, Description: stripe.String("mine"), Disabled: stripe.Bool(true)}))(t)
		assert.Equal(t, "disabled", made.Status)
		must(customerWith(s, ""))(t)
		it := s.Stripe.Events.List(&stripe.EventListParams{DeliverySuccess: stripe.Bool(false)})
		assert.False(t, it.Next(), "nobody waits for it")
		must(s.Stripe.WebhookEndpoints.Update(made.ID, &stripe.WebhookEndpointParams{Disabled: stripe.Bool(false)}))(t)

		header := make(chan string, 10)
		e.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { header <- r.Header.Get("Stripe-Signature") })
		key := must(s.RollSecret(t.Context(), made.ID, time.Hour))(t)
		assert.Regexp(t, `^whsec_[A-Za-z0-9]{24}$`, key)
		must(customerWith(s, ""))(t)
		both := <-header
		pass(t, s, 2*time.Hour)
		must(customerWith(s, ""))(t)
		one := <-header
		assert.Regexp(t, `^t=\d+,v1=[0-9a-f]{64},v1=[0-9a-f]{64}$`, both)
		assert.Regexp(t, `^t=\d+,v1=[0-9a-f]{64}$`, one)
		_, err := s.RollSecret(t.Context(), made.ID, 25*time.Hour)
		require.ErrorContains(t, err, "at most 24 hours")
		_, err = s.RollSecret(t.Context(), "we_none", 0)
		require.ErrorContains(t, err, "No such webhook_endpoint")
		list := s.Stripe.WebhookEndpoints.List(nil)
		require.True(t, list.Next())
	})
}

func TestEvents_AreFilteredByTypeAndTime(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		count := func(p *stripe.EventListParams) (n int) {
			it := s.Stripe.Events.List(p)
			for it.Next() {
				n++
			}
			require.NoError(t, it.Err())
			return n
		}
		pack(t, s)
		must(customerWith(s, ""))(t)
		first := now(t, s).Unix()
		pass(t, s, 10*day)
		c := must(customerWith(s, ""))(t)
		must(s.Stripe.Customers.Update(c.ID, &stripe.CustomerParams{Name: stripe.String("Ada")}))(t)
		assert.Equal(t, 5, count(&stripe.EventListParams{}))
		assert.Equal(t, 2, count(&stripe.EventListParams{Type: stripe.String("customer.created")}))
		assert.Equal(t, 3, count(&stripe.EventListParams{Type: stripe.String("customer.*")}))
		assert.Equal(t, 3, count(&stripe.EventListParams{Types: []*string{stripe.String("customer.created"), stripe.String("price.created")}}))
		assert.Equal(t, 2, count(&stripe.EventListParams{CreatedRange: &stripe.RangeQueryParams{GreaterThan: first}}))
		assert.Equal(t, 3, count(&stripe.EventListParams{CreatedRange: &stripe.RangeQueryParams{LesserThanOrEqual: first}}))
		assert.Equal(t, 2, count(&stripe.EventListParams{CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: first + 1, LesserThan: first + 100*86400}}))
		_, err := s.Stripe.Events.Get("evt_none", nil)
		requireError(t, err, 404, "resource_missing", "id")
		wrong := s.Stripe.Events.List(&stripe.EventListParams{Type: stripe.String("x"), Types: []*string{stripe.String("y")}})
		assert.False(t, wrong.Next())
		requireError(t, wrong.Err(), 400, "parameter_invalid", "types")
		pass(t, s, 21*day)
		assert.Equal(t, 2, count(&stripe.EventListParams{}), "events are listed for 30 days")
	})
}

func TestIdempotency_KeysAreForgottenAfterADayAndHaveALength(t *testing.T) {
	t.Parallel()
	s := double(t)
	first := must(customerWith(s, "key"))(t)
	assert.Equal(t, first.ID, must(customerWith(s, "key"))(t).ID)
	pass(t, s, 25*time.Hour)
	assert.NotEqual(t, first.ID, must(customerWith(s, "key"))(t).ID)
	req := must(http.NewRequest(http.MethodPost, s.URL+"/v1/customers", nil))(t) // stripe-go would not send it
	req.Header.Set("Authorization", "Bearer "+stripetest.DefaultSecretKey)
	req.Header.Set("Idempotency-Key", fmt.Sprintf("%0256d", 0))
	res := must(http.DefaultClient.Do(req))(t)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, 400, res.StatusCode)
}
