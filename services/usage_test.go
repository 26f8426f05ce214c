package services_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/credits"
	"github.com/quickscale/quickscale/services"
)

// busy makes calls of two days, two accounts and three services, all of a kind.
func (s *shop) busy() {
	s.t.Helper()
	s.grant(ada, "100")
	s.grant(bob, "100")
	s.add("one", "1", echo)
	s.add("quick", "2", echo, services.ChargeAfter())
	s.register("broken", services.Fixed(credits.Credit), func(context.Context, *services.Call, job) (done, error) { return done{}, errors.New("x") })
	s.register("llm", tokens(), uses(3))
	for range 2 {
		for _, service := range []string{"one", "quick", "broken", "llm"} {
			for account, project := range map[string]string{ada: "alpha", bob: "beta"} {
				p := services.RunParams{Account: account, Service: service, Input: job{Text: "hi", Times: 5}, Tags: map[string]string{"project": project}}
				if _, err := s.Run(context.Background(), p); service != "broken" {
					require.NoError(s.t, err)
				}
			}
		}
		s.clock.Advance(24 * time.Hour)
	}
}

func TestUsage_Filters(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.busy()
		for query, want := range map[string]int{
			"": 8, "?service=llm": 2, "?status=failed": 2, "?tag=project:alpha": 8, "?tag=project:beta": 0, "?tag=project:alpha&service=one": 2,
			"?since=2026-03-02T00:00:00Z": 4, "?until=2026-03-02T00:00:00Z": 4, "?since=2026-03-02T00:00:00Z&until=2026-03-02T00:00:00Z": 0,
		} {
			var page struct {
				Data struct{ Calls []services.Record }
			}
			body := text(t, s.send(http.MethodGet, "/api/v1/usage"+query, "", "Authorization", "Bearer "+ada).Body)
			require.NoError(t, json.Unmarshal([]byte(body), &page))
			assert.Len(t, page.Data.Calls, want, query)
			for _, c := range page.Data.Calls {
				assert.Equal(t, map[string]string{"project": "alpha"}, c.Tags)
			}
		}
		for _, query := range []string{"status=good", "tag=project", "since=yesterday", "until=1"} {
			assert.Equal(t, 422, s.send(http.MethodGet, "/api/v1/usage?"+query, "", "Authorization", "Bearer "+ada).StatusCode, query)
		}
	})
}

func TestUsage_TagsComeByHeader(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("free", "0", echo)
		call := func(tags string) int {
			return s.send(http.MethodPost, "/api/v1/services/free", `{"text":"hi"}`, "Authorization", "Bearer "+ada, "X-Usage-Tags", tags).StatusCode
		}
		assert.Equal(t, http.StatusOK, call("project=alpha, team = search"))
		assert.Equal(t, map[string]string{"project": "alpha", "team": "search"}, s.calls(ada)[0].Tags)
		for _, wrong := range []string{"project", "=alpha", "project=", strings.Repeat("x", 41) + "=1", "x=" + strings.Repeat("1", 101), "a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1"} {
			assert.Equal(t, 422, call(wrong), wrong)
		}
		assert.Len(t, s.calls(ada), 1)
	})
}

func TestAnalytics_SumUpByGroup(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.busy()
		sums := func(p services.AnalyticsParams) map[string]services.Figures {
			list, err := s.Analytics(t.Context(), p)
			require.NoError(t, err)
			by := map[string]services.Figures{}
			for _, f := range list {
				assert.LessOrEqual(t, f.AverageMS, f.LongestMS)
				f.AverageMS, f.LongestMS = 0, 0
				by[f.Key] = f
			}
			return by
		}
		assert.Equal(t, map[string]services.Figures{
			"one":    {Key: "one", Calls: 4, Accounts: 2, Charged: 4 * credits.Credit},
			"quick":  {Key: "quick", Calls: 4, Accounts: 2, Charged: 8 * credits.Credit},
			"broken": {Key: "broken", Calls: 4, Failed: 4, Accounts: 2},
			"llm":    {Key: "llm", Calls: 4, Accounts: 2, Charged: 6 * credits.Credit, Units: services.Units{"tokens": 12}},
		}, sums(services.AnalyticsParams{By: services.ByService}))
		adas := services.Figures{Calls: 8, Failed: 2, Accounts: 1, Charged: 9 * credits.Credit, Units: services.Units{"tokens": 6}}
		by := func(key string, f services.Figures) services.Figures { f.Key = key; return f }
		assert.Equal(t, map[string]services.Figures{ada: by(ada, adas), bob: by(bob, adas)}, sums(services.AnalyticsParams{By: services.ByAccount}))
		assert.Equal(t, map[string]services.Figures{"alpha": by("alpha", adas), "beta": by("beta", adas)},
			sums(services.AnalyticsParams{By: services.ByTag, UsageParams: services.UsageParams{Tag: "project"}}))
		days := sums(services.AnalyticsParams{By: services.ByDay, UsageParams: services.UsageParams{Account: ada}})
		assert.Len(t, days, 2)
		assert.EqualValues(t, 4, days["2026-03-02"].Calls)
		_, err := s.Analytics(t.Context(), services.AnalyticsParams{})
		assert.Equal(t, "invalid", code(err))
		half, err := s.Percentile(t.Context(), "one", time.Time{}.AddDate(2000, 0, 0), 0.5)
		require.NoError(t, err)
		all, err := s.Percentile(t.Context(), "one", time.Time{}.AddDate(2000, 0, 0), 1)
		require.NoError(t, err)
		assert.LessOrEqual(t, half, all)
		none, err := s.Percentile(t.Context(), "nobody", time.Time{}.AddDate(2000, 0, 0), 1)
		require.NoError(t, err)
		assert.Zero(t, none)
	})
}

