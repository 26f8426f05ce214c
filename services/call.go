package services

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
)

// Status is where a call stands.
type Status string

// The statuses of calls.
const (
	// Queued is a call that waits to be run in the background.
	Queued    Status = "queued"
	Running   Status = "running"
	Succeeded Status = "succeeded"
	// PartlySucceeded calls have an output that is not complete, and were charged for what it took.
	PartlySucceeded Status = "partial"
	Failed          Status = "failed"
)

var statuses = []Status{Queued, Running, Succeeded, PartlySucceeded, Failed}

// The codes of failed calls, besides those that a service's own errors bring.
const (
	codeFailed      = "execution_failed"
	codeTimeout     = "timeout"
	codeCanceled    = "canceled"
	codeInterrupted = "interrupted"
	// The codes of partial calls, which say why the output is not complete.
	codePartial      = "partial"
	codeOutOfCredits = "out_of_credits"
)

// CallError is the failure of a call that had begun. Its code is execution_failed, timeout, canceled (the caller went
// away), interrupted (its process died), or that of the service's own error.
type CallError struct {
	Call uuid.UUID
	// Charged is what the failed call cost, zero unless the service has [ChargeOnFailure].
	Charged credits.Amount
	Code    string
	Message string
	// cause is the error of Execute, nil where the failure comes from the database.
	cause error
}

// Error implements error.
func (e *CallError) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("services: call %s: %s: %v", e.Call, e.Code, e.cause)
	}
	return fmt.Sprintf("services: call %s: %s: %s", e.Call, e.Code, e.Message)
}

// Unwrap returns the error of Execute.
func (e *CallError) Unwrap() error { return e.cause }

// ErrorCode is the machine code.
func (e *CallError) ErrorCode() string { return e.Code }

// ErrorMessage says what went wrong and what it cost.
func (e *CallError) ErrorMessage() string {
	if e.Charged > 0 {
		return fmt.Sprintf("%s The call cost %s credits.", e.Message, e.Charged)
	}
	return e.Message + " Nothing was charged."
}

// ErrorDetails are the call's id, what it cost, and the facts of the service's own error.
func (e *CallError) ErrorDetails() map[string]any {
	details := map[string]any{"call_id": e.Call, "credits_charged": e.Charged}
	if c := problem.From(e.cause); c != nil {
		maps.Copy(details, c.ErrorDetails())
	}
	return details
}

// callRow is a call as it is stored. The input is stored only while a call waits or runs in the background, and the
// output only where it may be asked for again: with a key, in the background, and for equal inputs.
type callRow struct {
	ID          uuid.UUID      `db:"id"`
	Account     string         `db:"account_id"`
	Service     string         `db:"service"`
	Version     string         `db:"version"`
	Status      Status         `db:"status"`
	Price       credits.Amount `db:"price"`
	Charged     credits.Amount `db:"charged"`
	HoldID      *uuid.UUID     `db:"hold_id"`
	EntryID     *uuid.UUID     `db:"entry_id"`
	Key         *string        `db:"idempotency_key"`
	Fingerprint string         `db:"fingerprint"`
	Output      *string        `db:"output"`
	ErrorCode   string         `db:"error_code"`
	ErrorText   string         `db:"error_text"`
	CreatedAt   database.Time  `db:"created_at"`
	ExpiresAt   database.Time  `db:"expires_at"`
	FinishedAt  *database.Time `db:"finished_at"`
	LatencyUS   int64          `db:"latency_us"`
	Units       string         `db:"units"`
	Tags        string         `db:"tags"`
	Input       *string        `db:"input"`
	Notify      bool           `db:"notify"`
	Attempts    int            `db:"attempts"`
	StartedAt   *database.Time `db:"started_at"`
	CancelAt    *database.Time `db:"cancel_at"`
	Cached      bool           `db:"cached"`
	CachedUntil *database.Time `db:"cached_until"`
}

const callColumns = `id, account_id, service, version, status, price, charged, hold_id, entry_id, idempotency_key, fingerprint, output, error_code,
	error_text, created_at, expires_at, finished_at, latency_us, units, tags, input, notify, attempts, started_at, cancel_at, cached, cached_until`

