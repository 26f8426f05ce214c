package webhook_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	stripewebhook "github.com/stripe/stripe-go/v76/webhook"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/webhook"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashPoint) != "" {
		crash() // this is a copy of the test binary that is to be killed
		return
	}
	dbtest.Main(m)
}

const secret = "whsec_test"

var schema = dbtest.Schema{Name: "webhook", Migrate: func(ctx context.Context, db *database.DB) error {
	e, err := jobs.New(jobs.Config{DB: db})
	if err != nil {
		return err
	}
	if err := e.Migrate(ctx); err != nil {
		return err
	}
	if err := database.Migrate(ctx, db, webhook.Migrations()); err != nil {
		return err
	}
	_, err = db.Writer().ExecContext(ctx, "CREATE TABLE effects (event TEXT NOT NULL, object TEXT NOT NULL)")
	return err
}}

// inbox is a processor with its engine, as a host wires them.
type inbox struct {
	*webhook.Processor
	db     *database.DB
	engine *jobs.Engine
	log    *bytes.Buffer
}

func newInbox(t testing.TB, db *database.DB, change func(*webhook.Config)) *inbox {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	engine, err := jobs.New(jobs.Config{DB: db, PollInterval: 10 * time.Millisecond, Logger: quiet})
	require.NoError(t, err)
	in := &inbox{db: db, engine: engine, log: &bytes.Buffer{}}
	cfg := webhook.Config{DB: db.Writer(), ReadDB: db.Reader(), Jobs: engine.Client(), Secrets: []string{"whsec_old", secret}, Logger: slog.New(slog.NewTextHandler(&locked{w: in.log}, nil))}
	if change != nil {
		change(&cfg)
	}
	in.Processor, err = webhook.New(cfg)
	require.NoError(t, err)
	require.NoError(t, in.AddWorkers(engine.Workers()))
	return in
}

type locked struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (in *inbox) start(t *testing.T) {
	t.Helper()
	require.NoError(t, in.engine.Start(t.Context()))
	t.Cleanup(func() { assert.NoError(t, in.engine.Stop(context.Background())) })
}

