package stripetest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	stripewebhook "github.com/stripe/stripe-go/v76/webhook"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func pack(t *testing.T, s *stripetest.Test) (*stripe.Product, *stripe.Price) {
	t.Helper()
	product, err := s.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Pack"), Metadata: map[string]string{"credits": "100"}})
	require.NoError(t, err)
	price, err := s.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(1000)})
	require.NoError(t, err)
	return product, price
}

func session(t *testing.T, s *stripetest.Test, price *stripe.Price, change func(*stripe.CheckoutSessionParams)) *stripe.CheckoutSession {
	t.Helper()
	p := &stripe.CheckoutSessionParams{
		Mode: stripe.String("payment"), SuccessURL: stripe.String("https://shop.example/ok?id={CHECKOUT_SESSION_ID}"), CancelURL: stripe.String("https://shop.example/no"),
		ClientReferenceID: stripe.String("ref-1"),
		LineItems:         []*stripe.CheckoutSessionLineItemParams{{Price: &price.ID, Quantity: stripe.Int64(2)}},
		PaymentIntentData: &stripe.CheckoutSessionPaymentIntentDataParams{Metadata: map[string]string{"checkout": "c1"}},
	}
	if change != nil {
		change(p)
	}
	o, err := s.Stripe.CheckoutSessions.New(p)
	require.NoError(t, err)
	return o
}

func requireError(t *testing.T, err error, status int, code, param string) {
	t.Helper()
	var e *stripe.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, status, e.HTTPStatusCode)
	assert.Equal(t, code, string(e.Code))
	assert.Equal(t, param, e.Param)
}

func TestCatalogue_IsMadeChangedAndListed(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		product, price := pack(t, s)
		assert.True(t, strings.HasPrefix(product.ID, "prod_"))
		assert.Equal(t, int64(1000), price.UnitAmount)
		assert.Equal(t, stripe.PriceTypeOneTime, price.Type)
		product, err := s.Stripe.Products.Update(product.ID, &stripe.ProductParams{Metadata: map[string]string{"credits": "", "order": "1"}, DefaultPrice: &price.ID})
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"order": "1"}, product.Metadata)
		monthly, err := s.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(900),
			Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("month")}})
		require.NoError(t, err)
		assert.Equal(t, stripe.PriceRecurringIntervalMonth, monthly.Recurring.Interval)
		_, err = s.Stripe.Prices.Update(monthly.ID, &stripe.PriceParams{Active: stripe.Bool(false)})
		require.NoError(t, err)

		list := &stripe.PriceListParams{Active: stripe.Bool(true)}
		list.AddExpand("data.product")
		it := s.Stripe.Prices.List(list)
		var found []string
		for it.Next() {
			found = append(found, it.Price().ID)
			assert.Equal(t, "Pack", it.Price().Product.Name)
		}
		require.NoError(t, it.Err())
		assert.Equal(t, []string{price.ID}, found)

		for range 12 {
			pack(t, s)
		}
		all := s.Stripe.Products.List(&stripe.ProductListParams{ListParams: stripe.ListParams{Limit: stripe.Int64(5)}})
		n := 0
		for all.Next() {
			n++
		}
		require.NoError(t, all.Err())
		assert.Equal(t, 13, n, "all pages")

		_, err = s.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), BillingScheme: stripe.String("tiered")})
		requireError(t, err, 400, "unsupported_by_double", "tiers")
		_, err = s.Stripe.Prices.New(&stripe.PriceParams{Product: stripe.String("prod_none"), Currency: stripe.String("usd"), UnitAmount: stripe.Int64(1)})
		requireError(t, err, 400, "resource_missing", "product")
		_, err = s.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, UnitAmount: stripe.Int64(1)})
		requireError(t, err, 400, "parameter_missing", "currency")
		_, err = s.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("x"), TaxCode: stripe.String("txcd_1")})
		requireError(t, err, 400, "parameter_unknown", "tax_code")
	})
}

func TestAPI_KeyAndUnknownPathsAreRefused(t *testing.T) {
	t.Parallel()
	s := double(t)
	wrong := stripetest.NewClient(s.URL, "sk_test_wrong", http.DefaultClient)
	_, err := wrong.Customers.New(nil)
	requireError(t, err, 401, "api_key_invalid", "")
	_, err = s.Stripe.Quotes.New(&stripe.QuoteParams{})
	requireError(t, err, 404, "unsupported_by_double", "")
	_, err = stripetest.NewServer(stripetest.Config{BaseURL: "http://x", SecretKey: "sk_live_real"})
	require.ErrorContains(t, err, "sk_test_")
	_, err = stripetest.NewServer(stripetest.Config{})
	require.ErrorContains(t, err, "BaseURL")
}

