package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
)

func newBilling() *cobra.Command {
	cmd := group("billing", "Payments and subscriptions: reconcile them with Stripe")
	addJSON(cmd)
	cmd.AddCommand(billingReconcile())
	return cmd
}

var (
	errNotReconciled = errors.New("some objects could not be reconciled")
	errDiffers       = errors.New("what is held differs from Stripe")
)

// reconciled is what reconcile prints as JSON.
type reconciled struct {
	billing.Reconciliation
	Failed []failure `json:"failed"`
}

type failure struct {
	Kind  string `json:"kind"`
	ID    string `json:"id"`
	Error string `json:"error"`
}

func billingReconcile() *cobra.Command {
	var p billing.ReconcileParams
	var since, policy, url string
	cmd := &cobra.Command{
		Use: "reconcile", Args: args(cobra.NoArgs), Short: "Find what was missed or is held differently from Stripe, and repair it",
		Long: "Find what was missed or is held differently from Stripe, and repair it by the code that webhooks run, so that nothing\n" +
			"happens twice. It looks at what has changed since the last run, and at everything on the first one. " + envStripeKey + "\n" +
			"is needed. Nobody gets a mail about what this command repairs. It fails with 1 when an object could not be\n" +
			"reconciled, and with --dry-run when something differs.",
	}
	addStripeURL(cmd, &url)
	f := cmd.Flags()
	f.StringVar(&since, "since", "", "look at changes since: 2026-01-31T12:00:00Z, or 24h for a day ago")
	f.BoolVar(&p.All, "all", false, "look at everything that Stripe has")
	f.BoolVar(&p.DryRun, "dry-run", false, "report what differs and repair nothing")
	f.StringVar(&policy, "policy", string(billing.TransferRemaining),
		"what becomes of credits at a change of plan, as the application has it: transfer_remaining, keep_until_period_end, expire, prorate")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if p.Since, err = parseTime("since", since); err != nil {
			return err
		}
		if p.All && since != "" {
			return usageError{errors.New("--all and --since exclude each other")}
		}
		return withBilling(cmd, url, billing.CreditPolicy(policy), func(ctx context.Context, b *billing.Billing, out output) error {
			r, err := b.ReconcileWith(ctx, p)
			if err != nil {
				return plainly(err)
			}
			return printReconciled(r, out)
		})
	}
	return cmd
}

// withBilling opens the payments for a command. It serves no pages, so that nobody is signed in.
func withBilling(cmd *cobra.Command, url string, policy billing.CreditPolicy, fn func(ctx context.Context, b *billing.Billing, out output) error) error {
	api, err := stripeClient(url)
	if err != nil {
		return err
	}
	return withDatabase(cmd, func(ctx context.Context, db *database.DB, out output) error {
		ledger, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
		if err != nil {
			return err
		}
		b, err := billing.New(billing.Config{
			DB: db.Writer(), ReadDB: db.Reader(), Stripe: api, Ledger: ledger, Policy: policy, BaseURL: "http://localhost",
			Customer: func(*http.Request) (billing.Customer, bool) { return billing.Customer{}, false },
			Logger:   slog.New(slog.DiscardHandler), // all that it finds is printed
		})
		if err != nil {
			return usageError{err}
		}
		return fn(ctx, b, out)
	})
}

func printReconciled(r billing.Reconciliation, out output) error {
	result := reconciled{Reconciliation: r, Failed: make([]failure, len(r.Failed))}
	for i, f := range r.Failed {
		result.Failed[i] = failure{f.Kind, f.ID, f.Err.Error()}
	}
	err := out.print(result, func(t table) {
		from, done := "the beginning", "repaired"
		if !r.Since.IsZero() {
			from = r.Since.Format(time.RFC3339)
		}
		if r.DryRun {
			done = "differ; nothing was done, this is a dry run"
		}
		for _, x := range r.Repaired {
			t.linef("%s\t%s\t%s\t→ %s", x.Kind, x.ID, orNothing(x.Before), orNothing(x.After))
		}
		for _, f := range result.Failed {
			t.linef("%s\t%s\tfailed: %s", f.Kind, f.ID, f.Error)
		}
		t.linef("%d objects since %s: %d failed, %d %s", r.Checked, from, len(r.Failed), len(r.Repaired), done)
	})
	switch {
	case err != nil:
		return err
	case len(r.Failed) > 0:
		return errNotReconciled
	case r.DryRun && len(r.Repaired) > 0:
		return errDiffers
	}
	return nil
}

func orNothing(held string) string {
	if held == "" {
		return "nothing"
	}
	return held
}
