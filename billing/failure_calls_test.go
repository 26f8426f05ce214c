package billing_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/internal/web"
)

// attempt is how something that a person does ends.
type attempt struct {
	status int
	body   string
}

// failing is something that needs a call to Stripe, which fails.
type failing struct {
	// route is the call.
	route string
	// begin brings an account to where it can be done, and returns how it is done and how the books must be in the end,
	// when it was tried until it went through.
	begin func(s *shop) (do func() attempt, books func(t *testing.T))
	// done are the statuses that say so; 409 and 404 where it is found done.
	done []int
	// recovers is a failure that the person never hears of.
	recovers stripetest.FaultKind
	// wait is how long it takes until it is tried again, where money hangs on it: Stripe repeats its errors for a day.
	wait time.Duration
	// lost says that no webhook of it arrives.
	lost bool
	// writes says that a failure is written down, so that it is tried on both databases. The rest of what is done after one
	// is tried on PostgreSQL by the tests of what is done.
	writes bool
}

// post is what a person does on a page.
func (s *shop) post(path string, form url.Values) func() attempt {
	return func() attempt {
		res, body := s.request("POST", path, form)
		return attempt{res.StatusCode, body}
	}
}

func (s *shop) get(path string) func() attempt {
	return func() attempt {
		res, body := s.request("GET", path, nil)
		return attempt{res.StatusCode, body}
	}
}

