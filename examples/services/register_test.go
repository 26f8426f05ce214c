// Package services_test registers every example and calls each with credits, as a product would.
package services_test

import (
	"encoding/json"
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/examples/services/datavalidation"
	"github.com/quickscale/quickscale/examples/services/imageprocessing"
	"github.com/quickscale/quickscale/examples/services/sentiment"
	"github.com/quickscale/quickscale/examples/services/textanalysis"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/services"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func TestExamples_AreChargedWhatTheyDo(t *testing.T) {
	t.Parallel()
	picture, err := os.ReadFile("../../docs/images/service.png")
	require.NoError(t, err)
	dbtest.Run(t, dbtest.Of(credits.Migrations(), services.Migrations()), func(t *testing.T, db *database.DB) {
		ledger, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
		require.NoError(t, err)
		shop, err := services.New(services.Config{
			DB: db.Writer(), ReadDB: db.Reader(), Ledger: ledger, User: func(*http.Request) (services.Caller, bool) { return services.Caller{}, false },
			API: func(*http.Request) (services.Caller, error) { return services.Caller{Account: "ada"}, nil },
		})
		require.NoError(t, err)
		require.NoError(t, services.Register(shop, textanalysis.Service{}))
		require.NoError(t, services.Register(shop, imageprocessing.Service{}))
		require.NoError(t, services.Register(shop, datavalidation.Service{}))
		require.NoError(t, services.Register(shop, sentiment.New(), services.ChargeAfter()))
		_, err = ledger.Grant(t.Context(), credits.GrantParams{Account: "ada", Amount: 100 * credits.Credit, Source: credits.Purchase, Reason: "Pack"})
		require.NoError(t, err)

		for _, c := range []struct {
			service string
			input   any
			charged string
			says    string
		}{
			{"text-analysis", textanalysis.Input{Text: "one two three", Operation: textanalysis.CountWords}, "0.5", `"word_count":3`},
			{"text-analysis", textanalysis.Input{Text: "one two three", Operation: textanalysis.CountCharacters}, "0.1", `"character_count":13`},
			{"text-analysis", textanalysis.Input{Text: "one two three", Operation: textanalysis.Analyze}, "2", `"sentence_count":1`},
			{"text-analysis", textanalysis.Input{Text: "one two three", Operation: textanalysis.Summarize}, "5", `"summary":"one two three"`},
			{"image-processing", imageprocessing.Input{Image: services.File{Name: "a.png", Data: picture}}, "0.2", `"format":"png"`},
			{"image-processing", imageprocessing.Input{Image: services.File{Name: "a.png", Data: picture}, Operation: imageprocessing.Resize, Width: 40}, "1", `"width":40`},
			{"data-validation", datavalidation.Input{Data: "id\n1\n2\nx\n", Rules: []string{"id:integer"}}, "0.03", `"invalid":1`},
			{"sentiment", sentiment.Input{Text: "What a wonderful, delicious breakfast"}, "0.05", `"sentiment":"positive"`},
		} {
			result, err := shop.Run(t.Context(), services.RunParams{Account: "ada", Service: c.service, Input: c.input})
			require.NoError(t, err, c.service)
			assert.Equal(t, c.charged, result.Charged.String(), c.service)
			assert.Contains(t, string(result.Output), c.says)
			assert.True(t, json.Valid(result.Output))
		}
		b, err := ledger.Balance(t.Context(), "ada")
		require.NoError(t, err)
		assert.Equal(t, "91.12", b.Available.String())

		// A failure costs nothing, and says why.
		_, err = shop.Run(t.Context(), services.RunParams{Account: "ada", Service: "data-validation", Input: datavalidation.Input{Data: "id\n1", Rules: []string{"id"}}})
		require.ErrorContains(t, err, "field:rule")
		_, err = shop.Run(t.Context(), services.RunParams{Account: "ada", Service: "text-analysis", Input: textanalysis.Input{Text: "x", Operation: "translate"}})
		require.Error(t, err)
		b, err = ledger.Balance(t.Context(), "ada")
		require.NoError(t, err)
		assert.Equal(t, "91.12", b.Available.String())
	})
}
