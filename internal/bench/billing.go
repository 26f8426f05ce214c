package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/webhook"
)

const (
	buyers       = 16  // who buy at once
	shopAccounts = 500 // who take turns
)

// benchBilling measures purchases from the checkout to the credits against the double's own part of them, reconciliation
// against reading the same objects one by one, and the memory that customers take.
func benchBilling(ctx context.Context, o options, r *report) (err error) {
	given, how, stop, err := dbtest.Durable()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	r.linef("PostgreSQL", "%s; %d CPUs, shared by it, the double and the benchmark", how, runtime.NumCPU())
	b, closeShop, err := newShopBench(ctx, given)
	if err != nil {
		return err
	}
	err = errors.Join(b.checkouts(ctx, o, r), b.reconciling(ctx, o, r))
	if err = errors.Join(err, closeShop()); err != nil {
		return err
	}
	return errors.Join(memoryOfDouble(ctx, o, r), memoryOfShop(ctx, o, r, given))
}

// listening is a double on a server of its own, with a client that talks to it over HTTP.
type listening struct {
	*stripetest.Server

	api  *client.API
	stop func()
}

func newListening(ctx context.Context, store stripetest.Store) (*listening, error) {
	var handler atomic.Pointer[stripetest.Server]
	l := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.Load().ServeHTTP(w, r) }))
	s, err := stripetest.NewServer(stripetest.Config{BaseURL: l.URL, Store: store, Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		handler.Store(s)
		err = s.Start(ctx)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: buyers}
	return &listening{Server: s, api: stripetest.NewClient(l.URL, stripetest.DefaultSecretKey, &http.Client{Transport: transport}), stop: func() {
		s.Stop()
		transport.CloseIdleConnections()
		l.Close()
	}}, nil
}

// pack makes a product with a price of 10.00.
func (l *listening) pack() (string, error) {
	product, err := l.api.Products.New(&stripe.ProductParams{Name: stripe.String("Pack"), Metadata: map[string]string{"credits": "100"}})
	if err != nil {
		return "", err
	}
	price, err := l.api.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(1000)})
	if err != nil {
		return "", err
	}
	return price.ID, nil
}

func (l *listening) pay(ctx context.Context, session string) error {
	_, err := l.Pay(ctx, session, stripetest.Card{Number: stripetest.CardSucceeds})
	return err
}

// shopBench is an application that sells a pack: billing, ledger and inbox on one database, with a double that sends it
// the events that they handle.
type shopBench struct {
	*billing.Billing
	*listening

	ledger *credits.Ledger
	db     *database.DB
	price  string
	// bare is a double of its own, for the baselines, with as many customers.
	bare          *listening
	bareCustomers []string
	barePrice     string
	sold          atomic.Int64
}

func newShopBench(ctx context.Context, given string) (b *shopBench, stop func() error, err error) {
	b = &shopBench{}
	if b.bare, err = newListening(ctx, nil); err != nil {
		return nil, nil, err
	}
	stopShop, err := b.open(ctx, given, nil)
	stop = func() error {
		b.bare.stop()
		return stopShop()
	}
	if err != nil {
		b.bare.stop()
		return nil, nil, err
	}
	if b.barePrice, err = b.bare.pack(); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	for n := range shopAccounts {
		c, err := b.bare.api.Customers.New(&stripe.CustomerParams{Email: stripe.String(accountName(n) + "@example.com")})
		if err != nil {
			return nil, nil, errors.Join(err, stop())
		}
		b.bareCustomers = append(b.bareCustomers, c.ID)
	}
	return b, stop, nil
}

// open starts the application on a database of its own. A nil store keeps the double's objects in memory.
func (b *shopBench) open(ctx context.Context, given string, store stripetest.Store) (stop func() error, err error) {
	pool, drop, err := ownDatabase(ctx, given)
	if err != nil {
		return nil, err
	}
	closers := []func() error{drop}
	stop = func() (err error) {
		for i := range closers {
			err = errors.Join(err, closers[len(closers)-1-i]())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	if b.listening, err = newListening(ctx, store); err != nil {
		return nil, err
	}
	closers = append(closers, func() error { b.stop(); return nil })
	if b.db, err = database.New(pool, nil); err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	engine, err := jobs.New(jobs.Config{DB: b.db, Logger: quiet})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(engine.Migrate(ctx), database.Migrate(ctx, b.db, credits.Migrations(), webhook.Migrations(), billing.Migrations())); err != nil {
		return nil, err
	}
	var receiver atomic.Pointer[http.Handler]
	hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*receiver.Load()).ServeHTTP(w, r) }))
	closers = append(closers, func() error { hooks.Close(); return nil })
	endpoint, err := b.api.WebhookEndpoints.New(&stripe.WebhookEndpointParams{URL: &hooks.URL,
		EnabledEvents: stripe.StringSlice([]string{hookType, "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed", "checkout.session.expired"})})
	if err != nil {
		return nil, err
	}
	inbox, err := webhook.New(webhook.Config{DB: pool, Jobs: engine.Client(), Secrets: []string{endpoint.Secret}, Logger: quiet})
	if err != nil {
		return nil, err
	}
	handler := inbox.Handler()
	receiver.Store(&handler)
	if b.ledger, err = credits.New(credits.Config{DB: pool}); err != nil {
		return nil, err
	}
	b.Billing, err = billing.New(billing.Config{DB: pool, Stripe: b.api, Ledger: b.ledger, BaseURL: "https://shop.example", Logger: quiet,
		Customer: func(*http.Request) (billing.Customer, bool) { return billing.Customer{}, false }})
	if err != nil {
		return nil, err
	}
	if b.price, err = b.pack(); err != nil {
		return nil, err
	}
	b.Register(inbox)
	if err := errors.Join(inbox.AddWorkers(engine.Workers()), b.SyncCatalogue(ctx), engine.Start(ctx)); err != nil {
		return nil, err
	}
	closers = append(closers, func() error { return engine.Stop(context.WithoutCancel(ctx)) })
	return stop, nil
}

