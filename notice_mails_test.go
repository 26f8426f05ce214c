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

	"github.com/quickscale/quickscale/internal/web"
)

var update = flag.Bool("update", false, "write the golden files anew")

// What people read about credits, payments and webhooks, in each language; -update writes it anew.
func TestMails_AreAsTheGoldenFileHasThem(t *testing.T) {
	t.Parallel()
	site, err := web.New(web.Config{Name: "Acme"})
	require.NoError(t, err)
	a := &App{site: site, cfg: Config{BaseURL: "https://acme.example"}}
	require.NoError(t, a.wireMails())
	var all strings.Builder
	p := a.mailPreview()
	for _, language := range p.Templates.Languages() {
		for _, s := range p.Samples {
			m, err := p.Templates.ComposeIn(language, s.Kind, "person@example.com", "", s.Data)
			require.NoError(t, err)
			assert.NotContains(t, m.Text, "  ", s.Kind)
			assert.NotContains(t, m.Text, "<no value>", s.Kind)
			fmt.Fprintf(&all, "== %s\nSubject: %s\n\n%s\n", strings.TrimSpace(language+" "+m.Kind+" "+s.Name), m.Subject, m.Text)
		}
	}
	golden := filepath.Join("testdata", "mails.golden")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(golden, []byte(all.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, string(want), all.String())
}
