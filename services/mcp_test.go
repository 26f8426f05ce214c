package services_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/services"
)

// A tool has the quota and the size of input that its service has over HTTP.
func TestMCP_ToolsHaveTheLimitsOfTheAPI(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		cfg := s.config()
		cfg.RateLimit = services.RateLimit{Calls: 2, Window: time.Minute}
		limited, err := services.New(cfg)
		require.NoError(t, err)
		addTo(t, limited, "echo", "0.5", echo, services.MaxInput(100))
		call := func(text string) (int, string) {
			r := httptest.NewRequest(http.MethodPost, "/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"`+text+`"}}}`))
			r.Header.Set("Authorization", "Bearer "+ada)
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", "application/json, text/event-stream")
			w := httptest.NewRecorder()
			limited.MCPHandler().ServeHTTP(w, r)
			return w.Code, w.Body.String()
		}
		_, body := call("hi")
		assert.Contains(t, body, `"credits_charged":"0.5"`)
		_, body = call(strings.Repeat("a", 100))
		assert.Contains(t, body, `"code":"too_large"`)
		_, body = call("hi")
		assert.Contains(t, body, `"code":"too_many"`)
		assert.Contains(t, body, `"retry_after":`)
		status, body := call(strings.Repeat("a", 100_000))
		assert.Equal(t, http.StatusRequestEntityTooLarge, status)
		assert.Contains(t, body, `"code":"too_large"`)
		assert.Equal(t, "9.5", s.balance(ada))
	})
}
