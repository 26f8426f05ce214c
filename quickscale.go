// Package quickscale turns a Go web application into a product that people pay for: accounts, Stripe payments, prepaid
// credits, services metered in credits, and a back office.
//
// [New] wires the packages below into an [App] whose handler the host mounts in its own router:
//
//	pools, err := quickscale.Open(ctx, "sqlite:app.db")
//	app, err := quickscale.New(quickscale.Config{DB: pools.DB, ReadDB: pools.ReadDB, Mode: quickscale.Development, BaseURL: "http://127.0.0.1:8080"})
//	err = app.Migrate(ctx)
//	err = app.Start(ctx)
//	http.ListenAndServe("127.0.0.1:8080", app.Handler())
//
// Each package also works alone: auth, billing, credits, services, webhook, admin and mail. This one holds no rules of
// its own.
package quickscale

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76/client"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/internal/maintenance"
	"github.com/quickscale/quickscale/internal/web"
	"github.com/quickscale/quickscale/mail"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/webhook"
	"github.com/quickscale/quickscale/webhook/outbound"
)

// Mode is what an application runs as.
type Mode string

// The modes.
const (
	// Production refuses to start without its secrets, https and a real Stripe. It is what an empty Mode means.
	Production Mode = "production"
	// Development simulates what is not configured: Stripe by a double, mail by an outbox.
	Development Mode = "development"
)

// Pools are an open database: a pool to write and one to read, which are the same on PostgreSQL.
type Pools struct {
	DB     *sqlx.DB
	ReadDB *sqlx.DB

	db *database.DB
}

// Open opens a database by its URL and checks that it answers: postgres://user:password@host:5432/name, or
// sqlite:file.db, whose file is made when it is missing. A host that has a pool of its own needs no Open. The error
// never holds the password.
func Open(ctx context.Context, url string) (*Pools, error) {
	db, err := database.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	return &Pools{DB: db.Writer(), ReadDB: db.Reader(), db: db}, nil
}

// Close closes the pools. Call it after [App.Stop].
func (p *Pools) Close() error { return p.db.Close() }

