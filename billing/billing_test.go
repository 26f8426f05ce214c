package billing_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/webhook"
)

var schema = dbtest.Schema{Name: "billing", Migrate: func(ctx context.Context, db *database.DB) error {
	e, err := jobs.New(jobs.Config{DB: db})
	if err != nil {
		return err
	}
	return errors.Join(e.Migrate(ctx), database.Migrate(ctx, db, credits.Migrations(), webhook.Migrations(), billing.Migrations()))
}}

// shop is billing wired as a host wires it, with a double whose webhooks come over HTTP.
type shop struct {
	*billing.Billing
	t      *testing.T
	db     *database.DB
	ledger *credits.Ledger
	double *stripetest.Test
	inbox  *webhook.Processor
	who    *billing.Customer // who the requests are from; nil: nobody
	me     billing.Customer  // whom the helpers are about
	pack   *stripe.Price
	basic  *stripe.Price // plans of the tests that need some
	pro    *stripe.Price
	ahead  atomic.Int64 // how far our clocks and the double's are ahead of the real time
	// breaks, when set, decides about each call to Stripe before it is made.
	breaks atomic.Pointer[func(r *http.Request) error]
}

var ada = billing.Customer{Account: "ada", Email: "ada@example.com", Name: "Ada", Verified: true}

// poll is how often jobs are looked for. Under the race detector SQLite takes milliseconds to tell that there are none.
const poll = 80 * time.Millisecond

// backoff tries an event that came too early again at once, and only then in the rhythm of a host.
func backoff(attempt int) time.Duration {
	if attempt == 1 {
		return poll
	}
	return webhook.DefaultBackoff(attempt)
}

func newShop(t *testing.T, db *database.DB, change ...func(*billing.Config)) *shop {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	s := &shop{t: t, db: db, who: &ada, me: ada}
	var receiver http.Handler
	hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { receiver.ServeHTTP(w, r) }))
	t.Cleanup(hooks.Close)
	engine, err := jobs.New(jobs.Config{DB: db, PollInterval: poll, Logger: quiet})
	require.NoError(t, err)
	s.inbox, err = webhook.New(webhook.Config{DB: db.Writer(), ReadDB: db.Reader(), Jobs: engine.Client(), Secrets: []string{"whsec_1"}, Backoff: backoff, Logger: quiet})
	require.NoError(t, err)
	receiver = s.inbox.Handler()
	require.NoError(t, s.inbox.AddWorkers(engine.Workers()))
	s.ledger, err = credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader(), Clock: s.now})
	require.NoError(t, err)
	s.double = stripetest.New(t, func(c *stripetest.Config) { c.WebhookURL, c.WebhookSecret, c.Logger = hooks.URL, "whsec_1", quiet })
	cfg := billing.Config{
		DB: db.Writer(), ReadDB: db.Reader(), Stripe: s.client(), Ledger: s.ledger, BaseURL: "https://shop.example", LoginURL: "/auth/login", Clock: s.now, Logger: quiet,
		Jobs: engine.Client(),
		Customer: func(*http.Request) (billing.Customer, bool) {
			if s.who == nil {
				return billing.Customer{}, false
			}
			return *s.who, true
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	s.Billing, err = billing.New(cfg)
	require.NoError(t, err)
	s.Register(s.inbox)
	require.NoError(t, s.AddWorkers(engine.Workers()))
	require.NoError(t, engine.Start(t.Context()))
	t.Cleanup(func() { assert.NoError(t, engine.Stop(context.Background())) })

	product, err := s.double.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Starter"), Metadata: map[string]string{"credits": "100.5"}})
	require.NoError(t, err)
	s.pack = s.price(product.ID, 1000, "")
	require.NoError(t, s.SyncCatalogue(t.Context()))
	return s
}

// plan makes a product with a recurring price, and lets us know it.
func (s *shop) plan(name, worth string, amount int64, interval string, metadata ...string) *stripe.Price {
	s.t.Helper()
	m := map[string]string{"credits": worth}
	for i := 0; i < len(metadata); i += 2 {
		m[metadata[i]] = metadata[i+1]
	}
	product, err := s.double.Stripe.Products.New(&stripe.ProductParams{Name: &name, Metadata: m})
	require.NoError(s.t, err)
	made := s.price(product.ID, amount, interval)
	require.NoError(s.t, s.SyncCatalogue(s.t.Context()))
	return made
}

func (s *shop) price(product string, amount int64, interval string) *stripe.Price {
	p := &stripe.PriceParams{Product: &product, Currency: stripe.String("usd"), UnitAmount: &amount}
	if interval != "" {
		p.Recurring = &stripe.PriceRecurringParams{Interval: &interval}
	}
	made, err := s.double.Stripe.Prices.New(p)
	require.NoError(s.t, err)
	return made
}

// client reaches the double through a transport that a test can break.
func (s *shop) client() *client.API {
	return stripetest.NewClient(s.double.URL, stripetest.DefaultSecretKey, &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		if f := s.breaks.Load(); f != nil {
			if err := (*f)(r); err != nil {
				return nil, err
			}
		}
		return recorder.RoundTrip(r)
	})})
}

