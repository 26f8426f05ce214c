package billing_test

import (
	"log/slog"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

// A list that was asked for before an event must not undo what the event brought.
func TestCatalogue_ANewerPictureStays(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		var once sync.Once
		overtaken := transport(func(r *http.Request) (*http.Response, error) {
			res, err := http.DefaultTransport.RoundTrip(r)
			if err == nil && r.URL.Path == "/v1/prices" {
				once.Do(func() { // while the list is on its way, the price is retired and the event arrives
					_, err := s.double.Stripe.Prices.Update(s.pack.ID, &stripe.PriceParams{Active: stripe.Bool(false)})
					require.NoError(t, err)
					s.quiet()
				})
			}
			return res, err
		})
		late, err := billing.New(billing.Config{
			DB: s.db.Writer(), ReadDB: s.db.Reader(), Ledger: s.ledger, BaseURL: "https://shop.example", Logger: slog.New(slog.DiscardHandler),
			Stripe:   stripetest.NewClient(s.double.URL, stripetest.DefaultSecretKey, &http.Client{Transport: overtaken}),
			Customer: func(*http.Request) (billing.Customer, bool) { return billing.Customer{}, false },
		})
		require.NoError(t, err)
		require.NoError(t, late.SyncCatalogue(t.Context()))
		packs, err := s.Packs(t.Context())
		require.NoError(t, err)
		for _, p := range packs {
			assert.NotEqual(t, s.pack.ID, p.PriceID)
		}
	})
}