// Config is what [New] takes.
type Config struct {
	// DB is the database, PostgreSQL or SQLite; the host keeps owning it. Required.
	DB *sqlx.DB
	// ReadDB is a pool for reading. Nil: DB. On SQLite, where DB should have a single connection, use [Open]'s.
	ReadDB *sqlx.DB
	// Mode is production or development. Empty: production.
	Mode Mode
	// BaseURL is how people reach the application, without a slash at the end, such as https://app.example.com. Links in
	// mails and the ways back from Stripe begin with it. It must be https in production. Required.
	BaseURL string
	// SecretKey seals what must be kept and read again, such as a mail that waits. 32 bytes or more, the same in all
	// processes. Required in production; in development empty means a key that everybody knows.
	SecretKey string
	// Name is the product's name, in pages and mails. Empty: QuickScale.
	Name string
	// StripeKey is Stripe's secret key (sk_test_…, sk_live_…, rk_…). Required in production; empty in development means
	// the double at /dev/stripe/.
	StripeKey string
	// StripeURL is where Stripe's API is, such as that of a double that runs by itself (quickscale stripe double). Only in
	// development, and with a test key. Empty: Stripe.
	StripeURL string
	// WebhookSecrets are the signing secrets (whsec_…) of Stripe's endpoint for /webhooks/stripe, several while one is
	// rolled. Required with StripeKey.
	WebhookSecrets []string
	// Stripe replaces the client that is made from StripeKey, for hosts with a transport of their own. StripeKey still
	// tells whether it is live.
	Stripe *client.API
	// SMTPURL is where mail is sent through, such as smtp://user:password@mail.example.com:587; see [mail.SMTPConfig].
	// Required in production unless Mailer is set; empty in development means the outbox at /dev/mail.
	SMTPURL string
	// MailFrom is the sender, such as "Acme <hello@acme.example>". Empty: no-reply at BaseURL's host.
	MailFrom string
	// Mailer replaces SMTP.
	Mailer mail.Mailer
	// MailTemplates replaces texts of mails by file name, such as auth.verify.txt or credits.low.txt, or de/credits.low.txt for
	// those in another language (BCP 47); a folder for one that there are no texts in yet adds it. Nil: the library's, in
	// English and German.
	MailTemplates fs.FS
	// MailLanguage tells what the reader of a mail reads; see [auth.Config]. Nil: what they chose in their profile, or else
	// English.
	MailLanguage func(ctx context.Context, address string) string
	// LowCredits is the balance below which people are told by mail that their credits run low, once each time. 0: only
	// those whose account has a mark of its own.
	LowCredits credits.Amount
	// SealKey signs the receipts of the ledger's seals; see credits.Ledger.SealReceipt. Nil: there are no receipts.
	SealKey ed25519.PrivateKey
	// WithoutOutbound leaves out the webhooks that go to people's own programs, with their pages at /account/webhooks.
	WithoutOutbound bool
	// OutboundTypes are types of the host's own events that go out besides the built-in ones; see [App.Outbound].
	OutboundTypes []string
	// OutboundLoopback lets people's endpoints be on this machine and without TLS. In development only.
	OutboundLoopback bool
	// WithoutOrganisations leaves out accounts that several people share: everybody has their own and nothing else.
	WithoutOrganisations bool
	// Permissions are what roles may do beside the library's own; see [auth.Config.Permissions]. Nil: nothing more.
	Permissions map[auth.Role][]auth.Permission
	// AccountData is what the host keeps about accounts, so that it joins their export and their end beside credits,
	// payments and usage. Nil: nothing.
	AccountData []auth.AccountData
	// AdminEmail becomes an administrator once the address is verified. Empty: nobody does.
	AdminEmail string
	// OAuth are other sites by which people can log in, such as auth.Google(id, secret). Nil: none.
	OAuth []auth.OAuthProvider
	// TrustedProxies are the addresses of the host's own reverse proxies, from which X-Forwarded-For is believed. Nil: the
	// address of a connection is that of the person.
	TrustedProxies []netip.Prefix
	// Breaches looks new passwords up among leaked ones, such as auth.PwnedPasswords, which asks a service by the first
	// five digits of a hash. Nil: only the list of common passwords is asked.
	Breaches auth.BreachChecker
	// KeyScopes are what an API key can be allowed: [ScopeAPI], [ScopeService] and the name of a service, and what the host
	// gives a meaning of its own. Nil: ScopeAPI, which every key has then.
	KeyScopes []string
	// StaffSecondFactor opens the back office only to who logs in with a second step; who has none sets one up at the
	// next log-in.
	StaffSecondFactor bool
	// MoneySecondFactor lets staff move money and credits and give roles only when they log in with a second step.
	MoneySecondFactor bool
	// ApproveCreditsAbove is the change of credits by staff above which a second person has to approve it. 0: none needs it.
	ApproveCreditsAbove credits.Amount
	// Templates replaces built-in templates by path: "web/layout.html", "web/components/field.html", "auth/login.html"; see
	// [BuiltinTemplates]. What does not fit is told by [New]. Nil: none.
	Templates fs.FS
	// Theme changes the look without a template. The zero value: the built-in look.
	Theme Theme
	// Public is what the public pages say: /, /about, /contact, /terms and /privacy. The zero value: general words.
	Public Public
	// WithoutPublicPages leaves them out, for hosts that have their own. A single one is replaced by the host's own route.
	WithoutPublicPages bool
	// Nav are links in the header before the built-in ones.
	Nav []Link
	// Metrics takes the measurements: those of the packages, and of HTTP, jobs, the database's pool and the disk. Package
	// telemetry has one for Prometheus. Nil: OpenTelemetry's global one, which discards them unless the host sets another.
	Metrics metric.MeterProvider
	// Traces takes the spans of HTTP requests and of jobs. Nil: OpenTelemetry's global one.
	Traces trace.TracerProvider
	// JobPoll is how often an idle process looks for jobs, and so the longest that one which is due waits. 0: 200 ms.
	JobPoll time.Duration
	// Clock tells the time. Nil: time.Now.
	Clock func() time.Time
	// Logger gets what happens and what goes wrong, never secrets. Nil: slog.Default.
	Logger *slog.Logger
}

