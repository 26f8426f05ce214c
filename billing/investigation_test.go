package billing_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// A plan's payment agrees with Stripe's intent, charge, invoice and subscription, and a change that no event told of shows.
func TestInvestigate_OfAPlan(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		s := newShop(t, db)
		plan := s.plan("Basic", "100", 900, "month")
		s.subscribe(plan.ID, "4242424242424242")
		s.same()
		payments, _, err := s.Payments(t.Context(), billing.PaymentsParams{Account: s.me.Account, Type: billing.TypeSubscription})
		require.NoError(t, err)
		require.Len(t, payments, 1)
		objects, err := s.Investigate(t.Context(), payments[0].ID)
		require.NoError(t, err)
		kinds := []string{}
		for _, o := range objects {
			kinds = append(kinds, o.Kind)
			assert.False(t, o.Differs(), "%+v", o)
			assert.NotEmpty(t, o.Fields)
		}
		assert.Equal(t, []string{"payment_intent", "charge", "invoice", "subscription"}, kinds)
		s.write(`UPDATE qs_billing_subscriptions SET status = 'past_due'`)
		objects, err = s.Investigate(t.Context(), payments[0].ID)
		require.NoError(t, err)
		assert.True(t, objects[3].Differs())
		assert.Equal(t, billing.Compared{Name: "status", Ours: "past_due", Stripe: "active", Differs: true}, objects[3].Fields[0])

		// The figures followed the real events.
		s.write(`UPDATE qs_billing_subscriptions SET status = 'active'`)
		_, err = s.FollowPlans(t.Context())
		require.NoError(t, err)
		figures, err := s.Figures(t.Context(), billing.FiguresParams{From: s.now().AddDate(0, 0, -1), MonthsFrom: s.now().AddDate(0, -1, 0)})
		require.NoError(t, err)
		require.Len(t, figures.MRR, 1)
		assert.Equal(t, billing.MRR{Monthly: billing.Money{Amount: 900, Currency: "usd"}, Subscribers: 1}, figures.MRR[0])
		require.Len(t, figures.Days, 1)
		assert.EqualValues(t, 900, figures.Days[0].Paid)
	})
}
