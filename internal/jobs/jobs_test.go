package jobs_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var schema = dbtest.Schema{Name: "river", Migrate: func(ctx context.Context, db *database.DB) error {
	e, err := jobs.New(jobs.Config{DB: db})
	if err != nil {
		return err
	}
	return e.Migrate(ctx)
}}

type echo struct {
	N int `json:"n"`
}

func (echo) Kind() string { return "test_echo" }

func newEngine(t *testing.T, db *database.DB, work func(ctx context.Context, n int) error) *jobs.Engine {
	t.Helper()
	return newEngineWith(t, jobs.Config{DB: db}, work)
}

func newEngineWith(t *testing.T, cfg jobs.Config, work func(ctx context.Context, n int) error) *jobs.Engine {
	t.Helper()
	cfg.PollInterval = 20 * time.Millisecond
	e, err := jobs.New(cfg)
	require.NoError(t, err)
	river.AddWorker(e.Workers(), river.WorkFunc(func(ctx context.Context, job *river.Job[echo]) error { return work(ctx, job.Args.N) }))
	return e
}

func insert(ctx context.Context, e *jobs.Engine, db *database.DB, n int, after error) error {
	return db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := e.Client().InsertTx(ctx, tx.Tx, echo{n}, nil); err != nil {
			return err
		}
		return after
	})
}

func TestEngine_WorksWhatWasCommittedAndNothingElse(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		worked := make(chan int, 10)
		e := newEngine(t, db, func(_ context.Context, n int) error { worked <- n; return nil })
		require.NoError(t, e.Start(t.Context()))
		require.Error(t, insert(t.Context(), e, db, 1, errors.New("roll back")))
		require.NoError(t, insert(t.Context(), e, db, 2, nil))
		assert.Equal(t, 2, <-worked)
		require.NoError(t, e.Stop(t.Context()))
		assert.Empty(t, worked)
	})
}

func TestEngine_TwoProcessesShareTheWork(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		const count = 50
		var mu sync.Mutex
		seen := map[int]int{}
		all := make(chan struct{})
		work := func(_ context.Context, n int) error {
			mu.Lock()
			defer mu.Unlock()
			seen[n]++
			if len(seen) == count {
				close(all)
			}
			return nil
		}
		first, second := newEngine(t, db, work), newEngine(t, db, work)
		for n := range count {
			require.NoError(t, insert(t.Context(), first, db, n, nil))
		}
		require.NoError(t, first.Start(t.Context()))
		require.NoError(t, second.Start(t.Context()))
		select {
		case <-all:
		case <-time.After(30 * time.Second):
			t.Fatal("the jobs were not worked in 30 s")
		}
		require.NoError(t, first.Stop(t.Context()))
		require.NoError(t, second.Stop(t.Context()))
		for n, times := range seen {
			assert.Equal(t, 1, times, "job %d", n)
		}
	})
}

func TestStop_WaitsForRunningJobsAndCancelsThemWhenTimeIsUp(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		started, release := make(chan struct{}), make(chan struct{})
		var finished, cancelled atomic.Bool
		e := newEngine(t, db, func(ctx context.Context, n int) error {
			close(started)
			select {
			case <-release:
				finished.Store(true)
				return nil
			case <-ctx.Done():
				cancelled.Store(true)
				return ctx.Err()
			}
		})
		require.NoError(t, e.Start(t.Context()))
		require.NoError(t, insert(t.Context(), e, db, 1, nil))
		<-started
		time.AfterFunc(50*time.Millisecond, func() { close(release) })
		require.NoError(t, e.Stop(t.Context()))
		assert.True(t, finished.Load(), "a graceful stop lets the job finish")

		started, release = make(chan struct{}), make(chan struct{})
		e = newEngine(t, db, func(ctx context.Context, n int) error {
			close(started)
			<-ctx.Done()
			cancelled.Store(true)
			return ctx.Err()
		})
		require.NoError(t, e.Start(t.Context()))
		require.NoError(t, insert(t.Context(), e, db, 2, nil))
		<-started
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		require.NoError(t, e.Stop(ctx))
		assert.True(t, cancelled.Load())
		var state string
		require.NoError(t, db.Get(t.Context(), &state, "SELECT state FROM river_job WHERE kind = 'test_echo' ORDER BY id DESC LIMIT 1"))
		assert.NotEqual(t, "completed", state, "a cancelled job is run again later")
	})
}

func TestMigrate_TenAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		var group errgroup.Group
		for range 10 {
			group.Go(func() error {
				e, err := jobs.New(jobs.Config{DB: db})
				if err != nil {
					return err
				}
				return e.Migrate(t.Context())
			})
		}
		require.NoError(t, group.Wait())
		e, err := jobs.New(jobs.Config{DB: db})
		require.NoError(t, err)
		pending, err := e.Pending(t.Context())
		require.NoError(t, err)
		assert.False(t, pending)
	})
}

func TestStop_BeforeStartDoesNothing(t *testing.T) {
	t.Parallel()
	e, err := jobs.New(jobs.Config{DB: dbtest.SQLite(t, schema)})
	require.NoError(t, err)
	require.NoError(t, e.Stop(t.Context()))
}

