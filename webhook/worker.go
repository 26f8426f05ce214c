package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

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

// Work processes one event. How often it is tried and when is decided here and kept with the event; River gets a
// snooze, so that its own count of attempts is for what this code could not even note, such as a database that is away.
func (w *worker) Work(ctx context.Context, job *river.Job[jobArgs]) error {
	return w.p.work(ctx, job.Args.Event)
}

const (
	// maxReads bounds how often an object is read again because other events about it took effect meanwhile.
	maxReads = 5
	// busyPause is how long an event steps aside for another one about its object, at least; at most twice as long.
	busyPause = 100 * time.Millisecond
	// early is how much before its time an event may be tried: clocks and River's polling differ by as much.
	early = time.Second
)

var (
	errStale = errors.New("webhook: the object changed while it was read")
	errBusy  = errors.New("webhook: another event about the object is at work")
)

func (p *Processor) work(ctx context.Context, id string) error {
	started := time.Now()
	r, payload, effects, err := p.load(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return river.JobCancel(err) // pruned, after another job had done it
	case err != nil:
		return err
	case r.Status != StatusReceived:
		return nil
	}
	if wait := r.NextAt.Sub(p.now()); wait > early {
		return river.JobSnooze(wait)
	}
	err = p.process(ctx, r, payload, effects)
	p.metrics.run(ctx, r.Type, time.Since(started))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errStale), errors.Is(err, errBusy):
		return river.JobSnooze(busyPause + rand.N(busyPause))
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return err // the process is being stopped, which is no failure of the event; River starts the job again
	}
	return p.failed(ctx, r, err)
}

// process runs the handlers of an event. Of the events about one object this process runs one at a time, so that many
// of them do not keep all workers waiting for one lock.
func (p *Processor) process(ctx context.Context, r Record, payload []byte, effects int64) (err error) {
	leave, ok := p.gate.enter(r.lockKey())
	if !ok {
		return errBusy
	}
	defer leave()
	for range maxReads {
		if err = p.once(ctx, r, payload, effects); !errors.Is(err, errStale) {
			return err
		}
		if r, payload, effects, err = p.load(ctx, r.ID); err != nil || r.Status != StatusReceived {
			return err
		}
	}
	return errStale
}

// once reads what the handlers need, and then runs them in the transaction that marks the event.
func (p *Processor) once(ctx context.Context, r Record, payload []byte, effects int64) error {
	handlers := p.handlers[r.Type]
	events := make([]any, len(handlers))
	fetched := false
	reads := withScope(ctx, r)
	err := guard(func() (err error) {
		for i, h := range handlers {
			fetched = fetched || h.fetches()
			if events[i], err = h.prepare(reads, r, payload); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	status := StatusDone
	if len(handlers) == 0 {
		status = StatusIgnored
	}
	var lag time.Duration
	marked := false
	err = p.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		marked = false
		if len(handlers) > 0 {
			now, err := p.lockObject(ctx, tx, r.lockKey())
			if err != nil {
				return err
			}
			if fetched && now != effects+1 {
				return errStale
			}
		}
		// The mark comes before the effects and commits with them. Who finds the event marked was slower.
		at := p.now()
		lag = max(0, at.Sub(r.CreatedAt))
		const mark = `UPDATE qs_webhook_events SET status = ?, processed_at = ?, lag = ?, attempts = attempts + 1, failure = '', reason = '', last_error = ''
			WHERE id = ? AND status = 'received'`
		n, err := p.db.ExecTx(ctx, tx, mark, status, database.At(at), lag.Microseconds(), r.ID)
		if err != nil {
			return fmt.Errorf("webhook: mark event %s: %w", r.ID, err)
		}
		if n == 0 {
			return nil
		}
		for i, h := range handlers {
			if err := guard(func() error { return h.run(ctx, tx, events[i]) }); err != nil {
				return err
			}
		}
		marked = true
		return nil
	})
	if err == nil && marked {
		p.metrics.end(ctx, r.Type, status, lag)
	}
	return err
}

// lockObject keeps other events about the object waiting until tx ends, and counts this one.
func (p *Processor) lockObject(ctx context.Context, tx *sqlx.Tx, key string) (effects int64, err error) {
	const touch = `INSERT INTO qs_webhook_objects (id, effects, touched_at) VALUES (?, 1, ?)
		ON CONFLICT (id) DO UPDATE SET effects = qs_webhook_objects.effects + 1, touched_at = excluded.touched_at RETURNING effects`
	if err := p.db.GetTx(ctx, tx, &effects, touch, key, database.At(p.now())); err != nil {
		return 0, fmt.Errorf("webhook: lock %s: %w", key, err)
	}
	return effects, nil
}

// failed notes a try that came to nothing, and gives the event up after the last one. What it returns is for River.
func (p *Processor) failed(ctx context.Context, r Record, cause error) error {
	ctx = context.WithoutCancel(ctx) // the note is due even when the try ran out of time
	r.Attempts++
	r.Failure, r.Reason, r.LastError = classOf(cause), reasonOf(cause), plain(cause.Error(), maxErrorBytes)
	dead := r.Failure != ClassRetry || r.Attempts >= p.cfg.MaxAttempts
	pause := max(0, p.cfg.Backoff(r.Attempts))
	at := database.Canonical(p.now().Add(pause))
	r.NextAt = &at
	if dead {
		r.Status, r.NextAt = StatusDead, nil
	}
	p.metrics.fail(ctx, r.Type, r.Failure)
	p.cfg.Logger.ErrorContext(ctx, "webhook event failed", slog.String("event", r.ID), slog.String("type", r.Type), slog.String("class", string(r.Failure)),
		slog.Int("attempt", r.Attempts), slog.Bool("dead", dead), slog.Any("error", cause))
	const note = `UPDATE qs_webhook_events SET status = ?, attempts = ?, failure = ?, reason = ?, last_error = ?, next_at = ?
		WHERE id = ? AND status = 'received'`
	var noted int64
	err := p.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
		noted, err = p.db.ExecTx(ctx, tx, note, r.Status, r.Attempts, r.Failure, r.Reason, r.LastError, database.At(at), r.ID)
		return err
	})
	switch {
	case err != nil:
		return errors.Join(cause, fmt.Errorf("webhook: note the failure of event %s: %w", r.ID, err))
	case noted == 0:
		return nil // another job ended it meanwhile
	case !dead:
		return river.JobSnooze(pause)
	}
	p.metrics.end(ctx, r.Type, StatusDead, 0)
	if p.cfg.OnDead != nil {
		if err := guard(func() error { p.cfg.OnDead(ctx, r, cause); return nil }); err != nil {
			p.cfg.Logger.ErrorContext(ctx, "webhook alert failed", slog.String("event", r.ID), slog.Any("error", err))
		}
	}
	return river.JobCancel(cause)
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

// gate lets one event per object through at a time.
type gate struct {
	mu     sync.Mutex
	inside map[string]struct{}
}

func (g *gate) enter(key string) (leave func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, taken := g.inside[key]; taken {
		return nil, false
	}
	g.inside[key] = struct{}{}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.inside, key)
	}, true
}
