// Package deploy_test checks the examples of this folder: what they read exists, and what reads them accepts them.
package deploy_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.yaml.in/yaml/v3"

	"github.com/quickscale/quickscale"
)

// measured notes the instruments that an application makes, by the names that Prometheus sees.
type measured struct {
	noop.MeterProvider

	names map[string]bool
}

func (m measured) Meter(string, ...metric.MeterOption) metric.Meter { return meter{names: m.names} }

type meter struct {
	noop.Meter

	names map[string]bool
}

func (m meter) note(name, unit, kind string) {
	name = strings.ReplaceAll(name, ".", "_")
	switch unit {
	case "s":
		name += "_seconds"
	case "By":
		name += "_bytes"
	}
	for _, ending := range map[string][]string{"counter": {"_total"}, "histogram": {"_bucket", "_sum", "_count"}, "gauge": {""}}[kind] {
		m.names[name+ending] = true
	}
}

func (m meter) Int64Counter(name string, o ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	m.note(name, metric.NewInt64CounterConfig(o...).Unit(), "counter")
	return m.Meter.Int64Counter(name, o...)
}

func (m meter) Float64Histogram(name string, o ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	m.note(name, metric.NewFloat64HistogramConfig(o...).Unit(), "histogram")
	return m.Meter.Float64Histogram(name, o...)
}

func (m meter) Int64ObservableGauge(name string, o ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	m.note(name, metric.NewInt64ObservableGaugeConfig(o...).Unit(), "gauge")
	return m.Meter.Int64ObservableGauge(name, o...)
}

func (m meter) Float64ObservableGauge(name string, o ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	m.note(name, metric.NewFloat64ObservableGaugeConfig(o...).Unit(), "gauge")
	return m.Meter.Float64ObservableGauge(name, o...)
}

// instruments are the names of all metrics that an application has.
func instruments(t *testing.T) map[string]bool {
	t.Helper()
	pools, err := quickscale.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "test.db"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pools.Close()) })
	m := measured{names: map[string]bool{"up": true, "process_resident_memory_bytes": true, "go_goroutines": true}}
	_, err = quickscale.New(quickscale.Config{
		DB: pools.DB, ReadDB: pools.ReadDB, Mode: quickscale.Development, BaseURL: "http://127.0.0.1:1", Metrics: m, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	require.Greater(t, len(m.names), 20)
	return m.names
}

var metricName = regexp.MustCompile(`\b(?:quickscale|http_server|go|process)_\w+|\bup\b`)

// existing checks that an expression reads metrics, and only such as there are.
func existing(t *testing.T, names map[string]bool, where, expr string) {
	t.Helper()
	read := metricName.FindAllString(expr, -1)
	assert.NotEmpty(t, read, "%s: %s", where, expr)
	for _, name := range read {
		assert.True(t, names[name], "%s reads %s, which nobody measures", where, name)
	}
}

type rule struct {
	Alert, Expr string
	Labels      map[string]string
	Annotations map[string]string
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	program, err := exec.LookPath("promtool")
	if err != nil {
		return // CI has it (.ci/run)
	}
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

var anchor = regexp.MustCompile(`[^a-z0-9 -]`)

// Every alert reads what is measured, and leads to a section of the runbooks. What Prometheus makes of them is checked by
// its own promtool, where that is installed.
func TestAlerts_ReadWhatIsMeasuredAndLeadToARunbook(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("prometheus/alerts.yaml")
	require.NoError(t, err)
	var file struct{ Groups []struct{ Rules []rule } }
	require.NoError(t, yaml.Unmarshal(text, &file))
	page, err := os.ReadFile("../docs/runbooks.md")
	require.NoError(t, err)
	sections := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if title, ok := strings.CutPrefix(strings.TrimSpace(line), "## "); ok {
			sections["docs/runbooks.md#"+strings.ReplaceAll(anchor.ReplaceAllString(strings.ToLower(title), ""), " ", "-")] = true
		}
	}
	names := instruments(t)
	require.Len(t, file.Groups, 1)
	require.Greater(t, len(file.Groups[0].Rules), 10)
	for _, r := range file.Groups[0].Rules {
		existing(t, names, r.Alert, r.Expr)
		assert.Contains(t, []string{"page", "ticket"}, r.Labels["severity"], r.Alert)
		assert.NotEmpty(t, r.Annotations["summary"], r.Alert)
		assert.True(t, sections[r.Annotations["runbook"]], "%s leads to %s, which is not there", r.Alert, r.Annotations["runbook"])
	}
	promtool(t, "check", "rules", "prometheus/alerts.yaml")
	promtool(t, "test", "rules", "prometheus/alerts_test.yaml")
}

func TestDashboard_ReadsWhatIsMeasured(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("grafana/dashboard.json")
	require.NoError(t, err)
	var board struct {
		Title, UID    string
		SchemaVersion int
		Panels        []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &board))
	require.Greater(t, len(board.Panels), 10)
	names, ids := instruments(t), map[int]bool{}
	rules := []map[string]string{}
	for _, p := range board.Panels {
		assert.False(t, ids[p.ID], "%s has the id of another", p.Title)
		ids[p.ID] = true
		assert.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, "%s is within the board", p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			existing(t, names, p.Title, target.Expr)
			rules = append(rules, map[string]string{"record": "panel:query", "expr": target.Expr})
		}
	}
	// As rules, so that promtool reads the queries.
	file := filepath.Join(t.TempDir(), "queries.yaml")
	out, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "board", "rules": rules}}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, out, 0o600))
	promtool(t, "check", "rules", "--lint=none", file)
}

// systemd's own program reads the units, where it is installed; what socket activation needs is looked at anyway.
func TestUnits_AreSystemds(t *testing.T) {
	t.Parallel()
	service, err := os.ReadFile("systemd/quickscale.service")
	require.NoError(t, err)
	socket, err := os.ReadFile("systemd/quickscale.socket")
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(string(socket), "\nListenStream="), "quickscale.Listen takes one")
	assert.Contains(t, string(service), "\nRequires=quickscale.socket\n")
	assert.Contains(t, string(service), "\nTimeoutStopSec=40\n", "longer than quickscale.ShutdownTimeout")
	require.InDelta(t, 30, quickscale.ShutdownTimeout.Seconds(), 0)
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return
	}
	dir := t.TempDir()
	program, err := exec.LookPath("true")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "quickscale.service"), []byte(strings.Replace(string(service), "/opt/app/app", program, 1)), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "quickscale.socket"), socket, 0o600))
	out, err := exec.CommandContext(t.Context(), analyze, "verify", filepath.Join(dir, "quickscale.socket")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.NotContains(t, string(out), "quickscale.", "it has nothing to say about the units")
}
