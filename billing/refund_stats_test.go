package billing_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

func (s *shop) refundBy(staff string, p billing.Payment, amount int64) {
	s.t.Helper()
	_, err := s.Refund(s.t.Context(), billing.RefundParams{Payment: p.ID, Amount: amount, Reason: billing.ReasonDuplicate, Note: "twice", Staff: staff})
	require.NoError(s.t, err)
}

func kinds(patterns []billing.Pattern) map[billing.PatternKind]billing.Pattern {
	found := map[billing.PatternKind]billing.Pattern{}
	for _, p := range patterns {
		found[p.Kind] = p
	}
	return found
}

func TestRefundStats_RatesReasonsPeopleAndWhatIsUnusual(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		span := func() billing.RefundStatsParams {
			return billing.RefundStatsParams{From: s.now().Add(-20 * day), To: s.now().Add(time.Minute), History: s.ledger.History}
		}
		p := s.buy(stripetest.CardSucceeds)
		s.refundBy("sue", p, 100)
		stats, err := s.RefundStats(t.Context(), span())
		require.NoError(t, err)
		assert.Empty(t, stats.Patterns, "one refund of what was not used is nothing unusual")
		require.Len(t, stats.Rates, 1)
		assert.InDelta(t, 0.1, stats.Rates[0].ByMoney(), 1e-9)
		assert.InDelta(t, 1.0, stats.Rates[0].ByCount(), 1e-9)

		s.use("1")
		for range 5 {
			s.refundBy("bob", p, 100)
		}
		second := s.buy(stripetest.CardRefundPends)
		s.refundBy("sue", second, 0)
		refunds, _, err := s.Refunds(t.Context(), billing.RefundsParams{Payment: second.ID})
		require.NoError(t, err)
		require.NoError(t, s.double.FailRefund(t.Context(), refunds[0].RefundID, "declined"))
		s.quiet()
		stats, err = s.RefundStats(t.Context(), span())
		require.NoError(t, err)
		assert.Equal(t, int64(1), stats.Failed)
		assert.Equal(t, []billing.RefundRate{{Currency: "usd", Payments: 2, Paid: billing.Money{Amount: 2000, Currency: "usd"}, Refunds: 6,
			Refunded: billing.Money{Amount: 600, Currency: "usd"}}}, stats.Rates)
		assert.Equal(t, []billing.RefundShare{{Name: "duplicate", Refunds: 6, Refunded: billing.Money{Amount: 600, Currency: "usd"}}}, stats.Reasons)
		assert.Equal(t, "bob", stats.Staff[0].Name)
		assert.Equal(t, int64(5), stats.Staff[0].Refunds)
		assert.Equal(t, int64(1), stats.Staff[1].Refunds)
		sum := int64(0)
		for _, d := range stats.Days {
			sum += d.Refunds
		}
		assert.Equal(t, int64(6), sum)
		found := kinds(stats.Patterns)
		assert.Equal(t, billing.Pattern{Kind: billing.PatternStaff, Who: "bob", Refunds: 5, Usual: 1}, found[billing.PatternStaff])
		assert.Equal(t, s.me.Account, found[billing.PatternAccount].Who)
		assert.Contains(t, found, billing.PatternAfterUse)
		assert.Contains(t, found, billing.PatternSpike)

		params := span()
		params.History = nil
		stats, err = s.RefundStats(t.Context(), params)
		require.NoError(t, err)
		assert.NotContains(t, kinds(stats.Patterns), billing.PatternAfterUse)
		params.From, params.To = params.To.Add(day), params.To.Add(2*day)
		stats, err = s.RefundStats(t.Context(), params)
		require.NoError(t, err)
		assert.Empty(t, stats.Rates)
		assert.Empty(t, stats.Patterns)
		params.From = params.To
		_, err = s.RefundStats(t.Context(), params)
		require.ErrorIs(t, err, billing.ErrStatsSpan)
		params.From = params.To.Add(-400 * day)
		_, err = s.RefundStats(t.Context(), params)
		require.ErrorIs(t, err, billing.ErrStatsSpan)
	})
}

func TestRefund_OfWhatHasChangedSinceThePreviewDoesNothing(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		p := s.buy(stripetest.CardSucceeds)
		params := billing.RefundParams{Payment: p.ID, Amount: 300, Left: 1000, Reason: billing.ReasonRequested, Note: "x", Staff: "sue"}
		_, err := s.Refund(t.Context(), params)
		require.NoError(t, err)
		_, err = s.Refund(t.Context(), params)
		require.ErrorIs(t, err, billing.ErrRefundChanged)
		s.quiet()
		assert.Equal(t, int64(300), s.payment(p.ID).Refunded)
	})
}

func TestParseMoney_IsExact(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, currency string
		amount         int64
		ok             bool
	}{
		{"12.5", "usd", 1250, true},
		{"12", "usd", 1200, true},
		{" 0.01 ", "usd", 1, true},
		{"0.001", "kwd", 1, true},
		{"500", "jpy", 500, true},
		{"500.5", "jpy", 0, false},
		{"0.001", "usd", 0, false},
		{"0", "usd", 0, false},
		{"-1", "usd", 0, false},
		{"1e3", "usd", 0, false},
		{".5", "usd", 0, false},
		{"", "usd", 0, false},
		{"1,50", "usd", 0, false},
		{"99999999999999999999", "usd", 0, false},
	} {
		m, ok := billing.ParseMoney(c.text, c.currency)
		assert.Equal(t, c.ok, ok, c.text)
		if c.ok {
			assert.Equal(t, c.amount, m.Amount, c.text)
			again, ok := billing.ParseMoney(m.Number(), c.currency)
			assert.True(t, ok)
			assert.Equal(t, m, again)
		}
	}
}

func TestReconcileAndKeep_TheReportCanBeRead(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		p := s.buy(stripetest.CardRefundPends)
		_, err := s.ReconcileAndKeep(t.Context())
		require.NoError(t, err)
		r, err := s.refund(p.ID, 0)
		require.NoError(t, err)
		s.quiet()
		s.lose(1, 1)
		require.NoError(t, s.double.FailRefund(t.Context(), r.RefundID, "declined"))
		done, err := s.ReconcileAndKeep(t.Context())
		require.NoError(t, err)
		runs, err := s.Runs(t.Context(), 1)
		require.NoError(t, err)
		require.Len(t, runs, 1)
		assert.Equal(t, done.ID, runs[0].ID)
		assert.Equal(t, 1, runs[0].Repaired)
		assert.NotNil(t, runs[0].FinishedAt)
		items, err := s.RunItems(t.Context(), done.ID)
		require.NoError(t, err)
		assert.Equal(t, []billing.RunItem{{Kind: "refund", Object: r.RefundID, Before: "pending", After: "failed"}}, items)
	})
}
