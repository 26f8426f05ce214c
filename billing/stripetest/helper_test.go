package stripetest_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// double is a double in memory whose client's requests are checked against stripe-mock in the end.
func double(t testing.TB, change ...func(*stripetest.Config)) *stripetest.Test {
	t.Helper()
	s := stripetest.New(t, change...)
	s.Stripe = stripetest.NewClient(s.URL, stripetest.DefaultSecretKey, &http.Client{Transport: recorder})
	return s
}

// stores runs fn on a double of each kind of store.
func stores(t *testing.T, fn func(t *testing.T, s *stripetest.Test)) {
	t.Helper()
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		fn(t, double(t))
	})
	dbtest.Run(t, dbtest.Of(stripetest.Migrations()), func(t *testing.T, db *database.DB) {
		store, err := stripetest.NewSQLStore(db.Writer())
		require.NoError(t, err)
		fn(t, double(t, func(c *stripetest.Config) { c.Store = store }))
	})
}

// must makes a test fail where err is not nil; it reads as the value.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		require.NoError(t, err)
		return v
	}
}

func customer(t *testing.T, s *stripetest.Test, card string) *stripe.Customer {
	t.Helper()
	c := must(s.Stripe.Customers.New(&stripe.CustomerParams{Email: stripe.String("ada@example.com")}))(t)
	if card != "" {
		saveCard(t, s, c.ID, card)
	}
	return c
}

func newCard(t *testing.T, s *stripetest.Test, number string) *stripe.PaymentMethod {
	t.Helper()
	return must(s.Stripe.PaymentMethods.New(&stripe.PaymentMethodParams{Type: stripe.String("card"),
		Card: &stripe.PaymentMethodCardParams{Number: &number, ExpMonth: stripe.Int64(12), ExpYear: stripe.Int64(2049), CVC: stripe.String("123")}}))(t)
}

// saveCard attaches a card and makes it the customer's default.
func saveCard(t *testing.T, s *stripetest.Test, customer, number string) *stripe.PaymentMethod {
	t.Helper()
	pm := newCard(t, s, number)
	pm = must(s.Stripe.PaymentMethods.Attach(pm.ID, &stripe.PaymentMethodAttachParams{Customer: &customer}))(t)
	must(s.Stripe.Customers.Update(customer, &stripe.CustomerParams{InvoiceSettings: &stripe.CustomerInvoiceSettingsParams{DefaultPaymentMethod: &pm.ID}}))(t)
	return pm
}

// plan makes a recurring price of a product of its own.
func plan(t *testing.T, s *stripetest.Test, name string, amount int64, interval string) *stripe.Price {
	t.Helper()
	return must(s.Stripe.Prices.New(&stripe.PriceParams{Currency: stripe.String("usd"), UnitAmount: &amount, ProductData: &stripe.PriceProductDataParams{Name: &name},
		Recurring: &stripe.PriceRecurringParams{Interval: &interval}}))(t)
}

func subscribe(t *testing.T, s *stripetest.Test, customer string, price *stripe.Price, change ...func(*stripe.SubscriptionParams)) *stripe.Subscription {
	t.Helper()
	p := &stripe.SubscriptionParams{Customer: &customer, Items: []*stripe.SubscriptionItemsParams{{Price: &price.ID}}, Metadata: map[string]string{"account": "a1"}}
	p.AddExpand("latest_invoice.payment_intent")
	for _, f := range change {
		f(p)
	}
	return must(s.Stripe.Subscriptions.New(p))(t)
}

func subscription(t *testing.T, s *stripetest.Test, id string) *stripe.Subscription {
	t.Helper()
	p := &stripe.SubscriptionParams{}
	p.AddExpand("latest_invoice.payment_intent")
	return must(s.Stripe.Subscriptions.Get(id, p))(t)
}

func invoices(t *testing.T, s *stripetest.Test, sub string) (out []*stripe.Invoice) {
	t.Helper()
	it := s.Stripe.Invoices.List(&stripe.InvoiceListParams{Subscription: &sub})
	for it.Next() {
		out = append(out, it.Invoice())
	}
	require.NoError(t, it.Err())
	return out
}

// events counts the events by type since the last call, leaving out what a test does not ask about.
func events(t *testing.T, s *stripetest.Test, about ...string) map[string]int {
	t.Helper()
	out := map[string]int{}
	it := s.Stripe.Events.List(&stripe.EventListParams{ListParams: stripe.ListParams{Limit: stripe.Int64(100)}})
	for it.Next() {
		kind := string(it.Event().Type)
		for _, prefix := range about {
			if strings.HasPrefix(kind, prefix) {
				out[kind]++
			}
		}
	}
	require.NoError(t, it.Err())
	return out
}

func now(t *testing.T, s *stripetest.Test) time.Time {
	t.Helper()
	return must(s.Now(t.Context()))(t)
}

// pass lets time pass on the double's clock.
func pass(t *testing.T, s *stripetest.Test, d time.Duration) {
	t.Helper()
	require.NoError(t, s.AdvanceTo(t.Context(), now(t, s).Add(d)))
}

const day = 24 * time.Hour

// browser follows no redirects, and checks what all pages have in common.
type browser struct {
	t      *testing.T
	client *http.Client
}

func newBrowser(t *testing.T) browser {
	return browser{t, &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// visit gets a page, or posts form to it when it is not nil.
func (b browser) visit(address string, form url.Values) (status int, body, location string) {
	b.t.Helper()
	var res *http.Response
	var err error
	if form == nil {
		res, err = b.client.Get(address)
	} else {
		res, err = b.client.PostForm(address, form)
	}
	require.NoError(b.t, err)
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	require.NoError(b.t, err)
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		assert.NotContains(b.t, string(content), "<script")
		assert.NotContains(b.t, string(content), "style=")
		assert.Equal(b.t, 1, strings.Count(string(content), "<h1"), "one heading")
		assert.Contains(b.t, res.Header.Get("Content-Security-Policy"), "default-src 'none'")
	}
	return res.StatusCode, string(content), res.Header.Get("Location")
}
