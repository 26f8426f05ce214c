package billing_test

import (
	"context"
	"errors"
	"fmt"

	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/billing/stripetest"
)

const seedYAML = `
products:
  - key: starter
    name: Starter
    description: A first taste.
    credits: 100
    order: 2
    prices:
      - price: 10.00 USD
      - price: 1200 JPY
  - key: pro
    name: Pro
    credits: 1500
    features: [api, export]
    trial_days: 14
    trial_credits: 12.5
    order: 1
    prices:
      - {price: 90 USD, every: month}
      - {price: 900 USD, every: year, credits: 18000}
`

// seeding is a double that seeds are applied to.
type seeding struct {
	t      *testing.T
	double *stripetest.Test
	api    *client.API
	// cut, when set, decides about each POST whether its connection is cut, and whether after the effect.
	cut   atomic.Pointer[func() (cut, after bool)]
	posts atomic.Int64
}

func newSeeding(t *testing.T) *seeding {
	t.Helper()
	s := &seeding{t: t, double: stripetest.New(t)}
	s.api = stripetest.NewClient(s.double.URL, stripetest.DefaultSecretKey, &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodPost {
			return recorder.RoundTrip(r)
		}
		s.posts.Add(1)
		cut, after := false, false
		if f := s.cut.Load(); f != nil {
			cut, after = (*f)()
		}
		if cut && !after {
			return nil, errors.New("connection cut before the effect")
		}
		res, err := recorder.RoundTrip(r)
		if err == nil && cut {
			return nil, errors.Join(res.Body.Close(), errors.New("connection cut after the effect"))
		}
		return res, err
	})})
	return s
}

func (s *seeding) parse(text string) []billing.SeedProduct {
	s.t.Helper()
	products, err := billing.ParseSeed([]byte(text))
	require.NoError(s.t, err)
	return products
}

// steps are a plan in words.
func (s *seeding) steps(text string) []string {
	s.t.Helper()
	plan, err := billing.PlanSeed(s.t.Context(), s.api, s.parse(text))
	require.NoError(s.t, err)
	words := make([]string, len(plan.Steps))
	for i, step := range plan.Steps {
		words[i] = fmt.Sprintf("%s %s: %s", step.Verb, step.Key, step.Detail)
	}
	return words
}

func (s *seeding) apply(text string) error {
	plan, err := billing.PlanSeed(s.t.Context(), s.api, s.parse(text))
	if err != nil {
		return err
	}
	return plan.Apply(s.t.Context(), nil)
}

// catalogue is what Stripe has, without ids: each product with its prices, those that are archived in brackets.
func (s *seeding) catalogue() (all []string) {
	s.t.Helper()
	products := s.double.Stripe.Products.List(nil)
	for products.Next() {
		p := products.Product()
		var prices []string
		list := s.double.Stripe.Prices.List(&stripe.PriceListParams{Product: &p.ID})
		for list.Next() {
			price := list.Price()
			text := fmt.Sprintf("%s %d %s %s", price.Metadata["seed_key"], price.UnitAmount, price.Currency, price.Metadata["credits"])
			if price.Recurring != nil {
				text += fmt.Sprintf(" per %d %s", price.Recurring.IntervalCount, price.Recurring.Interval)
			}
			if !price.Active {
				text = "[" + text + "]"
			}
			prices = append(prices, text)
		}
		require.NoError(s.t, list.Err())
		slices.Sort(prices)
		all = append(all, fmt.Sprintf("%s %q %v %v: %s", p.Name, p.Description, p.Active, p.Metadata, strings.Join(prices, ", ")))
	}
	require.NoError(s.t, products.Err())
	slices.Sort(all)
	return all
}

