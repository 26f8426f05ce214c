// Package credits is a ledger of prepaid credits: grants that are kept as lots with a source, a remainder and an
// expiry; debits that use them in a fixed order; holds for work whose outcome is not known yet; and an append-only
// history of entries, each tied to the lots that it touched.
//
// It knows nothing of payments, users or sessions: an account is an opaque string that the caller chooses. Every
// operation that changes something has a twin ending in Tx that works inside the caller's transaction, so that the
// caller's rows and the ledger's commit together.
//
// # Order of use
//
// Lots are used by priority (subscription credits before all others), then by earliest expiry, those without one
// last, then oldest first. An expired lot stops counting at its instant, whether or not any job has run.
package credits

import (
	"context"
	"crypto/ed25519"
	"embed"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"go.opentelemetry.io/otel/metric"

	"github.com/quickscale/quickscale/internal/database"
)

//go:embed migrations
var migrations embed.FS

// Migrations are the ledger's schema changes, for those who migrate several packages at once.
func Migrations() database.Migrations { return database.Migrations{Name: "credits", FS: migrations} }

// Config is what [New] takes.
type Config struct {
	// DB is the database, PostgreSQL or SQLite. The caller keeps owning it. Required.
	DB *sqlx.DB
	// ReadDB is a pool for reading. Nil: DB. Set it on SQLite, where DB should have a single connection.
	ReadDB *sqlx.DB
	// Clock tells the time. Nil: time.Now.
	Clock func() time.Time
	// Pooled tells that DB goes through a pooler that gives each transaction another session, such as PgBouncer in
	// transaction mode. Nothing is then kept in a session, so no statement is prepared. The driver has to do its part for statements outside of transactions: lib/pq with
	// binary_parameters=yes in the URL, pgx with default_query_exec_mode=exec. False: DB goes to the server itself.
	Pooled bool
	// Jobs inserts the notifications of low balances and expiring credits, each in the transaction of its cause; see
	// [Ledger.AddWorkers]. Nil: there are none.
	Jobs Jobs
	// LowAt is the available balance below which an account counts as low. 0: only accounts that set one with
	// [Ledger.SetLimits] do.
	LowAt Amount
	// WarnBefore is how long before their expiry credits are told of. 0: [DefaultExpiringWithin].
	WarnBefore time.Duration
	// OnLow and OnExpiring are called by the jobs, again after an error. Nil: nothing is done.
	OnLow      func(ctx context.Context, low LowBalance) error
	OnExpiring func(ctx context.Context, soon ExpiringSoon) error
	// Logger gets what goes wrong without being anybody's error. Nil: slog.Default.
	Logger *slog.Logger
	// Metrics gets quickscale.credits.verified and quickscale.credits.discrepancies. Nil: OpenTelemetry's global provider.
	Metrics metric.MeterProvider
	// SigningKey signs the receipts of [Ledger.SealReceipt]. Nil: there are none.
	SigningKey ed25519.PrivateKey
}

// Ledger keeps the accounts. Its methods are safe for concurrent use by any number of processes.
type Ledger struct {
	db         *database.DB
	clock      func() time.Time
	statements *statements
	reads      *statements
	lanes      []lane
	jobs       Jobs
	lowAt      Amount
	warnBefore time.Duration
	onLow      func(ctx context.Context, low LowBalance) error
	onExpiring func(ctx context.Context, soon ExpiringSoon) error
	signingKey ed25519.PrivateKey
	logger     *slog.Logger
	metrics    *metrics
}

// New makes a ledger on a database that [Ledger.Migrate] has prepared, or will before the first operation.
func New(cfg Config) (*Ledger, error) {
	switch {
	case cfg.DB == nil:
		return nil, errors.New("credits: Config.DB is required")
	case cfg.LowAt < 0 || cfg.WarnBefore < 0:
		return nil, errors.New("credits: Config.LowAt and WarnBefore must not be negative")
	case cfg.SigningKey != nil && len(cfg.SigningKey) != ed25519.PrivateKeySize:
		return nil, errors.New("credits: Config.SigningKey is no Ed25519 private key")
	}
	db, err := database.New(cfg.DB, cfg.ReadDB)
	if err != nil {
		return nil, err
	}
	logger := cfg.Logger
	if logger == nil {
		logger = slog.Default()
	}
	l := &Ledger{db: db, clock: cfg.Clock, statements: newStatements(db.Writer(), !cfg.Pooled, logger),
		reads: newStatements(db.Reader(), !cfg.Pooled, logger), jobs: cfg.Jobs, lowAt: cfg.LowAt, warnBefore: cfg.WarnBefore,
		onLow: cfg.OnLow, onExpiring: cfg.OnExpiring, signingKey: cfg.SigningKey, logger: logger}
	if l.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	if l.clock == nil {
		l.clock = time.Now
	}
	if l.lowAt == 0 {
		l.lowAt = MinAmount
	}
	if l.warnBefore == 0 {
		l.warnBefore = DefaultExpiringWithin
	}
	l.makeLanes()
	return l, nil
}

// Migrate makes the ledger's tables or brings them up to date. Any number of processes may call it at once.
func (l *Ledger) Migrate(ctx context.Context) error { return database.Migrate(ctx, l.db, Migrations()) }

func (l *Ledger) now() time.Time { return database.Canonical(l.clock()) }

const maxAccountBytes = 200

func checkAccount(id string) error {
	if id == "" || len(id) > maxAccountBytes {
		return ErrAccountRequired
	}
	return nil
}

// checkReason trims the reason in place.
func checkReason(reason *string) error {
	*reason = strings.TrimSpace(*reason)
	if *reason == "" {
		return ErrReasonRequired
	}
	return nil
}
