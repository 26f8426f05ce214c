package credits_test

import (
	"encoding/json"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quickscale/quickscale/credits"
)

func TestParseAmount(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]credits.Amount{
		"0": 0, "-0": 0, "1": 1_000_000, "+1": 1_000_000, "0.5": 500_000, "-12.345678": -12_345_678, "0.000001": 1, "007": 7_000_000,
		"9223372036854.775807": credits.MaxAmount, "-9223372036854.775808": credits.MinAmount,
	} {
		got, err := credits.ParseAmount(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "-", "+", ".5", "5.", "1e3", "1,5", " 1", "0x1", "1.2.3", "--1", "1.0000001", "NaN", "١"} {
		_, err := credits.ParseAmount(text)
		require.ErrorIs(t, err, credits.ErrAmountSyntax, text)
	}
	for _, text := range []string{"9223372036854.775808", "-9223372036854.775809", "99999999999999999999"} {
		_, err := credits.ParseAmount(text)
		require.ErrorIs(t, err, credits.ErrOverflow, text)
	}
	assert.Panics(t, func() { credits.MustAmount("x") })
}

func TestAmount_TextAndJSONRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		a := credits.Amount(rapid.Int64().Draw(rt, "a"))
		parsed, err := credits.ParseAmount(a.String())
		require.NoError(rt, err)
		require.Equal(rt, a, parsed)
		text, err := json.Marshal(map[string]credits.Amount{"a": a})
		require.NoError(rt, err)
		var back map[string]credits.Amount
		require.NoError(rt, json.Unmarshal(text, &back))
		require.Equal(rt, a, back["a"])
		require.NoError(rt, json.Unmarshal([]byte(a.String()), &parsed), "a plain number is taken exactly")
		require.Equal(rt, a, parsed)
	})
	var a credits.Amount
	require.Error(t, json.Unmarshal([]byte(`1e2`), &a))
	require.Error(t, json.Unmarshal([]byte(`true`), &a))
}

func TestAmount_ArithmeticIsExactOrOverflows(t *testing.T) {
	t.Parallel()
	edge := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, 1, -1, int64(credits.MaxAmount), int64(credits.MinAmount), int64(credits.MinAmount) + 1}))
	rapid.Check(t, func(rt *rapid.T) {
		x, y := edge.Draw(rt, "x"), edge.Draw(rt, "y")
		for name, op := range map[string]struct {
			got   func() (credits.Amount, error)
			exact *big.Int
		}{
			"add": {func() (credits.Amount, error) { return credits.Amount(x).Add(credits.Amount(y)) }, new(big.Int).Add(big.NewInt(x), big.NewInt(y))},
			"sub": {func() (credits.Amount, error) { return credits.Amount(x).Sub(credits.Amount(y)) }, new(big.Int).Sub(big.NewInt(x), big.NewInt(y))},
			"mul": {func() (credits.Amount, error) { return credits.Amount(x).Mul(y) }, new(big.Int).Mul(big.NewInt(x), big.NewInt(y))},
		} {
			got, err := op.got()
			if op.exact.IsInt64() {
				require.NoError(rt, err, name)
				require.Equal(rt, op.exact.Int64(), int64(got), name)
			} else {
				require.ErrorIs(rt, err, credits.ErrOverflow, name)
			}
		}
	})
}

func FuzzParseAmount(f *testing.F) {
	for _, text := range []string{"0", "-1.5", "9223372036854.775807", ".", "1e9", "+0.000001"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := credits.ParseAmount(text)
		if err != nil {
			return
		}
		exact, ok := new(big.Rat).SetString(text)
		require.True(t, ok)
		require.Zero(t, exact.Cmp(big.NewRat(int64(a), int64(credits.Credit))))
	})
}
