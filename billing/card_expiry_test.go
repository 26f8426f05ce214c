package billing_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

func TestCards_ThatExpireAreToldOnceForEachExpiry(t *testing.T) {
	n := newNotes()
	run(t, func(t *testing.T, s *shop) {
		look := func() int {
			s.t.Helper()
			told, err := s.WarnExpiringCards(t.Context())
			require.NoError(t, err)
			return told
		}
		plan := s.plan("Pro", "1000", 2900, "month")
		s.subscribe(plan.ID, stripetest.CardSucceeds)
		card := s.cards()[0]
		assert.Zero(t, look(), "it is good for long")
		ends := s.now().AddDate(0, 1, 0)
		require.NoError(t, s.double.RenewCard(t.Context(), card.ID, int(s.now().Month()), s.now().Year()))
		assert.Zero(t, look(), "looked at a moment ago")
		s.advance(8 * day)
		var group errgroup.Group
		for range 4 {
			group.Go(func() error {
				_, err := s.WarnExpiringCards(t.Context())
				return err
			})
		}
		require.NoError(t, group.Wait())
		require.Equal(t, []billing.NoticeKind{billing.NoticeCardExpiring}, n.kinds(s))
		notice := n.of(s)[0]
		assert.Equal(t, "visa ending in 4242", notice.Description)
		assert.Equal(t, "https://shop.example/billing/payment-methods", notice.URL)
		assert.Contains(t, notice.Reason, ends.AddDate(0, -1, 0).Format("01/2006"))
		s.advance(8 * day)
		assert.Zero(t, look(), "told once")
		require.NoError(t, s.double.RenewCard(t.Context(), card.ID, int(s.now().Month()), s.now().Year()+1))
		s.advance(8 * day)
		assert.Zero(t, look(), "the bank has renewed it")
		s.advance(365 * day)
		assert.Equal(t, 1, look(), "and it ends again")
	}, n.watch)
}

func TestCards_ThatPayNothingAreNobodysBusiness(t *testing.T) {
	n := newNotes()
	run(t, func(t *testing.T, s *shop) {
		s.defaultCard(stripetest.CardSucceeds)
		require.NoError(t, s.double.RenewCard(t.Context(), s.cards()[0].ID, int(s.now().Month()), s.now().Year()))
		told, err := s.WarnExpiringCards(t.Context())
		require.NoError(t, err)
		assert.Zero(t, told)
		s.autoTopUp(5000)
		down := func(r *http.Request) error { return errors.New("no route to host") }
		s.breaks.Store(&down)
		_, err = s.WarnExpiringCards(t.Context())
		require.ErrorIs(t, err, billing.ErrStripe)
		s.breaks.Store(nil)
		told, err = s.WarnExpiringCards(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, told, "what could not be looked at is looked at again")
	}, n.watch)
}

func TestSpending_IsShownWithTheCreditsItBought(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		none, err := s.Spending(t.Context(), ada.Account)
		require.NoError(t, err)
		assert.Empty(t, none)
		p := s.buy(stripetest.CardSucceeds)
		s.buy(stripetest.CardSucceeds)
		_, err = s.refund(p.ID, 500)
		require.NoError(t, err)
		got, err := s.Spending(t.Context(), ada.Account)
		require.NoError(t, err)
		require.Len(t, got, 1)
		assert.Equal(t, billing.Money{Amount: 2000, Currency: "usd"}, got[0].Paid)
		assert.Equal(t, billing.Money{Amount: 500, Currency: "usd"}, got[0].Back)
		assert.Equal(t, []string{"201", "50.25"}, []string{got[0].Credits.String(), got[0].TakenBack.String()})
		for path, want := range map[string]string{
			"/billing/payments":                                   "5.00 USD went back, and 50.25 credits with it",
			"/billing/payments/" + p.ID.String():                  "50.25 credits",
			"/billing/payments/" + p.ID.String() + "/receipt":     "50.25 credits",
			"/billing/payments/" + p.ID.String() + "/receipt.pdf": "50.25 credits",
		} {
			res, body := s.request("GET", path, nil)
			assert.Equal(t, 200, res.StatusCode, path)
			assert.Contains(t, body, want, path)
		}
		_, body := s.request("GET", "/billing/payments", nil, "Accept", "application/json")
		assert.Contains(t, body, `"spending":[{"paid":{"amount":2000`)
	})
}
