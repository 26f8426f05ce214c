package services_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/services"
)

// tokens is a metered price of 0.5 credits a token, of which a call may use Times.
func tokens() services.Pricing {
	return services.Metered(services.Rates{"tokens": services.Each(credits.MustAmount("0.5"))}, func(in job) services.Units {
		return services.Units{"tokens": int64(in.Times)}
	})
}

func (s *shop) register(name string, pricing services.Pricing, fn worker, opts ...services.Option) {
	s.t.Helper()
	require.NoError(s.t, services.Register(s.Services, services.Func(services.Info{Name: name, Title: "Title"}, pricing, fn), opts...))
}

func (s *shop) times(service string, n int) (services.Result, error) {
	return s.Run(context.Background(), services.RunParams{Account: ada, Service: service, Input: job{Text: "hi", Times: n}})
}

func uses(n int64) worker {
	return func(_ context.Context, call *services.Call, _ job) (done, error) {
		return done{"ok"}, call.Meter("tokens", n)
	}
}

func TestPricing_QuotesBeforeTheRun(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		half := credits.MustAmount("0.5")
		s.register("free", services.Free(), echo)
		s.register("fixed", services.Fixed(half), echo)
		s.register("unit", services.PerUnit("characters", services.PerThousand(credits.MustAmount("0.0001")), func(in job) int64 { return int64(len(in.Text)) }), echo)
		s.register("table", services.Table(map[string]credits.Amount{"hi": half, "ho": credits.Credit}, func(in job) string { return in.Text }), echo)
		s.register("metered", tokens(), uses(1))
		s.register("computed", services.Computed(func(in job) (credits.Amount, error) { return credits.Amount(len(in.Text)), nil }), echo)
		for name, want := range map[string]struct {
			amount, text string
			exact        bool
			units        services.Units
		}{
			"free":     {"0", "Free", true, nil},
			"fixed":    {"0.5", "0.5 credits", true, services.Units{"call": 1}},
			"unit":     {"0.000001", "0.0001 credits per 1000 of characters", true, services.Units{"characters": 2}},
			"table":    {"0.5", "hi 0.5, ho 1 credits", true, services.Units{"hi": 1}},
			"metered":  {"2", "0.5 credits per tokens, by use", false, services.Units{"tokens": 4}},
			"computed": {"0.000002", "Price depends on the input", true, nil},
		} {
			q, err := s.Quote(t.Context(), services.QuoteParams{Service: name, Input: job{Text: "hi", Times: 4}})
			require.NoError(t, err, name)
			assert.Equal(t, want.amount, q.Credits.String(), name)
			assert.Equal(t, want.exact, q.Exact, name)
			assert.Equal(t, want.units, q.Units, name)
			d, err := s.Find(t.Context(), name, "")
			require.NoError(t, err)
			assert.Equal(t, want.text, d.PriceText, name)
		}
		_, err := s.Quote(t.Context(), services.QuoteParams{Service: "table", Input: job{Text: "nothing"}})
		require.ErrorContains(t, err, `no rate "nothing"`)
		_, err = s.Quote(t.Context(), services.QuoteParams{Service: "nobody"})
		require.ErrorIs(t, err, services.ErrNotFound)
		_, err = s.Quote(t.Context(), services.QuoteParams{Service: "fixed", Input: job{}})
		assert.Contains(t, problem.FieldsOf(err), "text")
		assert.Empty(t, s.calls(ada), "a quote is not a call")
	})
}

// A rate is rounded up once, exactly, and what no ledger could hold is an error and never a wrong number.
func TestRate_RoundsUpExactly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		amount := credits.Amount(rapid.Int64Range(0, 1_000_000_000).Draw(t, "amount"))
		per := rapid.Int64Range(1, 1_000_000).Draw(t, "per")
		n := rapid.Int64Range(0, 1_000_000).Draw(t, "n")
		p := services.PerUnit("u", services.Rate{Amount: amount, Per: per}, func(int64) int64 { return n })
		got, err := p.Of(int64(0))
		require.NoError(t, err)
		want := (int64(amount)*n + per - 1) / per
		assert.Equal(t, want, int64(got))
	})
	for _, rate := range []services.Rate{{Amount: credits.MaxAmount}, {Amount: credits.MaxAmount, Per: 2}} {
		_, err := services.PerUnit("u", rate, func(int64) int64 { return math.MaxInt64 }).Of(int64(0))
		require.ErrorContains(t, err, "too large")
	}
	_, err := services.PerUnit("u", services.Each(1), func(int64) int64 { return -1 }).Of(int64(0))
	require.ErrorContains(t, err, "below zero")
}

