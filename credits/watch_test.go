package credits_test

import (
	"context"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

func TestSetLowAt_LeavesTheOtherLimitsAndGoesWithItsTransaction(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		l := newLedger(t, db, newClock())
		day, mark := credits.Amount(70), credits.Amount(20)
		require.NoError(t, l.SetLimits(t.Context(), acc, credits.Limits{PerDay: &day}))
		require.NoError(t, l.SetLowAt(t.Context(), acc, &mark))
		limits, _, err := l.Limits(t.Context(), acc)
		require.NoError(t, err)
		assert.Equal(t, credits.Limits{PerDay: &day, LowAt: &mark}, limits)
		undone := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			require.NoError(t, l.SetLowAtTx(ctx, tx, acc, nil))
			return assert.AnError
		})
		require.ErrorIs(t, undone, assert.AnError)
		limits, _, err = l.Limits(t.Context(), acc)
		require.NoError(t, err)
		assert.Equal(t, &mark, limits.LowAt)
		require.NoError(t, l.SetLowAt(t.Context(), acc, nil))
		limits, _, err = l.Limits(t.Context(), acc)
		require.NoError(t, err)
		assert.Equal(t, credits.Limits{PerDay: &day}, limits)
		wrong := credits.Amount(-1)
		require.ErrorIs(t, l.SetLowAt(t.Context(), acc, &wrong), credits.ErrAmountNegative)
		require.ErrorIs(t, l.SetLowAt(t.Context(), "", &mark), credits.ErrAccountRequired)
	})
}
