package services_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/services"
)

// send asks the API or a page; header are names and values in turn.
func (s *shop) send(method, target, body string, header ...string) *http.Response {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	h := s.Handler()
	if strings.HasPrefix(target, services.DefaultAPIPath) {
		h = s.APIHandler()
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func (s *shop) api(method, target, body string) *http.Response {
	return s.send(method, target, body, "Authorization", "Bearer "+ada)
}

func (s *shop) post(service string, form url.Values) *http.Response {
	return s.send(http.MethodPost, "/services/"+service, form.Encode(), "X-User", ada, "Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html")
}

func (s *shop) page(target string) string {
	res := s.send(http.MethodGet, target, "", "X-User", ada, "Accept", "text/html")
	assert.Equal(s.t, http.StatusOK, res.StatusCode)
	return text(s.t.(*testing.T), res.Body)
}

// hidden is the value of the hidden field that ties what one form sends together.
func hidden(t *testing.T, page string) string {
	t.Helper()
	m := regexp.MustCompile(`name="attempt" value="([^"]+)"`).FindStringSubmatch(page)
	require.NotNil(t, m)
	return m[1]
}

func TestAPI_CallAnswersInTheDocumentedShape(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "100")
		s.add("echo", "0.5", echo)
		// curl -d without -H calls every body a form.
		res := s.send(http.MethodPost, "/api/v1/services/echo", `{"text":"hi"}`, "Authorization", "Bearer "+ada, "Content-Type", "application/x-www-form-urlencoded")
		assert.Equal(t, http.StatusOK, res.StatusCode)
		assert.Equal(t, "0.5", res.Header.Get("X-Credits-Charged"))
		assert.Equal(t, "99.5", res.Header.Get("X-Credits-Remaining"))
		assert.Equal(t, "application/json; charset=utf-8", res.Header.Get("Content-Type"))
		id := s.calls(ada)[0].ID.String()
		assert.JSONEq(t, `{"success":true,"data":{"service":"echo","version":"1","call_id":"`+id+`","result":{"echo":"hi"},"credits_charged":"0.5","balance":"99.5"}}`, text(t, res.Body))
		for _, kind := range []string{"", "application/json", "text/plain", "nonsense"} {
			res = s.send(http.MethodPost, "/api/v1/services/echo", `{"text":"hi"}`, "Authorization", "Bearer "+ada, "Content-Type", kind)
			assert.Equal(t, http.StatusOK, res.StatusCode, kind)
		}
	})
}

