package services_test

import (
	"go/format"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/browsertest"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/services"
)

const docsPath = "/api/v1/docs"

// try sends the form of a service, and returns the page.
func (s *shop) try(service string, form url.Values, header ...string) string {
	s.t.Helper()
	res := s.send(http.MethodPost, docsPath+"/"+service, form.Encode(), append(header, "Content-Type", "application/x-www-form-urlencoded")...)
	require.Equal(s.t, http.StatusOK, res.StatusCode)
	return html.UnescapeString(text(s.t.(*testing.T), res.Body))
}

func TestDocs_TellWithoutAKeyAndWithoutScripts(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.catalogue()
		res := s.send(http.MethodGet, docsPath, "", "Accept", "text/html")
		require.Equal(t, http.StatusOK, res.StatusCode)
		assert.Equal(t, "text/html; charset=utf-8", res.Header.Get("Content-Type"))
		assert.Contains(t, res.Header.Get("Content-Security-Policy"), "script-src 'self'")
		page := html.UnescapeString(text(t, res.Body))
		for _, said := range []string{
			"POST /api/v1/services/scale-picture", "options.width", "Use echo.", "Switched off at the moment.", `href="/api/v1/openapi.json"`,
			`-d '{"text":"hello"}'`, `curl -X POST 'http://example.com/api/v1/services/echo'`, `{"image":{"name":"example.txt","data":"aGVsbG8="},"options":{"width":1}}`,
		} {
			assert.Contains(t, page, said)
		}
		assert.NotRegexp(t, `(?:src|href)="https?:`, page, "everything comes from here")
		assert.NotRegexp(t, `<script[^>]*>[^<]`, page)
		assert.NotContains(t, page, "style=")
		ids := map[string]bool{}
		for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
			assert.False(t, ids[m[1]], "the id %s stands twice", m[1])
			ids[m[1]] = true
		}
		programs := regexp.MustCompile(`(?s)>(package main.*?)</pre>`).FindAllStringSubmatch(page, -1)
		require.Len(t, programs, 6)
		for _, m := range programs {
			formatted, err := format.Source([]byte(m[1]))
			require.NoError(t, err)
			assert.Equal(t, string(formatted), m[1])
		}
		assert.Equal(t, http.StatusNotFound, s.send(http.MethodPost, docsPath+"/none", "").StatusCode)
		assert.Equal(t, http.StatusMethodNotAllowed, s.send(http.MethodPost, docsPath, "").StatusCode)
	})
}

func TestDocs_TryingIsARealCall(t *testing.T) {
	run(t, func(t *testing.T, s *shop) {
		s.grant(ada, "10")
		s.catalogue()
		form := url.Values{"[key]": {ada}, "[attempt]": {"one"}, "text": {"hi"}}
		page := s.try("echo", form)
		assert.Contains(t, page, "200 OK")
		assert.Contains(t, page, `"echo": "hi"`)
		assert.Contains(t, page, "X-Credits-Charged: 0.5")
		assert.Contains(t, page, `id="service-echo" open`)
		assert.Contains(t, page, `value="hi"`, "what was typed is kept")
		assert.NotContains(t, page, `value="`+ada+`"`, "the key is not")
		assert.Contains(t, s.try("echo", form), "200 OK")
		assert.Equal(t, "9.5", s.balance(ada), "sent twice, called once")
		form.Set("[attempt]", "two")
		s.try("echo", form)
		assert.Equal(t, "9", s.balance(ada))

		form.Set("[key]", "wrong")
		page = s.try("echo", form)
		assert.Contains(t, page, "401 Unauthorized")
		assert.Contains(t, page, "Www-Authenticate: Bearer")
		page = s.try("echo", url.Values{"[key]": {ada}, "text": {""}})
		assert.Contains(t, page, "422 Unprocessable Entity")
		assert.Contains(t, page, "This is required.")
		assert.Equal(t, "9", s.balance(ada))

		// A stream is not asked for, whatever the request accepts.
		assert.Contains(t, s.try("tokens", url.Values{"[key]": {ada}, "text": {"hi"}, "times": {"3"}}, "Accept", "text/event-stream"), "200 OK")
		res := s.send(http.MethodPost, docsPath+"/echo", form.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "cross-site")
		assert.Equal(t, http.StatusForbidden, res.StatusCode)
		res = s.send(http.MethodPost, docsPath+"/echo", `{"text":"hi"}`, "Content-Type", "application/json")
		assert.Equal(t, http.StatusUnsupportedMediaType, res.StatusCode)
	})
}

// As a person does it, in a browser, where the answer comes without a new page.
func TestDocs_InABrowser(t *testing.T) {
	t.Parallel()
	s := newShop(t, dbtest.SQLite(t, schema))
	s.grant(ada, "10")
	s.catalogue()
	mux := http.NewServeMux()
	mux.Handle(services.DefaultAPIPath+"/", s.APIHandler())
	mux.Handle("/", s.Handler())
	server := httptest.NewServer(mux)
	defer server.Close()
	b := browsertest.Open(t)
	b.Go(server.URL + docsPath)
	b.See("OpenAPI 3.1")
	b.Screenshot("api-docs")
	b.Press("#service-echo > summary")
	b.Type("#key-echo", ada)
	b.Type("#f-echo-text", "hello")
	b.Type("#f-echo-times", "2")
	b.Press("#service-echo form button")
	b.See(`"echo": "hellohello"`)
	assert.Equal(t, server.URL+docsPath, b.Location(), "the page has stayed")
	assert.Equal(t, "9.5", s.balance(ada))
	b.Screenshot("api-docs-tried")
	b.CheckConsole()
	s.check()
}

func TestDocs_SampleFollowsTheSchema(t *testing.T) {
	t.Parallel()
	s := newShop(t, dbtest.SQLite(t, schema))
	s.catalogue()
	page := html.UnescapeString(text(t, s.send(http.MethodGet, docsPath, "").Body))
	for _, m := range regexp.MustCompile(`(?s)services/([a-z-]+)' \\.*?-d '(.*?)'\n`).FindAllStringSubmatch(page, -1) {
		_, err := s.Quote(t.Context(), services.QuoteParams{Service: m[1], Input: []byte(strings.ReplaceAll(m[2], "example.txt", "a.txt"))})
		if m[1] == "scale-picture" { // a text is no picture, and no mode has no price
			require.Error(t, err)
			continue
		}
		require.NoError(t, err, m[1])
	}
}
