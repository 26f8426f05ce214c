package services_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/services"
)

func TestRun_ChargesWhatSucceeds(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		var seen services.Call
		s.add("echo", "0.5", func(ctx context.Context, call *services.Call, in job) (done, error) {
			seen = *call
			assert.Equal(t, "9.5 held 0.5", s.balance(ada), "the price is set aside before the work")
			assert.Equal(t, services.Running, s.calls(ada)[0].Status)
			return echo(ctx, call, in)
		})
		s.clock.Advance(time.Second)
		res, err := s.Run(t.Context(), services.RunParams{Account: ada, Service: "echo", Input: json.RawMessage(`{"text":"hi","times":2}`)})
		require.NoError(t, err)
		assert.JSONEq(t, `{"echo":"hihi"}`, string(res.Output))
		assert.Equal(t, "0.5", res.Charged.String())
		assert.Equal(t, "9.5", res.Balance.String())
		assert.Equal(t, "9.5", s.balance(ada))
		assert.Equal(t, []any{res.CallID, "echo", "1", ada}, []any{seen.ID, seen.Service, seen.Version, seen.Account})
		assert.NotNil(t, seen.Logger)

		calls, debits := s.calls(ada), s.debits(ada)
		require.Len(t, calls, 1)
		require.Len(t, debits, 1)
		assert.Equal(t, services.Record{ID: res.CallID, Account: ada, Service: "echo", Version: "1", Status: services.Succeeded, Price: 500_000, Charged: 500_000,
			EntryID: &debits[0].ID, CreatedAt: s.clock.Now(), StartedAt: calls[0].StartedAt, FinishedAt: calls[0].FinishedAt, LatencyMS: calls[0].LatencyMS}, calls[0])
		assert.Equal(t, "Service: Echo", debits[0].Reason)
		assert.Contains(t, debits[0].Reference, res.CallID.String())
		var stored string
		require.NoError(t, s.db.Writer().Get(&stored, "SELECT fingerprint || COALESCE(output, '') || COALESCE(input, '') || error_text FROM qs_service_calls"))
		assert.NotContains(t, stored, `hi`, "neither inputs are stored nor outputs that nobody can ask for")
	})
}

func TestRun_TakesAValueOfTheInput(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("echo", "0", echo)
		res, err := s.Run(t.Context(), services.RunParams{Account: ada, Service: "echo", Input: job{Text: "hi"}})
		require.NoError(t, err)
		assert.JSONEq(t, `{"echo":"hi"}`, string(res.Output))
		_, err = s.Run(t.Context(), services.RunParams{Account: ada, Service: "echo", Input: job{Text: strings.Repeat("x", 21)}})
		assert.Equal(t, "This must be at most 20 characters long.", problem.FieldsOf(err)["text"])
		_, err = s.Run(t.Context(), services.RunParams{Account: ada, Service: "echo", Input: 5})
		require.ErrorContains(t, err, "not int")
	})
}

func TestRun_FreeLeavesAZeroEntry(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("free", "0", echo)
		res, err := s.Run(t.Context(), params(ada, "free", ""))
		require.NoError(t, err)
		assert.Zero(t, res.Charged)
		debits := s.debits(ada)
		require.Len(t, debits, 1)
		assert.Zero(t, debits[0].Amount)
		assert.Equal(t, debits[0].ID, *s.calls(ada)[0].EntryID)
	})
}