// losePost cuts the connection after POSTs to a path have taken effect, until breaks is emptied.
func (s *shop) losePost(suffix string) {
	lose := func(r *http.Request) error {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, suffix) {
			return nil
		}
		res, err := http.DefaultTransport.RoundTrip(r.Clone(context.Background()))
		if err != nil {
			return err
		}
		return errors.Join(res.Body.Close(), errors.New("connection cut after the effect"))
	}
	s.breaks.Store(&lose)
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (s *shop) checkout() billing.Checkout {
	s.t.Helper()
	c, err := s.Checkout(s.t.Context(), billing.CheckoutParams{Customer: s.me, Price: s.pack.ID})
	require.NoError(s.t, err)
	return c
}

func (s *shop) waitFor(session string, status billing.CheckoutStatus) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		c, err := s.FindCheckout(s.t.Context(), s.me.Account, session)
		return err == nil && c.Status == status
	}, 20*time.Second, 20*time.Millisecond, "the checkout should be %s", status)
}

func (s *shop) balance() string {
	s.t.Helper()
	b, err := s.ledger.Balance(s.t.Context(), s.me.Account)
	require.NoError(s.t, err)
	return b.Available.String()
}

// quiet waits until the double has delivered everything and the inbox has worked it.
func (s *shop) quiet() {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		undelivered := s.double.Stripe.Events.List(&stripe.EventListParams{DeliverySuccess: stripe.Bool(false)})
		waiting, _, err := s.inbox.List(s.t.Context(), webhook.ListParams{Status: webhook.StatusReceived})
		return !undelivered.Next() && undelivered.Err() == nil && err == nil && len(waiting) == 0
	}, 20*time.Second, 50*time.Millisecond)
}

func run(t *testing.T, fn func(t *testing.T, s *shop), change ...func(*billing.Config)) {
	t.Helper()
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) { fn(t, newShop(t, db, change...)) })
}

// runSQLite is run on SQLite only, for what has no SQL of its own.
func runSQLite(t *testing.T, fn func(t *testing.T, s *shop), change ...func(*billing.Config)) {
	t.Helper()
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) { fn(t, newShop(t, dbtest.SQLite(t, schema), change...)) })
}

// now is the time of billing and the ledger.
func (s *shop) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// advance lets time pass for us and for the double, and everything that is due happen.
func (s *shop) advance(d time.Duration) {
	s.t.Helper()
	to := s.now().Add(d)
	s.ahead.Store(int64(time.Until(to)))
	require.NoError(s.t, s.double.AdvanceTo(s.t.Context(), to))
	s.quiet()
}

func TestPurchase_PaidCheckoutGrantsOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		c := s.checkout()
		assert.Equal(t, billing.CheckoutOpen, c.Status)
		assert.Contains(t, c.URL, s.double.URL)
		next, err := s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(t, err)
		assert.Equal(t, "https://shop.example/billing/success?session_id="+c.SessionID, next)
		s.waitFor(c.SessionID, billing.CheckoutPaid)
		assert.Equal(t, "100.5", s.balance())

		payments, more, err := s.Payments(t.Context(), billing.PaymentsParams{Account: ada.Account})
		require.NoError(t, err)
		assert.False(t, more)
		require.Len(t, payments, 1)
		p := payments[0]
		assert.Equal(t, billing.Money{Amount: 1000, Currency: "usd"}, p.Price)
		assert.Regexp(t, `^RCP-\d{8}-[A-Z0-9]{6}$`, p.Receipt)
		assert.NotEmpty(t, p.IntentID)
		assert.NotEmpty(t, p.ReceiptURL)
		history, _, err := s.ledger.History(t.Context(), credits.HistoryParams{Account: ada.Account})
		require.NoError(t, err)
		assert.Equal(t, credits.Purchase, history[0].Source)
		assert.Equal(t, c.SessionID, history[0].Reference)
	})
}

// The session is complete; events about it come under many ids, again and again, all at once.
func TestPurchase_AnyNumberOfEventsInAnyOrderGrantOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		c := s.checkout()
		_, err := s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.Delayed})
		require.NoError(t, err)
		s.waitFor(c.SessionID, billing.CheckoutWaiting)
		assert.Equal(t, "0", s.balance(), "nothing before the money is there")
		require.NoError(t, s.double.SettleDelayed(t.Context(), c.SessionID, true))
		var group errgroup.Group
		for i := range 20 {
			group.Go(func() error {
				kind := []string{"checkout.session.completed", "checkout.session.async_payment_succeeded", "checkout.session.expired"}[i%3]
				return s.deliver(fmt.Sprintf("evt_again_%d", i/2), kind, c.SessionID)
			})
		}
		require.NoError(t, group.Wait())
		s.waitFor(c.SessionID, billing.CheckoutPaid)
		s.quiet()
		assert.Equal(t, "100.5", s.balance())
		payments, _, err := s.Payments(t.Context(), billing.PaymentsParams{})
		require.NoError(t, err)
		assert.Len(t, payments, 1)
	})
}

// deliver posts an event of our own making to the inbox.
func (s *shop) deliver(id, kind, session string) error {
	body := fmt.Appendf(nil, `{"id":%q,"object":"event","type":%q,"api_version":"2099-01-01","created":%d,"livemode":false,"data":{"object":{"id":%q}}}`,
		id, kind, time.Now().Unix(), session)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(body)))
	r.Header.Set("Stripe-Signature", signature(body, "whsec_1"))
	w := httptest.NewRecorder()
	s.inbox.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return fmt.Errorf("status %d: %s", w.Code, w.Body)
	}
	return nil
}

func TestPurchase_WhatIsNotPaidGrantsNothing(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		declined, failed, expired := s.checkout(), s.checkout(), s.checkout()
		_, err := s.double.Pay(t.Context(), declined.SessionID, stripetest.Card{Number: stripetest.CardDeclined})
		require.Error(t, err)
		require.NoError(t, s.deliver("evt_early", "checkout.session.completed", declined.SessionID), "an event that lies")
		_, err = s.double.Pay(t.Context(), failed.SessionID, stripetest.Card{Number: stripetest.Delayed})
		require.NoError(t, err)
		require.NoError(t, s.double.SettleDelayed(t.Context(), failed.SessionID, false))
		_, err = s.double.Stripe.CheckoutSessions.Expire(expired.SessionID, nil)
		require.NoError(t, err)
		s.waitFor(failed.SessionID, billing.CheckoutFailed)
		s.waitFor(expired.SessionID, billing.CheckoutExpired)
		s.quiet()
		s.waitFor(declined.SessionID, billing.CheckoutOpen)
		assert.Equal(t, "0", s.balance())
		dead, _, err := s.inbox.List(t.Context(), webhook.ListParams{Status: webhook.StatusDead})
		require.NoError(t, err)
		assert.Empty(t, dead)
	})
}

