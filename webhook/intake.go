package webhook

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// Limits of the intake.
const (
	// intakeBatch is how many events share a transaction at most.
	intakeBatch = 64
	// intakeFlights is how many transactions are under way at once on PostgreSQL: while one waits for the disk the
	// other is being filled. SQLite has one writer.
	intakeFlights = 2
	// intakeTimeout bounds one transaction. Stripe waits longer than that.
	intakeTimeout = 10 * time.Second
)

// intake stores events with a job. Events that arrive while the database is busy with others share the next
// transaction, so that a burst costs a few commits and not one each.
type intake struct {
	p       *Processor
	flights int

	mu      sync.Mutex
	waiting []*arrival
	flying  int
}

// arrival is an event on its way into the inbox.
type arrival struct {
	event   envelope
	payload string
	// stored and err are set before done is closed.
	stored bool
	err    error
	done   chan struct{}
}

func newIntake(p *Processor) *intake {
	flights := intakeFlights
	if p.db.Dialect() == database.SQLite {
		flights = 1
	}
	return &intake{p: p, flights: flights}
}

// store keeps an event with a job; false when it was there before. When ctx ends first the event may be stored later.
func (in *intake) store(ctx context.Context, e envelope, payload string) (stored bool, err error) {
	a := &arrival{event: e, payload: payload, done: make(chan struct{})}
	in.mu.Lock()
	in.waiting = append(in.waiting, a)
	if in.flying < in.flights {
		in.flying++
		go in.fly()
	}
	in.mu.Unlock()
	select {
	case <-a.done:
		return a.stored, a.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// fly stores what waits until nothing does.
func (in *intake) fly() {
	for {
		in.mu.Lock()
		n := min(len(in.waiting), intakeBatch)
		if n == 0 {
			in.flying--
			in.mu.Unlock()
			return
		}
		batch := slices.Clone(in.waiting[:n])
		in.waiting = slices.Delete(in.waiting, 0, n)
		in.mu.Unlock()
		in.land(batch)
	}
}

func (in *intake) land(batch []*arrival) {
	ctx, cancel := context.WithTimeout(context.Background(), intakeTimeout)
	defer cancel()
	err := in.commit(ctx, batch)
	if err != nil && len(batch) > 1 && ctx.Err() == nil {
		// One event that the database refuses must not take the others with it.
		for _, a := range batch {
			a.err = in.commit(ctx, []*arrival{a})
			close(a.done)
		}
		return
	}
	for _, a := range batch {
		a.err = err
		close(a.done)
	}
}

// commit stores a batch in one transaction.
func (in *intake) commit(ctx context.Context, batch []*arrival) error {
	now := in.p.now()
	return in.p.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return in.p.storeTx(ctx, tx, batch, now)
	})
}

// storeTx inserts the events that are not known yet, with their job, and tells which those are.
func (p *Processor) storeTx(ctx context.Context, tx *sqlx.Tx, batch []*arrival, now time.Time) error {
	// In one order, so that two processes that store the same events wait for each other one way only.
	fresh := slices.SortedFunc(slices.Values(batch), func(a, b *arrival) int { return strings.Compare(a.event.ID, b.event.ID) })
	for _, a := range batch {
		a.stored = false
	}
	fresh, err := p.unseen(ctx, tx, fresh, now)
	if err != nil || len(fresh) == 0 {
		return err
	}
	const columns = 11
	args := make([]any, 0, len(fresh)*columns)
	for _, a := range fresh {
		e := a.event
		args = append(args, e.ID, e.Type, e.object(), e.Account, e.APIVersion, e.Livemode, a.payload, StatusReceived,
			database.At(e.at()), database.At(now), database.At(now))
	}
	insert := `INSERT INTO qs_webhook_events (id, type, object_id, account, api_version, livemode, payload, status, created_at, received_at, next_at)
		VALUES ` + strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?), ", len(fresh)), ", ") + ` ON CONFLICT (id) DO NOTHING RETURNING id`
	var ids []string
	if err := p.db.SelectTx(ctx, tx, &ids, insert, args...); err != nil {
		return fmt.Errorf("webhook: store events: %w", err)
	}
	if len(ids) == 0 {
		return nil
	}
	for _, a := range fresh {
		// The second of two deliveries in one batch finds its id taken.
		if i := slices.Index(ids, a.event.ID); i >= 0 {
			a.stored = true
			ids = slices.Delete(ids, i, i+1)
		}
	}
	jobs := make([]string, 0, len(fresh))
	for _, a := range fresh {
		if a.stored {
			jobs = append(jobs, a.event.ID)
		}
	}
	return p.enqueue(ctx, tx, jobs)
}

// enqueue makes the jobs of events, each for as many as share a transaction of the intake: what came together is worked
// together, and a burst is not slowed by a queue that counts its jobs.
func (p *Processor) enqueue(ctx context.Context, tx *sqlx.Tx, ids []string) error {
	for chunk := range slices.Chunk(ids, intakeBatch) {
		if _, err := p.cfg.Jobs.InsertTx(ctx, tx.Tx, jobArgs{Events: chunk}, nil); err != nil {
			return fmt.Errorf("webhook: insert the job of %d events: %w", len(chunk), err)
		}
	}
	return nil
}

// unseen leaves out events whose rows were pruned. Only old events can be among those.
func (p *Processor) unseen(ctx context.Context, tx *sqlx.Tx, batch []*arrival, now time.Time) ([]*arrival, error) {
	var old []string
	for _, a := range batch {
		if now.Sub(a.event.at()) > MinKeepRows/2 {
			old = append(old, a.event.ID)
		}
	}
	if len(old) == 0 {
		return batch, nil
	}
	query, args, err := sqlx.In(`SELECT id FROM qs_webhook_seen WHERE id IN (?)`, old)
	if err != nil {
		return nil, fmt.Errorf("webhook: look for pruned events: %w", err)
	}
	var seen []string
	if err := p.db.SelectTx(ctx, tx, &seen, query, args...); err != nil {
		return nil, fmt.Errorf("webhook: look for pruned events: %w", err)
	}
	return slices.DeleteFunc(batch, func(a *arrival) bool { return slices.Contains(seen, a.event.ID) }), nil
}
