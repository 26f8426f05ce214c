package webhook

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// MaxActed is how many events one call of [Processor.Retry], [Processor.Skip] or [Processor.Replay] acts on at most.
const MaxActed = 1000

// Errors of what a person asks for.
var (
	ErrNoActor       error = problem.New(problem.CodeInvalid, "Say who asks.")
	ErrNothingChosen error = problem.New(problem.CodeInvalid, "Choose the events: by id, status, type, failure or time.")
)

// ActParams choose events, and say who acts on them.
type ActParams struct {
	// IDs choose these events. The other criteria narrow the choice, or make it where there are no IDs; at least one is
	// needed. At most [MaxActed].
	IDs     []string
	Status  Status
	Type    string
	Failure Class
	// ReceivedFrom and ReceivedTo bound the time of receipt, the latter exclusively. Zero: open.
	ReceivedFrom time.Time
	ReceivedTo   time.Time
	// After is the last event of the call before, to go on where that one's limit ended. Nil: begin with the oldest.
	After *Record
	// By is who asks: a person, a program. It is recorded with every event. Required.
	By string
	// Reason is recorded too. Optional.
	Reason string
	// DryRun tells what would be done and does nothing.
	DryRun bool
}

// Acted is what was done, or would be.
type Acted struct {
	// Events are the events as they were before, the oldest received first.
	Events []Record `json:"events"`
	// Left are those of the IDs that there is no event for, or whose status does not allow it.
	Left []string `json:"left,omitempty"`
	// More says that further events match; go on with After.
	More   bool `json:"more"`
	DryRun bool `json:"dry_run"`
}

// Verb is what can be done with an event.
type Verb string

// The verbs.
const (
	VerbRetry  Verb = "retry"
	VerbSkip   Verb = "skip"
	VerbReplay Verb = "replay"
	VerbReveal Verb = "reveal" // personal data in the payload was shown
)

// Retry makes dead events, and waiting ones that are named by id or status, due at once with all their tries ahead.
// Errors: [ErrNoActor], [ErrNothingChosen].
func (p *Processor) Retry(ctx context.Context, params ActParams) (Acted, error) {
	return p.act(ctx, VerbRetry, params)
}

// Skip ends dead events, and waiting ones that are named by id or status, without any effect. Errors: as [Processor.Retry].
func (p *Processor) Skip(ctx context.Context, params ActParams) (Acted, error) {
	return p.act(ctx, VerbSkip, params)
}

// Replay runs events again that came to an end: done, ignored, skipped or dead. Their handlers see them once more, so
// it relies on effects that are idempotent by their object, as all of this library's are. Events that were ignored
// because no handler was registered take effect this way. Errors: as [Processor.Retry].
func (p *Processor) Replay(ctx context.Context, params ActParams) (Acted, error) {
	return p.act(ctx, VerbReplay, params)
}

// allowed are the statuses that a verb applies to, and those that it takes when none is asked for.
func (v Verb) allowed(p ActParams) []Status {
	switch {
	case v == VerbReplay:
		return []Status{StatusDone, StatusIgnored, StatusSkipped, StatusDead}
	case len(p.IDs) > 0 || p.Status != "":
		return []Status{StatusReceived, StatusDead}
	default:
		return []Status{StatusDead}
	}
}

func (p ActParams) validate() error {
	switch {
	case strings.TrimSpace(p.By) == "":
		return ErrNoActor
	case len(p.IDs) == 0 && p.Status == "" && p.Type == "" && p.Failure == "" && p.ReceivedFrom.IsZero() && p.ReceivedTo.IsZero():
		return ErrNothingChosen
	case len(p.IDs) > MaxActed:
		return problem.Invalid(map[string]string{"ids": fmt.Sprintf("At most %d events at once.", MaxActed)})
	}
	return nil
}

func (p *Processor) act(ctx context.Context, verb Verb, params ActParams) (acted Acted, err error) {
	if err := params.validate(); err != nil {
		return Acted{}, err
	}
	err = p.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		if acted, err = p.choose(ctx, tx, verb, params); err != nil || params.DryRun {
			return err
		}
		ids := make([]string, len(acted.Events))
		for i, r := range acted.Events {
			ids[i] = r.ID
		}
		return p.apply(ctx, tx, verb, ids, params)
	})
	if err != nil {
		return Acted{}, fmt.Errorf("webhook: %s: %w", verb, err)
	}
	return acted, nil
}

