package services

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
)

// recorder writes the usage rows of calls that were charged in one step: those that end while a batch is written make
// the next batch.
type recorder struct {
	s *Services

	mu      sync.Mutex
	busy    bool
	waiting []ended
	room    *sync.Cond // signalled when a batch is done
}

type ended struct {
	row  callRow
	tags map[string]string
}

const (
	// maxBatch is how many rows one statement writes: 27 columns stay below the bound of parameters of both databases.
	maxBatch = 256
	// maxWaiting is how many rows wait at most; beyond, calls wait for them.
	maxWaiting = 16 * maxBatch
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
		q.mu.Lock()
		q.room.Broadcast()
		if len(q.waiting) == 0 {
			q.busy, q.waiting = false, nil
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

// flush waits until all rows are written that were queued before.
func (q *recorder) flush() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ready()
	for q.busy {
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

// insertEnded writes rows of calls that have ended. A row that is there already stays.
func (s *Services) insertEnded(ctx context.Context, tx *sqlx.Tx, batch []ended) error {
	var query strings.Builder
	query.WriteString(`INSERT INTO qs_service_calls (` + callColumns + `) VALUES `)
	args := make([]any, 0, len(batch)*len(batch[0].row.values()))
	for i, b := range batch {
		if i > 0 {
			query.WriteByte(',')
		}
		query.WriteString(callMarks)
		args = append(args, b.row.values()...)
	}
	query.WriteString(` ON CONFLICT DO NOTHING`)
	if _, err := s.db.ExecTx(ctx, tx, query.String(), args...); err != nil {
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
