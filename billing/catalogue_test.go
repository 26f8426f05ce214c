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

func TestPlans_TellWhatALongerPeriodSaves(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		month := s.plan("Pro", "1500", 9000, "month")
		product := month.Product.ID
		for amount, worth := range map[int64]string{90000: "18000", 120000: "18000"} { // ten months for twelve, and a dearer one
			_, err := s.double.Stripe.Prices.New(&stripe.PriceParams{Product: &product, Currency: stripe.String("usd"), UnitAmount: &amount,
				Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("year")}, Metadata: map[string]string{"credits": worth}})
			require.NoError(t, err)
		}
		_, err := s.double.Stripe.Prices.New(&stripe.PriceParams{Product: &product, Currency: stripe.String("eur"), UnitAmount: stripe.Int64(100),
			Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("year")}, Metadata: map[string]string{"credits": "18000"}})
		require.NoError(t, err)
		s.plan("Cheap", "1500", 100, "month") // another product's
		require.NoError(t, s.SyncCatalogue(t.Context()))
		plans, err := s.Plans(t.Context())
		require.NoError(t, err)
		got := map[string]int64{}
		for _, p := range plans {
			got[p.Price.String()] = p.SavesPercent
		}
		assert.Equal(t, map[string]int64{"90.00 USD": 0, "900.00 USD": 16, "1200.00 USD": 0, "1.00 EUR": 0, "1.00 USD": 0}, got)
		_, body := s.request("GET", "/billing/", nil)
		assert.Contains(t, body, "16 % less per credit")
		assert.Contains(t, body, "0.050 (−16 %)")
	})
}
