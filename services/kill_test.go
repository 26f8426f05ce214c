package services_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/services"
)

// What makes the test binary a process that works until it is killed: how, and on which database.
const (
	envKilled = "SERVICES_TEST_KILLED"
	envURL    = "SERVICES_TEST_URL"
)

// The ways of a process that is killed.
const (
	killedSettling = "settling" // a metered call, after its work and before its charge
	killedAtWork   = "at work"  // a job, in its work
	killedJob      = "job"      // a job, after its work and before its charge
	killedQuick    = "quick"    // many calls that are charged after their work
)

// hanging is a ledger that tells of a settlement and never does it.
type hanging struct{ *credits.Ledger }

func (h hanging) SettleTx(context.Context, *sqlx.Tx, uuid.UUID, credits.Amount) (credits.Entry, error) {
	fmt.Println("settling")
	select {}
}

// untilKilled tells on its standard output how far it is.
func untilKilled(mode, url string) int {
	err := func() error {
		ctx := context.Background()
		db, err := database.Open(ctx, url)
		if err != nil {
			return err
		}
		l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
		if err != nil {
			return err
		}
		engine, err := jobs.New(jobs.Config{DB: db, PollInterval: 10 * time.Millisecond})
		if err != nil {
			return err
		}
		cfg := services.Config{DB: db.Writer(), ReadDB: db.Reader(), Ledger: l, User: nobody, API: nobodyCalls, Jobs: engine.Client(),
			OnEndTx: func(context.Context, *sqlx.Tx, services.Record) error { return nil }}
		if mode != killedQuick {
			cfg.Ledger = hanging{l}
		}
		s, err := services.New(cfg)
		if err != nil {
			return err
		}
		work := uses(3)
		if mode == killedAtWork {
			work = func(context.Context, *services.Call, job) (done, error) {
				fmt.Println("at work")
				select {}
			}
		}
		err = errors.Join(
			services.Register(s, services.Func(services.Info{Name: "llm", Title: "LLM"}, tokens(), work)),
			services.Register(s, services.Func(services.Info{Name: "quick", Title: "Quick", Version: "2"},
				services.PerUnit("letters", services.Each(1), func(in job) int64 { return int64(len(in.Text)) }), echo), services.ChargeAfter()),
			s.AddWorkers(engine.Workers()),
		)
		if err != nil {
			return err
		}
		switch mode {
		case killedSettling:
			_, err = s.Run(ctx, llmParams())
			return err
		case killedQuick:
			return quickly(ctx, s)
		}
		if err := engine.Start(ctx); err != nil {
			return err
		}
		select {}
	}()
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// quickly makes calls without end, and tells of each that was answered.
func quickly(ctx context.Context, s *services.Services) error {
	failed := make(chan error, 8)
	var mu sync.Mutex
	for range cap(failed) {
		go func() {
			for {
				res, err := s.Run(ctx, services.RunParams{Account: ada, Service: "quick", Input: job{Text: "hi"}, Tags: map[string]string{"project": "alpha"}})
				if err != nil {
					failed <- err
					return
				}
				mu.Lock()
				fmt.Println(res.CallID)
				mu.Unlock()
			}
		}()
	}
	return <-failed
}

func llmParams() services.RunParams {
	return services.RunParams{Account: ada, Service: "llm", Input: job{Text: "hi", Times: 5}, IdempotencyKey: "k"}
}

// killed starts such a process and kills it when enough of its lines have come, which it returns.
func killed(t *testing.T, mode, url string, enough int) (lines []string) {
	t.Helper()
	p := exec.CommandContext(t.Context(), os.Args[0])
	p.Env = append(os.Environ(), envKilled+"="+mode, envURL+"="+url)
	p.Stderr = os.Stderr
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	for text := bufio.NewScanner(out); text.Scan(); {
		if lines = append(lines, text.Text()); len(lines) == enough {
			require.NoError(t, p.Process.Kill())
		}
	}
	require.Error(t, p.Wait(), "it was killed")
	require.GreaterOrEqual(t, len(lines), enough)
	return lines
}

// survivor is a process that lives ten minutes later, when the calls of a dead process count as dead.
func survivor(t *testing.T, db *database.DB) *works {
	t.Helper()
	s := newShop(t, db)
	s.clock.Advance(time.Until(s.clock.Now()) * -1)
	s.clock.Advance(10 * time.Minute)
	w := &works{shop: s}
	w.Services, w.engine = w.start()
	return w
}

func runKilled(t *testing.T, fn func(t *testing.T, url string, db *database.DB)) {
	t.Helper()
	t.Parallel()
	for name, made := range map[string]func(testing.TB, dbtest.Schema) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := made(t, jobSchema)
			db, err := database.Open(t.Context(), url)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			l, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
			require.NoError(t, err)
			_, err = l.Grant(t.Context(), credits.GrantParams{Account: ada, Amount: 10 * credits.Credit, Source: credits.Purchase, Reason: "test"})
			require.NoError(t, err)
			fn(t, url, db)
		})
	}
}

