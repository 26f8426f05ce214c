package auth_test

import (
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

// BenchmarkLogIn times 200 log-ins at once at the default cost of a hash, and tells the memory in use meanwhile.
func BenchmarkLogIn(b *testing.B) {
	for _, engine := range engines {
		b.Run(engine.name, func(b *testing.B) {
			k := newKit(b, engine.open(b, schema))
			k.user(email)
			k.UseDefaultHash()
			u := k.id(email)
			require.NoError(b, k.SetPassword(b.Context(), u, password))
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
			const at = 200
			done := 0
			for b.Loop() {
				var group sync.WaitGroup
				var mu sync.Mutex
				for range at {
					group.Go(func() {
						if _, err := k.LogIn(b.Context(), auth.LogInParams{Email: email, Password: password}); err == nil {
							mu.Lock()
							done++
							mu.Unlock()
						}
					})
				}
				group.Wait()
			}
			close(stop)
			watch.Wait()
			b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "log-ins/s")
			b.ReportMetric(float64(done)/float64(b.N), "let-in/200")
			b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
		})
	}
}
