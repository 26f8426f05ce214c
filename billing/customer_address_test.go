package billing_test

import (
	"context"
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
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

// addresses are the accounts' addresses, as the host keeps them.
type addresses struct {
	now   atomic.Value
	asked atomic.Int64
}

func (a *addresses) config(c *billing.Config) {
	a.now.Store(ada.Email)
	c.Address = func(context.Context, string) (string, error) {
		a.asked.Add(1)
		return a.now.Load().(string), nil
	}
}

// waitForFollowers waits until the jobs that follow an address have ended well.
func (s *shop) waitForFollowers() {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		var open int
		require.NoError(s.t, s.db.Get(s.t.Context(), &open, `SELECT COUNT(*) FROM river_job WHERE kind = ? AND state <> ?`, "billing_follow_customer", "completed"))
		return open == 0
	}, 20*time.Second, 20*time.Millisecond)
}

// runAddresses gives each shop addresses of its own.
func runAddresses(t *testing.T, fn func(t *testing.T, s *shop, a *addresses)) {
	t.Helper()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		a := &addresses{}
		fn(t, newShop(t, db, a.config), a)
	})
}

// move changes the address in a transaction that ends with after.
func (s *shop) move(a *addresses, to string, after error) error {
	return s.db.InTx(s.t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
		if err := s.FollowCustomerTx(ctx, tx, ada.Account); err != nil {
			return err
		}
		if after == nil {
			a.now.Store(to)
		}
		return after
	})
}

// told counts the calls that change a customer, and lets those through that the function does not refuse.
func (s *shop) told(refuse func(n int64) error) *atomic.Int64 {
	var n atomic.Int64
	count := func(r *http.Request) error {
		if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v1/customers/") {
			return refuse(n.Add(1))
		}
		return nil
	}
	s.breaks.Store(&count)
	return &n
}

func (s *shop) customers() (emails []string) {
	s.t.Helper()
	list := s.double.Stripe.Customers.List(&stripe.CustomerListParams{})
	for list.Next() {
		emails = append(emails, list.Customer().Email)
	}
	require.NoError(s.t, list.Err())
	return emails
}

func (s *shop) waitForAddress(want string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return assert.ObjectsAreEqual([]string{want}, s.customers()) }, 30*time.Second, 20*time.Millisecond)
}

func TestFollowCustomer_AChangeIsToldOnceAfterItsCommit(t *testing.T) {
	t.Parallel()
	runAddresses(t, func(t *testing.T, s *shop, a *addresses) {
		require.NoError(t, s.move(a, "ada@early.example", nil), "who never bought has no customer")
		require.Eventually(t, func() bool { return a.asked.Load() > 0 }, 20*time.Second, 10*time.Millisecond)
		a.now.Store(ada.Email)
		s.checkout()
		n := s.told(func(int64) error { return nil })
		undone := errors.New("undone")
		require.ErrorIs(t, s.move(a, "ada@undone.example", undone), undone)
		require.NoError(t, s.move(a, "ada@new.example", nil))
		s.waitForAddress("ada@new.example")
		s.waitForFollowers() // what was told is noted after it was told
		asked := a.asked.Load()
		for range 3 {
			require.NoError(t, s.move(a, "ada@new.example", nil))
		}
		require.Eventually(t, func() bool { return a.asked.Load() >= asked+6 }, 20*time.Second, 10*time.Millisecond)
		assert.EqualValues(t, 1, n.Load())

		// Jobs run in any order; the last address is the one that stays.
		for _, to := range []string{"b@example.com", "c@example.com", "d@example.com", "e@example.com"} {
			require.NoError(t, s.move(a, to, nil))
		}
		s.waitForAddress("e@example.com")
	})
}

func TestFollowCustomer_IsTriedAgainWhileStripeIsDown(t *testing.T) {
	t.Parallel()
	runAddresses(t, func(t *testing.T, s *shop, a *addresses) {
		s.checkout()
		n := s.told(func(n int64) error {
			if n == 1 {
				return context.DeadlineExceeded
			}
			return nil
		})
		require.NoError(t, s.move(a, "ada@new.example", nil))
		require.Eventually(t, func() bool { return n.Load() == 1 }, 20*time.Second, 10*time.Millisecond)
		assert.Equal(t, []string{ada.Email}, s.customers())
		s.waitForAddress("ada@new.example")
		assert.EqualValues(t, 2, n.Load())
	})
}

func TestFollowCustomer_SurvivesACustomerThatWasDeletedInStripe(t *testing.T) {
	t.Parallel()
	runAddresses(t, func(t *testing.T, s *shop, a *addresses) {
		s.checkout()
		list := s.double.Stripe.Customers.List(&stripe.CustomerListParams{})
		require.True(t, list.Next())
		gone := list.Customer().ID
		_, err := s.double.Stripe.Customers.Del(gone, nil)
		require.NoError(t, err)
		n := s.told(func(int64) error { return nil })
		require.NoError(t, s.move(a, "ada@new.example", nil))
		require.Eventually(t, func() bool { return n.Load() == 1 }, 20*time.Second, 10*time.Millisecond)
		s.waitForFollowers()
		s.breaks.Store(nil)
		moved := ada
		moved.Email = "ada@new.example"
		_, err = s.Checkout(t.Context(), billing.CheckoutParams{Customer: moved, Price: s.pack.ID})
		require.NoError(t, err)
		assert.Equal(t, []string{"ada@new.example"}, s.customers(), "a new customer has the new address")
	})
}

// Two that tell an address at once: whatever Stripe takes last, it is told again until both sides agree.
func TestFollowCustomer_AnAddressThatWasOvertakenIsToldAgain(t *testing.T) {
	t.Parallel()
	runAddresses(t, func(t *testing.T, s *shop, _ *addresses) {
		s.checkout()
		other := ada
		other.Email = "other@example.com"
		n := s.told(func(n int64) error {
			if n == 1 { // before the first one is sent, another one is told and noted
				s.breaks.Store(nil)
				return s.FollowCustomer(context.WithoutCancel(t.Context()), other)
			}
			return nil
		})
		mine := ada
		mine.Email = "mine@example.com"
		require.NoError(t, s.FollowCustomer(t.Context(), mine))
		assert.EqualValues(t, 1, n.Load())
		assert.Equal(t, []string{"mine@example.com"}, s.customers())
		var noted string
		require.NoError(t, s.db.Get(t.Context(), &noted, `SELECT email FROM qs_billing_customers WHERE account_id = ?`, ada.Account))
		assert.Equal(t, "mine@example.com", noted)
	})
}

func TestFollowCustomerTx_NeedsItsConfiguration(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		err := s.db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return s.FollowCustomerTx(ctx, tx, ada.Account) })
		require.ErrorContains(t, err, "Config.Address")
	})
}
