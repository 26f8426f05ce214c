package billing

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/quickscale/quickscale/credits"
)

// SeedFault is a mistake of a seed.
type SeedFault struct {
	// Line is where it is in the file; 0 when there is none.
	Line int
	// Text says what is wrong, with the product and the price.
	Text string

	place seedPlace
}

// SeedError are all mistakes of a seed.
type SeedError struct{ Faults []SeedFault }

// Error implements error: one line for each mistake.
func (e *SeedError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		if lines[i] = f.Text; f.Line > 0 {
			lines[i] = fmt.Sprintf("line %d: %s", f.Line, f.Text)
		}
	}
	return strings.Join(lines, "\n")
}

// seedPlace is a product, or a price of it, or a field of either. Price is -1 for the product itself.
type seedPlace struct {
	product, price int
	field          string
}

// ParseSeed reads the products of a YAML file. The error is a [*SeedError] with the line of every mistake: unknown fields
// and fields given twice are mistakes, too.
//
//	products:
//	  - key: pro
//	    name: Pro
//	    description: For work of every day.
//	    credits: 1500
//	    features: [api, export]
//	    trial_days: 14
//	    trial_credits: 50
//	    order: 2
//	    active: true
//	    prices:
//	      - price: 90.00 USD
//	        every: month
//	      - price: 900.00 USD
//	        every: year
//	        credits: 18000
func ParseSeed(data []byte) ([]SeedProduct, error) {
	r := &seedReader{lines: map[seedPlace]int{}}
	r.file(data)
	if len(r.faults) == 0 {
		if e, ok := errors.AsType[*SeedError](checkSeed(r.products)); ok {
			for _, f := range e.Faults {
				f.Line = r.line(f.place)
				r.faults = append(r.faults, f)
			}
		}
	}
	if len(r.faults) > 0 {
		slices.SortStableFunc(r.faults, func(a, b SeedFault) int { return cmp.Compare(a.Line, b.Line) })
		return nil, &SeedError{r.faults}
	}
	return r.products, nil
}

// seedReader walks the nodes of a file, since those know their lines.
type seedReader struct {
	products []SeedProduct
	lines    map[seedPlace]int
	faults   []SeedFault
}

func (r *seedReader) faultf(n *yaml.Node, format string, args ...any) {
	r.faults = append(r.faults, SeedFault{Line: n.Line, Text: fmt.Sprintf(format, args...)})
}

// line is that of a place, or of what holds it.
func (r *seedReader) line(p seedPlace) int {
	if line, ok := r.lines[p]; ok {
		return line
	}
	return r.lines[seedPlace{p.product, p.price, ""}]
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

func (r *seedReader) file(data []byte) {
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		r.faults = append(r.faults, SeedFault{Line: 1, Text: "the file is empty; it needs products:"})
		return
	case err != nil:
		fault := SeedFault{Text: strings.TrimPrefix(err.Error(), "yaml: ")}
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			fault.Line, _ = strconv.Atoi(m[1]) // digits by the pattern
			fault.Text = strings.TrimPrefix(err.Error(), m[0])
		}
		r.faults = append(r.faults, fault)
		return
	}
	r.fields(doc.Content[0], "the file", map[string]func(*yaml.Node){"products": func(n *yaml.Node) { r.items(n, "products", r.product) }})
	var second yaml.Node
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		r.faultf(&second, "the file holds a second document; put all products into one")
	}
}

// fields reads a mapping whose keys are all known.
func (r *seedReader) fields(n *yaml.Node, what string, known map[string]func(*yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.faultf(n, "%s must be fields such as name: value", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read := known[key.Value]
		switch {
		case read == nil:
			r.faultf(key, "%s has no field %q; it has %s", what, key.Value, strings.Join(sortedKeys(known), ", "))
		case seen[key.Value]:
			r.faultf(key, "%s has %s twice", what, key.Value)
		default:
			read(resolve(value))
		}
		seen[key.Value] = true
	}
}

func sortedKeys(m map[string]func(*yaml.Node)) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func (r *seedReader) items(n *yaml.Node, what string, read func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		r.faultf(n, "%s must be a list, each item after a -", what)
		return
	}
	for _, item := range n.Content {
		read(resolve(item))
	}
}

// into makes a reader of a scalar that parse understands, and notes where it is.
func into[T any](r *seedReader, at seedPlace, field string, dest *T, parse func(string) (T, error)) func(*yaml.Node) {
	at.field = field
	return func(n *yaml.Node) {
		r.lines[at] = n.Line
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			r.faultf(n, "%s needs a value", field)
			return
		}
		v, err := parse(n.Value)
		if err != nil {
			r.faultf(n, "%s: %s", field, err)
		}
		*dest = v
	}
}

