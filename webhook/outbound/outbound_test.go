package outbound_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/webhook/outbound"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var schema = dbtest.Schema{Name: "outbound", Migrate: func(ctx context.Context, db *database.DB) error {
	e, err := jobs.New(jobs.Config{DB: db})
	if err != nil {
		return err
	}
	return errors.Join(e.Migrate(ctx), database.Migrate(ctx, db, outbound.Migrations()))
}}

// How long, and how often, a test looks for what happens in the background.
const (
	timeout = time.Minute
	tick    = 10 * time.Millisecond
)

var key = []byte("a key of at least thirty-two bytes")

// clock is one that a test moves.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Now().UnixMicro())
	return c
}

func (c *clock) now() time.Time          { return time.UnixMicro(c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(d.Microseconds()) }

// sender is an Outbound with its engine, as a host wires them.
type sender struct {
	*outbound.Outbound

	t  *testing.T
	db *database.DB
}

func start(t *testing.T, db *database.DB, change func(*outbound.Config)) *sender {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	engine, err := jobs.New(jobs.Config{DB: db, PollInterval: 10 * time.Millisecond, Logger: quiet})
	require.NoError(t, err)
	cfg := outbound.Config{DB: db.Writer(), ReadDB: db.Reader(), Jobs: engine.Client(), Key: key, AllowLoopback: true, Logger: quiet,
		Backoff: func(int) time.Duration { return 0 }}
	if change != nil {
		change(&cfg)
	}
	o, err := outbound.New(cfg)
	require.NoError(t, err)
	require.NoError(t, o.AddWorkers(engine.Workers()))
	require.NoError(t, engine.Start(t.Context()))
	t.Cleanup(func() { assert.NoError(t, engine.Stop(context.Background())) })
	return &sender{o, t, db}
}

func (s *sender) endpoint(url string, types ...string) (outbound.Endpoint, string) {
	s.t.Helper()
	e, secret, err := s.CreateEndpoint(s.t.Context(), outbound.EndpointParams{Account: "ada", URL: url, Types: types})
	require.NoError(s.t, err)
	return e, secret
}

func (s *sender) send(key string) uuid.UUID {
	s.t.Helper()
	id, err := s.Send(s.t.Context(), outbound.Message{Account: "ada", Type: outbound.TypeCreditsLow, Key: key,
		Data: outbound.CreditsLow{Account: "ada", Available: "9.5", Threshold: "10"}})
	require.NoError(s.t, err)
	return id
}

// wait returns the endpoint's latest delivery once it has the status.
func (s *sender) wait(e outbound.Endpoint, status outbound.Status) (d outbound.Delivery) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		list, _, err := s.Deliveries(s.t.Context(), outbound.DeliveriesParams{Account: "ada", Endpoint: e.ID, Limit: 1})
		if err != nil || len(list) == 0 {
			return false
		}
		d = list[0]
		return d.Status == status
	}, time.Minute, 10*time.Millisecond, "the delivery should be %s", status)
	return d
}

// receiver collects what it gets and answers what the test wants.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	got    []*http.Request
	bodies []string
	answer atomic.Int64
	text   atomic.Value
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.answer.Store(http.StatusOK)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		r.got, r.bodies = append(r.got, req), append(r.bodies, string(body))
		r.mu.Unlock()
		w.WriteHeader(int(r.answer.Load()))
		if text, ok := r.text.Load().(string); ok {
			_, _ = io.WriteString(w, text)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) last() (*http.Request, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[len(r.got)-1], r.bodies[len(r.bodies)-1]
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

func TestSend_SignedInTheStandardsFormatToWhoWantsTheType(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		s, r, other := start(t, db, nil), receive(t), receive(t)
		e, secret := s.endpoint(r.URL, outbound.TypeCreditsLow)
		s.endpoint(other.URL, outbound.TypePurchaseCompleted)
		assert.True(t, strings.HasPrefix(secret, "whsec_"))
		id := s.send("low/1")
		again := s.send("low/1")
		assert.Equal(t, id, again, "a key is sent once")
		d := s.wait(e, outbound.StatusDelivered)
		assert.Equal(t, 1, d.Attempts)
		assert.Equal(t, 200, d.LastStatus)
		require.Equal(t, 1, r.count())
		assert.Zero(t, other.count())

		req, body := r.last()
		assert.Equal(t, d.Message, req.Header.Get("webhook-id"))
		verifier, err := standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		require.NoError(t, verifier.Verify([]byte(body), req.Header))
		require.Error(t, verifier.Verify([]byte(body+" "), req.Header))
		var got struct {
			Type      string              `json:"type"`
			Timestamp time.Time           `json:"timestamp"`
			Data      outbound.CreditsLow `json:"data"`
		}
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		assert.Equal(t, outbound.TypeCreditsLow, got.Type)
		assert.Equal(t, "9.5", got.Data.Available)
		assert.WithinDuration(t, time.Now(), got.Timestamp, time.Minute)

		var stored []byte
		require.NoError(t, db.Get(t.Context(), &stored, "SELECT secret FROM qs_outbound_endpoints WHERE url = ?", r.URL))
		assert.NotContains(t, string(stored), strings.TrimPrefix(secret, "whsec_"), "the secret is sealed")
	})
}

