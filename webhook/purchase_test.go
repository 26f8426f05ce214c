package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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

var update = flag.Bool("update", false, "write the golden payloads anew")

var shopSchema = dbtest.Schema{Name: "shop", Migrate: func(ctx context.Context, db *database.DB) error {
	e, err := jobs.New(jobs.Config{DB: db})
	if err != nil {
		return err
	}
	return errors.Join(e.Migrate(ctx), database.Migrate(ctx, db, webhook.Migrations(), credits.Migrations(), billing.Migrations()))
}}

// shop is billing on an inbox that the test itself delivers to: the double only lists its events.
type shop struct {
	*billing.Billing

	in     *inbox
	ledger *credits.Ledger
	double *stripetest.Test
	pack   string
}

func newShop(t *testing.T, db *database.DB) *shop {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	s := &shop{in: newInbox(t, db, nil), double: stripetest.New(t, func(c *stripetest.Config) { c.Logger = quiet })}
	var err error
	s.ledger, err = credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
	require.NoError(t, err)
	s.Billing, err = billing.New(billing.Config{
		DB: db.Writer(), ReadDB: db.Reader(), Stripe: s.double.Stripe, Ledger: s.ledger, BaseURL: "https://shop.example", Logger: quiet,
		Customer: func(*http.Request) (billing.Customer, bool) { return billing.Customer{}, false },
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
				buyer := billing.Customer{Account: fmt.Sprintf("%s-%d", card, i), Email: "ada@example.com", Name: "Ada", Verified: true}
				c, err := s.Checkout(t.Context(), buyer, s.pack)
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

// golden are the payloads of every type that billing handles, as the double delivers them.
func golden(t *testing.T, kind string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", kind+".json"))
	require.NoError(t, err, "make it with go test ./webhook -run Golden -update")
	return body
}

func TestGolden_EveryTypeThatIsHandledIsTakenAndRead(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	dbtest.Run(t, shopSchema, func(t *testing.T, db *database.DB) {
		s := newShop(t, db)
		s.in.start(t)
		types := s.in.Types()
		require.NotEmpty(t, types)
		for _, kind := range types {
			body := golden(t, kind)
			require.Equal(t, 200, s.in.post(body), kind)
			var e struct {
				ID   string `json:"id"`
				Data struct {
					Object struct {
						ID string `json:"id"`
					} `json:"object"`
				} `json:"data"`
			}
			require.NoError(t, json.Unmarshal(body, &e))
			r, err := s.in.Find(t.Context(), e.ID)
			require.NoError(t, err)
			assert.Equal(t, kind, r.Type)
			assert.Equal(t, e.Data.Object.ID, r.ObjectID)
			assert.Equal(t, stripe.APIVersion, r.APIVersion)
			// Nothing of a person is shown unasked, and the rest still is JSON.
			shown, err := s.in.Payload(t.Context(), webhook.PayloadParams{ID: e.ID})
			require.NoError(t, err)
			assert.True(t, json.Valid(shown))
			assert.NotContains(t, string(shown), "ada@example.com", kind)
			assert.Contains(t, string(shown), e.Data.Object.ID)
		}
		// The deleted need no read from Stripe and so are done; the objects of the others are unknown to this double.
		for _, kind := range types {
			if strings.HasSuffix(kind, ".deleted") {
				var e envelopeID
				require.NoError(t, json.Unmarshal(golden(t, kind), &e))
				s.in.waitFor(t, e.ID, webhook.StatusDone)
			}
		}
	})
}

type envelopeID struct {
	ID string `json:"id"`
}

// writeGolden has the double make an event of each type that billing handles.
func writeGolden(t *testing.T) {
	t.Helper()
	s := newShop(t, dbtest.SQLite(t, shopSchema))
	products, prices := s.double.Stripe.Products, s.double.Stripe.Prices
	price, err := prices.Get(s.pack, nil)
	require.NoError(t, err)
	_, err = products.Update(price.Product.ID, &stripe.ProductParams{Name: stripe.String("Starter pack")})
	require.NoError(t, err)
	_, err = prices.Update(s.pack, &stripe.PriceParams{Nickname: stripe.String("ten dollars")})
	require.NoError(t, err)
	buyer := billing.Customer{Account: "ada", Email: "ada@example.com", Name: "Ada Lovelace", Verified: true}
	for _, outcome := range []string{"paid", "later", "never", "expired"} {
		c, err := s.Checkout(t.Context(), buyer, s.pack)
		require.NoError(t, err)
		if outcome == "expired" {
			_, err = s.double.Stripe.CheckoutSessions.Expire(c.SessionID, nil)
			require.NoError(t, err)
			continue
		}
		card := stripetest.Card{Number: stripetest.Delayed}
		if outcome == "paid" {
			card.Number = stripetest.CardSucceeds
		}
		_, err = s.double.Pay(t.Context(), c.SessionID, card)
		require.NoError(t, err)
		if outcome != "paid" {
			require.NoError(t, s.double.SettleDelayed(t.Context(), c.SessionID, outcome == "later"))
		}
	}
	all := s.events(t, func(*stripe.Event) bool { return true })
	require.NoError(t, os.MkdirAll("testdata", 0o755))
	for _, kind := range s.in.Types() {
		// The double deletes nothing; Stripe's event of a deletion has the object as it was.
		from := strings.Replace(kind, ".deleted", ".updated", 1)
		i := slices.IndexFunc(all, func(ev *stripe.Event) bool { return string(ev.Type) == from })
		require.GreaterOrEqual(t, i, 0, kind)
		ev := *all[i]
		if from != kind {
			ev.Type, ev.ID = stripe.EventType(kind), ev.ID+"deleted"
		}
		body, err := json.Marshal(ev)
		require.NoError(t, err)
		var out bytes.Buffer
		require.NoError(t, json.Indent(&out, body, "", "  "))
		out.WriteByte('\n')
		require.NoError(t, os.WriteFile(filepath.Join("testdata", kind+".json"), out.Bytes(), 0o600))
	}
}
