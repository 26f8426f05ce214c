package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
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

// runs are the handlers' runs, in the order in which they began.
type runs struct {
	mu   sync.Mutex
	list []run
}

type run struct {
	event, object string
	tx            *sqlx.Tx
}

// begin notes a run, and returns how many there were of the event and in the transaction, this one included.
func (r *runs) begin(tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) (ofEvent, inTx int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, run{ev.ID, ev.ObjectID, tx})
	for _, one := range r.list {
		if one.event == ev.ID {
			ofEvent++
		}
		if one.tx == tx {
			inTx++
		}
	}
	return ofEvent, inTx
}

func (r *runs) transactions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[*sqlx.Tx]bool{}
	for _, one := range r.list {
		all[one.tx] = true
	}
	return len(all)
}

// oneJob makes one job of all that waits, instead of the jobs that there are.
func (in *inbox) oneJob(ctx context.Context) error {
	if _, err := in.db.Writer().ExecContext(ctx, "DELETE FROM river_job"); err != nil {
		return err
	}
	time.Sleep(time.Millisecond) // overdue is what was due before
	_, err := in.Sweep(ctx, time.Nanosecond)
	return err
}

// postBatch stores n events, evt_0 and so on, about as many objects, in one job.
func (in *inbox) postBatch(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		require.Equal(t, 200, in.post(event(fmt.Sprintf("evt_%d", i), kind, fmt.Sprintf("cs_%d", i))))
	}
	require.NoError(t, in.oneJob(t.Context()))
}

// runBatch starts the engine and sees to it that n events are in one batch. In between, all of them have been read.
func (in *inbox) runBatch(t *testing.T, n int, between func()) {
	t.Helper()
	release := in.HoldWriters()
	in.start(t)
	require.Eventually(t, func() bool { return in.Lobby() == n }, time.Minute, time.Millisecond)
	if between != nil {
		between()
	}
	release()
}

func TestBatch_EventsAboutDifferentObjectsShareATransaction(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, nil)
		var all runs
		do := effect(db)
		webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
			all.begin(tx, ev)
			return do(ctx, tx, ev)
		})
		require.Equal(t, 200, in.post(event("evt_ignored", "some.other", "x_0")))
		in.postBatch(t, 15)
		in.runBatch(t, 16, nil)
		for i := range 15 {
			r := in.waitFor(t, fmt.Sprintf("evt_%d", i), webhook.StatusDone)
			assert.Equal(t, 1, r.Attempts)
			assert.NotNil(t, r.ProcessedAt)
		}
		in.waitFor(t, "evt_ignored", webhook.StatusIgnored)
		assert.Equal(t, 15, in.effects(t))
		assert.Equal(t, 1, all.transactions())
		s, err := in.Stats(t.Context(), webhook.StatsParams{})
		require.NoError(t, err)
		assert.Less(t, s.Lag.P50, time.Minute)
	})
}

func TestBatch_OfOneGivesEachEventItsOwnTransaction(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, func(c *webhook.Config) { c.Batch = 1 })
		var all runs
		do := effect(db)
		webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
			all.begin(tx, ev)
			return do(ctx, tx, ev)
		})
		in.postBatch(t, 12)
		in.start(t)
		for i := range 12 {
			in.waitFor(t, fmt.Sprintf("evt_%d", i), webhook.StatusDone)
		}
		assert.Equal(t, 12, in.effects(t))
		assert.Equal(t, 12, all.transactions())
	})
}