// call is what the application or a member of staff does. What they are told is what a page says of the error.
func (s *shop) call(do func() error) func() attempt {
	site, err := web.New(web.Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(s.t, err)
	return func() attempt {
		w := httptest.NewRecorder()
		if err := do(); err != nil {
			site.Fail(w, httptest.NewRequest(http.MethodPost, "/", nil), err)
		}
		return attempt{w.Code, w.Body.String()}
	}
}

var calls = map[string]failing{
	"making a customer": {route: "POST /v1/customers", writes: true, done: []int{303}, recovers: stripetest.FaultErrorAfter, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		return s.post("/billing/checkout", url.Values{"price": {s.pack.ID}}), func(t *testing.T) {
			t.Helper()
			n := 0
			it := s.double.Stripe.Customers.List(&stripe.CustomerListParams{Email: &s.me.Email})
			for it.Next() {
				n++
			}
			require.NoError(t, it.Err())
			assert.Equal(t, 1, n)
		}
	}},
	"checkout of a pack": {route: "POST /v1/checkout/sessions", writes: true, done: []int{303}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		return s.post("/billing/checkout", url.Values{"price": {s.pack.ID}}), func(t *testing.T) {
			t.Helper()
			s.payOpen()
			s.expect(t, "100.5", 1000)
		}
	}},
	"checkout of a plan": {route: "POST /v1/checkout/sessions", done: []int{303}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		return s.post("/billing/checkout", url.Values{"price": {s.basic.ID}}), func(t *testing.T) {
			t.Helper()
			s.payOpen()
			s.expect(t, "100", 1000)
			assert.Equal(t, stripe.SubscriptionStatusActive, s.same().Status)
		}
	}},
	"the page after a checkout": {route: "GET /v1/checkout/sessions/{id}", done: []int{200}, lost: true, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		c := s.checkout()
		_, err := s.double.Pay(s.t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(s.t, err)
		look := s.get("/billing/success?look=1&session_id=" + c.SessionID)
		return func() attempt {
				a := look()
				if strings.Contains(a.body, "looks again by itself") { // what the person sees: it is not confirmed yet
					return attempt{http.StatusServiceUnavailable, "The payment provider does not answer. Try again in a moment; nothing is charged twice."}
				}
				return a
			}, func(t *testing.T) {
				t.Helper()
				s.expect(t, "100.5", 1000)
			}
	}},
	"preview of a change": {route: "GET /v1/invoices/upcoming", done: []int{200}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.subscribe(s.basic.ID, stripetest.CardSucceeds)
		return s.get("/billing/subscription/change?price=" + s.pro.ID), func(t *testing.T) {
			t.Helper()
			s.expect(t, "100", 1000)
		}
	}},
	"upgrade": {route: "POST /v1/subscriptions/{id}", done: []int{303, 409}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.subscribe(s.basic.ID, stripetest.CardSucceeds)
		return s.post("/billing/subscription/change", url.Values{"price": {s.pro.ID}}), func(t *testing.T) {
			t.Helper()
			assert.Equal(t, "Pro", s.same().Plan.Name)
			payments := s.payments()
			require.Len(t, payments, 2, "charged once")
			assert.Equal(t, payments[0].Price.Amount+payments[1].Price.Amount, s.taken())
			assert.Equal(t, (payments[0].Credits + payments[1].Credits).String(), s.balance())
		}
	}},
	"upgrade as previewed": {route: "POST /v1/subscriptions/{id}", writes: true, done: []int{303, 409}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.subscribe(s.basic.ID, stripetest.CardSucceeds)
		preview, err := s.PreviewChange(s.t.Context(), s.me.Account, s.pro.ID)
		require.NoError(s.t, err)
		// The person agrees to the same second again and again.
		return s.post("/billing/subscription/change", url.Values{"price": {s.pro.ID}, "proration_date": {fmt.Sprint(preview.ProrationDate)}}), func(t *testing.T) {
			t.Helper()
			assert.Equal(t, "Pro", s.same().Plan.Name)
			payments := s.payments()
			require.Len(t, payments, 2, "charged once")
			assert.Equal(t, preview.Due, payments[0].Price)
			assert.Equal(t, payments[0].Price.Amount+payments[1].Price.Amount, s.taken())
		}
	}},
	"downgrade": {route: "POST /v1/subscription_schedules", done: []int{303, 409}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.subscribe(s.pro.ID, stripetest.CardSucceeds)
		change := s.post("/billing/subscription/change", url.Values{"price": {s.basic.ID}})
		return change, func(t *testing.T) {
			t.Helper()
			sub := s.same()
			require.NotNil(t, sub.Next)
			assert.Equal(t, "Basic", sub.Next.Name)
			s.expect(t, "400", 3000)
		}
	}},
	"cancel at the period's end": {route: "POST /v1/subscriptions/{id}", done: []int{303}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.subscribe(s.basic.ID, stripetest.CardSucceeds)
		return s.post("/billing/subscription/cancel", nil), func(t *testing.T) {
			t.Helper()
			assert.True(t, s.same().CancelAtPeriodEnd)
			s.expect(t, "100", 1000)
		}
	}},
	"cancel at once": {route: "DELETE /v1/subscriptions/{id}", done: []int{303, 409}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.subscribe(s.basic.ID, stripetest.CardSucceeds)
		return s.post("/billing/subscription/cancel", url.Values{"now": {"true"}}), func(t *testing.T) {
			t.Helper()
			assert.True(t, s.same().Ended())
			s.expect(t, "100", 1000)
		}
	}},
	"resume after a cancellation": {route: "POST /v1/subscriptions/{id}", done: []int{303, 409}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.subscribe(s.basic.ID, stripetest.CardSucceeds)
		_, err := s.CancelSubscription(s.t.Context(), s.me.Account, false)
		require.NoError(s.t, err)
		s.quiet()
		return s.post("/billing/subscription/resume", nil), func(t *testing.T) {
			t.Helper()
			assert.False(t, s.same().CancelAtPeriodEnd)
			s.expect(t, "100", 1000)
		}
	}},
	"pause": {route: "POST /v1/subscriptions/{id}", done: []int{303, 409}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.subscribe(s.basic.ID, stripetest.CardSucceeds)
		return s.post("/billing/subscription/pause", nil), func(t *testing.T) {
			t.Helper()
			assert.True(t, s.same().Paused())
			s.expect(t, "100", 1000)
		}
	}},
	"resume after a pause": {route: "POST /v1/subscriptions/{id}", done: []int{303, 409}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.subscribe(s.basic.ID, stripetest.CardSucceeds)
		_, err := s.PauseSubscription(s.t.Context(), billing.PauseParams{Account: s.me.Account})
		require.NoError(s.t, err)
		s.quiet()
		return s.post("/billing/subscription/resume", nil), func(t *testing.T) {
			t.Helper()
			sub := s.same()
			assert.False(t, sub.Paused())
			assert.Nil(t, sub.PaidThrough)
			s.expect(t, "100", 1000)
		}
	}},
	"refund": {route: "POST /v1/refunds", writes: true, done: []int{200}, wait: time.Hour + time.Minute, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		p := s.buy(stripetest.CardSucceeds)
		asked := false
		do := s.call(func() error {
			if asked { // the refund is written down: nobody asks for another one, it is resumed
				_, err := s.ResumeRefunds(s.t.Context())
				return err
			}
			asked = true
			_, err := s.refund(p.ID, 400)
			return err
		})
		return do, func(t *testing.T) {
			t.Helper()
			charge, err := s.double.Stripe.Charges.Get(p.ChargeID, nil)
			require.NoError(t, err)
			assert.Equal(t, int64(400), charge.AmountRefunded)
			refunds, _, err := s.Refunds(t.Context(), billing.RefundsParams{Payment: p.ID})
			require.NoError(t, err)
			require.Len(t, refunds, 1)
			assert.Equal(t, billing.RefundSucceeded, refunds[0].Status)
			s.expect(t, "60.3", 1000)
		}
	}},
	"saving a card": {route: "POST /v1/checkout/sessions", done: []int{303}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		return s.post("/billing/payment-methods/add", nil), func(t *testing.T) {
			t.Helper()
			s.addCard(stripetest.CardSucceeds)
			assert.Len(t, s.cards(), 1)
			s.expect(t, "0", 0)
		}
	}},
	"listing cards": {route: "GET /v1/payment_methods", done: []int{200}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.addCard(stripetest.CardSucceeds)
		return s.get("/billing/payment-methods"), func(*testing.T) {}
	}},
	"making a card the default": {route: "POST /v1/customers/{id}", done: []int{303}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.addCard(stripetest.CardSucceeds)
		return s.post("/billing/payment-methods/"+s.cards()[0].ID+"/default", nil), func(t *testing.T) {
			t.Helper()
			assert.True(t, s.cards()[0].Default)
		}
	}},
	"removing a card": {route: "POST /v1/payment_methods/{id}/detach", done: []int{303, 404}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.addCard(stripetest.CardSucceeds)
		return s.post("/billing/payment-methods/"+s.cards()[0].ID+"/remove", nil), func(t *testing.T) {
			t.Helper()
			assert.Empty(t, s.cards())
		}
	}},
	"the portal": {route: "POST /v1/billing_portal/sessions", done: []int{303}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.checkout() // who has bought has a customer
		return s.post("/billing/portal", nil), func(t *testing.T) {
			t.Helper()
			s.expect(t, "0", 0)
		}
	}},
	"turning auto top-up on": {route: "GET /v1/customers/{id}", done: []int{303}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.defaultCard(stripetest.CardSucceeds)
		form := url.Values{"threshold": {"50"}, "price": {s.pack.ID}, "monthly_cap": {"50"}, "consent": {"on"}}
		return s.post("/billing/auto-topup", form), func(t *testing.T) {
			t.Helper()
			set, err := s.FindAutoTopUp(t.Context(), s.me.Account)
			require.NoError(t, err)
			assert.True(t, set.On)
		}
	}},
	"top-up": {route: "POST /v1/payment_intents", writes: true, done: []int{200}, wait: time.Hour + time.Minute, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.defaultCard(stripetest.CardSucceeds)
		s.autoTopUp(5000)
		return s.call(func() error {
				_, resumed := s.ResumeTopUps(s.t.Context())
				if _, err := s.TopUp(s.t.Context(), s.me.Account); err != nil {
					return err
				}
				return resumed
			}), func(t *testing.T) {
				t.Helper()
				s.expect(t, "100.5", 1000)
			}
	}},
	"a change of address": {route: "POST /v1/customers/{id}", done: []int{303}, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		s.checkout()
		s.me.Email = "new-" + s.me.Email
		return s.post("/billing/checkout", url.Values{"price": {s.pack.ID}}), func(t *testing.T) {
			t.Helper()
			s.payOpen()
			s.expect(t, "100.5", 1000)
		}
	}},
	"reconciliation": {route: "GET /v1/checkout/sessions/{id}", done: []int{200}, lost: true, begin: func(s *shop) (func() attempt, func(t *testing.T)) {
		_, err := s.Reconcile(s.t.Context())
		require.NoError(s.t, err)
		c := s.checkout()
		_, err = s.double.Pay(s.t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(s.t, err)
		return s.call(func() error {
				report, err := s.Reconcile(s.t.Context())
				for _, f := range report.Failed {
					return fmt.Errorf("%w (%s)", billing.ErrStripe, f.ID) // what it reports, for staff
				}
				return err
			}), func(t *testing.T) {
				t.Helper()
				s.expect(t, "100.5", 1000)
			}
	}},
}
