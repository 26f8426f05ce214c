package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// rate runs work by n callers for d and returns how often it was done in a second.
func rate(ctx context.Context, n int, d time.Duration, work func(ctx context.Context, caller, i int) error) (float64, error) {
	var done atomic.Int64
	began := time.Now()
	end := began.Add(d)
	group, ctx := errgroup.WithContext(ctx)
	for caller := range n {
		group.Go(func() error {
			for i := 0; time.Now().Before(end); i++ {
				if err := work(ctx, caller, i); err != nil {
					return err
				}
				done.Add(1)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return float64(done.Load()) / time.Since(began).Seconds(), nil
}

// contest measures sides one after the other, round after round, so that what slows the machine slows all of them, and
// returns the median rate of each side. A first round is not counted: it prepares statements and warms caches.
func contest(ctx context.Context, rounds int, sides ...func(ctx context.Context) (float64, error)) ([]float64, error) {
	rates := make([][]float64, len(sides))
	for round := range rounds + 1 {
		for i, side := range sides {
			r, err := side(ctx)
			if err != nil {
				return nil, fmt.Errorf("side %d: %w", i+1, err)
			}
			if round > 0 {
				rates[i] = append(rates[i], r)
			}
		}
	}
	medians := make([]float64, len(sides))
	for i, r := range rates {
		medians[i] = median(r)
	}
	return medians, nil
}

func median[T float64 | time.Duration](values []T) T {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

// p50s takes turns between works, n times each, and returns the median duration of each.
func p50s(n int, works ...func() error) ([]time.Duration, error) {
	took := make([][]time.Duration, len(works))
	for range n {
		for i, work := range works {
			began := time.Now()
			if err := work(); err != nil {
				return nil, err
			}
			took[i] = append(took[i], time.Since(began))
		}
	}
	medians := make([]time.Duration, len(works))
	for i := range took {
		medians[i] = median(took[i])
	}
	return medians, nil
}
