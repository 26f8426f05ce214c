package services

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/quickscale/quickscale/credits"
)

// PriceKind is how a service is priced.
type PriceKind string

// The kinds of prices.
const (
	PriceFree     PriceKind = "free"
	PriceFixed    PriceKind = "fixed"
	PricePerUnit  PriceKind = "per_unit"
	PriceTable    PriceKind = "table"
	PriceMetered  PriceKind = "metered"
	PriceComputed PriceKind = "computed"
)

// perCall is the unit of a fixed price.
const perCall = "call"

// Rate is what units cost: Amount for every Per of them. What a number of units costs is rounded up to a millionth of a
// credit, for each unit by itself.
type Rate struct {
	Amount credits.Amount `json:"amount"`
	// Per is above zero; 0 means 1.
	Per int64 `json:"per,omitempty"`
}

// Each is the rate of one unit.
func Each(amount credits.Amount) Rate { return Rate{Amount: amount} }

// PerThousand is the rate of a thousand units.
func PerThousand(amount credits.Amount) Rate { return Rate{amount, 1000} }

// PerMillion is the rate of a million units.
func PerMillion(amount credits.Amount) Rate { return Rate{amount, 1_000_000} }

// Rates are the rates of a price by name: the unit, or the operation of a table.
type Rates map[string]Rate

// Units are how many units of each name a call used, or may use at most.
type Units map[string]int64

// errTooMuch: the amount is beyond what a ledger holds.
var errTooMuch = errors.New("services: the cost is too large to be a number of credits")

// cost is what n units cost.
func (r Rate) cost(n int64) (credits.Amount, error) {
	if n < 0 {
		return 0, fmt.Errorf("services: %d units are below zero", n)
	}
	per := uint64(max(r.Per, 1))
	hi, lo := bits.Mul64(uint64(max(r.Amount, 0)), uint64(max(n, 0)))
	lo, carry := bits.Add64(lo, per-1, 0)
	if hi += carry; hi >= per {
		return 0, errTooMuch
	}
	if q, _ := bits.Div64(hi, lo, per); q <= uint64(credits.MaxAmount) {
		return credits.Amount(q), nil
	}
	return 0, errTooMuch
}

// cost is what the units cost together. A unit without a rate is an error.
func (r Rates) cost(u Units) (total credits.Amount, err error) {
	for name, n := range u {
		rate, ok := r[name]
		if !ok {
			return 0, fmt.Errorf("services: the price has no rate %q", name)
		}
		part, err := rate.cost(n)
		if err != nil {
			return 0, err
		}
		if total, err = total.Add(part); err != nil {
			return 0, errTooMuch
		}
	}
	return total, nil
}

// Pricing is how calls are priced. Make one with [Fixed], [PerUnit], [Table], [Metered], [Free] or [Computed].
type Pricing struct {
	kind  PriceKind
	rates Rates
	// in is the type of the input; nil: any.
	in reflect.Type
	// units are those of a call, for metered prices the most; nil for computed ones.
	units   func(in any) (Units, error)
	compute func(in any) (credits.Amount, error)
}

// Kind tells how calls are priced.
func (p Pricing) Kind() PriceKind { return p.kind }

// Rates are a copy of the rates, empty for free and computed prices.
func (p Pricing) Rates() Rates { return maps.Clone(p.rates) }

// Of is what a call with this input costs at these rates, for a metered price at most. in must be of the input's type.
func (p Pricing) Of(in any) (credits.Amount, error) {
	if p.in != nil && reflect.TypeOf(in) != p.in {
		return 0, fmt.Errorf("services: the price is of %s, not of %T", p.in, in)
	}
	amount, _, err := p.of(in, p.rates)
	return amount, err
}

// Free costs nothing. Calls leave an entry of zero, which counts as use.
func Free() Pricing {
	return Pricing{kind: PriceFree, units: func(any) (Units, error) { return nil, nil }}
}

// Fixed costs the same for every call.
func Fixed(amount credits.Amount) Pricing {
	one := Units{perCall: 1}
	return Pricing{kind: PriceFixed, rates: Rates{perCall: {Amount: amount}}, units: func(any) (Units, error) { return one, nil }}
}

