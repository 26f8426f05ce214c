package credits_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
)

var withJobs = dbtest.Schema{Name: "credits and River", Migrate: func(ctx context.Context, db *database.DB) error {
	e, err := jobs.New(jobs.Config{DB: db})
	if err != nil {
		return err
	}
	return errors.Join(e.Migrate(ctx), database.Migrate(ctx, db, credits.Migrations()))
}}

func TestNotify_OncePerCrossing(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, withJobs, func(t *testing.T, db *database.DB) {
		c := newClock()
		e, err := jobs.New(jobs.Config{DB: db, PollInterval: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		lows, soons := make(chan credits.LowBalance, 20), make(chan credits.ExpiringSoon, 20)
		l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader(), Clock: c.Now, Jobs: e.Client(), LowAt: 50,
			OnLow:      func(_ context.Context, low credits.LowBalance) error { lows <- low; return nil },
			OnExpiring: func(_ context.Context, soon credits.ExpiringSoon) error { soons <- soon; return nil }})
		require.NoError(t, err)
		require.NoError(t, l.AddWorkers(e.Workers()))
		require.NoError(t, e.Start(t.Context()))
		defer func() { require.NoError(t, e.Stop(context.Background())) }()

		grant(t, l, credits.Purchase, 30, nil) // never was above
		grant(t, l, credits.Purchase, 30, nil)
		debit(t, l, 5)
		debit(t, l, 6)
		assert.Equal(t, credits.LowBalance{Account: acc, Available: 49, LowAt: 50, At: start}, <-lows)
		debit(t, l, 1)
		grant(t, l, credits.Purchase, 10, nil)
		reserve(t, l, 20, time.Hour)
		assert.Equal(t, credits.Amount(38), (<-lows).Available, "after it was above in between")
		mark := credits.Amount(10)
		require.NoError(t, l.SetLimits(t.Context(), acc, credits.Limits{LowAt: &mark}))
		debit(t, l, 29)
		assert.Equal(t, credits.Amount(10), (<-lows).LowAt)

		n, err := l.WarnExpiring(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n)
		grant(t, l, credits.Bonus, 5, in(c, 6*day))
		grant(t, l, credits.Bonus, 6, in(c, 5*day))
		grant(t, l, credits.Bonus, 7, in(c, 50*day))
		_, err = l.Grant(t.Context(), credits.GrantParams{Account: "other", Amount: 9, Source: credits.Bonus, Reason: "r", ExpiresAt: in(c, day)})
		require.NoError(t, err)
		debit(t, l, 1) // of the lot that expires first, which is the head
		n, err = l.WarnExpiring(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 2, n)
		got := map[string]credits.Amount{}
		for range 2 {
			soon := <-soons
			got[soon.Account] = soon.Amount
		}
		assert.Equal(t, map[string]credits.Amount{acc: 10, "other": 9}, got)
		n, err = l.WarnExpiring(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n, "each lot is told of once")
		c.Advance(44 * day)
		n, err = l.WarnExpiring(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		assert.Equal(t, credits.Amount(7), (<-soons).Amount)
		assert.Empty(t, lows)
		check(t, db)
	})
}

func TestPeriodicJobs_SweepAndSeal(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, withJobs, func(t *testing.T, db *database.DB) {
		c := newClock()
		e, err := jobs.New(jobs.Config{DB: db, PollInterval: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader(), Clock: c.Now, Jobs: e.Client()})
		require.NoError(t, err)
		require.NoError(t, l.AddWorkers(e.Workers()))
		grant(t, l, credits.Bonus, 5, in(c, day))
		c.Advance(day)
		e.Client().PeriodicJobs().AddMany(l.PeriodicJobs())
		require.NoError(t, e.Start(t.Context()))
		require.Eventually(t, func() bool {
			var expired, sealed int
			require.NoError(t, db.Get(t.Context(), &expired, `SELECT COUNT(*) FROM qs_credit_entries WHERE kind = 'expire'`))
			require.NoError(t, db.Get(t.Context(), &sealed, `SELECT COUNT(*) FROM qs_credit_seals`))
			return expired == 1 && sealed > 0
		}, 20*time.Second, 20*time.Millisecond)
		require.NoError(t, e.Stop(context.Background()))
	})
}
