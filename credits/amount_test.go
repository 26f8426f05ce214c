package credits_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/problem"
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

func TestAmount_APriceIsRoundedUpAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		price credits.Amount
		n, d  int64
		want  credits.Amount
	}{
		{credits.MustAmount("0.5"), 3, 1000, credits.MustAmount("0.0015")},
		{1, 1, 1000, 1}, // a thousandth of the least amount still costs the least amount
		{1, 1001, 1000, 2},
		{-1, 1, 1000, -1},
		{0, 5, 7, 0},
		{credits.MaxAmount, 1, 1, credits.MaxAmount},
		{credits.MinAmount, 1, 1, credits.MinAmount},
		{credits.MaxAmount, math.MaxInt64, math.MaxInt64, credits.MaxAmount},
	} {
		got, err := test.price.MulDiv(test.n, test.d)
		require.NoError(t, err)
		assert.Equal(t, test.want, got)
	}
	for _, d := range []int64{0, -1} {
		_, err := credits.Credit.MulDiv(1, d)
		require.ErrorIs(t, err, credits.ErrOverflow)
	}
	rapid.Check(t, func(rt *rapid.T) {
		a, n := rapid.Int64().Draw(rt, "price"), rapid.Int64().Draw(rt, "n")
		d := rapid.Int64Range(1, math.MaxInt64).Draw(rt, "d")
		exact := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(a), big.NewInt(n)), big.NewInt(d))
		got, err := credits.Amount(a).MulDiv(n, d)
		want, rest := new(big.Int).QuoRem(exact.Num(), exact.Denom(), new(big.Int))
		if rest.Sign() != 0 {
			want.Add(want, big.NewInt(int64(rest.Sign())))
		}
		if !want.IsInt64() {
			require.ErrorIs(rt, err, credits.ErrOverflow)
			return
		}
		require.NoError(rt, err)
		require.Equal(rt, want.Int64(), int64(got))
	})
}

// Amounts at the edges of the range, in any order, overflow nothing and break nothing.
func TestLedger_TakesAnyAmount(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		l := newLedger(t, db, newClock())
		amounts := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 / 2, math.MaxInt64 - 1, math.MaxInt64}))
		rapid.Check(t, func(rt *rapid.T) {
			account := uuid.NewString()
			var hold uuid.UUID
			for range rapid.IntRange(1, 12).Draw(rt, "operations") {
				amount := credits.Amount(amounts.Draw(rt, "amount"))
				var err error
				switch rapid.IntRange(0, 6).Draw(rt, "operation") {
				case 0, 1:
					_, err = l.Grant(context.Background(), credits.GrantParams{Account: account, Amount: amount, Source: credits.Bonus, Reason: "r"})
				case 2:
					_, err = l.Debit(context.Background(), credits.DebitParams{Account: account, Amount: amount, Reason: "r"})
				case 3:
					var h credits.Hold
					if h, err = l.Reserve(context.Background(), credits.ReserveParams{Account: account, Amount: amount, TTL: time.Hour, Reason: "r"}); err == nil {
						hold = h.ID
					}
				case 4:
					_, err = l.SettleWith(context.Background(), credits.SettleParams{Hold: hold, Amount: amount, Partial: amount%2 == 0})
				case 5:
					_, err = l.Revoke(context.Background(), credits.RevokeParams{Account: account, Amount: amount, IntoDebt: true, Reason: "r"})
				case 6:
					_, err = l.Adjust(context.Background(), credits.AdjustParams{Account: account, Amount: amount, By: "b", Reason: "r"})
				}
				if err != nil && !errors.Is(err, credits.ErrOverflow) {
					require.NotNil(rt, problem.From(err), "%v is no refusal", err)
				}
				_, err = l.Balance(context.Background(), account)
				require.NoError(rt, err)
			}
		})
		check(t, db)
	})
}
