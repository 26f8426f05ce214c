// Package billing sells credits through Stripe: it mirrors the catalogue, opens checkouts, and turns payments into
// credits when Stripe's webhooks say that the money is there.
//
// Stripe is the truth for products and prices; a product's metadata "credits" says how many credits one unit gives.
// Nothing is granted by a return page: a grant follows from the session as Stripe has it, read afresh by a webhook's
// handler, and happens once per session.
package billing

import (
	"context"
	"embed"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76/client"

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
func Migrations() database.Migrations { return database.Migrations{Name: "billing", FS: migrations} }

// DefaultPath is where the pages are unless the host says otherwise.
const DefaultPath = "/billing"

// Ledger is what billing needs of a credit ledger; *credits.Ledger is one.
type Ledger interface {
	GrantTx(ctx context.Context, tx *sqlx.Tx, p credits.GrantParams) (credits.Entry, error)
}

// Customer is who buys.
type Customer struct {
	// Account is the ledger's account.
	Account string
	Email   string
	Name    string
	// Verified says that the address is theirs. Nobody else can buy.
	Verified bool
}

// Config is what [New] takes.
type Config struct {
	// DB is the database, PostgreSQL or SQLite. Required.
	DB *sqlx.DB
	// ReadDB is a pool for reading. Nil: DB.
	ReadDB *sqlx.DB
	// Stripe is the client for Stripe or for a double. Required.
	Stripe *client.API
	// Ledger gets the grants. Required.
	Ledger Ledger
	// Customer tells who is signed in; false for nobody. Required.
	Customer func(r *http.Request) (Customer, bool)
	// BaseURL is the site's address without a slash at the end, for the way back from Stripe. Required.
	BaseURL string
	// Path is where the host mounts the handler. Empty: /billing.
	Path string
	// LoginURL is where who is signed out is sent, with ?next=. Empty: they are told so instead.
	LoginURL string
	// CreditsURL is the page of the credits, linked from the success page. Empty: no link.
	CreditsURL string
	// Site draws the pages. Nil: a plain one.
	Site *web.Site
	// Clock tells the time. Nil: time.Now.
	Clock func() time.Time
	// Logger gets one line per step of a checkout. Nil: slog.Default.
	Logger *slog.Logger
}

// Billing sells credits. Its methods are safe for concurrent use by any number of processes.
type Billing struct {
	cfg   Config
	db    *database.DB
	views *web.Views
}

// New checks cfg.
func New(cfg Config) (*Billing, error) {
	switch {
	case cfg.DB == nil:
		return nil, errors.New("billing: Config.DB is required")
	case cfg.Stripe == nil:
		return nil, errors.New("billing: Config.Stripe is required")
	case cfg.Ledger == nil:
		return nil, errors.New("billing: Config.Ledger is required")
	case cfg.Customer == nil:
		return nil, errors.New("billing: Config.Customer is required")
	case cfg.BaseURL == "":
		return nil, errors.New("billing: Config.BaseURL is required")
	}
	db, err := database.New(cfg.DB, cfg.ReadDB)
	if err != nil {
		return nil, err
	}
	cfg.BaseURL = strings.TrimSuffix(cfg.BaseURL, "/")
	if cfg.Path == "" {
		cfg.Path = DefaultPath
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Site == nil {
		if cfg.Site, err = web.Alone(cfg.Path, web.Config{Logger: cfg.Logger, FormActions: []string{CheckoutOrigin}}); err != nil {
			return nil, err
		}
	}
	b := &Billing{cfg: cfg, db: db}
	if b.views, err = cfg.Site.Views("billing", templates); err != nil {
		return nil, err
	}
	return b, nil
}

// CheckoutOrigin is where Stripe's hosted page is; a Content-Security-Policy must let forms lead there.
const CheckoutOrigin = "https://checkout.stripe.com"

// Migrate makes the tables or brings them up to date.
func (b *Billing) Migrate(ctx context.Context) error {
	return database.Migrate(ctx, b.db, Migrations())
}

func (b *Billing) now() time.Time { return database.Canonical(b.cfg.Clock()) }

// Errors that people see.
var (
	ErrSignedOut   error = problem.New(problem.CodeUnauthenticated, "Log in first.")
	ErrUnverified  error = problem.New("email_unverified", "Confirm your e-mail address first; the link is in your mail.")
	ErrNotForSale  error = problem.New("price_not_for_sale", "This is not for sale any more. Choose another pack.")
	ErrSubscribing error = problem.New("subscriptions_unavailable", "Subscriptions cannot be bought here yet. Choose a credit pack.")
	ErrNotFound    error = problem.New(problem.CodeNotFound, "There is no such payment.")
	ErrStripe      error = problem.New(problem.CodeUnavailable, "The payment provider does not answer. Nothing was charged; try again in a moment.")
)
