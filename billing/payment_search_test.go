package billing_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func TestPayments_AreFoundByEveryFieldOfTheirs(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		s := newShop(t, db)
		at := database.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
		account, id, other := uuid.NewString(), uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
		s.write(`INSERT INTO qs_billing_customers (account_id, intent_id, customer_id, email, created_at) VALUES (?, ?, 'cus_1', 'Grace@Example.com', ?)`, account, uuid.New(), at)
		const insert = `INSERT INTO qs_billing_payments (id, account_id, type, status, amount, currency, credits, description, receipt_number, session_id, invoice_id,
			subscription_id, intent_id, charge_id, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, 0, 'x', ?, ?, ?, ?, ?, ?, ?, ?)`
		s.write(insert, id, account, "credit_purchase", "succeeded", 1250, "usd", "RCP-20260301-ABCDEF", "cs_1", "in_1", "sub_1", "pi_1", "ch_1", at, at)
		s.write(insert, other, "ada", "subscription", "failed", 700, "eur", "RCP-20260301-GHIJKL", "cs_2", "in_2", "sub_2", "pi_2", "ch_2", at, at)
		s.write(`INSERT INTO qs_billing_refunds (id, payment_id, account_id, amount, currency, reason, status, refund_id, created_at, updated_at) VALUES (?, ?, ?, 1, 'usd', '', 'succeeded', 're_1', ?, ?)`,
			uuid.New(), id, account, at, at)
		s.write(`INSERT INTO qs_billing_disputes (id, dispute_id, payment_id, account_id, amount, currency, reason, status, created_at, updated_at) VALUES (?, 'dp_1', ?, ?, 1, 'usd', '', 'won', ?, ?)`,
			uuid.New(), id, account, at, at)
		for _, find := range []string{id.String(), account, " rcp-20260301-abcdef ", "grace@EXAMPLE.com", "pi_1", "ch_1", "in_1", "cs_1", "sub_1", "cus_1", "re_1", "dp_1"} {
			found, more, err := s.Payments(t.Context(), billing.PaymentsParams{Find: find})
			require.NoError(t, err)
			assert.False(t, more)
			if assert.Len(t, found, 1, find) {
				assert.Equal(t, id, found[0].ID, find)
			}
		}
		for _, find := range []string{"pi_3", "RCP-2", "nobody@example.com", uuid.NewString(), "' OR 1=1 --", "%", "_"} {
			found, _, err := s.Payments(t.Context(), billing.PaymentsParams{Find: find})
			require.NoError(t, err)
			assert.Empty(t, found, find)
		}
		number := func(n int64) *int64 { return &n }
		for name, c := range map[string]struct {
			p    billing.PaymentsParams
			want int
		}{
			"from":            {billing.PaymentsParams{Least: number(1250)}, 1},
			"up to":           {billing.PaymentsParams{Most: number(1249)}, 1},
			"both":            {billing.PaymentsParams{Least: number(700), Most: number(1250)}, 2},
			"currency":        {billing.PaymentsParams{Currency: "eur"}, 1},
			"amount of other": {billing.PaymentsParams{Find: "pi_1", Most: number(700)}, 0},
			"account and id":  {billing.PaymentsParams{Account: "ada", Find: "pi_1"}, 0},
		} {
			found, _, err := s.Payments(t.Context(), c.p)
			require.NoError(t, err)
			assert.Len(t, found, c.want, name)
		}
	})
}
