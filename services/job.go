package services

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

const (
	// maxQueued is how long a call in the background may wait for a process before it is given up.
	maxQueued = 24 * time.Hour
	// cancelEach is how often a call that runs in the background looks whether it is to be canceled.
	cancelEach = time.Second
	// busyPause is after how long a job is tried again whose service runs as many calls as it may.
	busyPause = time.Second
	// workMargin is what recording may take beyond the work.
	workMargin = recordLimit + 10*time.Second
	// jobAttempts is how often a job is begun whose process dies in the middle.
	jobAttempts = 5
)

// ErrNoJobs says that nothing runs in the background, as [Config.Jobs] is missing, or that nobody can be told.
var ErrNoJobs error = problem.New(problem.CodeInvalid, "Calls do not run in the background here.")

// ErrNoCall says that the account has no such call.
var ErrNoCall error = problem.New(problem.CodeNotFound, "There is no such call.")

// jobArgs name the call that a job runs.
type jobArgs struct {
	Call uuid.UUID `json:"call"`
}

// Kind names the job; it is in the database of every installation and is not changed.
func (jobArgs) Kind() string { return "service_call" }

// enqueue inserts the job of a call.
func (s *Services) enqueue(ctx context.Context, tx *sqlx.Tx, id uuid.UUID) error {
	if _, err := s.cfg.Jobs.InsertTx(ctx, tx.Tx, jobArgs{id}, &river.InsertOpts{MaxAttempts: jobAttempts}); err != nil {
		return fmt.Errorf("services: insert the job of call %s: %w", id, err)
	}
	return nil
}

// AddWorkers adds the worker that runs calls in the background. Call it before the River client starts, and also in
// processes that only insert, since River takes jobs of kinds only that it knows.
func (s *Services) AddWorkers(workers *river.Workers) error {
	if err := river.AddWorkerSafely(workers, &worker{s: s}); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	return nil
}

// EnqueueParams are one call in the background.
type EnqueueParams struct {
	RunParams

	// Notify asks for [Config.OnEndTx] at the end of the call.
	Notify bool
}

// Enqueue makes a call that runs in the background, in any process: its price is set aside now, and it is charged when
// it has succeeded. A repetition under the same key returns the first call. A call whose process dies is begun again, up
// to five times. The errors are those of [Services.Run], and [ErrNoJobs].
func (s *Services) Enqueue(ctx context.Context, p EnqueueParams) (Record, error) {
	if s.cfg.Jobs == nil || (p.Notify && s.cfg.OnEndTx == nil) {
		return Record{}, ErrNoJobs
	}
	c, err := s.prepare(ctx, p.RunParams)
	if err != nil {
		return Record{}, err
	}
	if err := c.compare(); err != nil {
		return Record{}, err
	}
	c.background, c.notify = true, p.Notify
	row, err := s.begin(ctx, c)
	if err != nil {
		return Record{}, err
	}
	return row.record()
}

// FindCall returns a call of an account, with its output if that is still kept. The error is [ErrNoCall].
func (s *Services) FindCall(ctx context.Context, account string, id uuid.UUID) (Record, error) {
	s.Flush()
	var row callRow
	// By the writer: who has just got an id asks for it at once.
	err := s.db.Writer().GetContext(ctx, &row, s.db.Rebind(`SELECT `+callColumns+` FROM qs_service_calls WHERE id = ? AND account_id = ?`), id, account)
	if database.IsNoRows(err) {
		return Record{}, ErrNoCall
	}
	if err != nil {
		return Record{}, fmt.Errorf("services: read call %s: %w", id, err)
	}
	return row.record()
}

// Cancel ends a call in the background: one that waits at once, for free; one that runs within a second or two, when its
// work heeds the end of its context. Canceling a call that has ended does nothing. It returns the call as it is then.
// The error is [ErrNoCall].
func (s *Services) Cancel(ctx context.Context, account string, id uuid.UUID) (record Record, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		// The account's lock comes first, which releasing the hold takes; so the row is locked after it, by close.
		var row callRow
		find := `SELECT ` + callColumns + ` FROM qs_service_calls WHERE id = ? AND account_id = ?`
		if err := s.db.GetTx(ctx, tx, &row, find, id, account); err != nil {
			if database.IsNoRows(err) {
				return ErrNoCall
			}
			return fmt.Errorf("services: read call %s: %w", id, err)
		}
		const mark = `UPDATE qs_service_calls SET cancel_at = COALESCE(cancel_at, ?) WHERE id = ? AND status IN ('queued', 'running') AND input IS NOT NULL`
		if row.Status == Queued {
			if err := s.cancelQueued(ctx, tx, row); err != nil {
				return err
			}
		} else if _, err := s.db.ExecTx(ctx, tx, mark, database.At(s.now()), id); err != nil {
			return fmt.Errorf("services: cancel call %s: %w", id, err)
		}
		if err := s.db.GetTx(ctx, tx, &row, find, id, account); err != nil {
			return fmt.Errorf("services: read call %s: %w", id, err)
		}
		record, err = row.record()
		return err
	})
	return record, err
}

