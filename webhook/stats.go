package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Backlog is what waits, and what needs a person.
type Backlog struct {
	Waiting int64 `json:"waiting"`
	Dead    int64 `json:"dead"`
	// Oldest is when the event that waits longest was received; nil when none waits.
	Oldest *time.Time `json:"oldest,omitempty"`
}

// Backlog counts what waits and what is dead, of any age.
func (p *Processor) Backlog(ctx context.Context) (Backlog, error) {
	var row struct {
		Waiting int64          `db:"waiting"`
		Dead    int64          `db:"dead"`
		Oldest  *database.Time `db:"oldest"`
	}
	// Runs along qs_webhook_events_status.
	const query = `SELECT (SELECT COUNT(*) FROM qs_webhook_events WHERE status = 'received') AS waiting,
		(SELECT COUNT(*) FROM qs_webhook_events WHERE status = 'dead') AS dead,
		(SELECT MIN(received_at) FROM qs_webhook_events WHERE status = 'received') AS oldest`
	if err := p.db.Get(ctx, &row, query); err != nil {
		return Backlog{}, fmt.Errorf("webhook: count the backlog: %w", err)
	}
	return Backlog{Waiting: row.Waiting, Dead: row.Dead, Oldest: row.Oldest.Std()}, nil
}

// Stats are figures about a span of time.
type Stats struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Counts, Attempts and Failures are about the events received in the span, as they stand now.
	Counts   []TypeCount    `json:"counts"`
	Attempts []AttemptCount `json:"attempts"`
	Failures []FailureCount `json:"failures"`
	// Lag is about the events done in the span.
	Lag Lag `json:"lag"`
	// Hours are all hours of the span, the first may be cut.
	Hours   []Hour  `json:"hours"`
	Backlog Backlog `json:"backlog"`
}

// TypeCount is how many events of a type have a status.
type TypeCount struct {
	Type   string `db:"type"   json:"type"`
	Status Status `db:"status" json:"status"`
	Events int64  `db:"events" json:"events"`
}

// AttemptCount is how many events were tried so often.
type AttemptCount struct {
	Attempts int   `db:"attempts" json:"attempts"`
	Events   int64 `db:"events"   json:"events"`
}

// FailureCount is how many events wait or are dead because of one reason; see [Record.Reason].
type FailureCount struct {
	Class  Class  `db:"failure" json:"class"`
	Reason string `db:"reason"  json:"reason"`
	Type   string `db:"type"    json:"type"`
	Events int64  `db:"events"  json:"events"`
}

// Lag is the time from events' creation at Stripe, which has whole seconds, to their end here.
type Lag struct {
	Events int64         `json:"events"`
	P50    time.Duration `json:"p50_ns"`
	P95    time.Duration `json:"p95_ns"`
	P99    time.Duration `json:"p99_ns"`
}

// Hour is what happened in one hour.
type Hour struct {
	Hour     time.Time `json:"hour"`
	Received int64     `json:"received"`
	// Ended counts the events done, ignored or skipped in this hour, whenever they were received.
	Ended int64 `json:"ended"`
}

// MaxStats is the longest span of [Processor.Stats].
const MaxStats = 31 * 24 * time.Hour

// StatsParams choose the span.
type StatsParams struct {
	// From and To bound the span, To exclusively. Zero To: now. Zero From: 24 hours before To. At most 31 days.
	From time.Time
	To   time.Time
}

// maxReasons is how many reasons of failures are told apart.
const maxReasons = 50

var hourOf = map[string]database.Query{
	"received_at":  {Postgres: `to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24')`, SQLite: `substr(received_at, 1, 13)`},
	"processed_at": {Postgres: `to_char(processed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24')`, SQLite: `substr(processed_at, 1, 13)`},
}

const hourLayout = "2006-01-02 15"

