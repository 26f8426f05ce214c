package billing_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/internal/database"
)

// pay writes payments as they are in the table, a minute apart, the first at the time.
func (s *shop) pay(n int, from time.Time, description string) {
	s.t.Helper()
	require.NoError(s.t, s.db.InTx(s.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		const rows = 500
		for at := 0; at < n; at += rows {
			query := `INSERT INTO qs_billing_payments (id, account_id, type, status, amount, currency, credits, description, receipt_number, created_at, updated_at) VALUES `
			var args []any
			for i := at; i < min(n, at+rows); i++ {
				id, err := uuid.NewV7()
				if err != nil {
					return err
				}
				when := database.At(from.Add(time.Duration(i) * time.Minute))
				args = append(args, id, s.me.Account, billing.TypePurchase, billing.PaymentSucceeded, 1000+i, "usd", 0, description, "RCP-"+id.String(), when, when)
				query += `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?),`
			}
			if _, err := s.db.ExecTx(ctx, tx, strings.TrimSuffix(query, ","), args...); err != nil {
				return err
			}
		}
		return nil
	}))
}

// firstWrite calls something once, when the first bytes come.
type firstWrite struct {
	bytes.Buffer
	call    func() error
	largest int
}

func (w *firstWrite) Write(b []byte) (int, error) {
	if call := w.call; call != nil {
		w.call = nil
		if err := call(); err != nil {
			return 0, err
		}
	}
	w.largest = max(w.largest, len(b))
	return w.Buffer.Write(b)
}

func TestPaymentsCSV_TenThousandAreReadAsTheyAreSent(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		const n = 10_000
		s.pay(n, s.now().Add(-n*time.Minute), "Starter")
		s.me.Account = "somebody else"
		s.pay(1, s.now(), "Not hers")
		// When the first lines go out the oldest payment is still unread: it is gone from the end of the file.
		out := &firstWrite{call: func() error {
			const oldest = `DELETE FROM qs_billing_payments WHERE id = (SELECT id FROM qs_billing_payments WHERE account_id = ? ORDER BY id LIMIT 1)`
			_, err := s.db.Writer().ExecContext(t.Context(), s.db.Rebind(oldest), ada.Account)
			return err
		}}
		require.NoError(t, s.PaymentsCSV(t.Context(), out, billing.PaymentsParams{Account: ada.Account, Limit: 3}))
		lines, err := csv.NewReader(&out.Buffer).ReadAll()
		require.NoError(t, err)
		require.Len(t, lines, 1+n-1)
		assert.Equal(t, "time", lines[0][0])
		assert.Less(t, out.largest, 10_000, "written in small pieces")
		seen := map[string]bool{}
		for i, line := range lines[1:] {
			require.False(t, seen[line[10]], "twice")
			seen[line[10]] = true
			require.Equal(t, fmt.Sprintf("%d.%02d", (1000+n-1-i)/100, (1000+n-1-i)%100), line[3])
		}
		broken := errors.New("gone")
		require.ErrorIs(t, s.PaymentsCSV(t.Context(), &firstWrite{call: func() error { return broken }}, billing.PaymentsParams{Account: ada.Account}), broken)
	})
}

func TestPayments_AreFilteredAndDownloaded(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		day := time.Date(2026, 1, 31, 23, 59, 0, 0, time.UTC)
		s.pay(2, day, "=HYPERLINK(\"https://evil.example\")")
		for query, want := range map[string]int{
			"": 2, "from=2026-01-31": 2, "from=2026-02-01": 1, "until=2026-01-31": 1, "until=2026-01-30": 0, "from=2026-01-31&until=2026-02-01": 2,
			"type=credit_purchase": 2, "type=refund": 0, "status=succeeded": 2, "status=failed&from=2026-01-01": 0, "before=none": 2,
		} {
			_, body := s.request("GET", "/billing/payments?"+query, nil)
			assert.Equal(t, want, strings.Count(body, "<tr><td>"), query)
			res, body := s.request("GET", "/billing/payments?format=csv&"+query, nil)
			assert.Equal(t, "text/csv; charset=utf-8", res.Header.Get("Content-Type"))
			assert.Equal(t, `attachment; filename="payments.csv"`, res.Header.Get("Content-Disposition"))
			lines, err := csv.NewReader(strings.NewReader(body)).ReadAll()
			require.NoError(t, err)
			assert.Len(t, lines, 1+want, query)
		}
		res, body := s.request("GET", "/billing/payments", nil, "Accept", "text/csv")
		assert.Equal(t, "text/csv; charset=utf-8", res.Header.Get("Content-Type"))
		lines, err := csv.NewReader(strings.NewReader(body)).ReadAll()
		require.NoError(t, err)
		assert.Equal(t, []string{"2026-01-31T23:59:00Z", "credit_purchase", "succeeded", "10.00", "USD", "0.00", "0.00", "0", "0"}, lines[2][:9])
		assert.Equal(t, `'=HYPERLINK("https://evil.example")`, lines[2][9], "no formula")

		_, body = s.request("GET", "/billing/payments?from=2026-02-01&type=credit_purchase", nil)
		assert.Contains(t, body, `type="date" value="2026-02-01"`)
		assert.Contains(t, body, `href="/billing/payments?format=csv&amp;from=2026-02-01&amp;type=credit_purchase"`)
		res, body = s.request("GET", "/billing/payments?from=31.01.2026", nil)
		assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
		assert.Contains(t, body, `id="f-from-error"`)
		assert.Contains(t, body, "such as 2026-01-31")
		res, body = s.request("GET", "/billing/payments?until=never&format=csv", nil, "Accept", "application/json")
		assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
		assert.Contains(t, body, `"until"`)
		s.who = nil
		res, _ = s.request("GET", "/billing/payments?format=csv", nil)
		assert.Equal(t, http.StatusSeeOther, res.StatusCode)
	})
}
