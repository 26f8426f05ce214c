package services_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

var update = flag.Bool("update", false, "write the golden files anew")

// snapshot is an input with all that a schema can say.
type snapshot struct {
	Image   services.File `accept:"image/png,image/jpeg" description:"What to scale." json:"image" title:"Picture" validate:"required"`
	Options struct {
		Width int      `json:"width"    validate:"required,min=1,max=4000"`
		Mode  string   `enum:"fit,fill" json:"mode"`
		Steps []string `json:"steps"    validate:"max=3"`
	} `json:"options" validate:"required"`
	Mail *string `json:"mail"    validate:"omitempty,email"`
}

type scaled struct {
	Width int            `json:"width"`
	Cost  credits.Amount `json:"cost"`
	Notes []string       `json:"notes"`
}

func (s *shop) catalogue() {
	s.t.Helper()
	s.add("echo", "0.5", echo)
	s.register("tokens", tokens(), uses(1))
	s.add("off", "1", echo, services.Inactive())
	s.add("old", "0.25", echo, services.Deprecated(services.Deprecation{
		Since: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Sunset: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), Note: "Use echo.",
	}))
	info := services.Info{Name: "scale-picture", Title: "Scale a picture", Summary: "Makes a picture fit.", Version: "2", Tags: []string{"images"}}
	price := services.Table(map[string]credits.Amount{"fit": credits.Credit, "fill": 2 * credits.Credit}, func(in snapshot) string { return in.Options.Mode })
	require.NoError(s.t, services.Register(s.Services, services.Func(info, price, func(_ context.Context, _ *services.Call, in snapshot) (scaled, error) {
		return scaled{Width: in.Options.Width, Cost: credits.Credit}, nil
	})))
	s.add("breaks", "0.5", func(context.Context, *services.Call, job) (done, error) { return done{}, errors.New("secret") })
}

func TestOpenAPI_IsAsReviewed(t *testing.T) {
	runJobs(t, func(t *testing.T, w *works) {
		s := w.shop
		cfg := s.config()
		cfg.Jobs, cfg.OnEndTx = w.engine.Client(), func(context.Context, *sqlx.Tx, services.Record) error { return nil }
		cfg.RateLimit = services.RateLimit{Calls: 600, Window: time.Minute}
		var err error
		s.Services, err = services.New(cfg)
		require.NoError(t, err)
		s.catalogue()
		s.add("long", "3", echo, services.Background())
		text, err := s.OpenAPI(t.Context())
		require.NoError(t, err)
		const golden = "testdata/openapi.json"
		if *update {
			require.NoError(t, os.WriteFile(golden, text, 0o600))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err, "make it with go test ./services -run OpenAPI -update")
		assert.Equal(t, string(want), string(text), "refresh with -update after a look")
	})
}

func TestOpenAPI_IsServedWithAnETag(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("echo", "0.5", echo)
		const at = "/api/v1/openapi.json"
		res := s.send(http.MethodGet, at, "") // nobody needs a key to read it
		require.Equal(t, http.StatusOK, res.StatusCode)
		assert.Equal(t, "application/json; charset=utf-8", res.Header.Get("Content-Type"))
		assert.Equal(t, "no-cache", res.Header.Get("Cache-Control"))
		tag := res.Header.Get("ETag")
		assert.Regexp(t, `^"[0-9a-f]{32}"$`, tag)
		var document struct {
			Paths map[string]any `json:"paths"`
		}
		require.NoError(t, json.NewDecoder(res.Body).Decode(&document))
		assert.Contains(t, document.Paths, "/api/v1/services/echo")

		res = s.send(http.MethodGet, at, "", "If-None-Match", tag)
		assert.Equal(t, http.StatusNotModified, res.StatusCode)
		require.NoError(t, s.SetRates(t.Context(), "echo", services.Rates{"call": services.Each(credits.Credit)}))
		res = s.send(http.MethodGet, at, "", "If-None-Match", tag)
		assert.Equal(t, http.StatusOK, res.StatusCode, "a new price makes a new document")
		assert.NotEqual(t, tag, res.Header.Get("ETag"))
	})
}
