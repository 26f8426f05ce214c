package billing_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

func TestReceipt_AsPDFForMoneyThatCame(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		p := s.buy(stripetest.CardSucceeds)
		path := "/billing/payments/" + p.ID.String() + "/receipt"
		res, body := s.request("GET", path+".pdf", nil)
		assert.Equal(t, 200, res.StatusCode)
		assert.Equal(t, "application/pdf", res.Header.Get("Content-Type"))
		assert.Contains(t, res.Header.Get("Content-Disposition"), p.Receipt+".pdf")
		assert.Contains(t, body[:8], "%PDF-1.")
		for _, want := range []string{p.Receipt, "10.00 USD", "Starter", "ada@example.com", p.IntentID} {
			assert.Contains(t, body, want)
		}
		_, again := s.request("GET", path+".pdf", nil)
		assert.Equal(t, body, again, "the same receipt is the same file")
		_, body = s.request("GET", path, nil)
		assert.Contains(t, body, "Download as PDF")

		s.who = &billing.Customer{Account: "eve", Email: "eve@example.com", Verified: true}
		res, _ = s.request("GET", path+".pdf", nil)
		assert.Equal(t, 404, res.StatusCode)
		s.who = &ada
		plan := s.plan("Pro", "1000", 2900, "month", "trial_days", "1")
		s.subscribe(plan.ID, stripetest.CardFailsLater)
		s.advance(day + 2*time.Hour)
		failed := s.payments()[0]
		require.Equal(t, billing.PaymentFailed, failed.Status)
		res, _ = s.request("GET", "/billing/payments/"+failed.ID.String()+"/receipt.pdf", nil)
		assert.Equal(t, 404, res.StatusCode, "there is no receipt for money that did not come")
		res, body = s.request("GET", "/billing/payments/"+failed.ID.String(), nil)
		assert.Equal(t, 200, res.StatusCode)
		assert.NotContains(t, body, "/receipt\"")
	})
}