func TestRun_RefusedBeforeAnyCharge(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "1")
		never := func(context.Context, *services.Call, job) (done, error) {
			t.Error("it ran")
			return done{}, nil
		}
		s.add("dear", "1.000001", never)
		s.add("off", "0.1", never, services.Inactive())
		s.add("off-dear", "5", never, services.Inactive())
		register := func(name string, price func(job) (credits.Amount, error)) {
			require.NoError(t, services.Register(s.Services, services.Func(services.Info{Name: name, Title: "T"}, services.Computed(price), never)))
		}
		register("negative", func(job) (credits.Amount, error) { return -1, nil })
		register("unpriced", func(job) (credits.Amount, error) { return 0, errors.New("secret tariff") })
		register("priced-out", func(job) (credits.Amount, error) { return 0, services.Failure("Nobody can pay this.") })
		for name, c := range map[string]struct {
			p    services.RunParams
			code string
		}{
			"too few credits":     {params(ada, "dear", ""), "insufficient_credits"},
			"too few with a key":  {params(ada, "dear", "k"), "insufficient_credits"},
			"unknown":             {params(ada, "nothing", ""), "not_found"},
			"inactive":            {params(ada, "off", ""), "service_inactive"},
			"inactive first":      {params(ada, "off-dear", ""), "service_inactive"},
			"invalid":             {services.RunParams{Account: ada, Service: "dear", Input: job{}}, "invalid"},
			"malformed":           {services.RunParams{Account: ada, Service: "dear", Input: json.RawMessage(`{`)}, "malformed"},
			"negative price":      {params(ada, "negative", ""), "internal"},
			"no price":            {params(ada, "unpriced", ""), "internal"},
			"refused by price":    {params(ada, "priced-out", ""), "execution_failed"},
			"no account":          {params("", "dear", ""), "invalid"},
			"long account":        {params(strings.Repeat("a", 201), "dear", ""), "invalid"},
			"long key":            {params(ada, "dear", strings.Repeat("k", 256)), "invalid"},
			"key with control":    {params(ada, "dear", "a\x00b"), "invalid"},
			"key that is no text": {params(ada, "dear", "a\xffb"), "invalid"},
		} {
			_, err := s.Run(t.Context(), c.p)
			assert.Equal(t, c.code, code(err), "%s: %v", name, err)
		}
		_, err := s.Run(t.Context(), params(ada, "dear", ""))
		short, ok := errors.AsType[*credits.InsufficientError](err)
		require.True(t, ok)
		assert.Equal(t, "0.000001", short.Shortfall().String())
		assert.Empty(t, s.calls(""), "nothing is recorded")
		assert.Empty(t, s.debits(ada))
		assert.Equal(t, "1", s.balance(ada))
	})
}

func TestRun_FailureIsReturned(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		cases := map[string]struct {
			fn      worker
			code    string
			message string
		}{
			"error": {func(context.Context, *services.Call, job) (done, error) { return done{}, errors.New("pq: secret") }, "execution_failed", "The service failed."},
			"failure": {func(context.Context, *services.Call, job) (done, error) {
				return done{}, services.Failure("No such place.")
			}, "execution_failed", "No such place."},
			"panic": {func(context.Context, *services.Call, job) (done, error) { panic("secret state") }, "execution_failed", "The service failed."},
			"timeout": {func(ctx context.Context, _ *services.Call, _ job) (done, error) {
				<-ctx.Done()
				return done{}, ctx.Err()
			}, "timeout", "did not finish within 50ms"},
			"own": {func(context.Context, *services.Call, job) (done, error) {
				return done{}, problem.Invalid(map[string]string{"text": "Not this one."})
			}, "invalid", "another look"},
		}
		for name, c := range cases {
			for _, charged := range []bool{false, true} {
				service, opts, before := name, []services.Option{}, s.balance(ada)
				if name == "timeout" { // the others have all the time that a busy machine takes
					opts = append(opts, services.Timeout(50*time.Millisecond))
				}
				if charged {
					service, opts = name+"-charged", append(opts, services.ChargeOnFailure())
				}
				s.add(service, "0.5", c.fn, opts...)
				_, err := s.Run(t.Context(), params(ada, service, ""))
				failed, ok := errors.AsType[*services.CallError](err)
				require.True(t, ok, "%s: %v", service, err)
				assert.Equal(t, c.code, code(err), service)
				assert.Contains(t, failed.ErrorMessage(), c.message, service)
				assert.NotContains(t, failed.ErrorMessage(), "secret")
				assert.Equal(t, failed.Call, failed.ErrorDetails()["call_id"])
				record := s.calls(ada)[0]
				assert.Equal(t, services.Failed, record.Status)
				assert.Equal(t, c.code, record.ErrorCode)
				assert.NotContains(t, record.ErrorText, "secret")
				assert.NotNil(t, record.FinishedAt)
				if charged {
					assert.NotEqual(t, before, s.balance(ada), service)
					assert.Equal(t, "0.5", record.Charged.String())
					assert.Contains(t, failed.ErrorMessage(), "cost 0.5 credits")
				} else {
					assert.Equal(t, before, s.balance(ada), service)
					assert.Nil(t, record.EntryID)
					assert.Contains(t, failed.ErrorMessage(), "Nothing was charged")
				}
			}
		}
		assert.Equal(t, "7.5", s.balance(ada), "five failures that keep their charge")
		assert.Equal(t, "Not this one.", problem.FieldsOf(errors.Join(func() error {
			_, err := s.Run(t.Context(), params(ada, "own", ""))
			return err
		}()))["text"], "a service's own error keeps its fields")
	})
}

