package billing

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"github.com/quickscale/quickscale/credits"
)

// seedKey is the metadata by which a product or a price of a seed is found again.
const seedKey = "seed_key"

// SeedProduct is a product that [PlanSeed] makes in Stripe, or brings up to date there.
type SeedProduct struct {
	// Key names it for good: lower-case letters, digits, - and _, at most 64. Everything else may change. Required.
	Key string `json:"key"`
	// Name is what people see. Required.
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Credits are those of one unit. 0: each price has its own.
	Credits credits.Amount `json:"credits,omitzero"`
	// Features are what a plan entitles to; see [Billing.Entitled].
	Features []string `json:"features,omitempty"`
	// TrialDays, at most 730, come before a plan's first payment, with TrialCredits to use in them.
	TrialDays    int64          `json:"trial_days,omitempty"`
	TrialCredits credits.Amount `json:"trial_credits,omitzero"`
	// Order is the place on the pages, lower ones first, that the product gets when it is seen for the first time.
	// Afterwards the place is the staff's; see [Billing.Arrange].
	Order int64 `json:"order,omitempty"`
	// Archived takes it out of sale; who subscribes to it keeps it.
	Archived bool        `json:"archived,omitempty"`
	Prices   []SeedPrice `json:"prices"`
}

// SeedPrice is a price of a [SeedProduct].
type SeedPrice struct {
	// Key tells it from the product's other prices. Empty: the period and the currency, such as once-usd, month-usd or
	// 3-month-usd.
	Key   string `json:"key,omitempty"`
	Price Money  `json:"amount"`
	// Interval is day, week, month or year, and the price recurs every IntervalCount of them (0: 1). Empty: it is paid
	// once.
	Interval      string `json:"interval,omitempty"`
	IntervalCount int64  `json:"interval_count,omitempty"`
	// Credits go before the product's. Prices of different periods of one product need their own.
	Credits  credits.Amount `json:"credits,omitzero"`
	Archived bool           `json:"archived,omitempty"`
}

// key is what tells the price from others of its product.
func (p SeedPrice) key() string {
	switch {
	case p.Key != "":
		return p.Key
	case p.Interval == "":
		return "once-" + p.Price.Currency
	case p.count() == 1:
		return p.Interval + "-" + p.Price.Currency
	}
	return fmt.Sprintf("%d-%s-%s", p.count(), p.Interval, p.Price.Currency)
}

func (p SeedPrice) count() int64 {
	if p.Interval == "" {
		return 0
	}
	return max(1, p.IntervalCount)
}

// is tells whether Stripe's price has what cannot change of a price.
func (p SeedPrice) is(at *stripe.Price) bool {
	interval, count := "", int64(0)
	if at.Recurring != nil {
		interval, count = string(at.Recurring.Interval), at.Recurring.IntervalCount
	}
	return hasAmount(at) && at.UnitAmount == p.Price.Amount && string(at.Currency) == p.Price.Currency && interval == p.Interval && count == p.count()
}

// String is the price in words, such as "12.50 USD every month".
func (p SeedPrice) String() string {
	words := p.Price.String()
	if p.Interval != "" {
		words += " every " + Offer{Interval: p.Interval, IntervalCount: p.count()}.Every()
	}
	if p.Credits > 0 {
		words += ", " + p.Credits.String() + " credits"
	}
	return words
}

// SeedVerb is what a step of a seed does.
type SeedVerb string

// The verbs. Nothing is ever deleted: Stripe keeps what is archived, and who subscribes to it keeps it.
const (
	SeedCreate  SeedVerb = "create"
	SeedUpdate  SeedVerb = "update"
	SeedRestore SeedVerb = "restore" // sell a price again that was archived
	SeedArchive SeedVerb = "archive"
)

// SeedStep is one change in Stripe.
type SeedStep struct {
	Verb SeedVerb `json:"verb"`
	// Key is the product's, or product/price.
	Key string `json:"key"`
	// ID is Stripe's; empty for what is not made yet.
	ID string `json:"id,omitempty"`
	// Detail says it in words.
	Detail string `json:"detail"`

	run func(ctx context.Context) (id string, err error)
}

