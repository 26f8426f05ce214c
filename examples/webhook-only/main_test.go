package main_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
	stripewebhook "github.com/stripe/stripe-go/v76/webhook"
)

// The example is built, started, told of a payment twice, stopped, and started again on its file.
func TestSmoke(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "webhook-only")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", file, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	start := func() (url string, stop func()) {
		c := exec.CommandContext(t.Context(), file)
		c.Env = append(os.Environ(), "ADDR=127.0.0.1:0", "STRIPE_WEBHOOK_SECRET=whsec_smoke", "DATABASE_FILE="+filepath.Join(dir, "app.db"))
		c.Stderr = os.Stderr
		stdout, err := c.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		line, err := bufio.NewReader(stdout).ReadString('\n')
		require.NoError(t, err)
		url = regexp.MustCompile(`http://[0-9.:]+`).FindString(line)
		return url, func() {
			require.NoError(t, c.Process.Signal(syscall.SIGTERM))
			require.NoError(t, c.Wait(), "it ends in order")
		}
	}
	url, stop := start()
	body := fmt.Sprintf(`{"id":"evt_1","object":"event","type":"checkout.session.completed","api_version":%q,"created":%d,"livemode":false,
		"data":{"object":{"id":"cs_1","object":"checkout.session","payment_status":"paid","amount_total":1234,"currency":"usd"}}}`, stripe.APIVersion, time.Now().Unix())
	post := func(secret string) int {
		at := time.Now()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/webhooks/stripe", strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Stripe-Signature", fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(stripewebhook.ComputeSignature(at, []byte(body), secret))))
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	orders := func() string {
		res, err := http.Get(url + "/orders")
		require.NoError(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return strings.TrimSpace(string(text))
	}
	const want = `[{"session":"cs_1","amount":1234,"currency":"usd"}]`
	assert.Equal(t, http.StatusBadRequest, post("whsec_other"))
	assert.Equal(t, "[]", orders())
	assert.Equal(t, http.StatusOK, post("whsec_smoke"))
	assert.Equal(t, http.StatusOK, post("whsec_smoke"))
	require.Eventually(t, func() bool { return orders() == want }, 20*time.Second, 50*time.Millisecond)
	stop()
	url, stop = start()
	assert.Equal(t, http.StatusOK, post("whsec_smoke"))
	assert.JSONEq(t, want, orders())
	stop()
}
