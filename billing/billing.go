// Package billing sells credits through Stripe, in packs and by subscription: it mirrors the catalogue, opens checkouts,
// follows subscriptions and invoices, and turns payments into credits when Stripe says that the money is there.
//
// Stripe is the truth for products, prices and subscriptions; a product's metadata "credits" says how many credits one
// unit gives. A grant follows from the session or the invoice as Stripe has it, read afresh, and happens once for each,
// whether a webhook or a page comes first.
package billing

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
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
	TransferTx(ctx context.Context, tx *sqlx.Tx, p credits.TransferParams) (credits.Transferred, error)
	RevokeTx(ctx context.Context, tx *sqlx.Tx, p credits.RevokeParams) (credits.Entry, error)
	UsedTx(ctx context.Context, tx *sqlx.Tx, account string, grant uuid.UUID) (credits.Amount, error)
	Balance(ctx context.Context, account string) (credits.Balance, error)
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
	// Ledger gets the grants, and gives back what is taken. Required.
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
	// PromotionCodes lets people enter promotion codes on Stripe's page. A code lowers the price, not the credits.
	PromotionCodes bool
	// AutomaticTax has Stripe reckon taxes, which must be set up there (docs.stripe.com/tax).
	AutomaticTax bool
	// Grace is how long a subscription that is past due still entitles. 0: not at all.
	Grace time.Duration
	// Policy is what becomes of a plan's credits when the plan changes at once. Empty: TransferRemaining.
	Policy CreditPolicy
	// UpgradeAtPeriodEnd lets dearer plans begin with the next period, instead of at once for the difference.
	UpgradeAtPeriodEnd bool
	// DowngradeAtOnce lets cheaper plans of the same interval begin at once, without money going back, instead of with
	// the next period.
	DowngradeAtOnce bool
	// Frozen tells whether an account may not buy. Nil: all may.
	Frozen func(ctx context.Context, account string) (bool, error)
	// Notify is told what a person has to know, in the transaction in which it became true, and mostly queues a mail in
	// it. An error undoes that transaction, which is then tried again. Nil: nobody is told.
	Notify func(ctx context.Context, tx *sqlx.Tx, n Notice) error
	// Watch is told, in the transaction in which it became true, below how many credits an account wants to be topped up;
	// nil for not any more. Who watches the balance calls [Billing.TopUp] then. Nil: only [Billing.SweepTopUps] finds it.
	Watch func(ctx context.Context, tx *sqlx.Tx, account string, below *credits.Amount) error
	// OnEvent is told what happened to payments and subscriptions, once each and in the transaction in which it did, for
	// programs that follow an account. An error undoes that transaction, which is then tried again. Nil: nobody is told.
	OnEvent func(ctx context.Context, tx *sqlx.Tx, e Event) error
	// Jobs inserts the jobs of [Billing.FollowCustomerTx], which needs it. Nil: there are none.
	Jobs Jobs
	// Address tells an account's e-mail address as it is now, read where it is written; empty for an account that is gone.
	// [Billing.FollowCustomerTx] needs it.
	Address func(ctx context.Context, account string) (string, error)
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
	// rehearsing runs transactions that are undone; see [ReconcileParams.DryRun]. Nil: they are real.
	rehearsing func(ctx context.Context, fn func(ctx context.Context, tx *sqlx.Tx) error) error
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
	case cfg.Policy != "" && !cfg.Policy.valid():
		return nil, fmt.Errorf("billing: Config.Policy %q is none of the policies", cfg.Policy)
	}
	db, err := database.New(cfg.DB, cfg.ReadDB)
	if err != nil {
		return nil, err
	}
	cfg.BaseURL = strings.TrimSuffix(cfg.BaseURL, "/")
	if cfg.Path == "" {
		cfg.Path = DefaultPath
	}
	if cfg.Policy == "" {
		cfg.Policy = TransferRemaining
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Site == nil {
		if cfg.Site, err = web.Alone(cfg.Path, web.Config{Logger: cfg.Logger, FormActions: []string{CheckoutOrigin, PortalOrigin}}); err != nil {
			return nil, err
		}
	}
	b := &Billing{cfg: cfg, db: db}
	if b.views, err = cfg.Site.Views("billing", templates, pageData()); err != nil {
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

// NoticeKind is what a notice is about.
type NoticeKind string

// The kinds of notices.
const (
	NoticePaymentFailed NoticeKind = "payment_failed" // to the customer: an invoice was not paid; URL is where it can be
	NoticeDisputeOpened NoticeKind = "dispute_opened" // to staff: a payment is disputed, and its credits are taken back
	NoticeDisputeWon    NoticeKind = "dispute_won"    // to staff: the money and the credits are back
	NoticeDisputeLost   NoticeKind = "dispute_lost"   // to staff: the money is gone, and so are the credits
	NoticeInquiry       NoticeKind = "inquiry"        // to staff: a bank asks about a payment; no money has moved

	// The others are to the customer, about auto top-up and the card that pays.
	NoticeTopUpSucceeded      NoticeKind = "topup_succeeded"      // a pack was bought; URL is its payment
	NoticeTopUpFailed         NoticeKind = "topup_failed"         // the card was refused; URL is where to pay oneself
	NoticeTopUpAuthentication NoticeKind = "topup_authentication" // the bank wants the person; URL is where to pay oneself
	NoticeTopUpPaused         NoticeKind = "topup_paused"         // nothing more is bought, for Reason; URL is where to go on
	NoticeTopUpCapped         NoticeKind = "topup_capped"         // the month's cap, Price, leaves no room for a pack
	NoticeCardExpiring        NoticeKind = "card_expiring"        // the card that pays, Description, ends soon
)

// NoticeKinds returns all kinds.
func NoticeKinds() []NoticeKind {
	return []NoticeKind{NoticePaymentFailed, NoticeDisputeOpened, NoticeDisputeWon, NoticeDisputeLost, NoticeInquiry, NoticeTopUpSucceeded, NoticeTopUpFailed,
		NoticeTopUpAuthentication, NoticeTopUpPaused, NoticeTopUpCapped, NoticeCardExpiring}
}

// Notice is what a person has to know.
type Notice struct {
	Kind    NoticeKind
	Account string
	Price   Money
	// Description is what it is about, such as the plan's name.
	Description string
	// Credits are those that were bought, or were to be.
	Credits credits.Amount
	// Reason says why, in a sentence, and Code for those who write it in another language: of a refusal Stripe's, such as
	// insufficient_funds, or authentication_required; of a pause PauseNotForSale, PauseNoCard, PauseCurrency, or the last
	// refusal's with Failures, which is how many payments were refused one after the other.
	Reason   string
	Code     string
	Failures int64
	// Card is the one that expires. Nil: it is about another thing.
	Card *PaymentMethod
	// URL is where something can be done about it; empty: nothing can.
	URL string
	// Key is the same for the same occasion.
	Key string
}

func (b *Billing) notify(ctx context.Context, tx *sqlx.Tx, n Notice) error {
	if b.cfg.Notify == nil {
		return nil
	}
	if err := b.cfg.Notify(ctx, tx, n); err != nil {
		return fmt.Errorf("billing: notice %s: %w", n.Key, err)
	}
	return nil
}

// Errors that people see.
var (
	ErrSignedOut  error = problem.New(problem.CodeUnauthenticated, "Log in first.")
	ErrUnverified error = problem.New("email_unverified", "Confirm your e-mail address first; the link is in your mail.")
	ErrNotForSale error = problem.New("price_not_for_sale", "This is not for sale any more. Choose another offer.")
	ErrNotFound   error = problem.New(problem.CodeNotFound, "There is no such payment.")
	ErrStripe     error = problem.New(problem.CodeUnavailable, "The payment provider does not answer. Try again in a moment; nothing is charged twice.")
)
