package services_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/services"
)

func TestCrash_AtEachStep(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection lost")
	// Each hook fails at one step; how the transaction ends is what differs.
	rollBack := func(_ context.Context, tx *sqlx.Tx) error { return errors.Join(lost, tx.Rollback()) }
	fail := func(context.Context, *sqlx.Tx) error { return lost }
	// The transaction dies unnoticed: what follows in it and its commit fail.
	die := func(_ context.Context, tx *sqlx.Tx) error { return tx.Rollback() }
	for name, c := range map[string]struct {
		step  string
		how   func(ctx context.Context, tx *sqlx.Tx) error
		free  bool
		begun bool // the call was recorded, and the work done
	}{
		"before reserving":             {"reserve", fail, false, false},
		"after reserving":              {"reserved", fail, false, false},
		"after reserving, rolled back": {"reserved", rollBack, false, false},
		"between hold and call":        {"reserved", die, false, false},
		"before settling":              {"settle", fail, false, true},
		"after settling":               {"settled", fail, false, true},
		"after settling, rolled back":  {"settled", rollBack, false, true},
		"between charge and outcome":   {"settled", die, false, true},
		"before the zero debit":        {"debit", fail, true, true},
		"after the zero debit":         {"debited", die, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, s *shop) {
				s.grant(ada, "10")
				ran, price := 0, "1"
				if c.free {
					price = "0"
				}
				s.add("echo", price, func(ctx context.Context, call *services.Call, in job) (done, error) {
					ran++
					return echo(ctx, call, in)
				})
				breakAt := func(times int) *atomic.Int64 {
					var hits atomic.Int64
					s.ledger.set(func(ctx context.Context, tx *sqlx.Tx, step string) error {
						if step == c.step && hits.Add(1) <= int64(times) {
							return c.how(ctx, tx)
						}
						return nil
					})
					return &hits
				}
				// For good.
				hits := breakAt(1 << 30)
				_, err := s.Run(t.Context(), params(ada, "echo", "key"))
				require.Error(t, err, "no success without its charge")
				assert.Empty(t, s.debits(ada))
				if !c.begun {
					assert.Zero(t, ran)
					assert.Empty(t, s.calls(ada))
					assert.Equal(t, "10", s.balance(ada))
					assert.EqualValues(t, 1, hits.Load())
				} else {
					require.ErrorIs(t, err, services.ErrOutcomeUnknown)
					assert.Equal(t, "unavailable", code(err))
					assert.EqualValues(t, 5, hits.Load(), "it is tried again within limits")
					_, err = s.Run(t.Context(), params(ada, "echo", "key"))
					assert.Equal(t, "call_in_progress", code(err))
				}
				// The database is back, the time to live over.
				s.ledger.set(nil)
				s.clock.Advance(services.DefaultTimeout + time.Minute)
				assert.Equal(t, "10", s.balance(ada))
				n, err := s.Sweep(t.Context())
				require.NoError(t, err)
				if c.begun {
					assert.Equal(t, 1, n)
					assert.Equal(t, "interrupted", s.calls(ada)[0].ErrorCode)
				} else {
					assert.Zero(t, n)
				}
				// A short trouble is got over by itself, with one charge; a new call begins anew.
				breakAt(2)
				_, err = s.Run(t.Context(), params(ada, "echo", "key"))
				if !c.begun {
					require.Error(t, err)
					s.ledger.set(nil)
					_, err = s.Run(t.Context(), params(ada, "echo", "key"))
				}
				require.NoError(t, err)
				assert.Len(t, s.debits(ada), 1)
				s.ledger.set(nil)
				_, err = s.Run(t.Context(), params(ada, "echo", "key"))
				require.NoError(t, err)
				assert.Len(t, s.debits(ada), 1)
			})
		})
	}
}

