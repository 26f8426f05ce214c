package outbound

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/quickscale/quickscale/internal/database"
)

// Status is where a delivery stands.
type Status string

// The statuses of deliveries.
const (
	StatusWaiting   Status = "waiting"   // goes out, or is tried again
	StatusDelivered Status = "delivered" // the endpoint answered 2xx
	StatusFailed    Status = "failed"    // given up
)

// Delivery is a message on its way to one endpoint.
type Delivery struct {
	ID       uuid.UUID `json:"id"`
	Account  string    `json:"account"`
	Endpoint uuid.UUID `json:"endpoint"`
	// Message is the id that the receiver sees as webhook-id.
	Message  string `json:"message"`
	Type     string `json:"type"`
	Status   Status `json:"status"`
	Attempts int    `json:"attempts"`
	// LastStatus is the HTTP status of the last try, 0 when there was no answer; LastError says what was wrong.
	LastStatus int        `json:"last_status,omitempty"`
	LastError  string     `json:"last_error,omitempty"`
	CreatedAt  time.Time  `json:"created_at"`
	EndedAt    *time.Time `json:"ended_at,omitempty"`
	// NextAt is when it is tried next; nil when it came to an end.
	NextAt *time.Time `json:"next_at,omitempty"`
}

type deliveryRow struct {
	ID         uuid.UUID      `db:"id"`
	Account    string         `db:"account"`
	MessageID  uuid.UUID      `db:"message_id"`
	EndpointID uuid.UUID      `db:"endpoint_id"`
	Type       string         `db:"type"`
	Payload    string         `db:"payload"`
	Status     Status         `db:"status"`
	Attempts   int            `db:"attempts"`
	LastStatus int            `db:"last_status"`
	LastError  string         `db:"last_error"`
	CreatedAt  database.Time  `db:"created_at"`
	EndedAt    *database.Time `db:"ended_at"`
	NextAt     database.Time  `db:"next_at"`
}

func (r deliveryRow) delivery() Delivery {
	d := Delivery{ID: r.ID, Account: r.Account, Endpoint: r.EndpointID, Message: messageID(r.MessageID), Type: r.Type, Status: r.Status, Attempts: r.Attempts,
		LastStatus: r.LastStatus, LastError: r.LastError, CreatedAt: r.CreatedAt.Time, EndedAt: r.EndedAt.Std()}
	if r.Status == StatusWaiting {
		d.NextAt = &r.NextAt.Time
	}
	return d
}

const selectDelivery = `SELECT d.id, d.account, d.message_id, d.endpoint_id, m.type, m.payload, d.status, d.attempts, d.last_status, d.last_error,
	d.created_at, d.ended_at, d.next_at FROM qs_outbound_deliveries d JOIN qs_outbound_messages m ON m.id = d.message_id`

type jobArgs struct {
	Delivery uuid.UUID `json:"delivery"`
}

// Kind names the job; it is in the database of every installation and is not changed.
func (jobArgs) Kind() string { return "quickscale_outbound_delivery" }

type worker struct {
	river.WorkerDefaults[jobArgs]

	o *Outbound
}

// Work makes one try. When the next one is due is kept with the delivery, and River gets a snooze.
func (w *worker) Work(ctx context.Context, job *river.Job[jobArgs]) error {
	return w.o.work(ctx, job.Args.Delivery)
}

// Timeout leaves the try its own bound and some time to note the result.
func (w *worker) Timeout(*river.Job[jobArgs]) time.Duration { return w.o.cfg.Timeout + noteTime }

const (
	noteTime = 30 * time.Second
	// early is how much before its time a delivery may be tried: clocks and River's polling differ by as much.
	early = time.Second
)

func (o *Outbound) work(ctx context.Context, id uuid.UUID) error {
	// From the writer: a reader may not have the delivery yet.
	var row deliveryRow
	err := o.db.Writer().GetContext(ctx, &row, o.db.Rebind(selectDelivery+` WHERE d.id = ?`), id)
	if database.IsNoRows(err) {
		return river.JobCancel(ErrNotFound) // its endpoint was removed
	}
	if err != nil {
		return fmt.Errorf("outbound: find delivery %s: %w", id, err)
	}
	if row.Status != StatusWaiting {
		return nil
	}
	if wait := row.NextAt.Sub(o.now()); wait > early {
		return river.JobSnooze(wait)
	}
	var e endpointRow
	if err := o.db.Writer().GetContext(ctx, &e, o.db.Rebind(`SELECT `+endpointColumns+` FROM qs_outbound_endpoints WHERE id = ?`), row.EndpointID); err != nil {
		return fmt.Errorf("outbound: find endpoint %s: %w", row.EndpointID, err)
	}
	if e.Enabled == 0 {
		_, err := o.note(ctx, row, attempt{err: errors.New("the endpoint is disabled")}, 0)
		return err
	}
	a, err := o.try(ctx, row, e)
	if err != nil {
		return err
	}
	if ctx.Err() != nil && a.err != nil {
		return ctx.Err() // the process is being stopped, which is no failure of the endpoint
	}
	pause := o.cfg.Backoff(row.Attempts + 1)
	again, err := o.note(context.WithoutCancel(ctx), row, a, pause)
	if err != nil || !again {
		return err
	}
	return river.JobSnooze(max(0, pause))
}

