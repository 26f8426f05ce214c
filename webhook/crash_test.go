package webhook_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/webhook"
)

// What tells a copy of the test binary where it is to be killed, and on which database it works.
const (
	crashPoint = "QUICKSCALE_WEBHOOK_CRASH"
	crashURL   = "QUICKSCALE_WEBHOOK_CRASH_URL"
)

// The points.
const (
	dieBeforeStored = "after the inserts, before their commit"
	dieAfterStored  = "after the event is stored, before its answer"
	dieInEffect     = "after the effect, before the mark commits"
	dieInBatch      = "in the middle of a batch"
	dieAfterMark    = "after the mark, before River notes the job"
	dieNever        = "work until killed from outside"
)

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// crash is the main function of such a copy. It never returns in peace: the point is reached, or something is wrong.
func crash() {
	if err := crashAt(os.Getenv(crashPoint), os.Getenv(crashURL)); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(3)
}

// deadlyJobs dies once the job is inserted.
type deadlyJobs struct{ webhook.Jobs }

func (j deadlyJobs) InsertTx(ctx context.Context, tx *sql.Tx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error) {
	if _, err := j.Jobs.InsertTx(ctx, tx, args, opts); err != nil {
		return nil, err
	}
	die()
	return nil, errors.New("still alive")
}

func crashAt(point, url string) error {
	ctx := context.Background()
	db, err := database.Open(ctx, url)
	if err != nil {
		return err
	}
	engine, err := jobs.New(jobs.Config{DB: db, PollInterval: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	cfg := webhook.Config{DB: db.Writer(), ReadDB: db.Reader(), Jobs: engine.Client(), Secrets: []string{secret}, Logger: slog.New(slog.DiscardHandler)}
	if point == dieBeforeStored {
		cfg.Jobs = deadlyJobs{engine.Client()}
	}
	p, err := webhook.New(cfg)
	if err != nil {
		return err
	}
	do := effect(db)
	var all runs
	webhook.On(p, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
		if err := do(ctx, tx, ev); err != nil {
			return err
		}
		if _, inTx := all.begin(tx, ev); point == dieInEffect || point == dieInBatch && inTx == crashBatch/2 {
			die()
		}
		return nil
	})
	if err := p.AddWorkers(engine.Workers()); err != nil {
		return err
	}
	if point == dieInBatch {
		return crashInBatch(ctx, &inbox{Processor: p, db: db, engine: engine})
	}
	if point != dieNever {
		in := &inbox{Processor: p}
		if code := in.post(event("evt_1", kind, "cs_1")); code != 200 {
			return fmt.Errorf("status %d", code)
		}
	}
	if point == dieAfterStored {
		die()
	}
	if err := engine.Start(ctx); err != nil {
		return err
	}
	for {
		time.Sleep(time.Millisecond)
		if r, err := p.Find(ctx, "evt_1"); point == dieAfterMark && err == nil && r.Status == webhook.StatusDone {
			die()
		}
	}
}

// crashBatch is how many events the batch has that is killed.
const crashBatch = 8

func crashInBatch(ctx context.Context, in *inbox) error {
	for i := range crashBatch {
		if code := in.post(event(fmt.Sprintf("evt_%d", i), kind, fmt.Sprintf("cs_%d", i))); code != 200 {
			return fmt.Errorf("status %d", code)
		}
	}
	release := in.HoldWriters()
	if err := errors.Join(in.oneJob(ctx), in.engine.Start(ctx)); err != nil {
		return err
	}
	for in.Lobby() < crashBatch {
		time.Sleep(time.Millisecond)
	}
	release()
	select {}
}

// startCopy runs a copy of the test binary.
func startCopy(t *testing.T, point, url string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), crashPoint+"="+point, crashURL+"="+url)
	c.Stderr = os.Stderr
	require.NoError(t, c.Start())
	return c
}

func waitKilled(t *testing.T, c *exec.Cmd) {
	t.Helper()
	exit, ok := errors.AsType[*exec.ExitError](c.Wait())
	require.True(t, ok)
	status, ok := exit.Sys().(syscall.WaitStatus)
	require.True(t, ok && status.Signaled() && status.Signal() == syscall.SIGKILL, "%v", exit)
}

func eachURL(t *testing.T, fn func(t *testing.T, url string)) {
	t.Helper()
	for name, url := range map[string]func(testing.TB, dbtest.Schema) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fn(t, url(t, schema))
		})
	}
}

