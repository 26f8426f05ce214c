package billing_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

func TestDispute_TakesCreditsAtOnceAndAWinRestoresThemNetOfRefunds(t *testing.T) {
	n := newNotes()
	run(t, func(t *testing.T, s *shop) {
		p := s.buy(stripetest.CardSucceeds)
		_, err := s.refund(p.ID, 400)
		require.NoError(t, err)
		id, err := s.double.OpenDispute(t.Context(), p.ChargeID, stripetest.DisputeParams{})
		require.NoError(t, err)
		s.quiet()
		assert.Equal(t, "0", s.balance())
		got := s.payment(p.ID)
		assert.Equal(t, int64(600), got.Disputed)
		assert.Zero(t, got.Left())
		_, err = s.refund(p.ID, 100)
		require.ErrorIs(t, err, billing.ErrNotRefundable)
		disputes, more, err := s.Disputes(t.Context(), billing.DisputesParams{Account: ada.Account})
		require.NoError(t, err)
		assert.False(t, more)
		require.Len(t, disputes, 1)
		assert.Equal(t, id, disputes[0].DisputeID)
		assert.NotNil(t, disputes[0].DueBy)
		for i, kind := range []string{"created", "funds_withdrawn", "updated", "created"} {
			require.NoError(t, s.deliver(fmt.Sprintf("evt_dispute_%d", i), "charge.dispute."+kind, id))
		}
		s.quiet()
		assert.Equal(t, "0", s.debt())
		require.NoError(t, s.double.CloseDispute(t.Context(), id, true))
		s.quiet()
		assert.Equal(t, "60.3", s.balance(), "what the refund took stays taken")
		trail, err := s.DisputeTrail(t.Context(), disputes[0].ID)
		require.NoError(t, err)
		require.Len(t, trail, 2, "each step once, however many events tell of it")
		assert.Equal(t, billing.DisputeStep{Status: stripe.DisputeStatusNeedsResponse, Price: billing.Money{Amount: 600, Currency: "usd"}, At: disputes[0].CreatedAt}, trail[0])
		assert.Equal(t, stripe.DisputeStatusWon, trail[1].Status)
		assert.True(t, trail[1].At.After(trail[0].At))
		assert.Equal(t, []billing.NoticeKind{billing.NoticeDisputeOpened, billing.NoticeDisputeWon}, n.kinds(s))
	}, n.watch)
}

func TestDispute_LostIsOwedWhenItWasUsed(t *testing.T) {
	n := newNotes()
	run(t, func(t *testing.T, s *shop) {
		p := s.buy(stripetest.CardSucceeds)
		s.use("100.5")
		id, err := s.double.OpenDispute(t.Context(), p.ChargeID, stripetest.DisputeParams{})
		require.NoError(t, err)
		require.NoError(t, s.double.CloseDispute(t.Context(), id, false))
		s.quiet()
		assert.Equal(t, "100.5", s.debt())
		disputes, _, err := s.Disputes(t.Context(), billing.DisputesParams{})
		require.NoError(t, err)
		assert.Equal(t, stripe.DisputeStatusLost, disputes[0].Status)
		assert.Nil(t, disputes[0].DueBy)
		assert.Contains(t, n.kinds(s), billing.NoticeDisputeLost)
		_, body := s.request("GET", "/billing/payments/"+p.ID.String(), nil)
		assert.Contains(t, body, "Disputed")
	}, n.watch)
}

func TestDispute_AnInquiryMovesNothing(t *testing.T) {
	n := newNotes()
	run(t, func(t *testing.T, s *shop) {
		p := s.buy(stripetest.CardSucceeds)
		_, err := s.double.OpenDispute(t.Context(), p.ChargeID, stripetest.DisputeParams{Inquiry: true})
		require.NoError(t, err)
		s.quiet()
		assert.Equal(t, "100.5", s.balance())
		assert.Equal(t, []billing.NoticeKind{billing.NoticeInquiry}, n.kinds(s))
	}, n.watch)
}
