package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Status is where an event stands.
type Status string

// The statuses of events.
const (
	StatusReceived Status = "received" // waits, or is tried again
	StatusDone     Status = "done"     // took effect
	StatusIgnored  Status = "ignored"  // no function is registered for its type
	StatusDead     Status = "dead"     // given up; a person has to look
)

// ErrNotFound says that there is no such event.
var ErrNotFound error = problem.New(problem.CodeNotFound, "There is no such event.")

// Record is an event in the inbox, without its payload.
type Record struct {
	ID          string     `json:"id"`
	Type        string     `json:"type"`
	ObjectID    string     `json:"object_id"`
	Account     string     `json:"account,omitempty"`
	APIVersion  string     `json:"api_version"`
	Livemode    bool       `json:"livemode"`
	Status      Status     `json:"status"`
	Attempts    int        `json:"attempts"`
	LastError   string     `json:"last_error,omitempty"`
	CreatedAt   time.Time  `json:"created_at"`
	ReceivedAt  time.Time  `json:"received_at"`
	ProcessedAt *time.Time `json:"processed_at,omitempty"`
}

type recordRow struct {
	ID          string         `db:"id"`
	Type        string         `db:"type"`
	ObjectID    string         `db:"object_id"`
	Account     string         `db:"account"`
	APIVersion  string         `db:"api_version"`
	Livemode    bool           `db:"livemode"`
	Status      Status         `db:"status"`
	Attempts    int            `db:"attempts"`
	LastError   string         `db:"last_error"`
	CreatedAt   database.Time  `db:"created_at"`
	ReceivedAt  database.Time  `db:"received_at"`
	ProcessedAt *database.Time `db:"processed_at"`
	Payload     string         `db:"payload"`
}

const recordColumns = `id, type, object_id, account, api_version, livemode, status, attempts, last_error, created_at, received_at, processed_at`

func (r recordRow) record() Record {
	return Record{ID: r.ID, Type: r.Type, ObjectID: r.ObjectID, Account: r.Account, APIVersion: r.APIVersion, Livemode: r.Livemode, Status: r.Status,
		Attempts: r.Attempts, LastError: r.LastError, CreatedAt: r.CreatedAt.Time, ReceivedAt: r.ReceivedAt.Time, ProcessedAt: r.ProcessedAt.Std()}
}

func (p *Processor) find(ctx context.Context, id string) (Record, []byte, error) {
	var row recordRow
	err := p.db.Get(ctx, &row, `SELECT `+recordColumns+`, payload FROM qs_webhook_events WHERE id = ?`, id)
	if database.IsNoRows(err) {
		return Record{}, nil, ErrNotFound
	}
	if err != nil {
		return Record{}, nil, fmt.Errorf("webhook: find event %s: %w", id, err)
	}
	return row.record(), []byte(row.Payload), nil
}

// Find returns an event by Stripe's id; [ErrNotFound] when there is none.
func (p *Processor) Find(ctx context.Context, id string) (Record, error) {
	r, _, err := p.find(ctx, id)
	return r, err
}

// Limits of a page of events.
const (
	DefaultPage = 50
	MaxPage     = 500
)

// ListParams choose a page of the inbox.
type ListParams struct {
	// Status leaves out the others. Empty: all.
	Status Status
	// After is the last event of the page before. Nil: begin with the newest.
	After *Record
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// List returns a page of events, the latest received first, and whether older ones follow.
func (p *Processor) List(ctx context.Context, params ListParams) (records []Record, more bool, err error) {
	if params.Limit <= 0 {
		params.Limit = DefaultPage
	}
	params.Limit = min(params.Limit, MaxPage)
	// Runs along qs_webhook_events_page, or _status.
	query, args := `SELECT `+recordColumns+` FROM qs_webhook_events WHERE 1 = 1`, []any{}
	if params.Status != "" {
		query, args = query+` AND status = ?`, append(args, params.Status)
	}
	if a := params.After; a != nil {
		query, args = query+` AND (received_at, id) < (?, ?)`, append(args, database.At(a.ReceivedAt), a.ID)
	}
	var rows []recordRow
	if err := p.db.Select(ctx, &rows, query+` ORDER BY received_at DESC, id DESC LIMIT ?`, append(args, params.Limit+1)...); err != nil {
		return nil, false, fmt.Errorf("webhook: list events: %w", err)
	}
	if more = len(rows) > params.Limit; more {
		rows = rows[:params.Limit]
	}
	records = make([]Record, len(rows))
	for i, r := range rows {
		records[i] = r.record()
	}
	return records, more, nil
}