// errCanceled: the caller canceled the call.
var errCanceled = errors.New("services: the call was canceled")

const canceled = "The call was canceled."

func (s *Services) cancelQueued(ctx context.Context, tx *sqlx.Tx, row callRow) error {
	if row.HoldID != nil {
		// A worker that takes the call up meanwhile waits for the account, and finds it ended.
		if err := s.cfg.Ledger.ReleaseTx(ctx, tx, *row.HoldID); err != nil && !errors.Is(err, credits.ErrHoldSettled) {
			return fmt.Errorf("services: give back the hold of call %s: %w", row.ID, err)
		}
	}
	closed, _, err := s.close(ctx, tx, row.ID, end{status: Failed, code: codeCanceled, text: canceled})
	if err != nil || !closed || !row.Notify {
		return err
	}
	return s.tell(ctx, tx, row.ID)
}

// worker runs calls in the background.
type worker struct {
	river.WorkerDefaults[jobArgs]

	s *Services
}

// Timeout implements river.Worker: the longest that any service may take. Each call has its own limit within.
func (w *worker) Timeout(*river.Job[jobArgs]) time.Duration { return w.s.longest() + workMargin }

func (s *Services) longest() (limit time.Duration) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, versions := range s.byName {
		for _, r := range versions {
			limit = max(limit, r.opts.timeout)
		}
	}
	return limit
}

// Work implements river.Worker.
func (w *worker) Work(ctx context.Context, job *river.Job[jobArgs]) error {
	s := w.s
	row, err := s.take(ctx, job.Args.Call)
	switch {
	case errors.Is(err, ErrBusy):
		return river.JobSnooze(busyPause)
	case err != nil:
		return err
	case row == nil:
		return nil // it has ended
	}
	c, err := s.resume(ctx, *row)
	if err != nil {
		return err
	}
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go s.watch(working, row.ID, stop)
	_, err = s.carryOut(working, c, *row)
	if _, failed := errors.AsType[*CallError](err); failed {
		return nil // as it is recorded
	}
	return err
}

// take marks a call as running, or returns nil when it has ended.
func (s *Services) take(ctx context.Context, id uuid.UUID) (taken *callRow, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		taken = nil
		var row callRow
		find := `SELECT ` + callColumns + ` FROM qs_service_calls WHERE id = ?`
		if err := s.db.GetTx(ctx, tx, &row, find, id); err != nil {
			return fmt.Errorf("services: read call %s: %w", id, err)
		}
		if row.Status == Queued {
			r, err := s.find(row.Service, row.Version)
			if err != nil {
				return fmt.Errorf("services: call %s: %w", id, err)
			}
			if err := s.limit(ctx, tx, r, row.Account); err != nil {
				return err
			}
		}
		now := database.At(s.now())
		const update = `UPDATE qs_service_calls SET status = 'running', attempts = attempts + 1, started_at = ? WHERE id = ? AND status IN ('queued', 'running')
			AND input IS NOT NULL`
		n, err := s.db.ExecTx(ctx, tx, update, now, id)
		if err != nil {
			return fmt.Errorf("services: begin call %s: %w", id, err)
		}
		if n == 1 {
			row.Status, row.StartedAt = Running, &now
			taken = &row
		}
		return nil
	})
	return taken, err
}

// resume makes of a stored call what [Services.prepare] made of its caller's words.
func (s *Services) resume(ctx context.Context, row callRow) (*prepared, error) {
	r, err := s.find(row.Service, row.Version)
	if err != nil {
		return nil, fmt.Errorf("services: call %s: %w", row.ID, err)
	}
	c := &prepared{RunParams: RunParams{Account: row.Account, Service: row.Service, Version: row.Version}, r: r, mark: row.Fingerprint, background: true, notify: row.Notify}
	if row.Key != nil {
		c.IdempotencyKey = *row.Key
	}
	if err := json.Unmarshal([]byte(row.Tags), &c.Tags); err != nil {
		return nil, fmt.Errorf("services: tags of call %s: %w", row.ID, err)
	}
	if c.in, err = r.accept(json.RawMessage(*row.Input)); err != nil {
		return nil, fmt.Errorf("services: input of call %s: %w", row.ID, err)
	}
	if c.set, err = s.settings.of(ctx, r.info.Name); err != nil {
		return nil, err
	}
	c.quote, err = r.quote(c.in, r.rates(c.set))
	return c, err
}

// watch ends the work of a call when it is canceled.
func (s *Services) watch(ctx context.Context, id uuid.UUID, stop func(cause error)) {
	tick := time.NewTicker(cancelEach)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var canceled bool
		err := s.db.Writer().GetContext(ctx, &canceled, s.db.Rebind(`SELECT cancel_at IS NOT NULL FROM qs_service_calls WHERE id = ?`), id)
		switch {
		case err != nil && ctx.Err() == nil:
			s.cfg.Logger.ErrorContext(ctx, "look whether a call is canceled", slog.String("call", id.String()), slog.Any("error", err))
		case err == nil && canceled:
			stop(errCanceled)
			return
		}
	}
}