func TestCrash_TheOutcomeWasWrittenAndWeDidNotHear(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		for service, price := range map[string]string{"paid": "1", "free": "0"} {
			s.add(service, price, echo)
			var hits atomic.Int64
			s.ledger.set(func(ctx context.Context, tx *sqlx.Tx, step string) error {
				if (step != "settled" && step != "debited") || hits.Add(1) > 1 {
					return nil
				}
				// What the rest of the transaction would do, and then the line goes dead.
				update := `UPDATE qs_service_calls SET status = 'succeeded', charged = price, entry_id = (SELECT id FROM qs_credit_entries
					WHERE account_id = 'ada' ORDER BY seq DESC LIMIT 1), output = '{"echo":"hi"}', finished_at = created_at WHERE status = 'running'`
				if _, err := tx.ExecContext(ctx, update); err != nil {
					return err
				}
				return errors.Join(errors.New("connection lost"), tx.Commit())
			})
			res, err := s.Run(t.Context(), params(ada, service, ""))
			require.NoError(t, err, service)
			assert.Equal(t, price, res.Charged.String())
			assert.EqualValues(t, 2, hits.Load())
		}
		assert.Equal(t, "9", s.balance(ada))
		assert.Len(t, s.debits(ada), 2)
	})
}

func TestCrash_AReleaseThatFailsIsTriedAgain(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.add("fails", "1", func(context.Context, *services.Call, job) (done, error) { return done{}, errors.New("no") })
		var hits atomic.Int64
		s.ledger.set(func(_ context.Context, _ *sqlx.Tx, step string) error {
			if step == "released" && hits.Add(1) < 3 {
				return errors.New("connection lost")
			}
			return nil
		})
		_, err := s.Run(t.Context(), params(ada, "fails", ""))
		assert.Equal(t, "execution_failed", code(err))
		assert.Equal(t, "10", s.balance(ada))
	})
}

func TestSweep_EndsTheCallsOfADeadProcess(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		for _, swept := range []bool{true, false} {
			for _, price := range []string{"1", "0"} {
				account, service := uuid.NewString(), "stuck-"+uuid.NewString()[:8]
				s.grant(account, "1")
				began, release := make(chan struct{}), make(chan struct{})
				s.add(service, price, func(ctx context.Context, call *services.Call, in job) (done, error) {
					close(began)
					<-release
					return echo(ctx, call, in)
				}, services.Timeout(time.Hour))
				result := make(chan error, 1)
				go func() {
					_, err := s.Run(context.Background(), params(account, service, "key"))
					result <- err
				}()
				<-began
				other := s.process()
				addTo(t, other, service, price, echo, services.Timeout(time.Hour))
				n, err := other.Sweep(t.Context())
				require.NoError(t, err)
				assert.Zero(t, n, "it may still be alive")
				s.clock.Advance(time.Hour + time.Minute)
				assert.Equal(t, "1", s.balance(account), "the hold gives itself back")
				if swept {
					n, err = other.Sweep(t.Context())
					require.NoError(t, err)
					assert.Equal(t, 1, n)
					record := s.calls(account)[0]
					assert.Equal(t, services.Failed, record.Status)
					assert.Equal(t, "interrupted", record.ErrorCode)
				}
				_, err = other.Run(t.Context(), params(account, service, "key"))
				require.NoError(t, err, "the key is free again, with the sweep or before it")
				close(release)
				late := <-result
				assert.Equal(t, "interrupted", code(late), "the process was alive after all: its result is kept back, since it cannot be charged")
				assert.Len(t, s.debits(account), 1)
				assert.Len(t, s.calls(account), 2)
			}
		}
	})
}

func TestSweep_OneThatFailsDoesNotStopTheOthers(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "2")
		s.add("echo", "1", echo)
		s.ledger.set(func(_ context.Context, _ *sqlx.Tx, step string) error {
			if step == "settle" {
				return errors.New("connection lost")
			}
			return nil
		})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				_, err := s.Run(t.Context(), params(ada, "echo", ""))
				assert.ErrorIs(t, err, services.ErrOutcomeUnknown)
			})
		}
		wg.Wait()
		s.clock.Advance(time.Hour)
		var hits atomic.Int64
		s.ledger.set(func(_ context.Context, _ *sqlx.Tx, step string) error {
			if step == "release" && hits.Add(1) == 1 {
				return errors.New("connection lost")
			}
			return nil
		})
		n, err := s.Sweep(t.Context())
		require.ErrorContains(t, err, "connection lost")
		assert.Equal(t, 1, n)
		n, err = s.Sweep(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		n, err = s.Sweep(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n)
	})
}