func TestIdempotency_SameKeySameAnswer(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		create := func(email string) (*stripe.Customer, error) {
			p := &stripe.CustomerParams{Email: &email}
			p.SetIdempotencyKey("key-1")
			return s.Stripe.Customers.New(p)
		}
		ids := make2(t, 8, func() (string, error) {
			c, err := create("a@example.com")
			if err != nil {
				return "", err
			}
			return c.ID, nil
		})
		for _, id := range ids {
			assert.Equal(t, ids[0], id)
		}
		_, err := create("b@example.com")
		var e *stripe.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, stripe.ErrorTypeIdempotency, e.Type)
	})
}

// make2 runs fn n times at once.
func make2(t *testing.T, n int, fn func() (string, error)) []string {
	t.Helper()
	out := make([]string, n)
	var group errgroup.Group
	for i := range out {
		group.Go(func() (err error) {
			out[i], err = fn()
			return err
		})
	}
	require.NoError(t, group.Wait())
	return out
}

func TestCustomers_Live(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		c, err := s.Stripe.Customers.New(&stripe.CustomerParams{Email: stripe.String("a@example.com"), Metadata: map[string]string{"account": "1"}})
		require.NoError(t, err)
		c, err = s.Stripe.Customers.Update(c.ID, &stripe.CustomerParams{Name: stripe.String("Ada")})
		require.NoError(t, err)
		assert.Equal(t, "a@example.com", c.Email)
		_, err = s.Stripe.Customers.Del(c.ID, nil)
		require.NoError(t, err)
		c, err = s.Stripe.Customers.Get(c.ID, nil)
		require.NoError(t, err)
		assert.True(t, c.Deleted)
		_, err = s.Stripe.Customers.Update(c.ID, &stripe.CustomerParams{Name: stripe.String("x")})
		requireError(t, err, 404, "resource_missing", "id")
		_, err = s.Stripe.Customers.New(&stripe.CustomerParams{Email: stripe.String("no address")})
		requireError(t, err, 400, "email_invalid", "email")
	})
}

func TestPay_CardsDoWhatTheirNumbersSay(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		_, price := pack(t, s)
		o := session(t, s, price, nil)
		assert.Equal(t, int64(2000), o.AmountTotal)
		assert.Nil(t, o.LineItems)

		_, err := s.Pay(t.Context(), o.ID, stripetest.Card{Number: "4000 0000 0000 0002"})
		require.ErrorContains(t, err, "declined")
		_, err = s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardInsufficientFunds})
		require.ErrorContains(t, err, "insufficient funds")
		_, err = s.Pay(t.Context(), o.ID, stripetest.Card{Number: "4111111111111111"})
		require.ErrorContains(t, err, "none of the test cards")
		next, err := s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardSucceeds, Email: "p@example.com"})
		require.NoError(t, err)
		assert.Equal(t, "https://shop.example/ok?id="+o.ID, next)
		_, err = s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.ErrorContains(t, err, "complete")

		get := &stripe.CheckoutSessionParams{}
		get.AddExpand("payment_intent.latest_charge")
		get.AddExpand("line_items.data.price.product")
		paid, err := s.Stripe.CheckoutSessions.Get(o.ID, get)
		require.NoError(t, err)
		assert.Equal(t, stripe.CheckoutSessionStatusComplete, paid.Status)
		assert.Equal(t, stripe.CheckoutSessionPaymentStatusPaid, paid.PaymentStatus)
		assert.Equal(t, "ref-1", paid.ClientReferenceID)
		assert.Equal(t, stripe.PaymentIntentStatusSucceeded, paid.PaymentIntent.Status)
		assert.Equal(t, map[string]string{"checkout": "c1"}, paid.PaymentIntent.Metadata)
		assert.Equal(t, int64(2000), paid.PaymentIntent.LatestCharge.Amount)
		assert.Equal(t, "4242", paid.PaymentIntent.LatestCharge.PaymentMethodDetails.Card.Last4)
		assert.Equal(t, "100", paid.LineItems.Data[0].Price.Product.Metadata["credits"])
		assert.Equal(t, int64(2), paid.LineItems.Data[0].Quantity)
		res, err := http.Get(paid.PaymentIntent.LatestCharge.ReceiptURL)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		assert.Contains(t, string(body), "20.00 USD")

		events := map[string]int{}
		it := s.Stripe.Events.List(&stripe.EventListParams{})
		for it.Next() {
			events[string(it.Event().Type)]++
		}
		require.NoError(t, it.Err())
		assert.Equal(t, map[string]int{"product.created": 1, "price.created": 1, "payment_intent.created": 1, "charge.failed": 2, "payment_intent.payment_failed": 2,
			"charge.succeeded": 1, "payment_intent.succeeded": 1, "checkout.session.completed": 1}, events)
	})
}