// What goes wrong in a batch falls on the event that it is about. All others take effect once, with one try.
func TestBatch_AFaultFallsOnItsOwnEvent(t *testing.T) {
	t.Parallel()
	const count, faulty = 6, "evt_3"
	type session = webhook.Event[stripe.CheckoutSession]
	for name, c := range map[string]struct {
		fault  func(ctx context.Context, db *database.DB, tx *sqlx.Tx, ofEvent int, released <-chan struct{}) error
		status webhook.Status
		error  string
		stuck  bool // its end comes after the others', once released
	}{
		"an error": {
			fault: func(context.Context, *database.DB, *sqlx.Tx, int, <-chan struct{}) error {
				return errors.New("not today")
			},
			status: webhook.StatusReceived, error: "not today",
		},
		"a permanent error": {
			fault: func(context.Context, *database.DB, *sqlx.Tx, int, <-chan struct{}) error {
				return webhook.Permanent(errors.New("makes no sense"))
			},
			status: webhook.StatusDead, error: "makes no sense",
		},
		"a panic": {
			fault:  func(context.Context, *database.DB, *sqlx.Tx, int, <-chan struct{}) error { panic("boom") },
			status: webhook.StatusReceived, error: "boom",
		},
		"a statement that the database refuses": {
			fault: func(ctx context.Context, db *database.DB, tx *sqlx.Tx, _ int, _ <-chan struct{}) error {
				_, err := db.ExecTx(ctx, tx, "INSERT INTO effects (event, object) VALUES (NULL, NULL)")
				return err
			},
			status: webhook.StatusReceived, error: "effects",
		},
		"a commit that fails": {
			fault: func(ctx context.Context, db *database.DB, tx *sqlx.Tx, _ int, _ <-chan struct{}) error {
				_, err := db.ExecTx(ctx, tx, "INSERT INTO children (parent) VALUES (7)")
				return err
			},
			status: webhook.StatusReceived, error: "commit",
		},
		"its goroutine ends in a batch": {
			fault: func(_ context.Context, _ *database.DB, _ *sqlx.Tx, ofEvent int, _ <-chan struct{}) error {
				if ofEvent == 1 {
					runtime.Goexit()
				}
				return nil
			},
			status: webhook.StatusDone,
		},
		"slower than a batch may be": {
			fault: func(ctx context.Context, _ *database.DB, _ *sqlx.Tx, ofEvent int, _ <-chan struct{}) error {
				if ofEvent == 1 {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			},
			status: webhook.StatusDone,
		},
		"blocks and heeds nothing": {
			fault: func(_ context.Context, _ *database.DB, _ *sqlx.Tx, ofEvent int, released <-chan struct{}) error {
				if ofEvent == 1 {
					<-released
				}
				return nil
			},
			status: webhook.StatusDone, stuck: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
				for _, statement := range []string{
					"CREATE TABLE parents (id INTEGER PRIMARY KEY)",
					"CREATE TABLE children (parent INTEGER NOT NULL REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
				} {
					_, err := db.Writer().ExecContext(t.Context(), statement)
					require.NoError(t, err)
				}
				in := newInbox(t, db, func(c *webhook.Config) { c.Backoff = func(int) time.Duration { return time.Hour } })
				var all runs
				released := make(chan struct{})
				do := effect(db)
				webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev session) error {
					ofEvent, _ := all.begin(tx, ev)
					if err := do(ctx, tx, ev); err != nil || ev.ID != faulty {
						return err
					}
					return c.fault(ctx, db, tx, ofEvent, released)
				})
				in.postBatch(t, count)
				in.runBatch(t, count, nil)
				for i := range count {
					if id := fmt.Sprintf("evt_%d", i); id != faulty {
						assert.Equal(t, 1, in.waitFor(t, id, webhook.StatusDone).Attempts)
					}
				}
				if c.stuck {
					in.waitFor(t, faulty, webhook.StatusReceived)
					assert.Equal(t, count-1, in.effects(t))
					require.Equal(t, 200, in.post(event("evt_later", kind, "cs_later")), "the inbox goes on")
					in.waitFor(t, "evt_later", webhook.StatusDone)
				}
				close(released)
				require.Eventually(t, func() bool {
					r, err := in.Find(t.Context(), faulty)
					return err == nil && r.Status == c.status && r.Attempts == 1 && strings.Contains(r.LastError, c.error)
				}, time.Minute, 10*time.Millisecond)
				want := count
				if c.status != webhook.StatusDone {
					want--
				}
				if c.stuck {
					want++
				}
				assert.Equal(t, want, in.effects(t))
				assert.Positive(t, all.transactions()-1, "it was in a batch, and then by itself")
			})
		})
	}
}

