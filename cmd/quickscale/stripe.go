package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"github.com/quickscale/quickscale/billing"
)

const envStripeKey = "STRIPE_SECRET_KEY"

func newStripe() *cobra.Command {
	cmd := group("stripe", "Stripe: make products from a file, read them, reconcile what is held, run a double of it")
	reconcile := billingReconcile()
	addJSON(reconcile)
	cmd.AddCommand(stripeSeed(), stripeSync(), reconcile, stripeDouble())
	return cmd
}

// isLive tells that a key moves money.
func isLive(key string) bool {
	return strings.HasPrefix(key, "sk_live_") || strings.HasPrefix(key, "rk_live_")
}

// stripeClient is a client with the environment's key for Stripe, or for a double.
func stripeClient(url string) (*client.API, error) {
	key := os.Getenv(envStripeKey)
	if key == "" {
		return nil, usageError{errors.New(envStripeKey + " is not set; it is needed to ask Stripe")}
	}
	return stripeWith(key, url), nil
}

// stripeWith is a client with a key for Stripe, or for a double.
func stripeWith(key, url string) *client.API {
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{URL: &url, LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull}})
	return client.New(key, &stripe.Backends{API: backend, Connect: backend, Uploads: backend})
}

// plainly keeps what Stripe or the network said: the sentence for those who buy says too little to who runs a command.
func plainly(err error) error {
	if errors.Is(err, billing.ErrStripe) {
		return errors.New(err.Error())
	}
	return err
}

// addStripeURL gives a command the flag for [stripeClient].
func addStripeURL(cmd *cobra.Command, url *string) {
	cmd.Flags().StringVar(url, "stripe-url", stripe.APIURL, "where Stripe's API is, such as that of a double")
}

func stripeSeed() *cobra.Command {
	var dryRun, live bool
	var url string
	cmd := &cobra.Command{
		Use: "seed FILE.yaml", Args: args(cobra.ExactArgs(1)), Short: "Make products and prices in Stripe, or bring them to what a file says",
		Long: "Make products and prices in Stripe, or bring them to what a file says. docs/stripe.md has the fields.\n\n" +
			"A second run finds nothing to do, and one after an interruption does the rest. Nothing is deleted: a price that changes\n" +
			"becomes a new one, and the old one is archived. " + envStripeKey + " is needed; a key that is not a test's needs --live.",
	}
	addJSON(cmd)
	addStripeURL(cmd, &url)
	f := cmd.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "print what would be done and do nothing")
	f.BoolVar(&live, "live", false, "the key is a live one, and people can buy what is changed")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		out, err := newOutput(cmd)
		if err != nil {
			return err
		}
		api, err := stripeClient(url)
		if err != nil {
			return err
		}
		key := os.Getenv(envStripeKey)
		switch test := strings.HasPrefix(key, "sk_test_") || strings.HasPrefix(key, "rk_test_"); {
		case !test && !live:
			return usageError{errors.New(envStripeKey + " is no test key, and people can buy what this changes; if that is meant, give --live")}
		case test && live:
			return usageError{errors.New(envStripeKey + " is a test key; --live goes with a live one")}
		}
		products, err := readSeed(files[0])
		if err != nil {
			return err
		}
		plan, err := billing.PlanSeed(cmd.Context(), api, products)
		if err != nil {
			return plainly(err)
		}
		return plainly(seedStripe(cmd.Context(), plan, dryRun, out))
	}
	return cmd
}

func stripeSync() *cobra.Command {
	var url string
	cmd := &cobra.Command{
		Use: "sync", Args: args(cobra.NoArgs), Short: "Read all products and prices from Stripe, and list what is for sale",
		Long: "Read all products and prices from Stripe, as the application does each hour and at every event about one, and list\n" +
			"what is for sale then. " + envStripeKey + " is needed.",
	}
	addJSON(cmd)
	addStripeURL(cmd, &url)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withBilling(cmd, url, billing.TransferRemaining, func(ctx context.Context, b *billing.Billing, out output) error {
			if err := b.SyncCatalogue(ctx); err != nil {
				return plainly(err)
			}
			products, err := b.Products(ctx)
			if err != nil {
				return err
			}
			return out.print(map[string]any{"products": products}, func(t table) {
				t.linef("PRODUCT\tNAME\tPRICE\tAMOUNT\tCREDITS")
				for _, p := range products {
					for _, price := range p.Prices {
						t.linef("%s\t%s\t%s\t%s\t%s", p.ID, p.Name, price.PriceID, price.Price, price.Credits)
					}
				}
				t.linef("%d products", len(products))
			})
		})
	}
	return cmd
}

func readSeed(file string) ([]billing.SeedProduct, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError{err}
	}
	products, err := billing.ParseSeed(data)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s:\n%w", file, err)}
	}
	return products, nil
}

// seeded is what seed prints as JSON.
type seeded struct {
	Steps  []billing.SeedStep `json:"steps"`
	Done   int                `json:"done"`
	DryRun bool               `json:"dry_run"`
}

// seedStripe prints the plan, then does it and tells each step when it is done.
func seedStripe(ctx context.Context, plan *billing.SeedPlan, dryRun bool, out output) error {
	result := seeded{Steps: plan.Steps, DryRun: dryRun}
	text := func(fn func(t table)) error {
		if out.json {
			return nil
		}
		return out.print(nil, fn)
	}
	err := text(func(t table) {
		for _, step := range plan.Steps {
			t.linef("%s\t%s\t%s\t%s", step.Verb, step.Key, step.ID, step.Detail)
		}
		switch {
		case len(plan.Steps) == 0:
			t.linef("nothing to do: Stripe has it all")
		case dryRun:
			t.linef("%d steps, not done: this is a dry run", len(plan.Steps))
		}
	})
	if err != nil {
		return err
	}
	if !dryRun {
		err = plan.Apply(ctx, func(step billing.SeedStep) {
			result.Steps[result.Done] = step
			result.Done++
			// What cannot be written now is told by the last line.
			_ = text(func(t table) {
				t.linef("done %d/%d\t%s %s\t%s", result.Done, len(plan.Steps), step.Verb, step.Key, step.ID)
			})
		})
		if err != nil {
			err = fmt.Errorf("%d of %d steps are done; run it again for the rest: %w", result.Done, len(plan.Steps), err)
		}
	}
	if out.json {
		return errors.Join(out.print(result, nil), err)
	}
	return err
}
