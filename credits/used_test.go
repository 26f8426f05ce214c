package credits_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

func TestUsed_IsNeitherLeftNorExpiredNorRevoked(t *testing.T) {
	run(t, func(t *testing.T, db *database.DB, l *credits.Ledger, c *clock) {
		used := func(grant uuid.UUID) (amount credits.Amount) {
			t.Helper()
			require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) (err error) {
				amount, err = l.UsedTx(ctx, tx, acc, grant)
				return err
			}))
			return amount
		}
		month := grant(t, l, credits.Subscription, 100, in(c, day))
		pack := grant(t, l, credits.Purchase, 100, nil)
		assert.Zero(t, used(month.ID))
		debit(t, l, 30)
		_, err := l.Revoke(t.Context(), credits.RevokeParams{Account: acc, Grant: month.ID, Amount: 20, Reason: "refund"})
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(30), used(month.ID))
		hold, err := l.Reserve(t.Context(), credits.ReserveParams{Account: acc, Amount: 10, Reason: "job", TTL: time.Hour})
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(40), used(month.ID), "what is held, too")
		require.NoError(t, l.Release(t.Context(), hold.ID))
		c.Advance(2 * day)
		_, err = l.Expire(t.Context())
		require.NoError(t, err)
		assert.Equal(t, credits.Amount(30), used(month.ID), "40 have expired")
		debit(t, l, 5)
		assert.Equal(t, credits.Amount(5), used(pack.ID))
		assert.Zero(t, used(uuid.New()))
	})
}
