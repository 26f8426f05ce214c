package services_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/services"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(envKilled); mode != "" {
		os.Exit(untilKilled(mode, os.Getenv(envURL)))
	}
	dbtest.Main(m)
}

var schema = dbtest.Of(credits.Migrations(), services.Migrations())

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// breakable is a ledger that a test can make fail before and after each step, inside the transaction.
type breakable struct {
	*credits.Ledger
	hook atomic.Pointer[func(ctx context.Context, tx *sqlx.Tx, step string) error]
}

func (b *breakable) at(ctx context.Context, tx *sqlx.Tx, step string) error {
	if hook := b.hook.Load(); hook != nil {
		return (*hook)(ctx, tx, step)
	}
	return nil
}

func (b *breakable) set(hook func(ctx context.Context, tx *sqlx.Tx, step string) error) {
	if hook == nil {
		b.hook.Store(nil)
		return
	}
	b.hook.Store(&hook)
}

func (b *breakable) ReserveTx(ctx context.Context, tx *sqlx.Tx, p credits.ReserveParams) (credits.Hold, error) {
	if err := b.at(ctx, tx, "reserve"); err != nil {
		return credits.Hold{}, err
	}
	h, err := b.Ledger.ReserveTx(ctx, tx, p)
	return h, errors.Join(err, b.at(ctx, tx, "reserved"))
}

func (b *breakable) SettleTx(ctx context.Context, tx *sqlx.Tx, hold uuid.UUID, actual credits.Amount) (credits.Entry, error) {
	if err := b.at(ctx, tx, "settle"); err != nil {
		return credits.Entry{}, err
	}
	e, err := b.Ledger.SettleTx(ctx, tx, hold, actual)
	return e, errors.Join(err, b.at(ctx, tx, "settled"))
}

func (b *breakable) ReleaseTx(ctx context.Context, tx *sqlx.Tx, hold uuid.UUID) error {
	if err := b.at(ctx, tx, "release"); err != nil {
		return err
	}
	return errors.Join(b.Ledger.ReleaseTx(ctx, tx, hold), b.at(ctx, tx, "released"))
}

func (b *breakable) DebitTx(ctx context.Context, tx *sqlx.Tx, p credits.DebitParams) (credits.Entry, error) {
	if err := b.at(ctx, tx, "debit"); err != nil {
		return credits.Entry{}, err
	}
	e, err := b.Ledger.DebitTx(ctx, tx, p)
	return e, errors.Join(err, b.at(ctx, tx, "debited"))
}

// shop is services wired as a host wires them.
type shop struct {
	*services.Services
	t      testing.TB
	db     *database.DB
	ledger *breakable
	clock  *clock
}

const (
	ada = "ada"
	bob = "bob"
)

func newShop(tb testing.TB, db *database.DB) *shop {
	tb.Helper()
	c := newClock()
	l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader(), Clock: c.Now})
	require.NoError(tb, err)
	s := &shop{t: tb, db: db, ledger: &breakable{Ledger: l}, clock: c}
	s.Services = s.process()
	return s
}

// process makes another process on the same database.
func (s *shop) process() *services.Services {
	s.t.Helper()
	made, err := services.New(s.config())
	require.NoError(s.t, err)
	return made
}

func (s *shop) config() services.Config {
	return services.Config{
		DB: s.db.Writer(), ReadDB: s.db.Reader(), Ledger: s.ledger, Clock: s.clock.Now, Logger: slog.New(slog.DiscardHandler),
		LoginURL: "/auth/login", BuyURL: "/billing/",
		User: func(r *http.Request) (services.Caller, bool) {
			account := r.Header.Get("X-User")
			return services.Caller{Account: account}, account != ""
		},
		API: func(r *http.Request) (services.Caller, error) {
			account, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if !ok || account == "wrong" {
				return services.Caller{}, services.ErrUnauthenticated
			}
			return services.Caller{Account: account}, nil
		},
	}
}

func run(t *testing.T, fn func(t *testing.T, s *shop)) {
	t.Helper()
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		s := newShop(t, db)
		fn(t, s)
		s.check()
	})
}

