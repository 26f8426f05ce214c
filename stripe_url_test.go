package quickscale_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func TestStripeURL_LeadsToADoubleThatRunsByItself(t *testing.T) {
	t.Parallel()
	double := stripetest.New(t)
	db := dbtest.SQLite(t, dbtest.Empty)
	variables := map[string]string{"STRIPE_SECRET_KEY": stripetest.DefaultSecretKey, "STRIPE_WEBHOOK_SECRET": stripetest.DefaultWebhookSecret, "STRIPE_API_BASE": double.URL + "/"}
	start := func() (*quickscale.App, error) {
		env, err := quickscale.FromEnvironment(func(name string) string { return variables[name] })
		require.NoError(t, err)
		env.Config.DB, env.Config.ReadDB = db.Writer(), db.Reader()
		return quickscale.New(env.Config)
	}
	app, err := start()
	require.NoError(t, err)
	assert.NotContains(t, app.Simulated(), "stripe", "it has no double of its own")
	made, err := app.Stripe().Customers.New(&stripe.CustomerParams{Email: stripe.String("ada@example.com")})
	require.NoError(t, err)
	found, err := double.Stripe.Customers.Get(made.ID, nil)
	require.NoError(t, err)
	assert.Equal(t, "ada@example.com", found.Email)
	_, _, header := get(t, app.Handler(), "/nowhere")
	assert.Contains(t, header.Get("Content-Security-Policy"), "form-action 'self' "+double.URL)

	for value, key := range map[string]string{"no address": "sk_test_1", "http://u@x.example": "sk_test_1", double.URL: "sk_live_1", "https://x.example": ""} {
		variables["STRIPE_API_BASE"], variables["STRIPE_SECRET_KEY"] = value, key
		_, err = start()
		assert.ErrorContains(t, err, "STRIPE_API_BASE", "%s with %q", value, key)
	}
}
