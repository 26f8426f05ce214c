package admin_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/billing"
)

func TestInvestigation_MarksWhatDiffersFromStripe(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		c.reset(func(cfg *admin.Config) { cfg.Investigator = c.billing })
		payment := c.buy("4242424242424242")
		at := "/admin/payments/" + payment.ID.String()
		_, body := c.get(at)
		assert.Contains(t, body, `href="`+at+`/stripe"`)
		status, body := c.get(at + "/stripe")
		require.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "All agrees with Stripe")
		for _, said := range []string{payment.IntentID, payment.ChargeID, "10.00 USD"} {
			assert.Contains(t, body, said)
		}
		assert.Len(t, c.audited(admin.ActionInvestigate), 1)

		// What Stripe's Dashboard refunded and no event has told yet.
		_, err := c.db.Writer().ExecContext(t.Context(), "UPDATE qs_billing_payments SET amount = 2000, status = 'failed'")
		require.NoError(t, err)
		_, body = c.get(at + "/stripe")
		assert.Contains(t, body, "Something differs")
		assert.Equal(t, 4, strings.Count(body, "<strong>differs</strong>"), "state and amount of the intent and the charge: %s", body)
		_, err = c.db.Writer().ExecContext(t.Context(), "UPDATE qs_billing_payments SET charge_id = 'ch_gone'")
		require.NoError(t, err)
		var page struct {
			Data struct{ Objects []billing.LiveObject }
		}
		_, body = c.get(at+"/stripe", "Accept", "application/json")
		require.NoError(t, json.Unmarshal([]byte(body), &page))
		require.Len(t, page.Data.Objects, 2)
		assert.Equal(t, "Stripe has no such object.", page.Data.Objects[1].Problem)
		status, _ = c.get("/admin/payments/0198c0de-0000-7000-8000-000000000001/stripe")
		assert.Equal(t, http.StatusNotFound, status)
	})
}

// A refund is compared with the refund, and a plan's payment with invoice and subscription.
func TestInvestigation_OfRefunds(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		c.reset(func(cfg *admin.Config) { cfg.Investigator = c.billing })
		payment := c.buy("4242424242424242")
		_, err := c.billing.Refund(t.Context(), billing.RefundParams{Payment: payment.ID, Amount: 250, Left: 1000, Reason: billing.ReasonRequested, Note: "x", Staff: "s"})
		require.NoError(t, err)
		rows, _, err := c.billing.Payments(t.Context(), billing.PaymentsParams{Type: billing.TypeRefund})
		require.NoError(t, err)
		require.Len(t, rows, 1)
		objects, err := c.billing.Investigate(t.Context(), rows[0].ID)
		require.NoError(t, err)
		require.Len(t, objects, 1)
		assert.Equal(t, "refund", objects[0].Kind)
		assert.Len(t, objects[0].Fields, 2)
		assert.False(t, objects[0].Differs(), "%+v", objects[0])
		objects, err = c.billing.Investigate(t.Context(), payment.ID)
		require.NoError(t, err)
		require.Len(t, objects, 2)
		assert.False(t, objects[1].Differs(), "the refunded sum agrees: %+v", objects[1])
	})
}