// attempt is what came of one try.
type attempt struct {
	made   bool
	status int
	err    error
	took   time.Duration
	answer string
}

func (a attempt) delivered() bool { return a.err == nil && a.status >= 200 && a.status < 300 }

// text says what went wrong, without the address, which may hold what is not meant for logs.
func (a attempt) text() string {
	if a.delivered() {
		return ""
	}
	if a.err == nil {
		return "the endpoint answered " + strconv.Itoa(a.status)
	}
	err := a.err
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	const limit = 300
	text := storable(err.Error())
	return strings.ToValidUTF8(text[:min(len(text), limit)], "")
}

// How much of an answer is read, so that the connection can be used again, and how much of it is kept for the log.
const (
	maxAnswer = 64 << 10
	maxKept   = 2 << 10
)

// storable is a text as both databases take it.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", "")
}

// try sends a message once. The error is ours; what the endpoint did wrong is in the attempt.
func (o *Outbound) try(ctx context.Context, d deliveryRow, e endpointRow) (attempt, error) {
	began := o.now()
	id := messageID(d.MessageID)
	signature, err := o.sign(id, began, d.Payload, e)
	if err != nil {
		return attempt{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader([]byte(d.Payload)))
	if err != nil {
		return attempt{}, fmt.Errorf("outbound: request for delivery %s: %w", d.ID, err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", o.cfg.UserAgent)
	// The standard writes its headers in lower case; HTTP does not care.
	r.Header.Set(standardwebhooks.HeaderWebhookID, id)
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(began.Unix(), 10))
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	started := time.Now()
	res, err := o.http.Do(r)
	if err != nil {
		return attempt{made: true, err: err, took: time.Since(started)}, nil
	}
	defer res.Body.Close()
	body := io.LimitReader(res.Body, maxAnswer)
	kept, err := io.ReadAll(io.LimitReader(body, maxKept))
	if err == nil {
		_, err = io.Copy(io.Discard, body)
	}
	a := attempt{made: true, status: res.StatusCode, took: time.Since(started), answer: storable(string(kept))}
	if !a.delivered() {
		a.err = err
	}
	return a, nil
}

// sign makes the signatures, one per secret that is in use.
func (o *Outbound) sign(id string, at time.Time, payload string, e endpointRow) (string, error) {
	secrets := [][]byte{e.Secret}
	if e.OldUntil != nil && at.Before(e.OldUntil.Time) {
		secrets = append(secrets, e.OldSecret)
	}
	signatures := make([]string, len(secrets))
	for i, sealed := range secrets {
		secret, err := o.box.Open(sealed)
		if err != nil {
			return "", fmt.Errorf("outbound: open the secret of endpoint %s: %w", e.ID, err)
		}
		signer, err := standardwebhooks.NewWebhook(string(secret))
		if err != nil {
			return "", fmt.Errorf("outbound: the secret of endpoint %s is none", e.ID)
		}
		if signatures[i], err = signer.Sign(id, at, []byte(payload)); err != nil {
			return "", fmt.Errorf("outbound: sign for endpoint %s: %w", e.ID, err)
		}
	}
	return strings.Join(signatures, " "), nil
}

// note writes down what came of a try and tells whether there is another one.
func (o *Outbound) note(ctx context.Context, d deliveryRow, a attempt, pause time.Duration) (again bool, err error) {
	now := o.now()
	status, next := StatusWaiting, database.At(now.Add(max(0, pause)))
	var ended *database.Time
	attempts := d.Attempts
	if a.made {
		attempts++
	}
	switch {
	case a.delivered():
		status = StatusDelivered
	case !a.made, attempts >= o.cfg.MaxAttempts, a.status == http.StatusGone:
		status = StatusFailed
	}
	if status != StatusWaiting {
		ended = new(database.At(now))
	}
	var disabled *Endpoint
	err = o.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		disabled = nil
		const mark = `UPDATE qs_outbound_deliveries SET status = ?, attempts = ?, last_status = ?, last_error = ?, ended_at = ?, next_at = ? WHERE id = ? AND status = 'waiting'`
		n, err := o.db.ExecTx(ctx, tx, mark, status, attempts, a.status, a.text(), ended, next, d.ID)
		if err != nil || n == 0 || !a.made {
			return err
		}
		if err := o.log(ctx, tx, d.ID, a, now); err != nil {
			return err
		}
		if disabled, err = o.health(ctx, tx, d, a, now); err != nil || disabled == nil || o.cfg.OnDisabled == nil {
			return err
		}
		return o.cfg.OnDisabled(ctx, tx, *disabled)
	})
	if err != nil {
		return false, fmt.Errorf("outbound: note the try of delivery %s: %w", d.ID, err)
	}
	if a.made {
		o.report(ctx, d, a)
	}
	if disabled != nil {
		o.cfg.Logger.WarnContext(ctx, "webhook endpoint disabled", slog.String("endpoint", disabled.ID.String()), slog.String("account", disabled.Account),
			slog.String("reason", disabled.DisabledWhy))
	}
	return status == StatusWaiting, nil
}