func TestAPI_ErrorsHaveOneShape(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "1")
		s.add("echo", "0.5", echo)
		s.add("dear", "1.5", echo)
		s.add("off", "0.5", echo, services.Inactive())
		s.add("breaks", "0.5", func(context.Context, *services.Call, job) (done, error) { return done{}, errors.New("secret") })
		s.add("slow", "0.5", func(ctx context.Context, _ *services.Call, _ job) (done, error) {
			<-ctx.Done()
			return done{}, ctx.Err()
		}, services.Timeout(10*time.Millisecond))
		me := []string{"Authorization", "Bearer " + ada}
		for _, c := range []struct {
			name, method, target, body string
			header                     []string
			status                     int
			code, contains             string
		}{
			{"no key", "POST", "/services/echo", `{"text":"hi"}`, nil, 401, "unauthenticated", ""},
			{"wrong key", "POST", "/services/echo", `{"text":"hi"}`, []string{"Authorization", "Bearer wrong"}, 401, "unauthenticated", ""},
			{"wrong key for the list", "GET", "/services", "", []string{"Authorization", "Bearer wrong"}, 401, "unauthenticated", ""},
			{"unknown service", "POST", "/services/none", `{"text":"hi"}`, me, 404, "not_found", ""},
			{"unknown path", "GET", "/nothing", "", me, 404, "not_found", ""},
			{"unknown path for browsers", "GET", "/services/echo/more", "", []string{"Accept", "text/html"}, 404, "not_found", ""},
			{"wrong method", "DELETE", "/services/echo", "", me, 405, "method_not_allowed", ""},
			{"wrong method", "DELETE", "/usage", "", me, 405, "method_not_allowed", ""},
			{"malformed", "POST", "/services/echo", `{"text":`, me, 400, "malformed", ""},
			{"empty", "POST", "/services/echo", ``, me, 400, "malformed", ""},
			{"bad input", "POST", "/services/echo", `{"text":"","times":9}`, me, 422, "invalid", `"fields":{"text":"This is required.","times":"This must be at most 5."}`},
			{"unknown field", "POST", "/services/echo", `{"text":"hi","account_id":"bob","balance":"9"}`, me, 422, "invalid",
				`"fields":{"account_id":"There is no such field.","balance":"There is no such field."}`},
			{"too large", "POST", "/services/echo", `{"text":"` + strings.Repeat("a", services.MaxBody) + `"}`, me, 413, "too_large", ""},
			{"multipart that does not parse", "POST", "/services/echo", `{"text":"hi"}`, append(me, "Content-Type", "multipart/form-data; boundary=x"), 400, "malformed", ""},
			{"multipart of another kind", "POST", "/services/echo", `{"text":"hi"}`, append(me, "Content-Type", "multipart/mixed; boundary=x"), 415, "unsupported_media_type", ""},
			{"too few credits", "POST", "/services/dear", `{"text":"hi"}`, me, 402, "insufficient_credits", `"details":{"available":"1","required":"1.5","shortfall":"0.5"}`},
			{"inactive", "POST", "/services/off", `{"text":"hi"}`, me, 409, "service_inactive", ""},
			{"failure", "POST", "/services/breaks", `{"text":"hi"}`, me, 502, "execution_failed", `"credits_charged":"0"`},
			{"timeout", "POST", "/services/slow", `{"text":"hi"}`, me, 504, "timeout", `"call_id":"`},
			{"empty idempotency key", "POST", "/services/echo", `{"text":"hi"}`, append(me, "Idempotency-Key", ""), 422, "invalid", ""},
			{"long idempotency key", "POST", "/services/echo", `{"text":"hi"}`, append(me, "Idempotency-Key", strings.Repeat("k", 256)), 422, "invalid", ""},
			{"another site", "POST", "/services/echo", `{"text":"hi"}`, append(me, "Sec-Fetch-Site", "cross-site", "Accept", "text/html"), 403, "forbidden", ""},
			{"bad page", "GET", "/usage?before=x&limit=0", "", me, 422, "invalid", `"before":`},
		} {
			res := s.send(c.method, "/api/v1"+c.target, c.body, c.header...)
			body := text(t, res.Body)
			assert.Equal(t, c.status, res.StatusCode, "%s: %s", c.name, body)
			var told struct {
				Success *bool `json:"success"`
				Error   struct {
					Code    string `json:"code"`
					Message string `json:"message"`
				} `json:"error"`
			}
			require.NoError(t, json.Unmarshal([]byte(body), &told), "%s: %s", c.name, body)
			assert.False(t, *told.Success)
			assert.Equal(t, c.code, told.Error.Code, c.name)
			assert.NotEmpty(t, told.Error.Message)
			assert.Contains(t, body, c.contains, c.name)
			assert.NotContains(t, body, "secret")
			assert.Equal(t, c.status == 401, res.Header.Get("WWW-Authenticate") == "Bearer", c.name)
			if c.status == 405 {
				assert.NotEmpty(t, res.Header.Get("Allow"))
			}
		}
		assert.Equal(t, "1", s.balance(ada))
	})
}

func TestAPI_IdempotencyKeyHeader(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "1")
		s.add("echo", "0.5", echo)
		send := func(body string) (int, string) {
			res := s.send(http.MethodPost, "/api/v1/services/echo", body, "Authorization", "Bearer "+ada, "Idempotency-Key", strings.Repeat("ü", 255))
			return res.StatusCode, text(t, res.Body)
		}
		status, first := send(`{"text":"hi"}`)
		assert.Equal(t, 200, status)
		status, second := send(`{"text":"hi"}`)
		assert.Equal(t, 200, status)
		assert.Equal(t, first, second)
		status, third := send(`{"text":"ho"}`)
		assert.Equal(t, 409, status)
		assert.Contains(t, third, "idempotency_mismatch")
		assert.Equal(t, "0.5", s.balance(ada))
	})
}

