package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/services"
)

// serviceAccounts is how many accounts call at once.
const serviceAccounts = 100

// serviceBench is a server with a service, and one with a bare handler that debits the same ledger directly.
type serviceBench struct {
	pool        *sqlx.DB
	ledger      *credits.Ledger
	shop        *services.Services
	ours, plain *httptest.Server
	client      *http.Client
	callers     atomic.Int64
}

// echoed is what the service takes and gives.
type echoed struct {
	Text string `json:"text" validate:"required,max=1000"`
}

const echoInput = `{"text":"What is it worth?"}`

// benchServices measures the framework's share of a call: over HTTP, a service against a handler that decodes the same
// JSON and debits the same ledger, each with the same look-up of who calls.
func benchServices(ctx context.Context, o options, r *report) (err error) {
	given, how, stop, err := dbtest.Durable()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	pool, drop, err := ownDatabase(ctx, given)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	r.linef("PostgreSQL", "%s; %d CPUs, lib/pq", how, runtime.NumCPU())
	ledger, err := credits.New(credits.Config{DB: pool})
	if err != nil {
		return err
	}
	b := &serviceBench{pool: pool, ledger: ledger}
	if b.shop, err = services.New(services.Config{
		DB: pool, Ledger: ledger, User: func(*http.Request) (services.Caller, bool) { return services.Caller{}, false }, API: serviceCaller,
	}); err != nil {
		return err
	}
	if err := errors.Join(ledger.Migrate(ctx), b.shop.Migrate(ctx)); err != nil {
		return err
	}
	if err := b.register(); err != nil {
		return err
	}
	for n := range serviceAccounts {
		_, err := ledger.Grant(ctx, credits.GrantParams{Account: accountName(n), Amount: opening, Source: credits.Purchase, Reason: "opening"})
		if err != nil {
			return err
		}
	}
	b.ours, b.plain = httptest.NewServer(b.shop.APIHandler()), httptest.NewServer(http.HandlerFunc(b.bare))
	defer b.ours.Close()
	defer b.plain.Close()
	b.client = &http.Client{Transport: &http.Transport{MaxIdleConns: 2 * callers, MaxIdleConnsPerHost: callers}}
	defer b.shop.Flush()
	return errors.Join(b.many(ctx, o, r), b.lone(ctx, o, r), b.streams(ctx, o, r))
}

func serviceCaller(r *http.Request) (services.Caller, error) {
	account, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return services.Caller{}, services.ErrUnauthenticated
	}
	return services.Caller{Account: account}, nil
}

func (b *serviceBench) register() error {
	echo := func(_ context.Context, _ *services.Call, in echoed) (echoed, error) { return in, nil }
	tell := func(_ context.Context, call *services.Call, in echoed) (echoed, error) {
		n := len(in.Text)
		for range n {
			if err := errors.Join(call.Meter("tokens", 1), call.Send("token")); err != nil {
				return echoed{}, err
			}
		}
		return echoed{"told"}, nil
	}
	most := func(in echoed) services.Units { return services.Units{"tokens": int64(len(in.Text))} }
	return errors.Join(
		services.Register(b.shop, services.Func(services.Info{Name: "after", Title: "Echo"}, services.Fixed(1), echo), services.ChargeAfter()),
		services.Register(b.shop, services.Func(services.Info{Name: "aside", Title: "Echo"}, services.Fixed(1), echo)),
		services.Register(b.shop, services.Func(services.Info{Name: "tell", Title: "Tell"}, services.Metered(services.Rates{"tokens": services.Each(1)}, most), tell)),
	)
}

// bare is what a host would write by hand: who calls, the input, the debit, the answer.
func (b *serviceBench) bare(w http.ResponseWriter, r *http.Request) {
	who, err := serviceCaller(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	var in echoed
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n := b.callers.Add(1)
	e, err := b.ledger.Debit(r.Context(), credits.DebitParams{Account: who.Account, Amount: 1, Service: "echo", Reason: "Service: Echo",
		Reference: fmt.Sprintf("call:%d", n), IdempotencyKey: fmt.Sprintf("call:%d", n)})
	if err != nil {
		http.Error(w, err.Error(), http.StatusPaymentRequired)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	out, err := json.Marshal(struct {
		Result  echoed         `json:"result"`
		Balance credits.Amount `json:"balance"`
	}{in, e.Available})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(out) // the client is gone; there is nobody to tell
}

func (b *serviceBench) call(ctx context.Context, server *httptest.Server, service, account string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/api/v1/services/"+service, bytes.NewReader([]byte(echoInput)))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+account)
	res, err := b.client.Do(r)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", res.Status, answer)
	}
	return nil
}

func (b *serviceBench) many(ctx context.Context, o options, r *report) error {
	d := pick(o, time.Second, 4*time.Second)
	side := func(server *httptest.Server, service string) func(ctx context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) {
			defer b.shop.Flush()
			return rate(ctx, callers, d, func(ctx context.Context, caller, _ int) error {
				return b.call(ctx, server, service, accountName(caller%serviceAccounts))
			})
		}
	}
	rates, err := contest(ctx, pick(o, 3, 5), side(b.plain, "bare"), side(b.ours, "after"), side(b.ours, "aside"))
	if err != nil {
		return err
	}
	r.linef("256 callers: bare handler and Debit", "%.0f/s", rates[0])
	r.linef("256 callers: service, charged after its work", "%.0f/s", rates[1])
	r.linef("256 callers: service, price set aside", "%.0f/s", rates[2])
	r.ratio("services.call", rates[0]/rates[1], "at most 1.3")
	r.ratio("services.call.aside", rates[0]/rates[2], "none: a hold and its settlement, each with the call's row")
	return nil
}

func (b *serviceBench) lone(ctx context.Context, o options, r *report) error {
	one := accountName(0)
	took, err := p50s(pick(o, 400, 4000),
		func() error { return b.call(ctx, b.plain, "bare", one) },
		func() error { return b.call(ctx, b.ours, "after", one) },
		func() error { return b.call(ctx, b.ours, "aside", one) })
	if err != nil {
		return err
	}
	r.linef("one caller, p50: bare handler and Debit", "%s", took[0])
	r.linef("one caller, p50: service, charged after its work", "%s", took[1])
	r.linef("one caller, p50: service, price set aside", "%s", took[2])
	r.ratio("services.call.lone", float64(took[1])/float64(took[0]), "at most 1.3")
	return nil
}

// streamTokens is how many tokens a long stream has.
const streamTokens = 1000

// streams compares what a further token of a stream costs, metered and sent, with the least query that there is.
func (b *serviceBench) streams(ctx context.Context, o options, r *report) error {
	stream := func(tokens int) func() error {
		p := services.RunParams{Account: accountName(0), Service: "tell", Input: echoed{strings.Repeat("x", tokens)}}
		return func() error {
			_, err := b.shop.Stream(ctx, p, func(services.Part) error { return nil })
			return err
		}
	}
	took, err := p50s(pick(o, 100, 1000), stream(1), stream(streamTokens), func() error {
		var one int
		return b.pool.GetContext(ctx, &one, "SELECT 1")
	})
	if err != nil {
		return err
	}
	token := float64(took[1]-took[0]) / (streamTokens - 1)
	r.linef("stream, p50: one token, 1,000 tokens; SELECT 1", "%s, %s; %s", took[0], took[1], took[2])
	r.ratio("services.stream.token", token/float64(took[2]), "at most 0.1 of a query")
	return nil
}