func TestSeed_MakesWhatTheFileSaysOnce(t *testing.T) {
	t.Parallel()
	s := newSeeding(t)
	want := []string{
		"create starter: Starter, 100 credits", "create starter/once-usd: 10.00 USD", "create starter/once-jpy: 1200 JPY",
		"create pro: Pro, 1500 credits, features api, export", "create pro/month-usd: 90.00 USD every month",
		"create pro/year-usd: 900.00 USD every year, 18000 credits",
	}
	assert.Equal(t, want, s.steps(seedYAML))
	assert.Empty(t, s.catalogue(), "a plan changes nothing")

	plan, err := billing.PlanSeed(t.Context(), s.api, s.parse(seedYAML))
	require.NoError(t, err)
	var told []billing.SeedStep
	require.NoError(t, plan.Apply(t.Context(), func(step billing.SeedStep) { told = append(told, step) }))
	require.Len(t, told, len(want))
	assert.Regexp(t, "^prod_", told[0].ID)
	assert.Regexp(t, "^price_", told[1].ID)
	made := []string{
		`Pro "" true map[credits:1500 features:api,export order:1 seed_key:pro trial_credits:12.5 trial_days:14]: ` +
			"pro/month-usd 9000 usd  per 1 month, pro/year-usd 90000 usd 18000 per 1 year",
		`Starter "A first taste." true map[credits:100 order:2 seed_key:starter]: starter/once-jpy 1200 jpy , starter/once-usd 1000 usd `,
	}
	assert.Equal(t, made, s.catalogue())

	posts := s.posts.Load()
	require.NoError(t, s.apply(seedYAML))
	assert.Equal(t, posts, s.posts.Load(), "the second run sends nothing")
	assert.Equal(t, made, s.catalogue())
}

func TestSeed_AChangedPriceIsANewOneAndNothingIsDeleted(t *testing.T) {
	t.Parallel()
	s := newSeeding(t)
	require.NoError(t, s.apply(seedYAML))
	before := s.catalogue()
	dearer := strings.NewReplacer("10.00 USD", "12.00 USD", "credits: 100\n", "credits: 120\n", "    description: A first taste.\n", "",
		"{price: 900 USD, every: year, credits: 18000}", "{price: 900 USD, every: year, credits: 20000}").Replace(seedYAML)
	assert.Equal(t, []string{
		`update starter: description becomes ""; credits "100" becomes "120"`, "create starter/once-usd: 12.00 USD",
		"archive starter/once-usd: 10.00 USD: replaced by 12.00 USD", `update pro/year-usd: credits "18000" becomes "20000"`,
	}, s.steps(dearer))
	require.NoError(t, s.apply(dearer))
	assert.Contains(t, s.catalogue()[1], "[starter/once-usd 1000 usd ], starter/once-jpy 1200 jpy , starter/once-usd 1200 usd ")
	assert.Empty(t, s.steps(dearer))

	// The earlier price is sold again, rather than made again.
	assert.Contains(t, s.steps(seedYAML), "restore starter/once-usd: 10.00 USD")
	require.NoError(t, s.apply(seedYAML))
	after := s.catalogue()
	assert.Equal(t, before[0], after[0])
	assert.Contains(t, after[1], "[starter/once-usd 1200 usd ], starter/once-jpy 1200 jpy , starter/once-usd 1000 usd ")

	// What the file does not list any more, or says not to sell, is archived; other products are left alone.
	other, err := s.double.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Of another application")})
	require.NoError(t, err)
	byHand, err := s.double.Stripe.Prices.New(&stripe.PriceParams{Product: &other.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(5)})
	require.NoError(t, err)
	less := strings.NewReplacer("      - price: 1200 JPY\n", "", "  - key: pro\n", "  - key: pro\n    active: false\n").Replace(seedYAML)
	assert.Equal(t, []string{"archive starter/once-jpy: 1200 JPY: the seed does not list it any more", "update pro: archived"}, s.steps(less))
	require.NoError(t, s.apply(less))
	assert.Empty(t, s.steps(less))
	byHand, err = s.double.Stripe.Prices.Get(byHand.ID, nil)
	require.NoError(t, err)
	assert.True(t, byHand.Active)
	unsold := strings.Replace(seedYAML, "- price: 10.00 USD", "- {price: 10.00 USD, active: false}", 1)
	assert.Contains(t, s.steps(unsold), "archive starter/once-usd: 10.00 USD: not for sale any more")
}