func TestRun_AFreeFailureLeavesNoEntry(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		fail := func(context.Context, *services.Call, job) (done, error) { return done{}, errors.New("no") }
		s.add("free", "0", fail)
		s.add("free-kept", "0", fail, services.ChargeOnFailure())
		_, err := s.Run(t.Context(), params(ada, "free", ""))
		require.Error(t, err)
		assert.Empty(t, s.debits(ada))
		_, err = s.Run(t.Context(), params(ada, "free-kept", ""))
		require.Error(t, err)
		assert.Len(t, s.debits(ada), 1)
	})
}

// unencodable fails when it is written as JSON.
type unencodable struct {
	Value any `json:"value"`
}

func TestRun_AnOutputThatJSONCannotCarryIsAFailure(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		info := services.Info{Name: "odd", Title: "Odd"}
		require.NoError(t, services.Register(s.Services, services.Func(info, services.Fixed(credits.Credit),
			func(context.Context, *services.Call, job) (unencodable, error) {
				return unencodable{make(chan int)}, nil
			})))
		_, err := s.Run(t.Context(), params(ada, "odd", ""))
		assert.Equal(t, "execution_failed", code(err))
		assert.Equal(t, "10", s.balance(ada))
	})
}

// codeless is an error to be shown that has forgotten its code.
type codeless struct{}

func (codeless) Error() string                { return "codeless" }
func (codeless) ErrorCode() string            { return "" }
func (codeless) ErrorMessage() string         { return "No code." }
func (codeless) ErrorDetails() map[string]any { return nil }

// What a service passes on from elsewhere is any bytes, and a database that refused them would keep the charge open.
func TestRun_TextThatADatabaseDoesNotTakeIsMended(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		fail := func(err error) worker {
			return func(context.Context, *services.Call, job) (done, error) { return done{}, err }
		}
		s.add("zero", "1", fail(services.Failure("upstream said \"\x00\"")), services.ChargeOnFailure())
		s.add("latin", "1", fail(services.Failure("caf\xe9")))
		s.add("codeless", "1", fail(codeless{}))
		for name, message := range map[string]string{"zero": "upstream said \"\uFFFD\"", "latin": "caf\uFFFD", "codeless": "The service failed."} {
			_, err := s.Run(t.Context(), params(ada, name, ""))
			require.Equal(t, "execution_failed", code(err), "%s: %v", name, err)
			assert.Contains(t, problem.From(err).ErrorMessage(), message)
		}
		assert.Equal(t, "9", s.balance(ada))

		info := services.Info{Name: "raw", Title: "Raw"}
		require.NoError(t, services.Register(s.Services, services.Func(info, services.Fixed(credits.Credit),
			func(context.Context, *services.Call, job) (unencodable, error) {
				return unencodable{json.RawMessage("\"caf\xe9\"")}, nil
			})))
		res, err := s.Run(t.Context(), params(ada, "raw", "key"))
		require.NoError(t, err)
		assert.JSONEq(t, "{\"value\":\"caf\uFFFD\"}", string(res.Output))
		again, err := s.Run(t.Context(), params(ada, "raw", "key"))
		require.NoError(t, err)
		assert.Equal(t, res, again)
		assert.Equal(t, "8", s.balance(ada))
	})
}

