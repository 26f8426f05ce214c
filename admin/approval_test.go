package admin_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

var (
	asker  = admin.Staff{ID: "s1", Email: "ada@example.com"}
	second = admin.Staff{ID: "s2", Email: "eve@example.com"}
)

// runApprovals has a back office in which changes of more than 100 credits need a second person, and asks for one.
func runApprovals(t *testing.T, fn func(t *testing.T, o *office, account string, ask func(amount string) string, now *time.Time)) {
	t.Helper()
	t.Parallel()
	dbtest.Run(t, moneySchema, func(t *testing.T, db *database.DB) {
		now := time.Now().UTC()
		o := newOffice(t, db)
		o.reset(func(c *admin.Config) {
			c.Adjuster, c.ApproveAbove, c.Clock = o.ledger, 100*credits.Credit, func() time.Time { return now }
		})
		u := o.user("grace@example.com", "Grace")
		ask := func(amount string) string {
			o.staff = &asker
			_, body, _ := o.post("/admin/users/"+u.ID+"/credits/preview", "amount", amount, "reason", "sorry")
			assert.Contains(t, body, "needs a second person")
			fields := hidden(body)
			_, _, header := o.post("/admin/users/"+u.ID+"/credits", fields...)
			_, _, again := o.post("/admin/users/"+u.ID+"/credits", fields...)
			assert.Equal(t, header.Get("Location"), again.Get("Location"), "sent twice it is asked for once")
			require.True(t, strings.HasPrefix(header.Get("Location"), "/admin/approvals/"))
			return header.Get("Location")
		}
		fn(t, o, u.AccountID, ask, &now)
	})
}

func TestApproval_ASecondPersonLetsItHappenOnce(t *testing.T) {
	runApprovals(t, func(t *testing.T, o *office, account string, ask func(string) string, _ *time.Time) {
		available := func() string {
			b, err := o.ledger.Balance(t.Context(), account)
			require.NoError(t, err)
			return b.Available.String()
		}
		_, _, header := o.post("/admin/users/"+account+"/credits", "amount", "100", "reason", "sorry", "key", "0198c0de-0000-7000-8000-000000000001")
		assert.Equal(t, "/admin/users/"+account, header.Get("Location"), "up to the limit nobody else is asked")
		at := ask("100.000001")
		assert.Equal(t, "100", available())
		_, body := o.get(at)
		assert.Contains(t, body, "You asked for this")
		assert.NotContains(t, body, ">Approve<")
		status, _, _ := o.post(at + "/approve")
		assert.Equal(t, http.StatusForbidden, status, "never by who asked")
		status, _, _ = o.post(at+"/refuse", "note", "x")
		assert.Equal(t, http.StatusForbidden, status)
		_, body = o.get("/admin/")
		assert.Contains(t, body, "await a second person: 1")

		o.staff = &second
		_, body = o.get(at)
		assert.Contains(t, body, ">Approve<")
		var all sync.WaitGroup
		statuses := make([]int, 8)
		for i := range statuses { // by several at once
			all.Go(func() { statuses[i], _, _ = o.post(at+"/approve", "note", "fine") })
		}
		all.Wait()
		count := map[int]int{}
		for _, s := range statuses {
			count[s]++
		}
		assert.Equal(t, map[int]int{http.StatusSeeOther: 1, http.StatusConflict: 7}, count)
		assert.Equal(t, "200.000001", available())
		records, _, err := o.Audit(t.Context(), admin.AuditParams{Action: admin.ActionApprove})
		require.NoError(t, err)
		require.Len(t, records, 1)
		assert.Equal(t, []string{"s2", "100", "200.000001", "sorry"}, []string{records[0].StaffID, records[0].Before, records[0].After, records[0].Reason})
		entries, _, err := o.ledger.History(t.Context(), credits.HistoryParams{Account: account})
		require.NoError(t, err)
		assert.Equal(t, "staff:s1 ada@example.com", entries[0].Metadata["by"])
		assert.Equal(t, "staff:s2 eve@example.com", entries[0].Metadata["approved_by"])
		status, _, _ = o.post(at+"/refuse", "note", "late")
		assert.Equal(t, http.StatusConflict, status)
		_, body = o.get("/admin/approvals")
		assert.Contains(t, body, "Nothing waits")
		_, body = o.get("/admin/approvals?status=all")
		assert.Contains(t, body, "approved")
	})
}

func TestApproval_IsRefusedOrExpiresAndChangesNothing(t *testing.T) {
	runApprovals(t, func(t *testing.T, o *office, account string, ask func(string) string, now *time.Time) {
		_, err := o.ledger.Grant(t.Context(), credits.GrantParams{Account: account, Amount: 150 * credits.Credit, Source: credits.Purchase, Reason: "Pack"})
		require.NoError(t, err)
		at, late, poor := ask("500"), ask("-101"), ask("-120")
		o.staff = &second
		status, body, _ := o.post(at + "/refuse")
		assert.Equal(t, http.StatusUnprocessableEntity, status)
		assert.Contains(t, body, "Say why")
		status, _, _ = o.post(at+"/refuse", "note", "too much")
		assert.Equal(t, http.StatusSeeOther, status)
		status, _, _ = o.post(at + "/approve")
		assert.Equal(t, http.StatusConflict, status)
		_, err = o.ledger.Debit(t.Context(), credits.DebitParams{Account: account, Amount: 100 * credits.Credit, Reason: "use"})
		require.NoError(t, err)
		status, body, _ = o.post(poor + "/approve")
		assert.Equal(t, http.StatusConflict, status)
		assert.Contains(t, body, "not so many credits")

		*now = now.Add(admin.ApprovalLife)
		status, _, _ = o.post(late + "/approve")
		assert.Equal(t, http.StatusConflict, status)
		_, body = o.get(late)
		assert.Contains(t, body, "expired")
		b, err := o.ledger.Balance(t.Context(), account)
		require.NoError(t, err)
		assert.Equal(t, 50*credits.Credit, b.Available)
		status, _ = o.get("/admin/approvals/" + url.PathEscape("nothing"))
		assert.Equal(t, http.StatusNotFound, status)
	})
}
