package quickscale_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/telemetry"
)

func TestHealth_SaysWhichCheckFails(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		app := newApp(t, db)
		code, body, _ := get(t, app.Health(), "/readyz")
		assert.Equal(t, http.StatusServiceUnavailable, code)
		assert.Contains(t, body, `"migrations":"failed"`)
		assert.NotContains(t, body, "App.Migrate", "what is wrong is for the log")
		require.NoError(t, app.Migrate(t.Context()))
		require.NoError(t, app.Start(t.Context()))
		code, body, _ = get(t, app.Health(), "/readyz")
		assert.Equal(t, http.StatusOK, code)
		assert.JSONEq(t, `{"success":true,"data":{"status":"ready","checks":{"database":"ok","migrations":"ok","jobs":"ok","disk":"ok"}}}`, body)
		require.NoError(t, app.Stop(context.WithoutCancel(t.Context())))
		code, body, _ = get(t, app.Health(), "/readyz")
		assert.Equal(t, http.StatusServiceUnavailable, code)
		assert.Contains(t, body, `"jobs":"failed"`)
		code, _, _ = get(t, app.Health(), "/healthz")
		assert.Equal(t, http.StatusOK, code, "the process still runs")
	})
}

// Two processes on one database: what one of them is told holds in the other. The clock is theirs, so that the seconds
// in which a process goes by what it has read need not pass.
func TestMaintenance_ShutsAllProcessesToAllButTheStaff(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		var seconds atomic.Int64
		start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
		clock := func(c *quickscale.Config) {
			c.Clock = func() time.Time { return start.Add(time.Duration(seconds.Load()) * time.Second) }
		}
		one, two := newApp(t, db, clock), newApp(t, db, clock)
		require.NoError(t, one.Migrate(t.Context()))
		host := two.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "host's page") }))
		code, _, _ := get(t, two.Handler(), "/billing/")
		require.Equal(t, http.StatusOK, code)

		until := start.Add(10 * time.Minute)
		require.NoError(t, one.Maintenance(t.Context(), "A larger <database>.", "ada", &until))
		seconds.Add(3)
		code, body, header := get(t, two.Handler(), "/billing/")
		assert.Equal(t, http.StatusServiceUnavailable, code)
		assert.Equal(t, "597", header.Get("Retry-After"))
		assert.Contains(t, body, "A larger &lt;database&gt;. We expect to be back at 12:10 UTC on 1 May.")
		assert.NotContains(t, body, "tell us this number")
		code, body, _ = get(t, two.Handler(), "/api/v1/services", "Accept", "text/html")
		assert.Equal(t, http.StatusServiceUnavailable, code)
		assert.Contains(t, body, `"code":"unavailable"`)
		for _, path := range []string{"/", "/account/", "/mcp"} {
			code, _, _ = get(t, two.Handler(), path)
			assert.Equal(t, http.StatusServiceUnavailable, code, path)
		}
		code, body, _ = get(t, host, "/anything")
		assert.Equal(t, http.StatusServiceUnavailable, code)
		assert.NotContains(t, body, "host's page")
		code, _, _ = get(t, two.Handler(), "/auth/login")
		assert.Equal(t, http.StatusOK, code)
		code, _, _ = get(t, two.Health(), "/readyz")
		assert.Equal(t, http.StatusOK, code)
		r := httptest.NewRequest(http.MethodPost, "/webhooks/stripe", strings.NewReader("{}"))
		w := httptest.NewRecorder()
		two.Handler().ServeHTTP(w, r)
		assert.Equal(t, http.StatusBadRequest, w.Code, "Stripe is heard")

		for email, role := range map[string]auth.Role{"user@example.com": auth.RoleUser, "staff@example.com": auth.RoleStaff} {
			_, err := one.Auth.CreateUser(t.Context(), auth.CreateUserParams{Email: email, Name: "X", Password: "correct horse battery", Verified: true, Role: role})
			require.NoError(t, err)
			cookie := logIn(t, two.Handler(), email)
			want := http.StatusServiceUnavailable
			if role == auth.RoleStaff {
				want = http.StatusOK
			}
			code, _, _ = get(t, two.Handler(), "/account/", "Cookie", cookie)
			assert.Equal(t, want, code, role)
		}
		require.NoError(t, two.EndMaintenance(t.Context()))
		seconds.Add(3)
		code, _, _ = get(t, one.Handler(), "/billing/")
		assert.Equal(t, http.StatusOK, code)
		require.ErrorContains(t, one.Maintenance(t.Context(), strings.Repeat("x", 501), "ada", nil), "fields")
	})
}

func logIn(t *testing.T, h http.Handler, email string) (cookie string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/auth/login", strings.NewReader("email="+email+"&password=correct+horse+battery"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, http.StatusSeeOther, w.Code, w.Body.String())
	for _, c := range w.Result().Cookies() {
		if c.Value != "" {
			cookie += c.Name + "=" + c.Value + "; "
		}
	}
	return cookie
}

