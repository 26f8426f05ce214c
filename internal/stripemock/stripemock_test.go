package stripemock_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/stripemock"
)

// A double that takes everything is found out.
func TestCheck_NamesWhatStripeWouldRefuse(t *testing.T) {
	t.Parallel()
	gullible := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/coupons" {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(gullible.Close)
	recorder := &stripemock.Recorder{}
	send := func(method, path, body string) {
		req, err := http.NewRequestWithContext(t.Context(), method, gullible.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		res, err := recorder.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
	}
	send("POST", "/v1/customers", "email=a%40example.com")
	send("POST", "/v1/customers", "email=b%40example.com") // the same shape
	send("GET", "/v1/customers?limit=3", "")
	send("DELETE", "/v1/subscriptions/sub_1", "prorate=true")
	n, err := recorder.Check(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 3, n)

	send("POST", "/v1/customers", "shoe_size=42")
	send("POST", "/v1/coupons", "nonsense=1") // refused: nobody relies on it
	n, err = recorder.Check(t.Context())
	require.ErrorContains(t, err, "stripe-mock refuses POST /v1/customers shoe_size")
	assert.NotContains(t, err.Error(), "coupons")
	assert.Equal(t, 3, n)
}