func TestSendTx_GoesOutWithItsCauseOrNotAtAll(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		s, r := start(t, db, nil), receive(t)
		e, _ := s.endpoint(r.URL)
		undone := errors.New("undone")
		err := db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			_, err := s.SendTx(ctx, tx, outbound.Message{Account: "ada", Type: outbound.TypeCreditsLow, Key: "a", Data: 1})
			return errors.Join(err, undone)
		})
		require.ErrorIs(t, err, undone)
		s.send("b")
		s.wait(e, outbound.StatusDelivered)
		assert.Equal(t, 1, r.count())
		for _, m := range []outbound.Message{
			{Type: outbound.TypeCreditsLow, Key: "a", Data: 1}, {Account: "ada", Type: "no.such", Key: "a", Data: 1}, {Account: "ada", Type: outbound.TypeCreditsLow, Data: 1},
			{Account: "ada", Type: outbound.TypeCreditsLow, Key: "a", Data: strings.Repeat("x", 300<<10)}, {Account: "ada", Type: outbound.TypeCreditsLow, Key: "a", Data: make(chan int)},
		} {
			_, err := s.Send(t.Context(), m)
			require.Error(t, err)
		}
	})
}

func TestDeliver_TriesAgainThenFailsAndCanBeSentAgain(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		s, r := start(t, db, func(c *outbound.Config) { c.MaxAttempts = 3 }), receive(t)
		e, _ := s.endpoint(r.URL)
		r.answer.Store(http.StatusInternalServerError)
		s.send("a")
		d := s.wait(e, outbound.StatusFailed)
		assert.Equal(t, 3, d.Attempts)
		assert.Equal(t, 500, d.LastStatus)
		tries, err := s.Attempts(t.Context(), "ada", d.ID)
		require.NoError(t, err)
		assert.Len(t, tries, 3)
		failing, err := s.FindEndpoint(t.Context(), "ada", e.ID)
		require.NoError(t, err)
		assert.NotNil(t, failing.FailingSince)
		first, _ := r.last()

		r.answer.Store(http.StatusNoContent)
		require.ErrorIs(t, s.Redeliver(t.Context(), "eve", d.ID), outbound.ErrNotFound)
		require.NoError(t, s.Redeliver(t.Context(), "ada", d.ID))
		s.wait(e, outbound.StatusDelivered)
		last, _ := r.last()
		assert.Equal(t, first.Header.Get("webhook-id"), last.Header.Get("webhook-id"), "a repetition is recognised by its id")
		mended, err := s.FindEndpoint(t.Context(), "ada", e.ID)
		require.NoError(t, err)
		assert.Nil(t, mended.FailingSince)
	})
}

func TestDeliver_EndpointThatFailsForDaysIsDisabled(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		c, told := newClock(), make(chan outbound.Endpoint, 2)
		s, r := start(t, db, func(cfg *outbound.Config) {
			cfg.Clock, cfg.MaxAttempts = c.now, 1
			cfg.OnDisabled = func(_ context.Context, _ *sqlx.Tx, e outbound.Endpoint) error { told <- e; return nil }
		}), receive(t)
		e, _ := s.endpoint(r.URL)
		r.answer.Store(http.StatusBadGateway)
		s.send("a")
		s.wait(e, outbound.StatusFailed)
		c.advance(4 * 24 * time.Hour)
		s.send("b")
		require.Eventually(t, func() bool { return r.count() == 2 }, time.Minute, 10*time.Millisecond)
		s.wait(e, outbound.StatusFailed)
		assert.Empty(t, told)
		c.advance(2 * 24 * time.Hour)
		s.send("c")
		assert.Equal(t, e.ID, (<-told).ID)
		s.send("d")
		_, err := s.SendTest(t.Context(), "ada", e.ID)
		require.ErrorIs(t, err, outbound.ErrDisabled)
		off, err := s.FindEndpoint(t.Context(), "ada", e.ID)
		require.NoError(t, err)
		assert.False(t, off.Enabled)
		assert.Contains(t, off.DisabledWhy, "failed")

		r.answer.Store(http.StatusOK)
		on, err := s.EnableEndpoint(t.Context(), "ada", e.ID)
		require.NoError(t, err)
		assert.True(t, on.Enabled)
		_, err = s.SendTest(t.Context(), "ada", e.ID)
		require.NoError(t, err)
		assert.Equal(t, outbound.TypeTest, s.wait(e, outbound.StatusDelivered).Type)
		assert.Equal(t, 4, r.count(), "nothing was sent while it was disabled")
	})
}

