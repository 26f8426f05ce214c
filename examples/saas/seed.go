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

// offer is a product of the double: a pack, or a plan that renews.
type offer struct {
	key, name, description, credits string
	cents                           int64
	interval                        string // empty for packs
}

var offers = []offer{
	{"starter", "Starter", "A first taste: enough for two hundred word counts.", "100", 1000, ""},
	{"studio", "Studio", "For regular work, at three quarters of the price.", "1000", 7500, ""},
	{"hobby", "Hobby", "Credits for small projects, fresh every month.", "200", 1500, "month"},
	{"pro", "Pro", "For work of every day, at the best price.", "1500", 9000, "month"},
}

// seed fills a development database: two accounts, and packs and plans in the double. It may run any number of times, in
// any number of processes at once. In production it closes the accounts, should the database have been one of
// development.
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
	for _, o := range offers {
		if err := o.create(ctx, app.Stripe()); err != nil {
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

// create makes the product and its price where they are missing. Both have names of ours at Stripe, by which a later
// start finds them; the keys keep two processes that start at once from making them twice.
func (o offer) create(ctx context.Context, api *client.API) error {
	found := &stripe.PriceListParams{LookupKeys: []*string{stripe.String("seed-" + o.key)}}
	found.Context = ctx
	prices := api.Prices.List(found)
	if prices.Next() {
		return nil
	}
	if err := prices.Err(); err != nil {
		return fmt.Errorf("look for the price of %s: %w", o.name, err)
	}
	product := &stripe.ProductParams{Name: &o.name, Description: &o.description, Metadata: map[string]string{"credits": o.credits}}
	product.Context = ctx
	product.SetIdempotencyKey("seed-product-" + o.key)
	made, err := api.Products.New(product)
	if err != nil {
		return fmt.Errorf("seed the product %s: %w", o.name, err)
	}
	price := &stripe.PriceParams{
		Product: &made.ID, Currency: stripe.String(string(stripe.CurrencyUSD)), UnitAmount: &o.cents, LookupKey: stripe.String("seed-" + o.key),
	}
	if o.interval != "" {
		price.Recurring = &stripe.PriceRecurringParams{Interval: &o.interval}
	}
	price.Context = ctx
	price.SetIdempotencyKey("seed-price-" + o.key)
	if _, err := api.Prices.New(price); err != nil {
		return fmt.Errorf("seed the price of %s: %w", o.name, err)
	}
	return nil
}
