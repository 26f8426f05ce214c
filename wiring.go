package quickscale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/internal/web"
	"github.com/quickscale/quickscale/mail"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/webhook"
	"github.com/quickscale/quickscale/webhook/outbound"
)

// Where the parts are mounted (the HTTP contract).
const (
	authPath     = auth.DefaultPath
	accountPath  = auth.DefaultAccountPath
	billingPath  = billing.DefaultPath
	creditsPath  = credits.DefaultPath
	servicesPath = services.DefaultPath
	apiPath      = services.DefaultAPIPath
	adminPath    = admin.DefaultPath
	mcpPath      = services.DefaultMCPPath
	hooksPath    = outbound.DefaultPath
	webhookPath  = "/webhooks/stripe"
	outboxPath   = mail.DefaultPath
	doublePath   = "/dev/stripe"
	galleryPath  = "/dev/ui"
)

func (a *App) wireSite() (err error) {
	cfg := web.Config{
		Name: a.cfg.Name, Templates: a.cfg.Templates, Theme: a.cfg.Theme.site(), Chrome: a.chrome, Secure: a.secure(), Logger: a.cfg.Logger,
	}
	if a.cfg.StripeKey != "" {
		cfg.FormActions = []string{billing.CheckoutOrigin, billing.PortalOrigin}
	}
	if a.cfg.StripeURL != "" {
		u, err := url.Parse(a.cfg.StripeURL)
		if err != nil {
			return fmt.Errorf("quickscale: Config.StripeURL: %w", err)
		}
		cfg.FormActions = []string{u.Scheme + "://" + u.Host} // the double's pages
	}
	if a.site, err = web.New(cfg); err != nil || a.cfg.Mode != Development {
		return err
	}
	a.gallery, err = a.site.Gallery(galleryPath)
	return err
}

func (a *App) wireJobs() (err error) {
	a.jobs, err = jobs.New(jobs.Config{DB: a.db, PollInterval: a.cfg.JobPoll, Traces: a.cfg.Traces, Logger: a.cfg.Logger})
	return err
}

// wireStripe makes the client, and in development the double that it talks to.
func (a *App) wireStripe() error {
	switch {
	case a.cfg.Stripe != nil:
		a.stripe = a.cfg.Stripe
	case a.cfg.StripeKey != "":
		backends := &stripe.Backends{
			API:     backend(stripe.APIBackend, a.cfg.StripeURL),
			Connect: backend(stripe.ConnectBackend, ""),
			Uploads: backend(stripe.UploadsBackend, ""),
		}
		a.stripe = client.New(a.cfg.StripeKey, backends)
	}
	if a.cfg.StripeKey == "" {
		store, err := stripetest.NewSQLStore(a.db.Writer())
		if err != nil {
			return err
		}
		a.cfg.WebhookSecrets = []string{stripetest.DefaultWebhookSecret}
		a.double, err = stripetest.NewServer(stripetest.Config{
			BaseURL: a.cfg.BaseURL + doublePath, WebhookURL: a.cfg.BaseURL + webhookPath, Store: store, Clock: a.cfg.Clock, Logger: a.cfg.Logger,
		})
		if err != nil {
			return err
		}
		if a.stripe == nil {
			a.stripe = a.double.Client()
		}
	}
	var err error
	a.Webhooks, err = webhook.New(webhook.Config{
		DB: a.db.Writer(), ReadDB: a.db.Reader(), Jobs: a.jobs.Client(), Secrets: a.cfg.WebhookSecrets, Livemode: a.cfg.live(), OnDead: a.onDead, Metrics: a.cfg.Metrics, Clock: a.cfg.Clock, Logger: a.cfg.Logger,
	})
	if err != nil {
		return err
	}
	return a.Webhooks.AddWorkers(a.jobs.Workers())
}

// Limits of one call to Stripe. A call that gets no answer is repeated under the same idempotency key.
const (
	stripeTimeout = 30 * time.Second
	stripeRetries = 2
)

func backend(kind stripe.SupportedBackend, base string) stripe.Backend {
	cfg := &stripe.BackendConfig{
		HTTPClient:        &http.Client{Timeout: stripeTimeout},
		MaxNetworkRetries: stripe.Int64(stripeRetries),
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull}, // errors come back and are logged once, by us
	}
	if base != "" {
		cfg.URL = &base
	}
	return stripe.GetBackendWithConfig(kind, cfg)
}

