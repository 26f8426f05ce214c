package services_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/services"
)

// kept is all that is kept of an account's calls, as text.
func (s *shop) kept(account string) string {
	s.t.Helper()
	var calls, tags []string
	const all = `SELECT id || service || status || COALESCE(idempotency_key, '') || fingerprint || COALESCE(output, '') || error_code || error_text || tags || COALESCE(input, '')
		FROM qs_service_calls WHERE account_id = ? ORDER BY id`
	if s.db.Dialect() == database.Postgres {
		require.NoError(s.t, s.db.Writer().Select(&calls, `SELECT CAST(c AS TEXT) FROM qs_service_calls c WHERE account_id = $1 ORDER BY id`, account))
	} else {
		require.NoError(s.t, s.db.Writer().Select(&calls, all, account))
	}
	require.NoError(s.t, s.db.Writer().Select(&tags, s.db.Rebind(`SELECT value FROM qs_service_call_tags WHERE account_id = ?`), account))
	return strings.Join(append(calls, tags...), "\n")
}

// erase erases ada's account, in a transaction that ends with after.
func (s *shop) erase(after error) error {
	s.Flush()
	return s.db.InTx(context.Background(), func(ctx context.Context, tx *sqlx.Tx) error {
		if err := s.EraseTx(ctx, tx, ada); err != nil {
			return err
		}
		return errors.Join(s.ledger.EraseTx(ctx, tx, ada), after)
	})
}

// What somebody wrote and got is gone with their account and not 30 days later; what was charged stays. Work that is under
// way ends for nothing and leaves nothing behind.
func TestErase_RemovesWhatWasWrittenAndGotAtOnce(t *testing.T) {
	runJobs(t, func(t *testing.T, w *works) {
		for _, account := range []string{ada, bob} {
			w.grant(account, "10")
		}
		begun, goOn := make(chan struct{}), make(chan struct{})
		w.add("long", "2", echo)
		w.add("refusing", "1", func(_ context.Context, _ *services.Call, in job) (done, error) {
			return done{}, problem.New("unfit", "Your text "+in.Text+" is unfit.")
		})
		w.add("slow", "3", func(_ context.Context, _ *services.Call, in job) (done, error) {
			close(begun)
			<-goOn
			return done{in.Text}, nil
		})
		ask := func(account, service, text, key string) services.RunParams {
			return services.RunParams{Account: account, Service: service, Input: job{Text: text}, IdempotencyKey: key, Tags: map[string]string{"about": "marker-tag"}}
		}
		_, err := w.Run(t.Context(), ask(bob, "long", "marker-bob", "marker-key"))
		require.NoError(t, err)
		_, err = w.Run(t.Context(), ask(ada, "long", "marker-text", "marker-key"))
		require.NoError(t, err)
		_, err = w.Run(t.Context(), ask(ada, "refusing", "marker-text", ""))
		require.Error(t, err)
		slow := make(chan error, 1)
		go func() {
			_, err := w.Run(context.Background(), ask(ada, "slow", "marker-text", "marker-slow"))
			slow <- err
		}()
		<-begun
		queued := services.EnqueueParams{RunParams: ask(ada, "long", "marker-text", "marker-later"), Notify: true}
		waits, err := w.Enqueue(t.Context(), queued)
		require.NoError(t, err)
		before := w.kept(ada)
		for _, what := range []string{"marker-text", "marker-tag", "marker-key", "marker-later"} {
			require.Contains(t, before, what)
		}
		bobs := w.kept(bob)

		undone := errors.New("undone")
		require.ErrorIs(t, w.erase(undone), undone)
		assert.Equal(t, before, w.kept(ada))
		for range 2 {
			require.NoError(t, w.erase(nil))
		}
		assert.NotContains(t, w.kept(ada), "marker")
		assert.Equal(t, bobs, w.kept(bob))
		close(goOn)
		require.Error(t, <-slow, "work that ends afterwards is nobody's")
		w.work()
		require.Eventually(t, func() bool {
			var waiting int
			err := w.db.Writer().Get(&waiting, `SELECT COUNT(*) FROM river_job WHERE kind = 'service_call' AND state <> 'completed'`)
			return err == nil && waiting == 0
		}, 30*time.Second, 10*time.Millisecond)
		assert.NotContains(t, w.kept(ada), "marker")
		r, err := w.FindCall(t.Context(), ada, waits.ID)
		require.NoError(t, err)
		assert.Equal(t, services.Failed, r.Status)
		assert.Zero(t, r.Charged)
		assert.Nil(t, w.told.Load(), "nobody is left to tell")
		var charged credits.Amount
		for _, r := range w.calls(ada) {
			charged += r.Charged
			assert.NotEmpty(t, r.Service)
		}
		assert.Equal(t, "2", charged.String(), "what was charged stays")
		_, err = w.Run(t.Context(), ask(ada, "long", "marker-text", ""))
		require.ErrorIs(t, err, credits.ErrErased)
		assert.NotContains(t, w.kept(ada), "marker")
	})
}

// The export has the inputs and outputs that are kept, oldest call first, of the account alone.
func TestExport_HoldsInputsAndOutputs(t *testing.T) {
	runJobs(t, func(t *testing.T, w *works) {
		w.grant(ada, "10")
		w.grant(bob, "10")
		w.add("long", "2", echo)
		_, err := w.Run(t.Context(), params(bob, "long", "k"))
		require.NoError(t, err)
		_, err = w.Run(t.Context(), params(ada, "long", "k"))
		require.NoError(t, err)
		waits, err := w.Enqueue(t.Context(), enqueueParams("long", "later", false))
		require.NoError(t, err)
		var file bytes.Buffer
		require.NoError(t, w.Export(t.Context(), &file, ada))
		var calls []map[string]any
		require.NoError(t, json.Unmarshal(file.Bytes(), &calls), file.String())
		require.Len(t, calls, 2)
		assert.Equal(t, map[string]any{"echo": "hi"}, calls[0]["result"])
		assert.Equal(t, "k", calls[0]["idempotency_key"])
		assert.Equal(t, "hi", calls[1]["input"].(map[string]any)["text"])
		assert.Equal(t, map[string]any{"project": "alpha"}, calls[1]["tags"])
		file.Reset()
		require.NoError(t, w.Export(t.Context(), &file, "nobody"))
		assert.JSONEq(t, `[]`, file.String())
		_, err = w.Cancel(t.Context(), ada, waits.ID)
		require.NoError(t, err)
	})
}
