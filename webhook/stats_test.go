package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/webhook"
)

// clock is one that a test moves.
type clock struct{ at atomic.Int64 }

func newClock(at time.Time) *clock {
	c := &clock{}
	c.at.Store(at.UnixMicro())
	return c
}

func (c *clock) now() time.Time          { return time.UnixMicro(c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(d.Microseconds()) }

// eventAt is an event of a moment, and its signature of the same.
func (in *inbox) postAt(id, kind, object string, created, now time.Time) int {
	body := fmt.Appendf(nil, `{"id":%q,"object":"event","type":%q,"api_version":%q,"created":%d,"livemode":false,"data":{"object":{"id":%q,"object":"checkout.session"}}}`,
		id, kind, stripe.APIVersion, created.Unix(), object)
	return in.postSigned(body, sign(body, secret, now))
}

func TestStats_CountsLagsFailuresAndHours(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		c := newClock(noon)
		in := newInbox(t, db, func(cfg *webhook.Config) {
			cfg.Clock, cfg.Backoff = c.now, func(int) time.Duration { return 72 * time.Hour }
		})
		webhook.On(in.Processor, kind, func(_ context.Context, _ *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
			switch {
			case strings.HasPrefix(ev.ObjectID, "cs_dead"):
				return webhook.Permanent(fmt.Errorf("session %s is of no account", ev.ObjectID))
			case strings.HasPrefix(ev.ObjectID, "cs_wait"):
				return errors.New("not yet")
			}
			return nil
		})
		in.start(t)
		// A hundred events, each a second later than the one before: lags of 1 to 100 s.
		for i := 1; i <= 100; i++ {
			require.Equal(t, 200, in.postAt(fmt.Sprintf("evt_%d", i), kind, fmt.Sprintf("cs_%d", i), noon.Add(-time.Duration(i)*time.Second), noon))
		}
		for i := 1; i <= 100; i++ {
			in.waitFor(t, fmt.Sprintf("evt_%d", i), webhook.StatusDone)
		}
		c.advance(time.Hour)
		later := c.now()
		require.Equal(t, 200, in.postAt("evt_d1", kind, "cs_dead1", later, later))
		require.Equal(t, 200, in.postAt("evt_d2", kind, "cs_dead2", later, later))
		require.Equal(t, 200, in.postAt("evt_w", kind, "cs_wait", later, later))
		require.Equal(t, 200, in.postAt("evt_o", "some.other", "x_1", later, later))
		in.waitFor(t, "evt_d1", webhook.StatusDead)
		in.waitFor(t, "evt_d2", webhook.StatusDead)
		in.waitFor(t, "evt_o", webhook.StatusIgnored)
		require.Eventually(t, func() bool {
			r, err := in.Find(t.Context(), "evt_w")
			return err == nil && r.Attempts == 1
		}, time.Minute, 10*time.Millisecond)
		c.advance(30 * time.Minute)

		s, err := in.Stats(t.Context(), webhook.StatsParams{From: noon.Add(-time.Hour)})
		require.NoError(t, err)
		assert.Equal(t, []webhook.TypeCount{
			{Type: kind, Status: webhook.StatusDead, Events: 2}, {Type: kind, Status: webhook.StatusDone, Events: 100},
			{Type: kind, Status: webhook.StatusReceived, Events: 1}, {Type: "some.other", Status: webhook.StatusIgnored, Events: 1},
		}, s.Counts)
		assert.Equal(t, webhook.Lag{Events: 100, P50: 50 * time.Second, P95: 95 * time.Second, P99: 99 * time.Second}, s.Lag)
		assert.Equal(t, []webhook.AttemptCount{{Attempts: 1, Events: 104}}, s.Attempts)
		assert.Equal(t, []webhook.FailureCount{
			{Class: webhook.ClassPermanent, Reason: "session … is of no account", Type: kind, Events: 2},
			{Class: webhook.ClassRetry, Reason: "not yet", Type: kind, Events: 1},
		}, s.Failures)
		require.Len(t, s.Hours, 3)
		assert.Equal(t, webhook.Hour{Hour: noon.Add(-time.Hour)}, s.Hours[0])
		assert.Equal(t, webhook.Hour{Hour: noon, Received: 100, Ended: 100}, s.Hours[1])
		assert.Equal(t, webhook.Hour{Hour: noon.Add(time.Hour), Received: 4, Ended: 1}, s.Hours[2])
		assert.Equal(t, int64(1), s.Backlog.Waiting)
		assert.Equal(t, int64(2), s.Backlog.Dead)
		require.NotNil(t, s.Backlog.Oldest)
		assert.True(t, later.Equal(*s.Backlog.Oldest))

		empty, err := in.Stats(t.Context(), webhook.StatsParams{From: noon.Add(-3 * time.Hour), To: noon.Add(-2 * time.Hour)})
		require.NoError(t, err)
		assert.Equal(t, webhook.Lag{}, empty.Lag)
		assert.Empty(t, empty.Counts)
		for _, wrong := range []webhook.StatsParams{{From: later, To: noon}, {From: noon.Add(-32 * 24 * time.Hour)}} {
			_, err = in.Stats(t.Context(), wrong)
			assert.Contains(t, problem.FieldsOf(err), "from")
		}
	})
}