// PerUnit costs the rate for each unit of the input, such as a word. count must be quick and without effect.
func PerUnit[In any](unit string, rate Rate, count func(in In) int64) Pricing {
	return Pricing{kind: PricePerUnit, rates: Rates{unit: rate}, in: reflect.TypeFor[In](), units: func(in any) (Units, error) {
		return Units{unit: count(in.(In))}, nil
	}}
}

// Table costs what the table has for the operation that the input asks for.
func Table[In any](costs map[string]credits.Amount, operation func(in In) string) Pricing {
	rates := Rates{}
	for name, amount := range costs {
		rates[name] = Each(amount)
	}
	return Pricing{kind: PriceTable, rates: rates, in: reflect.TypeFor[In](), units: func(in any) (Units, error) {
		return Units{operation(in.(In)): 1}, nil
	}}
}

// Metered costs what the work really uses, as it reports with [Call.Meter]. most are the units that a call with this
// input can use at most: what they cost is set aside before the work, and what the work used is charged after it, never
// more than that.
func Metered[In any](rates Rates, most func(in In) Units) Pricing {
	return Pricing{kind: PriceMetered, rates: maps.Clone(rates), in: reflect.TypeFor[In](), units: func(in any) (Units, error) {
		return most(in.(In)), nil
	}}
}

// Computed costs what a function of the input says, for what no other kind can say. Its price cannot be overridden in
// the database. The function is called with valid input only, and must be quick and without effect.
func Computed[In any](price func(in In) (credits.Amount, error)) Pricing {
	return Pricing{kind: PriceComputed, in: reflect.TypeFor[In](), compute: func(in any) (credits.Amount, error) { return price(in.(In)) }}
}

// check finds what is wrong with a price for inputs of a type.
func (p Pricing) check(in reflect.Type) error {
	switch {
	case p.kind == "":
		return errors.New("it has no price; use Free for none")
	case p.in != nil && p.in != in:
		return fmt.Errorf("its price is of %s, not of its input %s", p.in, in)
	case len(p.rates) == 0 && (p.kind == PriceTable || p.kind == PriceMetered):
		return errors.New("its price has no rates")
	}
	return p.rates.check()
}

func (r Rates) check() error {
	for name, rate := range r {
		if name == "" || len(name) > maxUnit || rate.Amount < 0 || rate.Per < 0 {
			return fmt.Errorf("the rate %q must have a name of at most %d bytes, an amount of zero or more and a Per of zero or more", name, maxUnit)
		}
	}
	return nil
}

// maxUnit bounds the name of a unit, in bytes.
const maxUnit = 100

// of is what a call costs at the given rates, for metered prices at most.
func (p Pricing) of(in any, rates Rates) (amount credits.Amount, units Units, err error) {
	if p.compute != nil {
		amount, err = p.compute(in)
	} else if units, err = p.units(in); err == nil {
		amount, err = rates.cost(units)
	}
	if err == nil && amount < 0 {
		err = fmt.Errorf("%s is below zero", amount)
	}
	return amount, units, err
}

// text says a price in words.
func (p Pricing) text(rates Rates) string {
	switch p.kind {
	case PriceFree:
		return "Free"
	case PriceComputed:
		return "Price depends on the input"
	case PriceFixed:
		return rates[perCall].Amount.String() + plural(" credit", " credits", rates[perCall].Amount.String())
	case PriceTable, PricePerUnit, PriceMetered:
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(rates)) {
		r := rates[name]
		amount := r.Amount.String()
		switch {
		case p.kind == PriceTable:
			parts = append(parts, name+" "+amount)
		case r.Per > 1:
			parts = append(parts, amount+plural(" credit", " credits", amount)+" per "+strconv.FormatInt(r.Per, 10)+" of "+name)
		default:
			parts = append(parts, amount+plural(" credit", " credits", amount)+" per "+name)
		}
	}
	text := strings.Join(parts, ", ")
	switch p.kind {
	case PriceTable:
		return text + " credits"
	case PriceMetered:
		return text + ", by use"
	default:
		return text
	}
}
