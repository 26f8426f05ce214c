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

// jobArgs are the events of one job: those that were stored in one transaction.
type jobArgs struct {
	Events []string `json:"events"`
}

// Kind names the job; it is in the database of every installation and is not changed.
func (jobArgs) Kind() string { return "quickscale_webhook_events" }

type worker struct {
	river.WorkerDefaults[jobArgs]

	p *Processor
}

// Work tries the events of a job that are due. How often an event is tried and when is decided here and kept with it; River gets a snooze until the next one is due, so that its own count of attempts is for
// what this code could not even note, such as a database that is away.
func (w *worker) Work(ctx context.Context, job *river.Job[jobArgs]) error {
	return w.p.work(ctx, job.Args.Events)
}

// Timeout is longer than any run: see startWindow.
func (w *worker) Timeout(*river.Job[jobArgs]) time.Duration { return startWindow + 2*tryTimeout }

const (
	// tryTimeout bounds one try of one event, reads from Stripe included, and before that the wait for a place to read.
	tryTimeout = time.Minute
	// startWindow is how long a job starts events; those that it did not come to are its next run's.
	startWindow = time.Minute
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

// agenda is when the rest of a job is due.
type agenda struct {
	mu   sync.Mutex
	rest bool
	at   time.Time
	errs []error
}

func (a *agenda) again(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.rest || at.Before(a.at) {
		a.rest, a.at = true, at
	}
}

func (a *agenda) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.errs = append(a.errs, err)
}

func (p *Processor) work(ctx context.Context, ids []string) error {
	tasks, err := p.load(ctx, ids...)
	if err != nil {
		return err
	}
	now := p.now()
	var rest agenda
	var keys []string
	due := map[string][]task{}
	for _, t := range tasks {
		if t.NextAt.Sub(now) > early {
			rest.again(*t.NextAt)
			continue
		}
		key := t.lockKey()
		if due[key] == nil {
			keys = append(keys, key)
		}
		due[key] = append(due[key], t)
	}
	begin, cancel := context.WithTimeout(ctx, startWindow)
	defer cancel()
	var group sync.WaitGroup
	for _, key := range keys {
		select {
		case p.slots <- struct{}{}:
		case <-begin.Done():
			rest.again(now)
			continue
		}
		group.Go(func() {
			defer func() { <-p.slots }()
			for _, t := range due[key] {
				if begin.Err() != nil {
					rest.again(now)
					return
				}
				p.handle(ctx, t, &rest)
			}
		})
	}
	group.Wait()
	switch {
	case len(rest.errs) > 0:
		return errors.Join(rest.errs...)
	case rest.rest:
		return river.JobSnooze(max(0, rest.at.Sub(p.now())))
	}
	return nil
}

// handle tries one event.
func (p *Processor) handle(ctx context.Context, t task, rest *agenda) {
	started := time.Now()
	err := p.process(ctx, t)
	p.metrics.run(ctx, t.Type, time.Since(started))
	switch {
	case err == nil:
	case errors.Is(err, errStale), errors.Is(err, errBusy):
		rest.again(p.now().Add(busyPause + rand.N(busyPause)))
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		rest.again(p.now()) // the process is being stopped, which is no failure of the event
	default:
		p.failed(ctx, t.Record, err, rest)
	}
}

// process runs the handlers of an event. Of the events about one object this process runs one at a time, so that many
// of them do not keep all its slots waiting for one lock.
func (p *Processor) process(ctx context.Context, t task) error {
	leave, ok := p.gate.enter(t.lockKey())
	if !ok {
		return errBusy
	}
	defer leave()
	done, err := p.reader(ctx, t)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	for read := range maxReads {
		if read > 0 {
			tasks, err := p.load(ctx, t.ID)
			if err != nil || len(tasks) == 0 {
				return err
			}
			t = tasks[0]
			if done, err = p.reader(ctx, t); err != nil {
				return err
			}
		}
		a, err := p.prepare(ctx, t, done)
		if err != nil {
			return err
		}
		// What failed before, or was read in vain, is likely to bring a batch down.
		if err := p.land(ctx, a, read == 0 && t.Attempts == 0); !errors.Is(err, errStale) {
			return err
		}
	}
	return errStale
}

// failed notes a try that came to nothing, and gives the event up after the last one.
func (p *Processor) failed(ctx context.Context, r Record, cause error, rest *agenda) {
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
		rest.fail(fmt.Errorf("webhook: note the failure of event %s (%w): %w", r.ID, cause, err))
		return
	case noted == 0:
		return // another job ended it meanwhile
	case !dead:
		rest.again(at)
		return
	}
	p.metrics.end(ctx, r.Type, StatusDead, 0)
	if p.cfg.OnDead != nil {
		if err := guard(func() error { p.cfg.OnDead(ctx, r, cause); return nil }); err != nil {
			p.cfg.Logger.ErrorContext(ctx, "webhook alert failed", slog.String("event", r.ID), slog.Any("error", err))
		}
	}
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
