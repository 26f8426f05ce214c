package services_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/services"
)

var jobSchema = dbtest.Schema{Name: "services with jobs", Migrate: func(ctx context.Context, db *database.DB) error {
	engine, err := jobs.New(jobs.Config{DB: db})
	if err != nil {
		return err
	}
	return errors.Join(engine.Migrate(ctx), database.Migrate(ctx, db, credits.Migrations(), services.Migrations()))
}}

// works is a shop whose processes run jobs.
type works struct {
	*shop

	told atomic.Pointer[services.Record]
	// refuse makes the telling fail that often.
	refuse atomic.Int64
	engine *jobs.Engine
}

func runJobs(t *testing.T, fn func(t *testing.T, w *works)) {
	t.Helper()
	t.Parallel()
	dbtest.Run(t, jobSchema, func(t *testing.T, db *database.DB) {
		w := &works{shop: newShop(t, db)}
		w.Services, w.engine = w.start()
		fn(t, w)
		w.check()
	})
}

// start makes a process that runs jobs, until the test ends.
func (w *works) start() (*services.Services, *jobs.Engine) {
	w.t.Helper()
	engine, err := jobs.New(jobs.Config{DB: w.db, PollInterval: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(w.t, err)
	cfg := w.config()
	cfg.Jobs = engine.Client()
	cfg.OnEndTx = func(_ context.Context, _ *sqlx.Tx, r services.Record) error {
		if w.refuse.Add(-1) >= 0 {
			return errors.New("the webhook is broken")
		}
		w.told.Store(&r)
		return nil
	}
	made, err := services.New(cfg)
	require.NoError(w.t, err)
	require.NoError(w.t, made.AddWorkers(engine.Workers()))
	return made, engine
}

func (w *works) work() {
	w.t.Helper()
	require.NoError(w.t, w.engine.Start(context.Background()))
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(w.t, w.engine.Stop(ctx))
	})
}

// ended waits for the end of a call.
func (w *works) ended(id uuid.UUID) services.Record {
	w.t.Helper()
	var r services.Record
	require.Eventually(w.t, func() bool {
		var err error
		r, err = w.FindCall(context.Background(), ada, id)
		return err == nil && r.FinishedAt != nil
	}, 30*time.Second, 10*time.Millisecond)
	return r
}

func enqueueParams(service, key string, notify bool) services.EnqueueParams {
	return services.EnqueueParams{RunParams: services.RunParams{Account: ada, Service: service, Input: job{Text: "hi"}, IdempotencyKey: key,
		Tags: map[string]string{"project": "alpha"}}, Notify: notify}
}

func TestJobs_RunLaterAndChargeOnce(t *testing.T) {
	runJobs(t, func(t *testing.T, w *works) {
		w.grant(ada, "10")
		w.add("long", "2", func(ctx context.Context, call *services.Call, in job) (done, error) {
			assert.Equal(t, map[string]string{"project": "alpha"}, call.Tags)
			return echo(ctx, call, in)
		})
		first, err := w.Enqueue(t.Context(), enqueueParams("long", "k", true))
		require.NoError(t, err)
		assert.Equal(t, services.Queued, first.Status)
		assert.Equal(t, "8 held 2", w.balance(ada), "the price is set aside from the first moment")
		again, err := w.Enqueue(t.Context(), enqueueParams("long", "k", true))
		require.NoError(t, err)
		assert.Equal(t, first.ID, again.ID)
		_, err = w.Run(t.Context(), enqueueParams("long", "k", false).RunParams)
		require.ErrorIs(t, err, services.ErrInProgress)

		w.work()
		r := w.ended(first.ID)
		assert.Equal(t, services.Succeeded, r.Status)
		assert.JSONEq(t, `{"echo":"hi"}`, string(r.Output))
		assert.Equal(t, "2", r.Charged.String())
		assert.Equal(t, "8", w.balance(ada))
		require.NotNil(t, w.told.Load())
		assert.Equal(t, r.Output, w.told.Load().Output)
		assert.Equal(t, r.ID, w.told.Load().ID)
		again, err = w.Enqueue(t.Context(), enqueueParams("long", "k", true))
		require.NoError(t, err)
		assert.Equal(t, r.Output, again.Output, "the key gives the answer")
		var inputs int
		require.NoError(t, w.db.Writer().Get(&inputs, `SELECT COUNT(*) FROM qs_service_calls WHERE input IS NOT NULL`))
		assert.Zero(t, inputs, "an input is kept as long as it is needed")
	})
}

