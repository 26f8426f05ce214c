package services_test

import (
	"context"
	"errors"
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
