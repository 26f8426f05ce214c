// Command compose takes two packages, credits and services, into an application that has its own router (chi), its own
// table of members and its own way of signing in. Nothing else of QuickScale runs: no Stripe, no mail, no job engine.
//
//	go run ./examples/compose
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/examples/services/textanalysis"
	"github.com/quickscale/quickscale/services"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Getenv, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until ctx ends. COMPOSE_ADDR and COMPOSE_FILE change where it listens and the database's file.
func run(ctx context.Context, getenv func(string) string, out io.Writer) (err error) {
	addr, file := getenv("COMPOSE_ADDR"), getenv("COMPOSE_FILE")
	if addr == "" {
		addr = "127.0.0.1:8081"
	}
	if file == "" {
		file = "compose.db"
	}
	// The application's own pool. SQLite gets one connection, so that writers queue; see credits.Config.
	db, err := sqlx.ConnectContext(ctx, "sqlite", "file:"+file+"?_txlock=immediate&_pragma=foreign_keys(1)&_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)")
	if err != nil {
		return fmt.Errorf("open %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)

	members, err := newMembers(ctx, db)
	if err != nil {
		return err
	}
	ledger, err := credits.New(credits.Config{DB: db})
	if err != nil {
		return err
	}
	shop, err := services.New(services.Config{DB: db, Ledger: ledger, User: members.signedIn, API: members.caller, LoginURL: "/enter"})
	if err != nil {
		return err
	}
	if err := services.Register(shop, textanalysis.Service{}); err != nil {
		return err
	}
	if err := errors.Join(ledger.Migrate(ctx), shop.Migrate(ctx)); err != nil {
		return err
	}
	token, err := members.add(ctx, ledger, "Robin")
	if err != nil {
		return err
	}

	router := chi.NewRouter()
	router.Use(http.NewCrossOriginProtection().Handler) // nobody is signed in by a form of another site
	router.Get("/", http.RedirectHandler("/services/", http.StatusSeeOther).ServeHTTP)
	router.Get("/enter", members.form)
	router.Post("/enter", members.enter)
	router.Mount("/services", shop.Handler())
	router.Mount("/api/v1", shop.APIHandler())

	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; another address goes into COMPOSE_ADDR", addr, err)
	}
	fmt.Fprintf(out, "\nRobin, a new member with 20 credits, enters at http://%s/enter with the token\n  %s\nor calls\n  curl -H 'Authorization: Bearer %s' -d '{\"text\":\"one two three\",\"operation\":\"count_words\"}' http://%s/api/v1/services/text-analysis\n\n",
		listener.Addr(), token, token, listener.Addr())
	return serve(ctx, listener, router)
}

const (
	readHeaderTimeout = 10 * time.Second
	shutdownTimeout   = 30 * time.Second
)

func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: readHeaderTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	return server.Shutdown(end)
}