func seedText(s string) (string, error) { return strings.TrimSpace(s), nil }

func seedNumber(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no whole number", s)
	}
	return n, nil
}

func seedCredits(s string) (credits.Amount, error) {
	amount, err := credits.ParseAmount(s)
	if err == nil && amount <= 0 || err != nil {
		return 0, fmt.Errorf("%q is no amount of credits above 0, such as 100 or 12.5", s)
	}
	return amount, nil
}

// notActive reads active: false.
func notActive(s string) (bool, error) {
	if s != "true" && s != "false" {
		return false, fmt.Errorf("%q is neither true nor false", s)
	}
	return s == "false", nil
}

func (r *seedReader) product(n *yaml.Node) {
	at := seedPlace{len(r.products), -1, ""}
	r.lines[at] = n.Line
	var p SeedProduct
	r.fields(n, "a product", map[string]func(*yaml.Node){
		"key":           into(r, at, "key", &p.Key, seedText),
		"name":          into(r, at, "name", &p.Name, seedText),
		"description":   into(r, at, "description", &p.Description, seedText),
		"credits":       into(r, at, "credits", &p.Credits, seedCredits),
		"trial_days":    into(r, at, "trial_days", &p.TrialDays, seedNumber),
		"trial_credits": into(r, at, "trial_credits", &p.TrialCredits, seedCredits),
		"order":         into(r, at, "order", &p.Order, seedNumber),
		"active":        into(r, at, "active", &p.Archived, notActive),
		"features": func(n *yaml.Node) {
			at.field = "features"
			r.lines[at] = n.Line
			r.items(n, "features", func(n *yaml.Node) {
				var feature string
				into(r, at, "features", &feature, seedText)(n)
				p.Features = append(p.Features, feature)
			})
		},
		"prices": func(n *yaml.Node) {
			r.items(n, "prices", func(n *yaml.Node) {
				p.Prices = append(p.Prices, r.price(n, seedPlace{len(r.products), len(p.Prices), ""}))
			})
		},
	})
	r.products = append(r.products, p)
}

func (r *seedReader) price(n *yaml.Node, at seedPlace) SeedPrice {
	var p SeedPrice
	var every period
	r.lines[at] = n.Line
	r.fields(n, "a price", map[string]func(*yaml.Node){
		"key":     into(r, at, "key", &p.Key, seedText),
		"price":   into(r, at, "price", &p.Price, parseMoney),
		"every":   into(r, at, "every", &every, parsePeriod),
		"credits": into(r, at, "credits", &p.Credits, seedCredits),
		"active":  into(r, at, "active", &p.Archived, notActive),
	})
	p.Interval, p.IntervalCount = every.interval, every.count
	return p
}

type period struct {
	interval string
	count    int64
}

var periodPattern = regexp.MustCompile(`^(?:([1-9][0-9]{0,3}) +)?(day|week|month|year)s?$`)

// parsePeriod reads how often a price recurs, such as month or 3 months.
func parsePeriod(s string) (period, error) {
	m := periodPattern.FindStringSubmatch(s)
	if m == nil {
		return period{}, fmt.Errorf("%q is no period, such as month, 3 months or year", s)
	}
	p := period{m[2], 1}
	if m[1] != "" {
		p.count, _ = strconv.ParseInt(m[1], 10, 64) // digits by the pattern
	}
	return p, nil
}

var moneyPattern = regexp.MustCompile(`^([0-9]{1,12})(?:\.([0-9]+))? +([A-Za-z]{3})$`)

// parseMoney reads what [Money.String] writes. It takes fewer decimals, too, but not more than the currency has.
func parseMoney(s string) (Money, error) {
	m := moneyPattern.FindStringSubmatch(s)
	if m == nil {
		return Money{}, fmt.Errorf("%q is no price, such as 12.50 USD", s)
	}
	money := Money{Currency: strings.ToLower(m[3])}
	decimals := money.decimals()
	if len(m[2]) > decimals {
		return Money{}, fmt.Errorf("%q has more decimals than the %d of %s", s, decimals, strings.ToUpper(money.Currency))
	}
	money.Amount, _ = strconv.ParseInt(m[1]+m[2]+strings.Repeat("0", decimals-len(m[2])), 10, 64) // at most 15 digits by the pattern
	return money, nil
}
