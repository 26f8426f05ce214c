package mail

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/seal"
)

// DefaultMaxAttempts is how often a message is tried; River's backoff spreads ten tries over four hours.
const DefaultMaxAttempts = 10

// Jobs inserts jobs; a River client over database/sql (*river.Client[*sql.Tx]) is one.
type Jobs interface {
	InsertTx(ctx context.Context, tx *sql.Tx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}

// QueueConfig is what [NewQueue] takes.
type QueueConfig struct {
	// DB is the database of the jobs, PostgreSQL or SQLite. Required.
	DB *sqlx.DB
	// Mailer sends. Required.
	Mailer Mailer
	// Jobs inserts the job of each message. Required.
	Jobs Jobs
	// Secret seals the messages that wait; 32 bytes or more, the same in every process. Required.
	Secret []byte
	// MaxAttempts is how often a message is tried before it is given up. 0: 10, over four hours.
	MaxAttempts int
	// Clock tells how long a message waited, for the log. Nil: time.Now.
	Clock func() time.Time
	// Logger gets one line for each try: kind, job and outcome. Nil: slog.Default.
	Logger *slog.Logger
}

// Queue sends messages later, and again when they cannot be sent. Its methods are safe for concurrent use by any number
// of processes.
type Queue struct {
	cfg QueueConfig
	db  *database.DB
	box *seal.Box
}

// NewQueue checks cfg.
func NewQueue(cfg QueueConfig) (*Queue, error) {
	switch {
	case cfg.DB == nil:
		return nil, errors.New("mail: QueueConfig.DB is required")
	case cfg.Mailer == nil:
		return nil, errors.New("mail: QueueConfig.Mailer is required")
	case cfg.Jobs == nil:
		return nil, errors.New("mail: QueueConfig.Jobs is required")
	case cfg.MaxAttempts < 0:
		return nil, fmt.Errorf("mail: QueueConfig.MaxAttempts is %d; it cannot be negative", cfg.MaxAttempts)
	}
	box, err := seal.New(cfg.Secret, "mail")
	if err != nil {
		return nil, fmt.Errorf("mail: QueueConfig.Secret: %w", err)
	}
	db, err := database.New(cfg.DB, nil)
	if err != nil {
		return nil, err
	}
	if cfg.MaxAttempts == 0 {
		cfg.MaxAttempts = DefaultMaxAttempts
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Queue{cfg: cfg, db: db, box: box}, nil
}

// AddWorkers adds the worker that sends. Call it before the River client starts.
func (q *Queue) AddWorkers(workers *river.Workers) error {
	if err := river.AddWorkerSafely(workers, &worker{q: q}); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	return nil
}

// Enqueue is [Queue.EnqueueTx] in a transaction of its own.
func (q *Queue) Enqueue(ctx context.Context, m Message) error {
	return q.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error { return q.EnqueueTx(ctx, tx, m) })
}

// EnqueueTx has m sent once tx is committed. It is sent at least once: a process that dies between the server's yes and
// its own note sends again. An invalid message is refused with [ErrInvalid], and nothing is written.
func (q *Queue) EnqueueTx(ctx context.Context, tx *sqlx.Tx, m Message) error {
	if err := m.Validate(); err != nil {
		return err
	}
	plain, err := json.Marshal(waiting{Message: m, Since: database.Canonical(q.cfg.Clock())})
	if err != nil {
		return fmt.Errorf("mail: encode a message of kind %s: %w", m.Kind, err)
	}
	_, err = q.cfg.Jobs.InsertTx(ctx, tx.Tx, jobArgs{Message: m.Kind, Sealed: q.box.Seal(plain)}, &river.InsertOpts{MaxAttempts: q.cfg.MaxAttempts})
	if err != nil {
		return fmt.Errorf("mail: enqueue a message of kind %s: %w", m.Kind, err)
	}
	return nil
}

// waiting is what is sealed.
type waiting struct {
	Message Message   `json:"message"`
	Since   time.Time `json:"since"`
}

type jobArgs struct {
	// Message is the message's kind.
	Message string `json:"message"`
	// Sealed is base64 in the database, as encoding/json writes bytes.
	Sealed []byte `json:"sealed"`
}

// Kind names the job; it is in the database of every installation and is not changed.
func (jobArgs) Kind() string { return "quickscale_mail" }

type worker struct {
	river.WorkerDefaults[jobArgs]
	q *Queue
}

// Work sends one message. River keeps the errors that it returns, so they are redacted as the log's are.
func (w *worker) Work(ctx context.Context, job *river.Job[jobArgs]) error {
	log := w.q.cfg.Logger.With(slog.String("kind", job.Args.Message), slog.Int64("job", job.ID), slog.Int("attempt", job.Attempt))
	plain, err := w.q.box.Open(job.Args.Sealed)
	if err != nil {
		// Not final: another process may have the right secret, or this one again after a correction.
		log.ErrorContext(ctx, "mail cannot be unsealed; is the secret the one that it was queued with?")
		return fmt.Errorf("mail: job %d: %w", job.ID, err)
	}
	var m waiting
	if err := json.Unmarshal(plain, &m); err != nil {
		log.ErrorContext(ctx, "mail does not decode")
		return river.JobCancel(fmt.Errorf("mail: job %d holds no message", job.ID))
	}
	err = guard(func() error { return w.q.cfg.Mailer.Send(ctx, m.Message) })
	if err == nil {
		log.InfoContext(ctx, "mail sent", slog.Duration("waited", w.q.cfg.Clock().Sub(m.Since)))
		return nil
	}
	told := errors.New(redact(err.Error(), content(m.Message)...))
	permanent := IsPermanent(err)
	level := slog.LevelWarn
	if permanent || job.Attempt >= job.MaxAttempts {
		level = slog.LevelError
	}
	log.LogAttrs(ctx, level, "mail not sent", slog.Bool("given_up", level == slog.LevelError), slog.Any("error", told))
	if permanent {
		return river.JobCancel(told)
	}
	return told
}

// guard turns a panic of a mailer into an error. What it panicked with may hold the message and is left out.
func guard(fn func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("mail: the mailer panicked with a %T\n%s", cause, debug.Stack())
		}
	}()
	return fn()
}
