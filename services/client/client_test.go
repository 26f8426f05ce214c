package client_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/services/client"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(envDatabase); url != "" {
		serve(url) // a process of its own, that a test kills
		return
	}
	dbtest.Main(m)
}

var schema = dbtest.Schema{Name: "services of a client", Migrate: func(ctx context.Context, db *database.DB) error {
	engine, err := jobs.New(jobs.Config{DB: db})
	if err != nil {
		return err
	}
	return errors.Join(engine.Migrate(ctx), database.Migrate(ctx, db, credits.Migrations(), services.Migrations()))
}}

const ada = "ada"

type line struct {
	Text string `json:"text" validate:"required,max=40"`
}

// shop is an application whose answers a test can spoil.
type shop struct {
	*services.Services

	t      testing.TB
	ledger *credits.Ledger
	server *httptest.Server

	mu   sync.Mutex
	keys []string // of the requests, in their order
	// spoil answers the nth request in the shop's place, or lets it through with false.
	spoil func(n int, w http.ResponseWriter, r *http.Request, through http.Handler) bool
}

// wire makes the services of a database.
func wire(db *database.DB, engine *jobs.Engine, clock func() time.Time) (*services.Services, *credits.Ledger, error) {
	ledger, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader(), Clock: clock})
	if err != nil {
		return nil, nil, err
	}
	cfg := services.Config{
		DB: db.Writer(), ReadDB: db.Reader(), Ledger: ledger, Clock: clock, Logger: slog.New(slog.DiscardHandler),
		User: func(*http.Request) (services.Caller, bool) { return services.Caller{}, false },
		API: func(r *http.Request) (services.Caller, error) {
			if r.Header.Get("Authorization") != "Bearer adas-key" {
				return services.Caller{}, services.ErrUnauthenticated
			}
			return services.Caller{Account: ada}, nil
		},
	}
	if engine != nil {
		cfg.Jobs = engine.Client()
	}
	made, err := services.New(cfg)
	return made, ledger, err
}

func run(t *testing.T, fn func(t *testing.T, s *shop)) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		engine, err := jobs.New(jobs.Config{DB: db, PollInterval: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		s := &shop{t: t}
		s.Services, s.ledger, err = wire(db, engine, time.Now)
		require.NoError(t, err)
		require.NoError(t, s.AddWorkers(engine.Workers()))
		require.NoError(t, engine.Start(context.Background()))
		t.Cleanup(func() { assert.NoError(t, engine.Stop(context.Background())) })
		_, err = s.ledger.Grant(t.Context(), credits.GrantParams{Account: ada, Amount: 10 * credits.Credit, Source: credits.Purchase, Reason: "test"})
		require.NoError(t, err)
		inner := s.APIHandler()
		s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			s.keys = append(s.keys, r.Header.Get("Idempotency-Key"))
			n, spoil := len(s.keys), s.spoil
			s.mu.Unlock()
			if spoil == nil || !spoil(n, w, r, inner) {
				inner.ServeHTTP(w, r)
			}
		}))
		t.Cleanup(s.server.Close)
		fn(t, s)
	})
}

func (s *shop) client() *client.Client {
	s.t.Helper()
	c, err := client.New(client.Config{BaseURL: s.server.URL + "/", Key: "adas-key", Pause: time.Millisecond})
	require.NoError(s.t, err)
	return c
}

func (s *shop) add(name string, price services.Pricing, fn func(ctx context.Context, call *services.Call, in line) (line, error), opts ...services.Option) {
	s.t.Helper()
	require.NoError(s.t, services.Register(s.Services, services.Func(services.Info{Name: name, Title: name, Version: "1"}, price, fn), opts...))
}

func loud(_ context.Context, _ *services.Call, in line) (line, error) {
	return line{strings.ToUpper(in.Text)}, nil
}

// charges are the debits of the account.
func (s *shop) charges() (amounts []string) {
	s.t.Helper()
	entries, _, err := s.ledger.History(context.Background(), credits.HistoryParams{Account: ada, Kind: credits.KindDebit})
	require.NoError(s.t, err)
	for _, e := range entries {
		amounts = append(amounts, e.Amount.String())
	}
	return amounts
}

