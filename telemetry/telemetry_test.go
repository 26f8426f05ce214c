package telemetry_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/telemetry"
)

func scrape(h http.Handler, remote string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	r.RemoteAddr = remote
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHandler_ShowsWhatWasMeasuredToWhoMaySeeIt(t *testing.T) {
	t.Parallel()
	m, err := telemetry.New()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Shutdown(context.WithoutCancel(t.Context()))) })
	counter, err := m.Provider().Meter("test").Int64Counter("quickscale.test.calls")
	require.NoError(t, err)
	counter.Add(t.Context(), 3)

	const here, there = "127.0.0.1:1234", "192.0.2.1:1234"
	open, closed := m.Handler(""), m.Handler("a token that is long enough")
	got := scrape(open, here)
	assert.Equal(t, http.StatusOK, got.Code)
	assert.Contains(t, got.Body.String(), "quickscale_test_calls_total 3")
	assert.Contains(t, got.Body.String(), "go_goroutines ")
	assert.Equal(t, http.StatusOK, scrape(open, "[::1]:1").Code)
	assert.Equal(t, http.StatusOK, scrape(closed, there, "Authorization", "Bearer a token that is long enough").Code)
	for name, refused := range map[string]*httptest.ResponseRecorder{
		"another machine":        scrape(open, there),
		"through a proxy":        scrape(open, here, "X-Forwarded-For", "192.0.2.1"),
		"no token":               scrape(closed, here),
		"another token":          scrape(closed, there, "Authorization", "Bearer a token"),
		"not said to be a token": scrape(closed, there, "Authorization", "a token that is long enough"),
	} {
		assert.Equal(t, http.StatusNotFound, refused.Code, name)
		assert.NotContains(t, refused.Body.String(), "quickscale", name)
	}
}