// Stripe does not archive a product's default price.
func TestSeed_TheSuccessorOfADefaultPriceBecomesTheDefault(t *testing.T) {
	t.Parallel()
	s := newSeeding(t)
	require.NoError(t, s.apply(seedYAML))
	find := func() (*stripe.Product, string) {
		var product *stripe.Product
		list := s.double.Stripe.Products.List(nil)
		for list.Next() {
			if list.Product().Name == "Starter" {
				product = list.Product()
			}
		}
		require.NoError(t, list.Err())
		prices := s.double.Stripe.Prices.List(&stripe.PriceListParams{Product: &product.ID, Active: stripe.Bool(true), Currency: stripe.String("usd")})
		require.True(t, prices.Next())
		return product, prices.Price().ID
	}
	product, price := find()
	_, err := s.double.Stripe.Products.Update(product.ID, &stripe.ProductParams{DefaultPrice: &price})
	require.NoError(t, err)
	require.NoError(t, s.apply(strings.Replace(seedYAML, "10.00 USD", "11.00 USD", 1)))
	product, successor := find()
	assert.NotEqual(t, price, successor)
	assert.Equal(t, successor, product.DefaultPrice.ID)
}

// A run is cut at each of its calls in turn, before and after the effect, and the next run ends it.
func TestSeed_AnInterruptedRunIsEndedByTheNext(t *testing.T) {
	t.Parallel()
	change := strings.Replace(seedYAML, "10.00 USD", "12.00 USD", 1)
	run := func(s *seeding) {
		require.NoError(s.t, s.apply(seedYAML))
		require.NoError(s.t, s.apply(change))
	}
	whole := newSeeding(t)
	run(whole)
	calls := whole.posts.Load()
	require.EqualValues(t, 8, calls)
	for _, after := range []bool{false, true} {
		for n := range calls {
			t.Run(fmt.Sprintf("call %d after the effect %v", n, after), func(t *testing.T) {
				t.Parallel()
				s := newSeeding(t)
				s.cut.Store(new(func() (bool, bool) { return s.posts.Load() == n+1, after }))
				err := s.apply(seedYAML)
				if err == nil {
					err = s.apply(change)
				}
				require.ErrorIs(t, err, billing.ErrStripe)
				s.cut.Store(nil)
				run(s)
				assert.Equal(t, whole.catalogue(), s.catalogue())
				assert.Empty(t, s.steps(change))
			})
		}
	}
}

// Stripe repeats a failure of its own for a day; that is not waited for.
func TestSeed_AFailureThatStripeRepeatsIsGotPast(t *testing.T) {
	t.Parallel()
	for _, kind := range []stripetest.FaultKind{stripetest.FaultErrorBefore, stripetest.FaultErrorAfter} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := newSeeding(t)
			_, err := s.double.Inject(t.Context(), stripetest.Fault{Kind: kind, Route: "POST /v1/products", Times: 1})
			require.NoError(t, err)
			_, err = s.double.Inject(t.Context(), stripetest.Fault{Kind: kind, Route: "POST /v1/prices", Times: 2})
			require.NoError(t, err)
			require.NoError(t, s.apply(seedYAML))
			assert.Len(t, s.catalogue(), 2)
			assert.Empty(t, s.steps(seedYAML))

			_, err = s.double.Inject(t.Context(), stripetest.Fault{Kind: stripetest.FaultErrorBefore, Route: "POST /v1/prices"})
			require.NoError(t, err)
			require.ErrorIs(t, s.apply(strings.Replace(seedYAML, "10.00", "11.00", 1)), billing.ErrStripe)
		})
	}
}

// Stripe repeats its answer to the creation of what was deleted by hand since.
func TestSeed_WhatWasDeletedByHandTodayIsMadeAgain(t *testing.T) {
	t.Parallel()
	s := newSeeding(t)
	const one = "products:\n  - key: one\n    name: One\n    credits: 10\n    prices:\n      - price: 1.00 USD\n"
	for range 3 {
		_, err := s.double.Inject(t.Context(), stripetest.Fault{Kind: stripetest.FaultRateLimit, Route: "POST /v1/prices", Times: 1})
		require.NoError(t, err)
		require.ErrorIs(t, s.apply(one), billing.ErrStripe, "it ends between the product and its price")
		require.NoError(t, s.double.RemoveFaults(t.Context()))
		products := s.double.Stripe.Products.List(nil)
		require.True(t, products.Next())
		_, err = s.double.Stripe.Products.Del(products.Product().ID, nil)
		require.NoError(t, err)
	}
	require.NoError(t, s.apply(one))
	assert.Len(t, s.catalogue(), 1)
	assert.Empty(t, s.steps(one))
}

