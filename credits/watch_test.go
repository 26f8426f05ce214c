package credits_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
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

func TestSetLowAt_TellsOfAnAccountThatIsLowAlready(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, withJobs, func(t *testing.T, db *database.DB) {
		e, err := jobs.New(jobs.Config{DB: db, PollInterval: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		lows := make(chan credits.LowBalance, 10)
		l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader(), Clock: newClock().Now, Jobs: e.Client(),
			OnLow: func(_ context.Context, low credits.LowBalance) error { lows <- low; return nil }})
		require.NoError(t, err)
		require.NoError(t, l.AddWorkers(e.Workers()))
		require.NoError(t, e.Start(t.Context()))
		defer func() { require.NoError(t, e.Stop(context.Background())) }()
		mark := 50 * credits.Credit
		require.NoError(t, l.SetLowAt(t.Context(), acc, &mark))
		select {
		case low := <-lows:
			assert.Equal(t, mark, low.LowAt)
			assert.Zero(t, low.Available)
		case <-time.After(20 * time.Second):
			t.Fatal("nobody was told")
		}
	})
}
