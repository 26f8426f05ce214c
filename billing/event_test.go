package billing_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

// happenings collects the events of each shop apart, one for each key: a transaction that is tried again tells again.
type happenings struct {
	mu    sync.Mutex
	fails bool
	told  map[*sqlx.DB]map[string]billing.Event
}

func (h *happenings) watch(c *billing.Config) {
	db := c.DB
	c.OnEvent = func(_ context.Context, _ *sqlx.Tx, e billing.Event) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.fails {
			return errors.New("nobody listens")
		}
		if h.told[db] == nil {
			h.told[db] = map[string]billing.Event{}
		}
		h.told[db][e.Key] = e
		return nil
	}
}

// counts are how often each kind happened.
func (h *happenings) counts(s *shop) map[billing.EventKind]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := map[billing.EventKind]int{}
	for _, e := range h.told[s.db.Writer()] {
		n[e.Kind]++
	}
	return n
}

func TestOnEvent_TheLifeOfASubscription(t *testing.T) {
	h := &happenings{told: map[*sqlx.DB]map[string]billing.Event{}}
	run(t, func(t *testing.T, s *shop) {
		basic, pro := s.plan("Basic", "100", 1000, "month", "trial_days", "7"), s.plan("Pro", "400", 3000, "month")
		s.subscribe(basic.ID, stripetest.CardFailsLater)
		want := map[billing.EventKind]int{billing.EventSubscriptionCreated: 1}
		assert.Equal(t, want, h.counts(s), "a trial costs nothing")
		s.advance(7*day + 2*time.Hour)
		want[billing.EventSubscriptionRenewed], want[billing.EventSubscriptionPastDue] = 1, 1
		assert.Equal(t, want, h.counts(s))
		require.NoError(t, s.double.PayInvoice(t.Context(), s.payments()[0].InvoiceID, stripetest.Card{Number: stripetest.CardSucceeds}))
		s.quiet()
		want[billing.EventPaid], want[billing.EventSubscriptionRecovered] = 1, 1
		assert.Equal(t, want, h.counts(s))
		_, err := s.CancelSubscription(t.Context(), ada.Account, false)
		require.NoError(t, err)
		_, err = s.ResumeSubscription(t.Context(), ada.Account)
		require.NoError(t, err)
		s.quiet()
		want[billing.EventSubscriptionCanceled], want[billing.EventSubscriptionResumed] = 1, 1
		assert.Equal(t, want, h.counts(s))
		_, err = s.ChangePlan(t.Context(), billing.ChangeParams{Account: ada.Account, Price: pro.ID})
		require.NoError(t, err)
		s.quiet()
		changed := h.counts(s)
		assert.GreaterOrEqual(t, changed[billing.EventSubscriptionChanged], 1)
		_, err = s.CancelSubscription(t.Context(), ada.Account, true)
		require.NoError(t, err)
		s.quiet()
		changed[billing.EventSubscriptionEnded] = 1
		assert.Equal(t, changed, h.counts(s))
	}, h.watch)
}

func TestOnEvent_ItsErrorUndoesWhatItTells(t *testing.T) {
	h := &happenings{fails: true, told: map[*sqlx.DB]map[string]billing.Event{}}
	run(t, func(t *testing.T, s *shop) {
		c := s.checkout()
		_, err := s.double.Pay(t.Context(), c.SessionID, stripetest.Card{Number: stripetest.CardSucceeds})
		require.NoError(t, err)
		_, err = s.SyncCheckout(t.Context(), ada.Account, c.SessionID)
		require.ErrorContains(t, err, "nobody listens")
		assert.Equal(t, "0", s.balance())
		assert.Empty(t, s.payments())
	}, h.watch)
}
