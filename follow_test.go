package quickscale_test

import (
	"context"
	"log/slog"
	"regexp"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/mail"
)

// mailerFunc is a Mailer of one function.
type mailerFunc func(context.Context, mail.Message) error

func (f mailerFunc) Send(ctx context.Context, m mail.Message) error { return f(ctx, m) }

var tokenOfLink = regexp.MustCompile(`\?token=([^\s&"]+)`)

// The customer in Stripe gets the address that the account has when the job runs.
func TestBilling_FollowsTheAddressOfTheAccount(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		links := make(chan string, 10)
		app, err := quickscale.New(quickscale.Config{DB: db.Writer(), ReadDB: db.Reader(), Mode: quickscale.Development, BaseURL: "http://127.0.0.1:1",
			Mailer: mailerFunc(func(_ context.Context, m mail.Message) error {
				if found := tokenOfLink.FindStringSubmatch(m.Text); m.To == "now@example.com" && found != nil {
					links <- found[1]
				}
				return nil
			}),
			JobPoll: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		require.NoError(t, app.Migrate(t.Context()))
		u, err := app.Auth.CreateUser(t.Context(), auth.CreateUserParams{Email: "before@example.com", Password: "correct horse battery", Verified: true})
		require.NoError(t, err)
		product, err := app.Stripe().Products.New(&stripe.ProductParams{Name: stripe.String("Pack"), Metadata: map[string]string{"credits": "5"}})
		require.NoError(t, err)
		price, err := app.Stripe().Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(500)})
		require.NoError(t, err)
		require.NoError(t, app.Billing.SyncCatalogue(t.Context()))
		_, err = app.Billing.Checkout(t.Context(), billing.CheckoutParams{Customer: billing.Customer{Account: u.ID, Email: "before@example.com", Verified: true}, Price: price.ID})
		require.NoError(t, err)
		require.NoError(t, app.Start(t.Context()))
		t.Cleanup(func() { assert.NoError(t, app.Stop(context.Background())) })
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			return app.Billing.FollowCustomerTx(ctx, tx, "nobody")
		}))
		require.NoError(t, app.Auth.RequestEmailChange(t.Context(), auth.RequestEmailChangeParams{UserID: u.ID, Email: "now@example.com"}))
		require.NoError(t, app.Auth.ConfirmEmailChange(t.Context(), <-links, auth.Client{}))
		require.Eventually(t, func() bool {
			var open int
			err := db.Get(t.Context(), &open, `SELECT COUNT(*) FROM river_job WHERE kind = ? AND state <> ?`, "billing_follow_customer", "completed")
			return err == nil && open == 0
		}, 20*time.Second, 20*time.Millisecond)
		customers := app.Stripe().Customers.List(nil)
		require.True(t, customers.Next())
		assert.Equal(t, "now@example.com", customers.Customer().Email)
		assert.False(t, customers.Next())
	})
}
