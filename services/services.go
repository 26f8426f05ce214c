// Package services turns functions into metered products: a developer writes one small Go type, and callers get a web
// form and a JSON endpoint that take credits for each use.
//
// A call is paid in two steps. Its price is set aside before the work begins, in one transaction with the row that
// records the intent; the outcome of the work and the charge are written together in another. Work that fails, runs
// out of time or dies with its process costs nothing, and work that succeeds is never answered before its charge is
// recorded.
package services

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-playground/validator/v10"
	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

var (
	//go:embed migrations
	migrations embed.FS
	//go:embed all:templates
	templates embed.FS
)

// Migrations are the schema changes, for those who migrate several packages at once.
func Migrations() database.Migrations { return database.Migrations{Name: "services", FS: migrations} }

// Where the handlers are unless the host says otherwise.
const (
	DefaultPath    = "/services"
	DefaultAPIPath = "/api/v1"
)

// Ledger is what the metering needs of a credit ledger; *credits.Ledger is one.
type Ledger interface {
	ReserveTx(ctx context.Context, tx *sqlx.Tx, p credits.ReserveParams) (credits.Hold, error)
	SettleTx(ctx context.Context, tx *sqlx.Tx, hold uuid.UUID, actual credits.Amount) (credits.Entry, error)
	ReleaseTx(ctx context.Context, tx *sqlx.Tx, hold uuid.UUID) error
	DebitTx(ctx context.Context, tx *sqlx.Tx, p credits.DebitParams) (credits.Entry, error)
	Debit(ctx context.Context, p credits.DebitParams) (credits.Entry, error)
	Balance(ctx context.Context, account string) (credits.Balance, error)
	EntriesAfter(ctx context.Context, p credits.EntriesAfterParams) ([]credits.Entry, error)
}

