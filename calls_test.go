package quickscale_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/services"
	"github.com/quickscale/quickscale/webhook/outbound"
)

func TestServices_TheEndOfALongCallGoesOutAsAWebhook(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		got := make(chan string, 1)
		receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if body, err := io.ReadAll(r.Body); err == nil {
				got <- string(body)
			}
		}))
		defer receiver.Close()
		app := newApp(t, db, func(c *quickscale.Config) { c.JobPoll, c.OutboundLoopback = 10*time.Millisecond, true })
		require.NoError(t, app.Migrate(t.Context()))
		require.NoError(t, services.Register(app.Services, services.Func(services.Info{Name: "long", Title: "Long"}, services.Free(),
			func(_ context.Context, _ *services.Call, in thing) (thing, error) { return in, nil })))
		_, _, err := app.Outbound.CreateEndpoint(t.Context(), outbound.EndpointParams{Account: "ada", URL: receiver.URL, Types: []string{quickscale.TypeCallEnded}})
		require.NoError(t, err)
		require.NoError(t, app.Start(t.Context()))
		t.Cleanup(func() { assert.NoError(t, app.Stop(context.Background())) })
		call, err := app.Services.Enqueue(t.Context(), services.EnqueueParams{
			RunParams: services.RunParams{Account: "ada", Service: "long", Input: thing{Text: "secret input"}}, Notify: true,
		})
		require.NoError(t, err)
		select {
		case body := <-got:
			assert.Contains(t, body, call.ID.String())
			assert.Contains(t, body, `"status":"succeeded"`)
			assert.NotContains(t, body, "secret input")
		case <-time.After(30 * time.Second):
			t.Fatal("nothing was sent")
		}
	})
}