func TestPayload_PersonalDataOnlyWhenAskedFor(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, nil)
		body := fmt.Appendf(nil, `{"id":"evt_1","object":"event","type":%q,"api_version":%q,"created":%d,"livemode":false,"request":{"id":"req_1","idempotency_key":"ada@example.com"},
			"data":{"object":{"id":"cs_test_1","object":"checkout.session","currency":"usd","amount_total":1234,"customer":"cus_9","client_reference_id":"ada@example.com",
			"customer_email":"ada@example.com","customer_details":{"email":"ada@example.com","name":"Ada Lovelace","phone":"+44 20 7946 0000","tax_exempt":"none","age":363636,
			"address":{"line1":"12 St James's Square","city":"London","postal_code":"SW1Y 4JH","country":"GB"}},
			"metadata":{"note":"for Charles","object":"a word in metadata"},"payment_status":"paid","payment_method_types":["card"],"receipt_url":"https://pay.example/ada",
			"status":"Ada's status? no","huge":12345678901234567890}}}`, kind, stripe.APIVersion, time.Now().Unix())
		require.Equal(t, 200, in.post(body))
		shown, err := in.Payload(t.Context(), webhook.PayloadParams{ID: "evt_1"})
		require.NoError(t, err)
		text := string(shown)
		for _, personal := range []string{"ada@", "Ada L", "Lovelace", "7946", "James", "London", "SW1Y", "GB", "Charles", "a word", "pay.example", "363636", "status? no"} {
			assert.NotContains(t, text, personal)
		}
		for _, kept := range []string{"evt_1", "cs_test_1", "cus_9", `"usd"`, "1234", `"paid"`, `"card"`, "12345678901234567890", "checkout.session", kind} {
			assert.Contains(t, text, kept)
		}
		actions, _, err := in.Actions(t.Context(), webhook.ActionsParams{Event: "evt_1"})
		require.NoError(t, err)
		assert.Empty(t, actions)

		_, err = in.Payload(t.Context(), webhook.PayloadParams{ID: "evt_1", Reveal: true})
		require.ErrorIs(t, err, webhook.ErrNoActor)
		shown, err = in.Payload(t.Context(), webhook.PayloadParams{ID: "evt_1", Reveal: true, By: "grace", Reason: "ticket 7"})
		require.NoError(t, err)
		assert.JSONEq(t, string(body), string(shown))
		actions, _, err = in.Actions(t.Context(), webhook.ActionsParams{Event: "evt_1"})
		require.NoError(t, err)
		require.Len(t, actions, 1)
		assert.Equal(t, webhook.VerbReveal, actions[0].Verb)
		assert.Equal(t, "grace", actions[0].By)
		_, err = in.Payload(t.Context(), webhook.PayloadParams{ID: "evt_none"})
		require.ErrorIs(t, err, webhook.ErrNotFound)
	})
}

