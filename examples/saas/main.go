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
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/examples/services/datavalidation"
	"github.com/quickscale/quickscale/examples/services/imageprocessing"
	"github.com/quickscale/quickscale/examples/services/sentiment"
	"github.com/quickscale/quickscale/examples/services/textanalysis"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	getenv, err := quickscale.Settings(os.Args[1:], os.Getenv)
	if err == nil {
		err = run(ctx, getenv, os.Stdout)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

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
	metrics, err := telemetry.New()
	if err != nil {
		return err
	}
	env.Config.Metrics = metrics.Provider()
	env.Config.Public = words()
	env.Config.ApproveCreditsAbove = 1000 * credits.Credit
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
	listener, err := quickscale.Listen(ctx, env.Addr)
	if err != nil {
		return err
	}
	if err := app.Start(ctx); err != nil {
		return errors.Join(err, listener.Close())
	}
	banner(out, app, env)
	mux := http.NewServeMux()
	mux.Handle("/", routes(app))
	mux.Handle("GET /metrics", metrics.Handler(env.MetricsToken))
	return app.Serve(ctx, listener, mux)
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