func (r callRow) values() []any {
	return []any{r.ID, r.Account, r.Service, r.Version, r.Status, r.Price, r.Charged, r.HoldID, r.EntryID, r.Key, r.Fingerprint, r.Output, r.ErrorCode,
		r.ErrorText, r.CreatedAt, r.ExpiresAt, r.FinishedAt, r.LatencyUS, r.Units, r.Tags, r.Input, r.Notify, r.Attempts, r.StartedAt, r.CancelAt, r.Cached,
		r.CachedUntil}
}

// reasonOf is the line of a call in the credit history.
func reasonOf(title string) string { return "Service: " + title }

// referencePrefix begins what ties the credit entry to the call.
const referencePrefix = "service-call:"

func referenceOf(id uuid.UUID) string { return referencePrefix + id.String() }

const callMarks = `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

// insert writes a call that begins, with its tags. It does nothing and returns false when another call has the key.
func (s *Services) insert(ctx context.Context, tx *sqlx.Tx, r callRow, tags map[string]string) (bool, error) {
	const insert = `INSERT INTO qs_service_calls (` + callColumns + `) VALUES ` + callMarks + ` ON CONFLICT DO NOTHING`
	n, err := s.db.ExecTx(ctx, tx, insert, r.values()...)
	if err != nil {
		return false, fmt.Errorf("services: write call %s: %w", r.ID, err)
	}
	if n == 0 {
		return false, nil
	}
	return true, s.insertTags(ctx, tx, r.ID, r.Account, tags)
}

func (s *Services) insertTags(ctx context.Context, tx *sqlx.Tx, id uuid.UUID, account string, tags map[string]string) error {
	for name, value := range tags {
		const insert = `INSERT INTO qs_service_call_tags (account_id, name, value, call_id) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`
		if _, err := s.db.ExecTx(ctx, tx, insert, account, name, value, id); err != nil {
			return fmt.Errorf("services: write the tags of call %s: %w", id, err)
		}
	}
	return nil
}

// findKey returns the call that owns an idempotency key, or nil.
func (s *Services) findKey(ctx context.Context, tx *sqlx.Tx, account, key string) (*callRow, error) {
	const find = `SELECT ` + callColumns + ` FROM qs_service_calls
		WHERE account_id = ? AND idempotency_key = ? AND (status <> 'failed' OR charged > 0)`
	var r callRow
	err := s.db.GetTx(ctx, tx, &r, find, account, key)
	if database.IsNoRows(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("services: look for a key of account %s: %w", account, err)
	}
	return &r, nil
}

// end is how a call ends.
type end struct {
	status Status
	// charge says that an entry is written, of charged, which may be zero.
	charge  bool
	charged credits.Amount
	entry   *uuid.UUID
	// output is what is kept. Nil: nothing.
	output  json.RawMessage
	units   string
	cached  bool
	until   *database.Time // of the cache
	code    string
	text    string
	latency time.Duration
}

// close ends a running call. It returns false when the call has ended before, with the status that it got then.
func (s *Services) close(ctx context.Context, tx *sqlx.Tx, id uuid.UUID, e end) (closed bool, status Status, err error) {
	var output *string
	if e.output != nil {
		output = new(string(e.output))
	}
	if e.units == "" {
		e.units = emptyObject
	}
	const update = `UPDATE qs_service_calls SET status = ?, charged = ?, entry_id = ?, output = ?, error_code = ?, error_text = ?, finished_at = ?,
		latency_us = ?, units = ?, cached = ?, cached_until = ?, input = NULL WHERE id = ? AND status IN ('queued', 'running')`
	n, err := s.db.ExecTx(ctx, tx, update, e.status, e.charged, e.entry, output, e.code, e.text, database.At(s.now()), e.latency.Microseconds(), e.units,
		e.cached, e.until, id)
	if err != nil {
		return false, "", fmt.Errorf("services: end call %s: %w", id, err)
	}
	if n == 1 {
		return true, e.status, nil
	}
	if err := s.db.GetTx(ctx, tx, &status, `SELECT status FROM qs_service_calls WHERE id = ?`, id); err != nil {
		return false, "", fmt.Errorf("services: status of call %s: %w", id, err)
	}
	return false, status, nil
}
