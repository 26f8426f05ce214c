// Package outbound sends webhooks to a host's own customers, in the format of Standard Webhooks
// (github.com/standard-webhooks/standard-webhooks, spec): each account keeps endpoints with a secret of their own, and
// every message is signed for each endpoint that wants its type.
//
// A message is written in the transaction of its cause with [Outbound.SendTx] and delivered later by River jobs, at least
// once and in any order; receivers recognise a repetition by the header webhook-id. Customers choose the addresses, so
// what is dialled is guarded: nothing inside the host's own network can be reached; see [Allowed].
package outbound

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/seal"
)

//go:embed migrations
var migrations embed.FS

// Migrations are the schema changes, for those who migrate several packages at once.
func Migrations() database.Migrations { return database.Migrations{Name: "outbound", FS: migrations} }

// Defaults of [Config].
const (
	DefaultMaxAttempts  = 10
	DefaultTimeout      = 15 * time.Second
	DefaultDisableAfter = 5 * 24 * time.Hour
)

// Jobs inserts jobs; a River client over database/sql (*river.Client[*sql.Tx]) is one.
type Jobs interface {
	InsertTx(ctx context.Context, tx *sql.Tx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}

// Config is what [New] takes.
type Config struct {
	// DB is the database, PostgreSQL or SQLite. Required.
	DB *sqlx.DB
	// ReadDB is a pool for reading. Nil: DB.
	ReadDB *sqlx.DB
	// Jobs inserts the job of each delivery. Required.
	Jobs Jobs
	// Key seals the endpoints' secrets: 32 bytes or more, the same in all processes. Required.
	Key []byte
	// Types are the types of events that there are. Empty: [DefaultTypes].
	Types []string
	// MaxAttempts is how often a message is sent to an endpoint before it has failed. 0: 10.
	MaxAttempts int
	// Backoff is the pause after the given failed try, 1 being the first. Nil: [DefaultBackoff].
	Backoff func(attempt int) time.Duration
	// DisableAfter is how long an endpoint may fail without a success in between before it is disabled. 0: five days.
	DisableAfter time.Duration
	// Timeout bounds one try, redirects included. 0: 15 s.
	Timeout time.Duration
	// OnDisabled is called when an endpoint was disabled because it fails, in the transaction that does so, and mostly
	// queues a mail to its owner in it. An error undoes that transaction, and the message is then sent again. Nil: it is
	// only logged.
	OnDisabled func(ctx context.Context, tx *sqlx.Tx, e Endpoint) error
	// AllowLoopback lets endpoints be at loopback addresses and without TLS, for tests and development only.
	AllowLoopback bool
	// UserAgent names the sender. Empty: "QuickScale-Webhooks/1".
	UserAgent string
	// Metrics gets the measurements quickscale.outbound.…. Nil: OpenTelemetry's global provider.
	Metrics metric.MeterProvider
	// Clock tells the time. Nil: time.Now.
	Clock func() time.Time
	// Logger gets failures, never payloads or secrets. Nil: slog.Default.
	Logger *slog.Logger
}

// Outbound sends webhooks. Its methods are safe for concurrent use by any number of processes.
type Outbound struct {
	cfg  Config
	db   *database.DB
	box  *seal.Box
	http *http.Client
	sent metric.Int64Counter
	took metric.Float64Histogram
}

// New checks cfg.
func New(cfg Config) (*Outbound, error) {
	switch {
	case cfg.DB == nil:
		return nil, errors.New("outbound: Config.DB is required")
	case cfg.Jobs == nil:
		return nil, errors.New("outbound: Config.Jobs is required")
	case slices.Contains(cfg.Types, ""), slices.Contains(cfg.Types, TypeTest):
		return nil, errors.New("outbound: Config.Types holds an empty type or " + TypeTest)
	}
	db, err := database.New(cfg.DB, cfg.ReadDB)
	if err != nil {
		return nil, err
	}
	box, err := seal.New(cfg.Key, "outbound")
	if err != nil {
		return nil, fmt.Errorf("outbound: Config.Key: %w", err)
	}
	if len(cfg.Types) == 0 {
		cfg.Types = DefaultTypes()
	}
	if cfg.MaxAttempts == 0 {
		cfg.MaxAttempts = DefaultMaxAttempts
	}
	if cfg.Backoff == nil {
		cfg.Backoff = DefaultBackoff
	}
	if cfg.DisableAfter == 0 {
		cfg.DisableAfter = DefaultDisableAfter
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "QuickScale-Webhooks/1"
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = otel.GetMeterProvider()
	}
	o := &Outbound{cfg: cfg, db: db, box: box, http: newClient(cfg.Timeout, cfg.AllowLoopback)}
	meter := cfg.Metrics.Meter("github.com/quickscale/quickscale/webhook/outbound")
	if o.sent, err = meter.Int64Counter("quickscale.outbound.sent", metric.WithDescription("Tries to deliver, by type and result (delivered, failed).")); err != nil {
		return nil, fmt.Errorf("outbound: metric sent: %w", err)
	}
	o.took, err = meter.Float64Histogram("quickscale.outbound.duration", metric.WithUnit("s"), metric.WithDescription("Time of one try."))
	if err != nil {
		return nil, fmt.Errorf("outbound: metric duration: %w", err)
	}
	return o, nil
}

// Migrate makes the tables or brings them up to date. River's own are the host's to migrate.
func (o *Outbound) Migrate(ctx context.Context) error {
	return database.Migrate(ctx, o.db, Migrations())
}

// AddWorkers adds the worker that delivers. Call it before the River client starts, and also in processes that only
// send, since River takes jobs of kinds only that it knows.
func (o *Outbound) AddWorkers(workers *river.Workers) error {
	if err := river.AddWorkerSafely(workers, &worker{o: o}); err != nil {
		return fmt.Errorf("outbound: %w", err)
	}
	return nil
}

func (o *Outbound) now() time.Time { return database.Canonical(o.cfg.Clock()) }

// pauses are those that Standard Webhooks gives as an example ("Deliverability and reliability").
var pauses = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// DefaultBackoff is the pause after the given failed try: 5 seconds, 5 and 30 minutes, 2, 5, 10, 14, 20 and 24 hours, each
// up to a tenth longer.
func DefaultBackoff(attempt int) time.Duration {
	pause := pauses[min(max(attempt, 1), len(pauses))-1]
	return pause + rand.N(pause/10)
}

// Errors that people see.
var (
	ErrNotFound error = problem.New(problem.CodeNotFound, "There is no such webhook endpoint or delivery.")
	ErrTooMany  error = problem.New(problem.CodeTooMany, "There are as many endpoints as an account can have. Remove one first.")
	ErrDisabled error = problem.New(problem.CodeConflict, "This endpoint is disabled. Enable it first.")
)