func TestMetered_ChargesWhatWasUsed(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.register("llm", tokens(), func(_ context.Context, call *services.Call, _ job) (done, error) {
			assert.Equal(t, "7.5 held 2.5", s.balance(ada), "the most is set aside")
			require.NoError(t, call.Meter("tokens", 2))
			require.NoError(t, call.Meter("tokens", 1))
			units, cost := call.Used()
			assert.Equal(t, services.Units{"tokens": 3}, units)
			assert.Equal(t, "1.5", cost.String())
			require.ErrorContains(t, call.Meter("pages", 1), `no rate "pages"`)
			require.Error(t, call.Meter("tokens", -1))
			require.Error(t, call.Charge(0), "a metered call costs what it meters")
			return done{"ok"}, nil
		})
		res, err := s.times("llm", 5)
		require.NoError(t, err)
		assert.Equal(t, "1.5", res.Charged.String())
		assert.Equal(t, services.Units{"tokens": 3}, res.Units)
		assert.Equal(t, "8.5", s.balance(ada))
		record := s.calls(ada)[0]
		assert.Equal(t, "2.5", record.Price.String())
		assert.Equal(t, "1.5", record.Charged.String())
		assert.Equal(t, services.Units{"tokens": 3}, record.Units)

		s.grant(bob, "2")
		_, err = s.Run(t.Context(), services.RunParams{Account: bob, Service: "llm", Input: job{Text: "hi", Times: 5}})
		require.ErrorIs(t, err, credits.ErrInsufficient, "who cannot cover the most does not begin")
	})
}

func TestMetered_NeverCostsMoreThanTheQuote(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.register("returns", tokens(), func(ctx context.Context, call *services.Call, _ job) (done, error) {
			require.ErrorIs(t, call.Meter("tokens", 3), services.ErrOutOfCredits)
			<-ctx.Done()
			assert.ErrorIs(t, context.Cause(ctx), services.ErrOutOfCredits)
			return done{"half"}, nil
		})
		res, err := s.times("returns", 2)
		require.NoError(t, err)
		assert.JSONEq(t, `{"echo":"half"}`, string(res.Output))
		assert.Equal(t, "out_of_credits", res.Incomplete.Code)
		assert.Equal(t, "1", res.Charged.String(), "it meters 1.5, and the quote was 1")
		assert.Equal(t, services.PartlySucceeded, s.calls(ada)[0].Status)

		s.register("fails", tokens(), uses(3))
		_, err = s.times("fails", 2)
		assert.Equal(t, "out_of_credits", code(err))
		assert.Equal(t, "9", s.balance(ada), "nothing came of it, so nothing is charged")
	})
}

func TestStartWith_SetsAsideWhatThereIs(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "1.5")
		s.register("llm", tokens(), uses(2), services.StartWith(credits.Credit))
		res, err := s.times("llm", 5)
		require.NoError(t, err, "2.5 at most, and 1.5 are there")
		assert.Equal(t, "1", res.Charged.String())
		assert.Equal(t, "1.5", s.calls(ada)[0].Price.String())
		_, err = s.times("llm", 5)
		require.ErrorIs(t, err, credits.ErrInsufficient, "0.5 is less than it starts with")
		assert.Equal(t, "0.5", s.balance(ada))
	})
}

func TestPartial_ChargesForWhatThereIs(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.register("batch", services.Fixed(4*credits.Credit), func(_ context.Context, call *services.Call, in job) (done, error) {
			if in.Times == 0 {
				return done{"some"}, services.Partial("Half of the rows were read.")
			}
			require.Error(t, call.Charge(5*credits.Credit), "the quote is the most")
			require.Error(t, call.Charge(-1))
			require.NoError(t, call.Charge(credits.Credit))
			return done{"some"}, services.Partial("A quarter of the rows were read.")
		})
		for n, want := range []string{"4", "1"} {
			res, err := s.times("batch", n)
			require.NoError(t, err)
			assert.Equal(t, want, res.Charged.String())
			assert.Equal(t, "partial", res.Incomplete.Code)
			assert.Contains(t, res.Incomplete.Message, "rows were read.")
			assert.JSONEq(t, `{"echo":"some"}`, string(res.Output))
		}
		assert.Equal(t, "5", s.balance(ada))
		p := params(ada, "batch", "key")
		first, err := s.Run(t.Context(), p)
		require.NoError(t, err)
		again, err := s.Run(t.Context(), p)
		require.NoError(t, err)
		assert.Equal(t, first.Incomplete, again.Incomplete)
		assert.Equal(t, first.CallID, again.CallID)
		assert.Equal(t, "1", s.balance(ada))
	})
}

