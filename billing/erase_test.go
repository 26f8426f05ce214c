package billing_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

// erase erases ada's account, in a transaction that ends with after.
func (s *shop) erase(after error) error {
	return s.db.InTx(s.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		return errors.Join(s.EraseTx(ctx, tx, ada.Account), after)
	})
}

// erasures are what is written down of customers to delete.
func (s *shop) erasures() (rows []struct {
	Customer string `db:"customer_id"`
	Status   string `db:"status"`
	Attempts int    `db:"attempts"`
	Error    string `db:"error"`
}) {
	s.t.Helper()
	require.NoError(s.t, s.db.Writer().Select(&rows, `SELECT customer_id, status, attempts, error FROM qs_billing_customer_erasures`))
	return rows
}

// deletes has f decide about calls that delete a customer, and counts them.
func (s *shop) deletes(f func(r *http.Request) error) *atomic.Int64 {
	var n atomic.Int64
	count := func(r *http.Request) error {
		if r.Method != http.MethodDelete || !strings.HasPrefix(r.URL.Path, "/v1/customers/") {
			return nil
		}
		n.Add(1)
		return f(r)
	}
	s.breaks.Store(&count)
	return &n
}

// eraseCustomers is a run of the task.
func (s *shop) eraseCustomers(ctx context.Context) int {
	s.t.Helper()
	n, err := s.EraseCustomers(ctx)
	require.NoError(s.t, err)
	return n
}

// The customer is deleted once the erasure is committed and not without it; the books stay and name nobody.
func TestErase_DeletesTheCustomerAtStripeAndKeepsTheBooks(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		p := s.buy("4242424242424242")
		_, err := s.refund(p.ID, 100)
		require.NoError(t, err)
		s.quiet()
		id := s.customerIDs()[0]
		undone := errors.New("undone")
		require.ErrorIs(t, s.erase(undone), undone)
		assert.Zero(t, s.eraseCustomers(t.Context()))
		require.Len(t, s.customerIDs(), 1, "an erasure that was undone deletes nobody")

		n := s.deletes(func(*http.Request) error { return nil })
		for range 2 {
			require.NoError(t, s.erase(nil))
		}
		assert.Equal(t, 1, s.eraseCustomers(t.Context()))
		assert.Zero(t, s.eraseCustomers(t.Context()))
		require.NoError(t, s.erase(nil))
		assert.Zero(t, s.eraseCustomers(t.Context()), "erased again, deleted once")
		assert.EqualValues(t, 1, n.Load())
		gone, err := s.double.Stripe.Customers.Get(id, nil)
		require.NoError(t, err)
		assert.True(t, gone.Deleted)
		assert.Empty(t, gone.Email)
		require.Len(t, s.erasures(), 1)
		assert.Equal(t, "deleted", s.erasures()[0].Status)
		s.quiet()

		var left string
		require.NoError(t, s.db.Writer().Get(&left, `SELECT email FROM qs_billing_customers`))
		assert.Empty(t, left)
		for _, column := range []string{"receipt_url || invoice_url FROM qs_billing_payments", "url FROM qs_billing_checkouts", "note FROM qs_billing_refunds", "note FROM qs_billing_refund_steps"} {
			var texts []string
			require.NoError(t, s.db.Writer().Select(&texts, `SELECT `+column))
			require.NotEmpty(t, texts, column)
			assert.Empty(t, strings.Join(texts, ""), column)
		}
		kept := s.payment(p.ID)
		assert.Equal(t, int64(1000), kept.Price.Amount)
		assert.Equal(t, int64(100), kept.Refunded)
		assert.NotEmpty(t, kept.Receipt)
		// Money can still go back to who was erased.
		_, err = s.refund(p.ID, 100)
		require.NoError(t, err)
	})
}

// Between each two steps the process may end, and Stripe may be away: the customer is gone in the end, and nothing else is
// asked of Stripe than that.
func TestEraseCustomers_SurvivesACrashBetweenTheSteps(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.checkout()
		require.NoError(t, s.erase(nil))

		// Stripe is away: nothing has happened there.
		n := s.deletes(func(*http.Request) error { return errors.New("no route to host") })
		_, err := s.EraseCustomers(t.Context())
		require.ErrorIs(t, err, billing.ErrStripe)
		require.Len(t, s.customerIDs(), 1)
		assert.Equal(t, "requested", s.erasures()[0].Status)
		assert.Contains(t, s.erasures()[0].Error, "no route to host")
		asked := n.Load()
		assert.Zero(t, s.eraseCustomers(t.Context()))
		assert.Equal(t, asked, n.Load(), "not again at once")

		// The process ends after Stripe has deleted and before that is recorded.
		s.ahead.Store(int64(2 * time.Minute))
		ctx, crash := context.WithCancel(t.Context())
		s.deletes(func(r *http.Request) error {
			res, err := http.DefaultTransport.RoundTrip(r.Clone(context.Background()))
			if err != nil {
				return err
			}
			crash()
			return errors.Join(res.Body.Close(), context.Canceled)
		})
		_, err = s.EraseCustomers(ctx)
		require.Error(t, err)
		require.Empty(t, s.customerIDs())
		assert.Equal(t, "requested", s.erasures()[0].Status)

		s.breaks.Store(nil)
		s.ahead.Store(int64(time.Hour))
		assert.Equal(t, 1, s.eraseCustomers(t.Context()))
		assert.Equal(t, "missing", s.erasures()[0].Status)
		assert.Empty(t, s.erasures()[0].Error)
		assert.Equal(t, 3, s.erasures()[0].Attempts)
	})
}

