package credits

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// Limits of grouping.
const (
	// maxGroup is how many operations one transaction does at most.
	maxGroup = 256
	// minLanes and maxLanes bound how many groups of one process are under way at once on PostgreSQL: as many as there
	// are CPUs, and two at least, so that one works while another commits. SQLite has one writer.
	minLanes = 2
	maxLanes = 8
	// groupTimeout bounds a group, which outlives the contexts of its callers.
	groupTimeout = 30 * time.Second
)

// lane queues the operations of some accounts. While a group is under way, those that arrive wait and make the next
// one, as databases commit in groups: an operation that comes alone goes at once, and the more come, the fewer commits
// each costs. An account is always in the same lane, so that its operations keep the order in which they came.
type lane struct {
	l       *Ledger
	mu      sync.Mutex
	busy    bool
	waiting []*call
	holds   openHolds // of who made the lane busy
}

// call is an operation of a caller who waits.
type call struct {
	op   op
	ctx  context.Context //nolint:containedctx // it belongs to the call, and ends its waiting
	err  error
	done chan struct{}
	// finished is of the group that has the call.
	finished bool
}

func (c *call) finish(err error) {
	c.err, c.finished = err, true
	close(c.done)
}

// group does an operation together with others of its lane. by is a byte of the account.
func (l *Ledger) group(ctx context.Context, by byte, o op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	lane := &l.lanes[int(by)%len(l.lanes)]
	lane.mu.Lock()
	if !lane.busy {
		lane.busy = true
		lane.mu.Unlock()
		// Its own context: alone, a caller may take the statement back as long as it can be.
		defer lane.next()
		return lane.single(ctx, o)
	}
	c := &call{op: o, ctx: ctx, done: make(chan struct{})}
	lane.waiting = append(lane.waiting, c)
	lane.mu.Unlock()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next lets those who wait go on, or marks the lane idle.
func (a *lane) next() {
	if a.queued() {
		// Callers who just got their answers often come again at once: let them, and they join this group and not the one
		// after it.
		runtime.Gosched()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		a.busy, a.waiting = false, nil
		return
	}
	n := min(len(a.waiting), maxGroup)
	calls := a.waiting[:n:n]
	a.waiting = a.waiting[n:]
	go func() {
		defer a.next()
		defer a.rescue(calls)
		a.together(calls)
	}()
}

// rescue tells the callers of a group of a panic, of which the process of none of them should die.
func (a *lane) rescue(calls []*call) {
	cause := recover()
	if cause == nil {
		return
	}
	a.l.logger.Error("credits: panic in a group", "panic", cause, "stack", string(debug.Stack()))
	for _, c := range calls {
		if !c.finished {
			c.finish(fmt.Errorf("credits: panic: %v", cause))
		}
	}
}

func (a *lane) queued() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting) > 0
}

// together does operations in one transaction. One that fails by itself is refused by itself. When a statement fails,
// each is tried alone, so that the fault falls on its own caller; only a commit that fails is everybody's, as its
// outcome is not known.
func (a *lane) together(calls []*call) {
	live := make([]*call, 0, len(calls))
	for _, c := range calls {
		if err := c.ctx.Err(); err != nil {
			c.finish(err) // it left while it waited, and has not happened
		} else {
			live = append(live, c)
		}
	}
	if len(live) == 0 {
		return
	}
	// The group goes on when one of its callers leaves.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(live[0].ctx), groupTimeout)
	defer cancel()
	if len(live) > 1 {
		live = a.many(ctx, live)
	}
	if len(live) > 1 {
		a.rest(ctx, live)
		return
	}
	for _, c := range live {
		c.finish(a.single(ctx, c.op))
	}
}

// many tries [lane.uses] on calls and returns those that have to go the long way.
func (a *lane) many(ctx context.Context, calls []*call) (rest []*call) {
	ops := make([]op, len(calls))
	for i, c := range calls {
		ops[i] = c.op
	}
	done, err := a.uses(ctx, ops)
	for i, c := range calls {
		if done[i] {
			c.finish(err)
		} else {
			rest = append(rest, c)
		}
	}
	return rest
}

// rest does operations in one transaction.
func (a *lane) rest(ctx context.Context, calls []*call) {
	refusals := make([]error, len(calls))
	committing := false
	err := a.l.inTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		committing = false
		w := a.l.newWork(tx)
		ops := make([]op, len(calls))
		for i, c := range calls {
			ops[i] = c.op
		}
		if err := w.load(ctx, ops...); err != nil {
			return err
		}
		for i, o := range ops {
			if refusals[i] = o.apply(ctx, w); w.broken != nil {
				return w.broken
			}
		}
		if err := w.flush(ctx); err != nil {
			return err
		}
		committing = true
		return nil
	})
	for i, c := range calls {
		switch {
		case err == nil:
			c.finish(refusals[i])
		case committing:
			c.finish(err)
		default:
			c.finish(a.single(ctx, c.op))
		}
	}
}

// single does an operation by itself, by the shortest way.
func (a *lane) single(ctx context.Context, o op) error {
	if d, ok := o.(*debitOp); ok && a.l.db.Dialect() == database.Postgres {
		if done, err := a.l.one(ctx, d); done || err != nil {
			return err
		}
	} else if done, err := a.uses(ctx, []op{o}); done[0] {
		return err
	}
	return a.l.alone(ctx, o)
}

func (l *Ledger) makeLanes() {
	n := 1
	if l.db.Dialect() == database.Postgres {
		n = min(max(runtime.GOMAXPROCS(0), minLanes), maxLanes)
		if limit := l.db.Writer().Stats().MaxOpenConnections; limit > 0 {
			n = min(n, max(1, limit-1))
		}
	}
	l.lanes = make([]lane, n)
	for i := range l.lanes {
		l.lanes[i].l = l
	}
}