// SeedPlan are the steps from what Stripe has to what a seed says.
type SeedPlan struct {
	Steps []SeedStep `json:"steps"`
}

// PlanSeed compares products with what Stripe has, and changes nothing. Products and prices are found again by metadata,
// so that a second run finds nothing to do, and one after an interruption does the rest. A price whose amount, currency
// or period is another becomes a new price, and the old one is archived, as one is that the seed made and does not list
// any more. Products and prices that the seed did not make are left alone. The errors are a [*SeedError], [ErrStripe], and
// Stripe's.
func PlanSeed(ctx context.Context, api *client.API, products []SeedProduct) (*SeedPlan, error) {
	if err := checkSeed(products); err != nil {
		return nil, err
	}
	s := &seeder{api: api, plan: &SeedPlan{Steps: []SeedStep{}}}
	held, err := s.products(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range products {
		if err := s.product(ctx, p, held[p.Key]); err != nil {
			return nil, err
		}
	}
	return s.plan, nil
}

// Apply does the steps in order and stops at the first that fails; each is told to done, unless that is nil, when it is
// done. What was interrupted is ended by planning and applying again. The errors are [ErrStripe] and Stripe's.
func (p *SeedPlan) Apply(ctx context.Context, done func(SeedStep)) error {
	for _, step := range p.Steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		id, err := step.run(ctx)
		if err != nil {
			return stripeError(string(step.Verb)+" "+step.Key, err)
		}
		if step.ID = id; done != nil {
			done(step)
		}
	}
	return nil
}

type seeder struct {
	api  *client.API
	plan *SeedPlan
}

// products are those that a seed made, by key. All are read, since Stripe's search by metadata may be a minute behind
// (docs.stripe.com/search#data-freshness).
func (s *seeder) products(ctx context.Context) (map[string]*stripe.Product, error) {
	found := map[string]*stripe.Product{}
	list := s.api.Products.List(&stripe.ProductListParams{ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}})
	for list.Next() {
		p := list.Product()
		key := p.Metadata[seedKey]
		if key == "" {
			continue
		}
		if other := found[key]; other != nil {
			return nil, fmt.Errorf("billing: products %s and %s both have the metadata %s=%s; take it off the one that is not meant", other.ID, p.ID, seedKey, key)
		}
		found[key] = p
	}
	if err := list.Err(); err != nil {
		return nil, stripeError("list products", err)
	}
	return found, nil
}

// pricesOf are the prices that a seed made of a product, the newest first.
func (s *seeder) pricesOf(ctx context.Context, product string) (found []*stripe.Price, err error) {
	list := s.api.Prices.List(&stripe.PriceListParams{ListParams: stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)}, Product: &product})
	for list.Next() {
		if p := list.Price(); p.Metadata[seedKey] != "" {
			found = append(found, p)
		}
	}
	if err := list.Err(); err != nil {
		return nil, stripeError("list the prices of product "+product, err)
	}
	return found, nil
}

func (s *seeder) step(verb SeedVerb, key, id, detail string, run func(ctx context.Context) (string, error)) {
	s.plan.Steps = append(s.plan.Steps, SeedStep{verb, key, id, detail, run})
}

// product plans a product, and its prices.
func (s *seeder) product(ctx context.Context, want SeedProduct, have *stripe.Product) error {
	if have == nil {
		made := &ref{}
		s.newProduct(want, made)
		for _, p := range want.Prices {
			if !p.Archived {
				s.newPrice(want, p, made, "")
			}
		}
		return nil
	}
	params, changes := want.changes(have)
	if len(changes) > 0 {
		s.step(SeedUpdate, want.Key, have.ID, strings.Join(changes, "; "), func(ctx context.Context) (string, error) {
			params.Context = ctx
			_, err := s.api.Products.Update(have.ID, params)
			return have.ID, err
		})
	}
	return s.prices(ctx, want, have)
}

// ref is the id of an object that may not be made yet.
type ref struct{ id string }