func openURL(t *testing.T, url string) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// Wherever a process is killed, Stripe's next delivery and the next process bring the effect about, once.
func TestKill_AtAnyPointTheEffectHappensOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		point           string
		stored, effects int // what the killed process left
	}{
		{dieBeforeStored, 0, 0}, {dieAfterStored, 1, 0}, {dieInEffect, 1, 0}, {dieAfterMark, 1, 1},
	} {
		t.Run(c.point, func(t *testing.T) {
			t.Parallel()
			eachURL(t, func(t *testing.T, url string) {
				waitKilled(t, startCopy(t, c.point, url))
				db := openURL(t, url)
				in := newInbox(t, db, nil)
				webhook.On(in.Processor, kind, effect(db))
				list, _, err := in.List(t.Context(), webhook.ListParams{})
				require.NoError(t, err)
				require.Len(t, list, c.stored)
				require.Equal(t, c.effects, in.effects(t))

				require.Equal(t, 200, in.post(event("evt_1", kind, "cs_1")), "Stripe comes again")
				_, err = in.Sweep(t.Context(), time.Nanosecond)
				require.NoError(t, err)
				// What River does itself after a while with jobs of a process that is gone.
				_, err = db.Writer().ExecContext(t.Context(), "UPDATE river_job SET state = 'available', finalized_at = NULL WHERE state IN ('running', 'completed')")
				require.NoError(t, err)
				in.start(t)
				in.waitFor(t, "evt_1", webhook.StatusDone)
				require.Eventually(t, func() bool {
					var open int
					err := db.Get(t.Context(), &open, "SELECT COUNT(*) FROM river_job WHERE state <> 'completed'")
					return err == nil && open == 0
				}, time.Minute, 10*time.Millisecond)
				assert.Equal(t, 1, in.effects(t))
			})
		})
	}
}

// A batch that is killed in the middle leaves nothing; the next process brings all of its effects about, once.
func TestKill_InTheMiddleOfABatch(t *testing.T) {
	t.Parallel()
	eachURL(t, func(t *testing.T, url string) {
		waitKilled(t, startCopy(t, dieInBatch, url))
		db := openURL(t, url)
		in := newInbox(t, db, nil)
		webhook.On(in.Processor, kind, effect(db))
		require.Zero(t, in.effects(t))
		b, err := in.Backlog(t.Context())
		require.NoError(t, err)
		require.Equal(t, int64(crashBatch), b.Waiting)
		require.NoError(t, in.oneJob(t.Context()))
		in.start(t)
		for i := range crashBatch {
			assert.Equal(t, 1, in.waitFor(t, fmt.Sprintf("evt_%d", i), webhook.StatusDone).Attempts)
		}
		assert.Equal(t, crashBatch, in.effects(t))
	})
}

// Two processes work a backlog, and one is killed in the middle of it.
func TestKill_OneOfTwoProcessesInABacklog(t *testing.T) {
	t.Parallel()
	eachURL(t, func(t *testing.T, url string) {
		db := openURL(t, url)
		in := newInbox(t, db, nil)
		const count, objects = 160, 20
		for i := range count {
			require.Equal(t, 200, in.post(event(fmt.Sprintf("evt_%d", i), kind, fmt.Sprintf("cs_%d", i%objects))))
		}
		first, second := startCopy(t, dieNever, url), startCopy(t, dieNever, url)
		require.Eventually(t, func() bool { return in.effects(t) > count/4 }, 2*time.Minute, 5*time.Millisecond)
		require.NoError(t, first.Process.Kill())
		waitKilled(t, first)
		require.Eventually(t, func() bool {
			// The killed process's jobs are overdue at once in this test.
			if _, err := in.Sweep(t.Context(), time.Second); err != nil {
				return false
			}
			b, err := in.Backlog(t.Context())
			return err == nil && b.Waiting == 0
		}, 2*time.Minute, 200*time.Millisecond)
		require.NoError(t, second.Process.Kill())
		waitKilled(t, second)
		var most int
		require.NoError(t, db.Get(t.Context(), &most, "SELECT MAX(n) FROM (SELECT COUNT(*) AS n FROM effects GROUP BY event) AS counts"))
		assert.Equal(t, 1, most)
		assert.Equal(t, count, in.effects(t))
	})
}