// One of a batch's objects changed after it was read: that event reads again, and all take effect once.
func TestBatch_StaleReadIsReadAgain(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, nil)
		var all runs
		do := effect(db)
		var mu sync.Mutex
		reads := map[string]int{}
		webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
			all.begin(tx, ev)
			if ev.ID == "evt_2" && ev.Object.AmountTotal != 2 {
				return errors.New("stale")
			}
			return do(ctx, tx, ev)
		}, webhook.WithFetch(func(_ context.Context, id string) (*stripe.CheckoutSession, error) {
			mu.Lock()
			defer mu.Unlock()
			reads[id]++
			return &stripe.CheckoutSession{ID: id, AmountTotal: int64(reads[id])}, nil
		}))
		in.postBatch(t, 5)
		in.runBatch(t, 5, func() {
			_, err := db.Writer().ExecContext(t.Context(), db.Rebind(`INSERT INTO qs_webhook_objects (id, effects, touched_at) VALUES ('cs_2', 1, ?)`), database.At(time.Now()))
			require.NoError(t, err)
		})
		for i := range 5 {
			assert.Equal(t, 1, in.waitFor(t, fmt.Sprintf("evt_%d", i), webhook.StatusDone).Attempts)
		}
		assert.Equal(t, 5, in.effects(t))
		assert.Equal(t, map[string]int{"cs_0": 1, "cs_1": 1, "cs_2": 2, "cs_3": 1, "cs_4": 1}, reads)
		assert.Len(t, all.list, 5, "no handler ran on a stale read, nor in the batch that had one")
	})
}

// The batch is committed and the answer says otherwise: the events are found marked, and run no more.
func TestBatch_LostAnswerToTheCommitRunsNothingTwice(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		const count = 6
		in := newInbox(t, db, nil)
		var all runs
		do := effect(db)
		webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
			_, inTx := all.begin(tx, ev)
			if err := do(ctx, tx, ev); err != nil || inTx < count {
				return err
			}
			// The driver finds no transaction to commit after this, which is an error.
			_, err := tx.ExecContext(ctx, "COMMIT")
			return err
		})
		in.postBatch(t, count)
		in.runBatch(t, count, nil)
		for i := range count {
			assert.Equal(t, 1, in.waitFor(t, fmt.Sprintf("evt_%d", i), webhook.StatusDone).Attempts)
		}
		require.Eventually(t, func() bool {
			var open int
			err := db.Get(t.Context(), &open, "SELECT COUNT(*) FROM river_job WHERE state <> 'completed'")
			return err == nil && open == 0
		}, time.Minute, 10*time.Millisecond)
		assert.Equal(t, count, in.effects(t))
		assert.Len(t, all.list, count)
		assert.Contains(t, in.log.String(), "batch undone", "the answer was an error")
	})
}

// Somebody else keeps an object locked: only its own event waits. SQLite, with one writer at a time, has no such case.
func TestBatch_LockedObjectHoldsUpItsOwnEventOnly(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t, schema)
	in := newInbox(t, db, nil)
	webhook.On(in.Processor, kind, effect(db))
	in.postBatch(t, 6)
	other, err := db.Writer().BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	_, err = other.ExecContext(t.Context(), `INSERT INTO qs_webhook_objects (id, effects, touched_at) VALUES ('cs_4', 1, now())`)
	require.NoError(t, err)
	in.runBatch(t, 6, nil)
	for _, i := range []int{0, 1, 2, 3, 5} {
		assert.Equal(t, 1, in.waitFor(t, fmt.Sprintf("evt_%d", i), webhook.StatusDone).Attempts)
	}
	assert.Equal(t, 5, in.effects(t))
	require.NoError(t, other.Commit())
	assert.Equal(t, 1, in.waitFor(t, "evt_4", webhook.StatusDone).Attempts)
	assert.Equal(t, 6, in.effects(t))
}