func TestPurchase_SessionsThatAreNotOursAreLeftAlone(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		for _, ref := range []string{"", "order-17", uuid.NewString()} {
			o, err := s.double.Stripe.CheckoutSessions.New(&stripe.CheckoutSessionParams{Mode: stripe.String("payment"), SuccessURL: stripe.String("https://x.example/"),
				ClientReferenceID: stripe.String(ref), LineItems: []*stripe.CheckoutSessionLineItemParams{{Price: &s.pack.ID, Quantity: stripe.Int64(1)}}})
			require.NoError(t, err)
			_, err = s.double.Pay(t.Context(), o.ID, stripetest.Card{Number: stripetest.CardSucceeds, Email: ada.Email})
			require.NoError(t, err)
		}
		c := s.checkout()
		forged, err := s.double.Stripe.CheckoutSessions.New(&stripe.CheckoutSessionParams{Mode: stripe.String("payment"), SuccessURL: stripe.String("https://x.example/"),
			ClientReferenceID: stripe.String(c.ID.String()), LineItems: []*stripe.CheckoutSessionLineItemParams{{Price: &s.pack.ID, Quantity: stripe.Int64(1)}}})
		require.NoError(t, err)
		_, err = s.double.Pay(t.Context(), forged.ID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(t, err)
		s.quiet()
		assert.Equal(t, "0", s.balance(), "never by e-mail, and never for another session")
		dead, _, err := s.inbox.List(t.Context(), webhook.ListParams{Status: webhook.StatusDead})
		require.NoError(t, err)
		assert.Len(t, dead, 1, "a person has to look at the session that names another's checkout")
	})
}

func TestCheckout_RefusesWhatCannotBeBought(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		buy := func(who billing.Customer, price string) error {
			_, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: who, Price: price})
			return err
		}
		unverified := ada
		unverified.Verified = false
		require.ErrorIs(t, buy(unverified, s.pack.ID), billing.ErrUnverified)
		require.ErrorIs(t, buy(ada, "price_none"), billing.ErrNotForSale)
		worthless, err := s.double.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("T-shirt")})
		require.NoError(t, err)
		shirt := s.price(worthless.ID, 900, "")
		wrong, err := s.double.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Typo"), Metadata: map[string]string{"credits": "1,000"}})
		require.NoError(t, err)
		typo := s.price(wrong.ID, 900, "")
		s.quiet() // webhooks bring the new prices
		require.ErrorIs(t, buy(ada, shirt.ID), billing.ErrNotForSale)
		require.ErrorIs(t, buy(ada, typo.ID), billing.ErrNotForSale)
		_, err = s.double.Stripe.Products.Update(s.pack.Product.ID, &stripe.ProductParams{Active: stripe.Bool(false)})
		require.NoError(t, err)
		s.quiet()
		require.ErrorIs(t, buy(ada, s.pack.ID), billing.ErrNotForSale)
	})
}

func TestCustomer_IsMadeOnceAndSurvivesItsDeletion(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		var group errgroup.Group
		for range 8 {
			group.Go(func() error {
				_, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: s.pack.ID})
				return err
			})
		}
		require.NoError(t, group.Wait())
		count := func() (ids []string) {
			it := s.double.Stripe.Customers.List(&stripe.CustomerListParams{Email: stripe.String(ada.Email)})
			for it.Next() {
				ids = append(ids, it.Customer().ID)
			}
			require.NoError(t, it.Err())
			return ids
		}
		ids := count()
		require.Len(t, ids, 1)
		_, err := s.double.Stripe.Customers.Del(ids[0], nil)
		require.NoError(t, err)
		c := s.checkout()
		assert.NotEmpty(t, c.URL)
		assert.Len(t, count(), 1)
	})
}

// Stripe may have acted though its answer was lost. Trying again under the row's key finds what was made.
func TestCustomer_LostAnswerMakesNoSecondOne(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.losePost("/customers")
		_, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: s.pack.ID})
		require.ErrorIs(t, err, billing.ErrStripe)
		s.breaks.Store(nil)
		s.checkout()
		it := s.double.Stripe.Customers.List(&stripe.CustomerListParams{})
		n := 0
		for it.Next() {
			n++
		}
		require.NoError(t, it.Err())
		assert.Equal(t, 1, n)
	})
}

func (s *shop) request(method, path string, form url.Values, header ...string) (*http.Response, string) {
	s.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(s.t, err)
	return w.Result(), string(body)
}

