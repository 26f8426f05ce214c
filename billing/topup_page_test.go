package billing_test

import (
	"encoding/json"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

func TestPages_AutoTopUp(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		_, body := s.request("GET", "/billing/auto-topup", nil)
		assert.Contains(t, body, "It is off until you turn it on")
		assert.Contains(t, body, "No default card")
		s.defaultCard(stripetest.CardSucceeds)
		_, body = s.request("GET", "/billing/auto-topup", nil)
		assert.Contains(t, body, "Starter: 100.5 credits for 10.00 USD")
		assert.Contains(t, body, billing.TopUpConsent)
		assert.NotContains(t, body, " checked", "nobody has agreed for them")

		form := url.Values{"threshold": {"200"}, "price": {s.pack.ID}, "monthly_cap": {"5.00"}}
		res, body := s.request("POST", "/billing/auto-topup", form)
		assert.Equal(t, 422, res.StatusCode)
		assert.Contains(t, body, "This must be at most 100.5")
		assert.Contains(t, body, "Agree to the charges")
		assert.Contains(t, body, `value="5.00"`, "what was typed stays")
		for field, wrong := range map[string]string{"threshold": "many", "monthly_cap": "5.001"} {
			form := url.Values{"threshold": {"50"}, "price": {s.pack.ID}, "monthly_cap": {"50"}, "consent": {"on"}}
			form.Set(field, wrong)
			res, body = s.request("POST", "/billing/auto-topup", form, "Accept", "application/json")
			assert.Equal(t, 422, res.StatusCode)
			assert.Contains(t, body, `"`+field+`"`)
		}
		form = url.Values{"threshold": {"50"}, "price": {s.pack.ID}, "monthly_cap": {"50"}, "consent": {"on"}}
		res, _ = s.request("POST", "/billing/auto-topup", form)
		require.Equal(t, 303, res.StatusCode)
		require.Equal(t, billing.TopUpSucceeded, s.topUp().Status)
		_, body = s.request("GET", "/billing/auto-topup", nil)
		assert.Contains(t, body, "10.00 USD of at most 50.00 USD")
		assert.Contains(t, body, "visa ending in 4242")
		assert.Contains(t, body, "Paid")
		_, body = s.request("GET", "/billing/payments", nil)
		assert.Contains(t, body, "You have paid <strong>10.00 USD</strong> for <strong>100.5 credits</strong>")

		_, body = s.request("GET", "/billing/auto-topup", nil, "Accept", "application/json")
		var got struct {
			Data struct {
				AutoTopUp billing.AutoTopUp      `json:"auto_topup"`
				Card      *billing.PaymentMethod `json:"card"`
				TopUps    []billing.TopUp        `json:"topups"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		assert.True(t, got.Data.AutoTopUp.On)
		assert.Equal(t, int64(5000), got.Data.AutoTopUp.MonthlyCap.Amount)
		require.NotNil(t, got.Data.Card)
		require.Len(t, got.Data.TopUps, 1)

		s.who = &billing.Customer{Account: "eve", Email: "eve@example.com", Verified: true}
		res, _ = s.request("POST", "/billing/auto-topup/stop", nil)
		assert.Equal(t, 303, res.StatusCode)
		_, body = s.request("GET", "/billing/auto-topup", nil, "Accept", "application/json")
		assert.NotContains(t, body, "4242")
		s.who = &ada
		setting, err := s.FindAutoTopUp(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.True(t, setting.On, "another's is none of eve's business")
		res, body = s.request("POST", "/billing/auto-topup/stop", nil, "Accept", "application/json")
		assert.Equal(t, 200, res.StatusCode, body)
		_, body = s.request("GET", "/billing/auto-topup", nil)
		assert.Contains(t, body, `data-state="off"`)
		res, _ = s.request("POST", "/billing/auto-topup", form, "Sec-Fetch-Site", "cross-site")
		assert.Equal(t, 403, res.StatusCode)
		s.who = nil
		res, _ = s.request("GET", "/billing/auto-topup", nil)
		assert.Equal(t, "/auth/login?next=%2Fbilling%2Fauto-topup", res.Header.Get("Location"))
	})
}