func TestPrune_PayloadsThenRowsAndIdsStay(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		c := newClock(begin)
		in := newInbox(t, db, func(cfg *webhook.Config) { cfg.Clock = c.now })
		webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
			if ev.ObjectID == "cs_dead" {
				return webhook.Permanent(errors.New("no"))
			}
			return effect(db)(ctx, tx, ev)
		})
		in.start(t)
		require.Equal(t, 200, in.postAt("evt_old", kind, "cs_1", begin, begin))
		require.Equal(t, 200, in.postAt("evt_dead", kind, "cs_dead", begin, begin))
		in.waitFor(t, "evt_old", webhook.StatusDone)
		in.waitFor(t, "evt_dead", webhook.StatusDead)
		c.advance(10 * 24 * time.Hour)
		require.Equal(t, 200, in.postAt("evt_new", kind, "cs_2", c.now(), c.now()))
		in.waitFor(t, "evt_new", webhook.StatusDone)

		params := webhook.PruneParams{Payloads: 5 * 24 * time.Hour, Rows: 20 * 24 * time.Hour, DryRun: true}
		pruned, err := in.Prune(t.Context(), params)
		require.NoError(t, err)
		assert.Equal(t, webhook.Pruned{Payloads: 1, DryRun: true}, pruned)
		_, err = in.Payload(t.Context(), webhook.PayloadParams{ID: "evt_old"})
		require.NoError(t, err)
		params.DryRun = false
		pruned, err = in.Prune(t.Context(), params)
		require.NoError(t, err)
		assert.Equal(t, webhook.Pruned{Payloads: 1}, pruned)
		_, err = in.Payload(t.Context(), webhook.PayloadParams{ID: "evt_old"})
		require.ErrorIs(t, err, webhook.ErrPruned)
		_, err = in.Payload(t.Context(), webhook.PayloadParams{ID: "evt_dead"})
		require.NoError(t, err, "what needs a person is kept whole")
		pruned, err = in.Prune(t.Context(), params)
		require.NoError(t, err)
		assert.Zero(t, pruned)

		_, err = in.Replay(t.Context(), webhook.ActParams{IDs: []string{"evt_old"}, By: "grace"})
		require.NoError(t, err)
		assert.Contains(t, in.waitFor(t, "evt_old", webhook.StatusDead).LastError, "pruned")
		_, err = in.Skip(t.Context(), webhook.ActParams{IDs: []string{"evt_old"}, By: "grace"})
		require.NoError(t, err)

		c.advance(12 * 24 * time.Hour)
		pruned, err = in.Prune(t.Context(), params)
		require.NoError(t, err)
		assert.Equal(t, webhook.Pruned{Rows: 1, Payloads: 1}, pruned)
		_, err = in.Find(t.Context(), "evt_old")
		require.ErrorIs(t, err, webhook.ErrNotFound)
		assert.Equal(t, 200, in.postAt("evt_old", kind, "cs_1", begin, c.now()), "it is still known")
		_, err = in.Find(t.Context(), "evt_old")
		require.ErrorIs(t, err, webhook.ErrNotFound)
		assert.Equal(t, 2, in.effects(t))
		var objects int
		require.NoError(t, db.Get(t.Context(), &objects, "SELECT COUNT(*) FROM qs_webhook_objects WHERE id = 'cs_1'"))
		assert.Zero(t, objects)

		_, err = in.Prune(t.Context(), webhook.PruneParams{Rows: time.Hour})
		assert.Contains(t, problem.FieldsOf(err), "rows")
	})
}

// collect reads the sums and the values of gauges by name and attributes.
func collect(t *testing.T, reader *sdkmetric.ManualReader) map[string]float64 {
	t.Helper()
	var got metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &got))
	values := map[string]float64{}
	for _, s := range got.ScopeMetrics {
		for _, m := range s.Metrics {
			name := strings.TrimPrefix(m.Name, "quickscale.webhook.")
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					var labels []string
					for _, kv := range p.Attributes.ToSlice() {
						labels = append(labels, kv.Value.String())
					}
					values[name+" "+strings.Join(labels, " ")] += float64(p.Value)
				}
			case metricdata.Gauge[int64]:
				values[name] = float64(data.DataPoints[0].Value)
			case metricdata.Gauge[float64]:
				values[name] = data.DataPoints[0].Value
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					values[name] += float64(p.Count)
				}
			}
		}
	}
	return values
}

