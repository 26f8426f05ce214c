package stripetest_test

import (
	"context"
	"os"
	"path"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// What an older version has stored is found and goes on after the update.
func TestSQLStore_TakesOverWhatAnOlderVersionStored(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		old := fstest.MapFS{}
		for _, dialect := range []string{"postgres", "sqlite"} {
			name := path.Join("migrations", dialect, "00001_objects.sql")
			old[name] = &fstest.MapFile{Data: must(os.ReadFile(name))(t)}
		}
		require.NoError(t, database.Migrate(t.Context(), db, database.Migrations{Name: "stripetest", FS: old}))
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			for i, o := range [][3]string{
				{"cus_1", "customer", `{"id":"cus_1","object":"customer","email":"a@example.com","created":1,"metadata":{}}`},
				{"prod_1", "product", `{"id":"prod_1","object":"product","name":"Pack","active":true,"created":1}`},
				{"price_1", "price", `{"id":"price_1","object":"price","product":"prod_1","active":true,"currency":"usd","unit_amount":100,"type":"one_time","created":1}`},
				{"ch_1", "charge", `{"id":"ch_1","object":"charge","customer":"cus_1","payment_intent":"pi_1","created":1}`},
				{"cs_1", "checkout.session", `{"id":"cs_1","object":"checkout.session","customer":"cus_1","status":"open","expires_at":1000,"created":1}`},
				{"cs_2", "checkout.session", `{"id":"cs_2","object":"checkout.session","customer":null,"status":"complete","expires_at":1000,"created":1}`},
			} {
				if _, err := db.ExecTx(ctx, tx, `INSERT INTO qs_stripetest_objects (id, kind, seq, body) VALUES (?, ?, ?, ?)`, o[0], o[1], i+1, o[2]); err != nil {
					return err
				}
			}
			_, err := db.ExecTx(ctx, tx, `UPDATE qs_stripetest_lock SET last_seq = 6`)
			return err
		}))
		store := must(stripetest.NewSQLStore(db.Writer()))(t)
		require.NoError(t, store.Migrate(t.Context()))
		s := double(t, func(c *stripetest.Config) { c.Store = store })
		list := s.Stripe.Customers.List(&stripe.CustomerListParams{Email: stripe.String("a@example.com")})
		require.True(t, list.Next())
		charges := s.Stripe.Charges.List(&stripe.ChargeListParams{Customer: stripe.String("cus_1")})
		require.True(t, charges.Next())
		prices := s.Stripe.Prices.List(&stripe.PriceListParams{Active: stripe.Bool(true)})
		require.True(t, prices.Next())
		o := must(s.Stripe.CheckoutSessions.Get("cs_1", nil))(t)
		assert.Equal(t, stripe.CheckoutSessionStatusExpired, o.Status, "its time had come long ago")
		assert.Equal(t, stripe.CheckoutSessionStatusComplete, must(s.Stripe.CheckoutSessions.Get("cs_2", nil))(t).Status)
	})
}

func TestStore_PagesBothWaysThroughFilteredLists(t *testing.T) {
	stores(t, func(t *testing.T, s *stripetest.Test) {
		var all []string
		for i := range 25 {
			email := "even@example.com"
			if i%2 == 1 {
				email = "odd@example.com"
			}
			c := must(s.Stripe.Customers.New(&stripe.CustomerParams{Email: &email}))(t)
			if i%2 == 1 {
				all = append([]string{c.ID}, all...)
			}
		}
		page := func(p stripe.ListParams) (ids []string, more bool) {
			p.Limit, p.Single = stripe.Int64(5), true
			it := s.Stripe.Customers.List(&stripe.CustomerListParams{ListParams: p, Email: stripe.String("odd@example.com")})
			for it.Next() {
				ids = append(ids, it.Customer().ID)
			}
			require.NoError(t, it.Err())
			return ids, it.Meta().HasMore
		}
		first, more := page(stripe.ListParams{})
		assert.Equal(t, all[:5], first)
		assert.True(t, more)
		second, more := page(stripe.ListParams{StartingAfter: &first[4]})
		assert.Equal(t, all[5:10], second)
		assert.True(t, more)
		third, more := page(stripe.ListParams{StartingAfter: &second[4]})
		assert.Equal(t, all[10:], third)
		assert.False(t, more)
		back, more := page(stripe.ListParams{EndingBefore: &third[0]})
		assert.ElementsMatch(t, all[5:10], back)
		assert.True(t, more)
		back, more = page(stripe.ListParams{EndingBefore: &all[3]})
		assert.ElementsMatch(t, all[:3], back)
		assert.False(t, more)
	})
}

