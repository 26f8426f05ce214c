package webhook

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// attempt is an event on its way through a transaction.
type attempt struct {
	task

	handlers []handler
	events   []any // what the handlers get
	fetched  bool  // one of them was read from Stripe
	status   Status

	// marked and lag are what claim found: false, and the event was another one's.
	marked bool
	lag    time.Duration

	// within is the event's own context, for as long as that of a batch lasts.
	within func(batch context.Context) (context.Context, context.CancelFunc)
	// outcome says how the batch ended that took the event.
	outcome chan error
	// stuck says that the handler was at work when the batch was out of time; set before outcome.
	stuck bool
}

// reader waits for a place among those who read from Stripe, which a type without a fetch needs not.
func (p *Processor) reader(ctx context.Context, t task) (leave func(), err error) {
	if !slices.ContainsFunc(p.handlers[t.Type], handler.fetches) {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	select {
	case p.reads <- struct{}{}:
		return func() { <-p.reads }, nil
	case <-ctx.Done():
		return nil, errBusy // its time went by while it waited for others, which is no failure of its own
	}
}

// prepare reads what the handlers need, outside of any transaction, and calls done when it has.
func (p *Processor) prepare(ctx context.Context, t task, done func()) (*attempt, error) {
	defer done()
	a := &attempt{task: t, handlers: p.handlers[t.Type], status: StatusDone, outcome: make(chan error, 1)}
	if len(a.handlers) == 0 {
		a.status = StatusIgnored
		return a, nil
	}
	a.fetched = slices.ContainsFunc(a.handlers, handler.fetches)
	a.events = make([]any, len(a.handlers))
	reads := withScope(ctx, t.Record)
	err := guard(func() (err error) {
		for i, h := range a.handlers {
			if a.events[i], err = h.prepare(reads, t.Record, t.payload); err != nil {
				return err
			}
		}
		return nil
	})
	return a, err
}

// alone does an event in a transaction of its own.
func (p *Processor) alone(ctx context.Context, a *attempt) error {
	select {
	case p.writes <- struct{}{}:
		defer func() { <-p.writes }()
	case <-ctx.Done():
		return errBusy // as above
	}
	return p.single(ctx, a)
}

// single is [Processor.alone] for who has a place among the writers.
func (p *Processor) single(ctx context.Context, a *attempt) error {
	err := p.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if err := p.claim(ctx, tx, a); err != nil {
			return err
		}
		return a.run(ctx, tx)
	})
	if err == nil {
		p.ended(ctx, a)
	}
	return err
}

// run runs the handlers of an event that is marked.
func (a *attempt) run(ctx context.Context, tx *sqlx.Tx) error {
	if !a.marked {
		return nil
	}
	for i, h := range a.handlers {
		if err := guard(func() error { return h.run(ctx, tx, a.events[i]) }); err != nil {
			return err
		}
	}
	return nil
}

// ended counts an event whose transaction is committed.
func (p *Processor) ended(ctx context.Context, a *attempt) {
	if a.marked {
		p.metrics.end(ctx, a.Type, a.status, a.lag)
	}
}

// claim locks the objects of events, in one order, until tx ends, counts these events as effects on them, and marks
// the events. [errStale] when one of the objects was read before the last effect on it. The marks come before the effects
// and commit with them; an event that is found marked was another one's.
func (p *Processor) claim(ctx context.Context, tx *sqlx.Tx, list ...*attempt) error {
	list = slices.SortedFunc(slices.Values(list), func(a, b *attempt) int { return strings.Compare(a.lockKey(), b.lockKey()) })
	now := p.now()
	for _, a := range list {
		a.marked, a.lag = false, max(0, now.Sub(a.CreatedAt))
	}
	claim := p.claimPostgres
	if p.db.Dialect() == database.SQLite {
		claim = p.claimSQLite
	}
	effects, marked, err := claim(ctx, tx, list, database.At(now))
	if err != nil {
		return fmt.Errorf("webhook: mark event %s and %d more: %w", list[0].ID, len(list)-1, err)
	}
	for _, a := range list {
		if a.fetched && effects[a.lockKey()] != a.effects+1 {
			return errStale
		}
		a.marked = marked[a.ID]
	}
	return nil
}

