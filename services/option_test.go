package services_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

func TestRetry_TriesTemporaryErrorsAgain(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		var tries atomic.Int64
		flaky := func(n int64, err error) worker {
			return func(_ context.Context, call *services.Call, _ job) (done, error) {
				require.NoError(t, call.Meter("tokens", 1))
				if tries.Add(1) <= n {
					return done{}, err
				}
				return done{"ok"}, nil
			}
		}
		busy := errors.New("upstream is busy")
		policy := services.Retries{Max: 2, Pause: time.Millisecond}
		s.register("flaky", tokens(), flaky(2, services.Temporary(busy)), services.Retry(policy))
		res, err := s.times("flaky", 5)
		require.NoError(t, err)
		assert.Equal(t, "0.5", res.Charged.String(), "what failed tries have metered does not count")
		assert.EqualValues(t, 3, tries.Swap(0))

		s.register("worse", tokens(), flaky(3, services.Temporary(busy)), services.Retry(policy))
		_, err = s.times("worse", 5)
		require.ErrorIs(t, err, busy)
		assert.EqualValues(t, 3, tries.Swap(0))

		s.register("final", tokens(), flaky(1, busy), services.Retry(policy))
		_, err = s.times("final", 5)
		require.ErrorIs(t, err, busy)
		assert.EqualValues(t, 1, tries.Swap(0), "an error that nobody calls temporary is final")

		policy.If = func(err error) bool { return errors.Is(err, busy) }
		s.register("own", tokens(), flaky(1, busy), services.Retry(policy))
		_, err = s.times("own", 5)
		require.NoError(t, err)
		assert.Equal(t, "9", s.balance(ada))
		assert.Len(t, s.debits(ada), 2)
	})
}

func TestRetry_LeavesAStreamThatHasBegun(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		var tries atomic.Int64
		s.register("talk", services.Free(), func(_ context.Context, call *services.Call, _ job) (done, error) {
			tries.Add(1)
			require.NoError(t, call.Send(word{"so"}))
			return done{}, services.Temporary(errors.New("broken"))
		}, services.Retry(services.Retries{Max: 2, Pause: time.Millisecond}))
		_, err := s.Stream(t.Context(), params(ada, "talk", ""), func(services.Part) error { return nil })
		require.Error(t, err)
		assert.EqualValues(t, 1, tries.Load())
	})
}

func TestCache_AnswersEqualInputs(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.grant(bob, "10")
		var ran atomic.Int64
		counted := func(ctx context.Context, call *services.Call, in job) (done, error) {
			ran.Add(1)
			require.NoError(t, call.Meter("tokens", 2))
			return echo(ctx, call, in)
		}
		s.register("own", tokens(), counted, services.Cache(services.Caching{For: time.Hour}))
		s.register("shared", tokens(), counted, services.Cache(services.Caching{For: time.Hour, Shared: true, Charge: true}))
		ask := func(account, service, text string) services.Result {
			res, err := s.Run(t.Context(), services.RunParams{Account: account, Service: service, Input: job{Text: text, Times: 5}})
			require.NoError(t, err)
			return res
		}
		first, again := ask(ada, "own", "hi"), ask(ada, "own", "hi")
		assert.Equal(t, first.Output, again.Output)
		assert.True(t, again.Cached)
		assert.Equal(t, "0", again.Charged.String())
		assert.False(t, ask(ada, "own", "ho").Cached)
		assert.False(t, ask(bob, "own", "hi").Cached, "answers are the account's own")
		assert.EqualValues(t, 3, ran.Load())
		assert.False(t, ask(ada, "shared", "hi").Cached)
		others := ask(bob, "shared", "hi")
		assert.True(t, others.Cached)
		assert.Equal(t, "1", others.Charged.String(), "2 tokens, as the first call")
		s.clock.Advance(2 * time.Hour)
		assert.False(t, ask(ada, "own", "hi").Cached)
		assert.Equal(t, "6", s.balance(ada))
		assert.True(t, s.calls(bob)[0].Cached)
	})
}

func TestMaxConcurrent_CountsInAllProcesses(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.grant(bob, "10")
		begun, end := make(chan struct{}, 10), make(chan struct{})
		slow := func(ctx context.Context, call *services.Call, in job) (done, error) {
			begun <- struct{}{}
			<-end
			return echo(ctx, call, in)
		}
		other := s.process()
		for _, p := range []*services.Services{s.Services, other} {
			addTo(t, p, "slow", "1", slow, services.MaxConcurrent(1, 2))
		}
		var group errgroup.Group
		begin := func(p *services.Services, account string) {
			group.Go(func() error { _, err := p.Run(context.Background(), params(account, "slow", "")); return err })
			<-begun
		}
		begin(s.Services, ada)
		_, err := other.Run(t.Context(), params(ada, "slow", ""))
		require.ErrorIs(t, err, services.ErrBusy)
		assert.Equal(t, "9 held 1", s.balance(ada), "a refused call sets nothing aside")
		begin(other, bob)
		_, err = s.Run(t.Context(), params("eve", "slow", ""))
		require.ErrorIs(t, err, credits.ErrInsufficient)
		s.grant("eve", "1")
		res := s.send(http.MethodPost, "/api/v1/services/slow", `{"text":"hi"}`, "Authorization", "Bearer eve")
		assert.Equal(t, http.StatusTooManyRequests, res.StatusCode)
		assert.Equal(t, "1", res.Header.Get("Retry-After"))
		close(end)
		require.NoError(t, group.Wait())
		_, err = s.Run(t.Context(), params("eve", "slow", ""))
		require.NoError(t, err)
	})
}