func TestPrune_RemovesOutputsAndKeysAndLeavesTheUsage(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.add("echo", "1", echo)
		first, err := s.Run(t.Context(), params(ada, "echo", "k"))
		require.NoError(t, err)
		s.clock.Advance(services.DefaultKeepOutputs - time.Hour)
		n, err := s.Prune(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n)
		again, err := s.Run(t.Context(), params(ada, "echo", "k"))
		require.NoError(t, err)
		assert.Equal(t, first.CallID, again.CallID)
		s.clock.Advance(2 * time.Hour)
		n, err = s.Prune(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 1, n)
		record, err := s.FindCall(t.Context(), ada, first.CallID)
		require.NoError(t, err)
		assert.Empty(t, record.Output)
		assert.Equal(t, "1", record.Charged.String())
		next, err := s.Run(t.Context(), params(ada, "echo", "k"))
		require.NoError(t, err)
		assert.NotEqual(t, first.CallID, next.CallID, "a key is forgotten with its output")
	})
}

func TestRateLimit_IsSharedByProcesses(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		cfg := s.config()
		cfg.RateLimit = services.RateLimit{Calls: 4, Window: time.Minute}
		var handlers []http.Handler
		for range 2 {
			p, err := services.New(cfg)
			require.NoError(t, err)
			addTo(t, p, "free", "0", echo)
			handlers = append(handlers, p.APIHandler())
		}
		n := 0
		call := func(account string) *http.Response {
			r := httptest.NewRequest(http.MethodPost, "/api/v1/services/free", strings.NewReader(`{"text":"hi"}`))
			r.Header.Set("Authorization", "Bearer "+account)
			w := httptest.NewRecorder()
			n++
			handlers[n%2].ServeHTTP(w, r)
			return w.Result()
		}
		for _, want := range []string{`"account";r=3;t=15`, `"account";r=2;t=30`, `"account";r=1;t=45`, `"account";r=0;t=60`} {
			res := call(ada)
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.Equal(t, `"account";q=4;w=60`, res.Header.Get("RateLimit-Policy"))
			assert.Equal(t, want, res.Header.Get("RateLimit"))
		}
		res := call(ada)
		assert.Equal(t, http.StatusTooManyRequests, res.StatusCode)
		assert.Equal(t, "15", res.Header.Get("Retry-After"))
		assert.Equal(t, http.StatusOK, call(bob).StatusCode, "each account has its own")
		s.clock.Advance(15 * time.Second)
		assert.Equal(t, http.StatusOK, call(ada).StatusCode)
		assert.Equal(t, http.StatusTooManyRequests, call(ada).StatusCode)
		cfg.RateLimit = services.RateLimit{Calls: 1}
		_, err := services.New(cfg)
		require.ErrorContains(t, err, "RateLimit")
	})
}

type picture struct {
	Image services.File `accept:"image/png" json:"image"     validate:"required"`
	Note  string        `json:"note"        validate:"max=5"`
	Flag  bool          `json:"flag"`
}

type seen struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Bytes int    `json:"bytes"`
	Flag  bool   `json:"flag"`
}

const png = "\x89PNG\r\n\x1a\n rest"

func (s *shop) pictures(opts ...services.Option) {
	s.t.Helper()
	require.NoError(s.t, services.Register(s.Services, services.Func(services.Info{Name: "picture", Title: "Picture"}, services.Free(),
		func(_ context.Context, _ *services.Call, in picture) (seen, error) {
			return seen{in.Image.Name, in.Image.Type, len(in.Image.Data), in.Flag}, nil
		}), opts...))
}

// upload sends a multipart form.
func (s *shop) upload(path, data string, fields map[string]string, header ...string) *http.Response {
	s.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for name, value := range fields {
		require.NoError(s.t, form.WriteField(name, value))
	}
	if data != "" {
		part, err := form.CreateFormFile("image", `C:\pictures\..\cat.png`)
		require.NoError(s.t, err)
		_, err = io.WriteString(part, data)
		require.NoError(s.t, err)
	}
	require.NoError(s.t, form.Close())
	return s.send(http.MethodPost, path, body.String(), append(header, "Content-Type", form.FormDataContentType())...)
}

