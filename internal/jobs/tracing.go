package jobs

import (
	"context"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// scopeName is the instrumentation scope of the package's spans.
const scopeName = "github.com/quickscale/quickscale/internal/jobs"

// tracing puts a span around each run of a job.
type tracing struct {
	river.MiddlewareDefaults

	tracer trace.Tracer
}

func newTracing(provider trace.TracerProvider) *tracing {
	if provider == nil {
		provider = otel.GetTracerProvider()
	}
	return &tracing{tracer: provider.Tracer(scopeName)}
}

// Work implements rivertype.WorkerMiddleware.
func (t *tracing) Work(ctx context.Context, job *rivertype.JobRow, doInner func(ctx context.Context) error) error {
	ctx, span := t.tracer.Start(ctx, "job "+job.Kind, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.Int64("job.id", job.ID), attribute.Int("job.attempt", job.Attempt), attribute.String("job.queue", job.Queue),
	))
	defer span.End()
	err := doInner(ctx)
	if err != nil {
		// What went wrong may hold what the log's readers only may see.
		span.SetStatus(codes.Error, "the run failed; the log says why")
	}
	return err
}
