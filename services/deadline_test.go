package services_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/services"
)

// limited is a shop whose time limits are short, behind a server whose own are shorter than its work.
func limited(t *testing.T, change func(cfg *services.Config)) (*shop, *httptest.Server) {
	t.Helper()
	s := newShop(t, dbtest.SQLite(t, schema))
	cfg := s.config()
	change(&cfg)
	var err error
	s.Services, err = services.New(cfg)
	require.NoError(t, err)
	s.grant(ada, "10")
	mux := http.NewServeMux()
	mux.Handle("/api/v1/", s.APIHandler())
	mux.Handle("/services/", s.Handler())
	mux.Handle("/mcp", s.MCPHandler())
	server := httptest.NewUnstartedServer(mux)
	server.Config.WriteTimeout = 500 * time.Millisecond
	server.Start()
	t.Cleanup(server.Close)
	return s, server
}

// Who sends a request slowly is answered 408 in time, on every way in, and not charged.
func TestLimits_ABodyHasToArriveInTime(t *testing.T) {
	t.Parallel()
	s, server := limited(t, func(cfg *services.Config) { cfg.BodyTime = 200 * time.Millisecond })
	s.add("echo", "1", echo)
	for _, path := range []string{"/api/v1/services/echo", "/api/v1/services/echo/quote", "/services/echo", "/mcp"} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ada\r\nX-User: ada\r\nAccept: application/json\r\n"+
			"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"text\":", path)
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, path)
		assert.Equal(t, http.StatusRequestTimeout, res.StatusCode, path)
		assert.Contains(t, text(t, res.Body), `"code":"request_timeout"`, path)
		require.NoError(t, conn.Close())
	}
	assert.Empty(t, s.calls(ada))
	assert.Equal(t, "10", s.balance(ada))
}

// Who takes the parts of a stream slowly, or not at all, counts as gone: the work is stopped, and what it used charged.
func TestLimits_AStreamHasToBeTaken(t *testing.T) {
	t.Parallel()
	s, server := limited(t, func(cfg *services.Config) { cfg.StallTime = 300 * time.Millisecond })
	heard := make(chan error, 1)
	part := strings.Repeat("x", 1<<20)
	pricing := services.Metered(services.Rates{"parts": services.Each(1)}, func(job) services.Units { return services.Units{"parts": 1_000_000} })
	s.register("talk", pricing, func(ctx context.Context, call *services.Call, _ job) (done, error) {
		for {
			if err := call.Meter("parts", 1); err != nil {
				return done{}, err
			}
			if err := call.Send(word{part}); err != nil {
				heard <- context.Cause(ctx)
				return done{}, err
			}
		}
	})
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /api/v1/services/talk HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ada\r\nAccept: text/event-stream\r\n"+
		"Content-Length: 13\r\n\r\n{\"text\":\"hi\"}")
	require.NoError(t, err)
	require.Error(t, <-heard)
	require.Eventually(t, func() bool { return s.calls(ada)[0].FinishedAt != nil }, 20*time.Second, 10*time.Millisecond)
	call := s.calls(ada)[0]
	assert.Equal(t, services.PartlySucceeded, call.Status)
	assert.Equal(t, "canceled", call.ErrorCode)
	assert.Positive(t, call.Charged)
	assert.Equal(t, call.Units["parts"], int64(call.Charged))
	s.check()
}

// The server's own limit for answers does not cut off work and streams that may take longer.
func TestLimits_LongWorkOutlivesTheServersLimit(t *testing.T) {
	t.Parallel()
	s, server := limited(t, func(*services.Config) {})
	slow := func(_ context.Context, call *services.Call, _ job) (done, error) {
		for range 3 {
			time.Sleep(300 * time.Millisecond) // the server allows 500 ms in all
			if err := call.Send(word{"so"}); err != nil {
				return done{}, err
			}
		}
		return done{"slow"}, nil
	}
	s.register("slow", services.Fixed(credits.Credit), slow, services.Timeout(time.Minute))
	parts, last := 0, ""
	s.stream(t.Context(), server.URL, "slow", `{"text":"hi"}`, func(e event) {
		if e.name == "part" {
			parts++
		}
		last = e.name
	})
	assert.Equal(t, 3, parts)
	assert.Equal(t, "result", last)
	for path, want := range map[string]string{"/api/v1/services/slow": `{"echo":"slow"}`, "/services/slow": `{"echo":"slow"}`} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, strings.NewReader(`{"text":"hi"}`))
		require.NoError(t, err)
		for name, value := range map[string]string{"Authorization": "Bearer ada", "X-User": ada, "Accept": "application/json", "Content-Type": "application/json"} {
			r.Header.Set(name, value)
		}
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err, path)
		assert.Contains(t, text(t, res.Body), want, path)
		require.NoError(t, res.Body.Close())
	}
	assert.Equal(t, "7", s.balance(ada))
}