func (a *App) wireMail() error {
	mailer := a.cfg.Mailer
	switch {
	case mailer != nil:
	case a.cfg.SMTPURL != "":
		smtp, err := mail.NewSMTP(mail.SMTPConfig{URL: a.cfg.SMTPURL, From: a.cfg.MailFrom})
		if err != nil {
			return err
		}
		mailer = smtp
	default:
		outbox, err := mail.NewOutbox(mail.OutboxConfig{DB: a.db.Writer(), ReadDB: a.db.Reader(), Path: outboxPath, Site: a.site, Previews: a.mailPreviews, Clock: a.cfg.Clock})
		if err != nil {
			return err
		}
		a.outbox, mailer = outbox, outbox
	}
	var err error
	a.Mail, err = mail.NewQueue(mail.QueueConfig{
		DB: a.db.Writer(), Mailer: mailer, Jobs: a.jobs.Client(), Secret: []byte(a.cfg.SecretKey), Clock: a.cfg.Clock, Logger: a.cfg.Logger,
	})
	if err != nil {
		return err
	}
	return a.Mail.AddWorkers(a.jobs.Workers())
}

func (a *App) wireAuth() (err error) {
	a.Auth, err = auth.New(auth.Config{
		DB: a.db.Writer(), ReadDB: a.db.Reader(), Mail: a.Mail, BaseURL: a.cfg.BaseURL, Site: a.site, Panels: a.panels, Overview: a.overview,
		MailTemplates: a.cfg.MailTemplates, MailLanguage: a.cfg.MailLanguage, AdminEmail: a.cfg.AdminEmail, Clock: a.cfg.Clock, Logger: a.cfg.Logger,
		Secret: []byte(a.cfg.SecretKey), OAuth: a.cfg.OAuth, WithoutOrganisations: a.cfg.WithoutOrganisations, Permissions: a.cfg.Permissions, AccountData: a.accountData(),
		StaffSecondFactor: a.cfg.StaffSecondFactor,
		TrustedProxies:    a.cfg.TrustedProxies, Breaches: a.cfg.Breaches, KeyMode: a.keyMode(), KeyScopes: a.cfg.KeyScopes,
		Hooks: auth.Hooks{OnEmailChange: a.onEmailChange, OnContactsChange: a.onContactsChange},
	})
	return err
}

// keyMode keeps the keys of development out of production, and the other way round.
func (a *App) keyMode() auth.KeyMode {
	if a.cfg.Mode == Development {
		return auth.KeyTest
	}
	return auth.KeyLive
}

// onEmailChange has Stripe's customers follow the person's address: their own, and those of organisations. Whose address
// an organisation has is looked up when Stripe is told.
func (a *App) onEmailChange(ctx context.Context, tx *sqlx.Tx, u auth.User, _ string) error {
	accounts, err := a.Auth.Accounts(ctx, u.ID)
	if err != nil {
		return err
	}
	for _, account := range accounts {
		if err := a.Billing.FollowCustomerTx(ctx, tx, account.ID); err != nil {
			return err
		}
	}
	return nil
}

// onContactsChange has Stripe's customer follow an organisation's owners: nobody who has left is written to about it.
func (a *App) onContactsChange(ctx context.Context, tx *sqlx.Tx, account string) error {
	return a.Billing.FollowCustomerTx(ctx, tx, account)
}

func (a *App) wireCredits() (err error) {
	a.Credits, err = credits.New(credits.Config{
		DB: a.db.Writer(), ReadDB: a.db.Reader(), Jobs: a.jobs.Client(), LowAt: a.cfg.LowCredits, OnLow: a.onLow, OnExpiring: a.onExpiring,
		SigningKey: a.cfg.SealKey, Metrics: a.cfg.Metrics, Clock: a.cfg.Clock, Logger: a.cfg.Logger,
	})
	if err != nil {
		return err
	}
	if err := a.Credits.AddWorkers(a.jobs.Workers()); err != nil {
		return err
	}
	if _, err := a.jobs.Client().PeriodicJobs().AddManySafely(a.Credits.PeriodicJobs()); err != nil {
		return fmt.Errorf("quickscale: the ledger's jobs: %w", err)
	}
	a.pages, err = credits.NewPages(credits.PagesConfig{
		Ledger: a.Credits, Account: accountOf, LoginURL: authPath + "/login", BuyURL: billingPath + "/", Site: a.site,
	})
	return err
}