func (o *Outbound) report(ctx context.Context, d deliveryRow, a attempt) {
	result := "delivered"
	if !a.delivered() {
		result = "failed"
		o.cfg.Logger.InfoContext(ctx, "webhook not delivered", slog.String("delivery", d.ID.String()), slog.String("endpoint", d.EndpointID.String()),
			slog.Int("status", a.status), slog.String("error", a.text()))
	}
	o.sent.Add(ctx, 1, metric.WithAttributes(attribute.String("type", d.Type), attribute.String("result", result)))
	o.took.Record(ctx, a.took.Seconds())
}

func (o *Outbound) log(ctx context.Context, tx *sqlx.Tx, delivery uuid.UUID, a attempt, now time.Time) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make an id: %w", err)
	}
	const insert = `INSERT INTO qs_outbound_attempts (id, delivery_id, status, error, answer, took, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)`
	_, err = o.db.ExecTx(ctx, tx, insert, id, delivery, a.status, a.text(), a.answer, a.took.Microseconds(), database.At(now))
	return err
}

// health keeps since when the endpoint fails, and disables it when that is too long or it says that it is gone (410, as
// Standard Webhooks has it). It returns the endpoint when it was disabled just now.
func (o *Outbound) health(ctx context.Context, tx *sqlx.Tx, d deliveryRow, a attempt, now time.Time) (*Endpoint, error) {
	if a.delivered() {
		_, err := o.db.ExecTx(ctx, tx, `UPDATE qs_outbound_endpoints SET failing_since = NULL WHERE id = ? AND failing_since IS NOT NULL`, d.EndpointID)
		return nil, err
	}
	e, err := o.lockEndpoint(ctx, tx, d.Account, d.EndpointID)
	if err != nil || !e.Enabled {
		return nil, err
	}
	if e.FailingSince == nil {
		e.FailingSince = &now
	}
	switch {
	case a.status == http.StatusGone:
		e.DisabledWhy = "the endpoint answered 410: it is gone"
	case now.Sub(*e.FailingSince) >= o.cfg.DisableAfter:
		e.DisabledWhy = "every try since " + e.FailingSince.Format(time.RFC3339) + " failed"
	}
	enabled := 1
	if e.DisabledWhy != "" {
		enabled, e.Enabled = 0, false
	}
	const update = `UPDATE qs_outbound_endpoints SET failing_since = ?, enabled = ?, disabled_why = ?, updated_at = ? WHERE id = ?`
	if _, err := o.db.ExecTx(ctx, tx, update, database.AtPtr(e.FailingSince), enabled, e.DisabledWhy, database.At(now), e.ID); err != nil {
		return nil, err
	}
	if e.Enabled {
		return nil, nil
	}
	return &e, nil
}

// Limits of a page of deliveries.
const (
	DefaultPage = database.DefaultPage // 50
	MaxPage     = database.MaxPage     // 500
)

// DeliveriesParams choose a page of an account's deliveries.
type DeliveriesParams struct {
	// Account is whose. Required.
	Account string
	// Endpoint and Status leave out the others. Zero: all.
	Endpoint uuid.UUID
	Status   Status
	// Before is the last delivery of the page before. Zero: begin with the newest.
	Before uuid.UUID
	// Limit is the size of the page, at most 500. 0: 50.
	Limit int
}

