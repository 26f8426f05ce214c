// Command saas is a small product made with QuickScale: people sign up, buy credits and spend them on a service.
//
//	go run ./examples/saas
//
// Without any configuration it runs in development: on SQLite in quickscale.db, with a Stripe double and a mail outbox,
// and with two accounts that it prints. The variables that change that are those of quickscale.FromEnvironment.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/examples/services/datavalidation"
	"github.com/quickscale/quickscale/examples/services/imageprocessing"
	"github.com/quickscale/quickscale/examples/services/sentiment"
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

// How long the server waits for a client, and the whole process for what is under way when it is told to stop.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 90 * time.Second
	idleTimeout       = 2 * time.Minute
	shutdownTimeout   = 30 * time.Second
)

// run serves until ctx ends, then finishes its requests and jobs.
func run(ctx context.Context, getenv func(string) string, out io.Writer) (err error) {
	env, err := quickscale.FromEnvironment(getenv)
	if err != nil {
		return err
	}
	pools, err := quickscale.Open(ctx, env.DatabaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pools.Close()) }()

	env.Config.DB, env.Config.ReadDB = pools.DB, pools.ReadDB
	env.Config.Name = "Acme Text"
	env.Config.Public = words()
	app, err := quickscale.New(env.Config)
	if err != nil {
		return err
	}
	err = errors.Join(
		services.Register(app.Services, textanalysis.Service{}),
		services.Register(app.Services, imageprocessing.Service{}),
		services.Register(app.Services, datavalidation.Service{}),
		services.Register(app.Services, sentiment.New(), services.ChargeAfter()),
	)
	if err != nil {
		return err
	}
	if err := app.Migrate(ctx); err != nil {
		return err
	}
	if err := seed(ctx, app, env); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", env.Addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; another address goes into QUICKSCALE_ADDR", env.Addr, err)
	}
	if err := app.Start(ctx); err != nil {
		return errors.Join(err, listener.Close())
	}
	banner(out, app, env)
	return serve(ctx, app, listener, routes(app))
}

// serve answers until ctx ends. Requests finish first, then jobs.
func serve(ctx context.Context, app *quickscale.App, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	var err error
	select {
	case <-ctx.Done():
		slog.Info("stopping: requests and jobs finish first")
	case err = <-failed:
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	return errors.Join(err, server.Shutdown(end), app.Stop(end))
}

// banner tells where everything is, and what is not real.
func banner(out io.Writer, app *quickscale.App, env quickscale.Environment) {
	base := env.Config.BaseURL
	fmt.Fprintf(out, "\n%s runs at %s/ (%s, %s)\n", env.Config.Name, base, env.Config.Mode, describe(env.DatabaseURL))
	if env.Config.Mode == quickscale.Development {
		fmt.Fprintf(out, "  accounts   %s and %s, password %s\n", userEmail, adminEmail, seedPassword)
	}
	for _, what := range app.Simulated() {
		switch what {
		case "mail":
			fmt.Fprintf(out, "  mail       simulated: nothing is sent, read it at %s/dev/mail\n", base)
		case "stripe":
			fmt.Fprintf(out, "  payments   simulated: no money moves, see %s/dev/stripe/; pay with 4242 4242 4242 4242\n", base)
		}
	}
	fmt.Fprintln(out)
}
