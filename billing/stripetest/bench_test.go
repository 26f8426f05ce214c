package stripetest

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"github.com/quickscale/quickscale/internal/dbtest"
)

// fill puts customers with a charge and an event each into a store, in transactions of a thousand.
func fill(b *testing.B, store Store, n int) {
	b.Helper()
	const batch = 1000
	s, err := NewServer(Config{BaseURL: "http://127.0.0.1:1", Store: store, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	for from := 0; from < n; from += batch {
		require.NoError(b, s.do(context.Background(), func(tx *work) error {
			for i := from; i < min(from+batch, n); i++ {
				c := s.newCustomer(tx)
				c["id"], c["email"] = fmt.Sprintf("cus_%08d", i), fmt.Sprintf("c%d@example.com", i)
				if err := s.save(tx, c, "customer.created"); err != nil {
					return err
				}
				pi := s.newIntent(tx, 1000, "usd", c["id"])
				if err := s.keep(tx, s.newCharge(tx, pi, s.newMethod(tx, CardSucceeds, 12, 2049, billingDetails("", "")))); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// BenchmarkDouble shows that neither many customers nor a long history slow the double down: the times of a thousand
// customers and of a hundred thousand are to be alike.
func BenchmarkDouble(b *testing.B) {
	for _, kind := range []string{"memory", "sqlite", "postgres"} {
		for _, n := range []int{1_000, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				var store Store
				switch kind {
				case "memory":
					store = NewMemoryStore()
				case "sqlite":
					store = &SQLStore{dbtest.SQLite(b, dbtest.Of(Migrations()))}
				case "postgres":
					store = &SQLStore{dbtest.Postgres(b, dbtest.Of(Migrations()))}
				}
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				fill(b, store, n)
				runtime.GC()
				runtime.ReadMemStats(&after)
				s, err := NewServer(Config{BaseURL: "http://127.0.0.1:1", Store: store, Logger: slog.New(slog.DiscardHandler)})
				require.NoError(b, err)
				benchmarkCalls(b, s, s.Client(), n)
				if kind == "memory" {
					b.Logf("%d customers with a charge and an event each: %d MB", n, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>20)
				}
				runtime.KeepAlive(store)
			})
		}
	}
}

func benchmarkCalls(b *testing.B, s *Server, api *client.API, n int) {
	b.Helper()
	middle := fmt.Sprintf("cus_%08d", n/2)
	run := func(name string, fn func() error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				require.NoError(b, fn())
			}
		})
	}
	run("create-customer", func() error {
		_, err := api.Customers.New(&stripe.CustomerParams{Email: stripe.String("new@example.com")})
		return err
	})
	run("list-customers", func() error {
		it := api.Customers.List(&stripe.CustomerListParams{ListParams: stripe.ListParams{Single: true, StartingAfter: &middle}})
		it.Next()
		return it.Err()
	})
	run("find-by-email", func() error {
		it := api.Customers.List(&stripe.CustomerListParams{Email: stripe.String("c7@example.com")})
		it.Next()
		return it.Err()
	})
	run("list-charges-of-customer", func() error {
		it := api.Charges.List(&stripe.ChargeListParams{Customer: &middle})
		it.Next()
		return it.Err()
	})
	run("list-events-undelivered", func() error {
		it := api.Events.List(&stripe.EventListParams{DeliverySuccess: stripe.Bool(false)})
		it.Next()
		return it.Err()
	})
	price, err := api.Prices.New(&stripe.PriceParams{Currency: stripe.String("usd"), UnitAmount: stripe.Int64(1000), ProductData: &stripe.PriceProductDataParams{Name: stripe.String("Pack")}})
	require.NoError(b, err)
	run("checkout-and-pay", func() error {
		o, err := api.CheckoutSessions.New(&stripe.CheckoutSessionParams{Mode: stripe.String("payment"), SuccessURL: stripe.String("https://shop.example/ok"), Customer: &middle,
			LineItems: []*stripe.CheckoutSessionLineItemParams{{Price: &price.ID, Quantity: stripe.Int64(1)}}})
		if err != nil {
			return err
		}
		_, err = s.Pay(context.Background(), o.ID, Card{Number: CardSucceeds})
		return err
	})
}