// Jobs inserts jobs; a River client over database/sql (*river.Client[*sql.Tx]) is one.
type Jobs interface {
	InsertTx(ctx context.Context, tx *sql.Tx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}

// Caller is who uses a service.
type Caller struct {
	// Account is the ledger's account that pays.
	Account string
	// Services are those that the caller may use, such as by an API key that is limited to some. Nil: all.
	Services []string
}

// Config is what [New] takes.
type Config struct {
	// DB is the database, PostgreSQL or SQLite; the ledger's tables are in it too. Required.
	DB *sqlx.DB
	// ReadDB is a pool for reading. Nil: DB.
	ReadDB *sqlx.DB
	// Ledger keeps the credits. Required.
	Ledger Ledger
	// User tells who is signed in, for the pages; false for nobody. Required.
	User func(r *http.Request) (Caller, bool)
	// API tells who calls the API, by a key or a session. Its error is answered as it is; [ErrUnauthenticated] is the
	// one for a key that is missing or wrong. Required.
	API func(r *http.Request) (Caller, error)
	// Path is where the host mounts [Services.Handler]. Empty: /services.
	Path string
	// APIPath is where the host mounts [Services.APIHandler]. Empty: /api/v1.
	APIPath string
	// LoginURL is where who is signed out is sent, with ?next=. Empty: they are told so instead.
	LoginURL string
	// BuyURL is where credits are sold, linked where there are too few. Empty: no link.
	BuyURL string
	// Entitled tells whether the plan of an account has a feature; see [ForPlans]. Nil: no service is for plans.
	Entitled func(ctx context.Context, account, feature string) (bool, error)
	// Jobs inserts the jobs of calls that run in the background; see [Services.AddWorkers]. Nil: there are none.
	Jobs Jobs
	// OnEndTx is called in the transaction that ends a call in the background whose caller asked to be told, such as to
	// send a webhook. An error makes the end be tried again, a few times. Nil: nobody can ask for that.
	OnEndTx func(ctx context.Context, tx *sqlx.Tx, r Record) error
	// RateLimit bounds the calls of one account to the API, in all processes together. Zero: no bound.
	RateLimit RateLimit
	// BodyTime is how long the body of a request may take to arrive; later it is refused, before any charge. 0:
	// [DefaultBodyTime].
	BodyTime time.Duration
	// StallTime is how long the caller of a stream may take to receive a part of it; one who is slower counts as gone. 0:
	// [DefaultStallTime].
	StallTime time.Duration
	// KeepOutputs is how long [Services.Prune] keeps the outputs of calls, which give the first answer again under the
	// same idempotency key. 0: [DefaultKeepOutputs].
	KeepOutputs time.Duration
	// Site draws the pages. Nil: a plain one.
	Site *web.Site
	// Clock tells the time. Nil: time.Now.
	Clock func() time.Time
	// Logger gets one line for each call that fails. Nil: slog.Default.
	Logger *slog.Logger
}

// Services are the products of a host. Its methods are safe for concurrent use by any number of processes.
type Services struct {
	cfg      Config
	db       *database.DB
	views    *web.Views
	validate *validator.Validate

	mu     sync.RWMutex
	byName map[string][]*registered // the versions in the order of registration
	names  []string                 // in the order of registration

	settings *settings
	recorder *recorder
	funds    fundsCache
}

// New checks cfg.
func New(cfg Config) (*Services, error) {
	switch {
	case cfg.DB == nil:
		return nil, errors.New("services: Config.DB is required")
	case cfg.Ledger == nil:
		return nil, errors.New("services: Config.Ledger is required")
	case cfg.User == nil:
		return nil, errors.New("services: Config.User is required")
	case cfg.API == nil:
		return nil, errors.New("services: Config.API is required")
	}
	db, err := database.New(cfg.DB, cfg.ReadDB)
	if err != nil {
		return nil, err
	}
	if cfg.Path == "" {
		cfg.Path = DefaultPath
	}
	if cfg.APIPath == "" {
		cfg.APIPath = DefaultAPIPath
	}
	for _, path := range []string{cfg.Path, cfg.APIPath} {
		if !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") {
			return nil, fmt.Errorf("services: the path %q must begin with a slash and not end with one", path)
		}
	}
	if err := cfg.RateLimit.check(); err != nil {
		return nil, err
	}
	if cfg.KeepOutputs < 0 || cfg.BodyTime < 0 || cfg.StallTime < 0 {
		return nil, errors.New("services: Config.KeepOutputs, BodyTime and StallTime must not be negative")
	}
	if cfg.BodyTime == 0 {
		cfg.BodyTime = DefaultBodyTime
	}
	if cfg.StallTime == 0 {
		cfg.StallTime = DefaultStallTime
	}
	if cfg.KeepOutputs == 0 {
		cfg.KeepOutputs = DefaultKeepOutputs
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Site == nil {
		if cfg.Site, err = web.Alone(cfg.Path, web.Config{Logger: cfg.Logger}); err != nil {
			return nil, err
		}
	}
	s := &Services{cfg: cfg, db: db, validate: newValidator(), byName: map[string][]*registered{}}
	s.settings = &settings{db: db, logger: cfg.Logger}
	s.recorder = newRecorder(s)
	if s.views, err = cfg.Site.Views("services", templates, pageData()); err != nil {
		return nil, err
	}
	return s, nil
}

// Migrate makes the tables or brings them up to date. Any number of processes may call it at once.
func (s *Services) Migrate(ctx context.Context) error {
	return database.Migrate(ctx, s.db, Migrations())
}

func (s *Services) now() time.Time { return database.Canonical(s.cfg.Clock()) }

// Errors that callers see.
var (
	// ErrUnauthenticated: nobody is signed in, or the key is missing or wrong.
	ErrUnauthenticated error = problem.New(problem.CodeUnauthenticated, "Log in, or send a valid API key.")
	// ErrNotFound: there is no service of that name.
	ErrNotFound error = problem.New(problem.CodeNotFound, "There is no such service.")
	// ErrInactive: the service is switched off; nothing was charged.
	ErrInactive error = problem.New("service_inactive", "This service is switched off at the moment. Nothing was charged.")
	// ErrGone: the service has come to its end; nothing was charged.
	ErrGone error = problem.New("service_gone", "This service is not offered any more. Nothing was charged.")
	// ErrPlan: the account's plan does not have the service; nothing was charged.
	ErrPlan error = problem.New("plan_required", "Your plan does not include this service. Nothing was charged.")
	// ErrBusy: as many calls run as the service allows; nothing was charged.
	ErrBusy error = problem.New("service_busy", "As many calls of this service run as are allowed. Nothing was charged. Try again in a moment.")
	// ErrTagsInvalid: there are more than 10 tags, or one is longer than its bound.
	ErrTagsInvalid error = problem.New(problem.CodeInvalid, "There may be 10 tags, with names of 1 to 40 and values of 1 to 100 characters, without control characters.")
	// ErrKeyInvalid: the idempotency key is not 1 to 255 characters long or has control characters.
	ErrKeyInvalid error = problem.New(problem.CodeInvalid, "An idempotency key has 1 to 255 characters and no control characters.")
	// ErrKeyMismatch: the key was used before on this account, for another service or input.
	ErrKeyMismatch error = problem.New("idempotency_mismatch", "This idempotency key was used before with another input. Use a new key.")
	// ErrInProgress: the first call with this key is still running.
	ErrInProgress error = problem.New("call_in_progress", "A call with this idempotency key is still running. Try again in a moment to get its answer.")
	// ErrSlow: the body of the request did not arrive in time; nothing was charged.
	ErrSlow error = problem.New("request_timeout", "The request did not arrive in time. Nothing was charged. Send it again.")
	// ErrOutcomeUnknown: the work is done, and the database did not confirm the charge in time.
	ErrOutcomeUnknown error = problem.New(problem.CodeUnavailable,
		"The outcome of this call could not be recorded. Try again with the same idempotency key, or look at your usage first.")
)