func TestSeed_SeveralAtOnceMakeItOnce(t *testing.T) {
	t.Parallel()
	s := newSeeding(t)
	var group errgroup.Group
	for range 4 {
		group.Go(func() error { return s.apply(seedYAML) })
	}
	require.NoError(t, group.Wait())
	assert.Len(t, s.catalogue(), 2)
	assert.Empty(t, s.steps(seedYAML))
}

func TestSeed_TwoProductsWithOneKeyAreForAPerson(t *testing.T) {
	t.Parallel()
	s := newSeeding(t)
	for range 2 {
		_, err := s.double.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Copy"), Metadata: map[string]string{"seed_key": "pro"}})
		require.NoError(t, err)
	}
	require.ErrorContains(t, s.apply(seedYAML), "seed_key=pro")
	ctx, cancel := context.WithCancel(t.Context())
	plan, err := billing.PlanSeed(ctx, newSeeding(t).api, s.parse(seedYAML))
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, plan.Apply(ctx, nil), context.Canceled)
}

func TestSeed_MistakesAreToldWithTheirLines(t *testing.T) {
	t.Parallel()
	const head = "products:\n  - key: a\n    name: A\n"
	const price = "    prices: [{price: 1 USD}]\n"
	for name, c := range map[string]struct{ file, says string }{
		"empty":             {"", "line 1: the file is empty"},
		"no YAML":           {"products:\n  - key: [a\n", "line "},
		"a tab":             {"products:\n\t- key: a\n", "line 2: "},
		"a list":            {"- a\n", "line 1: the file must be fields"},
		"no products":       {"products: []\n", "there are no products"},
		"no list":           {"products: none\n", "line 1: products must be a list"},
		"unknown field":     {head + "    credit: 5\n    credits: 5\n" + price, `line 4: a product has no field "credit"; it has active, credits,`},
		"unknown in price":  {head + "    credits: 5\n    prices:\n      - price: 1 USD\n        monthly: true\n", `line 7: a price has no field "monthly"`},
		"twice":             {head + "    name: B\n    credits: 5\n" + price, "line 4: a product has name twice"},
		"second document":   {head + "    credits: 5\n" + price + "---\na: b\n", "second document"},
		"nested":            {head + "    credits: {a: b}\n" + price, "line 4: credits needs a value"},
		"null":              {head + "    credits:\n" + price, "line 4: credits needs a value"},
		"credits":           {head + "    credits: lots\n" + price, `line 4: credits: "lots" is no amount`},
		"too fine":          {head + "    credits: 0.0000001\n" + price, "line 4: credits:"},
		"no credits":        {head + price, "line 4: product a, price 1: it needs credits"},
		"no key":            {"products:\n  - name: A\n    credits: 5\n" + price, "line 2: product number 1: it needs a key"},
		"bad key":           {"products:\n  - key: A b\n    name: A\n    credits: 5\n" + price, "line 2: product A b: it needs a key"},
		"same key":          {head + "    credits: 5\n" + price + "  - key: a\n    name: B\n    credits: 5\n" + price, "line 6: product a: another product"},
		"no name":           {"products:\n  - key: a\n    credits: 5\n" + price, "line 2: product a: it needs a name"},
		"no price":          {head + "    credits: 5\n", "line 2: product a: it needs a price"},
		"price":             {head + "    credits: 5\n    prices:\n      - price: 12\n", `line 6: price: "12" is no price, such as 12.50 USD`},
		"missing price":     {head + "    credits: 5\n    prices:\n      - every: month\n", "line 6: product a, price 1: it needs a price"},
		"cents of a yen":    {head + "    credits: 5\n    prices:\n      - price: 1.5 JPY\n", "line 6: price: \"1.5 JPY\" has more decimals than the 0 of JPY"},
		"period":            {head + "    credits: 5\n    prices:\n      - {price: 1 USD, every: fortnight}\n", `line 6: every: "fortnight" is no period`},
		"four years":        {head + "    credits: 5\n    prices:\n      - {price: 1 USD, every: 4 years}\n", "line 6: product a, price 1: a price recurs"},
		"same price twice":  {head + "    credits: 5\n    prices:\n      - price: 1 USD\n      - price: 2 USD\n", "line 7: product a, price 2: another price of the product is once-usd"},
		"year like a month": {head + "    credits: 5\n    prices:\n      - {price: 1 USD, every: month}\n      - {price: 9 USD, every: year}\n", "line 7: product a, price 2: it needs credits of its own"},
		"active":            {head + "    active: yes\n    credits: 5\n" + price, `line 4: active: "yes" is neither`},
		"comma":             {head + "    credits: 5\n    features: [\"a,b\"]\n" + price, `line 5: product a: feature "a,b"`},
		"long trial":        {head + "    credits: 5\n    trial_days: 731\n" + price, "line 5: product a: a trial lasts"},
		"trial credits":     {head + "    credits: 5\n    trial_credits: 5\n" + price, "line 5: product a: credits of a trial"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			products, err := billing.ParseSeed([]byte(c.file))
			var seedErr *billing.SeedError
			require.ErrorAs(t, err, &seedErr)
			assert.Contains(t, err.Error(), c.says)
			assert.Nil(t, products)
		})
	}
	_, err := billing.ParseSeed([]byte(head + "    credit: 5\n    order: first\n" + price))
	require.Error(t, err)
	assert.Len(t, strings.Split(err.Error(), "\n"), 2, "all mistakes are told at once: %v", err)

	shared := "products:\n  - &base\n    key: a\n    name: A\n    credits: &worth 5\n    prices: &prices [{price: 1 USD, key: small}, {price: 2.5 usd, key: big, credits: 20}]\n" +
		"  - key: b\n    name: B\n    credits: *worth\n    prices: *prices\n"
	products, err := billing.ParseSeed([]byte(shared))
	require.NoError(t, err)
	assert.Equal(t, products[0].Prices, products[1].Prices)
	assert.Equal(t, billing.Money{Amount: 250, Currency: "usd"}, products[1].Prices[1].Price)
}

