package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/webhook"
)

func TestDefaultBackoff_FifteenTriesAreWithinThreeDays(t *testing.T) {
	t.Parallel()
	for range 100 {
		var total time.Duration
		for attempt := 1; attempt < webhook.DefaultMaxAttempts; attempt++ {
			total += webhook.DefaultBackoff(attempt)
		}
		assert.Less(t, total, 72*time.Hour)
		assert.Greater(t, total, 55*time.Hour)
	}
	assert.InDelta(t, 2, webhook.DefaultBackoff(1).Seconds(), 0.2)
	first, second := webhook.DefaultBackoff(9), webhook.DefaultBackoff(9)
	assert.NotEqual(t, first, second, "with jitter")
	assert.InDelta(t, 12, webhook.DefaultBackoff(1000).Hours(), 1.2)
}

func TestProcess_PausesAreThoseOfTheScheduleAndDeadAfterTheLast(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		asked := make(chan int, 10)
		in := newInbox(t, db, func(c *webhook.Config) {
			c.MaxAttempts = 3
			c.Backoff = func(attempt int) time.Duration {
				asked <- attempt
				return time.Duration(attempt) * 20 * time.Millisecond
			}
			c.OnDead = func(context.Context, webhook.Record, error) { panic("an alert that breaks") }
		})
		var tries atomic.Int64
		webhook.On(in.Processor, kind, func(context.Context, *sqlx.Tx, webhook.Event[stripe.CheckoutSession]) error {
			return fmt.Errorf("try %d", tries.Add(1))
		})
		in.start(t)
		require.Equal(t, 200, in.post(event("evt_1", kind, "cs_1")))
		r := in.waitFor(t, "evt_1", webhook.StatusDead)
		assert.Equal(t, 3, r.Attempts)
		assert.Equal(t, webhook.ClassRetry, r.Failure)
		assert.Equal(t, "try …", r.Reason)
		assert.Equal(t, 1, <-asked)
		assert.Equal(t, 2, <-asked)
	})
}

// A handler that hangs keeps one worker, however many events there are about its object.
func TestProcess_HandlerThatHangsBlocksNoOtherObject(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		if db.Dialect() == database.SQLite {
			// SQLite writes one transaction at a time, so there a hanging transaction holds up every writer by nature; what
			// can hang without one is the fetch.
			in := newInbox(t, db, nil)
			release := make(chan struct{})
			webhook.On(in.Processor, kind, effect(db), webhook.WithFetch(func(ctx context.Context, id string) (*stripe.CheckoutSession, error) {
				if id == "cs_hangs" {
					<-release
				}
				return &stripe.CheckoutSession{ID: id}, nil
			}))
			hang(t, in, release)
			return
		}
		in := newInbox(t, db, nil)
		release := make(chan struct{})
		do := effect(db)
		webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
			if ev.ObjectID == "cs_hangs" {
				<-release
			}
			return do(ctx, tx, ev)
		})
		hang(t, in, release)
	})
}

func hang(t *testing.T, in *inbox, release chan struct{}) {
	t.Helper()
	for i := range 30 {
		require.Equal(t, 200, in.post(event(fmt.Sprintf("evt_hangs_%d", i), kind, "cs_hangs")))
	}
	in.start(t)
	for i := range 5 {
		require.Equal(t, 200, in.post(event(fmt.Sprintf("evt_%d", i), kind, fmt.Sprintf("cs_%d", i))))
	}
	for i := range 5 {
		in.waitFor(t, fmt.Sprintf("evt_%d", i), webhook.StatusDone)
	}
	close(release)
	for i := range 30 {
		r := in.waitFor(t, fmt.Sprintf("evt_hangs_%d", i), webhook.StatusDone)
		assert.Equal(t, 1, r.Attempts, "to step aside is no failure")
	}
}

