package services_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/services"
)

func TestIdempotency_TheFirstAnswerAgain(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "1")
		s.grant(bob, "1")
		s.add("echo", "0.75", func(_ context.Context, call *services.Call, _ job) (done, error) { return done{call.ID.String()}, nil })
		s.add("other", "0.1", echo)
		first, err := s.Run(t.Context(), params(ada, "echo", "key"))
		require.NoError(t, err)
		other := s.process()
		addTo(t, other, "echo", "0.8", echo, services.Inactive())
		for _, p := range []*services.Services{s.Services, other} {
			again, err := p.Run(t.Context(), services.RunParams{Account: ada, Service: "echo", Input: json.RawMessage(` {"times":0, "text":"hi"}`), IdempotencyKey: "key"})
			require.NoError(t, err, "in another process, at another price, and with too few credits for a second call")
			assert.Equal(t, first, again)
		}
		assert.Equal(t, "0.25", s.balance(ada))

		_, err = s.Run(t.Context(), services.RunParams{Account: ada, Service: "echo", Input: job{Text: "ho"}, IdempotencyKey: "key"})
		assert.Equal(t, "idempotency_mismatch", code(err))
		_, err = s.Run(t.Context(), params(ada, "other", "key"))
		assert.Equal(t, "idempotency_mismatch", code(err), "a key is the account's, not the service's")
		bobs, err := s.Run(t.Context(), params(bob, "echo", "key"))
		require.NoError(t, err)
		assert.NotEqual(t, first.CallID, bobs.CallID, "keys of other accounts are apart")
		assert.Len(t, s.debits(ada), 1)
	})
}

// While a new version is rolled out, a repetition may reach either.
func TestIdempotency_AcrossVersionsOfTheInput(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.add("echo", "1", echo)
		type newer struct {
			Text  string `json:"text"  validate:"required,max=20"`
			Loud  bool   `json:"loud"`
			Times int    `json:"times" validate:"min=0,max=5"`
			Pause *int   `json:"pause"`
		}
		other := s.process()
		price := services.Fixed(credits.Credit)
		require.NoError(t, services.Register(other, services.Func(services.Info{Name: "echo", Title: "Echo"}, price,
			func(_ context.Context, _ *services.Call, in newer) (done, error) { return done{in.Text}, nil })))
		call := func(p *services.Services, input, key string) (services.Result, error) {
			return p.Run(t.Context(), services.RunParams{Account: ada, Service: "echo", Input: json.RawMessage(input), IdempotencyKey: key})
		}
		first, err := call(s.Services, `{"text":"hi"}`, "old first")
		require.NoError(t, err)
		again, err := call(other, `{"text":"hi"}`, "old first")
		require.NoError(t, err)
		first.Balance = again.Balance
		assert.Equal(t, first, again)
		for _, input := range []string{`{"text":"hi","loud":true}`, `{"text":"hi","pause":0}`, `{"text":"ho"}`} {
			_, err = call(other, input, "old first")
			assert.Equal(t, "idempotency_mismatch", code(err), input)
		}
		_, err = call(other, `{"text":"hi","times":2}`, "new first")
		require.NoError(t, err)
		_, err = call(s.Services, `{"text":"hi","times":2}`, "new first")
		require.NoError(t, err)
		assert.Equal(t, "8", s.balance(ada))
	})
}

func TestIdempotency_FiftyAtOnceRunOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		for _, price := range []string{"1", "0"} {
			account, service := "payer-"+price, "echo-"+price
			s.grant(account, "1.5")
			var ran, progress atomic.Int64
			var answers sync.Map
			fn := func(_ context.Context, call *services.Call, _ job) (done, error) {
				ran.Add(1)
				return done{call.ID.String()}, nil
			}
			other := s.process()
			s.add(service, price, fn)
			addTo(t, other, service, price, fn)
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					res, err := []*services.Services{s.Services, other}[i%2].Run(t.Context(), params(account, service, "key"))
					switch {
					case err == nil:
						answers.Store(string(res.Output)+res.CallID.String()+res.Charged.String(), true)
					case errors.Is(err, services.ErrInProgress):
						progress.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			wg.Wait()
			assert.EqualValues(t, 1, ran.Load())
			distinct := 0
			answers.Range(func(any, any) bool { distinct++; return true })
			assert.Equal(t, 1, distinct)
			assert.Less(t, progress.Load(), int64(50))
			assert.Len(t, s.debits(account), 1)
			assert.Len(t, s.calls(account), 1)
		}
		assert.Equal(t, "0.5", s.balance("payer-1"))
	})
}

func TestIdempotency_WhileTheFirstRuns(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "1")
		began, release := make(chan struct{}), make(chan struct{})
		s.add("slow", "1", func(ctx context.Context, call *services.Call, in job) (done, error) {
			close(began)
			<-release
			return echo(ctx, call, in)
		})
		result := make(chan error, 1)
		go func() {
			_, err := s.Run(context.Background(), params(ada, "slow", "key"))
			result <- err
		}()
		<-began
		_, err := s.Run(t.Context(), params(ada, "slow", "key"))
		assert.Equal(t, "call_in_progress", code(err), "and not a lack of credits, which the first call holds")
		_, err = s.Run(t.Context(), services.RunParams{Account: ada, Service: "slow", Input: job{Text: "ho"}, IdempotencyKey: "key"})
		assert.Equal(t, "idempotency_mismatch", code(err))
		close(release)
		require.NoError(t, <-result)
		_, err = s.Run(t.Context(), params(ada, "slow", "key"))
		require.NoError(t, err)
		assert.Len(t, s.debits(ada), 1)
	})
}

func TestIdempotency_AFreeFailureFreesItsKeyAndAChargedOneKeepsIt(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		tries := 0
		flaky := func(ctx context.Context, call *services.Call, in job) (done, error) {
			if tries++; tries == 1 {
				return done{}, services.Failure("Not yet.")
			}
			return echo(ctx, call, in)
		}
		s.add("flaky", "1", flaky)
		_, err := s.Run(t.Context(), params(ada, "flaky", "key"))
		assert.Equal(t, "execution_failed", code(err))
		_, err = s.Run(t.Context(), params(ada, "flaky", "key"))
		require.NoError(t, err)
		assert.Equal(t, "9", s.balance(ada))
		assert.Equal(t, 2, tries)

		tries = 0
		s.add("flaky-kept", "1", flaky, services.ChargeOnFailure())
		_, first := s.Run(t.Context(), params(ada, "flaky-kept", "key-2"))
		_, second := s.Run(t.Context(), params(ada, "flaky-kept", "key-2"))
		assert.Equal(t, 1, tries, "one key is charged once")
		assert.Equal(t, "8", s.balance(ada))
		require.Error(t, second)
		assert.Equal(t, problem.From(first).ErrorMessage(), problem.From(second).ErrorMessage())
		assert.Equal(t, problem.From(first).ErrorDetails(), problem.From(second).ErrorDetails())
	})
}
