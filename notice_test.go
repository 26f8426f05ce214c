package quickscale_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

type mailed struct{ To, Subject, Text string }

// outbox is what was mailed, newest first.
func outbox(t *testing.T, app *quickscale.App) []mailed {
	t.Helper()
	status, body, _ := get(t, app.Handler(), "/dev/mail", "Accept", "application/json")
	require.Equal(t, http.StatusOK, status, body)
	var page struct {
		Data struct{ Messages []mailed }
	}
	require.NoError(t, json.Unmarshal([]byte(body), &page))
	return page.Data.Messages
}

// From the debit that crosses the mark to the credits and the mail, through the jobs of a running application.
func TestApp_LowCreditsAreToppedUpAndOtherwiseMailed(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		app := newApp(t, db, func(c *quickscale.Config) { c.LowCredits, c.JobPoll = 5*credits.Credit, 20*time.Millisecond })
		require.NoError(t, app.Migrate(t.Context()))
		require.NoError(t, app.Start(t.Context()))
		t.Cleanup(func() { assert.NoError(t, app.Stop(context.Background())) })
		u, err := app.Auth.CreateUser(t.Context(), auth.CreateUserParams{Email: "ada@example.com", Name: "Ada", Password: "correct horse battery", Verified: true, Role: auth.RoleUser})
		require.NoError(t, err)
		ada := billing.Customer{Account: u.ID, Email: u.Email, Verified: true}
		product, err := app.Stripe().Products.New(&stripe.ProductParams{Name: stripe.String("Starter"), Metadata: map[string]string{"credits": "100"}})
		require.NoError(t, err)
		price, err := app.Stripe().Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(1000)})
		require.NoError(t, err)
		require.NoError(t, app.Billing.SyncCatalogue(t.Context()))
		_, err = app.Billing.Portal(t.Context(), ada) // makes the customer
		require.NoError(t, err)
		customers := app.Stripe().Customers.List(&stripe.CustomerListParams{})
		require.True(t, customers.Next())
		card, err := app.Stripe().PaymentMethods.Attach("pm_card_visa", &stripe.PaymentMethodAttachParams{Customer: stripe.String(customers.Customer().ID)})
		require.NoError(t, err)
		require.NoError(t, app.Billing.SetDefaultPaymentMethod(t.Context(), u.ID, card.ID))

		give := func(amount credits.Amount) {
			t.Helper()
			_, err := app.Credits.Grant(t.Context(), credits.GrantParams{Account: u.ID, Amount: amount, Source: credits.Bonus, Reason: "Gift"})
			require.NoError(t, err)
		}
		use := func(amount credits.Amount) {
			t.Helper()
			_, err := app.Credits.Debit(t.Context(), credits.DebitParams{Account: u.ID, Amount: amount, Reason: "Use"})
			require.NoError(t, err)
		}
		balance := func() string {
			t.Helper()
			b, err := app.Credits.Balance(t.Context(), u.ID)
			require.NoError(t, err)
			return b.Available.String()
		}
		give(60 * credits.Credit)
		_, err = app.Billing.SetAutoTopUp(t.Context(), billing.AutoTopUpParams{Customer: ada, Threshold: 50 * credits.Credit, Price: price.ID, MonthlyCap: 5000, Consent: true})
		require.NoError(t, err)
		use(20 * credits.Credit)
		require.Eventually(t, func() bool { return balance() == "140" }, time.Minute, 20*time.Millisecond)
		require.Eventually(t, func() bool { return len(outbox(t, app)) == 1 }, time.Minute, 50*time.Millisecond)
		m := outbox(t, app)[0]
		assert.Equal(t, "ada@example.com", m.To)
		assert.Equal(t, "We topped up your credits at QuickScale", m.Subject)
		assert.Contains(t, m.Text, "Hello Ada,")
		assert.Contains(t, m.Text, "we bought 100 of them for 10.00 USD")
		assert.Contains(t, m.Text, "http://127.0.0.1:1/billing/payments/")

		// Without it the mark is the application's again, and the person hears that the credits are low.
		require.NoError(t, app.Billing.StopAutoTopUp(t.Context(), u.ID))
		use(100 * credits.Credit)
		use(36 * credits.Credit)
		require.Eventually(t, func() bool { return len(outbox(t, app)) == 2 }, time.Minute, 50*time.Millisecond)
		assert.Equal(t, "Your credits for QuickScale are running low", outbox(t, app)[0].Subject)
		assert.Equal(t, "4", balance())

		// Who is closed is charged nothing.
		give(100 * credits.Credit)
		_, err = app.Billing.SetAutoTopUp(t.Context(), billing.AutoTopUpParams{Customer: ada, Threshold: 50 * credits.Credit, Price: price.ID, MonthlyCap: 5000, Consent: true})
		require.NoError(t, err)
		require.NoError(t, app.Auth.SetDisabled(t.Context(), u.ID, true))
		use(100 * credits.Credit)
		made, err := app.Billing.TopUp(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Zero(t, made)
	})
}

// A text that does not fit is found at the start, and not by the transaction that money arrives in.
func TestNew_RefusesTextsOfBillingsMailsThatDoNotFit(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, dbtest.Empty)
	for _, kind := range billing.NoticeKinds() {
		name := "billing." + string(kind) + ".txt"
		cfg := quickscale.Config{DB: db.Writer(), ReadDB: db.Reader(), Mode: quickscale.Development, BaseURL: "http://127.0.0.1:1",
			MailTemplates: fstest.MapFS{name: {Data: []byte("Subject: Hello\n\n{{.Nothing}}\n")}}}
		_, err := quickscale.New(cfg)
		require.ErrorContains(t, err, strings.TrimSuffix(name, ".txt"))
	}
}