// check compares the calls with the ledger.
func (s *shop) check() {
	s.t.Helper()
	s.Flush()
	for name, query := range map[string]string{
		"an account is not the sum of its entries": `SELECT a.id FROM qs_credit_accounts a WHERE a.available + a.held <>
			(SELECT COALESCE(SUM(e.amount), 0) FROM qs_credit_entries e WHERE e.account_id = a.id)`,
		"a call was not charged what it says": `SELECT c.service FROM qs_service_calls c LEFT JOIN qs_credit_entries e ON e.id = c.entry_id
			WHERE c.charged <> COALESCE(-e.amount, 0)`,
		"a debit belongs to no call": `SELECT e.reason FROM qs_credit_entries e WHERE e.kind = 'debit' AND
			NOT EXISTS (SELECT 1 FROM qs_service_calls c WHERE c.entry_id = e.id AND c.account_id = e.account_id)`,
		"a call that has ended holds credits": `SELECT c.service FROM qs_service_calls c JOIN qs_credit_holds h ON h.id = c.hold_id
			WHERE c.status <> 'running' AND h.status = 'open'`,
		"a hold belongs to no call": `SELECT h.reason FROM qs_credit_holds h WHERE
			NOT EXISTS (SELECT 1 FROM qs_service_calls c WHERE c.hold_id = h.id AND c.account_id = h.account_id)`,
	} {
		var wrong []string
		require.NoError(s.t, s.db.Writer().Select(&wrong, query))
		assert.Empty(s.t, wrong, name)
	}
}

func (s *shop) grant(account, amount string) {
	s.t.Helper()
	_, err := s.ledger.Grant(context.Background(), credits.GrantParams{Account: account, Amount: credits.MustAmount(amount), Source: credits.Purchase, Reason: "test"})
	require.NoError(s.t, err)
}

// balance is what an account can spend, and what is held of it if anything.
func (s *shop) balance(account string) string {
	s.t.Helper()
	b, err := s.ledger.Balance(context.Background(), account)
	require.NoError(s.t, err)
	if b.Held != 0 {
		return b.Available.String() + " held " + b.Held.String()
	}
	return b.Available.String()
}

func (s *shop) calls(account string) []services.Record {
	s.t.Helper()
	records, more, err := s.Usage(context.Background(), services.UsageParams{Account: account, Limit: services.MaxPage})
	require.NoError(s.t, err)
	require.False(s.t, more)
	return records
}

func (s *shop) debits(account string) []credits.Entry {
	s.t.Helper()
	entries, more, err := s.ledger.History(context.Background(), credits.HistoryParams{Account: account, Kind: credits.KindDebit, Limit: credits.MaxPage})
	require.NoError(s.t, err)
	require.False(s.t, more)
	return entries
}

type job struct {
	Text  string `json:"text"  validate:"required,max=20"`
	Times int    `json:"times" validate:"min=0,max=5"`
}

type done struct {
	Echo string `json:"echo"`
}

// worker is what a service of the tests does.
type worker func(ctx context.Context, call *services.Call, in job) (done, error)

func echo(_ context.Context, _ *services.Call, in job) (done, error) {
	return done{strings.Repeat(in.Text, max(1, in.Times))}, nil
}

// add registers a service that costs price.
func (s *shop) add(name, price string, fn worker, opts ...services.Option) {
	s.t.Helper()
	addTo(s.t, s.Services, name, price, fn, opts...)
}

func addTo(tb testing.TB, s *services.Services, name, price string, fn worker, opts ...services.Option) {
	tb.Helper()
	info := services.Info{Name: name, Title: "Echo", Summary: "Says it again.", Version: "1", PriceText: price + " credits"}
	require.NoError(tb, services.Register(s, services.Func(info, services.Fixed(credits.MustAmount(price)), fn), opts...))
}

func params(account, service, key string) services.RunParams {
	return services.RunParams{Account: account, Service: service, Input: job{Text: "hi"}, IdempotencyKey: key}
}

