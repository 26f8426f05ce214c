package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/internal/database"
)

// Limits of the double's server.
const (
	doubleHeaderTimeout = 10 * time.Second
	doubleStopTimeout   = 10 * time.Second
)

// double are the flags of the command.
type double struct{ addr, baseURL, webhookURL, data string }

func stripeDouble() *cobra.Command {
	var d double
	cmd := &cobra.Command{
		Use: "double", Args: args(cobra.NoArgs), Short: "Serve a double of Stripe for offline development, until it is interrupted",
		Long: "Serve a double of Stripe for offline development, until it is interrupted: its API, its hosted pages, and a page to see\n" +
			"and change what it holds. No money moves and no card is real.",
	}
	f := cmd.Flags()
	f.StringVar(&d.addr, "addr", "127.0.0.1:12111", "where to listen; port 0 takes a free one")
	f.StringVar(&d.baseURL, "base-url", "", "how browsers and clients reach it; http:// and the address, unless given")
	f.StringVar(&d.webhookURL, "webhook-url", "", "what gets all events, such as http://127.0.0.1:8080/webhooks/stripe; nobody does, unless given")
	f.StringVar(&d.data, "data", "", "the SQLite file that keeps what it holds; memory, unless given")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return d.run(cmd) }
	return cmd
}

func (d double) run(cmd *cobra.Command) (err error) {
	ctx := cmd.Context()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; another address goes into --addr", d.addr, err)
	}
	defer func() {
		if closed := listener.Close(); !errors.Is(closed, net.ErrClosed) { // the server closes it, too
			err = errors.Join(err, closed)
		}
	}()
	if d.baseURL == "" {
		d.baseURL = "http://" + reachable(listener.Addr())
	}
	cfg := stripetest.Config{BaseURL: d.baseURL, WebhookURL: d.webhookURL, Logger: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))}
	if d.data != "" {
		store, closeStore, err := openStore(ctx, d.data)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeStore()) }()
		cfg.Store = store
	}
	server, err := stripetest.NewServer(cfg)
	if err != nil {
		return usageError{err}
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	defer server.Stop()
	d.banner(cmd)
	return serveDouble(ctx, listener, server)
}

// reachable is an address that a browser on this machine can go to.
func reachable(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return addr.String()
}

func openStore(ctx context.Context, file string) (*stripetest.SQLStore, func() error, error) {
	db, err := database.Open(ctx, "sqlite:"+file)
	if err != nil {
		return nil, nil, err
	}
	store, err := stripetest.NewSQLStore(db.Writer())
	if err == nil {
		err = store.Migrate(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return store, db.Close, nil
}

// banner says what an application is given to use it.
func (d double) banner(cmd *cobra.Command) {
	cmd.Printf("The Stripe double runs at %s/: no money moves; pay with 4242 4242 4242 4242\n\n", d.baseURL)
	cmd.Printf("  STRIPE_SECRET_KEY=%s\n  STRIPE_WEBHOOK_SECRET=%s\n  STRIPE_API_BASE=%s\n\n", stripetest.DefaultSecretKey, stripetest.DefaultWebhookSecret, d.baseURL)
	switch {
	case d.webhookURL != "":
		cmd.Printf("Events go to %s\n", d.webhookURL)
	default:
		cmd.Println("Events go nowhere; --webhook-url says where to, or an endpoint that is made through the API")
	}
	if d.data != "" {
		cmd.Printf("What it holds is kept in %s\n", d.data)
	} else {
		cmd.Println("What it holds is gone when it stops; --data keeps it in a file")
	}
}

// serveDouble answers until ctx ends, and finishes the requests that run.
func serveDouble(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: doubleHeaderTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve the double: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), doubleStopTimeout)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		return fmt.Errorf("stop the double: %w", err)
	}
	return nil
}
