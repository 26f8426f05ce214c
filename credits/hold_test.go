package credits_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

func reserve(t *testing.T, l *credits.Ledger, amount credits.Amount, ttl time.Duration) credits.Hold {
	t.Helper()
	h, err := l.Reserve(t.Context(), credits.ReserveParams{Account: acc, Amount: amount, TTL: ttl, Reason: "work"})
	require.NoError(t, err)
	return h
}

func TestHold_SetsAsideSettlesAndReturnsTheRest(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Subscription, 5, in(c, day))
		grant(t, l, credits.Purchase, 10, nil)
		h, err := l.Reserve(t.Context(), credits.ReserveParams{Account: acc, Amount: 12, TTL: time.Hour, Reason: "work", Over: credits.OverRefuse})
		require.NoError(t, err)
		b, err := l.Balance(t.Context(), acc)
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(3), b.Available)
		assert.Equal(t, credits.Amount(12), b.Held)
		_, err = l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 4, Reason: "more than is free"})
		require.ErrorIs(t, err, credits.ErrInsufficient)

		_, err = l.Settle(t.Context(), h.ID, 13)
		require.ErrorIs(t, err, credits.ErrOverHold)
		_, err = l.Settle(t.Context(), h.ID, -1)
		require.ErrorIs(t, err, credits.ErrAmountNegative)
		e, err := l.Settle(t.Context(), h.ID, 7)
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(-7), e.Amount)
		assert.Equal(t, credits.Amount(8), e.Available)
		require.Len(t, e.Allocations, 2)
		assert.Equal(t, credits.Amount(-5), e.Allocations[0].Amount, "in the order of use")

		again, err := l.Settle(t.Context(), h.ID, 7)
		require.NoError(t, err)
		assert.Equal(t, e.ID, again.ID)
		_, err = l.Settle(t.Context(), h.ID, 6)
		require.ErrorIs(t, err, credits.ErrHoldSettled)
		require.ErrorIs(t, l.Release(t.Context(), h.ID), credits.ErrHoldSettled)
		assert.Equal(t, credits.Amount(8), available(t, l))

		unknown, err := uuid.NewV7()
		require.NoError(t, err)
		_, err = l.Settle(t.Context(), unknown, 1)
		require.ErrorIs(t, err, credits.ErrHoldNotFound)
		require.ErrorIs(t, l.Release(t.Context(), unknown), credits.ErrHoldNotFound)
	})
}

func TestHold_ReleaseLeavesNoEntry(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, _ *clock) {
		grant(t, l, credits.Purchase, 10, nil)
		h := reserve(t, l, 10, time.Hour)
		require.NoError(t, l.Release(t.Context(), h.ID))
		require.NoError(t, l.Release(t.Context(), h.ID), "twice is once")
		assert.Equal(t, credits.Amount(10), available(t, l))
		_, err := l.Settle(t.Context(), h.ID, 1)
		require.ErrorIs(t, err, credits.ErrHoldReleased)
		history, _, err := l.History(t.Context(), credits.HistoryParams{Account: acc})
		require.NoError(t, err)
		assert.Len(t, history, 1)
	})
}

func TestHold_GivesItselfBackAtItsTime(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Purchase, 10, nil)
		h := reserve(t, l, 10, time.Minute)
		c.Advance(time.Minute)
		b, err := l.Balance(t.Context(), acc)
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(10), b.Available)
		assert.Zero(t, b.Held)
		_, err = l.Settle(t.Context(), h.ID, 1)
		require.ErrorIs(t, err, credits.ErrHoldReleased)
		debit(t, l, 10)
		require.NoError(t, l.Release(t.Context(), h.ID))
		assert.Zero(t, available(t, l))
	})
}

func TestHold_CreditsThatExpireUnderItCanBeSettled(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Subscription, 10, in(c, time.Hour))
		h := reserve(t, l, 6, day)
		c.Advance(2 * time.Hour)
		b, err := l.Balance(t.Context(), acc)
		require.NoError(t, err)
		assert.Zero(t, b.Available)
		assert.Equal(t, credits.Amount(6), b.Held)
		e, err := l.Settle(t.Context(), h.ID, 4)
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(-4), e.Amount)
		b, err = l.Balance(t.Context(), acc)
		require.NoError(t, err)
		assert.Zero(t, b.Available, "what the hold returned had expired")
		history, _, err := l.History(t.Context(), credits.HistoryParams{Account: acc, Kind: credits.KindExpire})
		require.NoError(t, err)
		var sum credits.Amount
		for _, e := range history {
			sum += e.Amount
		}
		assert.Equal(t, credits.Amount(-6), sum)
	})
}
