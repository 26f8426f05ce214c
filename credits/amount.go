package credits

import (
	"bytes"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Amount is an exact number of credits, counted in millionths of a credit. Its range is ±9,223,372,036,854.775807
// credits. As text, in JSON and in forms it is a decimal such as "0.5"; it never passes through a float.
type Amount int64

// Credit is one credit.
const Credit Amount = 1_000_000

const decimals = 6

// MaxAmount and MinAmount bound what an Amount holds.
const (
	MaxAmount Amount = math.MaxInt64
	MinAmount Amount = math.MinInt64
)

// Errors of amounts.
var (
	// ErrOverflow is returned where a result is out of an Amount's range.
	ErrOverflow = errors.New("credits: the amount is out of range")
	// ErrAmountSyntax is returned for text that is no decimal number with at most six decimals.
	ErrAmountSyntax = errors.New("credits: an amount is a decimal number with at most six decimals, such as 12.5")
)

// ParseAmount reads a decimal: an optional sign, digits, and at most six decimals after a point. It takes no exponent,
// no grouping and no spaces. The errors are [ErrAmountSyntax] and [ErrOverflow].
func ParseAmount(text string) (Amount, error) {
	digits, negative := text, false
	if rest, ok := strings.CutPrefix(text, "-"); ok {
		digits, negative = rest, true
	} else if rest, ok := strings.CutPrefix(text, "+"); ok {
		digits = rest
	}
	whole, fraction, point := strings.Cut(digits, ".")
	if whole == "" || (point && fraction == "") || len(fraction) > decimals || !onlyDigits(whole) || !onlyDigits(fraction) {
		return 0, ErrAmountSyntax
	}
	all := whole + fraction + strings.Repeat("0", decimals-len(fraction))
	if negative {
		all = "-" + all
	}
	n, err := strconv.ParseInt(all, 10, 64)
	if err != nil {
		return 0, ErrOverflow
	}
	return Amount(n), nil
}

func onlyDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// MustAmount is [ParseAmount] for constants in code: it panics on what does not parse.
func MustAmount(text string) Amount {
	a, err := ParseAmount(text)
	if err != nil {
		panic(fmt.Sprintf("credits: MustAmount(%q): %v", text, err))
	}
	return a
}

// String is the shortest exact decimal, such as "12.5".
func (a Amount) String() string {
	var buf [24]byte
	return string(a.append(buf[:0]))
}

// append adds the decimal to buf.
func (a Amount) append(buf []byte) []byte {
	n := uint64(a) //nolint:gosec // below zero it wraps around, and is turned back below
	if a < 0 {
		buf, n = append(buf, '-'), -n
	}
	whole, fraction := n/uint64(Credit), n%uint64(Credit)
	buf = strconv.AppendUint(buf, whole, 10)
	if fraction == 0 {
		return buf
	}
	// A one before the fraction keeps its zeros, and then gives its place to the point.
	point := len(buf)
	buf = strconv.AppendUint(buf, uint64(Credit)+fraction, 10)
	buf[point] = '.'
	return bytes.TrimRight(buf, "0")
}

// Add returns a + b, or [ErrOverflow].
func (a Amount) Add(b Amount) (Amount, error) {
	sum := a + b
	if (sum > a) != (b > 0) && b != 0 {
		return 0, ErrOverflow
	}
	return sum, nil
}

// Sub returns a − b, or [ErrOverflow].
func (a Amount) Sub(b Amount) (Amount, error) {
	diff := a - b
	if (diff < a) != (b > 0) && b != 0 {
		return 0, ErrOverflow
	}
	return diff, nil
}

// Mul returns a × n, or [ErrOverflow].
func (a Amount) Mul(n int64) (Amount, error) {
	if a == 0 || n == 0 {
		return 0, nil
	}
	product := a * Amount(n)
	if product/Amount(n) != a || (a == -1 && Amount(n) == MinAmount) || (n == -1 && a == MinAmount) {
		return 0, ErrOverflow
	}
	return product, nil
}

// MarshalJSON implements json.Marshaler: a decimal string.
func (a Amount) MarshalJSON() ([]byte, error) {
	return append(a.append(append(make([]byte, 0, 24), '"')), '"'), nil
}

// UnmarshalJSON implements json.Unmarshaler: a decimal string, or a number that is written as a plain decimal.
func (a *Amount) UnmarshalJSON(data []byte) error {
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	parsed, err := ParseAmount(strings.Trim(string(data), `"`))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (a Amount) MarshalText() ([]byte, error) { return a.append(nil), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Amount) UnmarshalText(text []byte) error {
	parsed, err := ParseAmount(string(text))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// Value implements driver.Valuer: the number of millionths.
func (a Amount) Value() (driver.Value, error) { return int64(a), nil }

// Scan implements sql.Scanner.
func (a *Amount) Scan(src any) error {
	switch v := src.(type) {
	case int64:
		*a = Amount(v)
	case []byte: // PostgreSQL's SUM of bigint is numeric, which lib/pq returns as text
		return a.scanText(string(v))
	case string:
		return a.scanText(v)
	default:
		return fmt.Errorf("credits: cannot scan %T into an amount", src)
	}
	return nil
}

func (a *Amount) scanText(text string) error {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("credits: scan an amount: %w", err)
	}
	*a = Amount(n)
	return nil
}

// MulDiv returns a × n ÷ d, rounded up to the next millionth, away from zero: what a price of a for d units comes to for
// n units, in the favour of who sells. It is the only operation that rounds. The error is [ErrOverflow], also where d is
// not above zero.
func (a Amount) MulDiv(n, d int64) (Amount, error) {
	if d <= 0 {
		return 0, ErrOverflow
	}
	negative := (a < 0) != (n < 0)
	high, low := bits.Mul64(magnitude(int64(a)), magnitude(n))
	divisor := magnitude(d)
	if high >= divisor {
		return 0, ErrOverflow
	}
	quotient, rest := bits.Div64(high, low, divisor)
	if rest > 0 {
		if quotient == math.MaxUint64 {
			return 0, ErrOverflow
		}
		quotient++
	}
	switch {
	case quotient == 0:
		return 0, nil
	case negative && quotient <= 1<<63:
		return Amount(-int64(quotient-1) - 1), nil //nolint:gosec // the case says that it fits
	case !negative && quotient <= math.MaxInt64:
		return Amount(quotient), nil
	}
	return 0, ErrOverflow
}

// magnitude is the absolute value, which of the least number only an unsigned one can hold.
func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n) //nolint:gosec // it wraps around to what is meant
	}
	return uint64(n)
}
