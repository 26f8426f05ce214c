package stripetest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing/stripetest"
)

// Ids have Stripe's prefixes and nothing but letters and digits, times are whole seconds, and every object says what it is.
func TestObjects_LookLikeStripes(t *testing.T) {
	t.Parallel()
	s := double(t)
	who, monthly := customer(t, s, stripetest.CardSucceeds), plan(t, s, "Pro", 2900, "month")
	sub := subscribe(t, s, who.ID, monthly)
	pi := paid(t, s, stripetest.CardSucceeds)
	must(s.Stripe.Refunds.New(&stripe.RefundParams{PaymentIntent: &pi.ID, Amount: stripe.Int64(100)}))(t)
	must(s.OpenDispute(t.Context(), sub.LatestInvoice.Charge.ID, stripetest.DisputeParams{}))(t)
	must(s.Stripe.SetupIntents.New(&stripe.SetupIntentParams{Customer: &who.ID}))(t)
	must(s.Stripe.SubscriptionSchedules.New(&stripe.SubscriptionScheduleParams{FromSubscription: &sub.ID}))(t)
	_, price := pack(t, s)
	session(t, s, price, nil)
	for path, prefix := range map[string]string{"customers": "cus", "products": "prod", "prices": "price", "subscriptions": "sub", "invoices": "in", "charges": "ch",
		"payment_intents": "pi", "setup_intents": "seti", "refunds": "re", "disputes": "dp", "events": "evt", "subscription_schedules": "sub_sched",
		"checkout/sessions": "cs_test", "payment_methods?customer=" + who.ID: "pm"} {
		r := must(http.NewRequest(http.MethodGet, s.URL+"/v1/"+path, nil))(t)
		r.Header.Set("Authorization", "Bearer "+stripetest.DefaultSecretKey)
		res := must(http.DefaultClient.Do(r))(t)
		var list struct {
			Object  string `json:"object"`
			URL     string `json:"url"`
			HasMore *bool  `json:"has_more"`
			Data    []struct {
				ID       string `json:"id"`
				Object   string `json:"object"`
				Created  *int64 `json:"created"`
				Livemode *bool  `json:"livemode"`
			} `json:"data"`
		}
		require.NoError(t, json.NewDecoder(res.Body).Decode(&list), path)
		require.NoError(t, res.Body.Close())
		assert.Regexp(t, `^req_[A-Za-z0-9]{14}$`, res.Header.Get("Request-Id"))
		assert.Equal(t, "list", list.Object)
		route, _, _ := strings.Cut(path, "?")
		assert.Equal(t, "/v1/"+route, list.URL)
		require.NotNil(t, list.HasMore, path)
		require.NotEmpty(t, list.Data, path)
		for _, o := range list.Data {
			assert.Regexp(t, "^"+prefix+"_[A-Za-z0-9]{14,}$", o.ID)
			assert.Contains(t, "subscription_schedule setup_intent checkout.session "+route, o.Object)
			require.NotNil(t, o.Created, o.ID)
			assert.InDelta(t, time.Now().Unix(), *o.Created, 60)
			if o.Livemode != nil {
				assert.False(t, *o.Livemode)
			}
		}
	}
}
