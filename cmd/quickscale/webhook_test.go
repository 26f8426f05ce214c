package main_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	stripewebhook "github.com/stripe/stripe-go/v76/webhook"

	"github.com/quickscale/quickscale/billing/stripetest"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/webhook"
)

func TestMain(m *testing.M) { dbtest.Main(m, func() error { return os.RemoveAll(binaryDir) }) }

var schema = dbtest.Schema{Name: "cli", Migrate: func(ctx context.Context, db *database.DB) error {
	e, err := jobs.New(jobs.Config{DB: db})
	if err != nil {
		return err
	}
	return errors.Join(e.Migrate(ctx), database.Migrate(ctx, db, credits.Migrations(), webhook.Migrations()))
}}

var binaryDir string

// binary builds the program once per test run.
var binary = sync.OnceValues(func() (string, error) {
	var err error
	if binaryDir, err = os.MkdirTemp("", "quickscale-cli"); err != nil {
		return "", err
	}
	file := filepath.Join(binaryDir, "quickscale")
	if out, err := exec.Command("go", "build", "-o", file, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return file, nil
})

// cli is the program on one database.
type cli struct {
	t   *testing.T
	env []string
}

func (c cli) run(args ...string) (code int, stdout, stderr string) {
	c.t.Helper()
	file, err := binary()
	require.NoError(c.t, err)
	cmd := exec.CommandContext(c.t.Context(), file, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, c.env...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		require.True(c.t, ok, "%v", err)
		code = exit.ExitCode()
	}
	return code, out.String(), problems.String()
}

// json runs a command that must succeed and decodes what it prints.
func (c cli) json(args ...string) map[string]any {
	c.t.Helper()
	code, stdout, stderr := c.run(append(args, "--json")...)
	require.Zero(c.t, code, "%v: %s", args, stderr)
	var value map[string]any
	require.NoError(c.t, json.Unmarshal([]byte(stdout), &value), stdout)
	return value
}

// seed makes an inbox with two dead events, one done and one that waits, and returns what runs it.
func seed(t *testing.T, url string) *webhook.Processor {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	db, err := database.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	engine, err := jobs.New(jobs.Config{DB: db, PollInterval: 10 * time.Millisecond, Logger: quiet})
	require.NoError(t, err)
	p, err := webhook.New(webhook.Config{DB: db.Writer(), ReadDB: db.Reader(), Jobs: engine.Client(), Secrets: []string{"whsec_1"}, Logger: quiet,
		Backoff: func(int) time.Duration { return time.Hour }})
	require.NoError(t, err)
	require.NoError(t, p.AddWorkers(engine.Workers()))
	webhook.On(p, "price.created", func(_ context.Context, _ *sqlx.Tx, ev webhook.Event[stripe.Price]) error {
		switch ev.ObjectID {
		case "price_bad":
			return webhook.NeedsPerson(errors.New("product prod_1 has no credits"))
		case "price_slow":
			return errors.New("not yet")
		}
		return nil
	})
	require.NoError(t, engine.Start(t.Context()))
	for i, object := range []string{"price_bad", "price_bad", "price_good", "price_slow"} {
		body := fmt.Appendf(nil, `{"id":"evt_%d","object":"event","type":"price.created","api_version":%q,"created":%d,"livemode":false,"data":{"object":{"id":%q,"object":"price","nickname":"Ada Lovelace"}}}`,
			i, stripe.APIVersion, time.Now().Unix(), object)
		at := time.Now()
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.Header.Set("Stripe-Signature", fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(stripewebhook.ComputeSignature(at, body, "whsec_1"))))
		w := httptest.NewRecorder()
		p.Handler().ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code)
	}
	require.Eventually(t, func() bool {
		tried := 0
		for i := range 4 {
			if r, err := p.Find(t.Context(), fmt.Sprintf("evt_%d", i)); err == nil && r.Attempts == 1 {
				tried++
			}
		}
		return tried == 4
	}, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, engine.Stop(context.Background()))
	return p
}

func urls(t *testing.T, fn func(t *testing.T, url string)) {
	t.Helper()
	for name, url := range map[string]func(testing.TB, dbtest.Schema) string{"sqlite": dbtest.SQLiteURL, "postgres": dbtest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fn(t, url(t, schema))
		})
	}
}