func TestEraseCustomers_TakesOneThatIsDeletedAlreadyForDone(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.checkout()
		_, err := s.double.Stripe.Customers.Del(s.customerIDs()[0], nil)
		require.NoError(t, err)
		require.NoError(t, s.erase(nil))
		assert.Equal(t, 1, s.eraseCustomers(t.Context()))
		assert.Equal(t, "missing", s.erasures()[0].Status)
	})
}

// Two processes delete a customer once.
func TestEraseCustomers_TwoProcessesAskOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.checkout()
		require.NoError(t, s.erase(nil))
		n := s.deletes(func(*http.Request) error { return nil })
		results := make(chan int, 4)
		for range cap(results) {
			go func() {
				erased, err := s.EraseCustomers(context.Background())
				assert.NoError(t, err)
				results <- erased
			}()
		}
		sum := 0
		for range cap(results) {
			sum += <-results
		}
		assert.Equal(t, 1, sum)
		assert.EqualValues(t, 1, n.Load())
	})
}

// What could still charge ends before the erasure: the plan, the pages that are open, and auto top-up.
func TestEndAccount_EndsWhatCouldStillCharge(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		require.NoError(t, s.EndAccount(t.Context(), "nobody"))
		s.basic = s.plan("Basic", "100", 900, "month")
		s.subscribe(s.basic.ID, "4242424242424242")
		s.defaultCard("4242424242424242")
		s.autoTopUp(5000)
		open := s.checkout()
		for range 2 {
			require.NoError(t, s.EndAccount(t.Context(), ada.Account))
		}
		assert.True(t, s.subscription().Ended())
		theirs, err := s.double.Stripe.Subscriptions.Get(s.subscription().ID, nil)
		require.NoError(t, err)
		assert.Equal(t, stripe.SubscriptionStatusCanceled, theirs.Status)
		session, err := s.double.Stripe.CheckoutSessions.Get(open.SessionID, nil)
		require.NoError(t, err)
		assert.Equal(t, stripe.CheckoutSessionStatusExpired, session.Status)
		auto, err := s.FindAutoTopUp(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.False(t, auto.On)
	})
}

// Nobody is erased while their money is on its way: it would bring credits to nobody.
func TestEndAccount_WaitsForMoneyThatIsOnItsWay(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		c := s.checkout()
		_, err := s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.Delayed})
		require.NoError(t, err)
		s.waitFor(c.SessionID, billing.CheckoutWaiting)
		require.ErrorContains(t, s.EndAccount(t.Context(), ada.Account), "on its way")
		require.NoError(t, s.double.SettleDelayed(t.Context(), c.SessionID, true))
		s.waitFor(c.SessionID, billing.CheckoutPaid)
		require.NoError(t, s.EndAccount(t.Context(), ada.Account))
	})
}

// A customer whose making was not recorded is found by the address, as long as that is known.
func TestEndAccount_FindsACustomerThatWasNotRecorded(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.losePost("/v1/customers")
		_, err := s.Checkout(t.Context(), billing.CheckoutParams{Customer: ada, Price: s.pack.ID})
		require.ErrorIs(t, err, billing.ErrStripe)
		s.breaks.Store(nil)
		require.Len(t, s.customerIDs(), 1)
		require.NoError(t, s.EndAccount(t.Context(), ada.Account))
		require.NoError(t, s.erase(nil))
		assert.Equal(t, 1, s.eraseCustomers(t.Context()))
		assert.Empty(t, s.customerIDs())
	})
}

// The export holds each kind of row that billing keeps of an account, and not what staff wrote.
func TestExport_HoldsAllThatIsKeptOfAnAccount(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		p := s.buy("4242424242424242")
		_, err := s.refund(p.ID, 100)
		require.NoError(t, err)
		s.basic = s.plan("Basic", "100", 900, "month")
		s.subscribe(s.basic.ID, "4242424242424242")
		s.defaultCard("4242424242424242")
		s.autoTopUp(5000)
		var file bytes.Buffer
		require.NoError(t, s.Export(t.Context(), &file, ada.Account))
		var all map[string]any
		require.NoError(t, json.Unmarshal(file.Bytes(), &all), file.String())
		assert.Equal(t, ada.Email, all["customer"].(map[string]any)["email"])
		for name, n := range map[string]int{"payments": 3, "refunds": 1, "checkouts": 2, "disputes": 0, "topups": 0, "plan_changes": 0} {
			assert.Len(t, all[name], n, name)
		}
		assert.Equal(t, "active", all["subscription"].(map[string]any)["status"])
		assert.Contains(t, all["auto_topup"].(map[string]any)["consent"], billing.TopUpConsent)
		for _, private := range []string{"asked by mail", `"sue"`} {
			assert.NotContains(t, file.String(), private)
		}
		file.Reset()
		require.NoError(t, s.Export(t.Context(), &file, "nobody"))
		assert.Contains(t, file.String(), `"customer":null`)
	})
}