// A process dies when the provider has run and the charge is not yet made: the hold comes back, and the same call is made
// again and charged once.
func TestKill_AMeteredCallBeforeItsSettlement(t *testing.T) {
	runKilled(t, func(t *testing.T, url string, db *database.DB) {
		killed(t, killedSettling, url, 1)
		w := survivor(t, db)
		w.register("llm", tokens(), uses(3))
		first, err := w.Run(t.Context(), llmParams())
		require.NoError(t, err)
		assert.Equal(t, "1.5", first.Charged.String())
		again, err := w.Run(t.Context(), llmParams())
		require.NoError(t, err)
		assert.Equal(t, first, again)
		assert.Equal(t, "8.5", w.balance(ada))
		assert.Len(t, w.debits(ada), 1)
		calls := w.calls(ada)
		require.Len(t, calls, 2)
		assert.Equal(t, services.Succeeded, calls[0].Status)
		assert.Equal(t, "interrupted", calls[1].ErrorCode)
		ended, err := w.Sweep(t.Context())
		require.NoError(t, err)
		assert.Zero(t, ended, "the repetition has given the hold back")
		w.check()
	})
}

// Nobody repeats the call: the sweep gives the hold back.
func TestKill_ASweepGivesTheHoldBack(t *testing.T) {
	runKilled(t, func(t *testing.T, url string, db *database.DB) {
		killed(t, killedSettling, url, 1)
		w := survivor(t, db)
		ended, err := w.Sweep(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, ended)
		assert.Equal(t, "10", w.balance(ada))
		assert.Empty(t, w.debits(ada))
		w.check()
	})
}

// A process dies in the middle of a job, or when its work is done and not charged: another takes it up, it is charged
// once, and its caller is told once.
func TestKill_AJobGoesOnInAnotherProcess(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{killedAtWork, killedJob} {
		t.Run(mode, func(t *testing.T) {
			runKilled(t, func(t *testing.T, url string, db *database.DB) {
				w := survivor(t, db)
				w.register("llm", tokens(), uses(3))
				queued, err := w.Enqueue(t.Context(), services.EnqueueParams{RunParams: llmParams(), Notify: true})
				require.NoError(t, err)
				killed(t, mode, url, 1)
				r, err := w.FindCall(t.Context(), ada, queued.ID)
				require.NoError(t, err)
				assert.Equal(t, services.Running, r.Status)
				assert.Equal(t, "7.5 held 2.5", w.balance(ada))
				// River takes a job to be dead, and its leader, when some time has passed.
				_, err = db.Writer().ExecContext(t.Context(), database.Query{
					Postgres: `UPDATE river_job SET attempted_at = attempted_at - INTERVAL '2 hours'`,
					SQLite:   `UPDATE river_job SET attempted_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '-2 hours')`,
				}.For(db.Dialect()))
				require.NoError(t, err)
				_, err = db.Writer().ExecContext(t.Context(), `DELETE FROM river_leader`)
				require.NoError(t, err)
				w.work()
				r = w.ended(queued.ID)
				assert.Equal(t, services.Succeeded, r.Status)
				assert.Equal(t, "1.5", r.Charged.String())
				assert.Equal(t, queued.ID, w.told.Load().ID)
				again, err := w.Enqueue(t.Context(), services.EnqueueParams{RunParams: llmParams(), Notify: true})
				require.NoError(t, err)
				assert.Equal(t, queued.ID, again.ID)
				assert.Equal(t, "8.5", w.balance(ada))
				assert.Len(t, w.debits(ada), 1)
				w.check()
			})
		})
	}
}

// A process dies in the middle of many calls that are charged after their work: each that was answered is charged, and
// those whose usage row is lost get it again from the ledger.
func TestKill_UsageRowsAreRecoveredFromTheLedger(t *testing.T) {
	runKilled(t, func(t *testing.T, url string, db *database.DB) {
		rename := func(from, to string) {
			_, err := db.Writer().ExecContext(t.Context(), `ALTER TABLE `+from+` RENAME TO `+to)
			require.NoError(t, err)
		}
		rename("qs_service_calls", "away") // no row is written, however long the process lives
		answered := killed(t, killedQuick, url, 40)
		rename("away", "qs_service_calls")
		w := survivor(t, db)
		made, err := w.Recover(t.Context(), services.DefaultLost)
		require.NoError(t, err)
		assert.Zero(t, made, "a row that is late is not lost")
		made, err = w.Recover(t.Context(), 0)
		require.NoError(t, err)
		calls := map[string]services.Record{}
		for before := uuid.Nil; ; {
			page, more, err := w.Usage(t.Context(), services.UsageParams{Account: ada, Tag: "project", Value: "alpha", Before: before, Limit: services.MaxPage})
			require.NoError(t, err)
			for _, c := range page {
				before = c.ID
				c.LatencyMS = 0
				calls[c.ID.String()] = c
			}
			if !more {
				break
			}
		}
		assert.Len(t, calls, int(made))
		for _, id := range answered {
			if len(id) != len(uuid.Nil.String()) {
				continue // it was killed while it wrote
			}
			c, ok := calls[id]
			require.True(t, ok, "answered, and no row")
			assert.Equal(t, services.Record{ID: c.ID, Account: ada, Service: "quick", Version: "2", Status: services.Succeeded, Price: 2, Charged: 2,
				Units: services.Units{"letters": 2}, Tags: map[string]string{"project": "alpha"}, EntryID: c.EntryID, CreatedAt: c.CreatedAt,
				StartedAt: c.StartedAt, FinishedAt: c.FinishedAt}, c)
		}
		made, err = w.Recover(t.Context(), 0)
		require.NoError(t, err)
		assert.Zero(t, made)
		w.check()
	})
}
