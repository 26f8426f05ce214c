package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"

	"github.com/quickscale/quickscale/internal/database"
)

type jobArgs struct {
	Event string `json:"event"`
}

// Kind names the job; it is in the database of every installation and is not changed.
func (jobArgs) Kind() string { return "quickscale_webhook_event" }

type worker struct {
	river.WorkerDefaults[jobArgs]
	p *Processor
}

// Work processes one event. The error decides whether River tries again.
func (w *worker) Work(ctx context.Context, job *river.Job[jobArgs]) error {
	err := w.p.process(ctx, job.Args.Event)
	if err == nil {
		return nil
	}
	_, permanent := errors.AsType[permanentError](err)
	last := permanent || job.Attempt >= job.MaxAttempts
	if markErr := w.p.failed(ctx, job.Args.Event, err, last); markErr != nil {
		err = errors.Join(err, markErr)
		if permanent {
			return err // without the mark the event would be lost from sight; River comes again
		}
	}
	if permanent {
		return river.JobCancel(err)
	}
	return err
}

// maxReads bounds how often an object is read again because other events about it took effect meanwhile.
const maxReads = 5

var errStale = errors.New("webhook: the object changed while it was read")

// process runs the handlers of an event that is not processed yet.
func (p *Processor) process(ctx context.Context, id string) error {
	for range maxReads {
		err := p.once(ctx, id)
		if !errors.Is(err, errStale) {
			return err
		}
	}
	return errStale
}

func (p *Processor) once(ctx context.Context, id string) error {
	r, payload, err := p.find(ctx, id)
	if err != nil {
		return err
	}
	if r.Status != StatusReceived {
		return nil
	}
	effects, err := p.effects(ctx, r.ObjectID)
	if err != nil {
		return err
	}
	handlers := p.handlers[r.Type]
	events := make([]any, len(handlers))
	err = guard(func() error {
		for i, h := range handlers {
			if events[i], err = h.prepare(ctx, r, payload); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := p.lockObject(ctx, tx, r.ObjectID, effects); err != nil {
			return err
		}
		var status Status
		err := p.db.GetTx(ctx, tx, &status, `SELECT status FROM qs_webhook_events WHERE id = ?`+p.db.Dialect().ForUpdate(), id)
		if err != nil {
			return fmt.Errorf("webhook: lock event %s: %w", id, err)
		}
		if status != StatusReceived {
			return nil // another process was faster
		}
		for i, h := range handlers {
			if err := guard(func() error { return h.run(ctx, tx, events[i]) }); err != nil {
				return err
			}
		}
		status = StatusDone
		if len(handlers) == 0 {
			status = StatusIgnored
		}
		const mark = `UPDATE qs_webhook_events SET status = ?, processed_at = ?, attempts = attempts + 1, last_error = '' WHERE id = ?`
		if _, err := p.db.ExecTx(ctx, tx, mark, status, database.At(p.now()), id); err != nil {
			return fmt.Errorf("webhook: mark event %s: %w", id, err)
		}
		return nil
	})
}

// effects counts the events about an object that took effect so far.
func (p *Processor) effects(ctx context.Context, object string) (n int64, err error) {
	// From the writer: a reader may be behind, and would then find every object changed.
	err = p.db.Writer().GetContext(ctx, &n, p.db.Rebind(`SELECT effects FROM qs_webhook_objects WHERE id = ?`), object)
	if database.IsNoRows(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("webhook: effects on %s: %w", object, err)
	}
	return n, nil
}

// lockObject keeps other events about the object waiting until tx ends; errStale when one took effect since the count.
func (p *Processor) lockObject(ctx context.Context, tx *sqlx.Tx, object string, counted int64) error {
	const touch = `INSERT INTO qs_webhook_objects (id, effects) VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET effects = qs_webhook_objects.effects + 1
		RETURNING effects`
	var effects int64
	if err := p.db.GetTx(ctx, tx, &effects, touch, object); err != nil {
		return fmt.Errorf("webhook: lock %s: %w", object, err)
	}
	if effects != counted+1 {
		return errStale
	}
	return nil
}

// failed notes an attempt that came to nothing, and gives the event up after the last one.
func (p *Processor) failed(ctx context.Context, id string, cause error, last bool) error {
	ctx = context.WithoutCancel(ctx) // the note is due even when the attempt ran out of time
	status := StatusReceived
	if last {
		status = StatusDead
	}
	p.cfg.Logger.ErrorContext(ctx, "webhook event failed", slog.String("event", id), slog.Bool("dead", last), slog.Any("error", cause))
	const note = `UPDATE qs_webhook_events SET status = ?, attempts = attempts + 1, last_error = ? WHERE id = ? AND status = 'received'`
	err := p.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := p.db.ExecTx(ctx, tx, note, status, shorten(cause.Error()), id)
		return err
	})
	if err != nil {
		return fmt.Errorf("webhook: note the failure of event %s: %w", id, err)
	}
	if last && p.cfg.OnDead != nil {
		r, _, err := p.find(ctx, id)
		if err != nil {
			return err
		}
		p.cfg.OnDead(ctx, r, cause)
	}
	return nil
}

const maxErrorBytes = 2000

func shorten(s string) string {
	if len(s) > maxErrorBytes {
		return s[:maxErrorBytes]
	}
	return s
}

// guard turns a panic of a handler into an error, so that it falls on its own event only.
func guard(fn func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("webhook: handler panicked: %v\n%s", cause, debug.Stack())
		}
	}()
	return fn()
}