func TestAPI_ListCreditsAndUsageAreTheCallersOwn(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.grant(bob, "5")
		s.add("echo", "0.5", echo)
		for range 3 {
			assert.Equal(t, 200, s.api(http.MethodPost, "/api/v1/services/echo", `{"text":"hi"}`).StatusCode)
		}
		theirs, err := s.Run(t.Context(), params(bob, "echo", ""))
		require.NoError(t, err)

		list := text(t, s.api(http.MethodGet, "/api/v1/services", "").Body)
		assert.Contains(t, list, `"name":"echo"`)
		assert.Contains(t, list, `"price":"0.5 credits"`)
		assert.Contains(t, list, `"input_schema":{"type":"object"`)
		assert.JSONEq(t, `{"success":true,"data":{"balance":"8.5","available":"8.5","held":"0","by_source":{"purchase":"8.5"}}}`,
			text(t, s.api(http.MethodGet, "/api/v1/credits?account=bob", "").Body))

		type page struct {
			Data struct {
				Calls []services.Record `json:"calls"`
				Next  string            `json:"next"`
			} `json:"data"`
		}
		read := func(target string) (p page) {
			require.NoError(t, json.Unmarshal([]byte(text(t, s.api(http.MethodGet, target, "").Body)), &p))
			return p
		}
		// Neither a parameter nor another's call as the cursor opens another account.
		for _, q := range []string{"", "?account=bob&account_id=bob", "?before=" + uuid.Max.String(), "?before=" + theirs.CallID.String()} {
			p := read("/api/v1/usage" + q)
			assert.Len(t, p.Data.Calls, 3, q)
			for _, c := range p.Data.Calls {
				assert.NotEqual(t, theirs.CallID, c.ID)
			}
		}
		first := read("/api/v1/usage?limit=2&service=echo")
		assert.Len(t, first.Data.Calls, 2)
		second := read(first.Data.Next)
		assert.Len(t, second.Data.Calls, 1)
		assert.Empty(t, second.Data.Next)
		assert.NotContains(t, first.Data.Calls, second.Data.Calls[0])
		assert.Empty(t, read("/api/v1/usage?service=none").Data.Calls)
	})
}

func TestAPI_AClientThatHangsUpIsNotLeftHalfCharged(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "1")
		began := make(chan struct{}, 1)
		s.add("slow", "1", func(ctx context.Context, _ *services.Call, _ job) (done, error) {
			began <- struct{}{}
			<-ctx.Done()
			return done{}, ctx.Err()
		})
		server := httptest.NewServer(s.APIHandler())
		defer server.Close()
		ctx, hangUp := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/api/v1/services/slow", strings.NewReader(`{"text":"hi"}`))
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+ada)
		go func() {
			<-began
			hangUp()
		}()
		_, err = server.Client().Do(r)
		require.ErrorIs(t, err, context.Canceled)
		require.Eventually(t, func() bool {
			calls := s.calls(ada)
			return len(calls) == 1 && calls[0].Status == services.Failed
		}, 10*time.Second, 10*time.Millisecond)
		assert.Equal(t, "canceled", s.calls(ada)[0].ErrorCode)
		assert.Equal(t, "1", s.balance(ada))
	})
}

func TestPages_ListShowsCards(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		assert.Contains(t, s.page("/services/"), "No services yet")
		s.add("echo", "0.5", echo)
		s.add("off", "7", echo, services.Inactive())
		page := s.page("/services/")
		assert.Contains(t, page, "0.5 credits")
		assert.Contains(t, page, `href="/services/echo"`)
		assert.Contains(t, page, "Switched off")
		assert.NotContains(t, page, `href="/services/off"`)
		res := s.send(http.MethodGet, "/services/", "", "Accept", "application/json")
		assert.Contains(t, text(t, res.Body), `"services":[{"name":"echo"`)
		res = s.send(http.MethodGet, "/services/echo", "", "Accept", "application/json")
		assert.Contains(t, text(t, res.Body), `"input_schema"`)
		assert.Equal(t, http.StatusNotFound, s.send(http.MethodGet, "/services/none", "").StatusCode)
		assert.Equal(t, http.StatusNotFound, s.send(http.MethodPost, "/services/none", "").StatusCode)
	})
}

