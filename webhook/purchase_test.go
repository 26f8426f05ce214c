package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/webhook"
)

var shopSchema = dbtest.Schema{Name: "shop", Migrate: func(ctx context.Context, db *database.DB) error {
	e, err := jobs.New(jobs.Config{DB: db})
	if err != nil {
		return err
	}
	if err := errors.Join(e.Migrate(ctx), database.Migrate(ctx, db, webhook.Migrations(), credits.Migrations(), billing.Migrations())); err != nil {
		return err
	}
	_, err = db.Writer().ExecContext(ctx, "CREATE TABLE told (account TEXT NOT NULL, kind TEXT NOT NULL)")
	return err
}}

// shop is billing on an inbox that the test itself delivers to: the double only lists its events.
type shop struct {
	*billing.Billing

	in     *inbox
	ledger *credits.Ledger
	double *stripetest.Test
	pack   string
	ahead  atomic.Int64 // how far billing's clock and the double's are ahead of the inbox's, in nanoseconds
}

// now is the time of billing, of the ledger and of the double.
func (s *shop) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// advance lets it become at, and everything happen at Stripe that is due.
func (s *shop) advance(t *testing.T, at time.Time) {
	t.Helper()
	s.ahead.Store(int64(time.Until(at)))
	require.NoError(t, s.double.AdvanceTo(t.Context(), at))
}

func newShop(t *testing.T, db *database.DB) *shop {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	s := &shop{in: newInbox(t, db, nil), double: stripetest.New(t, func(c *stripetest.Config) { c.Logger = quiet })}
	var err error
	s.ledger, err = credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader(), Clock: s.now})
	require.NoError(t, err)
	s.Billing, err = billing.New(billing.Config{
		DB: db.Writer(), ReadDB: db.Reader(), Stripe: s.double.Stripe, Ledger: s.ledger, BaseURL: "https://shop.example", Clock: s.now, Logger: quiet,
		Customer: func(*http.Request) (billing.Customer, bool) { return billing.Customer{}, false },
		OnEvent: func(ctx context.Context, tx *sqlx.Tx, e billing.Event) error {
			_, err := db.ExecTx(ctx, tx, "INSERT INTO told (account, kind) VALUES (?, ?)", e.Account, e.Kind)
			return err
		},
	})
	require.NoError(t, err)
	s.Register(s.in.Processor)
	product, err := s.double.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Starter"), Metadata: map[string]string{"credits": "100.5"}})
	require.NoError(t, err)
	price, err := s.double.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(1000)})
	require.NoError(t, err)
	s.pack = price.ID
	require.NoError(t, s.SyncCatalogue(t.Context()))
	return s
}

// told are what billing told of an account, sorted.
func (s *shop) told(t *testing.T, account string) (kinds []string) {
	t.Helper()
	require.NoError(t, s.in.db.Select(t.Context(), &kinds, "SELECT kind FROM told WHERE account = ? ORDER BY kind", account))
	return kinds
}

// events are the double's, by the function, the oldest first.
func (s *shop) events(t *testing.T, keep func(*stripe.Event) bool) []*stripe.Event {
	t.Helper()
	var list []*stripe.Event
	params := &stripe.EventListParams{}
	params.Limit = stripe.Int64(100)
	iter := s.double.Stripe.Events.List(params)
	for iter.Next() {
		if keep(iter.Event()) {
			list = append(list, iter.Event())
		}
	}
	require.NoError(t, iter.Err())
	slices.Reverse(list)
	return list
}

// permutations calls fn with each order of n things.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{{}}
	}
	var all [][]int
	for _, p := range permutations(n - 1) {
		for i := range n {
			all = append(all, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return all
}

// Whatever order the events of a purchase come in, and however often, the end is the same: one grant, one payment. Each
// order is tried on a purchase of its own, and each event comes again before the next and once more at the end.
func TestPurchase_AllOrdersOfItsEventsEndAlike(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, shopSchema, func(t *testing.T, db *database.DB) {
		s := newShop(t, db)
		s.in.start(t)
		for card, count := range map[string]int{stripetest.CardSucceeds: 4, stripetest.Delayed: 3} {
			orders := permutations(count)
			var group errgroup.Group
			group.SetLimit(6)
			for i, order := range orders {
				buyer := buyer(fmt.Sprintf("%s-%d", card, i))
				c, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: buyer, Price: s.pack})
				require.NoError(t, err)
				events := s.purchase(t, c.SessionID, card)
				require.Len(t, events, count)
				group.Go(func() error { return s.deliver(t, events, order) })
			}
			require.NoError(t, group.Wait())
			for i := range orders {
				account := fmt.Sprintf("%s-%d", card, i)
				balance, err := s.ledger.Balance(t.Context(), account)
				require.NoError(t, err)
				assert.Equal(t, "100.5", balance.Available.String(), account)
				payments, _, err := s.Payments(t.Context(), billing.PaymentsParams{Account: account})
				require.NoError(t, err)
				assert.Len(t, payments, 1, account)
				history, _, err := s.ledger.History(t.Context(), credits.HistoryParams{Account: account})
				require.NoError(t, err)
				assert.Len(t, history, 1, account)
				assert.Equal(t, []string{"paid"}, s.told(t, account))
			}
		}
	})
}

// purchase pays a session and returns the events that say so.
func (s *shop) purchase(t *testing.T, session, card string) []*stripe.Event {
	t.Helper()
	_, err := s.double.Pay(t.Context(), session, stripetest.Card{Number: card})
	require.NoError(t, err)
	if card == stripetest.Delayed {
		require.NoError(t, s.double.SettleDelayed(t.Context(), session, true))
	}
	paid, err := s.double.Stripe.CheckoutSessions.Get(session, nil)
	require.NoError(t, err)
	kinds := map[string]string{"payment_intent.created": paid.PaymentIntent.ID, "payment_intent.succeeded": paid.PaymentIntent.ID, "charge.succeeded": "",
		"checkout.session.completed": session, "checkout.session.async_payment_succeeded": session}
	if card == stripetest.Delayed {
		delete(kinds, "payment_intent.created")
		delete(kinds, "payment_intent.succeeded")
	}
	return s.events(t, func(ev *stripe.Event) bool {
		id, wanted := kinds[string(ev.Type)]
		return wanted && (id == ev.Data.Object["id"] || id == "" && ev.Data.Object["payment_intent"] == paid.PaymentIntent.ID)
	})
}

func (s *shop) deliver(t *testing.T, events []*stripe.Event, order []int) error {
	again := append(slices.Clone(order), order...)
	for _, i := range again {
		body, err := json.Marshal(events[i])
		if err != nil {
			return err
		}
		for range 2 {
			if code := s.in.post(body); code != http.StatusOK {
				return fmt.Errorf("status %d", code)
			}
		}
		if !assert.Eventually(t, func() bool {
			r, err := s.in.Find(t.Context(), events[i].ID)
			return err == nil && (r.Status == webhook.StatusDone || r.Status == webhook.StatusIgnored)
		}, time.Minute, 5*time.Millisecond) {
			return errors.New("not processed")
		}
	}
	return nil
}
