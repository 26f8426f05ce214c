package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/riverqueue/river"
	"github.com/stripe/stripe-go/v76"
	stripewebhook "github.com/stripe/stripe-go/v76/webhook"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/webhook"
)

const (
	hookSecret = "whsec_bench" //nolint:gosec // opens nothing
	hookType   = string(stripe.EventTypeCheckoutSessionCompleted)
	// hookWorker tells a copy of this program that it is one of the two that drain, and of what database.
	hookWorker = "QUICKSCALE_BENCH_WEBHOOK_WORKER"
	// hookWorkers is how many jobs such a copy runs at once.
	hookWorkers = "QUICKSCALE_BENCH_WEBHOOK_JOBS"
)

// benchWebhook measures the inbox: receiving against a bare handler, draining against River's jobs that do nothing, and
// receiving while a backlog drains against receiving when nothing else happens.
func benchWebhook(ctx context.Context, o options, r *report) error {
	if given := os.Getenv(hookWorker); given != "" {
		return drainWorker(ctx, given)
	}
	b, stop, err := newHookBench(ctx, o, r)
	if err != nil {
		return err
	}
	return errors.Join(b.run(ctx), stop())
}

type hookBench struct {
	o   options
	r   *report
	url string
	db  *database.DB
	// engine inserts and works nothing: the copies do.
	engine *jobs.Engine
	inbox  http.Handler
	seq    atomic.Int64
}