func TestChargeOnFailure_OfAMeteredPriceTakesWhatWasUsed(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		fails := func(_ context.Context, call *services.Call, _ job) (done, error) {
			require.NoError(t, call.Meter("tokens", 1))
			return done{}, errors.New("broken")
		}
		s.register("kind", tokens(), fails)
		s.register("strict", tokens(), fails, services.ChargeOnFailure())
		_, err := s.times("kind", 5)
		assert.Equal(t, "execution_failed", code(err))
		assert.Equal(t, "10", s.balance(ada))
		_, err = s.times("strict", 5)
		failure, ok := errors.AsType[*services.CallError](err)
		require.True(t, ok)
		assert.Equal(t, "0.5", failure.Charged.String())
		assert.Equal(t, "9.5", s.balance(ada))
	})
}

func TestMeter_OfOtherPricesRecordsUnits(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.register("free", services.Free(), uses(7))
		res, err := s.times("free", 0)
		require.NoError(t, err)
		assert.Equal(t, services.Units{"tokens": 7}, res.Units)
		assert.Equal(t, services.Units{"tokens": 7}, s.calls(ada)[0].Units)
	})
}

// What a service does after it has returned changes nothing.
func TestMeter_EndsWithTheCall(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		late := make(chan error, 3)
		s.register("slow", tokens(), func(_ context.Context, call *services.Call, _ job) (done, error) {
			go func() {
				for s.calls(ada)[0].FinishedAt == nil {
					time.Sleep(time.Millisecond)
				}
				late <- call.Meter("tokens", 1)
				late <- call.Charge(0)
			}()
			return done{}, nil
		})
		_, err := s.times("slow", 5)
		require.NoError(t, err)
		require.Error(t, <-late)
		require.Error(t, <-late)
		assert.Equal(t, "10", s.balance(ada))
	})
}

func TestRegister_TellsWhatIsWrongWithPricesAndOptions(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		type other struct{}
		for want, r := range map[string]struct {
			pricing services.Pricing
			opts    []services.Option
		}{
			"no price":        {},
			"not of its inpu": {pricing: services.Computed(func(other) (credits.Amount, error) { return 0, nil })},
			"no rates":        {pricing: services.Table(nil, func(job) string { return "" })},
			"zero or more":    {pricing: services.Fixed(-1)},
			"negative number": {services.Free(), []services.Option{services.MaxConcurrent(-1, 0)}},
			"0 to 10 tries":   {services.Free(), []services.Option{services.Retry(services.Retries{Max: 11})}},
			"Cache needs":     {services.Free(), []services.Option{services.Cache(services.Caching{Shared: true})}},
			"needs Since":     {services.Free(), []services.Option{services.Deprecated(services.Deprecation{})}},
			"StartWith":       {services.Free(), []services.Option{services.StartWith(1)}},
			"MaxInput":        {services.Free(), []services.Option{services.MaxInput(-1)}},
			"Config.Jobs":     {services.Free(), []services.Option{services.Background()}},
			"Config.Entitled": {services.Free(), []services.Option{services.ForPlans("pro")}},
		} {
			plain, err := services.New(services.Config{DB: s.db.Writer(), Ledger: s.ledger, User: nobody, API: nobodyCalls})
			require.NoError(t, err)
			err = services.Register(plain, services.Func(services.Info{Name: "x", Title: "X"}, r.pricing, echo), r.opts...)
			require.ErrorContains(t, err, want)
		}
	})
}

// Execute can be tested without a ledger.
func TestNewCall_CountsAndChargesNothing(t *testing.T) {
	t.Parallel()
	call := services.NewCall("llm", ada)
	out, err := uses(3)(t.Context(), call, job{})
	require.NoError(t, err)
	assert.Equal(t, done{"ok"}, out)
	units, cost := call.Used()
	assert.Equal(t, services.Units{"tokens": 3}, units)
	assert.Zero(t, cost)
	assert.False(t, call.Streaming())
	require.NoError(t, call.Send(out))
}
