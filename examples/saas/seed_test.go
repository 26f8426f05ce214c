package main

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// A database that development has filled may become that of production; the password that everybody knows may not.
func TestSeed_ProductionClosesTheKnownAccounts(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		app, err := quickscale.New(quickscale.Config{DB: db.Writer(), ReadDB: db.Reader(), Mode: quickscale.Development, BaseURL: "http://127.0.0.1:1",
			Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		require.NoError(t, app.Migrate(t.Context()))
		logIn := func(email string) error {
			_, err := app.Auth.LogIn(t.Context(), auth.LogInParams{Email: email, Password: seedPassword})
			return err
		}
		production := quickscale.Environment{Config: quickscale.Config{Mode: quickscale.Production}}
		require.NoError(t, seed(t.Context(), app, production), "on an empty database there is nothing to close")
		for range 2 {
			require.NoError(t, seed(t.Context(), app, quickscale.Environment{Config: quickscale.Config{Mode: quickscale.Development}}))
		}
		for _, email := range []string{userEmail, adminEmail} {
			require.NoError(t, logIn(email))
		}
		for range 2 {
			require.NoError(t, seed(t.Context(), app, production))
		}
		for _, email := range []string{userEmail, adminEmail} {
			assert.ErrorIs(t, logIn(email), auth.ErrDisabled, email)
		}
	})
}

// The keys of idempotency are forgotten after a day; what was seeded is not made again for that.
func TestSeed_MakesEachOfferOnce(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		start := func(clock func() time.Time) error {
			app, err := quickscale.New(quickscale.Config{DB: db.Writer(), ReadDB: db.Reader(), Mode: quickscale.Development, BaseURL: "http://127.0.0.1:1",
				Clock: clock, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			if err := app.Migrate(t.Context()); err != nil {
				return err
			}
			return seed(t.Context(), app, quickscale.Environment{Config: quickscale.Config{Mode: quickscale.Development}})
		}
		var group errgroup.Group
		for range 3 {
			group.Go(func() error { return start(time.Now) })
		}
		require.NoError(t, group.Wait())
		require.NoError(t, start(func() time.Time { return time.Now().Add(48 * time.Hour) }))
		var prices int
		require.NoError(t, db.Get(t.Context(), &prices, "SELECT COUNT(*) FROM qs_billing_prices"))
		assert.Equal(t, 5, prices, "one for each of products.yaml")
	})
}