func TestEngine_StartsAndStopsAnyNumberOfTimes(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		worked := make(chan int, 10)
		e := newEngine(t, db, func(_ context.Context, n int) error { worked <- n; return nil })
		for round := range 2 {
			var group errgroup.Group
			for range 3 {
				group.Go(func() error { return e.Start(t.Context()) })
			}
			require.NoError(t, group.Wait())
			require.NoError(t, insert(t.Context(), e, db, round, nil))
			assert.Equal(t, round, <-worked)
			for range 3 {
				group.Go(func() error { return e.Stop(t.Context()) })
			}
			require.NoError(t, group.Wait())
		}
		assert.Empty(t, worked)
	})
}

func TestStart_EndsWithItsContextWhenTheDatabaseDoesNotAnswer(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, schema)
	worked := make(chan int, 1)
	e := newEngine(t, db, func(_ context.Context, n int) error { worked <- n; return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	// Whoever holds the one connection keeps the engine waiting.
	conn, err := db.Writer().Conn(t.Context())
	require.NoError(t, err)
	began := time.Now()
	err = e.Start(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Less(t, time.Since(began), 10*time.Second)
	require.NoError(t, conn.Close())
	require.NoError(t, e.Stop(t.Context()))

	ctx, cancel = context.WithCancel(t.Context())
	require.NoError(t, e.Start(ctx))
	cancel() // it bounds the start only
	require.NoError(t, insert(t.Context(), e, db, 1, nil))
	assert.Equal(t, 1, <-worked)
	require.NoError(t, e.Stop(t.Context()))
}

// task is a periodic task as another version of the program left it.
type task struct {
	Task string `json:"task"`
}

func (task) Kind() string { return "quickscale_task" }

func TestEvery_WhatAnotherVersionLeftWaitsADay(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		e := newEngine(t, db, func(context.Context, int) error { return nil })
		require.NoError(t, e.Every("count", time.Hour, func(context.Context) error { return nil }))
		ids := map[string]int64{}
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			for _, name := range []string{"new", "old"} {
				res, err := e.Client().InsertTx(ctx, tx.Tx, task{name}, nil)
				if err != nil {
					return err
				}
				ids[name] = res.Job.ID
			}
			// As River writes it on SQLite, which PostgreSQL reads too.
			yesterday := time.Now().UTC().Add(-25 * time.Hour).Format("2006-01-02 15:04:05.000")
			_, err := db.ExecTx(ctx, tx, `UPDATE river_job SET created_at = ? WHERE id = ?`, yesterday, ids["old"])
			return err
		}))
		require.NoError(t, e.Start(t.Context()))
		t.Cleanup(func() { assert.NoError(t, e.Stop(context.Background())) })
		state := func(name string) (state string) {
			require.NoError(t, db.Get(t.Context(), &state, `SELECT state FROM river_job WHERE id = ?`, ids[name]))
			return state
		}
		require.Eventually(t, func() bool { return state("old") == "cancelled" && state("new") == "scheduled" }, 30*time.Second, 20*time.Millisecond)
	})
}

func TestEvery_RunsAtTheStartAndAgainInOneProcess(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		var runs, together atomic.Int32
		task := func(context.Context) error {
			defer together.Add(-1)
			if together.Add(1) > 1 {
				t.Error("two runs at once")
			}
			runs.Add(1)
			return nil
		}
		for range 2 {
			e := newEngine(t, db, func(context.Context, int) error { return nil })
			require.NoError(t, e.Every("count", time.Second, task))
			require.ErrorContains(t, e.Every("count", time.Second, task), "count")
			require.NoError(t, e.Start(t.Context()))
			t.Cleanup(func() { assert.NoError(t, e.Stop(context.Background())) })
		}
		require.Eventually(t, func() bool { return runs.Load() >= 2 }, 30*time.Second, 20*time.Millisecond)
	})
}

// The first process hangs in its job as a killed one would have left it; the second takes the job up.
func TestEngine_AJobOfADeadProcessRunsElsewhere(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		hang, began, done := make(chan struct{}), make(chan struct{}, 1), make(chan int, 1)
		// With its one worker hanging, the first process takes nothing else, as a dead one would not.
		first := newEngineWith(t, jobs.Config{DB: db, MaxRuntime: time.Second, MaxWorkers: 1}, func(context.Context, int) error { began <- struct{}{}; <-hang; return nil })
		require.NoError(t, first.Start(t.Context()))
		t.Cleanup(func() {
			close(hang)
			assert.NoError(t, first.Stop(context.Background()))
		})
		require.NoError(t, insert(t.Context(), first, db, 7, nil))
		<-began
		second := newEngineWith(t, jobs.Config{DB: db, MaxRuntime: time.Second}, func(_ context.Context, n int) error { done <- n; return nil })
		require.NoError(t, second.Start(t.Context()))
		t.Cleanup(func() { assert.NoError(t, second.Stop(context.Background())) })
		select {
		case n := <-done:
			assert.Equal(t, 7, n)
		case <-time.After(2 * time.Minute):
			t.Fatal("nobody took the job up")
		}
	})
}
