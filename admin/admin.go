// Package admin is the back office: staff look up people, their ledgers, payments and the events that Stripe sent.
// Its pages answer 404 to everybody who is not staff, and every page that staff open is written to an append-only
// audit log before it is shown.
//
// It works with any subset of the other packages: a section whose source is nil is absent.
package admin

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
	"github.com/quickscale/quickscale/webhook"
)

var (
	//go:embed migrations
	migrations embed.FS
	//go:embed all:templates
	templates embed.FS
)

// Migrations are the schema changes of the audit log, for those who migrate several packages at once.
func Migrations() database.Migrations { return database.Migrations{Name: "admin", FS: migrations} }

// DefaultPath is where the pages are unless the host says otherwise.
const DefaultPath = "/admin"

// Staff is a person who may see the back office.
type Staff struct {
	// ID names them in the audit log.
	ID    string
	Email string
	// Permissions are what they may do beside looking. Nil: everything.
	Permissions []auth.Permission
	// Role is theirs. An administrator's permissions are those above; of others the duties that they were given in the back
	// office ([Admin.SetDuties]) go before the library's own among them.
	Role auth.Role
}

// Users is where people are looked up; *auth.Auth is one.
type Users interface {
	Users(ctx context.Context, p auth.UsersParams) (users []auth.User, more bool, err error)
	FindUser(ctx context.Context, id string) (auth.User, error)
}

// Ledger is where credits are looked up; *credits.Ledger is one.
type Ledger interface {
	Balance(ctx context.Context, account string) (credits.Balance, error)
	Lots(ctx context.Context, account string) ([]credits.Lot, error)
	History(ctx context.Context, p credits.HistoryParams) (entries []credits.Entry, more bool, err error)
}

// Verifier recomputes the ledger in batches; *credits.Ledger is one.
type Verifier interface {
	Verify(ctx context.Context, p credits.VerifyParams) (credits.VerifyReport, error)
	VerifySeals(ctx context.Context, after int64, limit int) (credits.SealsReport, error)
}

// Payments is where payments are looked up; *billing.Billing is one.
type Payments interface {
	Payments(ctx context.Context, p billing.PaymentsParams) (payments []billing.Payment, more bool, err error)
}

// Events is where Stripe's events are looked up and acted on; *webhook.Processor is one.
type Events interface {
	List(ctx context.Context, p webhook.ListParams) (records []webhook.Record, more bool, err error)
	Find(ctx context.Context, id string) (webhook.Record, error)
	Stats(ctx context.Context, p webhook.StatsParams) (webhook.Stats, error)
	Payload(ctx context.Context, p webhook.PayloadParams) (json.RawMessage, error)
	Actions(ctx context.Context, p webhook.ActionsParams) (actions []webhook.Action, more bool, err error)
	Retry(ctx context.Context, p webhook.ActParams) (webhook.Acted, error)
	Skip(ctx context.Context, p webhook.ActParams) (webhook.Acted, error)
	Replay(ctx context.Context, p webhook.ActParams) (webhook.Acted, error)
}

// Refunds is where money goes back; *billing.Billing is one.
type Refunds interface {
	LookUpPayment(ctx context.Context, id uuid.UUID) (billing.Payment, error)
	PreviewRefund(ctx context.Context, payment uuid.UUID, amount int64) (billing.RefundPreview, error)
	Refund(ctx context.Context, p billing.RefundParams) (billing.Refund, error)
	FindRefund(ctx context.Context, id uuid.UUID) (billing.Refund, error)
	RefundTrail(ctx context.Context, id uuid.UUID) ([]billing.RefundStep, error)
	Refunds(ctx context.Context, p billing.RefundsParams) (refunds []billing.Refund, more bool, err error)
	RefundStats(ctx context.Context, p billing.RefundStatsParams) (billing.RefundStats, error)
	Disputes(ctx context.Context, p billing.DisputesParams) (disputes []billing.Dispute, more bool, err error)
	FindDispute(ctx context.Context, id uuid.UUID) (billing.Dispute, error)
	DisputeTrail(ctx context.Context, id uuid.UUID) ([]billing.DisputeStep, error)
}

// Investigator compares a payment with Stripe's live objects; *billing.Billing is one.
type Investigator interface {
	Investigate(ctx context.Context, payment uuid.UUID) ([]billing.LiveObject, error)
}

// Catalogue is what is sold; *billing.Billing is one.
type Catalogue interface {
	Products(ctx context.Context) ([]billing.Product, error)
	FindProduct(ctx context.Context, id string) (billing.Product, error)
	ArrangeTx(ctx context.Context, tx *sqlx.Tx, p billing.ArrangeParams) error
	SyncProduct(ctx context.Context, id string) error
}

// Reconciler tells of the runs that compare us with Stripe; *billing.Billing is one.
type Reconciler interface {
	Runs(ctx context.Context, limit int) ([]billing.Run, error)
	RunItems(ctx context.Context, run uuid.UUID) ([]billing.RunItem, error)
}

// Subscriptions is where an account's plan is looked up; *billing.Billing is one.
type Subscriptions interface {
	FindSubscription(ctx context.Context, account string) (billing.Subscription, error)
}

