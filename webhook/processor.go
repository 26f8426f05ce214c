// Package webhook receives Stripe's events and runs each one's effect once.
//
// Mount [Processor.Handler], register a function per event type with [On], and let River work the jobs. An event is
// verified and stored, with its job, in one transaction before Stripe is answered; the function runs later, in a
// transaction that also marks the event done, so its effect happens once however often the event is delivered or its
// processing dies. Events about the same object never take effect at the same time.
//
// Stripe delivers at least once and in any order, and a payload is a picture of the past. A function that depends on
// an object's state is registered with [WithFetch], which reads the object afresh before the transaction begins.
package webhook

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/metric"

	"github.com/quickscale/quickscale/internal/database"
)

//go:embed migrations
var migrations embed.FS

// Migrations are the inbox's schema changes, for those who migrate several packages at once.
func Migrations() database.Migrations { return database.Migrations{Name: "webhook", FS: migrations} }

// Defaults of [Config].
const (
	DefaultTolerance   = 5 * time.Minute
	DefaultMaxAttempts = 15
	// MaxBody is the largest event that is taken, in bytes.
	MaxBody = 1 << 20

	// DefaultBatch is how many events share a transaction at most.
	DefaultBatch = 16

	defaultParallel = 10
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
	// Jobs inserts the job of each event. Required.
	Jobs Jobs
	// Secrets are the endpoint's signing secrets (whsec_…); an event signed with any of them is taken, so that a
	// secret can be rolled. At least one.
	Secrets []string
	// Livemode is what the key in use is: events of the other mode are refused.
	Livemode bool
	// Tolerance is how far an event's timestamp may be from our clock, both ways. 0: 5 minutes, as Stripe advises.
	Tolerance time.Duration
	// Accounts tells whether a connected account (acct_…) is ours, for an endpoint that listens to connected accounts. Its
	// error answers 503, so that Stripe comes again. Nil: events of connected accounts are refused, since who connects an
	// account decides what its objects say.
	Accounts func(ctx context.Context, account string) (bool, error)
	// Parallel is how many objects this process reads from Stripe at once, and two fifths of it are how many transactions
	// it has under way for events, always of different objects, so that receiving keeps its share of the database while a
	// backlog drains. 0: 10.
	Parallel int
	// Batch is how many events, each about another object, share a transaction at most, one commit for all of them. Only
	// events that wait at the same moment do. When anything fails in a batch, or it takes longer than a second, it is rolled
	// back and each of its events is done in a transaction of its own; so functions run again more often than without
	// batches, and a fault falls on its own event all the same. What a function locks, such as an account's row, stays
	// locked until the batch commits, so it suits functions of a few statements each, as billing's are. Functions that are
	// slow gain nothing from it. 0: 16. 1: each event has its own transaction.
	Batch int
	// MaxAttempts is how often an event is tried before it is dead. 0: 15, which the default Backoff spreads over three days.
	MaxAttempts int
	// Backoff is the pause after the given failed try, 1 being the first. Nil: [DefaultBackoff].
	Backoff func(attempt int) time.Duration
	// OnDead is the alert: it is called after an event was given up, in the process that did so. A process that dies in
	// that moment calls nobody; [Processor.Backlog] and the metric quickscale.webhook.dead tell all the same. Nil: it is
	// only logged.
	OnDead func(ctx context.Context, ev Record, cause error)
	// Metrics gets the measurements quickscale.webhook.…. Nil: OpenTelemetry's global provider.
	Metrics metric.MeterProvider
	// Clock tells the time. Nil: time.Now.
	Clock func() time.Time
	// Logger gets refusals and failures, never payloads. Nil: slog.Default.
	Logger *slog.Logger
}

// Processor is the inbox. Its methods are safe for concurrent use by any number of processes; [On] is called before
// the first event.
type Processor struct {
	cfg      Config
	db       *database.DB
	handlers map[string][]handler
	gate     gate
	slots    chan struct{} // held by events that are tried
	reads    chan struct{} // held by those that are read from Stripe
	writes   chan struct{} // held by transactions
	lobby    lobby
	intake   *intake
	metrics  *metrics
}

// New checks cfg.
func New(cfg Config) (*Processor, error) {
	switch {
	case cfg.DB == nil:
		return nil, errors.New("webhook: Config.DB is required")
	case cfg.Jobs == nil:
		return nil, errors.New("webhook: Config.Jobs is required")
	case len(cfg.Secrets) == 0:
		return nil, errors.New("webhook: Config.Secrets needs at least one signing secret (whsec_…)")
	}
	if slices.Contains(cfg.Secrets, "") {
		return nil, errors.New("webhook: Config.Secrets holds an empty secret")
	}
	db, err := database.New(cfg.DB, cfg.ReadDB)
	if err != nil {
		return nil, err
	}
	if cfg.Tolerance == 0 {
		cfg.Tolerance = DefaultTolerance
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
	if cfg.Backoff == nil {
		cfg.Backoff = DefaultBackoff
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = defaultParallel
	}
	if cfg.Batch <= 0 {
		cfg.Batch = DefaultBatch
	}
	writes := max(1, cfg.Parallel*2/5)
	p := &Processor{cfg: cfg, db: db, handlers: map[string][]handler{}, gate: gate{inside: map[string]struct{}{}},
		// Besides the transactions under way a full batch waits.
		slots: make(chan struct{}, max(cfg.Parallel, cfg.Batch*(writes+1))), reads: make(chan struct{}, cfg.Parallel), writes: make(chan struct{}, writes)}
	p.intake = newIntake(p)
	if p.metrics, err = newMetrics(cfg.Metrics, p); err != nil {
		return nil, err
	}
	return p, nil
}

// Migrate makes the inbox's tables or brings them up to date. River's own are the host's to migrate.
func (p *Processor) Migrate(ctx context.Context) error {
	return database.Migrate(ctx, p.db, Migrations())
}

// AddWorkers adds the worker that processes events. Call it before the River client starts, and also in processes that
// only receive, since River takes jobs of kinds only that it knows.
func (p *Processor) AddWorkers(workers *river.Workers) error {
	if err := river.AddWorkerSafely(workers, &worker{p: p}); err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	return nil
}

// Types are the event types that functions are registered for, sorted: what an endpoint at Stripe has to be enabled for.
func (p *Processor) Types() []string { return slices.Sorted(maps.Keys(p.handlers)) }

func (p *Processor) now() time.Time { return database.Canonical(p.cfg.Clock()) }
