package mail_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/internal/seal"
	"github.com/quickscale/quickscale/mail"
)

// recorder is a mailer that remembers, and fails as it is told.
type recorder struct {
	mu   sync.Mutex
	sent []mail.Message
	fail func(try int, m mail.Message) error
	try  int
}

func (r *recorder) Send(_ context.Context, m mail.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.try++
	if r.fail != nil {
		if err := r.fail(r.try, m); err != nil {
			return err
		}
	}
	r.sent = append(r.sent, m)
	return nil
}

func (r *recorder) messages() []mail.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]mail.Message(nil), r.sent...)
}

func (r *recorder) tries() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.try
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *buffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *buffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// post is a queue with its engine, as a host wires them.
type post struct {
	*mail.Queue
	t      *testing.T
	db     *database.DB
	engine *jobs.Engine
	log    *buffer
}

func newPost(t *testing.T, db *database.DB, mailer mail.Mailer, change ...func(*mail.QueueConfig)) *post {
	t.Helper()
	engine, err := jobs.New(jobs.Config{DB: db, PollInterval: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	p := &post{t: t, db: db, engine: engine, log: &buffer{}}
	cfg := mail.QueueConfig{DB: db.Writer(), Mailer: mailer, Jobs: engine.Client(), Secret: bytes.Repeat([]byte("k"), 32), Logger: slog.New(slog.NewTextHandler(p.log, nil))}
	for _, f := range change {
		f(&cfg)
	}
	p.Queue, err = mail.NewQueue(cfg)
	require.NoError(t, err)
	require.NoError(t, p.AddWorkers(engine.Workers()))
	return p
}

func (p *post) start() {
	p.t.Helper()
	require.NoError(p.t, p.engine.Start(p.t.Context()))
	p.t.Cleanup(func() { assert.NoError(p.t, p.engine.Stop(context.Background())) })
}

// dump is the job table as text: every column of every row.
func (p *post) dump() string {
	p.t.Helper()
	rows, err := p.db.Writer().QueryxContext(p.t.Context(), "SELECT * FROM river_job")
	require.NoError(p.t, err)
	defer rows.Close()
	var out strings.Builder
	for rows.Next() {
		columns, err := rows.SliceScan()
		require.NoError(p.t, err)
		for _, c := range columns {
			if b, ok := c.([]byte); ok {
				c = string(b)
			}
			fmt.Fprintf(&out, "%v|", c)
		}
		out.WriteString("\n")
	}
	require.NoError(p.t, rows.Err())
	return out.String()
}

func (p *post) waitForState(state string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		var got []string
		require.NoError(p.t, p.db.Select(p.t.Context(), &got, "SELECT CAST(state AS TEXT) FROM river_job"))
		return len(got) == 1 && got[0] == state
	}, 20*time.Second, 10*time.Millisecond, "the job should be %s", state)
}

// assertSilent checks that text tells nothing of the message that verify makes.
func assertSilent(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{"ada@", "example.com", "Ada", "Lovelace", "Confirm", "s3cr3t-t0ken", "acme.example", "https:"} {
		assert.NotContains(t, text, secret)
		assert.NotContains(t, text, strings.Trim(base64.StdEncoding.EncodeToString([]byte(secret)), "="), "nor in base64")
	}
}

func TestQueue_SendsWhatACommittedTransactionEnqueued(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		mailer := &recorder{}
		var mu sync.Mutex
		now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
		p := newPost(t, db, mailer, func(c *mail.QueueConfig) {
			c.Clock = func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return now
			}
		})
		boom := errors.New("boom")
		require.ErrorIs(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error {
			require.NoError(t, p.EnqueueTx(ctx, tx, mail.Message{Kind: "lost", To: "x@example.com", Subject: "x", Text: "x"}))
			return boom
		}), boom)
		require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx *sqlx.Tx) error { return p.EnqueueTx(ctx, tx, verify()) }))
		mu.Lock()
		now = now.Add(90 * time.Second)
		mu.Unlock()
		p.start()
		p.waitForState("completed")
		assert.Equal(t, []mail.Message{verify()}, mailer.messages())
		assert.Contains(t, p.log.String(), "kind=auth.verify")
		assert.Contains(t, p.log.String(), "waited=1m30s")
		assertSilent(t, p.log.String())
	})
}

