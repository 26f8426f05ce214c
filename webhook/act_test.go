package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/webhook"
)

// breakable is an inbox whose handler fails as long as broken says so.
func breakable(t *testing.T, db *database.DB, broken *atomic.Bool, change func(*webhook.Config)) *inbox {
	t.Helper()
	in := newInbox(t, db, change)
	do := effect(db)
	webhook.On(in.Processor, kind, func(ctx context.Context, tx *sqlx.Tx, ev webhook.Event[stripe.CheckoutSession]) error {
		if broken.Load() {
			return webhook.NeedsPerson(fmt.Errorf("product prod_%s has no credits", ev.ObjectID))
		}
		return do(ctx, tx, ev)
	})
	in.start(t)
	return in
}

func ids(records []webhook.Record) []string {
	list := make([]string, len(records))
	for i, r := range records {
		list[i] = r.ID
	}
	return list
}

func TestRetry_DeadEventsRunOnceTheCauseIsMended(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		var broken atomic.Bool
		broken.Store(true)
		in := breakable(t, db, &broken, nil)
		for i := range 5 {
			require.Equal(t, 200, in.post(event(fmt.Sprintf("evt_%d", i), kind, fmt.Sprintf("cs_%d", i))))
		}
		for i := range 5 {
			r := in.waitFor(t, fmt.Sprintf("evt_%d", i), webhook.StatusDead)
			assert.Equal(t, webhook.ClassPerson, r.Failure)
			assert.Equal(t, "product … has no credits", r.Reason)
			assert.Contains(t, r.LastError, "prod_cs_")
			assert.Nil(t, r.NextAt)
		}
		broken.Store(false)

		choose := webhook.ActParams{Failure: webhook.ClassPerson, By: "grace", Reason: "mended", DryRun: true}
		acted, err := in.Retry(t.Context(), choose)
		require.NoError(t, err)
		assert.Equal(t, []string{"evt_0", "evt_1", "evt_2", "evt_3", "evt_4"}, ids(acted.Events))
		assert.True(t, acted.DryRun)
		in.waitFor(t, "evt_0", webhook.StatusDead)

		acted, err = in.Skip(t.Context(), webhook.ActParams{IDs: []string{"evt_4", "evt_none"}, By: "grace"})
		require.NoError(t, err)
		assert.Equal(t, []string{"evt_4"}, ids(acted.Events))
		assert.Equal(t, []string{"evt_none"}, acted.Left)
		choose.DryRun = false
		acted, err = in.Retry(t.Context(), choose)
		require.NoError(t, err)
		assert.Len(t, acted.Events, 4)
		for i := range 4 {
			r := in.waitFor(t, fmt.Sprintf("evt_%d", i), webhook.StatusDone)
			assert.Empty(t, r.LastError+r.Reason+string(r.Failure))
		}
		assert.Equal(t, 4, in.effects(t))
		assert.Equal(t, webhook.StatusSkipped, in.waitFor(t, "evt_4", webhook.StatusSkipped).Status)

		actions, more, err := in.Actions(t.Context(), webhook.ActionsParams{Event: "evt_0"})
		require.NoError(t, err)
		assert.False(t, more)
		require.Len(t, actions, 1, "a dry run leaves no line")
		assert.Equal(t, webhook.VerbRetry, actions[0].Verb)
		assert.Equal(t, "grace", actions[0].By)
		assert.Equal(t, "mended", actions[0].Reason)

		acted, err = in.Retry(t.Context(), webhook.ActParams{IDs: []string{"evt_0"}, By: "grace"})
		require.NoError(t, err)
		assert.Equal(t, []string{"evt_0"}, acted.Left, "what is done is not retried")
	})
}

func TestRetry_WaitingEventIsBroughtForward(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, func(c *webhook.Config) { c.Backoff = func(int) time.Duration { return 24 * time.Hour } })
		var tries atomic.Int64
		webhook.On(in.Processor, kind, func(context.Context, *sqlx.Tx, webhook.Event[stripe.CheckoutSession]) error {
			if tries.Add(1) == 1 {
				return errors.New("not yet")
			}
			return nil
		})
		in.start(t)
		require.Equal(t, 200, in.post(event("evt_1", kind, "cs_1")))
		var r webhook.Record
		require.Eventually(t, func() bool {
			var err error
			r, err = in.Find(t.Context(), "evt_1")
			return err == nil && r.Attempts == 1
		}, time.Minute, 10*time.Millisecond)
		assert.Equal(t, webhook.ClassRetry, r.Failure)
		require.NotNil(t, r.NextAt)
		assert.WithinDuration(t, time.Now().Add(24*time.Hour), *r.NextAt, time.Minute)
		acted, err := in.Retry(t.Context(), webhook.ActParams{Type: kind, By: "grace"})
		require.NoError(t, err)
		assert.Empty(t, acted.Events, "events on their way are left alone unless they are named")
		_, err = in.Retry(t.Context(), webhook.ActParams{Status: webhook.StatusReceived, By: "grace"})
		require.NoError(t, err)
		in.waitFor(t, "evt_1", webhook.StatusDone)
	})
}

