package billing_test

import (
	"context"
	"fmt"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

// Products are made in Stripe from a file: first the plan, then its steps. A second plan has none.
func ExamplePlanSeed() {
	const file = `
products:
  - key: pro
    name: Pro
    credits: 1500
    prices:
      - price: 90.00 USD
        every: month
`
	double, err := stripetest.NewServer(stripetest.Config{BaseURL: "http://127.0.0.1:12111"})
	if err != nil {
		fmt.Println(err)
		return
	}
	products, err := billing.ParseSeed([]byte(file))
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 2 {
		plan, err := billing.PlanSeed(context.Background(), double.Client(), products)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(len(plan.Steps), "steps")
		err = plan.Apply(context.Background(), func(s billing.SeedStep) { fmt.Println(s.Verb, s.Key+":", s.Detail) })
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	// Output:
	// 2 steps
	// create pro: Pro, 1500 credits
	// create pro/month-usd: 90.00 USD every month
	// 0 steps
}
