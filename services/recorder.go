package services

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/internal/database"
)

// recorder writes the usage rows of calls that were charged in one step: those that end while a batch is written make
// the next batch.
type recorder struct {
	s *Services

	mu      sync.Mutex
	busy    bool
	hurry   bool // somebody waits for the rows
	waiting []ended
	room    *sync.Cond // signalled when a batch is done
}

type ended struct {
	row  callRow
	tags map[string]string
}

const (
	// maxBatch is how many rows one statement writes.
	maxBatch = 1000
	// maxWaiting is how many rows wait at most; beyond, calls wait for them.
	maxWaiting = 16 * maxBatch
	// linger is how long rows wait for others, so that many share a statement.
	linger = 20 * time.Millisecond
)

// add queues a row.
func (q *recorder) add(ctx context.Context, row callRow, tags map[string]string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ready()
	for len(q.waiting) >= maxWaiting {
		q.room.Wait()
	}
	q.waiting = append(q.waiting, ended{row, tags})
	if !q.busy {
		q.busy = true
		go q.drain(ctx)
	}
}

// ready is called under the lock.
func (q *recorder) ready() {
	if q.room == nil {
		q.room = sync.NewCond(&q.mu)
	}
}

// drain writes batches until none waits.
func (q *recorder) drain(ctx context.Context) {
	for {
		q.linger()
		q.mu.Lock()
		q.room.Broadcast()
		if len(q.waiting) == 0 {
			q.busy, q.hurry, q.waiting = false, false, nil
			q.mu.Unlock()
			return
		}
		n := min(len(q.waiting), maxBatch)
		batch := q.waiting[:n:n]
		q.waiting = q.waiting[n:]
		q.mu.Unlock()
		q.write(ctx, batch)
	}
}

// linger waits for more rows, a little at a time and no longer than it has to.
func (q *recorder) linger() {
	for end := time.Now().Add(linger); time.Now().Before(end); time.Sleep(time.Millisecond) {
		q.mu.Lock()
		enough := q.hurry || len(q.waiting) == 0 || len(q.waiting) >= maxBatch
		q.mu.Unlock()
		if enough {
			return
		}
	}
}

// flush waits until all rows are written that were queued before.
func (q *recorder) flush() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ready()
	for q.busy {
		q.hurry = true
		q.room.Wait()
	}
}

// write writes a batch, tried again for a while. Rows that cannot be written are named in the log: their charges stand
// in the ledger.
func (q *recorder) write(ctx context.Context, batch []ended) {
	ctx, cancel := context.WithTimeout(ctx, recordLimit)
	defer cancel()
	pause := recordBackoff
	for try := 1; ; try++ {
		err := q.s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return q.s.insertEnded(ctx, tx, batch) })
		if err == nil {
			return
		}
		if try == recordTries || ctx.Err() != nil {
			for _, b := range batch {
				q.s.cfg.Logger.ErrorContext(ctx, "usage row of a call is lost", slog.String("call", b.row.ID.String()), slog.Any("error", err))
			}
			return
		}
		time.Sleep(pause)
		pause *= 2
	}
}

// endedRow is the part of a row that calls have which were charged in one step, as the database reads it.
type endedRow struct {
	ID          uuid.UUID  `json:"id"`
	Account     string     `json:"account_id"`
	Service     string     `json:"service"`
	Version     string     `json:"version"`
	Status      Status     `json:"status"`
	Price       int64      `json:"price"`
	Charged     int64      `json:"charged"`
	EntryID     *uuid.UUID `json:"entry_id"`
	ErrorCode   string     `json:"error_code"`
	ErrorText   string     `json:"error_text"`
	CreatedAt   any        `json:"created_at"`
	FinishedAt  any        `json:"finished_at"`
	LatencyUS   int64      `json:"latency_us"`
	Units       string     `json:"units"`
	Tags        string     `json:"tags"`
	Fingerprint string     `json:"fingerprint"`
}

// One parameter carries all rows, so that the statement is the same for any number of them.
var insertEnded = database.Query{
	Postgres: `INSERT INTO qs_service_calls (id, account_id, service, version, status, price, charged, entry_id, error_code, error_text, created_at,
		expires_at, started_at, finished_at, latency_us, units, tags, fingerprint, attempts)
		SELECT id, account_id, service, version, status, price, charged, entry_id, error_code, error_text, created_at, created_at, created_at, finished_at,
		latency_us, units, tags, fingerprint, 1 FROM json_to_recordset(CAST(? AS json)) AS r(id uuid, account_id text, service text, version text, status text,
		price bigint, charged bigint, entry_id uuid, error_code text, error_text text, created_at timestamptz, finished_at timestamptz, latency_us bigint,
		units text, tags text, fingerprint text) ON CONFLICT DO NOTHING`,
	SQLite: `INSERT INTO qs_service_calls (id, account_id, service, version, status, price, charged, entry_id, error_code, error_text, created_at,
		expires_at, started_at, finished_at, latency_us, units, tags, fingerprint, attempts)
		SELECT value ->> 'id', value ->> 'account_id', value ->> 'service', value ->> 'version', value ->> 'status', value ->> 'price', value ->> 'charged',
		value ->> 'entry_id', value ->> 'error_code', value ->> 'error_text', value ->> 'created_at', value ->> 'created_at', value ->> 'created_at',
		value ->> 'finished_at', value ->> 'latency_us', value ->> 'units', value ->> 'tags', value ->> 'fingerprint', 1
		FROM json_each(?) WHERE true ON CONFLICT DO NOTHING`,
}

// insertEnded writes rows of calls that have ended. A row that is there already stays.
func (s *Services) insertEnded(ctx context.Context, tx *sqlx.Tx, batch []ended) error {
	rows := make([]endedRow, len(batch))
	for i, b := range batch {
		r := b.row
		created, err := r.CreatedAt.Value()
		if err != nil {
			return fmt.Errorf("services: call %s: %w", r.ID, err)
		}
		finished, err := r.FinishedAt.Value()
		if err != nil {
			return fmt.Errorf("services: call %s: %w", r.ID, err)
		}
		rows[i] = endedRow{ID: r.ID, Account: r.Account, Service: r.Service, Version: r.Version, Status: r.Status, Price: int64(r.Price), Charged: int64(r.Charged),
			EntryID: r.EntryID, ErrorCode: r.ErrorCode, ErrorText: r.ErrorText, LatencyUS: r.LatencyUS, Units: r.Units, Tags: r.Tags, Fingerprint: r.Fingerprint,
			CreatedAt: created, FinishedAt: finished}
	}
	if s.db.Dialect() == database.Postgres {
		// The rows come after their answers anyway, so that they need not be on disk when they are committed.
		if _, err := s.db.ExecTx(ctx, tx, `SET LOCAL synchronous_commit = off`); err != nil {
			return fmt.Errorf("services: write %d calls: %w", len(batch), err)
		}
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return fmt.Errorf("services: write %d calls: %w", len(batch), err)
	}
	if _, err := s.db.ExecTx(ctx, tx, insertEnded.For(s.db.Dialect()), string(text)); err != nil {
		return fmt.Errorf("services: write %d calls: %w", len(batch), err)
	}
	for _, b := range batch {
		if err := s.insertTags(ctx, tx, b.row, b.tags); err != nil {
			return err
		}
	}
	return nil
}

// Flush waits until the usage rows of all calls that this process has answered are written. Call it before the process
// ends.
func (s *Services) Flush() { s.recorder.flush() }
