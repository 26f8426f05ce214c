package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

const (
	// batchTime bounds a batch from its first statement to its commit, and so how long it keeps others from its objects
	// and from what its handlers lock. It is how long PostgreSQL waits before it looks for a deadlock.
	batchTime = time.Second
	// firstRest is how long events are done by themselves after a batch took too long or was in another transaction's
	// way; twice as long each time that this happens again, up to longestRest, until a batch comes through.
	firstRest   = 250 * time.Millisecond
	longestRest = time.Minute
)

var (
	// errApart says that a batch came to nothing and left no trace.
	errApart = errors.New("webhook: the batch was undone")
	errLate  = errors.New("webhook: the batch took too long")
)

// land brings an event's transaction about: one for several events, as databases commit in groups, or one of its own.
// To share is tried once. Whatever goes wrong then, the events of the batch are done by themselves, so that a fault
// falls on its own event.
func (p *Processor) land(ctx context.Context, a *attempt, share bool) error {
	if !share || p.cfg.Batch == 1 || p.lobby.rests() {
		return p.alone(ctx, a)
	}
	err := p.share(ctx, a)
	if !errors.Is(err, errApart) {
		return err
	}
	if a.stuck && ctx.Err() != nil {
		return fmt.Errorf("webhook: the handler took too long: %w", ctx.Err())
	}
	return p.alone(ctx, a)
}

// share does an event together with those that wait for a writer's place like it. [errApart] when that failed.
func (p *Processor) share(ctx context.Context, a *attempt) error {
	// What a handler finds in its context is of its own job.
	a.within = func(batch context.Context) (context.Context, context.CancelFunc) {
		own, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(batch, cancel)
		return own, func() { stop(); cancel() }
	}
	p.lobby.enter(a)
	select {
	case p.writes <- struct{}{}:
		list := p.lobby.leave(a, p.cfg.Batch)
		if len(list) == 1 {
			defer func() { <-p.writes }()
			return p.single(ctx, a)
		}
		if len(list) == 0 {
			<-p.writes // another one's batch has it
			break
		}
		// On its own, since its end is awaited by all of its events, and one may be held up in its handler.
		go p.together(context.WithoutCancel(ctx), list)
	case <-ctx.Done():
		if len(p.lobby.leave(a, 1)) > 0 {
			return errBusy
		}
	case err := <-a.outcome:
		return err
	}
	return <-a.outcome
}

// together does a batch, whose place among the writers it gives back.
func (p *Processor) together(ctx context.Context, list []*attempt) {
	defer func() { <-p.writes }()
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	b := &batch{undo: cancel, left: slices.Clone(list)}
	err := errApart
	defer func() { b.end(err) }() // also when a handler ended its goroutine
	err = p.db.InTxOnce(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		limit := time.AfterFunc(batchTime, b.expire)
		defer limit.Stop()
		if err := p.claim(ctx, tx, list...); err != nil {
			return err
		}
		for _, a := range list {
			if !b.turn(a) {
				return errLate
			}
			if err := b.run(ctx, tx, a); err != nil {
				return err
			}
		}
		if !b.seal() {
			return errLate
		}
		return nil
	})
	if err == nil {
		for _, a := range list {
			p.ended(ctx, a)
		}
		p.lobby.went()
		return
	}
	if b.expired() || database.IsRetryable(err) {
		p.lobby.rest()
	}
	p.cfg.Logger.InfoContext(ctx, "webhook batch undone, its events are done one by one", slog.Int("events", len(list)), slog.Any("error", err))
	err = errApart
}

// batch is events that share a transaction. Each is told once how that ended.
type batch struct {
	undo context.CancelFunc

	mu      sync.Mutex
	left    []*attempt // not told yet
	running *attempt   // whose handlers are at work
	late    bool
	sealed  bool // about to be committed, which the limit does not end
}

// turn says whose handlers run next; false when it is too late for that.
func (b *batch) turn(a *attempt) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running = a
	return !b.late
}

func (b *batch) run(ctx context.Context, tx *sqlx.Tx, a *attempt) error {
	ctx, cancel := a.within(ctx)
	defer cancel()
	return a.run(ctx, tx)
}

func (b *batch) seal() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running, b.sealed = nil, true
	return !b.late
}

// expire undoes the batch. Whose handler does not heed that keeps its own event waiting, and no other.
func (b *batch) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sealed {
		return
	}
	b.late = true
	b.undo()
	if b.running == nil {
		return
	}
	b.running.stuck = true
	for _, a := range b.left {
		if a != b.running {
			a.outcome <- errApart
		}
	}
	b.left = []*attempt{b.running}
}

func (b *batch) expired() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.late
}

func (b *batch) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.left {
		a.outcome <- err
	}
	b.left = nil
}

// lobby is where events wait for a transaction that they can share.
type lobby struct {
	mu      sync.Mutex
	waiting []*attempt
	rested  int // in a row, as far as it counts
	until   time.Time
}

func (l *lobby) enter(a *attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, a)
}

// leave takes an event out, with those that have waited longest, at most n in all; none when it was taken before.
func (l *lobby) leave(a *attempt, n int) []*attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.waiting, a)
	if i < 0 {
		return nil
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	n = min(n-1, len(l.waiting))
	list := append([]*attempt{a}, l.waiting[:n]...)
	l.waiting = slices.Delete(l.waiting, 0, n)
	return list
}

func (l *lobby) rests() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.until)
}

func (l *lobby) rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = time.Now().Add(min(longestRest, firstRest<<l.rested))
	if firstRest<<l.rested < longestRest {
		l.rested++
	}
}

func (l *lobby) went() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rested = 0
}