func nobody(*http.Request) (services.Caller, bool) { return services.Caller{}, false }

func nobodyCalls(*http.Request) (services.Caller, error) {
	return services.Caller{}, services.ErrUnauthenticated
}

// code is the machine code of an error, "" of none.
func code(err error) string {
	if err == nil {
		return ""
	}
	if c := problem.From(err); c != nil {
		return c.ErrorCode()
	}
	return "internal"
}

func TestNew_NamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, schema)
	l, err := credits.New(credits.Config{DB: db.Writer()})
	require.NoError(t, err)
	user := func(*http.Request) (services.Caller, bool) { return services.Caller{}, false }
	api := func(*http.Request) (services.Caller, error) { return services.Caller{}, services.ErrUnauthenticated }
	for want, cfg := range map[string]services.Config{
		"DB":           {Ledger: l, User: user, API: api},
		"Ledger":       {DB: db.Writer(), User: user, API: api},
		"User":         {DB: db.Writer(), Ledger: l, API: api},
		"Config.API":   {DB: db.Writer(), Ledger: l, User: user},
		`"/services/"`: {DB: db.Writer(), Ledger: l, User: user, API: api, Path: "/services/"},
		`"api"`:        {DB: db.Writer(), Ledger: l, User: user, API: api, APIPath: "api"},
	} {
		_, err := services.New(cfg)
		require.ErrorContains(t, err, want)
	}
	made, err := services.New(services.Config{DB: db.Writer(), Ledger: l, User: user, API: api})
	require.NoError(t, err)
	require.NoError(t, made.Migrate(t.Context()), "again, it does nothing")
}

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

func TestCrash_AtEachStep(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection lost")
	// Each hook fails at one step; how the transaction ends is what differs.
	rollBack := func(_ context.Context, tx *sqlx.Tx) error { return errors.Join(lost, tx.Rollback()) }
	fail := func(context.Context, *sqlx.Tx) error { return lost }
	// The transaction dies unnoticed: what follows in it and its commit fail.
	die := func(_ context.Context, tx *sqlx.Tx) error { return tx.Rollback() }
	for name, c := range map[string]struct {
		step  string
		how   func(ctx context.Context, tx *sqlx.Tx) error
		free  bool
		begun bool // the call was recorded, and the work done
	}{
		"before reserving":             {"reserve", fail, false, false},
		"after reserving":              {"reserved", fail, false, false},
		"after reserving, rolled back": {"reserved", rollBack, false, false},
		"between hold and call":        {"reserved", die, false, false},
		"before settling":              {"settle", fail, false, true},
		"after settling":               {"settled", fail, false, true},
		"after settling, rolled back":  {"settled", rollBack, false, true},
		"between charge and outcome":   {"settled", die, false, true},
		"before the zero debit":        {"debit", fail, true, true},
		"after the zero debit":         {"debited", die, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, s *shop) {
				s.grant(ada, "10")
				ran, price := 0, "1"
				if c.free {
					price = "0"
				}
				s.add("echo", price, func(ctx context.Context, call *services.Call, in job) (done, error) {
					ran++
					return echo(ctx, call, in)
				})
				breakAt := func(times int) *atomic.Int64 {
					var hits atomic.Int64
					s.ledger.set(func(ctx context.Context, tx *sqlx.Tx, step string) error {
						if step == c.step && hits.Add(1) <= int64(times) {
							return c.how(ctx, tx)
						}
						return nil
					})
					return &hits
				}
				// For good.
				hits := breakAt(1 << 30)
				_, err := s.Run(t.Context(), params(ada, "echo", "key"))
				require.Error(t, err, "no success without its charge")
				assert.Empty(t, s.debits(ada))
				if !c.begun {
					assert.Zero(t, ran)
					assert.Empty(t, s.calls(ada))
					assert.Equal(t, "10", s.balance(ada))
					assert.EqualValues(t, 1, hits.Load())
				} else {
					require.ErrorIs(t, err, services.ErrOutcomeUnknown)
					assert.Equal(t, "unavailable", code(err))
					assert.EqualValues(t, 5, hits.Load(), "it is tried again within limits")
					_, err = s.Run(t.Context(), params(ada, "echo", "key"))
					assert.Equal(t, "call_in_progress", code(err))
				}
				// The database is back, the time to live over.
				s.ledger.set(nil)
				s.clock.Advance(services.DefaultTimeout + time.Minute)
				assert.Equal(t, "10", s.balance(ada))
				n, err := s.Sweep(t.Context())
				require.NoError(t, err)
				if c.begun {
					assert.Equal(t, 1, n)
					assert.Equal(t, "interrupted", s.calls(ada)[0].ErrorCode)
				} else {
					assert.Zero(t, n)
				}
				// A short trouble is got over by itself, with one charge; a new call begins anew.
				breakAt(2)
				_, err = s.Run(t.Context(), params(ada, "echo", "key"))
				if !c.begun {
					require.Error(t, err)
					s.ledger.set(nil)
					_, err = s.Run(t.Context(), params(ada, "echo", "key"))
				}
				require.NoError(t, err)
				assert.Len(t, s.debits(ada), 1)
				s.ledger.set(nil)
				_, err = s.Run(t.Context(), params(ada, "echo", "key"))
				require.NoError(t, err)
				assert.Len(t, s.debits(ada), 1)
			})
		})
	}
}