func TestRun_DoesNotWaitForWorkThatIgnoresItsTimeLimit(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "1")
		release, ended := make(chan struct{}), make(chan struct{})
		s.add("stubborn", "1", func(context.Context, *services.Call, job) (done, error) {
			defer close(ended)
			<-release
			return done{"late"}, nil
		}, services.Timeout(30*time.Millisecond))
		_, err := s.Run(t.Context(), params(ada, "stubborn", ""))
		assert.Equal(t, "timeout", code(err))
		assert.Equal(t, "1", s.balance(ada))
		close(release)
		<-ended
		assert.Equal(t, "1", s.balance(ada), "what it returns later changes nothing")
		assert.Equal(t, services.Failed, s.calls(ada)[0].Status)
	})
}

func TestRun_WhenTheCallerIsGone(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		began := make(chan struct{})
		gone := func(result error) worker {
			return func(ctx context.Context, _ *services.Call, _ job) (done, error) {
				began <- struct{}{}
				<-ctx.Done()
				return done{"done"}, result
			}
		}
		s.add("finishes", "1", gone(nil))
		s.add("gives-up", "1", gone(context.Canceled))
		for service, want := range map[string]string{"finishes": "", "gives-up": "canceled"} {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-began
				cancel()
			}()
			_, err := s.Run(ctx, params(ada, service, ""))
			assert.Equal(t, want, code(err), service)
		}
		assert.Equal(t, "9", s.balance(ada), "work that succeeds is charged although nobody waits for it")
		for _, c := range s.calls(ada) {
			assert.NotEqual(t, services.Running, c.Status)
		}
	})
}

func TestRun_TooFewCreditsForAll(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		var ran, ok, short atomic.Int64
		s.add("echo", "0.75", func(ctx context.Context, call *services.Call, in job) (done, error) {
			ran.Add(1)
			return echo(ctx, call, in)
		})
		other := s.process()
		addTo(t, other, "echo", "0.75", func(ctx context.Context, call *services.Call, in job) (done, error) {
			ran.Add(1)
			return echo(ctx, call, in)
		})
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				p := []*services.Services{s.Services, other}[i%2]
				switch _, err := p.Run(t.Context(), params(ada, "echo", "")); {
				case err == nil:
					ok.Add(1)
				case errors.Is(err, credits.ErrInsufficient):
					short.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 13, ok.Load())
		assert.EqualValues(t, 51, short.Load())
		assert.EqualValues(t, 13, ran.Load(), "nothing runs free")
		assert.Equal(t, "0.25", s.balance(ada))
		assert.Len(t, s.debits(ada), 13)
		assert.Len(t, s.calls(ada), 13)
	})
}

func TestRun_ALedgerThatRefusesTheChargeMakesTheCallFail(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.add("paid", "1", echo)
		s.add("free", "0", echo)
		s.ledger.set(func(_ context.Context, _ *sqlx.Tx, step string) error {
			if step == "settle" || step == "debit" {
				return problem.New("account_frozen", "Frozen.")
			}
			return nil
		})
		for _, service := range []string{"paid", "free"} {
			_, err := s.Run(t.Context(), params(ada, service, ""))
			assert.Equal(t, "account_frozen", code(err))
			assert.Equal(t, services.Failed, s.calls(ada)[0].Status)
			assert.Equal(t, "Frozen.", s.calls(ada)[0].ErrorText)
		}
		assert.Equal(t, "10", s.balance(ada))
		assert.Empty(t, s.debits(ada))
	})
}