func TestMetrics_ReceivedRefusedProcessedAndTheBacklog(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		reader := sdkmetric.NewManualReader()
		in := newInbox(t, db, func(c *webhook.Config) {
			c.Metrics = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
			c.Accounts = func(_ context.Context, account string) (bool, error) {
				if account == "acct_down" {
					return false, errors.New("cannot tell")
				}
				return account == "acct_ours", nil
			}
			c.Backoff = func(int) time.Duration { return time.Hour }
		})
		webhook.On(in.Processor, kind, func(_ context.Context, _ *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
			switch ev.ObjectID {
			case "cs_dead":
				return webhook.Permanent(errors.New("no"))
			case "cs_wait":
				return errors.New("not yet")
			}
			return nil
		})
		in.start(t)
		body := event("evt_1", kind, "cs_secret_object")
		account := func(id string) []byte {
			return append(body[:len(body)-1:len(body)-1], []byte(`,"account":"`+id+`"}`)...)
		}
		now := time.Now()
		for name, c := range map[string]struct {
			body      []byte
			signature string
			status    int
		}{
			"signature": {body, "", 400}, "timestamp": {body, sign(body, secret, now.Add(-time.Hour)), 400}, "shape": {[]byte("{}"), sign([]byte("{}"), secret, now), 400},
			"too_large": {make([]byte, webhook.MaxBody+1), "", 413}, "account": {account("acct_other"), sign(account("acct_other"), secret, now), 400},
			"database": {account("acct_down"), sign(account("acct_down"), secret, now), 503},
			"mode": {bytes.Replace(body, []byte(`"livemode":false`), []byte(`"livemode":true`), 1),
				sign(bytes.Replace(body, []byte(`"livemode":false`), []byte(`"livemode":true`), 1), secret, now), 400},
		} {
			in.log.Reset()
			assert.Equal(t, c.status, in.postSigned(c.body, c.signature), name)
			assert.Contains(t, in.log.String(), "reason="+name)
			assert.NotContains(t, in.log.String(), "cs_secret_object")
			assert.InDelta(t, 1, collect(t, reader)["refused "+name], 0, name)
		}
		w := httptest.NewRecorder()
		in.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		r := httptest.NewRequest(http.MethodPost, "/", &broken{})
		in.Handler().ServeHTTP(w, r)
		assert.InDelta(t, 1, collect(t, reader)["refused method"], 0)
		assert.InDelta(t, 1, collect(t, reader)["refused body"], 0)

		require.Equal(t, 200, in.post(account("acct_ours")))
		require.Equal(t, 200, in.post(account("acct_ours")))
		require.Equal(t, 200, in.post(event("evt_2", kind, "cs_dead")))
		require.Equal(t, 200, in.post(event("evt_3", kind, "cs_wait")))
		require.Equal(t, 200, in.post(event("evt_4", "some.other", "x_1")))
		in.waitFor(t, "evt_1", webhook.StatusDone)
		in.waitFor(t, "evt_2", webhook.StatusDead)
		in.waitFor(t, "evt_4", webhook.StatusIgnored)
		// An event is counted right after it was marked.
		require.EventuallyWithT(t, func(ct *assert.CollectT) {
			got := collect(t, reader)
			for name, want := range map[string]float64{
				"received stored " + kind: 3, "received repeated " + kind: 1, "received stored some.other": 1, "receive.duration": 5, "process.duration": 4,
				"processed done " + kind: 1, "processed dead " + kind: 1, "processed ignored some.other": 1, "failed permanent " + kind: 1,
				"failed retry " + kind: 1, "lag": 1, "waiting": 1, "dead": 1,
			} {
				assert.InDelta(ct, want, got[name], 0, name)
			}
			assert.Positive(ct, got["waiting.oldest"])
		}, time.Minute, 10*time.Millisecond)
	})
}

// broken is a body that breaks off.
type broken struct{}

func (*broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestHandler_ConnectedAccountsAreRefusedUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	in := newInbox(t, dbtest.SQLite(t, schema), nil)
	body := event("evt_1", kind, "cs_1")
	require.Equal(t, 400, in.post(append(body[:len(body)-1:len(body)-1], []byte(`,"account":"acct_1"}`)...)))
	assert.Contains(t, in.log.String(), "reason=account")
}

// What the handler takes, the database takes: nothing that is signed is answered by 503.
func FuzzHandler(f *testing.F) {
	valid := event("evt_1", kind, "cs_1")
	f.Add(valid)
	f.Add([]byte(`{"id":"evt_\u0000","object":"event","type":"a","created":1}`))
	f.Add([]byte(`{"id":"evt_1","object":"event","type":"a","created":99999999999999}`))
	f.Add(append([]byte("\xff"), valid...))
	f.Add(bytes.Replace(valid, []byte("cs_1"), []byte("cs_\xff\xfe"), 1))
	f.Add(bytes.Replace(valid, []byte("usd"), bytes.Repeat([]byte(`\u0000`), 10), 1))
	in := newInbox(f, dbtest.SQLite(f, schema), nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		code := in.post(body)
		require.Contains(t, []int{200, 400, 413}, code, "%q", body)
		if !json.Valid(body) {
			require.NotEqual(t, 200, code)
		}
	})
}

// On PostgreSQL, which is stricter about texts than SQLite.
func TestHandler_WhatIsSignedIsTakenOrRefusedButNeverFails(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, nil)
		valid := string(event("evt_1", kind, "cs_1"))
		for body, want := range map[string]int{
			strings.Replace(valid, "usd", `\u0000`, 1):                         200,
			strings.Replace(valid, "evt_1", `evt_\u0000`, 1):                   400,
			strings.Replace(valid, "cs_1", `cs_\u0000`, 1):                     400,
			strings.Replace(valid, "cs_1", "cs_\xff", 1):                       400,
			strings.Replace(valid, "evt_1", strings.Repeat("x", 256), 1):       400,
			strings.Replace(valid, `"created":`, `"created":9999999999999`, 1): 400,
			strings.Replace(valid, `"created":`, `"created":-`, 1):             400,
			`[]`: 400, `null`: 400, ``: 400, `"evt"`: 400,
		} {
			assert.Equal(t, want, in.post([]byte(body)), "%.80q", body)
		}
	})
}
