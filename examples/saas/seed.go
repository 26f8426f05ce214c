package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
)

// The accounts of development.
const (
	userEmail    = "user@example.com"
	adminEmail   = "admin@example.com"
	seedPassword = "quickscale-dev" //nolint:gosec // printed at the start, and for development only
)

// products are what is for sale: in the double as in a Stripe account that `quickscale stripe seed` fills.
//
//go:embed products.yaml
var products []byte

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
	if err := seedProducts(ctx, app); err != nil {
		return err
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

// seedProducts brings the double's products to what products.yaml says.
func seedProducts(ctx context.Context, app *quickscale.App) error {
	wanted, err := billing.ParseSeed(products)
	if err != nil {
		return fmt.Errorf("products.yaml: %w", err)
	}
	plan, err := billing.PlanSeed(ctx, app.Stripe(), wanted)
	if err != nil {
		return err
	}
	return plan.Apply(ctx, nil)
}
