package billing

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	seedKeyPattern  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	currencyPattern = regexp.MustCompile(`^[a-z]{3}$`)
)

// maxMetadata is the length of the longest value that Stripe keeps (docs.stripe.com/api/metadata).
const maxMetadata = 500

// longestPeriod is the most of each interval that a price may have: three years (docs.stripe.com/api/prices/create).
var longestPeriod = map[string]int64{"day": 1095, "week": 156, "month": 36, "year": 3}

// checkSeed finds what would not be sold, or be sold otherwise than it was meant. The error is a [*SeedError].
func checkSeed(products []SeedProduct) error {
	c := &seedChecker{keys: map[string]bool{}}
	if len(products) == 0 {
		c.faults = append(c.faults, SeedFault{Text: "there are no products"})
	}
	for i, p := range products {
		c.product(i, p)
	}
	if len(c.faults) > 0 {
		return &SeedError{c.faults}
	}
	return nil
}

type seedChecker struct {
	keys   map[string]bool
	faults []SeedFault
}

func (c *seedChecker) product(i int, p SeedProduct) {
	fault := func(field, format string, args ...any) {
		name := p.Key
		if name == "" {
			name = fmt.Sprintf("number %d", i+1)
		}
		c.faults = append(c.faults, SeedFault{Text: "product " + name + ": " + fmt.Sprintf(format, args...), place: seedPlace{i, -1, field}})
	}
	switch {
	case !seedKeyPattern.MatchString(p.Key):
		fault("key", "it needs a key of lower-case letters, digits, - and _, at most 64, by which it is found again")
	case c.keys[p.Key]:
		fault("key", "another product has the same key")
	}
	c.keys[p.Key] = true
	if p.Name == "" {
		fault("name", "it needs a name")
	}
	for _, f := range p.Features {
		if f == "" || strings.Contains(f, ",") {
			fault("features", "feature %q needs a name without commas", f)
		}
	}
	if len(strings.Join(p.Features, ",")) > maxMetadata {
		fault("features", "the features are longer than %d characters together", maxMetadata)
	}
	if p.Credits < 0 {
		fault("credits", "the credits must be above 0")
	}
	if p.TrialDays < 0 || p.TrialDays > maxTrialDays {
		fault("trial_days", "a trial lasts 1 to %d days", maxTrialDays)
	}
	if p.TrialCredits < 0 || p.TrialCredits > 0 && p.TrialDays == 0 {
		fault("trial_credits", "credits of a trial go with trial_days")
	}
	if len(p.Prices) == 0 {
		fault("prices", "it needs a price")
	}
	c.prices(i, p)
}

func (c *seedChecker) prices(i int, p SeedProduct) {
	keys, inherits := map[string]bool{}, ""
	for j, price := range p.Prices {
		fault := func(field, format string, args ...any) {
			c.faults = append(c.faults, SeedFault{Text: fmt.Sprintf("product %s, price %d: ", p.Key, j+1) + fmt.Sprintf(format, args...), place: seedPlace{i, j, field}})
		}
		switch {
		case !currencyPattern.MatchString(price.Price.Currency) || price.Price.Amount < 0:
			fault("price", "it needs a price, such as 12.50 USD")
		case price.Key != "" && !seedKeyPattern.MatchString(price.Key):
			fault("key", "a key has lower-case letters, digits, - and _, at most 64")
		case keys[price.key()]:
			fault("key", "another price of the product is %s, too; give each a key", price.key())
		}
		keys[price.key()] = true
		if price.Interval != "" && price.count() > longestPeriod[price.Interval] {
			fault("every", "a price recurs every so many days, weeks, months or years, of which three are the most")
		}
		period := Offer{Interval: price.Interval, IntervalCount: price.count()}.Every()
		switch {
		case price.Credits < 0:
			fault("credits", "the credits must be above 0")
		case price.Credits > 0:
		case p.Credits == 0:
			fault("credits", "it needs credits, or the product does")
		case period == "":
		case inherits != "" && inherits != period:
			// A year's price with a month's credits would be a mistake that is noticed late.
			fault("credits", "it needs credits of its own, since the product's are those of another period")
		default:
			inherits = period
		}
	}
}
