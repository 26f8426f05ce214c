package services_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/browsertest"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/services"
)

// The pages of a service with a file, of one that comes to its end, and of a long call, on a desk and a phone.
func TestBrowser_FormsAndCalls(t *testing.T) {
	t.Parallel()
	b := browsertest.Open(t)
	w := &works{shop: newShop(t, dbtest.SQLite(t, jobSchema))}
	w.Services, w.engine = w.start()
	w.grant(ada, "10")
	w.pictures()
	require.NoError(t, services.Register(w.Services, services.Func(services.Info{Name: "long", Title: "Long work", Summary: "Takes its time."},
		services.Fixed(credits.Credit), echo), services.Background(),
		services.Deprecated(services.Deprecation{Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Note: "Use longer work."})))
	pages := w.Handler()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Header.Set("X-User", ada)
		pages.ServeHTTP(rw, r)
	}))
	defer server.Close()
	b.Go(server.URL + "/services/picture")
	b.Screenshot("service-file")
	b.Go(server.URL + "/services/long")
	b.Type("#f-text", "hello")
	b.Screenshot("service-deprecated")
	b.Click("form button.is-primary")
	b.See("Waiting to begin")
	b.Screenshot("service-call")
	b.ClickText("Cancel this call")
	b.See("The call was canceled.")
}
