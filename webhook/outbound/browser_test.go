package outbound_test

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/browsertest"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/webhook/outbound"
)

// A person adds an endpoint, tries it and looks at what came of it; the pages fit a phone, whose width every screenshot
// checks.
func TestPages_InABrowserAndOnAPhone(t *testing.T) {
	t.Parallel()
	r := receive(t)
	r.text.Store("thank you")
	d := newDesk(t, start(t, dbtest.SQLite(t, schema), nil))
	server := httptest.NewServer(d.handler)
	t.Cleanup(server.Close)
	b := browsertest.Open(t)
	b.Expect("favicon.ico")
	b.Go(server.URL + "/account/webhooks/")
	b.Type("#f-url", r.URL)
	b.Type("#f-description", "the server in the cellar")
	b.ClickText("Add the endpoint")
	b.See("Copy it now")
	assert.Contains(t, b.Text("#secret"), "whsec_")
	b.Screenshot("outbound-secret")
	b.ClickText("Go on to the endpoint")
	b.ClickText("Send a test event")
	b.See("A test event is on its way.")
	list, err := d.ListEndpoints(t.Context(), "ada")
	require.NoError(t, err)
	d.wait(list[0], outbound.StatusDelivered)
	b.Go(b.Location())
	b.See("thank you")
	b.Screenshot("outbound-delivery")
	b.ClickText("The endpoint")
	b.Screenshot("outbound-endpoint")
	b.ClickText("Webhook endpoints")
	b.Screenshot("outbound-endpoints")
	b.CheckConsole()
}