func TestMaxConcurrent_HoldsAgainstManyAtOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		var now, most atomic.Int64
		s.add("free", "0", func(ctx context.Context, call *services.Call, in job) (done, error) {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(20 * time.Millisecond)
			now.Add(-1)
			return echo(ctx, call, in)
		}, services.MaxConcurrent(0, 3))
		var wait sync.WaitGroup
		var refused atomic.Int64
		for range 30 {
			wait.Go(func() {
				if _, err := s.Run(context.Background(), params(ada, "free", "")); errors.Is(err, services.ErrBusy) {
					refused.Add(1)
				} else {
					assert.NoError(t, err)
				}
			})
		}
		wait.Wait()
		assert.LessOrEqual(t, most.Load(), int64(3))
		assert.Positive(t, refused.Load())
	})
}

func TestWrap_ComposesAroundTheWork(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		var order []string
		mark := func(name string) services.Middleware {
			return func(next services.Next) services.Next {
				return func(ctx context.Context, call *services.Call, in any) (any, error) {
					order = append(order, name+" "+in.(job).Text)
					seen, ok := services.CallFrom(ctx)
					assert.True(t, ok)
					assert.Same(t, call, seen)
					out, err := next(ctx, call, in)
					return done{out.(done).Echo + "!"}, err
				}
			}
		}
		s.register("echo", services.Free(), echo, services.Wrap(mark("outer"), mark("inner")))
		res, err := s.times("echo", 0)
		require.NoError(t, err)
		assert.Equal(t, []string{"outer hi", "inner hi"}, order)
		assert.JSONEq(t, `{"echo":"hi!!"}`, string(res.Output))
	})
}

func TestVersions_LiveSideBySide(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		at := func(version, says string, opts ...services.Option) error {
			return services.Register(s.Services, services.Func(services.Info{Name: "echo", Title: "Echo", Version: version}, services.Free(),
				func(context.Context, *services.Call, job) (done, error) { return done{says}, nil }), opts...)
		}
		since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		require.NoError(t, at("1", "old", services.Deprecated(services.Deprecation{Since: since, Sunset: since.AddDate(0, 6, 0), Note: "Use version 2."})))
		require.NoError(t, at("2", "new"))
		require.ErrorContains(t, at("2", "newer"), "taken")
		require.Len(t, s.List(t.Context()), 1)
		assert.Equal(t, []string{"1", "2"}, s.List(t.Context())[0].Versions)
		call := func(query string) *http.Response {
			return s.send(http.MethodPost, "/api/v1/services/echo"+query, `{"text":"hi"}`, "Authorization", "Bearer "+ada)
		}
		assert.Contains(t, text(t, call("").Body), `"echo":"new"`)
		res := call("?version=1")
		assert.Equal(t, "@1767225600", res.Header.Get("Deprecation"))
		assert.Equal(t, "Wed, 01 Jul 2026 00:00:00 GMT", res.Header.Get("Sunset"))
		assert.Contains(t, text(t, res.Body), `"echo":"old"`)
		assert.Equal(t, http.StatusNotFound, call("?version=3").StatusCode)
		assert.Equal(t, "1", s.calls(ada)[0].Version)
		d, err := s.Find(t.Context(), "echo", "1")
		require.NoError(t, err)
		assert.Equal(t, "Use version 2.", d.DeprecationNote)
		s.clock.Advance(200 * 24 * time.Hour)
		assert.Equal(t, http.StatusGone, call("?version=1").StatusCode)
		assert.Equal(t, http.StatusOK, call("").StatusCode)
	})
}

func TestForPlans_LetsOnlyThoseIn(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		cfg := s.config()
		plans := map[string]string{ada: "pro"}
		cfg.Entitled = func(_ context.Context, account, feature string) (bool, error) {
			if account == "down" {
				return false, errors.New("billing is down")
			}
			return plans[account] == feature, nil
		}
		made, err := services.New(cfg)
		require.NoError(t, err)
		addTo(t, made, "pro", "0", echo, services.ForPlans("team", "pro"))
		_, err = made.Run(t.Context(), params(bob, "pro", ""))
		require.ErrorIs(t, err, services.ErrPlan)
		_, err = made.Run(t.Context(), params("down", "pro", ""))
		assert.Equal(t, "internal", code(err))
		_, err = made.Run(t.Context(), params(ada, "pro", "k"))
		require.NoError(t, err)
		plans[ada] = ""
		_, err = made.Run(t.Context(), params(ada, "pro", "k"))
		require.NoError(t, err, "the first answer stays")
		_, err = made.Run(t.Context(), params(ada, "pro", "l"))
		require.ErrorIs(t, err, services.ErrPlan)
		assert.Equal(t, []string{"team", "pro"}, made.List(t.Context())[0].Plans)
	})
}