// Two servers share a store: time, faults and objects are the same, and what is due happens once.
func TestSQLStore_IsSharedByProcesses(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Of(stripetest.Migrations()), func(t *testing.T, db *database.DB) {
		store := must(stripetest.NewSQLStore(db.Writer()))(t)
		with := func(c *stripetest.Config) { c.Store = store }
		a, b := double(t, with), double(t, with)
		who := customer(t, a, stripetest.CardSucceeds)
		sub := subscribe(t, a, who.ID, plan(t, a, "Basic", 1000, "month"))
		end := time.Unix(sub.CurrentPeriodEnd, 0).Add(2 * time.Hour)
		require.NoError(t, a.AdvanceTo(t.Context(), end))
		assert.WithinDuration(t, end, now(t, b), time.Minute)
		var group errgroup.Group
		for _, s := range []*stripetest.Test{a, b, a, b} {
			group.Go(func() error {
				for range 5 {
					if _, err := s.Stripe.Subscriptions.Get(sub.ID, nil); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, group.Wait())
		assert.Len(t, invoices(t, b, sub.ID), 2)
		must(a.Inject(t.Context(), stripetest.Fault{Kind: stripetest.FaultRateLimit, Times: 1}))(t)
		_, err := b.Stripe.Customers.Get(who.ID, nil)
		requireError(t, err, 429, "rate_limit", "")
	})
}

// A year of many customers runs through in order, however many are due at once.
func TestAdvanceTo_AYearOfManyCustomers(t *testing.T) {
	t.Parallel()
	s := double(t)
	price := plan(t, s, "Basic", 1000, "month")
	var subs []*stripe.Subscription
	for i := range 40 {
		card := stripetest.CardSucceeds
		if i%10 == 0 {
			card = stripetest.CardAuthenticate
		}
		who := customer(t, s, stripetest.CardSucceeds)
		subs = append(subs, subscribe(t, s, who.ID, price))
		saveCard(t, s, who.ID, card)
	}
	start := now(t, s)
	require.NoError(t, s.AdvanceTo(t.Context(), start.AddDate(1, 0, 1)))
	for i, sub := range subs {
		sub = subscription(t, s, sub.ID)
		if i%10 == 0 {
			assert.Equal(t, stripe.SubscriptionStatusCanceled, sub.Status)
			continue
		}
		all := 0
		it := s.Stripe.Invoices.List(&stripe.InvoiceListParams{Subscription: &sub.ID, Status: stripe.String("paid")})
		for it.Next() {
			all++
			assert.Equal(t, int64(1000), it.Invoice().AmountPaid)
		}
		require.NoError(t, it.Err())
		assert.Equal(t, 13, all)
	}
	assert.WithinDuration(t, start.AddDate(1, 0, 1), now(t, s), time.Minute)
}

// More than one transaction's worth that is due at the very moment that time is moved to.
func TestAdvanceTo_ManyDueAtTheEnd(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	s := double(t, func(c *stripetest.Config) { c.Clock = func() time.Time { return at } })
	price := plan(t, s, "Basic", 1000, "month")
	who := customer(t, s, stripetest.CardSucceeds)
	var last *stripe.Subscription
	for range 120 {
		last = subscribe(t, s, who.ID, price)
	}
	require.NoError(t, s.AdvanceTo(t.Context(), time.Unix(last.CurrentPeriodEnd, 0)))
	n := 0
	it := s.Stripe.Invoices.List(&stripe.InvoiceListParams{Customer: &who.ID, Status: stripe.String("draft"), ListParams: stripe.ListParams{Limit: stripe.Int64(100)}})
	for it.Next() {
		n++
	}
	require.NoError(t, it.Err())
	assert.Equal(t, 120, n)
}