func (a *App) wireBilling() (err error) {
	a.Billing, err = billing.New(billing.Config{
		DB: a.db.Writer(), ReadDB: a.db.Reader(), Stripe: a.stripe, Ledger: a.Credits, BaseURL: a.cfg.BaseURL,
		Customer: a.customerOf,
		Grace:    paymentGrace,
		Frozen:   a.frozen,
		Notify:   a.billingNotice,
		Watch:    a.Credits.SetLowAtTx,
		Jobs:     a.jobs.Client(), Address: a.addressOf,
		OnEvent:  a.onBilling,
		LoginURL: authPath + "/login", CreditsURL: creditsPath + "/", Site: a.site, Clock: a.cfg.Clock, Logger: a.cfg.Logger,
	})
	if err != nil {
		return err
	}
	a.Billing.Register(a.Webhooks)
	return a.Billing.AddWorkers(a.jobs.Workers())
}

// frozen tells whether an account may not buy: its credits are frozen, or it is closed.
func (a *App) frozen(ctx context.Context, account string) (bool, error) {
	people, err := a.Auth.AccountContacts(ctx, account)
	if err != nil {
		return false, err
	}
	if len(people) == 0 {
		_, err := a.Auth.FindUser(ctx, account)
		if err == nil {
			return true, nil // a person's, and they cannot come in
		}
		if !errors.Is(err, auth.ErrNotFound) { // an account of the host's own is no user's
			return false, err
		}
	}
	b, err := a.Credits.Balance(ctx, account)
	return b.Frozen, err
}

// paymentGrace is how long a plan entitles after a renewal was not paid, while Stripe tries again.
const paymentGrace = 3 * 24 * time.Hour

func (a *App) wireServices() (err error) {
	cfg := services.Config{
		DB: a.db.Writer(), ReadDB: a.db.Reader(), Ledger: a.Credits,
		User: func(r *http.Request) (services.Caller, bool) {
			id, ok := accountOf(r)
			return services.Caller{Account: id}, ok
		},
		API: a.apiCaller, LoginURL: authPath + "/login", BuyURL: billingPath + "/", Site: a.site, Clock: a.cfg.Clock, Logger: a.cfg.Logger,
		Entitled: a.Billing.Entitled, Jobs: a.jobs.Client(), RateLimit: callLimit,
	}
	if a.Outbound != nil {
		cfg.OnEndTx = a.sendCallEnded
	}
	if a.Services, err = services.New(cfg); err != nil {
		return err
	}
	return a.Services.AddWorkers(a.jobs.Workers())
}

// callLimit is how many calls of services over HTTP an account may make.
var callLimit = services.RateLimit{Calls: 600, Window: time.Minute}

func (a *App) wireAdmin() (err error) {
	a.Admin, err = admin.New(admin.Config{
		DB: a.db.Writer(), ReadDB: a.db.Reader(), Users: a.Auth, Roles: a.Auth, ImpersonatePath: accountPath + "/impersonation",
		Ledger: a.Credits, Verifier: a.Credits, Payments: a.Billing, Events: a.Webhooks,
		Refunds: a.Billing, Catalogue: a.Billing, Reconciler: a.Billing, Subscriptions: a.Billing, Adjuster: a.Credits, Jobs: a.jobs.Client(), Dashboard: a.dashboard(),
		Services: a.Services, Accounts: a.Auth, Investigator: a.Billing, Revenue: a.Billing, Use: a.Credits, Crowd: a.Auth, Lag: a.Webhooks,
		RunTask: func(ctx context.Context, tx *sqlx.Tx, task admin.Task) (bool, error) {
			return a.jobs.RunTx(ctx, tx, string(task))
		},
		ReplaySpan: func(ctx context.Context, p webhook.SpanParams) (webhook.Span, error) {
			return a.Webhooks.ReplaySpan(ctx, a.stripe.Events, p)
		},
		Staff: func(r *http.Request) (admin.Staff, bool) {
			u, ok := auth.UserFrom(r.Context())
			return admin.Staff{ID: u.ID, Email: u.Email, Role: u.Role, Permissions: a.Auth.Permissions(u.Role)}, ok && a.Auth.Can(u, auth.PermitBackOffice) && !a.lacksSecondFactor(r, u)
		},
		Recent: a.Auth.RequireRecentAuth, SecondFactor: a.moneySecondFactor(), ApproveAbove: a.cfg.ApproveCreditsAbove,
		Site: a.site, Clock: a.cfg.Clock, Logger: a.cfg.Logger,
	})
	return err
}

