package openapitest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/internal/jobs"
	"github.com/quickscale/quickscale/services"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const ada = "ada"

type job struct {
	Text  string `json:"text"  validate:"required,max=20"`
	Times int    `json:"times" validate:"min=0,max=5"`
}

type done struct {
	Echo string `json:"echo"`
}

// picture is an input with all that a schema can say.
type picture struct {
	Image   services.File `accept:"image/png,image/jpeg" json:"image" validate:"required"`
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

func add[In, Out any](t *testing.T, s *services.Services, name string, price services.Pricing, fn func(ctx context.Context, call *services.Call, in In) (Out, error), opts ...services.Option) {
	t.Helper()
	require.NoError(t, services.Register(s, services.Func(services.Info{Name: name, Title: name, Version: "1"}, price, fn), opts...))
}

func shop(t *testing.T, db *database.DB) *services.Services {
	t.Helper()
	ledger, err := credits.New(credits.Config{DB: db.Writer(), ReadDB: db.Reader()})
	require.NoError(t, err)
	engine, err := jobs.New(jobs.Config{DB: db})
	require.NoError(t, err)
	s, err := services.New(services.Config{
		Jobs: engine.Client(), OnEndTx: func(context.Context, *sqlx.Tx, services.Record) error { return nil },
		DB: db.Writer(), ReadDB: db.Reader(), Ledger: ledger, Logger: slog.New(slog.DiscardHandler), RateLimit: services.RateLimit{Calls: 100, Window: time.Minute},
		User: func(*http.Request) (services.Caller, bool) { return services.Caller{}, false },
		API: func(r *http.Request) (services.Caller, error) {
			if r.Header.Get("Authorization") != "Bearer "+ada {
				return services.Caller{}, services.ErrUnauthenticated
			}
			return services.Caller{Account: ada}, nil
		},
	})
	require.NoError(t, err)
	require.NoError(t, s.AddWorkers(engine.Workers()))
	_, err = ledger.Grant(t.Context(), credits.GrantParams{Account: ada, Amount: 10 * credits.Credit, Source: credits.Purchase, Reason: "test"})
	require.NoError(t, err)
	half := credits.MustAmount("0.5")
	echo := func(_ context.Context, _ *services.Call, in job) (done, error) { return done{in.Text}, nil }
	add(t, s, "echo", services.Fixed(half), echo)
	add(t, s, "tokens", services.Metered(services.Rates{"tokens": services.Each(half)}, func(in job) services.Units { return services.Units{"tokens": int64(in.Times)} }),
		func(_ context.Context, call *services.Call, in job) (done, error) {
			return done{in.Text}, call.Meter("tokens", 1)
		})
	add(t, s, "off", services.Free(), echo, services.Inactive())
	add(t, s, "old", services.Fixed(half), echo, services.Deprecated(services.Deprecation{Since: time.Now().Add(-time.Hour), Sunset: time.Now().Add(time.Hour), Note: "Use echo."}))
	add(t, s, "breaks", services.Fixed(half), func(context.Context, *services.Call, job) (done, error) { return done{}, errors.New("secret") })
	add(t, s, "long", services.Fixed(half), echo, services.Background())
	add(t, s, "dear", services.Fixed(100*credits.Credit), echo)
	prices := map[string]credits.Amount{"fit": credits.Credit, "fill": 2 * credits.Credit}
	add(t, s, "scale-picture", services.Table(prices, func(in picture) string { return in.Options.Mode }), func(_ context.Context, _ *services.Call, in picture) (scaled, error) {
		return scaled{Width: in.Options.Width, Cost: credits.Credit}, nil
	})
	return s
}

func validate(t *testing.T, text []byte) validator.Validator {
	t.Helper()
	document, err := libopenapi.NewDocument(text)
	require.NoError(t, err)
	check, faults := validator.NewValidator(document)
	require.Empty(t, faults)
	return check
}

func TestOpenAPI_IsValid(t *testing.T) {
	t.Parallel()
	s := shop(t, dbtest.SQLite(t, schema))
	text, err := s.OpenAPI(t.Context())
	require.NoError(t, err)
	ok, wrong := validate(t, text).ValidateDocument()
	assert.True(t, ok, "%v", wrong)

	// The validator finds what is wrong.
	ok, _ = validate(t, []byte(strings.Replace(string(text), `"in": "path"`, `"in": "nowhere"`, 1))).ValidateDocument()
	assert.False(t, ok)
}

var schema = dbtest.Schema{Name: "services and jobs", Migrate: func(ctx context.Context, db *database.DB) error {
	engine, err := jobs.New(jobs.Config{DB: db})
	if err != nil {
		return err
	}
	return errors.Join(engine.Migrate(ctx), database.Migrate(ctx, db, credits.Migrations(), services.Migrations()))
}}

// What the API takes and answers is what the document says.
func TestOpenAPI_TellsWhatTheAPIDoes(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		s := shop(t, db)
		text, err := s.OpenAPI(t.Context())
		require.NoError(t, err)
		check := validate(t, text)
		png := `"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="`
		first, err := s.Run(t.Context(), services.RunParams{Account: ada, Service: "echo", Input: job{Text: "hi"}})
		require.NoError(t, err)
		for _, c := range []struct {
			method, target, body string
			status               int
			valid                bool // by the document
		}{
			{"GET", "/services", "", 200, true},
			{"GET", "/services/echo", "", 200, true},
			{"GET", "/services/scale-picture", "", 200, true},
			{"POST", "/services/echo", `{"text":"hi"}`, 200, true},
			{"POST", "/services/echo", `{"text":""}`, 422, false},
			{"POST", "/services/echo", `{"text":"hi","more":1}`, 422, false},
			{"POST", "/services/echo", `{"text":"hi","times":9}`, 422, false},
			{"POST", "/services/echo/quote", `{"text":"hi"}`, 200, true},
			{"POST", "/services/tokens", `{"text":"hi","times":4}`, 200, true},
			{"POST", "/services/old", `{"text":"hi"}`, 200, true},
			{"POST", "/services/long?notify=true", `{"text":"hi"}`, 202, true},
			{"POST", "/services/long?notify=perhaps", `{"text":"hi"}`, 422, false},
			{"ASYNC", "/services/echo", `{"text":"hi"}`, 202, true},
			{"FORM", "/services/scale-picture", "", 200, true},
			{"FORM", "/services/echo", "", 422, false}, // has no files
			{"POST", "/services/nowhere", `{"text":"hi"}`, 404, false},
			{"POST", "/services/off", `{"text":"hi"}`, 409, true},
			{"POST", "/services/dear", `{"text":"hi"}`, 402, true},
			{"POST", "/services/breaks", `{"text":"hi"}`, 502, true},
			{"POST", "/services/scale-picture", `{"image":{"name":"a.png","data":` + png + `},"options":{"width":10,"mode":"fit"}}`, 200, true},
			{"POST", "/services/scale-picture", `{"image":{"name":"a.png","data":` + png + `},"options":{"width":10,"mode":"other"}}`, 422, false},
			{"GET", "/calls/" + first.CallID.String(), "", 200, true},
			{"GET", "/calls/0195d3a0-0000-7000-8000-000000000000", "", 404, true},
			{"POST", "/calls/" + first.CallID.String() + "/cancel", "", 200, true},
			{"GET", "/credits", "", 200, true},
			{"GET", "/usage?limit=2&status=succeeded", "", 200, true},
			{"GET", "/usage?limit=0", "", 422, false},
		} {
			r := httptest.NewRequest(http.MethodPost, services.DefaultAPIPath+c.target, strings.NewReader(c.body))
			r.Header.Set("Authorization", "Bearer "+ada)
			r.Header.Set("Content-Type", "application/json")
			switch c.method {
			case "ASYNC":
				r.Header.Set("Prefer", "respond-async")
			case "FORM":
				c.body = form(t, r)
			default:
				r.Method = c.method
			}
			if c.body == "" {
				r.Body, r.ContentLength = http.NoBody, 0
			}
			valid, why := check.ValidateHttpRequest(r)
			assert.Equal(t, c.valid, valid, "%s %s: %v", c.method, c.target, why)
			r.Body = io.NopCloser(strings.NewReader(c.body))
			w := httptest.NewRecorder()
			s.APIHandler().ServeHTTP(w, r)
			assert.Equal(t, c.status, w.Code, c.target)
			if w.Code == http.StatusNotFound && strings.Contains(c.target, "nowhere") {
				assert.Contains(t, w.Body.String(), `"code":"not_found"`) // of a path that the document does not have
				continue
			}
			ok, wrong := check.ValidateHttpResponse(r, w.Result())
			for _, fault := range wrong {
				t.Log(fault.Message, fault.Reason, fault.SchemaValidationErrors)
			}
			assert.True(t, ok, "%s %s: %s", c.method, c.target, w.Body)
		}
	})
}

// form makes the request one of fields and a file, and returns its body.
func form(t *testing.T, r *http.Request) string {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name, value := range map[string]string{"options.width": "10", "options.mode": "fit", "options.steps": "one\ntwo"} {
		require.NoError(t, w.WriteField(name, value))
	}
	part, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="image"; filename="a.png"`}, "Content-Type": {"image/png"}})
	require.NoError(t, err)
	_, err = io.WriteString(part, "\x89PNG\r\n\x1a\n")
	require.NoError(t, errors.Join(err, w.Close()))
	r.Header.Set("Content-Type", w.FormDataContentType())
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body.Bytes())), int64(body.Len())
	return body.String()
}
