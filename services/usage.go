package services

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

// Limits of a page of usage.
const (
	DefaultPage = 50
	MaxPage     = 500
)

// Record is a call as the usage shows it.
type Record struct {
	ID      uuid.UUID      `json:"call_id"`
	Account string         `json:"-"`
	Service string         `json:"service"`
	Version string         `json:"version,omitempty"`
	Status  Status         `json:"status"`
	Price   credits.Amount `json:"price"`
	Charged credits.Amount `json:"credits_charged"`
	// EntryID is the entry of the credit history. Nil: none.
	EntryID *uuid.UUID `json:"entry_id,omitempty"`
	// ErrorCode and ErrorText say why a call failed.
	ErrorCode  string     `json:"error_code,omitempty"`
	ErrorText  string     `json:"error,omitempty"`
	CreatedAt  time.Time  `json:"created_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
	// LatencyMS is how long the work took, in milliseconds.
	LatencyMS int64 `json:"latency_ms"`
}

func (r callRow) record() Record {
	return Record{ID: r.ID, Account: r.Account, Service: r.Service, Version: r.Version, Status: r.Status, Price: r.Price, Charged: r.Charged, EntryID: r.EntryID,
		ErrorCode: r.ErrorCode, ErrorText: r.ErrorText, CreatedAt: r.CreatedAt.Time, FinishedAt: r.FinishedAt.Std(), LatencyMS: r.LatencyUS / 1000}
}

// UsageParams choose a page of calls.
type UsageParams struct {
	// Account is whose. Empty: everybody's, for staff.
	Account string
	// Service leaves out the calls of other services. Empty: all.
	Service string
	// Before is the last call of the page before. Zero: begin with the newest.
	Before uuid.UUID
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// Usage returns a page of calls, newest first, and whether older ones follow.
func (s *Services) Usage(ctx context.Context, p UsageParams) (records []Record, more bool, err error) {
	if p.Limit <= 0 {
		p.Limit = DefaultPage
	}
	p.Limit = min(p.Limit, MaxPage)
	// Runs along qs_service_calls_account, _account_service, _service or the primary key.
	query, args := `SELECT `+callColumns+` FROM qs_service_calls WHERE 1 = 1`, []any{}
	if p.Account != "" {
		query, args = query+` AND account_id = ?`, append(args, p.Account)
	}
	if p.Service != "" {
		query, args = query+` AND service = ?`, append(args, p.Service)
	}
	if p.Before != uuid.Nil {
		query, args = query+` AND id < ?`, append(args, p.Before)
	}
	var rows []callRow
	if err := s.db.Select(ctx, &rows, query+` ORDER BY id DESC LIMIT ?`, append(args, p.Limit+1)...); err != nil {
		return nil, false, fmt.Errorf("services: list calls: %w", err)
	}
	if more = len(rows) > p.Limit; more {
		rows = rows[:p.Limit]
	}
	records = make([]Record, len(rows))
	for i, r := range rows {
		records[i] = r.record()
	}
	return records, more, nil
}

// Count is the use of one service over a span of time.
type Count struct {
	Service string `db:"service" json:"service"`
	// Calls are all, of which Failed failed; those that still run are among Calls.
	Calls   int64          `db:"calls"   json:"calls"`
	Failed  int64          `db:"failed"  json:"failed"`
	Charged credits.Amount `db:"charged" json:"credits_charged"`
}

// UsageCounts counts the calls since a moment, by service, the most used first. It is for staff: it spans accounts.
func (s *Services) UsageCounts(ctx context.Context, since time.Time) ([]Count, error) {
	// Runs along qs_service_calls_created.
	const count = `SELECT service, COUNT(*) AS calls, SUM(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) AS failed, SUM(charged) AS charged
		FROM qs_service_calls WHERE created_at >= ? GROUP BY service ORDER BY calls DESC, service`
	counts := []Count{}
	if err := s.db.Select(ctx, &counts, count, database.At(since)); err != nil {
		return nil, fmt.Errorf("services: count calls: %w", err)
	}
	return counts, nil
}