func TestPages_FormFollowsTheSchema(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		var got everything
		require.NoError(t, services.Register(s.Services, services.Func(services.Info{Name: "all", Title: "All <b>"}, services.Free(),
			func(_ context.Context, _ *services.Call, in everything) (done, error) {
				got = in
				return done{"ok"}, nil
			})))
		page := s.page("/services/all")
		for _, want := range []string{
			`<label class="label" for="f-text">Your &lt;text&gt;</label>`,
			`<textarea class="textarea" id="f-text" name="text" rows="8" required aria-describedby="f-text-hint">`,
			`<p class="help" id="f-text-hint">Say it.</p>`,
			`type="text" id="f-line" name="line" value="">`,
			`type="email" id="f-mail"`, `type="url" id="f-site"`,
			`<select id="f-mode" name="mode" required>`, `<option>fast</option>`, `<option>very high</option>`,
			`type="number" id="f-count" name="count" value="" min="-1" max="100" step="1">`,
			`type="number" id="f-size" name="size" value="" min="0" step="1">`,
			`type="number" id="f-ratio" name="ratio" value="" step="any">`,
			`<input type="checkbox" id="f-agree" name="agree" value="true"> Agree`,
			`<textarea class="textarea" id="f-tags" name="tags" rows="8" aria-describedby="f-tags-hint">`, "One entry per line.",
			`name="options.depth"`, `for="f-options.name"`, `>Free<`, `All &lt;b&gt;`,
		} {
			assert.Contains(t, page, want)
		}
		assert.Equal(t, 1, strings.Count(page, "<h1"))
		assert.NotContains(t, page, "Hidden")

		res := s.post("all", url.Values{"text": {"two\r\nlines"}, "mode": {"slow"}, "quality": {"very high"}, "count": {" 7 "}, "ratio": {"0.5"}, "agree": {"true"}, "maybe": {"3"},
			"tags": {"a\r\n\r\n b \r\n"}, "numbers": {"1\n2"}, "options.depth": {"2"}, "options.name": {"n"}, "Hidden": {"x"}, "submit": {"Run"}})
		assert.Equal(t, 200, res.StatusCode, text(t, res.Body))
		three := 3
		want := everything{Text: "two\nlines", Mode: "slow", Quality: "very high", Count: 7, Ratio: 0.5, Agree: true, Maybe: &three, Tags: []string{"a", "b"}, Numbers: []int{1, 2}}
		want.Options.Depth, want.Options.Name = 2, "n"
		assert.Equal(t, want, got)

		res = s.post("all", url.Values{"text": {"</textarea><script>alert(1)</script>"}, "mode": {"quick"}, "count": {"many"}, "agree": {"true"}, "numbers": {"1\nx"}, "line": {`"><b>`}})
		assert.Equal(t, 422, res.StatusCode)
		page = text(t, res.Body)
		assert.NotContains(t, page, "<script>alert")
		for _, want := range []string{
			"&lt;/textarea&gt;&lt;script&gt;alert(1)", `value="many"`, `name="agree" value="true" checked`, `value="&#34;&gt;&lt;b&gt;"`,
			`id="f-count-error">This must be a whole number of 8 bits.`, `aria-describedby="f-count-error"`, `id="f-mode-error">Choose one of: fast, slow.`,
			`id="f-numbers-error">Line 2: This must be a whole number of 64 bits.`, "1\nx</textarea>",
		} {
			assert.Contains(t, page, want)
		}
	})
}

func TestPages_CallShowsResultCostAndBalance(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "100")
		s.add("echo", "0.5", echo)
		res := s.post("echo", url.Values{"text": {"hi"}, "times": {"2"}})
		page := text(t, res.Body)
		assert.Equal(t, 200, res.StatusCode)
		assert.Equal(t, "0.5", res.Header.Get("X-Credits-Charged"))
		for _, want := range []string{`<th scope="row">Echo</th>`, `<span class="qs-code">hihi</span>`, `id="cost">0.5<`, `id="remaining">99.5<`, `value="hi"`, `value="2"`} {
			assert.Contains(t, page, want)
		}
		res = s.send(http.MethodPost, "/services/echo", `{"text":"hi"}`, "X-User", ada, "Content-Type", "application/json", "Accept", "application/json", "Idempotency-Key", "k")
		assert.Contains(t, text(t, res.Body), `"result":{"echo":"hi"},"credits_charged":"0.5","balance":"99"`)
		res = s.send(http.MethodPost, "/services/echo", `{"text":"hi"}`, "X-User", ada, "Content-Type", "text/xml")
		assert.Equal(t, http.StatusUnsupportedMediaType, res.StatusCode)
		res = s.post("echo", url.Values{"text": {strings.Repeat("a", services.MaxBody)}})
		assert.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
		res = s.send(http.MethodPost, "/services/echo", "text=hi", "X-User", ada, "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "cross-site")
		assert.Equal(t, http.StatusForbidden, res.StatusCode)
		assert.Equal(t, "99", s.balance(ada))
	})
}

