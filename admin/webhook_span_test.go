package admin_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/webhook"
)

func TestWebhooks_SpanIsTakenFromStripesListAfterADryRun(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		double := stripetest.New(t)
		for range 3 {
			_, err := double.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Pack")})
			require.NoError(t, err)
		}
		var o *office
		o = newOffice(t, db, func(c *admin.Config) {
			c.ReplaySpan = func(ctx context.Context, p webhook.SpanParams) (webhook.Span, error) {
				return o.inbox.ReplaySpan(ctx, double.Stripe.Events, p)
			}
		})
		status, body := o.get("/admin/webhooks")
		require.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "/admin/webhooks/span")
		_, body = o.get("/admin/webhooks/span")
		assert.Contains(t, body, `name="dry_run" value="true" checked`, "a dry run is offered first")

		stored := func() int {
			list, _, err := o.inbox.List(t.Context(), webhook.ListParams{})
			require.NoError(t, err)
			return len(list)
		}
		from := time.Now().UTC().Add(-time.Hour).Format("2006-01-02T15:04")
		status, body, _ = o.post("/admin/webhooks/span", "from", from, "types", "product.created, price.created", "dry_run", "true")
		require.Equal(t, http.StatusOK, status, body)
		assert.Contains(t, body, "Nothing was done")
		assert.Zero(t, stored())
		status, body, _ = o.post("/admin/webhooks/span", "from", from, "types", "product.created")
		require.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "taken now")
		assert.Equal(t, 3, stored())
		assert.Equal(t, admin.ActionEventSpan, o.audit()[0].Action)

		status, body, _ = o.post("/admin/webhooks/span", "from", "yesterday")
		assert.Equal(t, http.StatusUnprocessableEntity, status)
		assert.Contains(t, body, "Give a day and a time.")
		status, body, _ = o.post("/admin/webhooks/span", "from", "2020-01-01T00:00", "reason", "too <old>")
		assert.Equal(t, http.StatusUnprocessableEntity, status)
		assert.Contains(t, body, "the last 30 days only")
		assert.Contains(t, body, "too &lt;old&gt;")

		o.staff = nil
		status, _, _ = o.post("/admin/webhooks/span", "from", from)
		assert.Equal(t, http.StatusNotFound, status)
	})
}

func TestWebhooks_SpanIsAbsentWithoutStripe(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		_, body := o.get("/admin/webhooks")
		assert.NotContains(t, body, "/webhooks/span")
		status, _, _ := o.post("/admin/webhooks/span", "from", "2026-01-01T00:00")
		assert.NotEqual(t, http.StatusOK, status)
	})
}