// Adjuster corrects credits, in a transaction of Config.DB; *credits.Ledger is one.
type Adjuster interface {
	AdjustTx(ctx context.Context, tx *sqlx.Tx, p credits.AdjustParams) (credits.Entry, error)
}

// Task names what staff can have run by Config.RunTask.
type Task string

// The tasks.
const (
	TaskReconcile Task = "billing_reconcile"
	TaskCatalogue Task = "billing_catalogue"
)

// Config is what [New] takes.
type Config struct {
	// DB is the database of the audit log, PostgreSQL or SQLite. Required.
	DB *sqlx.DB
	// ReadDB is a pool for reading. Nil: DB.
	ReadDB *sqlx.DB
	// Staff tells which member of staff a request is from; false for everybody else. Required.
	Staff func(r *http.Request) (Staff, bool)
	// Users, Ledger, Verifier, Payments and Events are what the sections show. Nil: the section is absent.
	Users    Users
	Roles    Roles
	Ledger   Ledger
	Verifier Verifier
	Payments Payments
	Events   Events
	// Refunds, Catalogue, Reconciler, Subscriptions and Adjuster add what staff can do about money and credits. Nil: they
	// cannot.
	Refunds       Refunds
	Catalogue     Catalogue
	Reconciler    Reconciler
	Subscriptions Subscriptions
	Adjuster      Adjuster
	// Services are switched and priced. Nil: the section is absent.
	Services Services
	// Revenue, Use, Crowd and Lag have the figures of the overview. Nil: those are absent.
	Revenue Revenue
	Use     Use
	Crowd   Crowd
	Lag     Lag
	// ApproveAbove is the change of credits, either way, above which a second person with [auth.PermitApprove] has to approve
	// what one asks for. 0: none needs it.
	ApproveAbove credits.Amount
	// Investigator asks Stripe about a payment, where Refunds is set too. Nil: there is no page for it.
	Investigator Investigator
	// Accounts tells whose accounts are. Nil: an account is the user of the same id.
	Accounts Accounts
	// RunTask queues a job in a transaction of DB, and tells whether it was added; false: one waits or runs already. Nil:
	// the buttons for it are absent.
	RunTask func(ctx context.Context, tx *sqlx.Tx, task Task) (added bool, err error)
	// Jobs is the queue of jobs. Nil: the section is absent.
	Jobs Jobs
	// Dashboard is the address of Stripe's Dashboard, such as https://dashboard.stripe.com/test. Empty: nothing leads there.
	Dashboard string
	// ReplaySpan takes a span of Stripe's list of events into Events. Nil: there is no page for it.
	ReplaySpan func(ctx context.Context, p webhook.SpanParams) (webhook.Span, error)
	// ImpersonatePath takes a POST at ImpersonatePath/{id of the person}, for staff to act as them. Empty: it is not offered.
	ImpersonatePath string
	// Recent lets only those through who proved lately who they are, and sends others to do so and back; it stands before what
	// moves money or credits or gives power. (*auth.Auth).RequireRecentAuth is one. Nil: nobody is asked.
	Recent func(next http.Handler) http.Handler
	// SecondFactor tells that who makes the request logs in with a second step, without which the same acts are refused. Nil:
	// they are not.
	SecondFactor func(r *http.Request) bool
	// Path is where the host mounts the handler. Empty: /admin.
	Path string
	// Site draws the pages. Nil: a plain one.
	Site *web.Site
	// Clock tells the time. Nil: time.Now.
	Clock func() time.Time
	// Logger gets what goes wrong. Nil: slog.Default.
	Logger *slog.Logger
}

// Admin is the back office. Its methods are safe for concurrent use by any number of processes.
type Admin struct {
	cfg   Config
	db    *database.DB
	views *web.Views
}

// New checks cfg.
func New(cfg Config) (*Admin, error) {
	switch {
	case cfg.DB == nil:
		return nil, errors.New("admin: Config.DB is required")
	case cfg.Staff == nil:
		return nil, errors.New("admin: Config.Staff is required")
	case cfg.ApproveAbove < 0:
		return nil, errors.New("admin: Config.ApproveAbove is below zero")
	}
	db, err := database.New(cfg.DB, cfg.ReadDB)
	if err != nil {
		return nil, err
	}
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
		if cfg.Site, err = web.Alone(cfg.Path, web.Config{Logger: cfg.Logger}); err != nil {
			return nil, err
		}
	}
	a := &Admin{cfg: cfg, db: db}
	if a.views, err = cfg.Site.Views("admin", templates, pageData()); err != nil {
		return nil, err
	}
	return a, nil
}

// Migrate makes the audit log's table or brings it up to date.
func (a *Admin) Migrate(ctx context.Context) error {
	return database.Migrate(ctx, a.db, Migrations())
}

func (a *Admin) now() time.Time { return database.Canonical(a.cfg.Clock()) }

// errNoEvent is for addresses that name none.
var errNoEvent = problem.New(problem.CodeNotFound, "There is nothing at this address. Check it, or start again from the overview.")

// cursor reads the id at which a page begins; what is none begins with the newest.
func cursor(r *http.Request) uuid.UUID {
	id, err := uuid.Parse(r.URL.Query().Get("before"))
	if err != nil {
		return uuid.Nil
	}
	return id
}