// buy opens a checkout and pays it as the person does; its credits come with the webhook.
func (b *shopBench) buy(ctx context.Context, account string) error {
	c, err := b.Checkout(ctx, billing.CheckoutParams{Customer: billing.Customer{Account: account, Email: account + "@example.com", Verified: true}, Price: b.price})
	if err != nil {
		return err
	}
	b.sold.Add(1)
	return b.pay(ctx, c.SessionID)
}

// granted waits until the credits of everything that was sold are there.
func (b *shopBench) granted(ctx context.Context) error {
	for {
		var n int64
		if err := b.db.Get(ctx, &n, `SELECT COUNT(*) FROM qs_billing_checkouts WHERE status = 'paid'`); err != nil || n == b.sold.Load() {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// many does work n times, by as many as buy at once, and returns how often in a second, finish included.
func many(ctx context.Context, n int, work func(ctx context.Context, i int) error, finish func(ctx context.Context) error) (float64, error) {
	began := time.Now()
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(buyers)
	for i := range n {
		group.Go(func() error { return work(inner, i) })
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	if err := finish(ctx); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// checkouts measures purchases from the first click to the credits beside what the double alone needs for a session and
// its payment.
func (b *shopBench) checkouts(ctx context.Context, o options, r *report) error {
	n := pick(o, 500, 3000)
	nothing := func(context.Context) error { return nil }
	// Every account has its customer before it counts.
	if _, err := many(ctx, shopAccounts, func(ctx context.Context, i int) error { return b.buy(ctx, accountName(i)) }, b.granted); err != nil {
		return fmt.Errorf("first purchases: %w", err)
	}
	rates, err := contest(ctx, pick(o, 2, 3),
		func(ctx context.Context) (float64, error) {
			return many(ctx, n, func(ctx context.Context, i int) error {
				s, err := b.bare.api.CheckoutSessions.New(&stripe.CheckoutSessionParams{Mode: stripe.String("payment"), SuccessURL: stripe.String("https://shop.example/ok"),
					Customer: &b.bareCustomers[i%shopAccounts], LineItems: []*stripe.CheckoutSessionLineItemParams{{Price: &b.barePrice, Quantity: stripe.Int64(1)}}})
				if err != nil {
					return err
				}
				return b.bare.pay(ctx, s.ID)
			}, nothing)
		},
		func(ctx context.Context) (float64, error) {
			return many(ctx, n, func(ctx context.Context, i int) error { return b.buy(ctx, accountName(i%shopAccounts)) }, b.granted)
		})
	if err != nil {
		return fmt.Errorf("checkouts: %w", err)
	}
	var balances int64
	if err := b.db.Get(ctx, &balances, `SELECT SUM(available) FROM qs_credit_accounts`); err != nil {
		return err
	}
	if want := b.sold.Load() * 100 * int64(credits.Credit); balances != want {
		return fmt.Errorf("checkouts: %d millionths of credits were granted in place of %d", balances, want)
	}
	r.linef(fmt.Sprintf("checkouts, %d buyers", buyers), "%.0f/s from the click to the credits; the double's session and payment alone %.0f/s", rates[1], rates[0])
	r.ratio("billing.checkout", rates[1]/rates[0], "none: to watch")
	return nil
}

// reconciling measures a walk through all objects with nothing to repair, and with everything, beside reading the same
// objects from the double one by one, as it does.
func (b *shopBench) reconciling(ctx context.Context, o options, r *report) error {
	walk := func() (billing.Reconciliation, time.Duration, error) {
		began := time.Now()
		report, err := b.Reconcile(ctx)
		if err == nil && len(report.Failed) > 0 {
			err = fmt.Errorf("%d objects failed, the first with: %w", len(report.Failed), report.Failed[0].Err)
		}
		return report, time.Since(began), err
	}
	idle, took, err := walk()
	if err != nil {
		return fmt.Errorf("reconcile: %w", err)
	}
	if len(idle.Repaired) != 0 || idle.Checked == 0 {
		return fmt.Errorf("reconcile: %d of %d objects were repaired after all webhooks had come", len(idle.Repaired), idle.Checked)
	}
	began, read := time.Now(), 0
	sessions := b.api.CheckoutSessions.List(&stripe.CheckoutSessionListParams{ListParams: stripe.ListParams{Limit: stripe.Int64(100)}})
	for sessions.Next() {
		if _, err := b.api.CheckoutSessions.Get(sessions.CheckoutSession().ID, nil); err != nil {
			return err
		}
		read++
	}
	if err := sessions.Err(); err != nil {
		return err
	}
	reading := time.Since(began)

	if _, err := b.Inject(ctx, stripetest.Fault{Kind: stripetest.FaultLose}); err != nil {
		return err
	}
	missed := pick(o, 300, 2000)
	if _, err := many(ctx, missed, func(ctx context.Context, i int) error { return b.buy(ctx, accountName(i%shopAccounts)) }, func(context.Context) error { return nil }); err != nil {
		return err
	}
	// The overlap of two runs brings what was there before as well: it is part of the objects, not of the repairs.
	repaired, mending, err := walk()
	if err != nil {
		return fmt.Errorf("reconcile: %w", err)
	}
	if len(repaired.Repaired) != missed {
		return fmt.Errorf("reconcile: %d of %d missed objects were repaired", len(repaired.Repaired), missed)
	}
	per := func(d time.Duration, n int) time.Duration {
		return (d * 1000 / time.Duration(n)).Round(time.Millisecond)
	}
	r.linef("reconcile, nothing to repair", "%s per 1,000 objects (%d of them); reading each alone %s", per(took, idle.Checked), idle.Checked, per(reading, read))
	r.linef("reconcile, "+strconv.Itoa(missed)+" of "+strconv.Itoa(repaired.Checked)+" to repair", "%s per 1,000 objects", per(mending, repaired.Checked))
	r.ratio("billing.reconcile", float64(reading)/float64(read)/(float64(took)/float64(idle.Checked)), "none: to watch")
	return b.granted(ctx)
}

// heap is what is allocated and reachable.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers freed
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // below 2^63
}

// memoryOfDouble measures what the double in memory keeps of customers, and of purchases.
func memoryOfDouble(ctx context.Context, o options, r *report) error {
	customers, purchases := pick(o, 10_000, 100_000), pick(o, 500, 5000)
	s, err := stripetest.NewServer(stripetest.Config{BaseURL: "http://127.0.0.1:1", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	l := &listening{Server: s, api: s.Client()}
	price, err := l.pack()
	if err != nil {
		return err
	}
	empty := heap()
	last := ""
	for n := range customers {
		c, err := l.api.Customers.New(&stripe.CustomerParams{Email: stripe.String(accountName(n) + "@example.com"), Metadata: map[string]string{"account": accountName(n)}})
		if err != nil {
			return err
		}
		last = c.ID
	}
	full := heap()
	for range purchases {
		session, err := l.api.CheckoutSessions.New(&stripe.CheckoutSessionParams{Mode: stripe.String("payment"), SuccessURL: stripe.String("https://shop.example/ok"),
			Customer: &last, LineItems: []*stripe.CheckoutSessionLineItemParams{{Price: &price, Quantity: stripe.Int64(1)}}})
		if err != nil {
			return err
		}
		if err := l.pay(ctx, session.ID); err != nil {
			return err
		}
	}
	bought := heap()
	r.linef("memory of the double", "%d customers %d MB: %d bytes each, its answer for its idempotency key and its event included; %d bytes for each purchase",
		customers, (full-empty)>>20, (full-empty)/int64(customers), (bought-full)/int64(purchases))
	runtime.KeepAlive(s)
	return nil
}

// memoryOfShop measures what the application keeps in memory of customers who bought. The double's objects are in a file.
func memoryOfShop(ctx context.Context, o options, r *report, given string) (err error) {
	known, n := pick(o, 10_000, 100_000), pick(o, 300, 2000)
	dir, err := os.MkdirTemp("", "quickscale-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file, err := database.Open(ctx, "sqlite:"+dir+"/double.db")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	store, err := stripetest.NewSQLStore(file.Writer())
	if err != nil {
		return err
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	b := &shopBench{}
	stop, err := b.open(ctx, given, store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	// What is allocated once, such as connections and statements, is not a customer's.
	if _, err := many(ctx, 100, func(ctx context.Context, i int) error { return b.buy(ctx, "first-"+accountName(i)) }, b.granted); err != nil {
		return err
	}
	before := heap()
	const insert = `INSERT INTO qs_billing_customers (account_id, intent_id, customer_id, email, created_at)
		SELECT 'account-' || lpad(n::text, 6, '0'), gen_random_uuid(), NULL, 'account-' || lpad(n::text, 6, '0') || '@example.com', now() FROM generate_series(0, $1) AS n`
	if _, err := b.db.Writer().ExecContext(ctx, insert, known-1); err != nil {
		return err
	}
	if _, err := many(ctx, n, func(ctx context.Context, i int) error { return b.buy(ctx, accountName(i*(known/n))) }, b.granted); err != nil {
		return err
	}
	r.linef("memory of the application", "%d bytes more for each of %d customers who bought, of %d", max(0, heap()-before)/int64(n), n, known)
	return nil
}