func TestReplay_IgnoredEventsTakeEffectOnceThereIsAHandler(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		before := newInbox(t, db, nil)
		before.start(t)
		for i := range 3 {
			require.Equal(t, 200, before.post(event(fmt.Sprintf("evt_%d", i), kind, fmt.Sprintf("cs_%d", i))))
		}
		for i := range 3 {
			before.waitFor(t, fmt.Sprintf("evt_%d", i), webhook.StatusIgnored)
		}
		require.NoError(t, before.engine.Stop(t.Context()))
		assert.Empty(t, before.Types())

		after := newInbox(t, db, nil)
		webhook.On(after.Processor, kind, effect(db))
		assert.Equal(t, []string{kind}, after.Types())
		after.start(t)
		first, err := after.Find(t.Context(), "evt_0")
		require.NoError(t, err)
		acted, err := after.Replay(t.Context(), webhook.ActParams{Type: kind, After: &first, By: "grace"})
		require.NoError(t, err)
		assert.Equal(t, []string{"evt_1", "evt_2"}, ids(acted.Events))
		after.waitFor(t, "evt_1", webhook.StatusDone)
		after.waitFor(t, "evt_2", webhook.StatusDone)
		assert.Equal(t, 2, after.effects(t))
	})
}

func TestAct_WantsAChoiceAndAName(t *testing.T) {
	t.Parallel()
	in := newInbox(t, dbtest.SQLite(t, schema), nil)
	for _, do := range []func(context.Context, webhook.ActParams) (webhook.Acted, error){in.Retry, in.Skip, in.Replay} {
		_, err := do(t.Context(), webhook.ActParams{By: "grace"})
		require.ErrorIs(t, err, webhook.ErrNothingChosen)
		_, err = do(t.Context(), webhook.ActParams{IDs: []string{"evt_1"}, By: " "})
		require.ErrorIs(t, err, webhook.ErrNoActor)
		_, err = do(t.Context(), webhook.ActParams{IDs: make([]string, webhook.MaxActed+1), By: "grace"})
		assert.Contains(t, problem.FieldsOf(err), "ids")
	}
}

func TestReplaySpan_TakesWhatNeverArrived(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		in := newInbox(t, db, nil)
		var names atomic.Int64
		webhook.On(in.Processor, "product.created", func(_ context.Context, _ *sqlx.Tx, ev webhook.Event[stripe.Product]) error {
			if ev.Object.Name == "Pack" {
				names.Add(1)
			}
			return nil
		})
		in.start(t)
		double := stripetest.New(t)
		for range 130 { // more than a page of Stripe's list and a batch of ours
			_, err := double.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Pack")})
			require.NoError(t, err)
		}
		params := webhook.SpanParams{From: time.Now().Add(-time.Hour), By: "grace", DryRun: true}
		span, err := in.ReplaySpan(t.Context(), double.Stripe.Events, params)
		require.NoError(t, err)
		assert.Equal(t, webhook.Span{Listed: 130, Missing: 130, DryRun: true}, span)
		list, _, err := in.List(t.Context(), webhook.ListParams{})
		require.NoError(t, err)
		assert.Empty(t, list)

		params.DryRun = false
		span, err = in.ReplaySpan(t.Context(), double.Stripe.Events, params)
		require.NoError(t, err)
		assert.Equal(t, webhook.Span{Listed: 130, Missing: 130}, span)
		require.Eventually(t, func() bool { return names.Load() == 130 }, time.Minute, 10*time.Millisecond, "the payloads are whole")

		require.Eventually(t, func() bool {
			b, err := in.Backlog(t.Context())
			return err == nil && b.Waiting == 0
		}, time.Minute, 10*time.Millisecond)
		span, err = in.ReplaySpan(t.Context(), double.Stripe.Events, params)
		require.NoError(t, err)
		assert.Equal(t, webhook.Span{Listed: 130}, span, "what is there is left alone")
		params.Again = true
		span, err = in.ReplaySpan(t.Context(), double.Stripe.Events, params)
		require.NoError(t, err)
		assert.Equal(t, webhook.Span{Listed: 130, Replayed: 130}, span)
		require.Eventually(t, func() bool { return names.Load() == 260 }, time.Minute, 10*time.Millisecond)

		for name, wrong := range map[string]webhook.SpanParams{
			"no start": {By: "g"}, "too long": {By: "g", From: time.Now().Add(-31 * 24 * time.Hour)}, "turned round": {By: "g", From: time.Now(), To: time.Now().Add(-time.Hour)},
		} {
			_, err := in.ReplaySpan(t.Context(), double.Stripe.Events, wrong)
			assert.Contains(t, problem.FieldsOf(err), "from", name)
		}
		_, err = in.ReplaySpan(t.Context(), double.Stripe.Events, webhook.SpanParams{From: time.Now()})
		require.ErrorIs(t, err, webhook.ErrNoActor)
	})
}
