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
	"embed"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

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
	// Logger gets what goes wrong in sweeps. Nil: slog.Default.
	Logger *slog.Logger
}

// Ledger keeps the accounts. Its methods are safe for concurrent use by any number of processes.
type Ledger struct {
	db     *database.DB
	clock  func() time.Time
	logger *slog.Logger
}

// New makes a ledger on a database that [Ledger.Migrate] has prepared, or will before the first operation.
func New(cfg Config) (*Ledger, error) {
	if cfg.DB == nil {
		return nil, errors.New("credits: Config.DB is required")
	}
	db, err := database.New(cfg.DB, cfg.ReadDB)
	if err != nil {
		return nil, err
	}
	l := &Ledger{db: db, clock: cfg.Clock, logger: cfg.Logger}
	if l.clock == nil {
		l.clock = time.Now
	}
	if l.logger == nil {
		l.logger = slog.Default()
	}
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
