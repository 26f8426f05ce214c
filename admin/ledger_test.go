package admin_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/credits"
)

func TestLedger_IsVerifiedBatchByBatch(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		for i := range 3 {
			_, err := o.ledger.Grant(t.Context(), credits.GrantParams{Account: fmt.Sprintf("a%d", i), Amount: 5 * credits.Credit, Source: credits.Purchase, Reason: "Pack"})
			require.NoError(t, err)
		}
		_, err := o.ledger.Seal(t.Context())
		require.NoError(t, err)
		// The form carries on until all is through.
		through := func() (pages string) {
			var fields []string
			for range 10 {
				status, body, _ := o.post("/admin/ledger/verify", fields...)
				require.Equal(t, http.StatusOK, status, body)
				pages += body
				if strings.Contains(body, "That is all.") {
					return pages
				}
				fields = nil
				for _, m := range regexp.MustCompile(`type="hidden" name="([a-z_]+)" value="([^"]*)"`).FindAllStringSubmatch(body, -1) {
					fields = append(fields, m[1], m[2])
				}
			}
			t.Fatal("it does not end")
			return ""
		}
		pages := through()
		assert.Contains(t, pages, "accounts 3, seals 1. That is all.")
		assert.NotContains(t, pages, "Needs a person")

		_, err = o.db.Writer().ExecContext(t.Context(), "UPDATE qs_credit_accounts SET available = available + 1, head_free = head_free + 1 WHERE id = 'a1'")
		require.NoError(t, err)
		pages = through()
		assert.Contains(t, pages, "Needs a person")
		assert.Contains(t, pages, "5.000001")

		audited, _, err := o.Audit(t.Context(), admin.AuditParams{Action: admin.ActionLedgerVerify})
		require.NoError(t, err)
		assert.Len(t, audited, 4, "two batches each time")
		o.staff = nil
		status, _, _ := o.post("/admin/ledger/verify")
		assert.Equal(t, http.StatusNotFound, status)
	})
}
