package webhook

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// scopeName is the instrumentation scope of the package's metrics.
const scopeName = "github.com/quickscale/quickscale/webhook"

// metrics are the instruments, all named quickscale.webhook.…; durations are in seconds.
type metrics struct {
	received, refused, processed, failed metric.Int64Counter
	receiving, running, lag              metric.Float64Histogram
}

// The bounds of the histograms: receiving and running take milliseconds, and an event may be done days after it was
// created.
var (
	shortBounds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	lagBounds   = []float64{.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600, 72 * 3600}
)

func newMetrics(provider metric.MeterProvider, p *Processor) (*metrics, error) {
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	meter := provider.Meter(scopeName)
	m := &metrics{}
	for _, c := range []struct {
		to         *metric.Int64Counter
		name, what string
	}{
		{&m.received, "received", "Events taken, by type and result (stored, repeated)."},
		{&m.refused, "refused", "Deliveries refused, by reason."},
		{&m.processed, "processed", "Events that came to an end, by type and status."},
		{&m.failed, "failed", "Tries that failed, by type and class."},
	} {
		var err error
		if *c.to, err = meter.Int64Counter("quickscale.webhook."+c.name, metric.WithDescription(c.what)); err != nil {
			return nil, fmt.Errorf("webhook: metric %s: %w", c.name, err)
		}
	}
	for _, h := range []struct {
		to         *metric.Float64Histogram
		name, what string
		bounds     []float64
	}{
		{&m.receiving, "receive.duration", "Time from a delivery's arrival to its answer.", shortBounds},
		{&m.running, "process.duration", "Time of one try, reads from Stripe included, by type.", shortBounds},
		{&m.lag, "lag", "Time from an event's creation at Stripe to its end here, by type.", lagBounds},
	} {
		var err error
		*h.to, err = meter.Float64Histogram("quickscale.webhook."+h.name, metric.WithDescription(h.what), metric.WithUnit("s"),
			metric.WithExplicitBucketBoundaries(h.bounds...))
		if err != nil {
			return nil, fmt.Errorf("webhook: metric %s: %w", h.name, err)
		}
	}
	return m, m.observe(meter, p)
}

// observe makes the gauges, which ask the database whenever metrics are collected.
func (m *metrics) observe(meter metric.Meter, p *Processor) error {
	waiting, err := meter.Int64ObservableGauge("quickscale.webhook.waiting", metric.WithDescription("Events that wait or are tried again."))
	if err != nil {
		return fmt.Errorf("webhook: metric waiting: %w", err)
	}
	dead, err := meter.Int64ObservableGauge("quickscale.webhook.dead", metric.WithDescription("Events that were given up and need a person."))
	if err != nil {
		return fmt.Errorf("webhook: metric dead: %w", err)
	}
	oldest, err := meter.Float64ObservableGauge("quickscale.webhook.waiting.oldest", metric.WithUnit("s"),
		metric.WithDescription("Age of the event that waits longest, 0 when none does."))
	if err != nil {
		return fmt.Errorf("webhook: metric waiting.oldest: %w", err)
	}
	_, err = meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		b, err := p.Backlog(ctx)
		if err != nil {
			return err
		}
		o.ObserveInt64(waiting, b.Waiting)
		o.ObserveInt64(dead, b.Dead)
		age := 0.0
		if b.Oldest != nil {
			age = p.now().Sub(*b.Oldest).Seconds()
		}
		o.ObserveFloat64(oldest, age)
		return nil
	}, waiting, dead, oldest)
	if err != nil {
		return fmt.Errorf("webhook: metrics of the backlog: %w", err)
	}
	return nil
}

func (m *metrics) receive(ctx context.Context, eventType string, stored bool, took time.Duration) {
	result := "stored"
	if !stored {
		result = "repeated"
	}
	m.received.Add(ctx, 1, metric.WithAttributes(attribute.String("type", eventType), attribute.String("result", result)))
	m.receiving.Record(ctx, took.Seconds())
}

func (m *metrics) refuse(ctx context.Context, reason string) {
	m.refused.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
}

func (m *metrics) run(ctx context.Context, eventType string, took time.Duration) {
	m.running.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("type", eventType)))
}

func (m *metrics) end(ctx context.Context, eventType string, status Status, lag time.Duration) {
	m.processed.Add(ctx, 1, metric.WithAttributes(attribute.String("type", eventType), attribute.String("status", string(status))))
	if status == StatusDone {
		m.lag.Record(ctx, lag.Seconds(), metric.WithAttributes(attribute.String("type", eventType)))
	}
}

func (m *metrics) fail(ctx context.Context, eventType string, class Class) {
	m.failed.Add(ctx, 1, metric.WithAttributes(attribute.String("type", eventType), attribute.String("class", string(class))))
}
