package admin_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

func TestOverview_TellsTheFiguresAndWhatNeedsAPerson(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		c.reset(func(cfg *admin.Config) {
			cfg.Revenue, cfg.Use, cfg.Crowd, cfg.Lag = c.billing, c.ledger, c.users, c.inbox
		})
		status, body := c.get("/admin/")
		require.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "Webhook lag")
		assert.NotContains(t, body, "Needs a person")

		payment := c.buy("4242424242424242")
		_, err := c.billing.Refund(t.Context(), billing.RefundParams{Payment: payment.ID, Amount: 250, Left: 1000, Reason: billing.ReasonRequested, Note: "x", Staff: "s"})
		require.NoError(t, err)
		_, err = c.ledger.Debit(t.Context(), credits.DebitParams{Account: c.buyer.ID, Amount: 30 * credits.Credit, Reason: "use"})
		require.NoError(t, err)
		_, err = c.ledger.Seal(t.Context())
		require.NoError(t, err)
		c.user("new@example.com", "New")
		require.NoError(t, c.CountPeople(t.Context()))
		require.NoError(t, c.CountPeople(t.Context()), "again, as an hourly job does")
		now := database.At(time.Now())
		require.NoError(t, c.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			for _, s := range []string{
				`INSERT INTO qs_billing_prices (id, product_id, active, currency, unit_amount, interval, interval_count, updated_at) VALUES ('p', 'x', TRUE, 'usd', 1200, 'month', 1, ?)`,
				`INSERT INTO qs_credit_faults (account_id, object_id, rule, want, got, seen_at) VALUES ('a', '', 'r', 1, 2, ?)`,
			} {
				if _, err := c.db.ExecTx(ctx, tx, s, now); err != nil {
					return err
				}
			}
			_, err := c.db.ExecTx(ctx, tx, `INSERT INTO qs_billing_subscriptions (account_id, subscription_id, customer_id, item_id, status, price_id, quantity, currency,
				period_start, period_end, cancel_at_period_end, version, created_at, updated_at) VALUES ('a', 'sub', 'cus', 'si', 'past_due', 'p', 2, 'usd', ?, ?, FALSE, 1, ?, ?)`, now, now, now, now)
			return err
		}))
		_, err = c.billing.FollowPlans(t.Context())
		require.NoError(t, err)

		_, body = c.get("/admin/")
		for _, said := range []string{"7.50 USD", "24.00 USD", "1 subscribers", "Unpaid renewals", "Credits outstanding", "45.375", "about 4.51 USD", "2 new on",
			"Needs a person", "does not add up in the ledger: 1", `href="/admin/ledger"`, `<svg`, "Revenue by month, usd", "New users by day"} {
			assert.Contains(t, body, said)
		}
		var page struct {
			Data struct {
				Revenue billing.Figures
				Credits credits.Figures
				People  []admin.PeopleDay
				Moved   []struct {
					Movement billing.Movement
					Monthly  billing.Money
					Accounts int64
				} `json:"movements_this_month"`
			}
		}
		_, body = c.get("/admin/", "Accept", "application/json")
		require.NoError(t, json.Unmarshal([]byte(body), &page))
		assert.EqualValues(t, 1, page.Data.Revenue.PastDue)
		require.Len(t, page.Data.People, 1)
		assert.EqualValues(t, 2, page.Data.People[0].Total)
		require.NotEmpty(t, page.Data.Moved)
		assert.Equal(t, billing.MovementNew, page.Data.Moved[0].Movement)
		assert.Equal(t, billing.Money{Amount: 2400, Currency: "usd"}, page.Data.Moved[0].Monthly)
	})
}

func TestPeople_AreCountedOnTheirDay(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		at := time.Now().UTC().Truncate(24 * time.Hour).Add(30 * time.Hour)
		users, err := auth.New(auth.Config{DB: c.db.Writer(), ReadDB: c.db.Reader(), Mail: noMail{}, BaseURL: "https://x.example", Clock: func() time.Time { return at }})
		require.NoError(t, err)
		c.reset(func(cfg *admin.Config) { cfg.Crowd, cfg.Clock = users, func() time.Time { return at } })
		require.NoError(t, c.CountPeople(t.Context()))
		_, err = users.CreateUser(t.Context(), auth.CreateUserParams{Email: "late@example.com", Password: "correct horse battery"})
		require.NoError(t, err)
		at = at.AddDate(0, 0, 1)
		require.NoError(t, c.CountPeople(t.Context()))
		days, err := c.People(t.Context(), at.AddDate(0, 0, -2))
		require.NoError(t, err)
		require.Len(t, days, 2)
		assert.EqualValues(t, 1, days[0].New, "who came after the day's last count")
		assert.EqualValues(t, 0, days[1].New)
		assert.EqualValues(t, 2, days[1].Total)
	})
}
