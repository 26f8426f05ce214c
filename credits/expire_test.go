package credits_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

// The original let the spending of an expired subscription grant fall on purchased credits.
func TestExpiry_SpentSubscriptionCreditsTakeNothingElseAlong(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Purchase, 500, nil)
		grant(t, l, credits.Subscription, 1000, in(c, 30*day))
		debit(t, l, 900)
		c.Advance(30 * day)
		assert.Equal(t, credits.Amount(500), available(t, l), "no job has run")
		e := debit(t, l, 1)
		assert.Equal(t, credits.Amount(499), e.Balance)
		history, _, err := l.History(t.Context(), credits.HistoryParams{Account: acc, Kind: credits.KindExpire})
		require.NoError(t, err)
		require.Len(t, history, 1)
		assert.Equal(t, credits.Amount(-100), history[0].Amount)
		assert.Equal(t, credits.Subscription, history[0].Source)
	})
}

func TestExpiry_CountsToTheMicrosecond(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		grant(t, l, credits.Bonus, 10, in(c, time.Hour))
		c.Advance(time.Hour - time.Microsecond)
		assert.Equal(t, credits.Amount(10), available(t, l))
		c.Advance(time.Microsecond)
		assert.Zero(t, available(t, l))
		_, err := l.Debit(t.Context(), credits.DebitParams{Account: acc, Amount: 1, Reason: "late"})
		require.ErrorIs(t, err, credits.ErrInsufficient)
	})
}

func TestExpire_SweepsAllAccountsOnce(t *testing.T) {
	run(t, func(t *testing.T, _ *database.DB, l *credits.Ledger, c *clock) {
		for i := range 130 {
			_, err := l.Grant(t.Context(), credits.GrantParams{Account: fmt.Sprintf("a%03d", i), Amount: 5, Source: credits.Bonus, Reason: "r", ExpiresAt: in(c, day)})
			require.NoError(t, err)
		}
		grant(t, l, credits.Purchase, 1, nil)
		n, err := l.Expire(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n)
		c.Advance(day)
		n, err = l.Expire(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 130, n)
		n, err = l.Expire(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n)
	})
}