func TestSettings_CountInEveryProcessWithinSeconds(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "100")
		other := s.process()
		for _, p := range []*services.Services{s.Services, other} {
			addTo(t, p, "echo", "1", echo)
			addTo(t, p, "off", "1", echo, services.Inactive())
		}
		charged := func() string {
			res, err := other.Run(t.Context(), params(ada, "echo", ""))
			require.NoError(t, err)
			return res.Charged.String()
		}
		assert.Equal(t, "1", charged())
		require.NoError(t, s.SetRates(t.Context(), "echo", services.Rates{"call": services.Each(3 * credits.Credit)}))
		res, err := s.Run(t.Context(), params(ada, "echo", ""))
		require.NoError(t, err)
		assert.Equal(t, "3", res.Charged.String(), "at once in this process")
		require.Eventually(t, func() bool { return charged() == "3" }, 10*time.Second, 100*time.Millisecond)
		assert.Equal(t, "3 credits", other.List(t.Context())[0].PriceText)
		require.NoError(t, s.SetEnabled(t.Context(), "echo", new(false)))
		require.NoError(t, s.SetEnabled(t.Context(), "off", new(true)))
		require.Eventually(t, func() bool {
			_, err := other.Run(t.Context(), params(ada, "echo", ""))
			return errors.Is(err, services.ErrInactive)
		}, 10*time.Second, 100*time.Millisecond)
		_, err = other.Run(t.Context(), params(ada, "off", ""))
		require.NoError(t, err)
		all, err := s.Settings(t.Context())
		require.NoError(t, err)
		assert.Equal(t, services.Rates{"call": services.Each(3 * credits.Credit)}, all["echo"].Rates)
		assert.False(t, *all["echo"].Enabled)

		require.NoError(t, s.SetRates(t.Context(), "echo", nil))
		require.NoError(t, s.SetEnabled(t.Context(), "echo", nil))
		res, err = s.Run(t.Context(), params(ada, "echo", ""))
		require.NoError(t, err)
		assert.Equal(t, "1", res.Charged.String(), "as it was registered")
		require.ErrorIs(t, s.SetEnabled(t.Context(), "nobody", nil), services.ErrNotFound)
		require.ErrorIs(t, s.SetRates(t.Context(), "nobody", nil), services.ErrNotFound)
		for _, wrong := range []services.Rates{{"token": services.Each(1)}, {"call": services.Each(-1)}} {
			assert.Equal(t, "invalid", code(s.SetRates(t.Context(), "echo", wrong)))
		}
	})
}

func TestChargeAfter_ChargesInOneStep(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "2")
		s.add("quick", "1", func(ctx context.Context, call *services.Call, in job) (done, error) {
			if in.Times == 5 {
				return done{}, errors.New("broken")
			}
			if in.Times == 1 {
				assert.Equal(t, "2", s.balance(ada), "nothing is set aside")
			}
			return echo(ctx, call, in)
		}, services.ChargeAfter())
		p := params(ada, "quick", "")
		p.Input = job{Text: "hi", Times: 1}
		p.Tags = map[string]string{"project": "alpha"}
		res, err := s.Run(t.Context(), p)
		require.NoError(t, err)
		assert.Equal(t, "1", res.Charged.String())
		assert.Equal(t, "1", res.Balance.String())
		_, err = s.times("quick", 5)
		assert.Equal(t, "execution_failed", code(err))
		assert.Equal(t, "1", s.balance(ada))
		calls := s.calls(ada)
		require.Len(t, calls, 2)
		assert.Equal(t, services.Failed, calls[0].Status)
		assert.Equal(t, s.debits(ada)[0].ID, *calls[1].EntryID)
		assert.Equal(t, map[string]string{"project": "alpha"}, calls[1].Tags)
		_, err = s.Run(t.Context(), params(ada, "quick", "a key"))
		require.NoError(t, err)
		assert.Equal(t, "0", s.balance(ada))
		_, err = s.Run(t.Context(), params(ada, "quick", ""))
		require.ErrorIs(t, err, credits.ErrInsufficient)
		assert.Len(t, s.calls(ada), 3, "who cannot pay does not begin")
	})
}

// Many calls of an account that can pay for some of them: those are charged and answered, and no others.
func TestChargeAfter_NeverGoesBelowZero(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		other := s.process()
		for _, p := range []*services.Services{s.Services, other} {
			addTo(t, p, "quick", "1", echo, services.ChargeAfter())
		}
		var wait sync.WaitGroup
		var answered atomic.Int64
		for i := range 64 {
			wait.Go(func() {
				_, err := []*services.Services{s.Services, other}[i%2].Run(context.Background(), params(ada, "quick", ""))
				if err == nil {
					answered.Add(1)
				} else {
					assert.Equal(t, "insufficient_credits", code(err))
				}
			})
		}
		wait.Wait()
		other.Flush()
		assert.EqualValues(t, 10, answered.Load())
		assert.Equal(t, "0", s.balance(ada))
		assert.Len(t, s.debits(ada), 10)
	})
}