func TestJobs_OverHTTP(t *testing.T) {
	runJobs(t, func(t *testing.T, w *works) {
		w.grant(ada, "10")
		w.add("long", "2", echo, services.Background())
		w.add("short", "1", echo)
		auth := []string{"Authorization", "Bearer " + ada}
		res := w.send(http.MethodPost, "/api/v1/services/short", `{"text":"hi"}`, append(auth, "Prefer", "respond-async, wait=10")...)
		assert.Equal(t, http.StatusAccepted, res.StatusCode)
		res = w.send(http.MethodPost, "/api/v1/services/long?notify=true", `{"text":"hi"}`, auth...)
		assert.Equal(t, http.StatusAccepted, res.StatusCode)
		at := res.Header.Get("Location")
		assert.Contains(t, text(t, res.Body), `"status":"queued"`)
		assert.Contains(t, text(t, w.send(http.MethodGet, at, "", auth...).Body), `"status":"queued"`)
		other := w.send(http.MethodGet, at, "", "Authorization", "Bearer "+bob)
		assert.Equal(t, http.StatusNotFound, other.StatusCode, "a call is its account's")
		assert.Equal(t, http.StatusNotFound, w.send(http.MethodPost, at+"/cancel", "", "Authorization", "Bearer "+bob).StatusCode)
		assert.Equal(t, http.StatusNotFound, w.send(http.MethodGet, "/api/v1/calls/none", "", auth...).StatusCode)

		w.work()
		id := uuid.MustParse(at[len("/api/v1/calls/"):])
		w.ended(id)
		var answer struct{ Data services.Record }
		require.NoError(t, json.Unmarshal([]byte(text(t, w.send(http.MethodGet, at, "", auth...).Body)), &answer))
		assert.Equal(t, services.Succeeded, answer.Data.Status)
		assert.JSONEq(t, `{"echo":"hi"}`, string(answer.Data.Output))
		page := text(t, w.send(http.MethodGet, "/services/calls/"+id.String(), "", "X-User", ada, "Accept", "text/html").Body)
		assert.Contains(t, page, ">hi<")
		assert.Contains(t, page, `<strong id="cost">2</strong>`)
	})
}

func TestJobs_TheFormOfALongServiceLeadsToItsCall(t *testing.T) {
	runJobs(t, func(t *testing.T, w *works) {
		w.grant(ada, "10")
		w.add("long", "2", echo, services.Background())
		res := w.send(http.MethodPost, "/services/long", "text=hi", "X-User", ada, "Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html")
		assert.Equal(t, http.StatusSeeOther, res.StatusCode)
		at := res.Header.Get("Location")
		page := text(t, w.send(http.MethodGet, at, "", "X-User", ada, "Accept", "text/html").Body)
		assert.Contains(t, page, "Waiting to begin")
		assert.Contains(t, page, `action="`+at+`/cancel"`)
		assert.Equal(t, http.StatusNotFound, w.send(http.MethodGet, at, "", "X-User", bob, "Accept", "text/html").StatusCode)
		res = w.send(http.MethodGet, at, "", "Accept", "text/html")
		assert.Equal(t, "/auth/login?next="+"%2Fservices%2Fcalls%2F"+at[len("/services/calls/"):], res.Header.Get("Location"))
		res = w.send(http.MethodPost, at+"/cancel", "", "X-User", ada, "Accept", "text/html")
		assert.Equal(t, at, res.Header.Get("Location"))
		page = text(t, w.send(http.MethodGet, at, "", "X-User", ada, "Accept", "text/html").Body)
		assert.Contains(t, page, "The call was canceled.")
		assert.Equal(t, "10", w.balance(ada))
	})
}

func TestJobs_CancelWhatWaitsAndWhatRuns(t *testing.T) {
	runJobs(t, func(t *testing.T, w *works) {
		w.grant(ada, "10")
		begun := make(chan struct{})
		w.add("endless", "2", func(ctx context.Context, _ *services.Call, _ job) (done, error) {
			close(begun)
			<-ctx.Done()
			return done{}, ctx.Err()
		})
		waits, err := w.Enqueue(t.Context(), enqueueParams("endless", "", true))
		require.NoError(t, err)
		r, err := w.Cancel(t.Context(), ada, waits.ID)
		require.NoError(t, err)
		assert.Equal(t, services.Failed, r.Status)
		assert.Equal(t, "canceled", r.ErrorCode)
		assert.Equal(t, "10", w.balance(ada))
		assert.Equal(t, waits.ID, w.told.Load().ID, "who asked to be told is told of that too")
		_, err = w.Cancel(t.Context(), bob, waits.ID)
		require.ErrorIs(t, err, services.ErrNoCall)

		runs, err := w.Enqueue(t.Context(), enqueueParams("endless", "", false))
		require.NoError(t, err)
		w.work()
		<-begun
		r, err = w.Cancel(t.Context(), ada, runs.ID)
		require.NoError(t, err)
		assert.NotNil(t, r.CancelAt)
		r = w.ended(runs.ID)
		assert.Equal(t, "canceled", r.ErrorCode)
		assert.Equal(t, "10", w.balance(ada))
		r, err = w.Cancel(t.Context(), ada, runs.ID)
		require.NoError(t, err)
		assert.Equal(t, services.Failed, r.Status, "again, it does nothing")
	})
}