// What the packages measure, and requests and jobs as spans, arrive where the host says.
func TestTelemetry_TakesRequestsJobsAndTheDatabase(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		metrics, err := telemetry.New()
		require.NoError(t, err)
		spans := tracetest.NewSpanRecorder()
		traces := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
		app := newApp(t, db, func(c *quickscale.Config) {
			c.Metrics, c.Traces, c.JobPoll = metrics.Provider(), traces, 20*time.Millisecond
		})
		require.NoError(t, app.Migrate(t.Context()))
		code, _, _ := get(t, app.Handler(), "/billing/")
		require.Equal(t, http.StatusOK, code)
		require.NoError(t, app.Start(t.Context()))
		t.Cleanup(func() { assert.NoError(t, app.Stop(context.WithoutCancel(t.Context()))) })
		names := func() (all []string) {
			for _, s := range spans.Ended() {
				all = append(all, s.Name())
			}
			return all
		}
		require.Eventually(t, func() bool { return strings.Contains(strings.Join(names(), "\n"), "job ") }, time.Minute, 20*time.Millisecond, "no job has a span")
		assert.Contains(t, strings.Join(names(), "\n"), "GET")

		r := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
		r.RemoteAddr = "127.0.0.1:1"
		w := httptest.NewRecorder()
		metrics.Handler("").ServeHTTP(w, r)
		for _, said := range []string{
			"quickscale_webhook_waiting 0", "quickscale_jobs_waiting", "quickscale_jobs_discarded 0", `quickscale_database_connections{state="idle"}`,
			"quickscale_maintenance 0", "quickscale_ready 1", "http_server_request_duration_seconds_count{",
		} {
			assert.Contains(t, w.Body.String(), said)
		}
		assert.Equal(t, db.Dialect() == database.SQLite, strings.Contains(w.Body.String(), "quickscale_disk_free_bytes"))
	})
}

// The process of [TestServe_RestartsWithoutARefusedRequest]: it takes the socket that it was started with, as one of
// systemd's does.
func TestServe_Process(t *testing.T) {
	url := os.Getenv("QUICKSCALE_TEST_SERVE")
	if url == "" {
		return // it is started by the test below only
	}
	require.NoError(t, os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))) // systemd knows it before
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	pools, err := quickscale.Open(ctx, url)
	require.NoError(t, err)
	app, err := quickscale.New(quickscale.Config{DB: pools.DB, ReadDB: pools.ReadDB, Mode: quickscale.Development, BaseURL: "http://127.0.0.1:1", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, app.Migrate(ctx))
	l, err := quickscale.Listen(ctx, "127.0.0.1:1")
	require.NoError(t, err)
	require.NoError(t, app.Start(ctx))
	mux := http.NewServeMux()
	mux.Handle("/", app.Handler())
	mux.Handle("GET /readyz", app.Health())
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(100 * time.Millisecond) // under way when the process is told to stop
		_, _ = io.WriteString(w, os.Getenv("QUICKSCALE_TEST_NAME"))
	})
	require.NoError(t, app.Serve(ctx, l, mux))
	require.NoError(t, pools.Close())
}

// A process is replaced under load, once after it has ended and once by one that runs beside it: the socket outlives
// them, and no request fails.
func TestServe_RestartsWithoutARefusedRequest(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	socket, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	address := "http://" + l.Addr().String()
	require.NoError(t, l.Close()) // the socket is open as long as the file is
	t.Cleanup(func() { assert.NoError(t, socket.Close()) })
	url := "sqlite:" + filepath.Join(t.TempDir(), "serve.db")
	start := func(name string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestServe_Process$", "-test.count=1")
		cmd.Env = append(os.Environ(), "QUICKSCALE_TEST_SERVE="+url, "QUICKSCALE_TEST_NAME="+name, "LISTEN_FDS=1")
		cmd.ExtraFiles = []*os.File{socket}
		require.NoError(t, cmd.Start())
		return cmd
	}
	end := func(cmd *exec.Cmd) {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
	}
	answered := map[string]int{}
	var mu sync.Mutex
	count := func(name string) int {
		mu.Lock()
		defer mu.Unlock()
		return answered[name]
	}
	first := start("first")
	var stop atomic.Bool
	var load errgroup.Group
	for range 8 {
		load.Go(func() error {
			// A client that keeps its connections would be told to make a new one; one that makes each anew must never be refused.
			client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
			for !stop.Load() {
				res, err := client.Get(address + "/slow")
				if err != nil {
					return err
				}
				body, err := io.ReadAll(res.Body)
				if err := errors.Join(err, res.Body.Close()); err != nil {
					return err
				}
				if res.StatusCode != http.StatusOK {
					return errors.New(res.Status)
				}
				mu.Lock()
				answered[string(body)]++
				mu.Unlock()
			}
			return nil
		})
	}
	serves := func(name string) {
		t.Helper()
		require.Eventually(t, func() bool { return count(name) > 20 }, time.Minute, 10*time.Millisecond, "%s does not serve", name)
	}
	serves("first")
	end(first)
	second := start("second") // who came meanwhile has waited
	serves("second")
	third := start("third")
	serves("third")
	end(second)
	before := count("third")
	require.Eventually(t, func() bool { return count("third") > before+20 }, time.Minute, 10*time.Millisecond)
	stop.Store(true)
	require.NoError(t, load.Wait(), "a request failed")
	end(third)
}

func TestListen_WithoutSystemd(t *testing.T) {
	t.Parallel()
	l, err := quickscale.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	_, err = quickscale.Listen(t.Context(), l.Addr().String())
	require.ErrorContains(t, err, "QUICKSCALE_ADDR")
}
