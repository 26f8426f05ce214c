package services

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

// recorder writes the usage rows of calls that were charged in one step, many at a time. Rows that it loses, because its
// process dies or the database does not answer for long, are made again by [Services.Recover].
type recorder struct {
	s *Services
	// wake ends the lingering of drain.
	wake chan struct{}

	mu      sync.Mutex
	room    *sync.Cond // signalled when a batch is done
	busy    bool
	hurry   bool // somebody waits for the rows
	waiting []ended
	spare   []ended // the storage of the last batch
}

// ended is a call that was charged in one step, or failed for free.
type ended struct {
	id              uuid.UUID
	account         string
	service         string
	version         string
	status          Status
	price, charged  credits.Amount
	entry           uuid.UUID // uuid.Nil: none
	code, text      string
	began, finished time.Time
	latency         time.Duration
	units, tagsText string
	tags            map[string]string
}

const (
	// maxBatch is how many rows one statement writes.
	maxBatch = 1000
	// maxWaiting is how many rows wait at most; beyond, calls wait for them.
	maxWaiting = 16 * maxBatch
	// linger is how long rows wait for others, so that many share a statement.
	linger = 100 * time.Millisecond
)

func newRecorder(s *Services) *recorder {
	q := &recorder{s: s, wake: make(chan struct{}, 1)}
	q.room = sync.NewCond(&q.mu)
	return q
}

// add queues a row.
func (q *recorder) add(ctx context.Context, row *ended) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) >= maxWaiting {
		q.room.Wait()
	}
	q.waiting = append(q.waiting, *row)
	if len(q.waiting) == maxBatch {
		q.hasten()
	}
	if !q.busy {
		q.busy = true
		go q.drain(context.WithoutCancel(ctx))
	}
}

// hasten ends the lingering, or else the next one.
func (q *recorder) hasten() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// drain writes batches until none waits.
func (q *recorder) drain(ctx context.Context) {
	pause := time.NewTimer(linger)
	defer pause.Stop()
	for {
		q.mu.Lock()
		hurry := q.hurry || len(q.waiting) >= maxBatch
		q.mu.Unlock()
		if !hurry {
			select {
			case <-q.wake:
			case <-pause.C:
			}
		}
		q.mu.Lock()
		batch := q.waiting
		q.waiting, q.spare = q.spare[:0], nil
		if len(batch) == 0 {
			q.busy, q.hurry = false, false
			q.room.Broadcast()
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		for rows := batch; len(rows) > 0; {
			n := min(len(rows), maxBatch)
			q.write(ctx, rows[:n])
			rows = rows[n:]
		}
		clear(batch)
		q.mu.Lock()
		q.spare = batch
		q.room.Broadcast()
		q.mu.Unlock()
		pause.Reset(linger)
	}
}

// flush waits until all rows are written that were queued before.
func (q *recorder) flush() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.busy {
		q.hurry = true
		q.hasten()
		q.room.Wait()
	}
}

// write writes a batch, tried again for a while. The first try expects that no row is there.
func (q *recorder) write(ctx context.Context, batch []ended) {
	ctx, cancel := context.WithTimeout(ctx, recordLimit)
	defer cancel()
	pause := recordBackoff
	for try := 1; ; try++ {
		err := q.s.insertEnded(ctx, batch, try > 1)
		if err == nil {
			return
		}
		if try == recordTries || ctx.Err() != nil {
			q.s.cfg.Logger.ErrorContext(ctx, "usage rows of calls are not written; they will be recovered from the ledger", slog.Int("rows", len(batch)),
				slog.String("first", batch[0].id.String()), slog.Any("error", err))
			return
		}
		time.Sleep(pause)
		pause *= 2
	}
}

const endedColumns = `INSERT INTO qs_service_calls (id, account_id, service, version, status, price, charged, entry_id, error_code, error_text, created_at, expires_at,
	started_at, finished_at, latency_us, units, tags, fingerprint, attempts)
	SELECT id, account_id, service, version, status, price, charged, entry_id, error_code, error_text, began, began, began, finished, latency_us, units, tags, '', 1 `

// One parameter carries all rows, or all of a column, so that the statement is the same for any number of them. The rows
// come after their answers, so that PostgreSQL need not have them on disk when it commits.
var insertEnded = database.Query{
	Postgres: `WITH late AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)) ` + endedColumns + `FROM late CROSS JOIN (SELECT unnest(?::uuid[]) AS id, unnest(?::text[]) AS account_id, unnest(?::text[]) AS service, unnest(?::text[]) AS version,
			unnest(?::text[]) AS status, unnest(?::bigint[]) AS price, unnest(?::bigint[]) AS charged, unnest(?::uuid[]) AS entry_id,
			unnest(?::text[]) AS error_code, unnest(?::text[]) AS error_text,
			TIMESTAMPTZ 'epoch' + unnest(?::bigint[]) * INTERVAL '1 microsecond' AS began,
			TIMESTAMPTZ 'epoch' + unnest(?::bigint[]) * INTERVAL '1 microsecond' AS finished,
			unnest(?::bigint[]) AS latency_us, unnest(?::text[]) AS units, unnest(?::text[]) AS tags) AS r`,
	SQLite: endedColumns + `FROM (SELECT value ->> 'id' AS id, value ->> 'account_id' AS account_id, value ->> 'service' AS service, value ->> 'version' AS version,
			value ->> 'status' AS status, value ->> 'price' AS price, value ->> 'charged' AS charged, value ->> 'entry_id' AS entry_id,
			value ->> 'error_code' AS error_code, value ->> 'error_text' AS error_text, value ->> 'began' AS began, value ->> 'finished' AS finished,
			value ->> 'latency_us' AS latency_us, value ->> 'units' AS units, value ->> 'tags' AS tags FROM json_each(?)) AS r WHERE true`,
}

