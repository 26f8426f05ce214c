package quickscale_test

import (
	"archive/zip"
	"bytes"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
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

// A person's export has a file of each package, and their end leaves a ledger that adds up and names nobody.
func TestAccountData_IsExportedAndErased(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		ctx := t.Context()
		var later atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		app, err := quickscale.New(quickscale.Config{DB: db.Writer(), ReadDB: db.Reader(), Mode: quickscale.Development, BaseURL: "http://127.0.0.1:1",
			Clock: now, Logger: slog.New(slog.DiscardHandler), AccountData: []auth.AccountData{{Name: "host"}}})
		require.NoError(t, err)
		require.NoError(t, app.Migrate(ctx))
		u, err := app.Auth.CreateUser(ctx, auth.CreateUserParams{Email: "ada@example.com", Password: "correct horse battery", Verified: true})
		require.NoError(t, err)
		_, err = app.Credits.Grant(ctx, credits.GrantParams{Account: u.AccountID, Amount: 3 * credits.Credit, Source: credits.Purchase, Reason: "For Ada herself"})
		require.NoError(t, err)
		const customer = `INSERT INTO qs_billing_customers (account_id, intent_id, email, created_at) VALUES (?, ?, ?, ?)`
		_, err = db.Writer().ExecContext(ctx, db.Rebind(customer), u.AccountID, u.ID, u.Email, database.At(now()))
		require.NoError(t, err)
		var file bytes.Buffer
		require.NoError(t, app.Auth.Export(ctx, &file, u.ID, auth.Client{}))
		z, err := zip.NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()))
		require.NoError(t, err)
		var names []string
		for _, f := range z.File {
			names = append(names, f.Name)
		}
		assert.ElementsMatch(t, []string{"account.json", "credits.json", "payments.json", "usage.json", "webhooks.json"}, names)

		_, err = app.Auth.AskForDeletion(ctx, u.ID, "", auth.Client{})
		require.NoError(t, err)
		later.Store(int64(auth.DefaultDeletionGrace + time.Minute))
		n, err := app.Auth.EraseDue(ctx)
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		entries, _, err := app.Credits.History(ctx, credits.HistoryParams{Account: u.AccountID})
		require.NoError(t, err)
		require.Len(t, entries, 2, "the grant, and that its credits are gone")
		for _, e := range entries {
			assert.Equal(t, credits.ErasedReason, e.Reason)
		}
		var address string
		require.NoError(t, db.Get(ctx, &address, `SELECT email FROM qs_billing_customers WHERE account_id = ?`, u.AccountID))
		assert.Empty(t, address)
		report, err := app.Credits.Verify(ctx, credits.VerifyParams{})
		require.NoError(t, err)
		assert.Empty(t, report.Discrepancies)
	})
}

// A plan that is paid for does not renew from the moment when a deletion is asked for, ends with the account, and takes its
// customer with it: for a person and for an organisation.
func TestAccountData_APlanEndsWithItsAccount(t *testing.T) {
	t.Parallel()
	for _, whose := range []string{"person", "organisation"} {
		t.Run(whose, func(t *testing.T) {
			t.Parallel()
			dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
				ctx := t.Context()
				var later atomic.Int64
				app := newApp(t, db, func(c *quickscale.Config) {
					c.Clock = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
				})
				require.NoError(t, app.Migrate(ctx))
				u, err := app.Auth.CreateUser(ctx, auth.CreateUserParams{Email: "ada@example.com", Password: "correct horse battery", Verified: true})
				require.NoError(t, err)
				account := u.AccountID
				_, err = app.Billing.Portal(ctx, billing.Customer{Account: account, Email: u.Email, Verified: true}) // makes the customer
				require.NoError(t, err)
				list := app.Stripe().Customers.List(&stripe.CustomerListParams{})
				require.True(t, list.Next())
				customer := list.Customer().ID
				card, err := app.Stripe().PaymentMethods.Attach("pm_card_visa", &stripe.PaymentMethodAttachParams{Customer: &customer})
				require.NoError(t, err)
				product, err := app.Stripe().Products.New(&stripe.ProductParams{Name: stripe.String("Pro"), Metadata: map[string]string{"credits": "100"}})
				require.NoError(t, err)
				price, err := app.Stripe().Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(900),
					Recurring: &stripe.PriceRecurringParams{Interval: stripe.String("month")}})
				require.NoError(t, err)
				require.NoError(t, app.Billing.SyncCatalogue(ctx))
				made, err := app.Stripe().Subscriptions.New(&stripe.SubscriptionParams{Customer: &customer, DefaultPaymentMethod: &card.ID, Items: []*stripe.SubscriptionItemsParams{{Price: &price.ID}}})
				require.NoError(t, err)
				_, err = app.Billing.Reconcile(ctx)
				require.NoError(t, err)
				b := signIn(t, app, u.Email)
				end, form := "/account/delete", "email=ada@example.com"
				if whose == "organisation" {
					_, err := app.Auth.CreateOrganisation(ctx, auth.CreateOrganisationParams{UserID: u.ID, Name: "Acme", Share: true})
					require.NoError(t, err)
					b = signIn(t, app, u.Email)
					end, form = "/account/organisation/delete", "name=Acme"
				}
				_, page := b.send(http.MethodGet, end, "")
				assert.Contains(t, page, "100 credits", "what is lost is said before")
				assert.Contains(t, page, "The plan Pro")

				status, page := b.send(http.MethodPost, end, form)
				require.Equal(t, http.StatusSeeOther, status, page)
				theirs, err := app.Stripe().Subscriptions.Get(made.ID, nil)
				require.NoError(t, err)
				assert.True(t, theirs.CancelAtPeriodEnd, "it does not renew from now on")
				assert.Equal(t, stripe.SubscriptionStatusActive, theirs.Status)

				later.Store(int64(auth.DefaultDeletionGrace + time.Minute))
				n, err := app.Auth.EraseDue(ctx)
				require.NoError(t, err)
				assert.Equal(t, 1, n)
				theirs, err = app.Stripe().Subscriptions.Get(made.ID, nil)
				require.NoError(t, err)
				assert.Equal(t, stripe.SubscriptionStatusCanceled, theirs.Status)
				balance, err := app.Credits.Balance(ctx, account)
				require.NoError(t, err)
				assert.Zero(t, balance.Available+balance.Held)
				n, err = app.Billing.EraseCustomers(ctx)
				require.NoError(t, err)
				assert.Equal(t, 1, n)
				gone, err := app.Stripe().Customers.Get(customer, nil)
				require.NoError(t, err)
				assert.True(t, gone.Deleted)
				report, err := app.Credits.Verify(ctx, credits.VerifyParams{})
				require.NoError(t, err)
				assert.Empty(t, report.Discrepancies)
				_, err = app.Auth.FindUser(ctx, u.ID)
				if whose == "person" {
					require.ErrorIs(t, err, auth.ErrNotFound)
					return
				}
				require.NoError(t, err, "who owned it stays")
				_, page = signIn(t, app, u.Email).send(http.MethodGet, "/credits/", "", "Accept", "application/json")
				assert.Contains(t, page, `"available":"0"`)
			})
		})
	}
}
