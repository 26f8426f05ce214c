// Command webhook-only is an application of its own that takes of this library only the package webhook: Stripe says that
// a checkout was paid, and the application notes an order, once.
//
//	go run ./examples/webhook-only
//
// It keeps everything in webhook-only.db beside its own table, and listens at 127.0.0.1:8080 (ADDR). STRIPE_WEBHOOK_SECRET is
// the endpoint's signing secret, such as what "stripe listen --forward-to 127.0.0.1:8080/webhooks/stripe" prints.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stripe/stripe-go/v76"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/quickscale/quickscale/webhook"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		slog.Error("webhook-only", slog.Any("error", err))
		os.Exit(1)
	}
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func run(ctx context.Context) (err error) {
	// SQLite has one writer at a time; with one connection they queue here instead of failing.
	db, err := sqlx.Open("sqlite", "file:"+env("DATABASE_FILE", "webhook-only.db")+
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_txlock=immediate")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)

	workers := river.NewWorkers()
	driver := riversqlite.New(db.DB)
	jobs, err := river.NewClient(driver, &river.Config{
		Workers: workers, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2}}, FetchPollInterval: 200 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	inbox, err := webhook.New(webhook.Config{DB: db, Jobs: jobs, Secrets: []string{env("STRIPE_WEBHOOK_SECRET", "whsec_example")}})
	if err != nil {
		return err
	}
	webhook.On(inbox, string(stripe.EventTypeCheckoutSessionCompleted), noteOrder)
	if err := inbox.AddWorkers(workers); err != nil {
		return err
	}
	if err := migrate(ctx, db, driver, inbox); err != nil {
		return err
	}
	if err := jobs.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	err = serve(ctx, db, inbox)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, jobs.Stop(stopping))
}

// migrate makes the inbox's tables, River's, and the application's own.
func migrate(ctx context.Context, db *sqlx.DB, driver *riversqlite.Driver, inbox *webhook.Processor) error {
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	if err := inbox.Migrate(ctx); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS orders (session TEXT PRIMARY KEY, amount INTEGER NOT NULL, currency TEXT NOT NULL)`)
	return err
}

// noteOrder writes the application's own row in the transaction that marks the event done.
func noteOrder(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
	s := ev.Object
	if s.PaymentStatus != stripe.CheckoutSessionPaymentStatusPaid {
		return nil // a delayed method: checkout.session.async_payment_succeeded will tell
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO orders (session, amount, currency) VALUES (?, ?, ?) ON CONFLICT (session) DO NOTHING`,
		s.ID, s.AmountTotal, string(s.Currency))
	return err
}

// order is what the application shows of a row.
type order struct {
	Session  string `db:"session"  json:"session"`
	Amount   int64  `db:"amount"   json:"amount"`
	Currency string `db:"currency" json:"currency"`
}

func serve(ctx context.Context, db *sqlx.DB, inbox *webhook.Processor) error {
	mux := http.NewServeMux()
	mux.Handle("/webhooks/stripe", inbox.Handler())
	mux.HandleFunc("GET /orders", func(w http.ResponseWriter, r *http.Request) {
		orders := []order{}
		if err := db.SelectContext(r.Context(), &orders, `SELECT session, amount, currency FROM orders ORDER BY session`); err != nil && !errors.Is(err, sql.ErrNoRows) {
			http.Error(w, "the orders could not be read", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(orders); err != nil {
			slog.Warn("orders", slog.Any("error", err))
		}
	})
	listener, err := net.Listen("tcp", env("ADDR", "127.0.0.1:8080"))
	if err != nil {
		return err
	}
	fmt.Printf("listening at http://%s/webhooks/stripe; paid orders are at http://%s/orders\n", listener.Addr(), listener.Addr())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return server.Shutdown(stopping)
}