// insertEnded writes rows of calls that have ended. With again, a row that is there already stays; without, it is an error.
func (s *Services) insertEnded(ctx context.Context, batch []ended, again bool) error {
	tagged := func(e ended) bool { return len(e.tags) > 0 }
	if s.db.Dialect() == database.SQLite || slices.ContainsFunc(batch, tagged) {
		return s.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return s.insertEndedTx(ctx, tx, batch, again) })
	}
	query, args, err := s.endedStatement(batch, again)
	if err != nil {
		return err
	}
	// One statement needs no BEGIN and COMMIT.
	if _, err := s.db.Writer().ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("services: write %d calls: %w", len(batch), err)
	}
	return nil
}

func (s *Services) insertEndedTx(ctx context.Context, tx *sqlx.Tx, batch []ended, again bool) error {
	query, args, err := s.endedStatement(batch, again)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("services: write %d calls: %w", len(batch), err)
	}
	for i := range batch {
		if err := s.insertTags(ctx, tx, batch[i].id, batch[i].account, batch[i].tags); err != nil {
			return err
		}
	}
	return nil
}

func (s *Services) endedStatement(batch []ended, again bool) (text string, args []any, err error) {
	query, encode := insertEnded.For(s.db.Dialect()), endedArrays
	if s.db.Dialect() == database.SQLite {
		encode = endedJSON
	}
	if again {
		query += ` ON CONFLICT DO NOTHING`
	}
	args, err = encode(batch)
	if err != nil {
		return "", nil, fmt.Errorf("services: write %d calls: %w", len(batch), err)
	}
	return s.db.Rebind(query), args, nil
}

// endedArrays are the rows as PostgreSQL's statement reads them.
func endedArrays(batch []ended) ([]any, error) {
	var ids, accounts, names, versions, states, prices, charges, entries, codes, texts, begun, finished, latencies, units, tags array
	for i := range batch {
		b := &batch[i]
		ids.uuid(b.id)
		accounts.text(b.account)
		names.text(b.service)
		versions.text(b.version)
		states.text(string(b.status))
		prices.int(int64(b.price))
		charges.int(int64(b.charged))
		entries.uuid(b.entry)
		codes.text(b.code)
		texts.text(b.text)
		begun.int(b.began.UnixMicro())
		finished.int(b.finished.UnixMicro())
		latencies.int(b.latency.Microseconds())
		units.text(b.units)
		tags.text(b.tagsText)
	}
	all := [...]array{ids, accounts, names, versions, states, prices, charges, entries, codes, texts, begun, finished, latencies, units, tags}
	args := make([]any, len(all))
	for i, a := range all {
		args[i] = a.literal()
	}
	return args, nil
}

// endedJSON are the rows as SQLite's statement reads them.
func endedJSON(batch []ended) ([]any, error) {
	type row struct {
		ID        uuid.UUID  `json:"id"`
		Account   string     `json:"account_id"`
		Service   string     `json:"service"`
		Version   string     `json:"version"`
		Status    Status     `json:"status"`
		Price     int64      `json:"price"`
		Charged   int64      `json:"charged"`
		EntryID   *uuid.UUID `json:"entry_id"`
		ErrorCode string     `json:"error_code"`
		ErrorText string     `json:"error_text"`
		Began     any        `json:"began"`
		Finished  any        `json:"finished"`
		LatencyUS int64      `json:"latency_us"`
		Units     string     `json:"units"`
		Tags      string     `json:"tags"`
	}
	rows := make([]row, len(batch))
	for i := range batch {
		b := &batch[i]
		rows[i] = row{ID: b.id, Account: b.account, Service: b.service, Version: b.version, Status: b.status, Price: int64(b.price), Charged: int64(b.charged),
			ErrorCode: b.code, ErrorText: b.text, LatencyUS: b.latency.Microseconds(), Units: b.units, Tags: b.tagsText}
		if b.entry != uuid.Nil {
			rows[i].EntryID = &b.entry
		}
		var err error
		if rows[i].Began, err = database.At(b.began).Value(); err != nil {
			return nil, fmt.Errorf("call %s: %w", b.id, err)
		}
		if rows[i].Finished, err = database.At(b.finished).Value(); err != nil {
			return nil, fmt.Errorf("call %s: %w", b.id, err)
		}
	}
	text, err := json.Marshal(rows)
	return []any{string(text)}, err
}

// Flush waits until the usage rows of all calls that this process has answered are written. Call it before the process
// ends.
func (s *Services) Flush() { s.recorder.flush() }