// moneySecondFactor tells who of the staff logs in with a second step. Nil: it is not asked.
func (a *App) moneySecondFactor() func(r *http.Request) bool {
	if !a.cfg.MoneySecondFactor {
		return nil
	}
	return func(r *http.Request) bool {
		u, ok := auth.UserFrom(r.Context())
		factors, err := a.Auth.Factors(r.Context(), u.ID)
		if err != nil {
			a.cfg.Logger.ErrorContext(r.Context(), "second step of staff", slog.Any("error", err))
		}
		return ok && err == nil && factors.Second()
	}
}

// impersonation keeps staff whose duties do not have it from acting as somebody else.
func (a *App) impersonation(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, _ := auth.UserFrom(r.Context())
		if a.Auth.Can(u, auth.PermitBackOffice) { // others are refused inside, and who acts as somebody must be able to end it
			can, err := a.Admin.Can(r, auth.PermitImpersonate)
			if err != nil {
				a.site.Fail(w, r, err)
				return
			}
			if !can {
				a.site.NotFound(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// dashboard is where Stripe shows its objects; the double has none.
func (a *App) dashboard() string {
	switch {
	case a.double != nil:
		return ""
	case a.cfg.live():
		return "https://dashboard.stripe.com"
	}
	return "https://dashboard.stripe.com/test"
}

// lacksSecondFactor tells that somebody of the staff logged in before a second step was asked of them. When that cannot
// be found out the back office stays closed.
func (a *App) lacksSecondFactor(r *http.Request, u auth.User) bool {
	lacks, err := a.Auth.LacksSecondFactor(r.Context(), u)
	if err != nil {
		a.cfg.Logger.ErrorContext(r.Context(), "second step of staff", slog.Any("error", err))
		return true
	}
	return lacks
}

// How often the processes look for what no event brings.
const (
	sweepEvery     = 5 * time.Minute
	catalogueEvery = time.Hour
	accountsEvery  = 24 * time.Hour
	pruneEvery     = 24 * time.Hour
	resumeEvery    = time.Minute
	noticesEvery   = time.Minute
	reconcileEvery = 6 * time.Hour
)

func (a *App) wireTasks() error {
	for _, task := range []struct {
		name  string
		every time.Duration
		run   func(ctx context.Context) error
	}{
		{"webhook_sweep", sweepEvery, func(ctx context.Context) error {
			_, err := a.Webhooks.Sweep(ctx, webhook.DefaultStale)
			return err
		}},
		{"webhook_prune", pruneEvery, func(ctx context.Context) error {
			_, err := a.Webhooks.Prune(ctx, webhook.PruneParams{})
			return err
		}},
		{"services_sweep", sweepEvery, func(ctx context.Context) error {
			_, err := a.Services.Sweep(ctx)
			return err
		}},
		{"services_recover", sweepEvery, func(ctx context.Context) error {
			_, err := a.Services.Recover(ctx, services.DefaultLost)
			return err
		}},
		{"services_prune", pruneEvery, func(ctx context.Context) error {
			_, err := a.Services.Prune(ctx)
			return err
		}},
		{"auth_sweep", accountsEvery, func(ctx context.Context) error {
			_, err := a.Auth.Sweep(ctx)
			return err
		}},
		{"auth_erase", sweepEvery, func(ctx context.Context) error {
			_, err := a.Auth.EraseDue(ctx)
			return err
		}},
		{"auth_notices", noticesEvery, func(ctx context.Context) error {
			_, err := a.Auth.SendNotices(ctx)
			return err
		}},
		{string(admin.TaskCatalogue), catalogueEvery, a.Billing.SyncCatalogue},
		{"billing_resume", resumeEvery, func(ctx context.Context) error {
			_, changes := a.Billing.ResumeChanges(ctx)
			_, refunds := a.Billing.ResumeRefunds(ctx)
			_, topUps := a.Billing.ResumeTopUps(ctx)
			return errors.Join(changes, refunds, topUps)
		}},
		{"billing_erase", sweepEvery, func(ctx context.Context) error {
			_, err := a.Billing.EraseCustomers(ctx)
			return err
		}},
		{"billing_topups", sweepEvery, func(ctx context.Context) error {
			_, err := a.Billing.SweepTopUps(ctx)
			return err
		}},
		{"billing_cards", sweepEvery, func(ctx context.Context) error {
			_, err := a.Billing.WarnExpiringCards(ctx)
			return err
		}},
		{string(admin.TaskReconcile), reconcileEvery, func(ctx context.Context) error {
			_, err := a.Billing.ReconcileAndKeep(ctx)
			return err
		}},
		{"billing_plans", resumeEvery, func(ctx context.Context) error {
			_, err := a.Billing.FollowPlans(ctx)
			return err
		}},
		{"admin_prices", resumeEvery, func(ctx context.Context) error {
			_, err := a.Admin.ApplyPrices(ctx)
			return err
		}},
		{"admin_people", catalogueEvery, a.Admin.CountPeople},
		{"outbound_prune", pruneEvery, a.pruneOutbound},
	} {
		if err := a.jobs.Every(task.name, task.every, task.run); err != nil {
			return err
		}
	}
	return nil
}

// panels are the cards of the dashboard.
func (a *App) panels(r *http.Request, _ auth.User) ([]auth.Panel, error) {
	account, _ := auth.AccountFrom(r.Context())
	b, err := a.Credits.Balance(r.Context(), account.ID)
	if err != nil {
		return nil, err
	}
	note := "They do not expire."
	if b.NextExpiry != nil {
		note = "The next ones expire on " + b.NextExpiry.Format("2 Jan 2006") + "."
	}
	if b.Available == 0 {
		note = "Buy a pack to use the services."
	}
	topUp, err := a.topUpPanel(r, account.ID)
	if err != nil {
		return nil, err
	}
	panels := []auth.Panel{
		{Label: "Credits", Value: b.Available.String(), Note: note, URL: billingPath + "/", Action: "Buy credits"}, topUp,
	}
	if a.Outbound != nil {
		panel, err := a.hooksPanel(r.Context(), account.ID)
		if err != nil {
			return nil, err
		}
		panels = append(panels, panel)
	}
	return panels, nil
}

// topUpPanel leads to auto top-up.
func (a *App) topUpPanel(r *http.Request, account string) (auth.Panel, error) {
	p := auth.Panel{Label: "Auto top-up", Value: "Off", Note: "Have a pack bought by itself when your credits run low.", URL: billingPath + "/auto-topup", Action: "Set up"}
	t, err := a.Billing.FindAutoTopUp(r.Context(), account)
	switch {
	case err != nil:
		return p, err
	case t.On:
		p.Value, p.Action, p.Note = "On", "Change", "Below "+t.Threshold.String()+" credits a pack is bought, for at most "+t.MonthlyCap.String()+" a month."
	case t.PausedAt != nil:
		p.Value, p.Action, p.Note = "Paused", "Look at it", t.PauseReason
	}
	return p, nil
}

// chrome surrounds every page: navigation, who is signed in, and what they have.
func (a *App) chrome(r *http.Request) web.Chrome {
	c := web.Chrome{Nav: a.navigation(), Footer: a.publicLinks(), LoginURL: authPath + "/login", SignupURL: authPath + "/signup", LogoutURL: authPath + "/logout", BalanceURL: creditsPath + "/"}
	u, ok := auth.UserFrom(r.Context())
	account, _ := auth.AccountFrom(r.Context())
	c.Nav = append(c.Nav, web.Link{Label: "Services", URL: servicesPath + "/"})
	if !ok || account.Role.MayPay() {
		c.Nav = append(c.Nav, web.Link{Label: "Pricing", URL: billingPath + "/"})
	}
	if !ok {
		return c
	}
	c.Nav = append(c.Nav, web.Link{Label: "Account", URL: accountPath + "/"})
	a.Auth.AddChrome(r, &c)
	if a.Auth.Can(u, auth.PermitBackOffice) {
		c.Nav = append(c.Nav, web.Link{Label: "Back office", URL: adminPath + "/"})
	}
	c.Person = &web.Person{Name: u.Name, Email: u.Email, AccountURL: accountPath + "/"}
	if a.Outbound != nil {
		c.Person.Links = append(c.Person.Links, web.Link{Label: "Webhooks", URL: hooksPath + "/"})
	}
	b, err := a.Credits.Balance(r.Context(), account.ID)
	if err != nil {
		// A page is worth showing without the figure in its header.
		a.cfg.Logger.ErrorContext(r.Context(), "balance for the header", slog.Any("error", err))
		return c
	}
	c.Balance = b.Available.String()
	return c
}