// The example of docs/stripe.md is one that works.
func TestSeed_TheDocumentedFileIsRead(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/stripe.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(doc)
	require.NotNil(t, block)
	s := newSeeding(t)
	require.NoError(t, s.apply(string(block[1])))
	assert.Equal(t, []string{`Pro "For work of every day." true map[credits:1500 features:api,export order:2 seed_key:pro trial_credits:50 trial_days:14]: ` +
		"pro/gift 9500 usd , pro/month-usd 9000 usd  per 1 month, pro/year-usd 90000 usd 18000 per 1 year"}, s.catalogue())
	assert.Empty(t, s.steps(string(block[1])))
}

// The mirror takes the order over when it sees a product first; then it is the staff's.
func TestSeed_OrderIsThePlaceAtFirstSight(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		products, err := billing.ParseSeed([]byte(strings.ReplaceAll(seedYAML, "1200 JPY", "11 EUR")))
		require.NoError(t, err)
		plan, err := billing.PlanSeed(t.Context(), s.double.Stripe, products)
		require.NoError(t, err)
		require.NoError(t, plan.Apply(t.Context(), nil))
		require.NoError(t, s.SyncCatalogue(t.Context()))
		names := func() (names []string) {
			packs, err := s.Packs(t.Context())
			require.NoError(t, err)
			for _, p := range packs {
				names = append(names, p.Price.String())
			}
			return names
		}
		assert.Equal(t, []string{"10.00 USD", "10.00 USD", "11.00 EUR"}, names())
		plans, err := s.Plans(t.Context())
		require.NoError(t, err)
		require.Len(t, plans, 2)
		assert.Equal(t, []string{"api", "export"}, plans[0].Features)
		packs, err := s.Packs(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Arrange(t.Context(), billing.ArrangeParams{Product: packs[2].ProductID, Position: -1}))
		require.NoError(t, s.SyncCatalogue(t.Context()))
		packs, err = s.Packs(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "Starter", packs[0].Name)
		assert.Equal(t, "A first taste.", packs[0].Description)
	})
}