func TestCrash_TheOutcomeWasWrittenAndWeDidNotHear(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		for service, price := range map[string]string{"paid": "1", "free": "0"} {
			s.add(service, price, echo)
			var hits atomic.Int64
			s.ledger.set(func(ctx context.Context, tx *sqlx.Tx, step string) error {
				if (step != "settled" && step != "debited") || hits.Add(1) > 1 {
					return nil
				}
				// What the rest of the transaction would do, and then the line goes dead.
				update := `UPDATE qs_service_calls SET status = 'succeeded', charged = price, entry_id = (SELECT id FROM qs_credit_entries
					WHERE account_id = 'ada' ORDER BY seq DESC LIMIT 1), output = '{"echo":"hi"}', finished_at = created_at WHERE status = 'running'`
				if _, err := tx.ExecContext(ctx, update); err != nil {
					return err
				}
				return errors.Join(errors.New("connection lost"), tx.Commit())
			})
			res, err := s.Run(t.Context(), params(ada, service, ""))
			require.NoError(t, err, service)
			assert.Equal(t, price, res.Charged.String())
			assert.EqualValues(t, 2, hits.Load())
		}
		assert.Equal(t, "9", s.balance(ada))
		assert.Len(t, s.debits(ada), 2)
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

func TestCrash_AReleaseThatFailsIsTriedAgain(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.add("fails", "1", func(context.Context, *services.Call, job) (done, error) { return done{}, errors.New("no") })
		var hits atomic.Int64
		s.ledger.set(func(_ context.Context, _ *sqlx.Tx, step string) error {
			if step == "released" && hits.Add(1) < 3 {
				return errors.New("connection lost")
			}
			return nil
		})
		_, err := s.Run(t.Context(), params(ada, "fails", ""))
		assert.Equal(t, "execution_failed", code(err))
		assert.Equal(t, "10", s.balance(ada))
	})
}