// sent are the keys of the requests until now.
func (s *shop) sent() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.keys...)
}

// lose carries a request out and cuts the connection in place of the answer.
func lose(r *http.Request, through http.Handler) {
	through.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

func TestCall_AnswersWithTheTypes(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("shout", services.Fixed(credits.MustAmount("0.5")), loud)
		c := s.client()
		q, err := client.Price(t.Context(), c, "shout", line{"hi"})
		require.NoError(t, err)
		assert.Equal(t, client.Quote{Credits: "0.5", Exact: true, Units: map[string]int64{"call": 1}}, q)
		answer, err := client.Call[line, line](t.Context(), c, "shout", line{"hi"}, client.Tag("team", "search"), client.Version("1"), client.IdempotencyKey("mine"))
		require.NoError(t, err)
		assert.Equal(t, "HI", answer.Output.Text)
		assert.Equal(t, "0.5", answer.Charged)
		assert.Equal(t, "9.5", answer.Balance)
		balance, err := c.Balance(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "9.5", balance)
		assert.Equal(t, []string{"", "mine", ""}, s.sent())
		calls, _, err := s.Usage(t.Context(), services.UsageParams{Account: ada, Tag: "team", Value: "search"})
		require.NoError(t, err)
		require.Len(t, calls, 1)
		assert.Equal(t, answer.CallID, calls[0].ID.String())
		_, err = client.Call[line, line](t.Context(), c, "shout", line{"hi"}, client.Version("7"))
		require.ErrorIs(t, err, &client.Error{Code: "not_found"})
		_, err = client.Call[line, line](t.Context(), c, "shout", line{"hi"}, client.Tag("team", "a,b=c"))
		require.ErrorContains(t, err, "comma")
	})
}

func TestCall_ALostAnswerIsAskedForAgainAndChargedOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("shout", services.Fixed(credits.MustAmount("0.5")), loud)
		s.spoil = func(n int, _ http.ResponseWriter, r *http.Request, through http.Handler) bool {
			if n <= 2 {
				lose(r, through)
			}
			return false
		}
		answer, err := client.Call[line, line](t.Context(), s.client(), "shout", line{"hi"})
		require.NoError(t, err)
		assert.Equal(t, "HI", answer.Output.Text)
		assert.Equal(t, []string{"-0.5"}, s.charges())
		keys := s.sent()
		require.Len(t, keys, 3)
		assert.NotEmpty(t, keys[0])
		assert.Equal(t, []string{keys[0], keys[0], keys[0]}, keys, "one key")
	})
}

// The connection breaks while the work goes on: the repetition waits for the first try's answer.
func TestCall_WaitsForItsFirstTry(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		var began atomic.Int64
		release := make(chan struct{})
		s.add("slow", services.Fixed(credits.MustAmount("0.5")), func(_ context.Context, _ *services.Call, in line) (line, error) {
			began.Add(1)
			<-release
			return in, nil
		})
		first := make(chan struct{})
		s.spoil = func(n int, _ http.ResponseWriter, r *http.Request, through http.Handler) bool {
			switch n {
			case 1:
				// It goes on behind the connection that breaks.
				go func() {
					defer close(first)
					through.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.Background()))
				}()
				assert.Eventually(s.t, func() bool { return began.Load() == 1 }, 10*time.Second, time.Millisecond)
				panic(http.ErrAbortHandler)
			case 10: // more often than it would repeat a failure
				close(release)
				<-first
			}
			return false
		}
		answer, err := client.Call[line, line](t.Context(), s.client(), "slow", line{"hi"})
		require.NoError(t, err)
		assert.Equal(t, "hi", answer.Output.Text)
		assert.Equal(t, int64(1), began.Load())
		assert.Equal(t, []string{"-0.5"}, s.charges())
	})
}