func TestSession_RefusesWhatStripeRefuses(t *testing.T) {
	t.Parallel()
	s := double(t)
	product, price := pack(t, s)
	monthly, err := s.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(900),
		Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("month")}})
	require.NoError(t, err)
	try := func(change func(*stripe.CheckoutSessionParams)) error {
		p := &stripe.CheckoutSessionParams{Mode: stripe.String("payment"), SuccessURL: stripe.String("https://shop.example/ok"),
			LineItems: []*stripe.CheckoutSessionLineItemParams{{Price: &price.ID, Quantity: stripe.Int64(1)}}}
		change(p)
		_, err := s.Stripe.CheckoutSessions.New(p)
		return err
	}
	requireError(t, try(func(p *stripe.CheckoutSessionParams) { p.Mode = nil }), 400, "parameter_missing", "mode")
	requireError(t, try(func(p *stripe.CheckoutSessionParams) { p.Mode = stripe.String("subscription") }), 400, "parameter_invalid", "line_items")
	requireError(t, try(func(p *stripe.CheckoutSessionParams) { p.Mode = stripe.String("setup") }), 400, "parameter_invalid", "line_items")
	requireError(t, try(func(p *stripe.CheckoutSessionParams) { p.Mode = stripe.String("gift") }), 400, "parameter_invalid", "mode")
	requireError(t, try(func(p *stripe.CheckoutSessionParams) { p.UIMode = stripe.String("embedded") }), 400, "unsupported_by_double", "ui_mode")
	requireError(t, try(func(p *stripe.CheckoutSessionParams) { p.SuccessURL = stripe.String("nowhere") }), 400, "url_invalid", "success_url")
	requireError(t, try(func(p *stripe.CheckoutSessionParams) { p.LineItems = nil }), 400, "parameter_missing", "line_items")
	requireError(t, try(func(p *stripe.CheckoutSessionParams) { p.LineItems[0].Price = &monthly.ID }), 400, "parameter_invalid", "line_items[0][price]")
	requireError(t, try(func(p *stripe.CheckoutSessionParams) { p.LineItems[0].Price = stripe.String("price_x") }), 400, "resource_missing", "line_items[0][price]")
	requireError(t, try(func(p *stripe.CheckoutSessionParams) { p.LineItems[0].Quantity = nil }), 400, "parameter_missing", "line_items[0][quantity]")
	requireError(t, try(func(p *stripe.CheckoutSessionParams) { p.Customer = stripe.String("cus_x") }), 400, "resource_missing", "customer")
	requireError(t, try(func(p *stripe.CheckoutSessionParams) { p.ExpiresAt = stripe.Int64(time.Now().Add(time.Minute).Unix()) }), 400, "parameter_invalid", "expires_at")
	requireError(t, try(func(p *stripe.CheckoutSessionParams) { p.AddExtra("gift", "1") }), 400, "parameter_unknown", "gift")
	_, err = s.Stripe.Prices.Update(price.ID, &stripe.PriceParams{Active: stripe.Bool(false)})
	require.NoError(t, err)
	requireError(t, try(func(*stripe.CheckoutSessionParams) {}), 400, "price_inactive", "line_items[0][price]")
	_, err = s.Stripe.CheckoutSessions.Get("cs_test_none", nil)
	requireError(t, err, 404, "resource_missing", "id")
}