func event(id, kind, object string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"object":"event","type":%q,"api_version":%q,"created":%d,"livemode":false,"data":{"object":{"id":%q,"object":"checkout.session","currency":"usd"}}}`,
		id, kind, stripe.APIVersion, time.Now().Unix(), object)
}

func sign(body []byte, secret string, at time.Time) string {
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(stripewebhook.ComputeSignature(at, body, secret)))
}

func (in *inbox) post(body []byte) int { return in.postSigned(body, sign(body, secret, time.Now())) }

func (in *inbox) postSigned(body []byte, signature string) int {
	r := httptest.NewRequest(http.MethodPost, "/webhooks/stripe", bytes.NewReader(body))
	r.Header.Set("Stripe-Signature", signature)
	w := httptest.NewRecorder()
	in.Handler().ServeHTTP(w, r)
	return w.Code
}

func (in *inbox) waitFor(t *testing.T, id string, status webhook.Status) webhook.Record {
	t.Helper()
	var r webhook.Record
	require.Eventually(t, func() bool {
		var err error
		r, err = in.Find(t.Context(), id)
		return err == nil && r.Status == status
	}, time.Minute, 10*time.Millisecond, "event %s should be %s", id, status)
	return r
}

func (in *inbox) effects(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, in.db.Get(t.Context(), &n, "SELECT COUNT(*) FROM effects"))
	return n
}

func effect(db *database.DB) func(context.Context, *sqlx.Tx, webhook.Event[stripe.CheckoutSession]) error {
	return func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
		_, err := db.ExecTx(ctx, tx, "INSERT INTO effects (event, object) VALUES (?, ?)", ev.ID, ev.Object.ID)
		return err
	}
}

const kind = "checkout.session.completed"

func TestHandler_TheSameEventTwentyTimesAtOnceTakesEffectOnce(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		// Two processes, each with its own inbox and engine.
		first, second := newInbox(t, db, nil), newInbox(t, db, nil)
		webhook.On(first.Processor, kind, effect(db))
		webhook.On(second.Processor, kind, effect(db))
		first.start(t)
		second.start(t)
		var group errgroup.Group
		for i := range 20 {
			group.Go(func() error {
				in := first
				if i%2 == 1 {
					in = second
				}
				if code := in.post(event("evt_1", kind, "cs_1")); code != http.StatusOK {
					return fmt.Errorf("status %d", code)
				}
				return nil
			})
		}
		require.NoError(t, group.Wait())
		r := first.waitFor(t, "evt_1", webhook.StatusDone)
		assert.Equal(t, 1, first.effects(t))
		assert.NotNil(t, r.ProcessedAt)
		assert.Equal(t, "cs_1", r.ObjectID)
		assert.Equal(t, http.StatusOK, first.post(event("evt_1", kind, "cs_1")), "and later")
		assert.Equal(t, 1, first.effects(t))
	})
}

func TestHandler_RefusesWithoutATrace(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, nil)
		body := event("evt_1", kind, "cs_secret_object")
		live := bytes.Replace(body, []byte(`"livemode":false`), []byte(`"livemode":true`), 1)
		now := time.Now()
		for name, c := range map[string]struct {
			body      []byte
			signature string
			want      int
		}{
			"no signature":       {body, "", 400},
			"garbage":            {body, "t=x,v1=y", 400},
			"another secret":     {body, sign(body, "whsec_other", now), 400},
			"changed body":       {append([]byte(" "), body...), sign(body, secret, now), 400},
			"too old":            {body, sign(body, secret, now.Add(-6*time.Minute)), 400},
			"from the future":    {body, sign(body, secret, now.Add(6*time.Minute)), 400},
			"no event":           {[]byte(`{"a":1}`), sign([]byte(`{"a":1}`), secret, now), 400},
			"no JSON":            {[]byte(`{`), sign([]byte(`{`), secret, now), 400},
			"live event in test": {live, sign(live, secret, now), 400},
			"too large":          {make([]byte, webhook.MaxBody+1), "t=1,v1=00", 413},
		} {
			assert.Equal(t, c.want, in.postSigned(c.body, c.signature), name)
		}
		records, _, err := in.List(t.Context(), webhook.ListParams{})
		require.NoError(t, err)
		assert.Empty(t, records)
		assert.NotContains(t, in.log.String(), "cs_secret_object", "payloads are not logged")
		w := httptest.NewRecorder()
		in.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		assert.Equal(t, http.StatusMethodNotAllowed, w.Code)

		assert.Equal(t, 200, in.postSigned(body, sign(body, "whsec_old", now)), "a secret that is being rolled")
		other := event("evt_2", kind, "cs_2")
		assert.Equal(t, 200, in.postSigned(other, sign(other, secret, now)+",v1=00,v0=zz"), "several signatures")
	})
}

func TestHandler_DatabaseDownIs503(t *testing.T) {
	t.Parallel()
	db, err := database.Open(t.Context(), dbtest.SQLiteURL(t, schema))
	require.NoError(t, err)
	in := newInbox(t, db, nil)
	require.NoError(t, db.Close())
	assert.Equal(t, http.StatusServiceUnavailable, in.post(event("evt_1", kind, "cs_1")))
}

func TestProcess_FailureRollsBackAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, func(c *webhook.Config) {
			c.Backoff = func(attempt int) time.Duration { return []time.Duration{0, time.Hour}[attempt-1] }
		})
		var tries atomic.Int64
		do := effect(db)
		webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
			if err := do(ctx, tx, ev); err != nil {
				return err
			}
			switch tries.Add(1) {
			case 1:
				return errors.New("died between effect and mark")
			case 2:
				panic("worse")
			}
			return nil
		})
		in.start(t)
		require.Equal(t, 200, in.post(event("evt_1", kind, "cs_1")))
		r := in.waitFor(t, "evt_1", webhook.StatusReceived)
		require.Eventually(t, func() bool { return tries.Load() >= 2 }, time.Minute, 10*time.Millisecond)
		require.Eventually(t, func() bool {
			var err error
			r, err = in.Find(t.Context(), "evt_1")
			return err == nil && r.Attempts == 2
		}, 5*time.Second, 10*time.Millisecond)
		assert.Contains(t, r.LastError, "worse")
		assert.Zero(t, in.effects(t))
	})
}

func TestProcess_PermanentErrorIsDeadAtOnceAndBlocksNoOther(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		dead := make(chan webhook.Record, 1)
		in := newInbox(t, db, func(c *webhook.Config) {
			c.OnDead = func(_ context.Context, r webhook.Record, _ error) { dead <- r }
		})
		do := effect(db)
		webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
			if ev.ObjectID == "cs_poison" {
				return webhook.Permanent(errors.New("makes no sense"))
			}
			return do(ctx, tx, ev)
		})
		in.start(t)
		require.Equal(t, 200, in.post(event("evt_1", kind, "cs_poison")))
		require.Equal(t, 200, in.post(event("evt_2", kind, "cs_2")))
		require.Equal(t, 200, in.post(event("evt_3", "some.other", "x_1")))
		in.waitFor(t, "evt_2", webhook.StatusDone)
		in.waitFor(t, "evt_3", webhook.StatusIgnored)
		r := in.waitFor(t, "evt_1", webhook.StatusDead)
		assert.Equal(t, 1, r.Attempts)
		assert.Equal(t, "evt_1", (<-dead).ID)

		page, more, err := in.List(t.Context(), webhook.ListParams{Limit: 2})
		require.NoError(t, err)
		assert.True(t, more)
		rest, more, err := in.List(t.Context(), webhook.ListParams{Limit: 2, After: &page[1]})
		require.NoError(t, err)
		assert.False(t, more)
		assert.Len(t, rest, 1)
		only, _, err := in.List(t.Context(), webhook.ListParams{Status: webhook.StatusDead})
		require.NoError(t, err)
		assert.Len(t, only, 1)
		_, err = in.Find(t.Context(), "evt_none")
		require.ErrorIs(t, err, webhook.ErrNotFound)
	})
}

func TestProcess_LastTryIsDead(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, func(c *webhook.Config) { c.MaxAttempts = 1 })
		webhook.On(in.Processor, kind, func(context.Context, *sqlx.Tx, webhook.Event[stripe.CheckoutSession]) error {
			return errors.New("always")
		})
		in.start(t)
		require.Equal(t, 200, in.post(event("evt_1", kind, "cs_1")))
		assert.Contains(t, in.waitFor(t, "evt_1", webhook.StatusDead).LastError, "always")
	})
}

// Events about one object never take effect at the same time, and each sees the object as the last one left it.
func TestProcess_OneObjectsEventsAreOneAfterTheOther(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		first, second := newInbox(t, db, nil), newInbox(t, db, nil)
		var inside, most atomic.Int64
		var version, stale atomic.Int64
		for _, in := range []*inbox{first, second} {
			do := effect(db)
			webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
				if n := inside.Add(1); n > most.Load() {
					most.Store(n)
				}
				defer inside.Add(-1)
				if ev.Object.AmountTotal < version.Load() {
					stale.Add(1)
				}
				version.Add(1)
				return do(ctx, tx, ev)
			}, webhook.WithFetch(func(_ context.Context, id string) (*stripe.CheckoutSession, error) {
				return &stripe.CheckoutSession{ID: id, AmountTotal: version.Load()}, nil
			}))
		}
		const count = 12
		for i := range count {
			require.Equal(t, 200, first.post(event(fmt.Sprintf("evt_%d", i), kind, "cs_same")))
		}
		first.start(t)
		second.start(t)
		for i := range count {
			first.waitFor(t, fmt.Sprintf("evt_%d", i), webhook.StatusDone)
		}
		assert.Equal(t, int64(1), most.Load())
		assert.Zero(t, stale.Load())
		assert.Equal(t, count, first.effects(t))
	})
}

func TestProcess_PayloadOfAnotherVersionIsNotGuessedAt(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, nil)
		webhook.On(in.Processor, "without.fetch", effect(db))
		webhook.On(in.Processor, "with.fetch", effect(db), webhook.WithFetch(func(_ context.Context, id string) (*stripe.CheckoutSession, error) {
			return &stripe.CheckoutSession{ID: id}, nil
		}))
		in.start(t)
		old := func(id, kind string) []byte {
			return bytes.Replace(event(id, kind, "cs_"+id), []byte(stripe.APIVersion), []byte("2020-08-27"), 1)
		}
		require.Equal(t, 200, in.post(old("evt_1", "without.fetch")))
		require.Equal(t, 200, in.post(old("evt_2", "with.fetch")))
		assert.Contains(t, in.waitFor(t, "evt_1", webhook.StatusDead).LastError, "2020-08-27")
		in.waitFor(t, "evt_2", webhook.StatusDone)
	})
}

func TestNew_SaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, schema)
	engine, err := jobs.New(jobs.Config{DB: db})
	require.NoError(t, err)
	for want, cfg := range map[string]webhook.Config{
		"DB is required":   {},
		"Jobs is required": {DB: db.Writer()},
		"at least one":     {DB: db.Writer(), Jobs: engine.Client()},
		"empty secret":     {DB: db.Writer(), Jobs: engine.Client(), Secrets: []string{""}},
	} {
		_, err := webhook.New(cfg)
		require.ErrorContains(t, err, want)
	}
}

func FuzzVerify(f *testing.F) {
	now := time.Unix(1_700_000_000, 0)
	body := []byte(`{"id":"evt"}`)
	f.Add(body, sign(body, secret, now))
	f.Add(body, "t=1,v1=")
	f.Add(body, "v1=,t=,=")
	f.Fuzz(func(t *testing.T, body []byte, header string) {
		if webhook.Verify(body, header, []string{secret}, now, time.Minute) != nil {
			return
		}
		// Accepted: then the header names a time near now and a signature of this very body.
		accepted := false
		for second := now.Unix() - 60; second <= now.Unix()+60; second++ {
			want := hex.EncodeToString(stripewebhook.ComputeSignature(time.Unix(second, 0), body, secret))
			accepted = accepted || strings.Contains(strings.ToLower(header), want)
		}
		require.True(t, accepted)
	})
}
