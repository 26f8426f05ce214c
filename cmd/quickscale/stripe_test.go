package main_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	stripewebhook "github.com/stripe/stripe-go/v76/webhook"

	"github.com/quickscale/quickscale/billing/stripetest"
)

const productsFile = "../../examples/saas/products.yaml"

func TestStripeSeed_PlansThenDoesThenFindsNothingToDo(t *testing.T) {
	t.Parallel()
	double := stripetest.New(t)
	c := cli{t, []string{"STRIPE_SECRET_KEY=" + stripetest.DefaultSecretKey}}
	seed := []string{"stripe", "seed", productsFile, "--stripe-url", double.URL}
	count := func() (n int) {
		for prices := double.Stripe.Prices.List(nil); prices.Next(); n++ {
			assert.NotEmpty(t, prices.Price().Metadata["seed_key"])
		}
		return n
	}
	code, out, problems := c.run(append(seed, "--dry-run")...)
	require.Zero(t, code, problems)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 10)
	assert.Regexp(t, `^create +starter +Starter, 100 credits$`, lines[0])
	assert.Regexp(t, `^create +pro/month-usd +90.00 USD every month$`, lines[7])
	assert.Regexp(t, `^create +pro/year-usd +900.00 USD every year, 18000 credits$`, lines[8])
	assert.Equal(t, "9 steps, not done: this is a dry run", lines[9])
	assert.Zero(t, count())

	code, out, problems = c.run(seed...)
	require.Zero(t, code, problems)
	assert.Regexp(t, `(?m)^done 1/9 +create starter +prod_\w+$`, out)
	assert.Regexp(t, `(?m)^done 9/9 +create pro/year-usd +price_\w+$`, out)
	assert.Equal(t, 5, count())

	code, out, problems = c.run(seed...)
	require.Zero(t, code, problems)
	assert.Equal(t, "nothing to do: Stripe has it all\n", out)
	assert.Equal(t, map[string]any{"steps": []any{}, "done": 0.0, "dry_run": false}, c.json(seed...))
	assert.Equal(t, 5, count())

	changed := filepath.Join(t.TempDir(), "products.yaml")
	text, err := os.ReadFile(productsFile)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(changed, bytes.Replace(text, []byte("10.00 USD"), []byte("11.00 USD"), 1), 0o600))
	seed[2] = changed
	_, err = double.Inject(t.Context(), stripetest.Fault{Kind: stripetest.FaultErrorBefore, Route: "POST /v1/prices/{id}"})
	require.NoError(t, err)
	code, out, problems = c.run(append(seed, "--json")...)
	assert.Equal(t, 1, code)
	assert.Contains(t, problems, "1 of 2 steps are done; run it again for the rest")
	assert.Contains(t, problems, "archive starter/once-usd")
	assert.Contains(t, out, `"done": 1`)
	assert.Contains(t, out, `"verb": "archive"`)
}

func TestStripeSeed_RefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("products:\n  - key: a\n    name: A\n    credit: 5\n"), 0o600))
	nowhere := []string{"--stripe-url", "http://127.0.0.1:1"}
	for _, s := range []struct {
		key  string
		args []string
		says string
	}{
		{"", []string{productsFile}, "STRIPE_SECRET_KEY is not set"},
		{"sk_live_1", []string{productsFile}, "give --live"},
		{"rk_live_1", []string{productsFile, "--dry-run"}, "give --live"},
		{"whatever", []string{productsFile}, "give --live"},
		{"sk_test_1", []string{productsFile, "--live"}, "--live goes with a live one"},
		{"sk_test_1", nil, "accepts 1 arg"},
		{"sk_test_1", []string{"none.yaml"}, "none.yaml"},
		{"sk_test_1", []string{bad}, "bad.yaml:\nline 4: a product has no field \"credit\""},
	} {
		code, _, problems := cli{t, []string{"STRIPE_SECRET_KEY=" + s.key}}.run(append(append([]string{"stripe", "seed"}, s.args...), nowhere...)...)
		assert.Equal(t, 2, code, "%v", s)
		assert.Contains(t, problems, s.says, "%v", s)
	}
	// A live key that is meant gets as far as Stripe.
	code, _, problems := cli{t, []string{"STRIPE_SECRET_KEY=sk_live_1"}}.run(append([]string{"stripe", "seed", productsFile, "--live"}, nowhere...)...)
	assert.Equal(t, 1, code)
	assert.Contains(t, problems, "connection refused")
	assert.NotContains(t, problems, "sk_live_1")
}

