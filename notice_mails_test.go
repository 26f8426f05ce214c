package quickscale

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/billing"
	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/web"
)

var update = flag.Bool("update", false, "write the golden files anew")

// What people read of billing; -update writes it anew.
func TestBillingMails_AreAsTheGoldenFileHasThem(t *testing.T) {
	t.Parallel()
	site, err := web.New(web.Config{Name: "Acme"})
	require.NoError(t, err)
	a := &App{site: site}
	require.NoError(t, a.wireMails())
	var all strings.Builder
	for _, kind := range billing.NoticeKinds() {
		data := billingMail{Settings: "https://acme.example/billing/auto-topup", Notice: billing.Notice{Kind: kind, Price: billing.Money{Amount: 1000, Currency: "usd"},
			Description: "Starter", Credits: 100 * credits.Credit, Reason: "Because of a reason.", URL: "https://acme.example/billing/page"}}
		if !toStaff[kind] {
			data.Name = "Ada"
		}
		m, err := a.mails.Compose("billing."+string(kind), "person@example.com", data.Name, data)
		require.NoError(t, err)
		assert.NotContains(t, m.Text, "  ", kind)
		fmt.Fprintf(&all, "== %s\nSubject: %s\n\n%s\n", m.Kind, m.Subject, m.Text)
	}
	golden := filepath.Join("testdata", "billing-mails.golden")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(golden, []byte(all.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, string(want), all.String())
}