// A process that is told to stop in the middle of a job leaves it to the next one.
func TestJobs_GoOnInAnotherProcess(t *testing.T) {
	runJobs(t, func(t *testing.T, w *works) {
		w.grant(ada, "10")
		begun := make(chan struct{})
		w.add("long", "2", func(ctx context.Context, _ *services.Call, _ job) (done, error) {
			close(begun)
			<-ctx.Done()
			return done{}, ctx.Err()
		})
		queued, err := w.Enqueue(t.Context(), enqueueParams("long", "", false))
		require.NoError(t, err)
		require.NoError(t, w.engine.Start(t.Context()))
		<-begun
		patience, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, w.engine.Stop(patience))
		r, err := w.FindCall(t.Context(), ada, queued.ID)
		require.NoError(t, err)
		assert.Equal(t, services.Running, r.Status)
		assert.Equal(t, "8 held 2", w.balance(ada))

		w.Services, w.engine = w.start()
		w.add("long", "2", echo)
		w.work()
		r = w.ended(queued.ID)
		assert.Equal(t, services.Succeeded, r.Status)
		assert.Equal(t, "8", w.balance(ada))
		assert.Len(t, w.debits(ada), 1)
	})
}

func TestJobs_FailuresCostNothingAndAreNotTriedAgain(t *testing.T) {
	runJobs(t, func(t *testing.T, w *works) {
		w.grant(ada, "10")
		var ran atomic.Int64
		w.add("broken", "2", func(context.Context, *services.Call, job) (done, error) {
			ran.Add(1)
			return done{}, services.Failure("The file is empty.")
		})
		queued, err := w.Enqueue(t.Context(), enqueueParams("broken", "", true))
		require.NoError(t, err)
		w.work()
		r := w.ended(queued.ID)
		assert.Equal(t, "The file is empty.", r.ErrorText)
		assert.Equal(t, "10", w.balance(ada))
		assert.EqualValues(t, 1, ran.Load())
		assert.Equal(t, "execution_failed", w.told.Load().ErrorCode)
	})
}

// The charge outweighs the telling: it is tried again, and then the call ends without.
func TestJobs_WhoCannotBeToldDoesNotHoldUpTheCharge(t *testing.T) {
	runJobs(t, func(t *testing.T, w *works) {
		w.grant(ada, "10")
		w.add("long", "2", echo)
		w.refuse.Store(2)
		first, err := w.Enqueue(t.Context(), enqueueParams("long", "", true))
		require.NoError(t, err)
		w.work()
		w.ended(first.ID)
		require.NotNil(t, w.told.Load(), "the third try tells")
		w.told.Store(nil)
		w.refuse.Store(100)
		second, err := w.Enqueue(t.Context(), enqueueParams("long", "", true))
		require.NoError(t, err)
		assert.Equal(t, services.Succeeded, w.ended(second.ID).Status)
		assert.Nil(t, w.told.Load())
		assert.Equal(t, "6", w.balance(ada))
	})
}

func TestEnqueue_NeedsSomebodyWhoRunsIt(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("long", "0", echo)
		_, err := s.Enqueue(t.Context(), enqueueParams("long", "", false))
		require.ErrorIs(t, err, services.ErrNoJobs)
		res := s.send(http.MethodPost, "/api/v1/services/long", `{"text":"hi"}`, "Authorization", "Bearer "+ada, "Prefer", "respond-async")
		assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
	})
}

func TestSweep_GivesUpAJobThatNobodyTakes(t *testing.T) {
	runJobs(t, func(t *testing.T, w *works) {
		w.grant(ada, "10")
		w.add("long", "2", echo)
		queued, err := w.Enqueue(t.Context(), enqueueParams("long", "", true))
		require.NoError(t, err)
		w.clock.Advance(25 * time.Hour)
		n, err := w.Sweep(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		r, err := w.FindCall(t.Context(), ada, queued.ID)
		require.NoError(t, err)
		assert.Equal(t, "interrupted", r.ErrorCode)
		assert.Equal(t, "10", w.balance(ada))
		assert.Equal(t, queued.ID, w.told.Load().ID)
	})
}
