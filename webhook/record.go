package webhook

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

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
	StatusSkipped  Status = "skipped"  // a person decided that it shall have no effect
	StatusDead     Status = "dead"     // given up; a person has to look
)

// ErrNotFound says that there is no such event.
var ErrNotFound error = problem.New(problem.CodeNotFound, "There is no such event.")

// Record is an event in the inbox, without its payload.
type Record struct {
	ID         string `json:"id"`
	Type       string `json:"type"`
	ObjectID   string `json:"object_id"`
	Account    string `json:"account,omitempty"`
	APIVersion string `json:"api_version"`
	Livemode   bool   `json:"livemode"`
	Status     Status `json:"status"`
	Attempts   int    `json:"attempts"`
	// Failure and Reason are the class of the last failure and its text without ids and numbers; LastError is the whole
	// of it. All are empty once the event is done.
	Failure     Class      `json:"failure,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	LastError   string     `json:"last_error,omitempty"`
	CreatedAt   time.Time  `json:"created_at"`
	ReceivedAt  time.Time  `json:"received_at"`
	ProcessedAt *time.Time `json:"processed_at,omitempty"`
	// NextAt is when an event that waits is due; nil for those that came to an end.
	NextAt *time.Time `json:"next_at,omitempty"`
}

// lockKey is what events about one object have in common. Some ids are chosen by the account and so unique only in it.
func (r Record) lockKey() string {
	if r.Account == "" {
		return r.ObjectID
	}
	return r.Account + "/" + r.ObjectID
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
	Failure     Class          `db:"failure"`
	Reason      string         `db:"reason"`
	LastError   string         `db:"last_error"`
	CreatedAt   database.Time  `db:"created_at"`
	ReceivedAt  database.Time  `db:"received_at"`
	ProcessedAt *database.Time `db:"processed_at"`
	NextAt      database.Time  `db:"next_at"`
	Payload     string         `db:"payload"`
	Effects     int64          `db:"effects"`
}

const recordColumns = `id, type, object_id, account, api_version, livemode, status, attempts, failure, reason, last_error, created_at, received_at,
	processed_at, next_at`

func (r recordRow) record() Record {
	rec := Record{ID: r.ID, Type: r.Type, ObjectID: r.ObjectID, Account: r.Account, APIVersion: r.APIVersion, Livemode: r.Livemode, Status: r.Status,
		Attempts: r.Attempts, Failure: r.Failure, Reason: r.Reason, LastError: r.LastError, CreatedAt: r.CreatedAt.Time, ReceivedAt: r.ReceivedAt.Time,
		ProcessedAt: r.ProcessedAt.Std()}
	if r.Status == StatusReceived {
		rec.NextAt = &r.NextAt.Time
	}
	return rec
}

func records(rows []recordRow) []Record {
	list := make([]Record, len(rows))
	for i, r := range rows {
		list[i] = r.record()
	}
	return list
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

// task is an event that waits, as a try needs it.
type task struct {
	Record

	payload []byte
	// effects counts the events about the object that took effect before the task was loaded.
	effects int64
}

// load reads those of the events that wait, the oldest first. It reads from the writer: a reader may be behind, and
// would find every object changed.
func (p *Processor) load(ctx context.Context, ids ...string) ([]task, error) {
	query, args, err := sqlx.In(`SELECT e.id, e.type, e.object_id, e.account, e.api_version, e.livemode, e.status, e.attempts, e.failure, e.reason, e.last_error,
		e.created_at, e.received_at, e.processed_at, e.next_at, e.payload, COALESCE(o.effects, 0) AS effects FROM qs_webhook_events e
		LEFT JOIN qs_webhook_objects o ON o.id = CASE WHEN e.account = '' THEN e.object_id ELSE e.account || '/' || e.object_id END
		WHERE e.id IN (?) AND e.status = 'received' ORDER BY e.received_at, e.id`, ids)
	if err != nil {
		return nil, fmt.Errorf("webhook: load events: %w", err)
	}
	var rows []recordRow
	if err := p.db.Writer().SelectContext(ctx, &rows, p.db.Rebind(query), args...); err != nil {
		return nil, fmt.Errorf("webhook: load events: %w", err)
	}
	tasks := make([]task, len(rows))
	for i, r := range rows {
		tasks[i] = task{r.record(), []byte(r.Payload), r.Effects}
	}
	return tasks, nil
}

// Find returns an event by Stripe's id; [ErrNotFound] when there is none.
func (p *Processor) Find(ctx context.Context, id string) (Record, error) {
	r, _, err := p.find(ctx, id)
	return r, err
}

// Limits of a page of events.
const (
	DefaultPage = database.DefaultPage // 50
	MaxPage     = database.MaxPage     // 500
)

// ListParams choose a page of the inbox.
type ListParams struct {
	// Status, Type and Object leave out the others. Empty: all.
	Status Status
	Type   string
	Object string
	// After is the last event of the page before. Nil: begin with the newest.
	After *Record
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// List returns a page of events, the latest received first, and whether older ones follow.
func (p *Processor) List(ctx context.Context, params ListParams) (list []Record, more bool, err error) {
	// Runs along qs_webhook_events_page, or _status.
	l := database.NewList(`SELECT ` + recordColumns + ` FROM qs_webhook_events`)
	l.If(params.Status != "", `status = ?`, params.Status)
	l.If(params.Type != "", `type = ?`, params.Type)
	l.If(params.Object != "", `object_id = ?`, params.Object)
	if a := params.After; a != nil {
		l.And(`(received_at, id) < (?, ?)`, database.At(a.ReceivedAt), a.ID)
	}
	if list, more, err = database.Page(ctx, p.db, l, `received_at DESC, id DESC`, params.Limit, recordRow.record); err != nil {
		return nil, false, fmt.Errorf("webhook: list events: %w", err)
	}
	return list, more, nil
}
