package billing_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/webhook"
)

// failures are what can go wrong with a call to Stripe, whether or not it had its effect.
var failures = []struct {
	name string
	kind stripetest.FaultKind
}{
	{"timeout", stripetest.FaultLatency},
	{"too many calls", stripetest.FaultRateLimit},
	{"lock timeout", stripetest.FaultLockTimeout},
	{"error before the effect", stripetest.FaultErrorBefore},
	{"error after the effect", stripetest.FaultErrorAfter},
	{"cut before the effect", stripetest.FaultDropBefore},
	{"cut after the effect", stripetest.FaultDropAfter},
}

// Call by call and failure by failure: what the person is told, and that the books are right when it was tried until it
// went through.
func TestFailures_AreSaidPlainlyAndTheBooksAreRight(t *testing.T) { //nolint:tparallel // run and runSQLite make the subtests parallel
	t.Parallel()
	for name, c := range calls {
		t.Run(name, func(t *testing.T) {
			each := func(t *testing.T, s *shop) {
				t.Helper()
				s.basic, s.pro = s.plan("Basic", "100", 1000, "month"), s.plan("Pro", "400", 3000, "month")
				for i, f := range failures {
					s.me = billing.Customer{Account: fmt.Sprintf("person-%d", i), Email: fmt.Sprintf("person-%d@example.com", i), Name: "Ada", Verified: true}
					s.who = &s.me
					s.failOnce(t, c, f.name, f.kind)
				}
			}
			if c.writes {
				run(t, each)
				return
			}
			runSQLite(t, each)
		})
	}
}

// A card that is refused is no failure of Stripe's: the person is told what to do, and nothing is given for nothing.
func TestFailures_ARefusedCardIsSaidWhereItIsUsed(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.basic, s.pro = s.plan("Basic", "100", 1000, "month"), s.plan("Pro", "400", 3000, "month")
		c := s.checkout()
		_, err := s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardInsufficientFunds})
		require.Error(t, err, "on Stripe's own page")
		_, body := s.request("GET", "/billing/success?look=1&session_id="+c.SessionID, nil)
		assert.Contains(t, body, "Confirming your payment", "it may still be paid there")
		s.expect(t, "0", 0)

		s.subscribe(s.basic.ID, stripetest.CardSucceeds)
		s.defaultCard(stripetest.CardFailsLater)
		res, _ := s.request("POST", "/billing/subscription/change", url.Values{"price": {s.pro.ID}})
		require.Equal(t, http.StatusSeeOther, res.StatusCode)
		require.Len(t, res.Cookies(), 1)
		_, body = s.request("GET", "/billing/subscription", nil, "Cookie", res.Cookies()[0].String())
		assert.Contains(t, body, "The payment did not go through, so your plan is as it was.")
		assert.Contains(t, body, "Pay now")
		s.quiet()
		assert.Equal(t, "Basic", s.same().Plan.Name)
		s.expect(t, "100", 1000)

		s.autoTopUp(5000)
		s.use("60")
		assert.Equal(t, billing.TopUpFailed, s.topUp().Status)
		_, body = s.request("GET", "/billing/auto-topup", nil)
		assert.Contains(t, body, "The last purchase did not go through: Your bank declined the card.")
		s.quiet()
		s.expect(t, "40", 1000)
	})
}

func (s *shop) failOnce(t *testing.T, c failing, name string, kind stripetest.FaultKind) {
	t.Helper()
	settle := s.quiet
	if c.lost {
		s.lose(1, 1)
		settle = s.still
	}
	do, books := c.begin(s)
	settle()
	_, err := s.double.Inject(t.Context(), stripetest.Fault{Kind: kind, Route: c.route, Times: 1, Delay: latency})
	require.NoError(t, err)
	if kind == stripetest.FaultLatency {
		s.impatient(c.route)
	}
	said := do()
	if kind == c.recovers {
		assert.Contains(t, c.done, said.status, "%s: %s", name, said.body)
	} else {
		assert.Equal(t, http.StatusServiceUnavailable, said.status, "%s: %s", name, said.body)
		assert.Contains(t, said.body, "The payment provider does not answer. Try again in a moment; nothing is charged twice.", name)
		assert.NotContains(t, said.body, "told to fail", name)
	}
	s.breaks.Store(nil)
	require.NoError(t, s.double.RemoveFaults(t.Context()))
	if c.wait > 0 {
		s.pass(c.wait)
	}
	var last attempt
	require.Eventually(t, func() bool {
		last = do()
		return last.status != http.StatusServiceUnavailable
	}, 20*time.Second, 50*time.Millisecond, "%s: it never goes through", name)
	assert.Contains(t, c.done, last.status, "%s: %s", name, last.body)
	settle()
	books(t)
	dead, _, err := s.inbox.List(t.Context(), webhook.ListParams{Status: webhook.StatusDead})
	require.NoError(t, err)
	assert.Empty(t, dead, name)
}

// latency is how long an answer is held back, and patience how long we wait for it.
const (
	latency  = 800 * time.Millisecond
	patience = 400 * time.Millisecond
)

// impatient gives calls of a route little time, until breaks is emptied.
func (s *shop) impatient(route string) {
	method, pattern, _ := strings.Cut(strings.ReplaceAll(route, "{id}", "*"), " ")
	f := func(r *http.Request) error {
		if ok, err := path.Match(pattern, r.URL.Path); err != nil || !ok || r.Method != method {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		res, err := http.DefaultTransport.RoundTrip(r.Clone(ctx))
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	s.breaks.Store(&f)
}

// expect checks what the account has and what Stripe has taken for it.
func (s *shop) expect(t *testing.T, balance string, taken int64) {
	t.Helper()
	assert.Equal(t, balance, s.balance())
	assert.Equal(t, taken, s.taken())
	var ours int64
	for _, p := range s.payments() {
		if p.Kept() && p.Type != billing.TypeRefund {
			ours += p.Price.Amount
		}
	}
	assert.Equal(t, taken, ours, "our payments and Stripe's")
}

// taken is what Stripe has taken from the account, in minor units.
func (s *shop) taken() (sum int64) {
	s.t.Helper()
	for _, c := range s.customerIDs() {
		it := s.double.Stripe.PaymentIntents.List(&stripe.PaymentIntentListParams{Customer: &c})
		for it.Next() {
			sum += it.PaymentIntent().AmountReceived
		}
		require.NoError(s.t, it.Err())
	}
	return sum
}

// customerIDs are the account's in Stripe.
func (s *shop) customerIDs() (ids []string) {
	s.t.Helper()
	it := s.double.Stripe.Customers.List(&stripe.CustomerListParams{})
	for it.Next() {
		if it.Customer().Metadata["account"] == s.me.Account {
			ids = append(ids, it.Customer().ID)
		}
	}
	require.NoError(s.t, it.Err())
	return ids
}

// payOpen pays on the page that the account was sent to last.
func (s *shop) payOpen() {
	s.t.Helper()
	var session string
	err := s.db.Get(s.t.Context(), &session, `SELECT session_id FROM qs_billing_checkouts WHERE account_id = ? AND status = 'open' ORDER BY id DESC LIMIT 1`, s.me.Account)
	require.NoError(s.t, err)
	_, err = s.double.Pay(s.t.Context(), session, stripetest.Card{Number: stripetest.CardSucceeds})
	require.NoError(s.t, err)
	s.quiet()
}