// Stats returns the figures of a span. The error is a [problem.Error] for a span that is too long or empty.
func (p *Processor) Stats(ctx context.Context, params StatsParams) (Stats, error) {
	if params.To.IsZero() {
		params.To = p.now()
	}
	if params.From.IsZero() {
		params.From = params.To.Add(-24 * time.Hour)
	}
	if d := params.To.Sub(params.From); d <= 0 || d > MaxStats {
		return Stats{}, problem.Invalid(map[string]string{"from": "The span must be positive and at most 31 days."})
	}
	s := Stats{From: database.Canonical(params.From), To: database.Canonical(params.To), Counts: []TypeCount{}, Attempts: []AttemptCount{}, Failures: []FailureCount{}}
	span := []any{database.At(params.From), database.At(params.To)}
	for _, q := range []struct {
		to   any
		text string
		args []any
	}{
		{&s.Counts, `SELECT type, status, COUNT(*) AS events FROM qs_webhook_events WHERE received_at >= ? AND received_at < ?
			GROUP BY type, status ORDER BY type, status`, span},
		{&s.Attempts, `SELECT attempts, COUNT(*) AS events FROM qs_webhook_events WHERE received_at >= ? AND received_at < ?
			GROUP BY attempts ORDER BY attempts`, span},
		{&s.Failures, `SELECT failure, reason, type, COUNT(*) AS events FROM qs_webhook_events
			WHERE received_at >= ? AND received_at < ? AND failure <> '' AND status IN ('received', 'dead')
			GROUP BY failure, reason, type ORDER BY events DESC, failure, reason, type LIMIT ?`, append(span[:2:2], maxReasons)},
	} {
		if err := p.db.Select(ctx, q.to, q.text, q.args...); err != nil {
			return Stats{}, fmt.Errorf("webhook: statistics: %w", err)
		}
	}
	var err error
	if s.Lag, err = p.lag(ctx, span); err != nil {
		return Stats{}, err
	}
	if s.Hours, err = p.hours(ctx, s.From, s.To, span); err != nil {
		return Stats{}, err
	}
	s.Backlog, err = p.Backlog(ctx)
	return s, err
}

func (p *Processor) lag(ctx context.Context, span []any) (Lag, error) {
	// Runs along qs_webhook_events_processed.
	const query = `SELECT COUNT(*) AS events, COALESCE(MIN(CASE WHEN d >= 0.5 THEN lag END), 0) AS p50,
		COALESCE(MIN(CASE WHEN d >= 0.95 THEN lag END), 0) AS p95, COALESCE(MIN(CASE WHEN d >= 0.99 THEN lag END), 0) AS p99
		FROM (SELECT lag, CUME_DIST() OVER (ORDER BY lag) AS d FROM qs_webhook_events WHERE status = 'done' AND processed_at >= ? AND processed_at < ?) AS done`
	var row struct {
		Events int64 `db:"events"`
		P50    int64 `db:"p50"`
		P95    int64 `db:"p95"`
		P99    int64 `db:"p99"`
	}
	if err := p.db.Get(ctx, &row, query, span...); err != nil {
		return Lag{}, fmt.Errorf("webhook: lag: %w", err)
	}
	return Lag{Events: row.Events, P50: micro(row.P50), P95: micro(row.P95), P99: micro(row.P99)}, nil
}

func micro(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

func (p *Processor) hours(ctx context.Context, from, to time.Time, span []any) ([]Hour, error) {
	counts := map[string]map[string]int64{}
	for column, expr := range hourOf {
		var rows []struct {
			Hour   string `db:"hour"`
			Events int64  `db:"events"`
		}
		text := `SELECT ` + expr.For(p.db.Dialect()) + ` AS hour, COUNT(*) AS events FROM qs_webhook_events WHERE ` + column + ` >= ? AND ` + column + ` < ? GROUP BY 1`
		if err := p.db.Select(ctx, &rows, text, span...); err != nil {
			return nil, fmt.Errorf("webhook: events by hour: %w", err)
		}
		counts[column] = map[string]int64{}
		for _, r := range rows {
			counts[column][r.Hour] = r.Events
		}
	}
	var hours []Hour
	for h := from.UTC().Truncate(time.Hour); h.Before(to); h = h.Add(time.Hour) {
		key := h.Format(hourLayout)
		hours = append(hours, Hour{Hour: h, Received: counts["received_at"][key], Ended: counts["processed_at"][key]})
	}
	return hours, nil
}
