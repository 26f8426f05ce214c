package services

import (
	"context"
	"fmt"
	"time"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// By is what figures are grouped by.
type By string

// The groups. ByDay is the day in UTC, as 2026-03-01; ByTag is the value of the tag [AnalyticsParams.Tag].
const (
	ByService By = "service"
	ByAccount By = "account"
	ByDay     By = "day"
	ByTag     By = "tag"
)

// AnalyticsParams choose calls and how they are summed up.
type AnalyticsParams struct {
	UsageParams

	// By is the group. Required. With [ByTag], the Value of the params is not looked at.
	By By
}

// Figures sum up the calls of a group.
type Figures struct {
	// Key is the group: a service, an account, a day or a value.
	Key string `db:"key" json:"key"`
	// Calls are all, of which Failed failed, Partial gave an incomplete output, and Cached an earlier one. Those that
	// still wait or run are among Calls.
	Calls   int64 `db:"calls"   json:"calls"`
	Failed  int64 `db:"failed"  json:"failed"`
	Partial int64 `db:"partial" json:"partial"`
	Cached  int64 `db:"cached"  json:"cached"`
	// Accounts is how many different ones made the calls.
	Accounts int64          `db:"accounts" json:"accounts"`
	Charged  credits.Amount `db:"charged"  json:"credits_charged"`
	// AverageMS and LongestMS are of the time that the work took, in milliseconds.
	AverageMS float64 `db:"average_ms" json:"average_ms"`
	LongestMS float64 `db:"longest_ms" json:"longest_ms"`
	// Units are the sums of what was metered, or priced.
	Units Units `db:"-" json:"units,omitempty"`
}

var dayOf = database.Query{
	Postgres: `to_char(c.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')`,
	SQLite:   `substr(c.created_at, 1, 10)`,
}

var eachUnit = database.Query{
	Postgres: ` CROSS JOIN LATERAL json_each_text(c.units::json) AS u(key, value)`,
	SQLite:   ` CROSS JOIN json_each(c.units) AS u`,
}

// Analytics sums up the calls that the params choose, by group, the one that was charged most first. Before, Limit and
// Status serve as in [Services.Usage], with a Limit of 500 unless it is lower. It is for staff where Account is empty.
func (s *Services) Analytics(ctx context.Context, p AnalyticsParams) ([]Figures, error) {
	var key string
	joined := ` FROM qs_service_calls c`
	var keyArgs []any
	switch p.By {
	case ByService:
		key = `c.service`
	case ByAccount:
		key = `c.account_id`
	case ByDay:
		key = dayOf.For(s.db.Dialect())
	case ByTag:
		key, joined = `g.value`, joined+` JOIN qs_service_call_tags g ON g.call_id = c.id AND g.name = ?`
		keyArgs, p.Tag = append(keyArgs, p.Tag), ""
	default:
		return nil, problem.Invalid(map[string]string{"by": "Choose one of: service, account, day, tag."})
	}
	if p.Limit <= 0 || p.Limit > MaxPage {
		p.Limit = MaxPage
	}
	s.Flush()
	where, args := p.where()
	where, args = ` WHERE `+where, append(keyArgs, args...)
	figures := []Figures{}
	query := `SELECT ` + key + ` AS key, COUNT(*) AS calls, SUM(CASE WHEN c.status = 'failed' THEN 1 ELSE 0 END) AS failed,
		SUM(CASE WHEN c.status = 'partial' THEN 1 ELSE 0 END) AS partial, SUM(CASE WHEN c.cached THEN 1 ELSE 0 END) AS cached,
		COUNT(DISTINCT c.account_id) AS accounts, CAST(SUM(c.charged) AS BIGINT) AS charged, CAST(AVG(c.latency_us) / 1000.0 AS DOUBLE PRECISION) AS average_ms,
		CAST(MAX(c.latency_us) / 1000.0 AS DOUBLE PRECISION) AS longest_ms` + joined + where + ` GROUP BY ` + key + ` ORDER BY charged DESC, calls DESC, key LIMIT ?`
	if err := s.db.Select(ctx, &figures, query, append(args, p.Limit)...); err != nil {
		return nil, fmt.Errorf("services: sum up calls by %s: %w", p.By, err)
	}
	var sums []struct {
		Key    string `db:"key"`
		Unit   string `db:"unit"`
		Amount int64  `db:"amount"`
	}
	query = `SELECT ` + key + ` AS key, u.key AS unit, CAST(SUM(CAST(u.value AS BIGINT)) AS BIGINT) AS amount` + joined + eachUnit.For(s.db.Dialect()) + where +
		` GROUP BY ` + key + `, u.key`
	if err := s.db.Select(ctx, &sums, query, args...); err != nil {
		return nil, fmt.Errorf("services: sum up units by %s: %w", p.By, err)
	}
	at := make(map[string]*Figures, len(figures))
	for i := range figures {
		at[figures[i].Key] = &figures[i]
	}
	for _, sum := range sums {
		f := at[sum.Key]
		if f == nil {
			continue // beyond the limit
		}
		if f.Units == nil {
			f.Units = Units{}
		}
		f.Units[sum.Unit] = sum.Amount
	}
	return figures, nil
}

// Percentile is the time in which a part of a service's calls since a moment were done, such as 0.95 of them. It is zero
// when there are none.
func (s *Services) Percentile(ctx context.Context, service string, since time.Time, part float64) (time.Duration, error) {
	if part < 0 || part > 1 {
		return 0, problem.Invalid(map[string]string{"part": "This must lie between 0 and 1."})
	}
	s.Flush()
	const from = ` FROM qs_service_calls WHERE service = ? AND created_at >= ? AND finished_at IS NOT NULL`
	var count int64
	if err := s.db.Get(ctx, &count, `SELECT COUNT(*)`+from, service, database.At(since)); err != nil {
		return 0, fmt.Errorf("services: count calls: %w", err)
	}
	if count == 0 {
		return 0, nil
	}
	var took []int64
	offset := min(int64(part*float64(count)), count-1)
	if err := s.db.Select(ctx, &took, `SELECT latency_us`+from+` ORDER BY latency_us LIMIT 1 OFFSET ?`, service, database.At(since), offset); err != nil {
		return 0, fmt.Errorf("services: latency of calls: %w", err)
	}
	if len(took) == 0 {
		return 0, nil // removed meanwhile
	}
	return time.Duration(took[0]) * time.Microsecond, nil
}