func TestDeliver_GoneDisablesAtOnce(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		s, r := start(t, db, nil), receive(t)
		e, _ := s.endpoint(r.URL)
		r.answer.Store(http.StatusGone)
		s.send("a")
		assert.Equal(t, 1, s.wait(e, outbound.StatusFailed).Attempts)
		off, err := s.FindEndpoint(t.Context(), "ada", e.ID)
		require.NoError(t, err)
		assert.False(t, off.Enabled)
	})
}

func TestRollSecret_BothSignUntilTheOverlapEnds(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		c := newClock()
		s, r := start(t, db, func(cfg *outbound.Config) { cfg.Clock = c.now }), receive(t)
		e, old := s.endpoint(r.URL)
		_, fresh, err := s.RollSecret(t.Context(), "ada", e.ID, time.Hour)
		require.NoError(t, err)
		require.NotEqual(t, old, fresh)
		verify := func(secret string) error {
			req, body := r.last()
			v, err := standardwebhooks.NewWebhook(secret)
			require.NoError(t, err)
			return v.VerifyIgnoringTimestamp([]byte(body), req.Header)
		}
		s.send("a")
		s.wait(e, outbound.StatusDelivered)
		require.NoError(t, verify(old))
		require.NoError(t, verify(fresh))
		c.advance(2 * time.Hour)
		s.send("b")
		require.Eventually(t, func() bool { return r.count() == 2 }, time.Minute, 10*time.Millisecond)
		require.Error(t, verify(old))
		require.NoError(t, verify(fresh))
		_, cut, err := s.RollSecret(t.Context(), "ada", e.ID, -1)
		require.NoError(t, err)
		s.send("c")
		require.Eventually(t, func() bool { return r.count() == 3 }, time.Minute, 10*time.Millisecond)
		require.Error(t, verify(fresh))
		require.NoError(t, verify(cut))
		_, _, err = s.RollSecret(t.Context(), "eve", e.ID, 0)
		require.ErrorIs(t, err, outbound.ErrNotFound)
	})
}

func TestEndpoints_AreOfTheirAccountAndChecked(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		s := start(t, db, func(c *outbound.Config) { c.AllowLoopback = false })
		for url, field := range map[string]string{
			"http://example.com/": "url", "ftp://example.com/": "url", "example.com": "url", "": "url", "https://": "url", "https://u:p@example.com/": "url",
			"https://127.0.0.1/": "url", "https://[::1]/": "url", "https://169.254.169.254/latest": "url", "https://[::ffff:10.0.0.1]/": "url", "https://example.com/#x": "url",
		} {
			_, _, err := s.CreateEndpoint(t.Context(), outbound.EndpointParams{Account: "ada", URL: url})
			assert.Contains(t, problem.FieldsOf(err), field, url)
		}
		_, _, err := s.CreateEndpoint(t.Context(), outbound.EndpointParams{Account: "ada", URL: "https://example.com", Types: []string{"no.such"}})
		assert.Contains(t, problem.FieldsOf(err), "types")
		e, _ := s.endpoint("https://example.com/hooks")
		_, err = s.FindEndpoint(t.Context(), "eve", e.ID)
		require.ErrorIs(t, err, outbound.ErrNotFound)
		_, err = s.UpdateEndpoint(t.Context(), e.ID, outbound.EndpointParams{Account: "eve", URL: "https://example.com"})
		require.ErrorIs(t, err, outbound.ErrNotFound)
		require.ErrorIs(t, s.DeleteEndpoint(t.Context(), "eve", e.ID), outbound.ErrNotFound)
		changed, err := s.UpdateEndpoint(t.Context(), e.ID, outbound.EndpointParams{Account: "ada", URL: "https://example.com/b", Types: []string{outbound.TypeCreditsLow}, Description: " d "})
		require.NoError(t, err)
		assert.Equal(t, "d", changed.Description)
		assert.Equal(t, []string{outbound.TypeCreditsLow}, changed.Types)
		off, err := s.DisableEndpoint(t.Context(), "ada", e.ID)
		require.NoError(t, err)
		assert.False(t, off.Enabled)
		require.NoError(t, s.DeleteEndpoint(t.Context(), "ada", e.ID))
		for range outbound.MaxEndpoints {
			s.endpoint("https://example.com/hooks")
		}
		_, _, err = s.CreateEndpoint(t.Context(), outbound.EndpointParams{Account: "ada", URL: "https://example.com"})
		require.ErrorIs(t, err, outbound.ErrTooMany)
		list, err := s.ListEndpoints(t.Context(), "ada")
		require.NoError(t, err)
		assert.Len(t, list, outbound.MaxEndpoints)
	})
}

