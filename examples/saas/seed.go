package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
)

// The accounts of development.
const (
	userEmail    = "user@example.com"
	adminEmail   = "admin@example.com"
	seedPassword = "quickscale-dev" //nolint:gosec // printed at the start, and for development only
)

// pack is a product of the double.
type pack struct {
	key, name, description, credits string
	cents                           int64
}

var packs = []pack{
	{"starter", "Starter", "A first taste: enough for two hundred word counts.", "100", 1000},
	{"studio", "Studio", "For regular work, at three quarters of the price.", "1000", 7500},
}

// seed fills a development database: two accounts, and packs in the double. It may run any number of times, in any
// number of processes at once. In production it closes the accounts, should the database have been one of development.
func seed(ctx context.Context, app *quickscale.App, env quickscale.Environment) error {
	if env.Config.Mode != quickscale.Development {
		return closeSeeded(ctx, app)
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
	for _, p := range packs {
		if err := p.create(ctx, app.Stripe()); err != nil {
			return err
		}
	}
	return app.Billing.SyncCatalogue(ctx)
}

// closeSeeded closes the accounts whose password everybody knows.
func closeSeeded(ctx context.Context, app *quickscale.App) error {
	for _, email := range []string{userEmail, adminEmail} {
		u, err := app.Auth.FindUserByEmail(ctx, email)
		if errors.Is(err, auth.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for %s: %w", email, err)
		}
		if err := app.Auth.SetDisabled(ctx, u.ID, true); err != nil {
			return fmt.Errorf("close %s: %w", email, err)
		}
	}
	return nil
}

// create makes the product and its price. The keys make a repetition find what is there.
func (p pack) create(ctx context.Context, api *client.API) error {
	product := &stripe.ProductParams{Name: &p.name, Description: &p.description, Metadata: map[string]string{"credits": p.credits}}
	product.Context = ctx
	product.SetIdempotencyKey("seed-product-" + p.key)
	made, err := api.Products.New(product)
	if err != nil {
		return fmt.Errorf("seed the product %s: %w", p.name, err)
	}
	price := &stripe.PriceParams{Product: &made.ID, Currency: stripe.String(string(stripe.CurrencyUSD)), UnitAmount: &p.cents}
	price.Context = ctx
	price.SetIdempotencyKey("seed-price-" + p.key)
	if _, err := api.Prices.New(price); err != nil {
		return fmt.Errorf("seed the price of %s: %w", p.name, err)
	}
	return nil
}