// doubleProcess is the command as it runs.
type doubleProcess struct {
	cmd    *exec.Cmd
	url    string
	banner string
	ended  chan error
}

func startDouble(t *testing.T, args ...string) *doubleProcess {
	t.Helper()
	file, err := binary()
	require.NoError(t, err)
	p := &doubleProcess{cmd: exec.CommandContext(t.Context(), file, append([]string{"stripe", "double", "--addr", "127.0.0.1:0"}, args...)...), ended: make(chan error, 1)}
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		p.banner += lines.Text() + "\n"
		if base, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "STRIPE_API_BASE="); ok {
			p.url = base
		}
		if strings.HasPrefix(lines.Text(), "What it holds") {
			break
		}
	}
	require.NotEmpty(t, p.url, p.banner)
	go func() {
		_, err := io.Copy(io.Discard, out)
		p.ended <- errors.Join(err, p.cmd.Wait())
	}()
	return p
}

func (p *doubleProcess) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-p.ended:
		require.NoError(t, err, "it ends well")
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
}

func TestStripeDouble_ServesStripesClientAndKeepsItsFile(t *testing.T) {
	t.Parallel()
	var events atomic.Int64
	hooks := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = stripewebhook.ConstructEvent(body, r.Header.Get("Stripe-Signature"), stripetest.DefaultWebhookSecret)
		}
		if assert.NoError(t, err) {
			events.Add(1)
		}
	}))
	t.Cleanup(hooks.Close)
	data := filepath.Join(t.TempDir(), "double.db")
	p := startDouble(t, "--data", data, "--webhook-url", hooks.URL)
	for _, said := range []string{"STRIPE_SECRET_KEY=" + stripetest.DefaultSecretKey, "STRIPE_WEBHOOK_SECRET=" + stripetest.DefaultWebhookSecret, "Events go to " + hooks.URL, data} {
		assert.Contains(t, p.banner, said)
	}
	api := stripetest.NewClient(p.url, stripetest.DefaultSecretKey, http.DefaultClient)
	product, err := api.Products.New(&stripe.ProductParams{Name: stripe.String("Pack")})
	require.NoError(t, err)
	price, err := api.Prices.New(&stripe.PriceParams{Product: &product.ID, Currency: stripe.String("usd"), UnitAmount: stripe.Int64(500)})
	require.NoError(t, err)
	session, err := api.CheckoutSessions.New(&stripe.CheckoutSessionParams{
		Mode: stripe.String("payment"), SuccessURL: stripe.String("https://shop.example/"), LineItems: []*stripe.CheckoutSessionLineItemParams{{Price: &price.ID, Quantity: stripe.Int64(1)}},
	})
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(session.URL, p.url+"/checkout/"), session.URL)
	page, err := http.Get(session.URL)
	require.NoError(t, err)
	require.NoError(t, page.Body.Close())
	assert.Equal(t, http.StatusOK, page.StatusCode)
	require.Eventually(t, func() bool { return events.Load() >= 2 }, 20*time.Second, 20*time.Millisecond, "events of the product and the price")
	_, err = stripetest.NewClient(p.url, "sk_test_other", http.DefaultClient).Products.Get(product.ID, nil)
	require.Error(t, err, "another key opens nothing")
	p.stop(t)

	p = startDouble(t, "--data", data)
	assert.Contains(t, p.banner, "Events go nowhere")
	again, err := stripetest.NewClient(p.url, stripetest.DefaultSecretKey, http.DefaultClient).Products.Get(product.ID, nil)
	require.NoError(t, err)
	assert.Equal(t, "Pack", again.Name)
	p.stop(t)

	p = startDouble(t, "--base-url", "http://double.example:1234")
	assert.Equal(t, "http://double.example:1234", p.url)
	assert.Contains(t, p.banner, "gone when it stops")
	p.stop(t)
	p = startDouble(t, "--addr", "0.0.0.0:0")
	assert.Contains(t, p.url, "http://127.0.0.1:", "an address that a browser can go to")
	p.stop(t)
	code, _, problems := cli{t, nil}.run("stripe", "double", "--addr", "nowhere:port")
	assert.Equal(t, 1, code)
	assert.Contains(t, problems, "--addr")
}
