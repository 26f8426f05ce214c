package admin_test

import (
	"encoding/csv"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/credits"
)

func TestPayments_AreSearchedAndDownloaded(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		payment := c.buy("4242424242424242")
		for query, found := range map[string]bool{
			"q=" + payment.Receipt: true, "q=" + payment.IntentID: true, "q=" + url.QueryEscape(c.buyer.Email): true, "q=pi_none": false,
			"least=10&most=10.00": true, "least=10.01": false, "most=9.99&currency=usd": false, "currency=eur": false, "least=-5&most=0": false,
			"type=credit_purchase&status=succeeded": true, "type=refund": false, "from=2020-01-01": true, "until=2020-01-01": false,
		} {
			_, body := c.get("/admin/payments?" + query)
			assert.Equal(t, found, strings.Contains(body, ">"+payment.Receipt+"<"), query)
			_, body = c.get("/admin/payments.csv?" + query)
			lines, err := csv.NewReader(strings.NewReader(body)).ReadAll()
			require.NoError(t, err)
			assert.Equal(t, found, len(lines) == 2, "%s: %s", query, body)
		}
		for _, query := range []string{"least=ten", "from=yesterday", "until=9"} {
			status, body := c.get("/admin/payments?" + query)
			assert.Equal(t, http.StatusUnprocessableEntity, status, query)
			assert.Contains(t, body, "This must be", query)
			status, _ = c.get("/admin/payments.csv?"+query, "Accept", "application/json")
			assert.Equal(t, http.StatusUnprocessableEntity, status, query)
		}
		assert.Len(t, c.audited(admin.ActionPaymentsExport), 16, "each download, also one that was refused")
	})
}

func TestAccount_OfAnOrganisationHasAPage(t *testing.T) {
	runMoney(t, func(t *testing.T, c *counter) {
		c.reset(func(cfg *admin.Config) { cfg.Accounts = c.users })
		org, err := c.users.CreateOrganisation(t.Context(), auth.CreateOrganisationParams{UserID: c.buyer.ID, Name: "Acme <b>"})
		require.NoError(t, err)
		_, err = c.ledger.Grant(t.Context(), credits.GrantParams{Account: org.ID, Amount: 7 * credits.Credit, Source: credits.Purchase, Reason: "Pack of seven"})
		require.NoError(t, err)
		payment := c.buy("4242424242424242")
		_, body := c.get("/admin/payments")
		assert.Contains(t, body, `href="/admin/accounts/`+payment.Account+`"`)
		_, body = c.get("/admin/payments/" + payment.ID.String())
		assert.Contains(t, body, `href="/admin/accounts/`+payment.Account+`"`)

		status, body := c.get("/admin/accounts/" + org.ID)
		require.Equal(t, http.StatusOK, status)
		for _, said := range []string{"Acme &lt;b&gt;", "grace@example.com", "Owner", "Pack of seven", `href="/admin/users/` + c.buyer.ID + `"`} {
			assert.Contains(t, body, said)
		}
		r := c.audit()
		assert.Equal(t, []any{admin.ActionAccountView, org.ID}, []any{r[0].Action, r[0].Subject})
		status, _ = c.get("/admin/accounts/" + c.buyer.ID)
		assert.Equal(t, http.StatusSeeOther, status, "a person's leads to the person")
		status, _ = c.get("/admin/accounts/nobody")
		assert.Equal(t, http.StatusNotFound, status)
		_, err = c.ledger.Grant(t.Context(), credits.GrantParams{Account: "machine-1", Amount: credits.Credit, Source: credits.Bonus, Reason: "Host's own"})
		require.NoError(t, err)
		_, body = c.get("/admin/accounts/machine-1")
		assert.Contains(t, body, "Host&#39;s own")
	})
}