func TestPages_FromPacksToReceipt(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		res, body := s.request("GET", "/billing/", nil)
		assert.Equal(t, 200, res.StatusCode)
		assert.Contains(t, body, "10.00 USD")
		assert.Contains(t, body, "100.5 credits · 0.100 each")

		res, _ = s.request("POST", "/billing/checkout", url.Values{"price": {s.pack.ID}})
		require.Equal(t, 303, res.StatusCode)
		location := res.Header.Get("Location")
		require.Contains(t, location, s.double.URL+"/checkout/")
		session := location[strings.LastIndex(location, "/")+1:]

		res, body = s.request("GET", "/billing/success?session_id="+session, nil)
		assert.Equal(t, 200, res.StatusCode)
		assert.Contains(t, body, "Confirming your payment")
		assert.Contains(t, body, `http-equiv="refresh"`)
		assert.Equal(t, "0", s.balance(), "the return page proves nothing")
		_, err := s.double.Pay(t.Context(), session, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(t, err)
		_, body = s.request("GET", "/billing/success?session_id="+session+"&look=1", nil)
		assert.Contains(t, body, "100.5 credits</strong> have been added")
		assert.NotContains(t, body, `http-equiv="refresh"`)

		_, body = s.request("GET", "/billing/payments", nil, "Accept", "application/json")
		var list struct {
			Data struct {
				Payments []billing.Payment `json:"payments"`
			} `json:"data"`
		}
		require.NoError(t, json.Unmarshal([]byte(body), &list))
		require.Len(t, list.Data.Payments, 1)
		p := list.Data.Payments[0]
		for path, want := range map[string]string{"/billing/payments": p.Receipt, "/billing/payments/" + p.ID.String(): "10.00 USD", "/billing/payments/" + p.ID.String() + "/receipt": "ada@example.com"} {
			res, body = s.request("GET", path, nil)
			assert.Equal(t, 200, res.StatusCode, path)
			assert.Contains(t, body, want)
		}
		res, body = s.request("GET", "/billing/cancel", nil)
		assert.Equal(t, 200, res.StatusCode)
		assert.Contains(t, body, "Nothing was charged")

		s.who = &billing.Customer{Account: "eve", Email: "eve@example.com", Verified: true}
		for _, path := range []string{"/billing/payments/" + p.ID.String(), "/billing/payments/" + p.ID.String() + "/receipt", "/billing/payments/x", "/billing/success?session_id=" + session} {
			res, _ = s.request("GET", path, nil)
			assert.Equal(t, 404, res.StatusCode, "%s is somebody else's", path)
		}
		s.who = nil
		res, _ = s.request("GET", "/billing/payments", nil)
		assert.Equal(t, "/auth/login?next=%2Fbilling%2Fpayments", res.Header.Get("Location"))
		res, body = s.request("POST", "/billing/checkout", url.Values{"price": {s.pack.ID}}, "Accept", "application/json")
		assert.Equal(t, 401, res.StatusCode)
		assert.Contains(t, body, "unauthenticated")
		res, _ = s.request("POST", "/billing/checkout", nil, "Sec-Fetch-Site", "cross-site")
		assert.Equal(t, 403, res.StatusCode)
	})
}

func TestPages_StripeDownIsSaidAndChargesNothing(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		down := func(*http.Request) error { return errors.New("no route to host") }
		s.breaks.Store(&down)
		res, body := s.request("POST", "/billing/checkout", url.Values{"price": {s.pack.ID}})
		assert.Equal(t, 503, res.StatusCode)
		assert.Contains(t, body, "does not answer")
		assert.NotContains(t, body, "no route")
	})
}

func TestMoney_HasItsCurrencysDecimals(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]billing.Money{
		"12.50 USD": {Amount: 1250, Currency: "usd"}, "0.05 EUR": {Amount: 5, Currency: "eur"}, "500 JPY": {Amount: 500, Currency: "jpy"},
		"1.234 KWD": {Amount: 1234, Currency: "kwd"}, "-3.00 USD": {Amount: -300, Currency: "usd"},
	} {
		assert.Equal(t, want, m.String())
	}
}