func TestPages_HostileOutputIsEscaped(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		const hostile = `<script>alert(1)</script>`
		require.NoError(t, services.Register(s.Services, services.Func(services.Info{Name: "hostile", Title: hostile, Summary: hostile}, services.Free(),
			func(context.Context, *services.Call, struct{}) (map[string]any, error) {
				return map[string]any{hostile: hostile, "nested": map[string]any{"list": []any{hostile, 1.5, true, nil, []int{}}}}, nil
			})))
		s.add("refuses", "0", func(context.Context, *services.Call, job) (done, error) { return done{}, services.Failure(hostile) })
		page := text(t, s.post("hostile", nil).Body)
		assert.NotContains(t, page, "<script>alert")
		assert.Contains(t, page, `<th scope="row">&lt;script&gt;alert(1)&lt;/script&gt;</th>`)
		assert.Contains(t, page, `<li><span class="qs-code">&lt;script&gt;`)
		assert.Contains(t, page, `<li><span class="qs-code">1.5</span></li><li><span class="qs-code">Yes</span></li><li><span class="qs-code">–</span></li>`)
		page = text(t, s.post("refuses", url.Values{"text": {hostile[:20]}}).Body)
		assert.NotContains(t, page, "<script>alert")
		assert.Contains(t, page, "&lt;script&gt;")
	})
}

func TestPages_TooFewCreditsShowTheShortfall(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "0.25")
		s.add("echo", "1", echo)
		res := s.post("echo", url.Values{"text": {"typed"}})
		page := text(t, res.Body)
		assert.Equal(t, http.StatusPaymentRequired, res.StatusCode)
		for _, want := range []string{`id="required">1<`, `id="available">0.25<`, `id="shortfall">0.75<`, `href="/billing/">Buy credits`, `value="typed"`} {
			assert.Contains(t, page, want)
		}
		assert.Empty(t, s.calls(ada))
	})
}

func TestPages_SignedOutAreSentToLogIn(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.add("echo", "0", echo)
		page := text(t, s.send(http.MethodGet, "/services/echo", "", "Accept", "text/html").Body)
		assert.Contains(t, page, `href="/auth/login?next=%2Fservices%2Fecho"`)
		assert.NotContains(t, page, "<form method")
		res := s.send(http.MethodPost, "/services/echo", "text=hi", "Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html")
		assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
		page = text(t, res.Body)
		for _, want := range []string{`<form method="post" action="/services/echo">`, `value="hi"`, `href="/auth/login?next=%2Fservices%2Fecho" target="_blank" rel="noopener"`} {
			assert.Contains(t, page, want, "what was typed outlives the session")
		}
		res = s.send(http.MethodPost, "/services/echo", `{"text":"hi"}`, "Content-Type", "application/json", "Accept", "application/json")
		assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
		assert.Empty(t, s.calls(""))
	})
}

func TestPages_ADoubleClickRunsOnce(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		var ran atomic.Int64
		s.add("slow", "1", func(ctx context.Context, call *services.Call, in job) (done, error) {
			ran.Add(1)
			time.Sleep(150 * time.Millisecond) // long enough for the second click to come in between
			return echo(ctx, call, in)
		})
		attempt := hidden(t, s.page("/services/slow"))
		form := url.Values{"text": {"hi"}, "attempt": {attempt}}
		pages := make([]string, 2)
		var wg sync.WaitGroup
		for i := range pages {
			wg.Go(func() {
				res := s.post("slow", form)
				assert.Equal(t, 200, res.StatusCode)
				pages[i] = text(t, res.Body)
			})
		}
		wg.Wait()
		assert.EqualValues(t, 1, ran.Load())
		for _, page := range pages {
			assert.Contains(t, page, `<span class="qs-code">hi</span>`)
			assert.NotEqual(t, attempt, hidden(t, page), "the next click is another call")
		}
		assert.Equal(t, 200, s.post("slow", url.Values{"text": {"ho"}, "attempt": {attempt}}).StatusCode, "back, and something else typed")
		assert.Equal(t, "8", s.balance(ada))
	})
}

func TestPages_AnUnknownOutcomeCanBeAskedForAgain(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.add("echo", "1", echo)
		s.ledger.set(func(_ context.Context, _ *sqlx.Tx, step string) error {
			if step == "settled" {
				return errors.New("connection lost")
			}
			return nil
		})
		attempt := hidden(t, s.page("/services/echo"))
		form := url.Values{"text": {"hi"}, "attempt": {attempt}}
		res := s.post("echo", form)
		page := text(t, res.Body)
		assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
		assert.NotContains(t, page, `id="result"`)
		assert.Equal(t, attempt, hidden(t, page))
		s.ledger.set(nil)
		s.clock.Advance(time.Hour)
		assert.Equal(t, 200, s.post("echo", form).StatusCode)
		assert.Equal(t, "9", s.balance(ada))
	})
}
