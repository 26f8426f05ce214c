// Package servicestest tests services with a real ledger, in memory:
//
//	func TestShout(t *testing.T) {
//		h := servicestest.New(t)
//		h.Grant("10")
//		servicestest.Register(h, Shout{})
//		out := servicestest.Run[Shouted](h, "shout", ShoutInput{Text: "hello"})
//		h.AssertCharged("0.5")
//	}
//
// Everything is as in production but for the database, which is SQLite in memory and gone with the test: prices, holds,
// validation, limits, usage, the JSON API.
package servicestest

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/services"
)

// Account is whose calls the harness makes unless another is named.
const Account = "test-account"

// Harness is services with a ledger of their own. Its methods fail the test when something that they need goes wrong.
type Harness struct {
	*services.Services

	// Ledger keeps the credits.
	Ledger *credits.Ledger

	tb    testing.TB
	clock *clock
	// charged is the last call's.
	charged *credits.Amount
}

// clock is the time of the harness, which stands still but for [Harness.Advance].
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// New makes a harness, with all tables, whose ledger is empty. change may set what the services are to be configured
// with besides, such as [services.Config.RateLimit] or [services.Config.Entitled].
func New(tb testing.TB, change ...func(cfg *services.Config)) *Harness {
	tb.Helper()
	db, err := sqlx.Open("sqlite", "file::memory:?_txlock=immediate&_pragma=foreign_keys(1)")
	require(tb, err, "open a database in memory")
	db.SetMaxOpenConns(1) // each connection would have a memory of its own
	db.SetConnMaxIdleTime(0)
	tb.Cleanup(func() { require(tb, db.Close(), "close the database") })
	h := &Harness{tb: tb, clock: &clock{now: database.Canonical(time.Now())}}
	h.Ledger, err = credits.New(credits.Config{DB: db, Clock: h.clock.Now, Logger: slog.New(slog.DiscardHandler)})
	require(tb, err, "make a ledger")
	cfg := services.Config{
		DB: db, Ledger: h.Ledger, Clock: h.clock.Now, Logger: slog.New(slog.DiscardHandler),
		User: func(r *http.Request) (services.Caller, bool) {
			who, err := caller(r)
			return who, err == nil
		},
		API: caller,
	}
	for _, fn := range change {
		fn(&cfg)
	}
	h.Services, err = services.New(cfg)
	require(tb, err, "make the services")
	ctx := context.Background()
	require(tb, errors.Join(h.Ledger.Migrate(ctx), h.Migrate(ctx)), "make the tables")
	return h
}

// caller takes the bearer token for the account.
func caller(r *http.Request) (services.Caller, error) {
	account, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || account == "" {
		return services.Caller{}, services.ErrUnauthenticated
	}
	return services.Caller{Account: account}, nil
}

func require(tb testing.TB, err error, doing string) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("servicestest: %s: %v", doing, err)
	}
}

// Register registers a service and fails the test when something is wrong with it.
func Register[In, Out any](h *Harness, svc services.Service[In, Out], opts ...services.Option) {
	h.tb.Helper()
	require(h.tb, services.Register(h.Services, svc, opts...), "register")
}

// Advance moves the time on.
func (h *Harness) Advance(d time.Duration) {
	h.clock.mu.Lock()
	defer h.clock.mu.Unlock()
	h.clock.now = h.clock.now.Add(d)
}

// Grant gives [Account] credits, such as "10" or "0.5", that do not expire.
func (h *Harness) Grant(amount string) { h.tb.Helper(); h.GrantTo(Account, amount) }

// GrantTo gives an account credits.
func (h *Harness) GrantTo(account, amount string) {
	h.tb.Helper()
	parsed, err := credits.ParseAmount(amount)
	require(h.tb, err, "grant")
	_, err = h.Ledger.Grant(context.Background(), credits.GrantParams{Account: account, Amount: parsed, Source: credits.Purchase, Reason: "Given to a test"})
	require(h.tb, err, "grant")
}

