package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
)

// The accounts of development.
const (
	userEmail    = "user@example.com"
	adminEmail   = "admin@example.com"
	seedPassword = "quickscale-dev"
)

// offers are what the double sells: two packs, and two plans that renew every month.
var offers = []struct {
	key, name, description, credits string
	cents                           int64
	interval                        string // empty for packs
}{
	{"starter", "Starter", "A first taste: enough for two hundred word counts.", "100", 1000, ""},
	{"studio", "Studio", "For regular work, at three quarters of the price.", "1000", 7500, ""},
	{"hobby", "Hobby", "Credits for small projects, fresh every month.", "200", 1500, "month"},
	{"pro", "Pro", "For work of every day, at the best price.", "1500", 9000, "month"},
}

// seed fills a development database: two accounts, and packs and plans in the double. It may run any number of times, in any
// number of processes at once.
func seed(ctx context.Context, app *quickscale.App, env quickscale.Environment) error {
	if env.Config.Mode != quickscale.Development {
		return nil
	}
	for _, u := range []auth.CreateUserParams{
		{Email: userEmail, Name: "Uma User", Password: seedPassword, Verified: true, Role: auth.RoleUser},
		{Email: adminEmail, Name: "Ada Admin", Password: seedPassword, Verified: true, Role: auth.RoleAdmin},
	} {
		if _, err := app.Auth.CreateUser(ctx, u); err != nil && !errors.Is(err, auth.ErrEmailTaken) {
			return fmt.Errorf("seed %s: %w", u.Email, err)
		}
	}
	if !slices.Contains(app.Simulated(), "stripe") {
		return nil // products of a real Stripe account are its owner's
	}
	for _, p := range offers {
		product := &stripe.ProductParams{Name: &p.name, Description: &p.description, Metadata: map[string]string{"credits": p.credits}}
		product.Context = ctx
		product.SetIdempotencyKey("seed-product-" + p.key)
		made, err := app.Stripe().Products.New(product)
		if err != nil {
			return fmt.Errorf("seed the product %s: %w", p.name, err)
		}
		price := &stripe.PriceParams{Product: &made.ID, Currency: stripe.String(string(stripe.CurrencyUSD)), UnitAmount: &p.cents}
		if p.interval != "" {
			price.Recurring = &stripe.PriceRecurringParams{Interval: &p.interval}
		}
		price.Context = ctx
		price.SetIdempotencyKey("seed-price-" + p.key)
		if _, err := app.Stripe().Prices.New(price); err != nil {
			return fmt.Errorf("seed the price of %s: %w", p.name, err)
		}
	}
	return app.Billing.SyncCatalogue(ctx)
}
