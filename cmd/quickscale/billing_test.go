package main_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

var billingSchema = dbtest.Schema{Name: "cli billing", Migrate: func(ctx context.Context, db *database.DB) error {
	return database.Migrate(ctx, db, credits.Migrations(), billing.Migrations())
}}

// A purchase of which no event arrived: the rehearsal tells it, the run repairs it, and the next one finds nothing.
func TestBillingReconcile_RehearsesRepairsAndFindsNothingMore(t *testing.T) {
	t.Parallel()
	for engine, address := range map[string]func(testing.TB, dbtest.Schema) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			given := address(t, billingSchema)
			db, err := database.Open(t.Context(), given)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, db.Close()) })
			double := stripetest.New(t)
			ledger, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
			require.NoError(t, err)
			b, err := billing.New(billing.Config{
				DB: db.Writer(), ReadDB: db.Reader(), Stripe: double.Stripe, Ledger: ledger, BaseURL: "https://shop.example",
				Customer: func(*http.Request) (billing.Customer, bool) { return billing.Customer{}, false },
			})
			require.NoError(t, err)
			product, err := double.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Pack"), Metadata: map[string]string{"credits": "100"}})
			require.NoError(t, err)
			price, err := double.Stripe.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(500)})
			require.NoError(t, err)
			c := cli{t, []string{"QUICKSCALE_DATABASE_URL=" + given, "STRIPE_SECRET_KEY=" + stripetest.DefaultSecretKey}}
			code, out, problems := c.run("stripe", "sync", "--stripe-url", double.URL)
			require.Zero(t, code, problems)
			assert.Regexp(t, product.ID+` +Pack +`+price.ID+` +.*5\.00.* +100\n1 products`, out)
			assert.Len(t, c.json("stripe", "sync", "--stripe-url", double.URL)["products"], 1)
			checkout, err := b.Checkout(t.Context(), billing.CheckoutParams{Customer: billing.Customer{Account: "ada", Email: "ada@example.com", Verified: true}, Price: price.ID})
			require.NoError(t, err)
			_, err = double.Pay(t.Context(), checkout.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
			require.NoError(t, err)
			available := func() string {
				balance, err := ledger.Balance(t.Context(), "ada")
				require.NoError(t, err)
				return balance.Available.String()
			}

			reconcile := []string{"stripe", "reconcile", "--stripe-url", double.URL} // billing reconcile is the same
			code, out, problems = c.run(append(reconcile, "--dry-run")...)
			assert.Equal(t, 1, code, problems)
			assert.Regexp(t, `checkout.session +`+checkout.SessionID+` +open +→ paid`, out)
			assert.Contains(t, out, "1 objects since the beginning: 0 failed, 1 differ; nothing was done")
			assert.Contains(t, problems, "differs from Stripe")
			assert.Equal(t, "0", available())

			code, out, problems = c.run(reconcile...)
			require.Zero(t, code, problems)
			assert.Contains(t, out, "1 repaired")
			assert.Equal(t, "100", available())
			again := c.json(reconcile...)
			assert.Equal(t, []any{}, again["repaired"])
			assert.Equal(t, []any{}, again["failed"])
			assert.Equal(t, "100", available())
			assert.InDelta(t, 1, c.json(append(reconcile, "--all", "--dry-run")...)["checked"], 0)

			_, err = double.Inject(t.Context(), stripetest.Fault{Kind: stripetest.FaultErrorBefore, Route: "GET /v1/checkout/sessions/{id}"})
			require.NoError(t, err)
			code, out, problems = c.run(append(reconcile, "--all", "--json")...)
			assert.Equal(t, 1, code)
			assert.Contains(t, problems, "could not be reconciled")
			assert.Contains(t, out, `"kind": "checkout.session"`)
			assert.Contains(t, out, `"error": `)

			for _, wrong := range [][]string{{"--since", "yesterday"}, {"--all", "--since", "1h"}, {"--policy", "generous"}} {
				code, _, problems = c.run(append(reconcile, wrong...)...)
				assert.Equal(t, 2, code, "%v: %s", wrong, problems)
			}
			code, _, problems = cli{t, []string{"QUICKSCALE_DATABASE_URL=" + given}}.run(reconcile...)
			assert.Equal(t, 2, code)
			assert.Contains(t, problems, "STRIPE_SECRET_KEY")
		})
	}
}