func TestSession_ExpiresByRequestAndByTime(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Now()
	s := double(t, func(c *stripetest.Config) {
		c.Clock = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	_, price := pack(t, s)
	first, second := session(t, s, price, nil), session(t, s, price, nil)
	o, err := s.Stripe.CheckoutSessions.Expire(first.ID, nil)
	require.NoError(t, err)
	assert.Equal(t, stripe.CheckoutSessionStatusExpired, o.Status)
	_, err = s.Stripe.CheckoutSessions.Expire(first.ID, nil)
	requireError(t, err, 400, "resource_state_invalid", "")
	mu.Lock()
	now = now.Add(25 * time.Hour)
	mu.Unlock()
	require.Eventually(t, func() bool {
		o, err := s.Stripe.CheckoutSessions.Get(second.ID, nil)
		return err == nil && o.Status == stripe.CheckoutSessionStatusExpired
	}, 10*time.Second, 20*time.Millisecond)
}

// endpoint receives webhooks and fails as told.
type endpoint struct {
	*httptest.Server
	mu       sync.Mutex
	events   []stripe.Event
	failures int
}

func newEndpoint(t *testing.T, secret string, failures int) *endpoint {
	t.Helper()
	e := &endpoint{failures: failures}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.failures > 0 {
			e.failures--
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		ev, err := stripewebhook.ConstructEvent(body, r.Header.Get("Stripe-Signature"), secret)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		e.events = append(e.events, ev)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) waitFor(t *testing.T, kind string) stripe.Event {
	t.Helper()
	var found stripe.Event
	require.Eventually(t, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, ev := range e.events {
			if string(ev.Type) == kind {
				found = ev
				return true
			}
		}
		return false
	}, 20*time.Second, 10*time.Millisecond, kind)
	return found
}

func TestDelivery_IsSignedAndRetriedUntilItIsTaken(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, "whsec_mine", 2)
	s := double(t, func(c *stripetest.Config) { c.WebhookURL, c.WebhookSecret = e.URL, "whsec_mine" })
	product, price := pack(t, s)
	assert.Contains(t, string(e.waitFor(t, "product.created").Data.Raw), product.ID)
	e.waitFor(t, "price.created")
	o := session(t, s, price, nil)
	_, err := s.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.Delayed})
	require.NoError(t, err)
	assert.Contains(t, string(e.waitFor(t, "checkout.session.completed").Data.Raw), `"payment_status": "unpaid"`)
	require.NoError(t, s.SettleDelayed(t.Context(), o.ID, true))
	assert.Contains(t, string(e.waitFor(t, "checkout.session.async_payment_succeeded").Data.Raw), `"payment_status": "paid"`)
	require.ErrorContains(t, s.SettleDelayed(t.Context(), o.ID, true), "waits for nothing")

	other := session(t, s, price, nil)
	_, err = s.Pay(t.Context(), other.ID, stripetest.Card{Number: stripetest.Delayed})
	require.NoError(t, err)
	require.NoError(t, s.SettleDelayed(t.Context(), other.ID, false))
	e.waitFor(t, "checkout.session.async_payment_failed")
}

func TestDelivery_EndpointsOfTheAPIGetTheTypesTheyWant(t *testing.T) {
	t.Parallel()
	s := double(t)
	made, err := s.Stripe.WebhookEndpoints.New(&stripe.WebhookEndpointParams{URL: stripe.String("http://127.0.0.1:1/"), EnabledEvents: []*string{stripe.String("price.created")}})
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(made.Secret, "whsec_"))
	e := newEndpoint(t, made.Secret, 0)
	shown, err := s.Stripe.WebhookEndpoints.Get(made.ID, nil)
	require.NoError(t, err)
	assert.Empty(t, shown.Secret)
	_, err = s.Stripe.WebhookEndpoints.Del(made.ID, nil)
	require.NoError(t, err)
	made, err = s.Stripe.WebhookEndpoints.New(&stripe.WebhookEndpointParams{URL: &e.URL, EnabledEvents: []*string{stripe.String("price.created")}})
	require.NoError(t, err)
	pack(t, s)
	require.Eventually(t, func() bool { // signed with the first secret no more
		undelivered := s.Stripe.Events.List(&stripe.EventListParams{DeliverySuccess: stripe.Bool(false)})
		return undelivered.Next() && undelivered.Event().Type == "price.created"
	}, 10*time.Second, 10*time.Millisecond)
	_ = made
}