func TestCall_RepeatsWhatMayPass(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("shout", services.Fixed(credits.MustAmount("0.5")), loud)
		s.spoil = func(n int, w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			if n > 4 {
				return false
			}
			status := []int{http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway}[n-1]
			http.Error(w, "<h1>a proxy's page</h1>", status)
			return true
		}
		answer, err := client.Call[line, line](t.Context(), s.client(), "shout", line{"hi"})
		require.NoError(t, err)
		assert.Equal(t, "HI", answer.Output.Text)
		assert.Len(t, s.sent(), 5)
		assert.Equal(t, []string{"-0.5"}, s.charges())
	})
}

func TestCall_HeedsRetryAfterAndGivesUp(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.spoil = func(n int, w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			if n == 1 {
				w.Header().Set("Retry-After", "1")
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		started := time.Now()
		_, err := client.Call[line, line](t.Context(), s.client(), "shout", line{"hi"})
		refused, ok := errors.AsType[*client.Error](err)
		require.True(t, ok, "%v", err)
		assert.Equal(t, http.StatusServiceUnavailable, refused.Status)
		assert.GreaterOrEqual(t, time.Since(started), time.Second)
		assert.Len(t, s.sent(), 1+client.DefaultRetries)

		never, err := client.New(client.Config{BaseURL: s.server.URL, Key: "adas-key", Retries: -1})
		require.NoError(t, err)
		before := len(s.sent())
		_, err = never.Balance(t.Context())
		require.Error(t, err)
		assert.Len(t, s.sent(), before+1)

		s.server.Close()
		_, err = never.Balance(t.Context())
		require.Error(t, err)
		_, answered := errors.AsType[*client.Error](err)
		assert.False(t, answered, "nobody answered")
	})
}

func TestCall_WhatIsRefusedIsNotRepeated(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("shout", services.Fixed(credits.MustAmount("0.5")), loud)
		s.add("dear", services.Fixed(100*credits.Credit), loud)
		s.add("keeps", services.Fixed(credits.Credit), func(context.Context, *services.Call, line) (line, error) {
			return line{}, services.Failure("No luck.")
		}, services.ChargeOnFailure())
		c := s.client()
		_, err := client.Call[line, line](t.Context(), c, "shout", line{""})
		refused, ok := errors.AsType[*client.Error](err)
		require.True(t, ok, "%v", err)
		assert.Equal(t, map[string]string{"text": "This is required."}, refused.Fields())
		_, err = client.Call[line, line](t.Context(), c, "dear", line{"hi"})
		require.ErrorIs(t, err, &client.Error{Code: "insufficient_credits"})
		_, err = client.Call[line, line](t.Context(), c, "keeps", line{"hi"})
		require.ErrorIs(t, err, &client.Error{Code: "execution_failed"})
		assert.Len(t, s.sent(), 3)
		assert.Equal(t, []string{"-1"}, s.charges(), "a failure that costs is not bought twice")
		wrong, err := client.New(client.Config{BaseURL: s.server.URL, Key: "wrong"})
		require.NoError(t, err)
		_, err = wrong.Balance(t.Context())
		require.ErrorIs(t, err, &client.Error{Code: "unauthenticated"})
	})
}

func TestCall_EndsWithItsContext(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		ctx, cancel := context.WithCancel(t.Context())
		s.spoil = func(n int, w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(http.StatusServiceUnavailable)
			cancel()
			return true
		}
		_, err := client.Call[line, line](ctx, s.client(), "shout", line{"hi"})
		require.Error(t, err)
		assert.Len(t, s.sent(), 1)
	})
}

func TestNew_ChecksItsConfig(t *testing.T) {
	t.Parallel()
	for _, cfg := range []client.Config{
		{}, {BaseURL: "app.example.com", Key: "k"}, {BaseURL: "ftp://app.example.com", Key: "k"}, {BaseURL: "https://app.example.com"}, {BaseURL: ":", Key: "k"},
		{BaseURL: "https://app.example.com", Key: "k", Pause: -1},
	} {
		_, err := client.New(cfg)
		require.Error(t, err, cfg)
	}
}