func (s *seeder) newProduct(want SeedProduct, made *ref) {
	s.step(SeedCreate, want.Key, "", want.Name+want.worth(), func(ctx context.Context) (id string, err error) {
		made.id, err = createOnce(fmt.Sprintf("%+v", want), func(key string) (string, error) {
			params := want.params()
			params.Context = ctx
			params.SetIdempotencyKey(key)
			p, err := s.api.Products.New(params)
			if err != nil {
				return "", err
			}
			get := &stripe.ProductParams{}
			get.Context = ctx
			there, err := s.api.Products.Get(p.ID, get)
			return p.ID, gone(err, there == nil || there.Deleted)
		}, func() (string, error) {
			found, err := s.products(ctx)
			if err != nil || found[want.Key] == nil {
				return "", err
			}
			return found[want.Key].ID, nil
		})
		return made.id, err
	})
}

// worth says what a product gives.
func (p SeedProduct) worth() string {
	words := ""
	if p.Credits > 0 {
		words += ", " + p.Credits.String() + " credits"
	}
	if len(p.Features) > 0 {
		words += ", features " + strings.Join(p.Features, ", ")
	}
	if p.Archived {
		words += ", archived"
	}
	return words
}

// metadata is all that a product's may have; empty values take a key away.
func (p SeedProduct) metadata() map[string]string {
	return map[string]string{seedKey: p.Key, creditsKey: amountText(p.Credits), featuresKey: strings.Join(p.Features, ","),
		trialDaysKey: numberText(p.TrialDays), trialCreditsKey: amountText(p.TrialCredits), orderKey: numberText(p.Order)}
}

func amountText(a credits.Amount) string {
	if a == 0 {
		return ""
	}
	return a.String()
}