// claimPostgres is one statement. The objects are locked before the events: the count in the condition of the marks
// waits for them. The condition on the status is written so that no index serves it: with statistics from before a
// backlog the planner would go through all that waits rather than along the primary key.
func (p *Processor) claimPostgres(ctx context.Context, tx *sqlx.Tx, list []*attempt, now database.Time) (effects map[string]int64, marked map[string]bool, err error) {
	query := `WITH events (id, object, status, lag) AS (VALUES ` + tuples("(CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT))", len(list)) + `),
		objects AS (
			INSERT INTO qs_webhook_objects (id, effects, touched_at)
			SELECT object, 1, CAST(? AS TIMESTAMPTZ) FROM events WHERE object <> '' ORDER BY object
			ON CONFLICT (id) DO UPDATE SET effects = qs_webhook_objects.effects + 1, touched_at = excluded.touched_at RETURNING id, effects
		),
		marks AS (
			UPDATE qs_webhook_events SET status = events.status, processed_at = ?, lag = events.lag, attempts = attempts + 1,
				failure = '', reason = '', last_error = ''
			FROM events WHERE qs_webhook_events.id = events.id AND qs_webhook_events.status || '' = 'received' AND (SELECT COUNT(*) FROM objects) >= 0
			RETURNING qs_webhook_events.id
		)
		SELECT events.id, events.object, COALESCE(objects.effects, 0) AS effects, marks.id IS NOT NULL AS marked
		FROM events LEFT JOIN objects ON objects.id = events.object LEFT JOIN marks ON marks.id = events.id`
	const columns = 4
	args := make([]any, 0, len(list)*columns+2)
	for _, a := range list {
		args = append(args, a.ID, a.object(), a.status, a.lag.Microseconds())
	}
	var rows []struct {
		ID      string `db:"id"`
		Object  string `db:"object"`
		Effects int64  `db:"effects"`
		Marked  bool   `db:"marked"`
	}
	if err := p.db.SelectTx(ctx, tx, &rows, query, append(args, now, now)...); err != nil {
		return nil, nil, err
	}
	effects, marked = make(map[string]int64, len(rows)), make(map[string]bool, len(rows))
	for _, r := range rows {
		effects[r.Object], marked[r.ID] = r.Effects, r.Marked
	}
	return effects, marked, nil
}

// claimSQLite takes two statements, since SQLite has no changes in a WITH.
func (p *Processor) claimSQLite(ctx context.Context, tx *sqlx.Tx, list []*attempt, now database.Time) (effects map[string]int64, marked map[string]bool, err error) {
	var objects, events []any
	for _, a := range list {
		if key := a.object(); key != "" {
			objects = append(objects, key, now)
		}
		events = append(events, a.ID, a.status, a.lag.Microseconds())
	}
	effects, marked = make(map[string]int64, len(list)), make(map[string]bool, len(list))
	if len(objects) > 0 {
		touch := `INSERT INTO qs_webhook_objects (id, effects, touched_at) VALUES ` + tuples("(?, 1, ?)", len(objects)/2) + `
			ON CONFLICT (id) DO UPDATE SET effects = qs_webhook_objects.effects + 1, touched_at = excluded.touched_at RETURNING id, effects`
		var rows []struct {
			ID      string `db:"id"`
			Effects int64  `db:"effects"`
		}
		if err := p.db.SelectTx(ctx, tx, &rows, touch, objects...); err != nil {
			return nil, nil, err
		}
		for _, r := range rows {
			effects[r.ID] = r.Effects
		}
	}
	mark := `WITH events (id, status, lag) AS (VALUES ` + tuples("(?, ?, ?)", len(list)) + `)
		UPDATE qs_webhook_events SET status = events.status, processed_at = ?, lag = events.lag, attempts = attempts + 1, failure = '', reason = '', last_error = ''
		FROM events WHERE qs_webhook_events.id = events.id AND qs_webhook_events.status || '' = 'received' RETURNING id`
	var ids []string
	if err := p.db.SelectTx(ctx, tx, &ids, mark, append(events, now)...); err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		marked[id] = true
	}
	return effects, marked, nil
}

// object is what is locked for the event: nothing where it has no handlers.
func (a *attempt) object() string {
	if len(a.handlers) == 0 {
		return ""
	}
	return a.lockKey()
}

func tuples(one string, n int) string { return strings.TrimSuffix(strings.Repeat(one+", ", n), ", ") }