// Two batches lock two accounts in opposite order, each after the other has its first.
func TestBatch_DeadlockOfTwoBatchesIsResolved(t *testing.T) {
	t.Parallel()
	db := dbtest.Postgres(t, schema)
	_, err := db.Writer().ExecContext(t.Context(), "CREATE TABLE accounts (id TEXT PRIMARY KEY, n INTEGER NOT NULL); INSERT INTO accounts VALUES ('a', 0), ('b', 0)")
	require.NoError(t, err)
	in := newInbox(t, db, func(c *webhook.Config) { c.Batch = 2 })
	var mu sync.Mutex
	orders := map[*sqlx.Tx][]string{}
	var both sync.WaitGroup
	both.Add(2)
	do := effect(db)
	webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
		mu.Lock()
		order, second := orders[tx]
		if !second {
			order = [][]string{{"a", "b"}, {"b", "a"}}[len(orders)%2]
		}
		orders[tx] = order[1:]
		first := len(orders) <= 2 && !second
		mu.Unlock()
		if _, err := tx.ExecContext(ctx, "UPDATE accounts SET n = n + 1 WHERE id = $1", order[0]); err != nil {
			return err
		}
		if first {
			both.Done()
			both.Wait()
		}
		return do(ctx, tx, ev)
	})
	in.postBatch(t, 4)
	in.runBatch(t, 4, nil)
	for i := range 4 {
		assert.Equal(t, 1, in.waitFor(t, fmt.Sprintf("evt_%d", i), webhook.StatusDone).Attempts)
	}
	assert.Equal(t, 4, in.effects(t))
	var sum int
	require.NoError(t, db.Get(t.Context(), &sum, "SELECT SUM(n) FROM accounts"))
	assert.Equal(t, 4, sum)
	assert.Contains(t, in.log.String(), "batch undone")
}

// A job's events about one object take effect in the order of their arrival, whatever they share transactions with.
func TestBatch_OneObjectsEventsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, nil)
		var all runs
		do := effect(db)
		webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
			all.begin(tx, ev)
			return do(ctx, tx, ev)
		})
		const count, objects = 60, 6
		for i := range count {
			require.Equal(t, 200, in.post(event(fmt.Sprintf("evt_%02d", i), kind, fmt.Sprintf("cs_%d", i%objects))))
		}
		require.NoError(t, in.oneJob(t.Context()))
		in.start(t)
		for i := range count {
			in.waitFor(t, fmt.Sprintf("evt_%02d", i), webhook.StatusDone)
		}
		last := map[string]string{}
		for _, r := range all.list {
			assert.Greater(t, r.event, last[r.object])
			last[r.object] = r.event
		}
		assert.Len(t, all.list, count)
		assert.Equal(t, count, in.effects(t))
	})
}

// Two processes race for the same events, each of which has two jobs.
func TestBatch_TwoProcessesOnTheSameEvents(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		const count, objects = 120, 40
		first, second := newInbox(t, db, nil), newInbox(t, db, nil)
		for _, in := range []*inbox{first, second} {
			webhook.On(in.Processor, kind, effect(db), webhook.WithFetch(func(_ context.Context, id string) (*stripe.CheckoutSession, error) {
				return &stripe.CheckoutSession{ID: id}, nil
			}))
		}
		for i := range count {
			require.Equal(t, 200, first.post(event(fmt.Sprintf("evt_%d", i), kind, fmt.Sprintf("cs_%d", i%objects))))
		}
		for range 2 {
			time.Sleep(2 * time.Millisecond)
			n, err := first.Sweep(t.Context(), time.Millisecond)
			require.NoError(t, err)
			require.Equal(t, count, n)
		}
		first.start(t)
		second.start(t)
		require.Eventually(t, func() bool {
			b, err := first.Backlog(t.Context())
			return err == nil && b.Waiting == 0
		}, 2*time.Minute, 20*time.Millisecond)
		var most int
		require.NoError(t, db.Get(t.Context(), &most, "SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM effects GROUP BY event) AS counts"))
		assert.Equal(t, 1, most)
		assert.Equal(t, count, first.effects(t))
		page, _, err := first.List(t.Context(), webhook.ListParams{Limit: count})
		require.NoError(t, err)
		for _, r := range page {
			assert.Equal(t, 1, r.Attempts)
		}
	})
}
