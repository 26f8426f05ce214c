package stripetest

import (
	"fmt"
	"strings"
	"time"
)

// amount writes money for people: 12.50 USD.
func amount(minor int64, currency string) string {
	sign := ""
	if minor < 0 {
		sign, minor = "-", -minor
	}
	switch currency = strings.ToUpper(currency); currency {
	case "JPY", "KRW", "VND", "CLP":
		return fmt.Sprintf("%s%d %s", sign, minor, currency)
	case "KWD", "BHD", "JOD", "OMR", "TND":
		return fmt.Sprintf("%s%d.%03d %s", sign, minor/1000, minor%1000, currency)
	}
	return fmt.Sprintf("%s%d.%02d %s", sign, minor/100, minor%100, currency)
}

// share is part of whole of an amount, rounded to the nearest, half away from zero.
func share(amount, part, whole int64) int64 {
	if amount < 0 {
		return -share(-amount, part, whole)
	}
	return (2*amount*part + whole) / (2 * whole)
}

// addMonths is t so many months later, on the month's last day where it has no such day.
func addMonths(t time.Time, months int) time.Time {
	y, m, d := t.Date()
	first := time.Date(y, m+time.Month(months), 1, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
	return first.AddDate(0, 0, min(d, first.AddDate(0, 1, -1).Day())-1)
}

// period is how long a recurring price lasts each time.
type period struct {
	interval string
	count    int
}

func periodOf(price object) period {
	r := fields(price["recurring"])
	return period{text(r["interval"]), int(number(r["interval_count"]))}
}

// after is the first end of a period that is later than at, counted from the anchor
// (docs.stripe.com/billing/subscriptions/billing-cycle).
func (p period) after(anchor, at time.Time) time.Time {
	step := func(n int) time.Time {
		switch p.interval {
		case "day":
			return anchor.AddDate(0, 0, n*p.count)
		case "week":
			return anchor.AddDate(0, 0, 7*n*p.count)
		case "year":
			return addMonths(anchor, 12*n*p.count)
		default:
			return addMonths(anchor, n*p.count)
		}
	}
	// The estimate is never too high: no period is longer than its longest form.
	days := map[string]float64{"day": 1, "week": 7, "month": 31, "year": 366}[p.interval] * float64(p.count)
	n := max(0, int(at.Sub(anchor).Hours()/24/days)-1)
	for !step(n).After(at) {
		n++
	}
	return step(n)
}
