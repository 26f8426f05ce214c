package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/dbtest"
)

// BenchmarkCredits times the ledger beside its baselines, for use with -cpuprofile; the ratios are the command's.
func BenchmarkCredits(b *testing.B) {
	ctx := context.Background()
	given, _, stop, err := dbtest.Durable()
	require.NoError(b, err)
	defer func() { require.NoError(b, stop()) }()
	pool, drop, err := ownDatabase(ctx, given)
	require.NoError(b, err)
	defer func() { require.NoError(b, drop()) }()
	bed, err := newBed(ctx, pool, nil)
	require.NoError(b, err)
	for _, side := range []struct {
		name    string
		callers int
		work    func() error
	}{
		{"many/single statement", clients, func() error { return bed.bare.single(ctx, someAccount()) }},
		{"many/Debit", callers, func() error { return bed.debit(ctx, someAccount()) }},
		{"many/Reserve and Settle", callers, func() error { return bed.reserveAndSettle(ctx, someAccount()) }},
		{"hot/naive", clients, func() error { return bed.bare.naive(ctx, hot) }},
		{"hot/Debit", callers, func() error { return bed.debit(ctx, hot) }},
		{"hot/Reserve and Settle", callers, func() error { return bed.reserveAndSettle(ctx, hot) }},
	} {
		b.Run(side.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(side.callers) // times GOMAXPROCS
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := side.work(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func TestRun_TellsHowToUseIt(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"shoes"}, {"credits", "more"}} {
		require.ErrorContains(t, run(t.Context(), args), "usage: bench SUBJECT")
	}
}

func TestContest_ReturnsTheMedianOfEachSide(t *testing.T) {
	t.Parallel()
	rates := []float64{77, 5, 100, 1}
	round := 0
	got, err := contest(t.Context(), 3,
		func(context.Context) (float64, error) { round++; return rates[round-1], nil },
		func(context.Context) (float64, error) { return 2 * rates[round-1], nil })
	require.NoError(t, err)
	assert.Equal(t, []float64{5, 10}, got)
	broken := errors.New("broken")
	_, err = contest(t.Context(), 1, func(context.Context) (float64, error) { return 0, broken })
	require.ErrorIs(t, err, broken)
}

func TestRate_CountsWhatIsDone(t *testing.T) {
	t.Parallel()
	got, err := rate(t.Context(), 2, 200*time.Millisecond, func(context.Context, int, int) error {
		time.Sleep(10 * time.Millisecond)
		return nil
	})
	require.NoError(t, err)
	assert.Positive(t, got)
	assert.Less(t, got, 201.0, "two callers do a hundred each in a second at most")
	took, err := p50s(3, func() error { time.Sleep(2 * time.Millisecond); return nil })
	require.NoError(t, err)
	assert.GreaterOrEqual(t, took[0], 2*time.Millisecond)
}