// Call makes a call of [Account], or of the account that p names.
func (h *Harness) Call(p services.RunParams) (services.Result, error) {
	if p.Account == "" {
		p.Account = Account
	}
	result, err := h.Run(context.Background(), p)
	h.note(result, err)
	return result, err
}

// note remembers what a call cost.
func (h *Harness) note(result services.Result, err error) {
	h.charged = new(result.Charged)
	if failure, ok := errors.AsType[*services.CallError](err); ok {
		h.charged = &failure.Charged
	}
}

// Run makes a call of [Account] that must succeed, and returns its output.
func Run[Out any](h *Harness, service string, input any) Out {
	h.tb.Helper()
	result, err := h.Call(services.RunParams{Service: service, Input: input})
	require(h.tb, err, "run "+service)
	return decode[Out](h, result)
}

func decode[Out any](h *Harness, result services.Result) (out Out) {
	h.tb.Helper()
	require(h.tb, json.Unmarshal(result.Output, &out), "read the output of "+result.Service)
	return out
}

// Stream makes a call of [Account] that must succeed, as a stream, and returns the parts and the output.
func Stream[Part, Out any](h *Harness, service string, input any) (parts []Part, out Out) {
	h.tb.Helper()
	result, err := h.Stream(context.Background(), services.RunParams{Account: Account, Service: service, Input: input}, func(p services.Part) error {
		var part Part
		require(h.tb, json.Unmarshal(p.Data, &part), "read a part of "+service)
		parts = append(parts, part)
		return nil
	})
	h.note(result, err)
	require(h.tb, err, "stream "+service)
	return parts, decode[Out](h, result)
}

// Post sends JSON to the API as [Account] and returns the answer.
func (h *Harness) Post(service, input string) *http.Response {
	r := httptest.NewRequest(http.MethodPost, services.DefaultAPIPath+"/services/"+service, strings.NewReader(input))
	r.Header.Set("Authorization", "Bearer "+Account)
	w := httptest.NewRecorder()
	h.APIHandler().ServeHTTP(w, r)
	return w.Result()
}

// AssertCharged checks what the last call by [Harness.Call], [Run] or [Stream] cost, and that the ledger has charged
// nothing else for it. It returns whether that is so.
func (h *Harness) AssertCharged(amount string) bool {
	h.tb.Helper()
	want, err := credits.ParseAmount(amount)
	require(h.tb, err, "the amount to compare with")
	if h.charged == nil {
		h.tb.Error("servicestest: there was no call yet")
		return false
	}
	if *h.charged != want {
		h.tb.Errorf("servicestest: the call cost %s credits, not %s", *h.charged, want)
		return false
	}
	return true
}

// AssertBalance checks what [Account] can spend, and that nothing is left set aside.
func (h *Harness) AssertBalance(amount string) bool {
	h.tb.Helper()
	want, err := credits.ParseAmount(amount)
	require(h.tb, err, "the amount to compare with")
	b, err := h.Ledger.Balance(context.Background(), Account)
	require(h.tb, err, "balance")
	if b.Available != want || b.Held != 0 {
		h.tb.Errorf("servicestest: the account has %s credits and %s set aside, not %s", b.Available, b.Held, want)
		return false
	}
	return true
}

// AssertInvalid checks that an input is refused for the field at path, and that nothing reaches the ledger.
func (h *Harness) AssertInvalid(service string, input any, path string) bool {
	h.tb.Helper()
	before := h.entries()
	_, err := h.Call(services.RunParams{Service: service, Input: input})
	fields := services.FieldsOf(err)
	if fields[path] == "" {
		h.tb.Errorf("servicestest: the input was to be refused for %q; it was refused for %v (%v)", path, fields, err)
		return false
	}
	if after := h.entries(); after != before {
		h.tb.Errorf("servicestest: an invalid input has reached the ledger: %d entries, and %d before", after, before)
		return false
	}
	return true
}

func (h *Harness) entries() int {
	h.tb.Helper()
	entries, _, err := h.Ledger.History(context.Background(), credits.HistoryParams{Account: Account, Limit: credits.MaxPage})
	require(h.tb, err, "history")
	return len(entries)
}
