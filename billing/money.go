package billing

import (
	"fmt"
	"strconv"
	"strings"
)

// Money is an amount in the smallest unit of its currency: cents of a dollar, whole yen.
type Money struct {
	// Amount counts minor units.
	Amount int64 `json:"amount"`
	// Currency is the ISO 4217 code in lower case, as Stripe writes it.
	Currency string `json:"currency"`
}

// Decimals of the currencies that do not have two (docs.stripe.com/currencies).
var decimals = map[string]int{
	"bif": 0, "clp": 0, "djf": 0, "gnf": 0, "jpy": 0, "kmf": 0, "krw": 0, "mga": 0, "pyg": 0, "rwf": 0, "vnd": 0, "vuv": 0, "xaf": 0, "xof": 0, "xpf": 0,
	"bhd": 3, "jod": 3, "kwd": 3, "omr": 3, "tnd": 3,
}

// unit is how many minor units make one of the currency: 1, 100 or 1000.
func (m Money) unit() int64 {
	unit := int64(1)
	for range m.decimals() {
		unit *= 10
	}
	return unit
}

func (m Money) decimals() int {
	if n, known := decimals[m.Currency]; known {
		return n
	}
	return 2
}

// ParseMoney reads an amount as people write it, such as 12.5 for 12.50 dollars. ok is false for what is none, is not above
// zero, or has more decimals than the currency.
func ParseMoney(text, currency string) (m Money, ok bool) {
	m = Money{Currency: currency}
	whole, fraction, _ := strings.Cut(strings.TrimSpace(text), ".")
	n := m.decimals()
	if whole == "" || len(fraction) > n {
		return m, false
	}
	digits := whole + fraction + strings.Repeat("0", n-len(fraction))
	if strings.Trim(digits, "0123456789") != "" {
		return m, false
	}
	amount, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || amount == 0 {
		return m, false
	}
	m.Amount = amount
	return m, true
}

// Number writes the amount without its currency, as [ParseMoney] reads it.
func (m Money) Number() string {
	number, _, _ := strings.Cut(m.String(), " ")
	return number
}

// String writes the amount with its currency's decimals and code, such as "12.50 USD".
func (m Money) String() string { return m.Decimal() + " " + strings.ToUpper(m.Currency) }

// Decimal writes the amount with its currency's decimals, such as "12.50".
func (m Money) Decimal() string {
	sign, abs := "", uint64(m.Amount) //nolint:gosec // wraps on purpose: the least int64 has no positive twin
	if m.Amount < 0 {
		sign, abs = "-", -abs
	}
	n, unit := m.decimals(), uint64(m.unit()) //nolint:gosec // 1, 100 or 1000
	if n == 0 {
		return fmt.Sprintf("%s%d", sign, abs)
	}
	return fmt.Sprintf("%s%d.%0*d", sign, abs/unit, n, abs%unit)
}