// Deliveries returns a page of deliveries, newest first, and whether older ones follow.
func (o *Outbound) Deliveries(ctx context.Context, p DeliveriesParams) (list []Delivery, more bool, err error) {
	// Runs along qs_outbound_deliveries_account, or _endpoint.
	l := database.NewList(selectDelivery)
	l.And(`d.account = ?`, p.Account)
	l.If(p.Endpoint != uuid.Nil, `d.endpoint_id = ?`, p.Endpoint)
	l.If(p.Status != "", `d.status = ?`, p.Status)
	l.If(p.Before != uuid.Nil, `d.id < ?`, p.Before)
	if list, more, err = database.Page(ctx, o.db, l, `d.id DESC`, p.Limit, deliveryRow.delivery); err != nil {
		return nil, false, fmt.Errorf("outbound: list deliveries: %w", err)
	}
	return list, more, nil
}

// FindDelivery returns one of an account's deliveries with its message's body. Error: [ErrNotFound].
func (o *Outbound) FindDelivery(ctx context.Context, account string, id uuid.UUID) (Delivery, []byte, error) {
	var row deliveryRow
	err := o.db.Get(ctx, &row, selectDelivery+` WHERE d.id = ? AND d.account = ?`, id, account)
	if database.IsNoRows(err) {
		return Delivery{}, nil, ErrNotFound
	}
	if err != nil {
		return Delivery{}, nil, fmt.Errorf("outbound: find delivery %s: %w", id, err)
	}
	return row.delivery(), []byte(row.Payload), nil
}

// Attempt is one try in the log of a delivery.
type Attempt struct {
	ID uuid.UUID `json:"id"`
	// Status is the answer's HTTP status, 0 when there was none.
	Status int    `json:"status"`
	Error  string `json:"error,omitempty"`
	// Answer is the beginning of the answer's body, up to 2 KiB.
	Answer string        `json:"answer,omitempty"`
	Took   time.Duration `json:"took_ns"`
	At     time.Time     `json:"at"`
}

// Attempts returns the tries of one of an account's deliveries, the newest first, at most 500. Error: [ErrNotFound].
func (o *Outbound) Attempts(ctx context.Context, account string, delivery uuid.UUID) ([]Attempt, error) {
	if _, _, err := o.FindDelivery(ctx, account, delivery); err != nil {
		return nil, err
	}
	var rows []struct {
		ID     uuid.UUID     `db:"id"`
		Status int           `db:"status"`
		Error  string        `db:"error"`
		Answer string        `db:"answer"`
		Took   int64         `db:"took"`
		At     database.Time `db:"created_at"`
	}
	const query = `SELECT id, status, error, answer, took, created_at FROM qs_outbound_attempts WHERE delivery_id = ? ORDER BY id DESC LIMIT ?`
	if err := o.db.Select(ctx, &rows, query, delivery, MaxPage); err != nil {
		return nil, fmt.Errorf("outbound: log of delivery %s: %w", delivery, err)
	}
	list := make([]Attempt, len(rows))
	for i, r := range rows {
		list[i] = Attempt{ID: r.ID, Status: r.Status, Error: r.Error, Answer: r.Answer, Took: time.Duration(r.Took) * time.Microsecond, At: r.At.Time}
	}
	return list, nil
}

// Redeliver sends one of an account's deliveries again, whatever came of it, with the same webhook-id and all tries
// ahead. Errors: [ErrNotFound]; [ErrDisabled] when its endpoint is.
func (o *Outbound) Redeliver(ctx context.Context, account string, id uuid.UUID) error {
	return o.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		var endpoint uuid.UUID
		err := o.db.GetTx(ctx, tx, &endpoint, `SELECT endpoint_id FROM qs_outbound_deliveries WHERE id = ? AND account = ?`+o.db.Dialect().ForUpdate(), id, account)
		if database.IsNoRows(err) {
			return ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("outbound: lock delivery %s: %w", id, err)
		}
		e, err := o.lockEndpoint(ctx, tx, account, endpoint)
		if err != nil {
			return err
		}
		if !e.Enabled {
			return ErrDisabled
		}
		const reset = `UPDATE qs_outbound_deliveries SET status = 'waiting', attempts = 0, ended_at = NULL, next_at = ? WHERE id = ?`
		if _, err := o.db.ExecTx(ctx, tx, reset, database.At(o.now()), id); err != nil {
			return fmt.Errorf("outbound: redeliver %s: %w", id, err)
		}
		return o.enqueue(ctx, tx, id)
	})
}
