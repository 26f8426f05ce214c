package quickscale

import (
	"context"
	"fmt"
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// scopeName is the instrumentation scope of the application's own metrics.
const scopeName = "github.com/quickscale/quickscale"

// wireMetrics makes the gauges, which are read whenever metrics are collected. They are about this process and its
// database; the packages have their own.
func (a *App) wireMetrics() error {
	provider := a.cfg.Metrics
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	meter := provider.Meter(scopeName)
	var instruments []metric.Observable
	gauge := func(name, unit, what string) (g metric.Int64ObservableGauge, err error) {
		if g, err = meter.Int64ObservableGauge("quickscale."+name, metric.WithUnit(unit), metric.WithDescription(what)); err != nil {
			return nil, fmt.Errorf("quickscale: metric %s: %w", name, err)
		}
		instruments = append(instruments, g)
		return g, nil
	}
	gauges := map[string]metric.Int64ObservableGauge{}
	for _, g := range [][3]string{
		{"jobs.waiting", "{job}", "Jobs that are due and wait."},
		{"jobs.discarded", "{job}", "Jobs that were given up in the last days."},
		{"database.connections", "{connection}", "Connections of the pool that writes, by state (used, idle)."},
		{"database.waits", "{wait}", "How often one waited for a connection, since the start."},
		{"disk.free", "By", "Bytes left on the disk of the SQLite file."},
		{"maintenance", "", "1 while the application is shut to people."},
		{"ready", "", "1 while the application can serve."},
	} {
		var err error
		if gauges[g[0]], err = gauge(g[0], g[1], g[2]); err != nil {
			return err
		}
	}
	_, err := meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		stats := a.db.Writer().Stats()
		o.ObserveInt64(gauges["database.connections"], int64(stats.InUse), metric.WithAttributes(attribute.String("state", "used")))
		o.ObserveInt64(gauges["database.connections"], int64(stats.Idle), metric.WithAttributes(attribute.String("state", "idle")))
		o.ObserveInt64(gauges["database.waits"], stats.WaitCount)
		o.ObserveInt64(gauges["maintenance"], oneIf(a.watch.State(ctx).On))
		o.ObserveInt64(gauges["ready"], oneIf(a.Ready(ctx) == nil))
		if free, known, err := a.db.FreeDisk(ctx); err != nil {
			return err
		} else if known {
			o.ObserveInt64(gauges["disk.free"], int64(free)) //nolint:gosec // no disk has 2^63 bytes
		}
		b, err := a.jobs.Backlog(ctx)
		if err != nil {
			return err
		}
		o.ObserveInt64(gauges["jobs.waiting"], b.Waiting)
		o.ObserveInt64(gauges["jobs.discarded"], b.Discarded)
		return nil
	}, instruments...)
	if err != nil {
		return fmt.Errorf("quickscale: metrics: %w", err)
	}
	return nil
}

func oneIf(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// traced gives requests spans and counts them, where the host has said who takes that.
func (a *App) traced(next http.Handler) http.Handler {
	if a.cfg.Traces == nil && a.cfg.Metrics == nil {
		return next
	}
	var options []otelhttp.Option
	if a.cfg.Traces != nil {
		options = append(options, otelhttp.WithTracerProvider(a.cfg.Traces))
	}
	if a.cfg.Metrics != nil {
		options = append(options, otelhttp.WithMeterProvider(a.cfg.Metrics))
	}
	return otelhttp.NewHandler(next, "quickscale", options...)
}