// choose locks the events that params mean.
func (p *Processor) choose(ctx context.Context, tx *sqlx.Tx, verb Verb, params ActParams) (Acted, error) {
	acted := Acted{DryRun: params.DryRun, Events: []Record{}}
	statuses := verb.allowed(params)
	if params.Status != "" {
		statuses = slices.DeleteFunc(statuses, func(s Status) bool { return s != params.Status })
	}
	if len(statuses) == 0 {
		acted.Left = params.IDs
		return acted, nil
	}
	// Runs along the primary key, or qs_webhook_events_status.
	query, args := `SELECT `+recordColumns+` FROM qs_webhook_events WHERE status IN (?)`, []any{statuses}
	where := func(clause string, values ...any) { query, args = query+" AND "+clause, append(args, values...) }
	if len(params.IDs) > 0 {
		where("id IN (?)", params.IDs)
	}
	if params.Type != "" {
		where("type = ?", params.Type)
	}
	if params.Failure != "" {
		where("failure = ?", params.Failure)
	}
	if !params.ReceivedFrom.IsZero() {
		where("received_at >= ?", database.At(params.ReceivedFrom))
	}
	if !params.ReceivedTo.IsZero() {
		where("received_at < ?", database.At(params.ReceivedTo))
	}
	if a := params.After; a != nil {
		where("(received_at, id) > (?, ?)", database.At(a.ReceivedAt), a.ID)
	}
	query, args, err := sqlx.In(query+` ORDER BY received_at, id LIMIT ?`+p.db.Dialect().ForUpdate(), append(args, MaxActed+1)...)
	if err != nil {
		return acted, err
	}
	var rows []recordRow
	if err := p.db.SelectTx(ctx, tx, &rows, query, args...); err != nil {
		return acted, err
	}
	if acted.More = len(rows) > MaxActed; acted.More {
		rows = rows[:MaxActed]
	}
	acted.Events = records(rows)
	for _, id := range params.IDs {
		if !slices.ContainsFunc(acted.Events, func(r Record) bool { return r.ID == id }) {
			acted.Left = append(acted.Left, id)
		}
	}
	return acted, nil
}

// apply does it to events that are locked.
func (p *Processor) apply(ctx context.Context, tx *sqlx.Tx, verb Verb, ids []string, params ActParams) error {
	if len(ids) == 0 {
		return nil
	}
	now := database.At(p.now())
	update, args := `UPDATE qs_webhook_events SET status = 'received', attempts = 0, processed_at = NULL, lag = NULL, next_at = ? WHERE id IN (?)`, []any{now, ids}
	if verb == VerbSkip {
		update = `UPDATE qs_webhook_events SET status = 'skipped', processed_at = ? WHERE id IN (?)`
	}
	update, args, err := sqlx.In(update, args...)
	if err != nil {
		return err
	}
	if _, err := p.db.ExecTx(ctx, tx, update, args...); err != nil {
		return err
	}
	if err := p.record(ctx, tx, verb, ids, params.By, params.Reason); err != nil {
		return err
	}
	if verb == VerbSkip {
		return nil
	}
	return p.enqueue(ctx, tx, ids)
}

// Action is one line about what was done with an event by hand.
type Action struct {
	ID     uuid.UUID `json:"id"`
	Event  string    `json:"event"`
	Verb   Verb      `json:"action"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// Bounds of what people write, in bytes.
const (
	maxByBytes   = 200
	maxNoteBytes = 500
)

// record writes down who did what.
func (p *Processor) record(ctx context.Context, tx *sqlx.Tx, verb Verb, ids []string, by, reason string) error {
	const columns = 6
	args := make([]any, 0, len(ids)*columns)
	at := database.At(p.now())
	for _, event := range ids {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("webhook: make an id: %w", err)
		}
		args = append(args, id, event, verb, plain(strings.TrimSpace(by), maxByBytes), plain(strings.TrimSpace(reason), maxNoteBytes), at)
	}
	insert := `INSERT INTO qs_webhook_actions (id, event_id, action, done_by, reason, created_at) VALUES ` +
		strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, ?, ?), ", len(ids)), ", ")
	if _, err := p.db.ExecTx(ctx, tx, insert, args...); err != nil {
		return fmt.Errorf("webhook: record who asked: %w", err)
	}
	return nil
}

// ActionsParams choose a page of what was done with an event.
type ActionsParams struct {
	// Event is the event's id. Required.
	Event string
	// Before is the last line of the page before. Zero: begin with the newest.
	Before uuid.UUID
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// Actions returns a page of what people did with an event, newest first, and whether older lines follow.
func (p *Processor) Actions(ctx context.Context, params ActionsParams) (list []Action, more bool, err error) {
	// Runs along qs_webhook_actions_event.
	l := database.NewList(`SELECT id, event_id, action, done_by, reason, created_at FROM qs_webhook_actions`)
	l.And(`event_id = ?`, params.Event)
	l.If(params.Before != uuid.Nil, `id < ?`, params.Before)
	if list, more, err = database.Page(ctx, p.db, l, `id DESC`, params.Limit, actionRow.action); err != nil {
		return nil, false, fmt.Errorf("webhook: list the actions on event %s: %w", params.Event, err)
	}
	return list, more, nil
}

type actionRow struct {
	ID        uuid.UUID     `db:"id"`
	Event     string        `db:"event_id"`
	Verb      Verb          `db:"action"`
	By        string        `db:"done_by"`
	Reason    string        `db:"reason"`
	CreatedAt database.Time `db:"created_at"`
}

func (r actionRow) action() Action {
	return Action{ID: r.ID, Event: r.Event, Verb: r.Verb, By: r.By, Reason: r.Reason, At: r.CreatedAt.Time}
}