// Neither a message that waits, nor one that was refused in words that repeat it, is readable in the job table.
func TestQueue_TheJobTableTellsOnlyTheKind(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		mailer := &recorder{fail: func(_ int, m mail.Message) error {
			return mail.Permanent(fmt.Errorf("550 \x00\xff no %s here (%s, %q, <%s>): %s", strings.ToUpper(m.To), m.ToName, m.Subject, m.To, m.Text))
		}}
		p := newPost(t, db, mailer)
		require.NoError(t, p.Enqueue(t.Context(), verify()))
		dump := p.dump()
		assert.Contains(t, dump, "quickscale_mail")
		assert.Contains(t, dump, "auth.verify")
		assertSilent(t, dump)

		p.start()
		p.waitForState("cancelled")
		dump = p.dump()
		assert.Contains(t, dump, "550 ?? no [address] here", "what is left of the answer helps the operator")
		assertSilent(t, dump)
		assert.Contains(t, p.log.String(), "550 ?? no [address] here")
		assertSilent(t, p.log.String())
	})
}

func TestQueue_PermanentErrorsAreNotTriedAgain(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		mailer := &recorder{fail: func(int, mail.Message) error { return fmt.Errorf("wrapped: %w", mail.Permanent(errors.New("gone"))) }}
		p := newPost(t, db, mailer)
		require.NoError(t, p.Enqueue(t.Context(), verify()))
		p.start()
		p.waitForState("cancelled")
		assert.Equal(t, 1, mailer.tries())
		assert.Contains(t, p.log.String(), "given_up=true")
	})
}

func TestQueue_OtherErrorsAndPanicsAreTriedAgain(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		mailer := &recorder{fail: func(try int, m mail.Message) error {
			if try == 1 {
				panic(m)
			}
			return nil
		}}
		p := newPost(t, db, mailer)
		require.NoError(t, p.Enqueue(t.Context(), verify()))
		p.start()
		p.waitForState("completed") // River waits a second after the first failure
		assert.Equal(t, []mail.Message{verify()}, mailer.messages())
		assert.Contains(t, p.log.String(), "panicked with a mail.Message")
		assert.Contains(t, p.log.String(), "given_up=false")
		assertSilent(t, p.log.String())
		assertSilent(t, p.dump())
	})
}

func TestQueue_IsGivenUpAfterMaxAttempts(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		mailer := &recorder{fail: func(int, mail.Message) error { return errors.New("the server is down") }}
		p := newPost(t, db, mailer, func(c *mail.QueueConfig) { c.MaxAttempts = 1 })
		require.NoError(t, p.Enqueue(t.Context(), verify()))
		p.start()
		p.waitForState("discarded")
		assert.Equal(t, 1, mailer.tries())
		assert.Contains(t, p.log.String(), "given_up=true")
	})
}

// A process with the wrong secret, as in the middle of a deployment, leaves the message to one with the right one.
func TestQueue_AnotherSecretOpensNothing(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		require.NoError(t, newPost(t, db, &recorder{}).Enqueue(t.Context(), verify()))
		mailer := &recorder{}
		wrong := newPost(t, db, mailer, func(c *mail.QueueConfig) { c.Secret = seal.RandomKey() })
		require.NoError(t, wrong.engine.Start(t.Context()))
		require.Eventually(t, func() bool { return strings.Contains(wrong.log.String(), "cannot be unsealed") }, 20*time.Second, 10*time.Millisecond)
		require.NoError(t, wrong.engine.Stop(t.Context()))
		assert.Empty(t, mailer.messages())

		right := newPost(t, db, mailer)
		right.start()
		right.waitForState("completed")
		assert.Len(t, mailer.messages(), 1)
	})
}

func TestEnqueue_RefusesInvalidMessagesAndWritesNothing(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		p := newPost(t, db, &recorder{})
		m := verify()
		m.To = "ada@example.com\r\nBcc: eve@example.com"
		require.ErrorIs(t, p.Enqueue(t.Context(), m), mail.ErrInvalid)
		assert.Empty(t, p.dump())
	})
}

func TestNewQueue_SaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, schema)
	engine, err := jobs.New(jobs.Config{DB: db})
	require.NoError(t, err)
	whole := mail.QueueConfig{DB: db.Writer(), Mailer: &recorder{}, Jobs: engine.Client(), Secret: seal.RandomKey()}
	for want, change := range map[string]func(*mail.QueueConfig){
		"DB is required":      func(c *mail.QueueConfig) { c.DB = nil },
		"Mailer is required":  func(c *mail.QueueConfig) { c.Mailer = nil },
		"Jobs is required":    func(c *mail.QueueConfig) { c.Jobs = nil },
		"it needs 32 or more": func(c *mail.QueueConfig) { c.Secret = c.Secret[:31] },
		"cannot be negative":  func(c *mail.QueueConfig) { c.MaxAttempts = -1 },
	} {
		cfg := whole
		change(&cfg)
		_, err := mail.NewQueue(cfg)
		require.ErrorContains(t, err, want)
	}
}