func TestWithFetch_OneReadPerEventHoweverManyHandlers(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, func(c *webhook.Config) {
			c.Backoff = func(int) time.Duration { return 0 }
			c.Accounts = func(context.Context, string) (bool, error) { return true, nil }
		})
		var sessions, customers, handled atomic.Int64
		customer := func(ctx context.Context, id string) (*stripe.Customer, error) {
			return webhook.Cached(ctx, "customer/"+id, func(context.Context) (*stripe.Customer, error) {
				customers.Add(1)
				return &stripe.Customer{ID: id}, nil
			})
		}
		shared := webhook.WithFetch(func(ctx context.Context, id string) (*stripe.CheckoutSession, error) {
			if n := sessions.Add(1); n == 1 {
				return nil, errors.New("Stripe is away")
			}
			c, err := customer(ctx, "cus_1")
			return &stripe.CheckoutSession{ID: id, Customer: c}, err
		})
		other := webhook.WithFetch(func(ctx context.Context, id string) (*stripe.CheckoutSession, error) {
			ev, ok := webhook.FromContext(ctx)
			if !ok || ev.Account != "acct_1" || ev.ObjectID != id {
				return nil, errors.New("a fetch knows its event")
			}
			c, err := customer(ctx, "cus_1")
			return &stripe.CheckoutSession{ID: id, Customer: c}, err
		})
		count := func(_ context.Context, _ *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
			if ev.Object.Customer.ID == "cus_1" && ev.Account == "acct_1" {
				handled.Add(1)
			}
			return nil
		}
		for _, o := range []webhook.Option[stripe.CheckoutSession]{shared, shared, other} {
			webhook.On(in.Processor, kind, count, o)
		}
		in.start(t)
		body := event("evt_1", kind, "cs_1")
		body = append(body[:len(body)-1:len(body)-1], []byte(`,"account":"acct_1"}`)...)
		require.Equal(t, 200, in.post(body))
		in.waitFor(t, "evt_1", webhook.StatusDone)
		assert.Equal(t, int64(3), handled.Load())
		assert.Equal(t, int64(2), sessions.Load(), "once per try")
		assert.Equal(t, int64(1), customers.Load())

		none, err := webhook.Cached(t.Context(), "k", func(context.Context) (int, error) { return 7, nil })
		require.NoError(t, err)
		assert.Equal(t, 7, none, "outside of an event it just reads")
		_, ok := webhook.FromContext(t.Context())
		assert.False(t, ok)
	})
}

func TestPermanent_OfNoErrorIsNone(t *testing.T) {
	t.Parallel()
	require.NoError(t, webhook.Permanent(nil))
	require.NoError(t, webhook.NeedsPerson(nil))
	cause := errors.New("cause")
	require.ErrorIs(t, webhook.NeedsPerson(cause), cause)
}

// A job that is lost, as by a kill, is made anew; one that is not runs its event once all the same.
func TestSweep_OverdueEventsGetANewJob(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, nil)
		webhook.On(in.Processor, kind, effect(db))
		require.Equal(t, 200, in.post(event("evt_1", kind, "cs_1")))
		require.Equal(t, 200, in.post(event("evt_2", kind, "cs_2")))
		kill := database.Query{
			Postgres: `UPDATE river_job SET state = 'running', attempted_at = created_at WHERE args->'events' ? 'evt_1'`,
			SQLite:   `UPDATE river_job SET state = 'running', attempted_at = created_at WHERE json_extract(args, '$.events[0]') = 'evt_1'`,
		}
		res, err := db.Writer().ExecContext(t.Context(), kill.For(db.Dialect()))
		require.NoError(t, err)
		changed, err := res.RowsAffected()
		require.NoError(t, err)
		require.Equal(t, int64(1), changed)
		n, err := in.Sweep(t.Context(), 0)
		require.NoError(t, err)
		assert.Zero(t, n, "it is not overdue yet")
		time.Sleep(2 * time.Millisecond)
		n, err = in.Sweep(t.Context(), time.Millisecond)
		require.NoError(t, err)
		assert.Equal(t, 2, n)
		in.start(t)
		in.waitFor(t, "evt_1", webhook.StatusDone)
		in.waitFor(t, "evt_2", webhook.StatusDone)
		require.Eventually(t, func() bool {
			var open int
			err := db.Get(t.Context(), &open, "SELECT COUNT(*) FROM river_job WHERE state NOT IN ('completed', 'running')")
			return err == nil && open == 0
		}, time.Minute, 10*time.Millisecond)
		assert.Equal(t, 2, in.effects(t))
	})
}
