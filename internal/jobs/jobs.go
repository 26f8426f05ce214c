// Package jobs runs River (riverqueue.com) on the library's two databases: work that must happen later or again is
// inserted in the transaction of its cause and done by any process that has the worker.
//
// Public packages do not import this one. Each declares the interface that it inserts through, which River's own
// client satisfies, and adds its workers to a river.Workers, so a host with a River client of its own can use that.
package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/trace"

	"github.com/quickscale/quickscale/internal/database"
)

// Defaults of [Config].
const (
	DefaultPollInterval = 200 * time.Millisecond
	DefaultMaxWorkers   = 10
	// sqliteMaxWorkers is lower since SQLite writes one transaction at a time.
	sqliteMaxWorkers = 4
	fetchCooldown    = 50 * time.Millisecond
	// DefaultMaxRuntime bounds one run of a job that sets no timeout of its own.
	DefaultMaxRuntime = time.Minute
)

// Config is what [New] takes.
type Config struct {
	// DB is where the jobs are kept. Required.
	DB *database.DB
	// Logger gets River's warnings and errors. Nil: slog.Default.
	Logger *slog.Logger
	// Traces takes a span for each run of a job. Nil: OpenTelemetry's global provider.
	Traces trace.TracerProvider
	// MaxWorkers is how many jobs this process runs at once. 0: 10 on PostgreSQL, 4 on SQLite.
	MaxWorkers int
	// PollInterval is how often an idle process looks for jobs, and so the longest a job that is due waits. 0: 200 ms.
	PollInterval time.Duration
	// MaxRuntime bounds one run of a job whose worker sets no timeout of its own. Half of it later a job whose process
	// died is taken up by another one. 0: a minute.
	MaxRuntime time.Duration
}

// Engine is a River client with its workers. Its methods are safe for concurrent use; workers are added before Start.
type Engine struct {
	db      *database.DB
	driver  riverdriver.Driver[*sql.Tx]
	client  *river.Client[*sql.Tx]
	workers *river.Workers
	tasks   *tasks
	logger  *slog.Logger

	mu      sync.Mutex // keeps a Stop from overtaking the Start that it follows
	started bool
	end     context.CancelFunc
}

// New makes an engine that can insert; it works no job before Start.
func New(cfg Config) (*Engine, error) {
	if cfg.DB == nil {
		return nil, errors.New("jobs: DB is required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.PollInterval == 0 {
		cfg.PollInterval = DefaultPollInterval
	}
	if cfg.MaxRuntime == 0 {
		cfg.MaxRuntime = DefaultMaxRuntime
	}
	e := &Engine{db: cfg.DB, workers: river.NewWorkers(), logger: cfg.Logger}
	if cfg.DB.Dialect() == database.SQLite {
		e.driver = riversqlite.New(cfg.DB.Writer().DB)
	} else {
		e.driver = riverdatabasesql.New(cfg.DB.Writer().DB)
	}
	if cfg.MaxWorkers == 0 {
		cfg.MaxWorkers = DefaultMaxWorkers
		if cfg.DB.Dialect() == database.SQLite {
			cfg.MaxWorkers = sqliteMaxWorkers
		}
	}
	var err error
	e.client, err = river.NewClient(e.driver, &river.Config{
		Logger:               slog.New(atLeast{slog.LevelWarn, cfg.Logger.Handler()}),
		Workers:              e.workers,
		Queues:               map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: cfg.MaxWorkers}},
		FetchCooldown:        min(fetchCooldown, cfg.PollInterval),
		FetchPollInterval:    cfg.PollInterval,
		JobTimeout:           cfg.MaxRuntime,
		RescueStuckJobsAfter: cfg.MaxRuntime * 3 / 2,
		Middleware:           []rivertype.Middleware{newTracing(cfg.Traces)},
		PollOnly:             true, // LISTEN needs a driver of its own, and not every PostgreSQL-like database has it
	})
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	return e, nil
}

// Client inserts jobs; it satisfies the small interfaces that packages declare.
func (e *Engine) Client() *river.Client[*sql.Tx] { return e.client }

// Workers is where packages add theirs, before Start.
func (e *Engine) Workers() *river.Workers { return e.workers }

// Migrate brings River's own tables up to date. Any number of processes may call it at once.
func (e *Engine) Migrate(ctx context.Context) error {
	migrator, err := e.migrator()
	if err != nil {
		return err
	}
	return e.db.MigrationLock(ctx, func(ctx context.Context) error {
		if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
			return fmt.Errorf("jobs: migrate River: %w", err)
		}
		return nil
	})
}

// Pending tells whether River's tables are behind the code, for readiness probes.
func (e *Engine) Pending(ctx context.Context) (bool, error) {
	migrator, err := e.migrator()
	if err != nil {
		return false, err
	}
	result, err := migrator.Validate(ctx, nil)
	if err != nil {
		return false, fmt.Errorf("jobs: validate River's tables: %w", err)
	}
	return !result.OK, nil
}

func (e *Engine) migrator() (*rivermigrate.Migrator[*sql.Tx], error) {
	m, err := rivermigrate.New(e.driver, &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	return m, nil
}

// Start works jobs until Stop. ctx ends nothing but the start itself. Starting an engine that runs does nothing.
func (e *Engine) Start(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started {
		return nil
	}
	// River lives as long as its context does, so that ends with ctx while the start lasts only.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	release := context.AfterFunc(ctx, end)
	err := e.client.Start(life)
	if !release() {
		end()
		<-e.client.Stopped()
		return fmt.Errorf("jobs: start: %w", errors.Join(ctx.Err(), err))
	}
	if err != nil {
		end()
		return fmt.Errorf("jobs: start: %w", err)
	}
	e.started, e.end = true, end
	return nil
}

// Stop takes no new jobs and waits for those that run; when ctx ends first they are cancelled, and River runs them
// again later. Stopping an engine that does not run does nothing.
func (e *Engine) Stop(ctx context.Context) error {
	e.mu.Lock()
	started := e.started
	e.mu.Unlock()
	if !started {
		return nil
	}
	// Not under the lock: a second Stop with less patience cuts the first one short.
	if err := e.stop(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.started = false
	e.end()
	return nil
}

func (e *Engine) stop(ctx context.Context) error {
	err := e.client.Stop(ctx)
	if err == nil {
		return nil
	}
	if ctx.Err() == nil {
		return fmt.Errorf("jobs: stop: %w", err)
	}
	hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), hardStopTimeout)
	defer cancel()
	if err := e.client.StopAndCancel(hard); err != nil {
		return fmt.Errorf("jobs: cancel the jobs that still run: %w", err)
	}
	return nil
}

// hardStopTimeout is how long cancelled jobs get to return.
const hardStopTimeout = 5 * time.Second

// atLeast drops records under a level: River tells of every start and stop at info.
type atLeast struct {
	min slog.Level
	slog.Handler
}

// Enabled implements slog.Handler.
func (h atLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.min && h.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (h atLeast) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeast{h.min, h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{h.min, h.Handler.WithGroup(name)}
}
