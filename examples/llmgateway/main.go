// Command llmgateway sells a language model by the token: a proxy in front of any server that speaks OpenAI's API, which
// takes credits for what each answer used. OpenAI's own client libraries work with it unchanged.
//
//	LLMGATEWAY_UPSTREAM=https://api.openai.com/v1 LLMGATEWAY_UPSTREAM_KEY=sk-… go run ./examples/llmgateway
//
// README.md says how it charges.
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Getenv, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// settings are what the environment says.
type settings struct {
	addr, file, upstream, upstreamKey, key string
	models                                 []Model
}

func readSettings(getenv func(string) string) (s settings, err error) {
	s = settings{getenv("LLMGATEWAY_ADDR"), getenv("LLMGATEWAY_FILE"), getenv("LLMGATEWAY_UPSTREAM"), getenv("LLMGATEWAY_UPSTREAM_KEY"), getenv("LLMGATEWAY_KEY"), nil}
	if s.addr == "" {
		s.addr = "127.0.0.1:8082"
	}
	if s.file == "" {
		s.file = "llmgateway.db"
	}
	if s.key == "" {
		s.key = "gw-" + rand.Text()
	}
	if at, err := url.Parse(s.upstream); err != nil || at.Host == "" || (at.Scheme != "http" && at.Scheme != "https") {
		return s, errors.New("LLMGATEWAY_UPSTREAM must be the base URL of a server that speaks OpenAI's API, such as https://api.openai.com/v1")
	}
	text := defaultModels
	if file := getenv("LLMGATEWAY_MODELS"); file != "" {
		if text, err = os.ReadFile(file); err != nil {
			return s, fmt.Errorf("LLMGATEWAY_MODELS: %w", err)
		}
	}
	s.models, err = parseModels(text)
	return s, err
}

// member is the account of the example, which one key opens. A product has accounts and keys; see examples/saas.
const member = "member"

// welcome is what the account is given at the first start.
const welcome = 100 * credits.Credit

// run serves until ctx ends.
func run(ctx context.Context, getenv func(string) string, out io.Writer) (err error) {
	s, err := readSettings(getenv)
	if err != nil {
		return err
	}
	// SQLite gets one connection, so that writers queue; see credits.Config.
	db, err := sqlx.ConnectContext(ctx, "sqlite", "file:"+(&url.URL{Path: s.file}).EscapedPath()+"?_txlock=immediate&_pragma=foreign_keys(1)&_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)")
	if err != nil {
		return fmt.Errorf("open %s: %w", s.file, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	ledger, err := credits.New(credits.Config{DB: db})
	if err != nil {
		return err
	}
	if err := ledger.Migrate(ctx); err != nil {
		return err
	}
	if _, err := ledger.Grant(ctx, credits.GrantParams{Account: member, Amount: welcome, Source: credits.Bonus, Reason: "Welcome", IdempotencyKey: "welcome"}); err != nil {
		return err
	}
	handler, shop, err := open(ctx, db, ledger, s, byKey(s.key))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; another address goes into LLMGATEWAY_ADDR", s.addr, err)
	}
	fmt.Fprintf(out, "\nThe gateway is at http://%s/v1 in front of %s. Its account's key is\n  %s\n\n", listener.Addr(), s.upstream, s.key)
	return serve(ctx, shop, listener, handler)
}

// open puts the gateway together.
func open(ctx context.Context, db *sqlx.DB, ledger *credits.Ledger, s settings, caller func(*http.Request) (services.Caller, error)) (http.Handler, *services.Services, error) {
	shop, err := services.New(services.Config{
		DB: db, Ledger: ledger, API: caller, User: func(*http.Request) (services.Caller, bool) { return services.Caller{}, false },
	})
	if err != nil {
		return nil, nil, err
	}
	g := &gateway{models: s.models, upstream: newUpstream(s.upstream, s.upstreamKey), holds: ledger}
	// An account with less than an answer may cost at most gets a shorter one.
	if err := services.Register(shop, g, services.Timeout(timeLimit), services.StartWith(1), services.MaxInput(2*maxRequest)); err != nil {
		return nil, nil, err
	}
	if err := shop.Migrate(ctx); err != nil {
		return nil, nil, err
	}
	return (&api{shop: shop, models: s.models, caller: caller, logger: slog.Default()}).handler(), shop, nil
}

// byKey knows the one account by a key.
func byKey(key string) func(r *http.Request) (services.Caller, error) {
	want := sha256.Sum256([]byte(key))
	return func(r *http.Request) (services.Caller, error) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(given))
		if !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			return services.Caller{}, services.ErrUnauthenticated
		}
		return services.Caller{Account: member}, nil
	}
}

const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	shutdownTimeout   = 30 * time.Second
	sweepEach         = time.Minute
)

// serve answers until ctx ends, and ends the calls of processes that died.
func serve(ctx context.Context, shop *services.Services, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	tick := time.NewTicker(sweepEach)
	defer tick.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-tick.C:
			if _, err := shop.Sweep(ctx); err != nil && ctx.Err() == nil {
				slog.ErrorContext(ctx, "sweep", slog.Any("error", err))
			}
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
			defer cancel()
			return server.Shutdown(end)
		}
	}
}