func TestAllowed_NothingButThePublicInternet(t *testing.T) {
	t.Parallel()
	for _, a := range []string{"1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1"} {
		assert.True(t, outbound.Allowed(netip.MustParseAddr(a)), a)
	}
	for _, a := range []string{
		"127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200",
		"168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.88.99.1",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
		"fec0::1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "100::1", "::ffff:0:127.0.0.1",
	} {
		assert.False(t, outbound.Allowed(netip.MustParseAddr(a)), a)
	}
	assert.False(t, outbound.Allowed(netip.Addr{}))
}

// The guard sees the dialled address, so a name does not get past it.
func TestDeliver_NameThatLeadsInsideIsRefused(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		inside := receive(t)
		s := start(t, db, func(c *outbound.Config) { c.AllowLoopback, c.MaxAttempts = false, 1 })
		port := inside.URL[strings.LastIndex(inside.URL, ":"):]
		byName, _ := s.endpoint("https://localhost" + port)
		s.send("a")
		assert.Contains(t, s.wait(byName, outbound.StatusFailed).LastError, "not on the public internet")
		assert.Zero(t, inside.count())
	})
}

func TestDeliver_RedirectsAreGuardedToo(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		s := start(t, db, func(c *outbound.Config) { c.MaxAttempts = 1 })
		target := receive(t)
		var to atomic.Pointer[string]
		var code atomic.Int64
		redirect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", *to.Load())
			w.WriteHeader(int(code.Load()))
		}))
		t.Cleanup(redirect.Close)
		e, _ := s.endpoint(redirect.URL)
		for _, c := range []struct {
			code int64
			to   string
			want outbound.Status
			says string
		}{
			{307, "http://10.0.0.1/", outbound.StatusFailed, "public internet"},
			{308, "http://169.254.169.254/latest/meta-data", outbound.StatusFailed, "public internet"},
			{307, "http://[::ffff:192.168.0.1]/", outbound.StatusFailed, "public internet"},
			{307, "gopher://example.com/", outbound.StatusFailed, "https://"},
			{302, target.URL, outbound.StatusFailed, "302"},
			{308, redirect.URL, outbound.StatusFailed, "too many redirects"},
			{307, target.URL, outbound.StatusDelivered, ""},
		} {
			to.Store(&c.to)
			code.Store(c.code)
			d, err := s.SendTest(t.Context(), "ada", e.ID)
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				got, _, err := s.FindDelivery(t.Context(), "ada", d)
				return err == nil && got.Status == c.want && strings.Contains(got.LastError, c.says)
			}, time.Minute, 10*time.Millisecond, "%d to %s", c.code, c.to)
		}
		assert.Equal(t, 1, target.count())
	})
}

func TestPrune_TakesOldMessagesThatEnded(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		c := newClock()
		s, r := start(t, db, func(cfg *outbound.Config) {
			cfg.Clock = c.now
			cfg.Backoff = func(int) time.Duration { return 400 * 24 * time.Hour }
		}), receive(t)
		e, _ := s.endpoint(r.URL)
		s.send("a")
		s.wait(e, outbound.StatusDelivered)
		r.answer.Store(500)
		s.send("b")
		require.Eventually(t, func() bool { return s.wait(e, outbound.StatusWaiting).Attempts == 1 }, time.Minute, 10*time.Millisecond)
		n, err := s.Prune(t.Context(), 0)
		require.NoError(t, err)
		assert.Zero(t, n)
		c.advance(91 * 24 * time.Hour)
		n, err = s.Prune(t.Context(), 0)
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		list, _, err := s.Deliveries(t.Context(), outbound.DeliveriesParams{Account: "ada"})
		require.NoError(t, err)
		require.Len(t, list, 1)
		assert.Equal(t, outbound.StatusWaiting, list[0].Status)
	})
}

func TestNew_SaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, schema)
	engine, err := jobs.New(jobs.Config{DB: db})
	require.NoError(t, err)
	for want, cfg := range map[string]outbound.Config{
		"DB is required":   {},
		"Jobs is required": {DB: db.Writer()},
		"Config.Key":       {DB: db.Writer(), Jobs: engine.Client(), Key: []byte("short")},
		"empty type":       {DB: db.Writer(), Jobs: engine.Client(), Key: key, Types: []string{""}},
	} {
		_, err := outbound.New(cfg)
		require.ErrorContains(t, err, want)
	}
}

func TestDefaultBackoff_GrowsToADay(t *testing.T) {
	t.Parallel()
	assert.InDelta(t, 5.25, outbound.DefaultBackoff(1).Seconds(), 0.26)
	assert.InDelta(t, 25.2, outbound.DefaultBackoff(9).Hours(), 1.21)
	assert.InDelta(t, 25.2, outbound.DefaultBackoff(99).Hours(), 1.21)
}