// A backlog with poison in it drains, and new events are taken meanwhile.
func TestProcess_BacklogWithPoisonDrains(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, func(c *webhook.Config) { c.Backoff = func(int) time.Duration { return time.Hour } })
		do := effect(db)
		webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
			switch {
			case strings.HasSuffix(ev.ID, "3"):
				panic("poison")
			case strings.HasSuffix(ev.ID, "7"):
				return webhook.Permanent(errors.New("poison"))
			}
			return do(ctx, tx, ev)
		})
		const count = 200
		for i := range count {
			require.Equal(t, 200, in.post(event(fmt.Sprintf("evt_%d", i), kind, fmt.Sprintf("cs_%d", i%50))))
		}
		in.start(t)
		require.Equal(t, 200, in.post(event("evt_new_1", kind, "cs_new")))
		require.Eventually(t, func() bool {
			s, err := in.Stats(t.Context(), webhook.StatsParams{})
			if err != nil {
				return false
			}
			tried := int64(0)
			for _, a := range s.Attempts {
				if a.Attempts == 1 {
					tried = a.Events
				}
			}
			return tried == count+1
		}, 2*time.Minute, 100*time.Millisecond)
		in.waitFor(t, "evt_new_1", webhook.StatusDone)
		assert.Equal(t, count*8/10+1, in.effects(t))
		b, err := in.Backlog(t.Context())
		require.NoError(t, err)
		assert.Equal(t, int64(count/10), b.Waiting)
		assert.Equal(t, int64(count/10), b.Dead)
	})
}

// After a day's outage Stripe delivers all of the day at once, many events about the same objects among them and some of
// them twice. Two processes drain it, each event takes effect once, and the figures say how late it is.
func TestProcess_ADaysBacklogDrainsInTwoProcesses(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		const count, objects, minutes = 1440, 300, 24 * 60
		first, second := newInbox(t, db, nil), newInbox(t, db, nil)
		for _, in := range []*inbox{first, second} {
			webhook.On(in.Processor, kind, effect(db))
		}
		now := time.Now()
		var group errgroup.Group
		group.SetLimit(32)
		for i := range count {
			body := fmt.Appendf(nil, `{"id":"evt_%d","object":"event","type":%q,"api_version":%q,"created":%d,"livemode":false,"data":{"object":{"id":"cs_%d"}}}`,
				i, kind, stripe.APIVersion, now.Add(time.Duration(i-minutes)*time.Minute).Unix(), i%objects)
			for range 1 + i%5/4 { // each fifth twice
				group.Go(func() error {
					if code := first.post(body); code != 200 {
						return fmt.Errorf("status %d", code)
					}
					return nil
				})
			}
		}
		require.NoError(t, group.Wait())
		first.start(t)
		second.start(t)
		require.Eventually(t, func() bool {
			b, err := first.Backlog(t.Context())
			return err == nil && b.Waiting == 0
		}, 2*time.Minute, 50*time.Millisecond)
		assert.Equal(t, count, first.effects(t))
		s, err := first.Stats(t.Context(), webhook.StatsParams{})
		require.NoError(t, err)
		assert.InDelta(t, 12*time.Hour, s.Lag.P50, float64(time.Hour))
		assert.InDelta(t, 24*time.Hour, s.Lag.P99, float64(time.Hour))
		assert.Zero(t, s.Backlog.Dead)
	})
}

// The host chooses the driver: pgx over database/sql works as lib/pq does.
func TestHandler_OverPgx(t *testing.T) {
	t.Parallel()
	pool, err := sqlx.Open("pgx", dbtest.PostgresURL(t, schema))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close()) })
	db, err := database.New(pool, nil)
	require.NoError(t, err)
	in := newInbox(t, db, func(c *webhook.Config) { c.Backoff = func(int) time.Duration { return 0 } })
	webhook.On(in.Processor, kind, effect(db))
	in.start(t)
	require.Equal(t, 200, in.post(event("evt_1", kind, "cs_1")))
	require.Equal(t, 200, in.post(event("evt_1", kind, "cs_1")))
	in.waitFor(t, "evt_1", webhook.StatusDone)
	_, err = in.Replay(t.Context(), webhook.ActParams{IDs: []string{"evt_1"}, By: "grace"})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return in.effects(t) == 2 }, time.Minute, 10*time.Millisecond)
	in.waitFor(t, "evt_1", webhook.StatusDone)
	_, err = in.Stats(t.Context(), webhook.StatsParams{})
	require.NoError(t, err)
	_, err = in.Payload(t.Context(), webhook.PayloadParams{ID: "evt_1", Reveal: true, By: "grace"})
	require.NoError(t, err)
	_, err = in.Prune(t.Context(), webhook.PruneParams{})
	require.NoError(t, err)
}
