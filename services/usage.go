package services

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

// Limits of a page of usage.
const (
	DefaultPage = database.DefaultPage // 50
	MaxPage     = database.MaxPage     // 500
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
	// Units are what was metered, or priced.
	Units Units `json:"units,omitempty"`
	// Tags are the caller's.
	Tags map[string]string `json:"tags,omitempty"`
	// Cached says that an earlier call with an equal input made the output.
	Cached bool `json:"cached,omitempty"`
	// EntryID is the entry of the credit history. Nil: none.
	EntryID *uuid.UUID `json:"entry_id,omitempty"`
	// ErrorCode and ErrorText say why a call failed, or why its output is not complete.
	ErrorCode  string     `json:"error_code,omitempty"`
	ErrorText  string     `json:"error,omitempty"`
	CreatedAt  time.Time  `json:"created_at"`
	StartedAt  *time.Time `json:"started_at,omitempty"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
	// LatencyMS is how long the work took, in milliseconds.
	LatencyMS int64 `json:"latency_ms"`
	// CancelAt is when the end of a call in the background was asked for.
	CancelAt *time.Time `json:"cancel_at,omitempty"`
	// Output is what is kept of the output. It is not listed: [Services.FindCall] and [Config.OnEndTx] have it.
	Output json.RawMessage `json:"result,omitempty"`
}

func (r callRow) record() (Record, error) {
	record := Record{ID: r.ID, Account: r.Account, Service: r.Service, Version: r.Version, Status: r.Status, Price: r.Price, Charged: r.Charged, Cached: r.Cached,
		EntryID: r.EntryID, ErrorCode: r.ErrorCode, ErrorText: r.ErrorText, CreatedAt: r.CreatedAt.Time, StartedAt: r.StartedAt.Std(),
		FinishedAt: r.FinishedAt.Std(), LatencyMS: r.LatencyUS / 1000, CancelAt: r.CancelAt.Std()}
	if r.Output != nil {
		record.Output = json.RawMessage(*r.Output)
	}
	if r.Units != emptyObject {
		if err := json.Unmarshal([]byte(r.Units), &record.Units); err != nil {
			return Record{}, fmt.Errorf("services: units of call %s: %w", r.ID, err)
		}
	}
	if r.Tags != emptyObject {
		if err := json.Unmarshal([]byte(r.Tags), &record.Tags); err != nil {
			return Record{}, fmt.Errorf("services: tags of call %s: %w", r.ID, err)
		}
	}
	return record, nil
}

// UsageParams choose a page of calls.
type UsageParams struct {
	// Account is whose. Empty: everybody's, for staff.
	Account string
	// Service and Status leave out other calls. Empty: all.
	Service string
	Status  Status
	// Tag and Value leave out calls that do not have the tag with the value. An empty Tag: all.
	Tag, Value string
	// Since and Until bound when the calls began, Until not included. Zero: no bound.
	Since, Until time.Time
	// Before is the last call of the page before. Zero: begin with the newest.
	Before uuid.UUID
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// where is the condition of the calls c that p asks for, but for the page.
func (p UsageParams) where() (text string, args []any) {
	text = `1 = 1`
	and := func(condition string, values ...any) {
		text, args = text+` AND `+condition, append(args, values...)
	}
	if p.Account != "" {
		and(`c.account_id = ?`, p.Account)
	}
	if p.Service != "" {
		and(`c.service = ?`, p.Service)
	}
	if p.Status != "" {
		and(`c.status = ?`, p.Status)
	}
	if p.Tag != "" {
		and(`EXISTS (SELECT 1 FROM qs_service_call_tags t WHERE t.account_id = c.account_id AND t.name = ? AND t.value = ? AND t.call_id = c.id)`, p.Tag, p.Value)
	}
	if !p.Since.IsZero() {
		and(`c.created_at >= ?`, database.At(p.Since))
	}
	if !p.Until.IsZero() {
		and(`c.created_at < ?`, database.At(p.Until))
	}
	return text, args
}

const usageColumns = `id, account_id, service, version, status, price, charged, entry_id, error_code, error_text, created_at, started_at, finished_at,
	latency_us, units, tags, cached`

// Usage returns a page of calls, newest first, and whether older ones follow. Calls that this process has answered are
// among them.
func (s *Services) Usage(ctx context.Context, p UsageParams) (records []Record, more bool, err error) {
	s.Flush()
	// Runs along qs_service_calls_account, _service or the primary key.
	where, args := p.where()
	l := database.NewList(`SELECT ` + usageColumns + ` FROM qs_service_calls c`)
	l.And(where, args...)
	l.If(p.Before != uuid.Nil, `c.id < ?`, p.Before)
	rows, more, err := database.Rows[callRow](ctx, s.db, l, `c.id DESC`, p.Limit)
	if err != nil {
		return nil, false, fmt.Errorf("services: list calls: %w", err)
	}
	records = make([]Record, len(rows))
	for i, r := range rows {
		if records[i], err = r.record(); err != nil {
			return nil, false, err
		}
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
