// Package telemetry shows an application's measurements to Prometheus. The library itself only measures, through
// OpenTelemetry's interface; a host that does not import this package carries none of it.
//
//	metrics, err := telemetry.New()
//	cfg.Metrics = metrics.Provider()
//	mux.Handle("GET /metrics", metrics.Handler(os.Getenv("QUICKSCALE_METRICS_TOKEN")))
package telemetry

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// Metrics collects measurements and shows them. It is safe for concurrent use.
type Metrics struct {
	provider *sdkmetric.MeterProvider
	registry *prometheus.Registry
}

// New makes a collection that also has the measurements of the Go runtime and of the process.
func New() (*Metrics, error) {
	registry := prometheus.NewRegistry()
	if err := errors.Join(registry.Register(collectors.NewGoCollector()), registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	reader, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return &Metrics{sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), registry}, nil
}

// Provider is for the Metrics field of quickscale.Config and of the packages.
func (m *Metrics) Provider() metric.MeterProvider { return m.provider }

// Shutdown ends the collection.
func (m *Metrics) Shutdown(ctx context.Context) error { return m.provider.Shutdown(ctx) }

// Handler answers a scrape in Prometheus's format. Figures of a business are not everybody's: with a token, which should
// have 16 bytes of chance or more, only who sends it (Authorization: Bearer) gets them, and without one only who asks
// from this machine and through no proxy. All others get 404. A proxy on this machine that adds none of the usual headers
// (X-Forwarded-For, X-Real-IP, Forwarded, Via) cannot be told from this machine: behind one, set a token.
func (m *Metrics) Handler(token string) http.Handler {
	metrics := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if token == "" && fromHere(r) || token != "" && bears(r, token) {
			metrics.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	})
}

func bears(r *http.Request, token string) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	// Of equal length, so that the time tells nothing.
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	return ok && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// fromHere tells that the connection comes from this machine and that no proxy has passed it on.
func fromHere(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && addr.Addr().Unmap().IsLoopback()
}