func newHookBench(ctx context.Context, o options, r *report) (b *hookBench, stop func() error, err error) {
	server, how, stopServer, err := dbtest.Durable()
	if err != nil {
		return nil, nil, err
	}
	admin, err := database.Open(ctx, server)
	if err != nil {
		return nil, nil, errors.Join(err, stopServer())
	}
	name := "quickscale_bench_" + strings.ToLower(rand.Text())
	stop = func() error {
		_, err := admin.Writer().ExecContext(context.WithoutCancel(ctx), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		return errors.Join(err, admin.Close(), stopServer())
	}
	if _, err := admin.Writer().ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	r.linef("PostgreSQL", "%s", how)
	b = &hookBench{o: o, r: r}
	if b.url, err = dbtest.URLOf(server, name); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	if b.db, b.engine, err = openHooks(ctx, b.url, 0); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	dropAll := stop
	stop = func() error { return errors.Join(b.db.Close(), dropAll()) }
	p, err := newHookInbox(b.db, b.engine, 0)
	if err == nil {
		err = errors.Join(b.engine.Migrate(ctx), p.Migrate(ctx))
	}
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	b.inbox = p.Handler()
	return b, stop, nil
}

func openHooks(ctx context.Context, url string, workers int) (*database.DB, *jobs.Engine, error) {
	db, err := database.Open(ctx, url)
	if err != nil {
		return nil, nil, err
	}
	// As many connections as callers keep busy, on both sides.
	db.Writer().SetMaxIdleConns(20)
	engine, err := jobs.New(jobs.Config{DB: db, MaxWorkers: workers, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	river.AddWorker(engine.Workers(), river.WorkFunc(func(context.Context, *river.Job[noop]) error { return nil }))
	return db, engine, nil
}

// newHookInbox makes an inbox that tries as many events at once as given; 0: as many as it does by itself.
func newHookInbox(db *database.DB, engine *jobs.Engine, parallel int) (*webhook.Processor, error) {
	p, err := webhook.New(webhook.Config{DB: db.Writer(), ReadDB: db.Reader(), Jobs: engine.Client(), Secrets: []string{hookSecret}, Parallel: parallel,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return nil, err
	}
	return p, p.AddWorkers(engine.Workers())
}

func (b *hookBench) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{b.receiving, b.latency, b.draining} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// event is a delivery of two kilobytes, about what a checkout session has, of an object of its own.
func (b *hookBench) event() []byte {
	n := b.seq.Add(1)
	return fmt.Appendf(nil, `{"id":"evt_%d","object":"event","type":%q,"api_version":%q,"created":%d,"livemode":false,"data":{"object":{"id":"cs_%d",`+
		`"object":"checkout.session","filler":%q}}}`, n, hookType, stripe.APIVersion, time.Now().Unix(), n, strings.Repeat("x", 1800))
}

// sender posts deliveries to a server.
type sender struct {
	client *http.Client
	url    string
}

func newSender(h http.Handler, callers int) (*sender, func()) {
	s := httptest.NewServer(h)
	transport := &http.Transport{MaxIdleConnsPerHost: callers}
	return &sender{client: &http.Client{Transport: transport}, url: s.URL}, func() {
		transport.CloseIdleConnections()
		s.Close()
	}
}

func (s *sender) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	at := time.Now()
	req.Header.Set("Stripe-Signature", fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(stripewebhook.ComputeSignature(at, body, hookSecret))))
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

// bareHook is what receiving is compared with: a handler that inserts the same row, and does nothing else.
func (b *hookBench) bareHook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var e struct {
		ID         string `json:"id"`
		Type       string `json:"type"`
		APIVersion string `json:"api_version"`
		Created    int64  `json:"created"`
		Livemode   bool   `json:"livemode"`
		Data       struct {
			Object struct {
				ID string `json:"id"`
			} `json:"object"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	now := database.At(time.Now())
	const insert = `INSERT INTO qs_webhook_events (id, type, object_id, account, api_version, livemode, payload, status, created_at, received_at, next_at)
		VALUES ($1, $2, $3, '', $4, $5, $6, 'received', $7, $8, $8) ON CONFLICT (id) DO NOTHING`
	_, err = b.db.Writer().ExecContext(r.Context(), insert, e.ID, e.Type, e.Data.Object.ID, e.APIVersion, e.Livemode, string(body),
		database.At(time.Unix(e.Created, 0)), now)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// burst is how many deliveries come at once when it counts. With few callers a delivery's time is that of its round trips,
// of which a transaction with a job has more; the lines of the table say so.
const burst = 64

// receiving compares the inbox with the bare handler, by callers that post one delivery after the other.
func (b *hookBench) receiving(ctx context.Context) error {
	for _, callers := range []int{1, 16, burst} {
		bare, closeBare := newSender(http.HandlerFunc(b.bareHook), callers)
		ours, closeOurs := newSender(b.inbox, callers)
		d := pick(b.o, 700*time.Millisecond, 4*time.Second)
		side := func(s *sender) func(context.Context) (float64, error) {
			return func(ctx context.Context) (float64, error) {
				return rate(ctx, callers, d, func(ctx context.Context, _, _ int) error { return s.post(ctx, b.event()) })
			}
		}
		rates, err := contest(ctx, 3, side(bare), side(ours))
		closeBare()
		closeOurs()
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		b.r.linef(fmt.Sprintf("receive, %d callers", callers), "%.0f/s; a bare handler %.0f/s; %.2f of it", rates[1], rates[0], rates[1]/rates[0])
		if callers == burst {
			b.r.ratio("webhook.receive", rates[1]/rates[0], "≥ 0.7")
		}
	}
	return b.clear(ctx)
}

func (b *hookBench) clear(ctx context.Context) error {
	for _, statement := range []string{`TRUNCATE qs_webhook_events, qs_webhook_objects, river_job`, `VACUUM ANALYZE`, `CHECKPOINT`} {
		if _, err := b.db.Writer().ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("clear: %w", err)
		}
	}
	return nil
}

// paced posts at a steady pace, as Stripe does, and returns the 99th percentile of the answers' times.
func (b *hookBench) paced(ctx context.Context, d time.Duration) (p50, p99 time.Duration, err error) {
	const pause = 20 * time.Millisecond
	s, stop := newSender(b.inbox, 16)
	defer stop()
	var mu sync.Mutex
	var took []time.Duration
	group, ctx := errgroup.WithContext(ctx)
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for range int(d / pause) {
		<-ticker.C
		group.Go(func() error {
			began := time.Now()
			if err := s.post(ctx, b.event()); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, 0, err
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100], nil
}

func (b *hookBench) latency(ctx context.Context) error {
	d := pick(b.o, 4*time.Second, 20*time.Second)
	idle50, idle99, err := b.paced(ctx, d)
	if err != nil {
		return fmt.Errorf("receive when idle: %w", err)
	}
	// Enough that the backlog does not end before the measurement.
	if err := b.fill(ctx, int(d/time.Second)*1500); err != nil {
		return err
	}
	workers, err := b.startWorkers(ctx, 0)
	if err != nil {
		return err
	}
	busy50, busy99, err := b.paced(ctx, d)
	var left int
	err = errors.Join(err, b.db.Get(ctx, &left, `SELECT COUNT(*) FROM qs_webhook_events WHERE status = 'received'`), workers.stop())
	if err != nil {
		return fmt.Errorf("receive while a backlog drains: %w", err)
	}
	if left == 0 {
		return errors.New("the backlog ended before the measurement did")
	}
	b.r.linef("receive when idle, 50/s", "p50 %s, p99 %s", idle50.Round(10*time.Microsecond), idle99.Round(10*time.Microsecond))
	b.r.linef("the same while a backlog drains", "p50 %s, p99 %s", busy50.Round(10*time.Microsecond), busy99.Round(10*time.Microsecond))
	b.r.ratio("webhook.p99", float64(busy99)/float64(idle99), "≤ 3")
	return b.clear(ctx)
}

// fill receives a backlog.
func (b *hookBench) fill(ctx context.Context, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(128)
	for range n {
		group.Go(func() error {
			body := b.event()
			at := time.Now()
			r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body)).WithContext(ctx)
			r.Header.Set("Stripe-Signature", fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(stripewebhook.ComputeSignature(at, body, hookSecret))))
			w := httptest.NewRecorder()
			b.inbox.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				return fmt.Errorf("fill: status %d", w.Code)
			}
			return nil
		})
	}
	return group.Wait()
}

type noop struct{}

// Kind implements river.JobArgs.
func (noop) Kind() string { return "bench_noop" }

// fillNoops inserts as many of River's jobs that do nothing.
func (b *hookBench) fillNoops(ctx context.Context, n int) error {
	for left := n; left > 0; left -= min(left, 1000) {
		params := make([]river.InsertManyParams, min(left, 1000))
		for i := range params {
			params[i] = river.InsertManyParams{Args: noop{}}
		}
		err := b.db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := b.engine.Client().InsertManyFastTx(ctx, tx.Tx, params)
			return err
		})
		if err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	return nil
}

func (b *hookBench) draining(ctx context.Context) error {
	for _, c := range []struct {
		workers, events int
		what            string
	}{
		{0, pick(b.o, 2000, 50_000), "as shipped, 10 jobs at once per process"},
		{100, pick(b.o, 5000, 50_000), "100 jobs at once per process"},
	} {
		idle, err := b.drain(ctx, c.workers, func() error { return b.fillNoops(ctx, c.events) },
			`SELECT EXISTS (SELECT 1 FROM river_job WHERE state IN ('available', 'running', 'retryable', 'scheduled') AND kind = 'bench_noop')`)
		if err != nil {
			return fmt.Errorf("drain River's no-ops: %w", err)
		}
		ours, err := b.drain(ctx, c.workers, func() error { return b.fill(ctx, c.events) },
			`SELECT EXISTS (SELECT 1 FROM qs_webhook_events WHERE status = 'received')`)
		if err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		mine, theirs := float64(c.events)/ours.Seconds(), float64(c.events)/idle.Seconds()
		b.r.linef(fmt.Sprintf("drain %d, %s", c.events, c.what), "%.0f/s; River's no-ops %.0f/s; %.2f of it", mine, theirs, mine/theirs)
		name := "webhook.drain"
		if c.workers > 0 {
			name = "webhook.drain.unthrottled" // River is held up by nothing but the database
		}
		b.r.ratio(name, mine/theirs, "≥ 0.7")
	}
	return nil
}

// drain measures how long two processes need for what fill made, until busy finds no more.
func (b *hookBench) drain(ctx context.Context, workers int, fill func() error, busy string) (time.Duration, error) {
	if err := errors.Join(b.clear(ctx), fill()); err != nil {
		return 0, err
	}
	if _, err := b.db.Writer().ExecContext(ctx, `VACUUM ANALYZE`); err != nil {
		return 0, err
	}
	w, err := b.startWorkers(ctx, workers)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	for more := true; more && err == nil; {
		time.Sleep(20 * time.Millisecond)
		err = b.db.Writer().GetContext(ctx, &more, busy)
	}
	took := time.Since(began)
	return took, errors.Join(err, w.stop())
}

// workers are two copies of this program that run jobs.
type workers []*exec.Cmd

// startWorkers starts them and returns once both have begun to work.
func (b *hookBench) startWorkers(ctx context.Context, jobsEach int) (w workers, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for range 2 {
		c := exec.CommandContext(ctx, self, "webhook") //nolint:gosec // this very program
		c.Env = append(os.Environ(), hookWorker+"="+b.url, hookWorkers+"="+strconv.Itoa(jobsEach))
		c.Stderr = os.Stderr
		if _, err := c.StdinPipe(); err != nil {
			return nil, errors.Join(err, w.stop())
		}
		out, err := c.StdoutPipe()
		if err != nil {
			return nil, errors.Join(err, w.stop())
		}
		if err := c.Start(); err != nil {
			return nil, errors.Join(err, w.stop())
		}
		w = append(w, c)
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
			return nil, errors.Join(fmt.Errorf("a copy did not start: %q", line), err, w.stop())
		}
	}
	return w, nil
}

func (w workers) stop() error {
	var err error
	for _, c := range w {
		err = errors.Join(err, c.Process.Kill())
		_ = c.Wait() // it says that it was killed
	}
	return err
}

// drainWorker is a process that runs jobs until it is killed.
func drainWorker(ctx context.Context, url string) error {
	n, err := strconv.Atoi(os.Getenv(hookWorkers))
	if err != nil {
		return err
	}
	db, engine, err := openHooks(ctx, url, n)
	if err != nil {
		return err
	}
	p, err := newHookInbox(db, engine, n)
	if err != nil {
		return err
	}
	webhook.On(p, hookType, func(context.Context, *sqlx.Tx, webhook.Event[stripe.CheckoutSession]) error { return nil })
	if err := engine.Start(ctx); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin) // until the parent is gone
	return err
}
