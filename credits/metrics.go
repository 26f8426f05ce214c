package credits

import (
	"context"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// scopeName is the instrumentation scope of the package's metrics.
const scopeName = "github.com/quickscale/quickscale/credits"

// metrics are the instruments, all named quickscale.credits.….
type metrics struct{ verified, discrepancies metric.Int64Counter }

func newMetrics(provider metric.MeterProvider) (*metrics, error) {
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	meter := provider.Meter(scopeName)
	m := &metrics{}
	for _, c := range []struct {
		to         *metric.Int64Counter
		name, what string
	}{
		{&m.verified, "verified", "Accounts and seals that were verified, by what (account, seal)."},
		{&m.discrepancies, "discrepancies", "Discrepancies that were found, by the rule that does not hold. Anything but 0 needs a person."},
	} {
		var err error
		if *c.to, err = meter.Int64Counter("quickscale.credits."+c.name, metric.WithDescription(c.what)); err != nil {
			return nil, fmt.Errorf("credits: metric %s: %w", c.name, err)
		}
	}
	return m, nil
}

// verify counts what was verified, and counts and logs what was found.
func (m *metrics) verify(ctx context.Context, logger *slog.Logger, what string, n int, found []Discrepancy) {
	m.verified.Add(ctx, int64(n), metric.WithAttributes(attribute.String("what", what)))
	for _, d := range found {
		m.discrepancies.Add(ctx, 1, metric.WithAttributes(attribute.String("rule", d.Rule)))
		logger.ErrorContext(ctx, "credits: the ledger does not agree with itself", "rule", d.Rule, "account", d.Account, "id", d.ID, "want", d.Want.String(),
			"got", d.Got.String())
	}
}