func numberText(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func (p SeedProduct) params() *stripe.ProductParams {
	params := &stripe.ProductParams{Name: &p.Name, Active: stripe.Bool(!p.Archived), Metadata: map[string]string{}}
	if p.Description != "" { // Stripe refuses an empty one of what is new
		params.Description = &p.Description
	}
	for key, value := range p.metadata() {
		if value != "" {
			params.Metadata[key] = value
		}
	}
	return params
}

// changes are what Stripe has differently, as parameters and in words.
func (p SeedProduct) changes(have *stripe.Product) (*stripe.ProductParams, []string) {
	params, words := &stripe.ProductParams{}, []string{}
	if have.Name != p.Name {
		params.Name, words = &p.Name, append(words, fmt.Sprintf("name %q becomes %q", have.Name, p.Name))
	}
	if have.Description != p.Description {
		params.Description, words = &p.Description, append(words, fmt.Sprintf("description becomes %q", p.Description))
	}
	if have.Active == p.Archived {
		params.Active = stripe.Bool(!p.Archived)
		words = append(words, map[bool]string{true: "archived", false: "for sale again"}[p.Archived])
	}
	metadata, more := metadataChanges(have.Metadata, p.metadata())
	params.Metadata = metadata
	return params, append(words, more...)
}

// metadataChanges are the keys of want that have differs in, in order.
func metadataChanges(have, want map[string]string) (changed map[string]string, words []string) {
	for key, value := range want {
		if have[key] == value {
			continue
		}
		if changed == nil {
			changed = map[string]string{}
		}
		changed[key] = value
		words = append(words, fmt.Sprintf("%s %q becomes %q", key, have[key], value))
	}
	slices.Sort(words)
	return changed, words
}

// prices plans the prices of a product that Stripe has.
func (s *seeder) prices(ctx context.Context, want SeedProduct, product *stripe.Product) error {
	held, err := s.pricesOf(ctx, product.ID)
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, p := range want.Prices {
		key := want.Key + "/" + p.key()
		listed[key] = true
		var versions []*stripe.Price
		for _, h := range held {
			if h.Metadata[seedKey] == key {
				versions = append(versions, h)
			}
		}
		s.price(want, p, product, versions)
	}
	for _, h := range held {
		if key := h.Metadata[seedKey]; h.Active && !listed[key] {
			s.archive(key, h, product, &ref{}, "the seed does not list it any more")
		}
	}
	return nil
}

// price plans one price, of which Stripe may have several versions: the one as it should be, and older ones.
func (s *seeder) price(of SeedProduct, want SeedPrice, product *stripe.Product, versions []*stripe.Price) {
	key := of.Key + "/" + want.key()
	var current *stripe.Price
	for _, v := range versions {
		if want.is(v) && (current == nil || v.Active && !current.Active) {
			current = v
		}
	}
	successor := &ref{}
	switch {
	case want.Archived:
	case current != nil:
		successor.id = current.ID
		s.keepPrice(key, want, current)
	case len(versions) > 0:
		successor = s.newPrice(of, want, &ref{product.ID}, versions[0].ID)
	default:
		successor = s.newPrice(of, want, &ref{product.ID}, "")
	}
	for _, v := range versions {
		if v.Active && (v != current || want.Archived) {
			why := "replaced by " + want.String()
			if want.Archived {
				why = "not for sale any more"
			}
			s.archive(key, v, product, successor, why)
		}
	}
}

// newPrice plans a price. The one that it replaces is part of the idempotency key, so that a price that is made and
// archived several times in a day is not taken for the same.
func (s *seeder) newPrice(of SeedProduct, want SeedPrice, product *ref, replaces string) *ref {
	key, made := of.Key+"/"+want.key(), &ref{}
	s.step(SeedCreate, key, "", want.String(), func(ctx context.Context) (id string, err error) {
		made.id, err = createOnce(fmt.Sprintf("%s %s %+v %s", product.id, key, want, replaces), func(idempotency string) (string, error) {
			params := want.params(key, product.id)
			params.Context = ctx
			params.SetIdempotencyKey(idempotency)
			p, err := s.api.Prices.New(params)
			if err != nil {
				return "", err
			}
			get := &stripe.PriceParams{}
			get.Context = ctx
			there, err := s.api.Prices.Get(p.ID, get)
			return p.ID, gone(err, there == nil || there.Deleted)
		}, func() (string, error) {
			found, err := s.pricesOf(ctx, product.id)
			for _, p := range found {
				if p.Metadata[seedKey] == key && p.Active && want.is(p) {
					return p.ID, nil
				}
			}
			return "", err
		})
		return made.id, err
	})
	return made
}

func (p SeedPrice) params(key, product string) *stripe.PriceParams {
	params := &stripe.PriceParams{Product: &product, Currency: &p.Price.Currency, UnitAmount: &p.Price.Amount, Metadata: map[string]string{seedKey: key}}
	if p.Credits > 0 {
		params.Metadata[creditsKey] = p.Credits.String()
	}
	if p.Interval != "" {
		params.Recurring = &stripe.PriceRecurringParams{Interval: &p.Interval, IntervalCount: stripe.Int64(p.count())}
	}
	return params
}

// keepPrice plans what can change of a price that Stripe has.
func (s *seeder) keepPrice(key string, want SeedPrice, have *stripe.Price) {
	metadata, words := metadataChanges(have.Metadata, map[string]string{creditsKey: amountText(want.Credits)})
	params, verb := &stripe.PriceParams{Metadata: metadata}, SeedUpdate
	if !have.Active {
		params.Active, verb, words = stripe.Bool(true), SeedRestore, append([]string{want.String()}, words...)
	}
	if len(words) == 0 {
		return
	}
	s.step(verb, key, have.ID, strings.Join(words, "; "), func(ctx context.Context) (string, error) {
		params.Context = ctx
		_, err := s.api.Prices.Update(have.ID, params)
		return have.ID, err
	})
}

// archive plans the end of a price. Stripe refuses that of a product's default price, so that its successor becomes the
// default first.
func (s *seeder) archive(key string, p *stripe.Price, product *stripe.Product, successor *ref, why string) {
	isDefault := product.DefaultPrice != nil && product.DefaultPrice.ID == p.ID
	s.step(SeedArchive, key, p.ID, Money{p.UnitAmount, string(p.Currency)}.String()+": "+why, func(ctx context.Context) (string, error) {
		if isDefault && successor.id != "" {
			params := &stripe.ProductParams{DefaultPrice: &successor.id}
			params.Context = ctx
			if _, err := s.api.Products.Update(product.ID, params); err != nil {
				return p.ID, err
			}
		}
		params := &stripe.PriceParams{Active: stripe.Bool(false)}
		params.Context = ctx
		_, err := s.api.Prices.Update(p.ID, params)
		return p.ID, err
	})
}