func TestWebhook_LooksAtEventsAndActsOnThem(t *testing.T) {
	t.Parallel()
	urls(t, func(t *testing.T, url string) {
		p := seed(t, url)
		c := cli{t, []string{"QUICKSCALE_DATABASE_URL=" + url}}

		assert.Len(t, c.json("webhook", "list")["events"], 4)
		assert.Len(t, c.json("webhook", "list", "--status", "dead", "--type", "price.created")["events"], 2)
		first := c.json("webhook", "list", "--limit", "3")
		assert.Equal(t, true, first["more"])
		last := first["events"].([]any)[2].(map[string]any)["id"].(string)
		assert.Len(t, c.json("webhook", "list", "--before", last)["events"], 1)
		code, out, _ := c.run("webhook", "list")
		assert.Zero(t, code)
		assert.Contains(t, out, "price_slow")

		code, out, _ = c.run("webhook", "show", "evt_0", "--payload")
		assert.Zero(t, code)
		assert.Contains(t, out, "has no credits")
		assert.Contains(t, out, "•••")
		assert.NotContains(t, out, "Lovelace")
		shown := c.json("webhook", "show", "evt_0", "--reveal", "--by", "grace", "--reason", "ticket 7")
		assert.Contains(t, fmt.Sprint(shown["payload"]), "Lovelace")
		actions, _, err := p.Actions(t.Context(), webhook.ActionsParams{Event: "evt_0"})
		require.NoError(t, err)
		require.Len(t, actions, 1)
		assert.Equal(t, "grace", actions[0].By)

		stats := c.json("webhook", "stats", "--since", "1h")
		assert.Equal(t, map[string]any{"waiting": 1.0, "dead": 2.0}, without(stats["backlog"], "oldest"))
		code, out, _ = c.run("webhook", "stats")
		assert.Zero(t, code)
		assert.Contains(t, out, "person")

		dry := c.json("webhook", "retry", "--status", "dead", "--dry-run")
		assert.Len(t, dry["events"], 2)
		assert.Equal(t, webhook.StatusDead, status(t, p, "evt_0"))
		assert.Len(t, c.json("webhook", "retry", "evt_0")["events"], 1)
		assert.Equal(t, webhook.StatusReceived, status(t, p, "evt_0"))
		assert.Len(t, c.json("webhook", "skip", "--failure", "person", "--reason", "a test")["events"], 1)
		assert.Equal(t, webhook.StatusSkipped, status(t, p, "evt_1"))
		assert.Len(t, c.json("webhook", "replay", "evt_2")["events"], 1)
		assert.Equal(t, webhook.StatusReceived, status(t, p, "evt_2"))

		assert.InDelta(t, 0, c.json("webhook", "prune", "--dry-run")["rows"], 0)
		code, out, _ = c.run("webhook", "prune", "--payload-days", "1", "--row-days", "7")
		assert.Zero(t, code)
		assert.Contains(t, out, "rows")
	})
}

func without(value any, key string) any {
	m, _ := value.(map[string]any)
	delete(m, key)
	return m
}

func status(t *testing.T, p *webhook.Processor, id string) webhook.Status {
	t.Helper()
	r, err := p.Find(t.Context(), id)
	require.NoError(t, err)
	return r.Status
}

func TestWebhook_ExitCodes(t *testing.T) {
	t.Parallel()
	url := dbtest.SQLiteURL(t, schema)
	seed(t, url)
	c := cli{t, []string{"QUICKSCALE_DATABASE_URL=" + url}}
	for _, s := range []struct {
		code int
		args []string
		says string
	}{
		{0, []string{"webhook", "list"}, ""},
		{0, []string{"--help"}, ""},
		{2, []string{}, "choose a command"},
		{2, []string{"webhook"}, "choose a command"},
		{2, []string{"nope"}, "unknown command"},
		{2, []string{"webhook", "nope"}, "unknown command"},
		{2, []string{"webhook", "list", "--nope"}, "unknown flag"},
		{2, []string{"webhook", "list", "--status", "nope"}, "no status"},
		{2, []string{"webhook", "show"}, "accepts 1 arg"},
		{2, []string{"webhook", "retry"}, "Choose the events"},
		{2, []string{"webhook", "retry", "--since", "yesterday"}, "--since"},
		{2, []string{"webhook", "replay", "--again"}, "--from-stripe"},
		{2, []string{"webhook", "replay", "--from-stripe", "--since", "1h"}, "STRIPE_SECRET_KEY"},
		{2, []string{"webhook", "stats", "--since", "1000h"}, "31 days"},
		{2, []string{"webhook", "prune", "--row-days", "1"}, "seven days"},
		{3, []string{"webhook", "show", "evt_none"}, "no such event"},
		{3, []string{"webhook", "retry", "evt_none"}, "nothing matched"},
		{3, []string{"webhook", "replay", "--type", "no.such"}, "nothing matched"},
	} {
		code, _, stderr := c.run(s.args...)
		assert.Equal(t, s.code, code, "%v: %s", s.args, stderr)
		assert.Contains(t, stderr, s.says, "%v", s.args)
	}
	code, _, stderr := cli{t, nil}.run("webhook", "list")
	assert.Equal(t, 2, code)
	assert.Contains(t, stderr, "QUICKSCALE_DATABASE_URL")
	code, _, stderr = cli{t, []string{"QUICKSCALE_DATABASE_URL=postgres://u:secret-word@127.0.0.1:1/x?sslmode=disable"}}.run("webhook", "list")
	assert.Equal(t, 1, code)
	assert.NotContains(t, stderr, "secret-word")
}

func TestWebhook_ReplayFromStripesList(t *testing.T) {
	t.Parallel()
	urls(t, func(t *testing.T, url string) {
		p := seed(t, url)
		double := stripetest.New(t)
		for range 3 {
			_, err := double.Stripe.Products.New(&stripe.ProductParams{Name: stripe.String("Pack")})
			require.NoError(t, err)
		}
		c := cli{t, []string{"QUICKSCALE_DATABASE_URL=" + url, "STRIPE_SECRET_KEY=" + stripetest.DefaultSecretKey}}
		replay := []string{"webhook", "replay", "--from-stripe", "--since", "1h", "--stripe-url", double.URL}
		assert.Equal(t, map[string]any{"listed": 3.0, "missing": 3.0, "replayed": 0.0, "dry_run": true}, c.json(append(replay, "--dry-run")...))
		assert.InDelta(t, 3, c.json(replay...)["missing"], 0)
		assert.InDelta(t, 0, c.json(replay...)["missing"], 0)
		list, _, err := p.List(t.Context(), webhook.ListParams{Type: "product.created"})
		require.NoError(t, err)
		assert.Len(t, list, 3)
		code, _, _ := c.run(append(replay, "--type", "invoice.paid")...)
		assert.Equal(t, 3, code)
	})
}
