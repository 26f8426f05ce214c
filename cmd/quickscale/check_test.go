package main_test

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/billing/stripetest"
)

type found struct{ Check, State, Says, Mend string }

// checked runs check and returns the findings by name.
func (p place) checked(want int, args ...string) map[string]found {
	p.t.Helper()
	code, out, problems := p.run("", append([]string{"check", "--json"}, args...)...)
	assert.Equal(p.t, want, code, "%s%s", out, problems)
	var answer struct{ Findings []found }
	require.NoError(p.t, json.Unmarshal([]byte(out), &answer), problems)
	byName := map[string]found{}
	for _, f := range answer.Findings {
		byName[f.Check] = f
		assert.Equal(p.t, f.State == "warn" || f.State == "fail", f.Mend != "", "%+v: what is wrong has its mending", f)
	}
	return byName
}

// bare is a folder that the commands take for a project, without a program.
func bare(t *testing.T) place {
	t.Helper()
	p := place{t, t.TempDir(), []string{"QUICKSCALE_ADDR=" + freeAddress(t)}}
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "quickscale.yaml"), []byte("name: acme\ndatabase: sqlite\n"), 0o600))
	return p
}

func TestCheck_FindsNothingWrongWithWhatIsNew(t *testing.T) {
	t.Parallel()
	p := bare(t)
	for name, f := range p.checked(0) {
		assert.NotEqual(t, "fail", f.State, "%s: %s", name, f.Says)
	}
	assert.NoFileExists(t, filepath.Join(p.dir, "acme.db"), "to look makes nothing")
	assert.Contains(t, p.ok("check"), "simulated by the double")
	p.ok("migrate", "up")
	assert.Equal(t, "ok", p.checked(0)["migrations"].State)
}

func TestCheck_FindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	p := bare(t)
	p.env = []string{"QUICKSCALE_ADDR=" + taken.Addr().String(), "PATH=/nowhere"}
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, ".env"), []byte("QUICKSCALE_DATABASE_URL=postgres://u:hidden@127.0.0.1:1/x?sslmode=disable\n"+
		"QUICKSCALE_SMTP_URL=smtp://u:hidden@127.0.0.1:1\nQUICKSCALE_SECRET_KEY=short\n"), 0o644))
	found := p.checked(1)
	for check, says := range map[string]string{
		"settings": "32 bytes", "port": "taken by process", "database": "refused", "mail": "refused", "go": "no go",
	} {
		assert.Equal(t, "fail", found[check].State, check)
		assert.Contains(t, found[check].Says, says, check)
	}
	assert.Equal(t, "warn", found["docker"].State)
	assert.Equal(t, "warn", found["secrets"].State)
	assert.Contains(t, found["secrets"].Mend, "chmod 600")
	assert.NotContains(t, p.fails(1, "check"), "hidden")
}

func TestCheck_SecretsInGit(t *testing.T) {
	t.Parallel()
	p := bare(t)
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, ".env"), []byte("A=b\n"), 0o600))
	assert.Equal(t, "ok", p.checked(0)["secrets"].State)
	for _, args := range [][]string{{"init", "-q"}, {"add", ".env"}} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = p.dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	assert.Equal(t, "fail", p.checked(1)["secrets"].State)
}

func TestCheck_StripeWebhookAndClock(t *testing.T) {
	t.Parallel()
	double := stripetest.New(t)
	p := bare(t)
	status := http.StatusBadRequest
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/webhooks/stripe", r.URL.Path)
		w.WriteHeader(status)
	}))
	defer site.Close()
	env := p.env
	with := func(key string) {
		p.env = slices.Concat(env, []string{"STRIPE_SECRET_KEY=" + key, "STRIPE_WEBHOOK_SECRET=whsec_1", "QUICKSCALE_BASE_URL=" + site.URL})
	}
	with(stripetest.DefaultSecretKey)
	found := p.checked(0, "--stripe-url", double.URL)
	for _, check := range []string{"stripe", "webhook", "clock"} {
		assert.Equal(t, "ok", found[check].State, "%s: %s", check, found[check].Says)
	}
	status = http.StatusOK
	assert.Contains(t, p.checked(1, "--stripe-url", double.URL)["webhook"].Says, "400")
	status = http.StatusBadRequest
	with("sk_test_wrong")
	assert.Contains(t, p.checked(1, "--stripe-url", double.URL)["stripe"].Says, "does not know the key")
	with("sk_live_1")
	assert.Equal(t, "warn", p.checked(0, "--stripe-url", double.URL)["stripe"].State)

	wrong := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-5*time.Minute).UTC().Format(http.TimeFormat))
		_, err := w.Write([]byte(`{"object":"list","data":[],"has_more":false}`))
		assert.NoError(t, err)
	}))
	defer wrong.Close()
	with(stripetest.DefaultSecretKey)
	assert.Contains(t, p.checked(1, "--stripe-url", wrong.URL)["clock"].Says, "off by")
}

func TestConfigPrint_MasksWhatIsSecret(t *testing.T) {
	t.Parallel()
	p := bare(t)
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, ".env"), []byte("QUICKSCALE_DATABASE_URL=postgres://u:hidden@db/x\nQUICKSCALE_SMTP_URL=smtp://u:hidden@mail\n"+
		"STRIPE_SECRET_KEY=sk_test_hidden\nQUICKSCALE_OAUTH_GITHUB_CLIENT_ID=shown\nQUICKSCALE_OAUTH_GITHUB_CLIENT_SECRET=hidden\n"), 0o600))
	p.env = append(p.env, "STRIPE_WEBHOOK_SECRET=whsec_hidden")
	out := p.ok("config", "print")
	assert.NotContains(t, out, "hidden")
	for _, line := range []string{
		`QUICKSCALE_DATABASE_URL +postgres://u:xxxxx@db/x +.env`, `STRIPE_SECRET_KEY +sk_test_\*+ +.env`, `STRIPE_WEBHOOK_SECRET +whsec_\*+ +environment`,
		`QUICKSCALE_ENV +development +default`, `QUICKSCALE_OAUTH_GITHUB_CLIENT_SECRET +\*+ +.env`,
	} {
		assert.Regexp(t, line, out)
	}
	p.env = append(p.env, "QUICKSCALE_ENV=production", "QUICKSCALE_SECRET_KEY=hidden")
	code, out, _ := p.run("", "config", "print", "--json")
	assert.Equal(t, 1, code)
	assert.NotContains(t, out, "hidden")
	var printed struct{ Faults []string }
	require.NoError(t, json.Unmarshal([]byte(out), &printed))
	assert.GreaterOrEqual(t, len(printed.Faults), 2, "all at once: %v", printed.Faults)

	nowhere := place{t: t, dir: t.TempDir()}
	assert.Contains(t, nowhere.ok("config", "print"), "127.0.0.1:8080", "also outside of a project")
}