func TestFiles_ComeByMultipartAndJSON(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.pictures()
		auth := []string{"Authorization", "Bearer " + ada}
		res := s.upload("/api/v1/services/picture", png, map[string]string{"note": "cat", "flag": "false"}, auth...)
		assert.Contains(t, text(t, res.Body), `{"name":"cat.png","type":"image/png","bytes":13,"flag":false}`)
		post := func(data string) string {
			return text(t, s.send(http.MethodPost, "/api/v1/services/picture", `{"image":`+data+`}`, auth...).Body)
		}
		encoded := base64.StdEncoding.EncodeToString([]byte(png))
		assert.Contains(t, post(`{"name":"a.gif","type":"image/gif","data":"`+encoded+`"}`), `"type":"image/png"`, "the content says what it is")
		for data, want := range map[string]string{
			`{"name":"a.png","data":"not base64!"}`: "in base64",
			`{"name":"a.png"}`:                      "in base64",
			`{"data":""}`:                           "This is required.",
			`"` + encoded + `"`:                     "in base64",
			`null`:                                  "This is required.",
			`{"data":"` + encoded + `","size":1}`:   `"image.size":"There is no such field."`,
			`{"data":"` + base64.StdEncoding.EncodeToString([]byte("text")) + `"}`: "file of the type image/png",
		} {
			assert.Contains(t, post(data), want, data)
		}
		assert.Contains(t, text(t, s.upload("/api/v1/services/picture", "", nil, auth...).Body), "This is required.")

		page := s.page("/services/picture")
		assert.Contains(t, page, `enctype="multipart/form-data"`)
		assert.Contains(t, page, `type="file" id="f-image" name="image" accept="image/png" required`)
		form := []string{"X-User", ada, "Accept", "text/html"}
		assert.Contains(t, text(t, s.upload("/services/picture", png, map[string]string{"flag": "true"}, form...).Body), "cat.png")
		page = text(t, s.upload("/services/picture", png, map[string]string{"note": "too long"}, form...).Body)
		assert.Contains(t, page, `value="too long"`, "what was typed is kept")
		assert.Contains(t, page, `id="f-note-error"`)
		d, err := s.Find(t.Context(), "picture", "")
		require.NoError(t, err)
		assert.True(t, d.Files)
		assert.EqualValues(t, services.MaxFiles, d.MaxInputBytes)
		assert.Contains(t, string(d.InputSchema), `"contentEncoding":"base64"`)
	})
}

func TestFiles_RequestsAreBounded(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.pictures(services.MaxInput(1000))
		res := s.upload("/api/v1/services/picture", png+strings.Repeat("x", 1000), nil, "Authorization", "Bearer "+ada)
		assert.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
		assert.Equal(t, http.StatusOK, s.upload("/api/v1/services/picture", png, nil, "Authorization", "Bearer "+ada).StatusCode)
	})
}

func TestUsage_PagesFiltersAndCounts(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.grant(bob, "10")
		s.add("echo", "0.5", echo)
		s.add("fails", "0.5", func(context.Context, *services.Call, job) (done, error) { return done{}, errors.New("no") })
		for range 3 {
			_, err := s.Run(t.Context(), params(ada, "echo", ""))
			require.NoError(t, err)
		}
		since := s.clock.Now().Add(time.Hour)
		s.clock.Advance(2 * time.Hour)
		_, err := s.Run(t.Context(), params(ada, "fails", ""))
		require.Error(t, err)
		_, err = s.Run(t.Context(), params(bob, "echo", ""))
		require.NoError(t, err)

		all := s.calls(ada)
		require.Len(t, all, 4)
		var paged []services.Record
		before := uuid.Nil
		for more := true; more; {
			var page []services.Record
			page, more, err = s.Usage(t.Context(), services.UsageParams{Account: ada, Before: before, Limit: 3})
			require.NoError(t, err)
			paged, before = append(paged, page...), page[len(page)-1].ID
		}
		assert.Equal(t, all, paged)
		echoes, more, err := s.Usage(t.Context(), services.UsageParams{Account: ada, Service: "echo"})
		require.NoError(t, err)
		assert.False(t, more)
		assert.Len(t, echoes, 3)
		everybody, _, err := s.Usage(t.Context(), services.UsageParams{})
		require.NoError(t, err)
		assert.Len(t, everybody, 5)

		counts, err := s.UsageCounts(t.Context(), time.Time{})
		require.NoError(t, err)
		assert.Equal(t, []services.Count{{Service: "echo", Calls: 4, Charged: 2_000_000}, {Service: "fails", Calls: 1, Failed: 1}}, counts)
		counts, err = s.UsageCounts(t.Context(), since)
		require.NoError(t, err)
		assert.Equal(t, []services.Count{{Service: "echo", Calls: 1, Charged: 500_000}, {Service: "fails", Calls: 1, Failed: 1}}, counts)
	})
}

func text(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}
