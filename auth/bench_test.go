package auth_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/auth"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
)

var engines = []struct {
	name string
	open func(testing.TB, dbtest.Schema) *database.DB
}{{"sqlite", dbtest.SQLite}, {"postgres", dbtest.Postgres}}

// BenchmarkAuthenticateKey times the check of an API key; nothing is cached, and the last use is written once a minute.
func BenchmarkAuthenticateKey(b *testing.B) {
	for _, engine := range engines {
		b.Run(engine.name, func(b *testing.B) {
			k := newKit(b, engine.open(b, schema))
			u := k.user(email)
			_, token, err := k.CreateAPIKey(b.Context(), auth.CreateAPIKeyParams{UserID: u.ID, Name: "k"})
			require.NoError(b, err)
			b.ReportAllocs()
			var times []time.Duration
			for b.Loop() {
				began := time.Now()
				if _, _, err := k.AuthenticateKey(b.Context(), token); err != nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(began))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// BenchmarkLoad times the middleware of a request that shows a session, read or remembered, and of one that shows none.
func BenchmarkLoad(b *testing.B) {
	for _, engine := range engines {
		for _, c := range []struct {
			name     string
			signedIn bool
			cache    time.Duration
		}{{"nobody", false, 0}, {"read", true, -1}, {"remembered", true, 0}} {
			b.Run(engine.name+"/"+c.name, func(b *testing.B) {
				k := newKit(b, engine.open(b, schema), func(cfg *auth.Config) { cfg.SessionCache = c.cache })
				k.user(email)
				s, err := k.LogIn(b.Context(), auth.LogInParams{Email: email, Password: password})
				require.NoError(b, err)
				h := k.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, ok := auth.UserFrom(r.Context()); ok != c.signedIn {
						b.Error("not what was expected")
					}
				}))
				r := httptest.NewRequest(http.MethodGet, base+"/", nil)
				if c.signedIn {
					r.AddCookie(&http.Cookie{Name: "__Host-qs_session", Value: s.Token})
				}
				k.clock.Advance(10 * time.Second) // what the log-in changed is no longer news
				w := httptest.NewRecorder()
				b.ReportAllocs()
				for b.Loop() {
					h.ServeHTTP(w, r)
				}
			})
		}
	}
}

// BenchmarkLogIn times 200 people who log in at once, each to their own account, at the default cost of a hash, and tells the
// memory in use meanwhile. Attempts are counted as in production, with a limit for a network that is above 200. All of them
// are let in, or it fails: the turn to hash is waited for as long as it takes, where production gives up after five seconds and asks
// to come back, so that a slow machine is measured and not its patience.
func BenchmarkLogIn(b *testing.B) {
	for _, engine := range engines {
		b.Run(engine.name, func(b *testing.B) {
			k := newKit(b, engine.open(b, schema))
			u := k.user(email)
			k.UseDefaultHash()
			k.WaitForHash(10 * time.Minute)
			require.NoError(b, k.SetPassword(b.Context(), u.ID, password))
			var hash string
			require.NoError(b, k.db.Writer().Get(&hash, `SELECT password_hash FROM qs_auth_users`))
			const at = 200
			for i := range at {
				_, err := k.CreateUser(b.Context(), auth.CreateUserParams{Email: fmt.Sprintf("u%d@example.com", i), PasswordHash: hash, Verified: true})
				require.NoError(b, err)
			}
			var peak uint64
			stop := make(chan struct{})
			var watch sync.WaitGroup
			watch.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
						var m runtime.MemStats
						runtime.ReadMemStats(&m)
						peak = max(peak, m.HeapInuse)
					}
				}
			})
			var mu sync.Mutex
			var times []time.Duration
			for b.Loop() {
				var group sync.WaitGroup
				for i := range at {
					group.Go(func() {
						began := time.Now()
						_, err := k.LogIn(b.Context(), auth.LogInParams{Email: fmt.Sprintf("u%d@example.com", i), Password: password, Client: auth.Client{IP: "192.0.2.1", Agent: "Bench"}})
						if err != nil {
							b.Errorf("somebody was not let in: %v", err)
							return
						}
						mu.Lock()
						defer mu.Unlock()
						times = append(times, time.Since(began))
					})
				}
				group.Wait()
			}
			close(stop)
			watch.Wait()
			if len(times) == 0 {
				b.Fatal("nobody was let in")
			}
			slices.Sort(times)
			b.ReportMetric(float64(len(times))/b.Elapsed().Seconds(), "log-ins/s")
			b.ReportMetric(float64(times[len(times)/2].Milliseconds()), "p50-ms")
			b.ReportMetric(float64(times[len(times)-1].Milliseconds()), "longest-ms")
			b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
		})
	}
}