func TestSweep_EndsTheCallsOfADeadProcess(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		for _, swept := range []bool{true, false} {
			for _, price := range []string{"1", "0"} {
				account, service := uuid.NewString(), "stuck-"+uuid.NewString()[:8]
				s.grant(account, "1")
				began, release := make(chan struct{}), make(chan struct{})
				s.add(service, price, func(ctx context.Context, call *services.Call, in job) (done, error) {
					close(began)
					<-release
					return echo(ctx, call, in)
				}, services.Timeout(time.Hour))
				result := make(chan error, 1)
				go func() {
					_, err := s.Run(context.Background(), params(account, service, "key"))
					result <- err
				}()
				<-began
				other := s.process()
				addTo(t, other, service, price, echo, services.Timeout(time.Hour))
				n, err := other.Sweep(t.Context())
				require.NoError(t, err)
				assert.Zero(t, n, "it may still be alive")
				s.clock.Advance(time.Hour + time.Minute)
				assert.Equal(t, "1", s.balance(account), "the hold gives itself back")
				if swept {
					n, err = other.Sweep(t.Context())
					require.NoError(t, err)
					assert.Equal(t, 1, n)
					record := s.calls(account)[0]
					assert.Equal(t, services.Failed, record.Status)
					assert.Equal(t, "interrupted", record.ErrorCode)
				}
				_, err = other.Run(t.Context(), params(account, service, "key"))
				require.NoError(t, err, "the key is free again, with the sweep or before it")
				close(release)
				late := <-result
				assert.Equal(t, "interrupted", code(late), "the process was alive after all: its result is kept back, since it cannot be charged")
				assert.Len(t, s.debits(account), 1)
				assert.Len(t, s.calls(account), 2)
			}
		}
	})
}

func TestSweep_OneThatFailsDoesNotStopTheOthers(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "2")
		s.add("echo", "1", echo)
		s.ledger.set(func(_ context.Context, _ *sqlx.Tx, step string) error {
			if step == "settle" {
				return errors.New("connection lost")
			}
			return nil
		})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				_, err := s.Run(t.Context(), params(ada, "echo", ""))
				assert.ErrorIs(t, err, services.ErrOutcomeUnknown)
			})
		}
		wg.Wait()
		s.clock.Advance(time.Hour)
		var hits atomic.Int64
		s.ledger.set(func(_ context.Context, _ *sqlx.Tx, step string) error {
			if step == "release" && hits.Add(1) == 1 {
				return errors.New("connection lost")
			}
			return nil
		})
		n, err := s.Sweep(t.Context())
		require.ErrorContains(t, err, "connection lost")
		assert.Equal(t, 1, n)
		n, err = s.Sweep(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		n, err = s.Sweep(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n)
	})
}

func TestUsage_PagesFiltersAndCounts(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.grant(bob, "10")
		s.add("echo", "0.5", echo)
		s.add("fails", "0.5", func(context.Context, *services.Call, job) (done, error) { return done{}, errors.New("no") })
		for range 3 {
			_, err := s.Run(t.Context(), params(ada, "echo", ""))
			require.NoError(t, err)
		}
		since := s.clock.Now().Add(time.Hour)
		s.clock.Advance(2 * time.Hour)
		_, err := s.Run(t.Context(), params(ada, "fails", ""))
		require.Error(t, err)
		_, err = s.Run(t.Context(), params(bob, "echo", ""))
		require.NoError(t, err)

		all := s.calls(ada)
		require.Len(t, all, 4)
		var paged []services.Record
		before := uuid.Nil
		for more := true; more; {
			var page []services.Record
			page, more, err = s.Usage(t.Context(), services.UsageParams{Account: ada, Before: before, Limit: 3})
			require.NoError(t, err)
			paged, before = append(paged, page...), page[len(page)-1].ID
		}
		assert.Equal(t, all, paged)
		echoes, more, err := s.Usage(t.Context(), services.UsageParams{Account: ada, Service: "echo"})
		require.NoError(t, err)
		assert.False(t, more)
		assert.Len(t, echoes, 3)
		everybody, _, err := s.Usage(t.Context(), services.UsageParams{})
		require.NoError(t, err)
		assert.Len(t, everybody, 5)

		counts, err := s.UsageCounts(t.Context(), time.Time{})
		require.NoError(t, err)
		assert.Equal(t, []services.Count{{Service: "echo", Calls: 4, Charged: 2_000_000}, {Service: "fails", Calls: 1, Failed: 1}}, counts)
		counts, err = s.UsageCounts(t.Context(), since)
		require.NoError(t, err)
		assert.Equal(t, []services.Count{{Service: "echo", Calls: 1, Charged: 500_000}, {Service: "fails", Calls: 1, Failed: 1}}, counts)
	})
}

func text(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}