// Link is one entry of the header's navigation.
type Link struct{ Label, URL string }

// App is the wired application. Its parts are there to be called by the host; what changes a part's wiring (registering
// services and webhook handlers) is done before Start.
type App struct {
	Auth     *auth.Auth
	Billing  *billing.Billing
	Credits  *credits.Ledger
	Services *services.Services
	Webhooks *webhook.Processor
	// Outbound sends webhooks to people's own programs. Nil with Config.WithoutOutbound.
	Outbound *outbound.Outbound
	Admin    *admin.Admin
	Mail     *mail.Queue

	cfg     Config
	db      *database.DB
	jobs    *jobs.Engine
	site    *web.Site
	pages   *credits.Pages
	hooks   *outbound.Pages
	mails   *mail.Templates
	stripe  *client.API
	double  *stripetest.Server // nil with a real Stripe
	outbox  *mail.Outbox       // nil with a real mailer
	gallery http.Handler       // nil in production
	public  *web.Views         // nil without public pages
	watch   *maintenance.Watch
	ending  atomic.Bool // Stop was called
	handler http.Handler
}

// New checks cfg whole, telling every fault at once, and wires the packages. It starts nothing and needs no table yet.
func New(cfg Config) (*App, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	db, err := database.New(cfg.DB, cfg.ReadDB)
	if err != nil {
		return nil, err
	}
	a := &App{cfg: cfg, db: db, watch: maintenance.NewWatch(db, cfg.Clock, cfg.Logger)}
	for _, wire := range []func() error{a.wireSite, a.wireJobs, a.wireStripe, a.wireMail, a.wireMails, a.wireAuth, a.wireOutbound, a.wireCredits, a.wireBilling, a.wireServices, a.wireAdmin, a.wireTasks, a.wireMetrics, a.wirePublic, a.checkTemplates} {
		if err := wire(); err != nil {
			return nil, err
		}
	}
	a.handler = a.routes()
	return a, nil
}

// Migrations are the schema changes of all packages, in order. River's own come with [App.Migrate].
func migrationSets() []database.Migrations {
	return []database.Migrations{
		credits.Migrations(), webhook.Migrations(), outbound.Migrations(), mail.Migrations(), auth.Migrations(), billing.Migrations(), services.Migrations(), admin.Migrations(), maintenance.Migrations(),
	}
}

// Migrate makes all tables or brings them up to date. Any number of processes may call it at once.
func (a *App) Migrate(ctx context.Context) error {
	if err := a.jobs.Migrate(ctx); err != nil {
		return err
	}
	sets := migrationSets()
	if a.double != nil {
		sets = append(sets, stripetest.Migrations())
	}
	return database.Migrate(ctx, a.db, sets...)
}

// Start begins to work jobs, and to deliver the double's webhooks where it is used. ctx bounds the start only.
func (a *App) Start(ctx context.Context) error {
	if a.double != nil {
		if err := a.double.Start(ctx); err != nil {
			return fmt.Errorf("quickscale: start the Stripe double: %w", err)
		}
	}
	return a.jobs.Start(ctx)
}

// Stop takes no new jobs and waits for those that run, until ctx ends; what is cancelled then is done again later. Shut
// the HTTP server down first.
func (a *App) Stop(ctx context.Context) error {
	a.ending.Store(true)
	err := a.jobs.Stop(ctx)
	a.Services.Flush()
	if a.double != nil {
		a.double.Stop()
	}
	return err
}

// Stripe is the client that the application uses.
func (a *App) Stripe() *client.API { return a.stripe }

// Simulated names what is not real in this process, for a banner at the start: "stripe", "mail". Empty in production.
func (a *App) Simulated() []string {
	var names []string
	if a.double != nil {
		names = append(names, "stripe")
	}
	if a.outbox != nil {
		names = append(names, "mail")
	}
	return names
}

func (a *App) navigation() []web.Link {
	links := make([]web.Link, len(a.cfg.Nav))
	for i, l := range a.cfg.Nav {
		links[i] = web.Link(l)
	}
	return slices.Clip(links)
}