// A process that starts again on the same database finds what there was, and makes the deliveries that were due.
func TestSQLStore_OutlivesTheServer(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Of(stripetest.Migrations()), func(t *testing.T, db *database.DB) {
		store, err := stripetest.NewSQLStore(db.Writer())
		require.NoError(t, err)
		e := newEndpoint(t, "whsec_x", 0)
		cfg := stripetest.Config{BaseURL: "http://127.0.0.1:9/dev/stripe", Store: store, WebhookURL: e.URL, WebhookSecret: "whsec_x", Logger: slog.New(slog.DiscardHandler)}
		first, err := stripetest.NewServer(cfg)
		require.NoError(t, err)
		require.NoError(t, first.Start(t.Context()))
		first.Stop()
		customer, err := first.Client().Customers.New(&stripe.CustomerParams{Email: stripe.String("a@example.com")})
		require.NoError(t, err, "the client needs no network")

		second, err := stripetest.NewServer(cfg)
		require.NoError(t, err)
		again, err := second.Client().Customers.Get(customer.ID, nil)
		require.NoError(t, err)
		assert.Equal(t, "a@example.com", again.Email)
		require.NoError(t, second.Start(t.Context()))
		defer second.Stop()
		e.waitFor(t, "customer.created")
	})
}

func TestHostedPage_PaysDeclinesAndExplains(t *testing.T) {
	t.Parallel()
	s := double(t)
	_, price := pack(t, s)
	o := session(t, s, price, nil)
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	do := func(form url.Values) (int, string, string) {
		var res *http.Response
		var err error
		if form == nil {
			res, err = browser.Get(o.URL)
		} else {
			res, err = browser.PostForm(o.URL, form)
		}
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, errors.Join(err, res.Body.Close()))
		assert.NotContains(t, string(body), "<script")
		return res.StatusCode, string(body), res.Header.Get("Location")
	}
	status, body, _ := do(nil)
	assert.Equal(t, 200, status)
	for _, want := range []string{"20.00 USD", "Simulation", "4000 0000 0000 0002", "https://shop.example/no"} {
		assert.Contains(t, body, want)
	}
	good := func(number string) url.Values {
		return url.Values{"email": {"a@example.com"}, "number": {number}, "expiry": {"12/49"}, "cvc": {"123"}, "name": {`"><b>Ada`}}
	}
	wrong := good("4242 4242 4242 4241")
	wrong.Set("expiry", "01/20")
	wrong.Set("cvc", "1x")
	status, body, _ = do(wrong)
	assert.Equal(t, 422, status)
	for _, want := range []string{"number is invalid", "has expired", "security code"} {
		assert.Contains(t, body, want)
	}
	assert.NotContains(t, body, "<b>Ada")
	status, body, _ = do(good(stripetest.CardDeclined))
	assert.Equal(t, 402, status)
	assert.Contains(t, body, "Your card was declined.")
	status, _, location := do(good("4242 4242 4242 4242"))
	assert.Equal(t, 303, status)
	assert.Equal(t, "https://shop.example/ok?id="+o.ID, location)
	status, body, _ = do(nil)
	assert.Equal(t, 410, status)
	assert.Contains(t, body, "complete")
	res, err := browser.Get(s.URL + "/checkout/cs_test_none")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, 404, res.StatusCode)
	res, err = browser.Get(s.URL + "/")
	require.NoError(t, err)
	index, err := io.ReadAll(res.Body)
	require.NoError(t, errors.Join(err, res.Body.Close()))
	assert.Contains(t, string(index), o.ID)
}

func ExampleServer_Pay() {
	s, err := stripetest.NewServer(stripetest.Config{BaseURL: "http://127.0.0.1:12111"})
	if err != nil {
		fmt.Println(err)
		return
	}
	api := s.Client() // needs no network
	product, _ := api.Products.New(&stripe.ProductParams{Name: stripe.String("100 credits")})
	price, _ := api.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(1000)})
	session, err := api.CheckoutSessions.New(&stripe.CheckoutSessionParams{
		Mode: stripe.String("payment"), SuccessURL: stripe.String("https://shop.example/thanks"),
		LineItems: []*stripe.CheckoutSessionLineItemParams{{Price: &price.ID, Quantity: stripe.Int64(1)}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	next, err := s.Pay(context.Background(), session.ID, stripetest.Card{Number: stripetest.CardSucceeds})
	fmt.Println(next, err)
	// Output: https://shop.example/thanks <nil>
}
