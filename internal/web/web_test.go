package web_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

func newSite(t *testing.T, cfg web.Config) *web.Site {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := web.New(cfg)
	require.NoError(t, err)
	return s
}

var hello = fstest.MapFS{
	"templates/hello.html": {Data: []byte(`{{define "title"}}Hello{{end}}{{define "content"}}<h1>{{.Data}}</h1>{{template "field" (dict "Name" "email" "Label" "E-mail" "Error" (index .Fields "email"))}}{{end}}`)},
}

func get(h http.Handler, path string, header ...string) *http.Response {
	return send(h, http.MethodGet, path, "", header...)
}

func send(h http.Handler, method, path, body string, header ...string) *http.Response {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return string(b)
}

func TestRespond_IsAPageOrJSONAsTheRequestAsks(t *testing.T) {
	t.Parallel()
	site := newSite(t, web.Config{Name: "Acme", Chrome: func(*http.Request) web.Chrome {
		return web.Chrome{Nav: []web.Link{{Label: "Things", URL: "/things/"}}, Person: &web.Person{Email: `a"><script>@x`, AccountURL: "/account/"}, LogoutURL: "/out"}
	}})
	views, err := site.Views("test", hello)
	require.NoError(t, err)
	h := site.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		views.Respond(w, r, http.StatusTeapot, "hello", "<script>alert(1)</script>")
	}))

	res := get(h, "/things/1", "Accept", "text/html,application/json")
	body := text(t, res)
	assert.Equal(t, http.StatusTeapot, res.StatusCode)
	assert.Contains(t, body, "<title>Hello · Acme</title>")
	assert.Contains(t, body, `aria-current="page"`)
	assert.NotContains(t, body, "<script>alert", "data is escaped")
	assert.NotContains(t, body, `a"><script>@x`)
	for _, header := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Cache-Control"} {
		assert.NotEmpty(t, res.Header.Get(header), header)
	}
	assert.NotContains(t, res.Header.Get("Content-Security-Policy"), "unsafe")

	res = get(h, "/things/1", "Accept", "application/json")
	assert.Equal(t, http.StatusTeapot, res.StatusCode)
	assert.JSONEq(t, `{"success":true,"data":"<script>alert(1)</script>"}`, text(t, res))
}

// Every address that a page names is served, and none is another host's or inline.
func TestLayout_HasNoInlineCodeAndAllItsAssets(t *testing.T) {
	t.Parallel()
	site := newSite(t, web.Config{})
	body := text(t, get(site.Protect(http.HandlerFunc(site.NotFound)), "/nowhere"))
	assert.NotRegexp(t, `<script>|<script [^>]*>[^<]|<style|\sstyle=|\son[a-z]+=`, body)
	links := regexp.MustCompile(`(?:src|href)="(/static/[^"]+)"`).FindAllStringSubmatch(body, -1)
	require.GreaterOrEqual(t, len(links), 6)
	for _, link := range links {
		res := get(site.Assets(), link[1])
		assert.Equal(t, http.StatusOK, res.StatusCode, link[1])
		assert.Contains(t, res.Header.Get("Cache-Control"), "immutable")
	}
	assert.Equal(t, http.StatusNotFound, get(site.Assets(), "/static/CHECKSUMS").StatusCode)
}

// A menu of nothing would be an empty strip on a phone, under a button that opens nothing.
func TestLayout_HasNoMenuWhereThereIsNothingInIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		chrome web.Chrome
		menu   bool
	}{
		"nothing": {web.Chrome{}, false}, "links": {web.Chrome{Nav: []web.Link{{Label: "Home", URL: "/home"}}}, true},
		"a log-in": {web.Chrome{LoginURL: "/auth/login"}, true}, "somebody": {web.Chrome{Person: &web.Person{Email: "ada@example.com"}}, true},
	} {
		site, err := web.New(web.Config{Chrome: func(*http.Request) web.Chrome { return c.chrome }})
		require.NoError(t, err)
		w := httptest.NewRecorder()
		site.NotFound(w, httptest.NewRequest(http.MethodGet, "/", nil))
		for _, part := range []string{"data-burger", `id="menu"`} {
			assert.Equal(t, c.menu, strings.Contains(w.Body.String(), part), "%s: %s", name, part)
		}
	}
}

func TestAlone_ServesItsAssetsBelowItsPath(t *testing.T) {
	t.Parallel()
	alone, err := web.Alone("/shop", web.Config{})
	require.NoError(t, err)
	h := alone.Protect(http.HandlerFunc(alone.NotFound))
	body := text(t, get(h, "/shop/nowhere"))
	links := regexp.MustCompile(`(?:src|href)="(/[^"]+\.(?:css|js|svg))"`).FindAllStringSubmatch(body, -1)
	require.GreaterOrEqual(t, len(links), 6)
	for _, link := range links {
		assert.Equal(t, http.StatusOK, get(h, link[1]).StatusCode, link[1])
	}
	shared := newSite(t, web.Config{})
	sheet := strings.TrimPrefix(regexp.MustCompile(`/shop/static/app/app-[^"]+`).FindString(body), "/shop")
	assert.Equal(t, http.StatusOK, get(shared.Assets(), sheet).StatusCode)
	assert.Equal(t, http.StatusNotFound, get(shared.Protect(http.HandlerFunc(shared.NotFound)), sheet).StatusCode, "the root package serves those of its site")
}

func TestAssets_AreWhatTheirMakersPublished(t *testing.T) {
	t.Parallel()
	file, err := os.Open("assets/CHECKSUMS")
	require.NoError(t, err)
	defer file.Close()
	lines := bufio.NewScanner(file)
	count := 0
	for lines.Scan() {
		sum, name, ok := strings.Cut(lines.Text(), "  ")
		require.True(t, ok)
		content, err := os.ReadFile(filepath.Join("assets", name))
		require.NoError(t, err)
		got := sha256.Sum256(content)
		assert.Equal(t, sum, hex.EncodeToString(got[:]), name)
		_, err = os.Stat(filepath.Join("assets", filepath.Dir(name), "LICENSE"))
		require.NoError(t, err)
		count++
	}
	require.NoError(t, lines.Err())
	assert.Equal(t, 2, count)
}

func TestViews_HostReplacesATemplate(t *testing.T) {
	t.Parallel()
	site := newSite(t, web.Config{Templates: fstest.MapFS{
		"test/hello.html": {Data: []byte(`{{define "title"}}T{{end}}{{define "content"}}mine: {{.Data}}{{end}}`)},
		"web/header.html": {Data: []byte(`{{define "header"}}my header{{end}}`)},
	}})
	views, err := site.Views("test", hello)
	require.NoError(t, err)
	w := httptest.NewRecorder()
	views.Render(w, httptest.NewRequest(http.MethodGet, "/", nil), 200, "hello", "x")
	assert.Contains(t, w.Body.String(), "mine: x")
	assert.Contains(t, w.Body.String(), "my header")

	_, err = web.New(web.Config{Templates: fstest.MapFS{"web/header.html": {Data: []byte(`{{define "header"}}{{`)}}})
	require.ErrorContains(t, err, "web/header.html")
}

type facts struct{ error }

func (facts) ErrorCode() string            { return "insufficient_credits" }
func (facts) ErrorMessage() string         { return "Buy some." }
func (facts) ErrorDetails() map[string]any { return map[string]any{"required": "2"} }

func TestFail_TellsWhatIsMeantToBeToldAndLogsTheRest(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	site := newSite(t, web.Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	for _, c := range []struct {
		err    error
		status int
		want   string
	}{
		{facts{errors.New("x")}, 402, `"details":{"required":"2"}`},
		{problem.Invalid(map[string]string{"email": "No."}), 422, `"fields":{"email":"No."}`},
		{problem.New("some_state", "Not now."), 409, `"code":"some_state"`},
		{errors.New("pq: password of bob is wrong"), 500, `"code":"internal"`},
	} {
		h := site.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { site.Fail(w, r, c.err) }))
		res := get(h, "/", "Accept", "application/json")
		body := text(t, res)
		assert.Equal(t, c.status, res.StatusCode)
		assert.Contains(t, body, c.want)
		assert.Contains(t, body, `"success":false`)
		assert.NotContains(t, body, "bob")
		if c.status == 500 {
			assert.Contains(t, body, res.Header.Get("X-Request-Id"))
			assert.Contains(t, logged.String(), res.Header.Get("X-Request-Id"))
			assert.Contains(t, logged.String(), "bob")
		}
		page := text(t, get(h, "/", "Accept", "text/html"))
		assert.Contains(t, page, http.StatusText(c.status))
		assert.NotContains(t, page, "bob")
	}
}

func TestMissing_NamesTheMethodsThatAnAddressTakes(t *testing.T) {
	t.Parallel()
	site := newSite(t, web.Config{})
	mux := http.NewServeMux()
	answer := func(http.ResponseWriter, *http.Request) {}
	mux.HandleFunc("GET /a/both", answer)
	mux.HandleFunc("POST /a/both", answer)
	mux.HandleFunc("POST /a/{id}/end", answer)
	mux.HandleFunc("/a/", site.Missing(mux))
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"PUT", "/a/both", 405, "GET, HEAD, POST"},
		{"GET", "/a/7/end", 405, "POST"},
		{"HEAD", "/a/both", 200, ""},
		{"GET", "/a/nothing", 404, ""},
		{"POST", "/a/", 404, ""},
	} {
		res := send(mux, c.method, c.path, "", "Accept", "application/json")
		assert.Equal(t, c.status, res.StatusCode, "%s %s", c.method, c.path)
		assert.Equal(t, c.allow, res.Header.Get("Allow"), "%s %s", c.method, c.path)
		if c.status == 405 {
			assert.Contains(t, text(t, res), `"code":"method_not_allowed"`)
		}
	}
}

func TestReject_ShowsTheFormAgain(t *testing.T) {
	t.Parallel()
	site := newSite(t, web.Config{})
	views, err := site.Views("test", hello)
	require.NoError(t, err)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		views.Reject(w, r, "hello", "again", problem.Invalid(map[string]string{"email": "Enter an address."}))
	})
	res := get(h, "/")
	body := text(t, res)
	assert.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
	assert.Contains(t, body, `aria-describedby="f-email-error"`)
	assert.Contains(t, body, "Enter an address.")
	assert.Contains(t, body, "<h1>again</h1>")
}

func TestProtect_RefusesOtherSitesAndRecoversPanics(t *testing.T) {
	t.Parallel()
	site := newSite(t, web.Config{})
	done := 0
	h := site.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { done++ }))
	for _, c := range []struct {
		method string
		header []string
		want   int
	}{
		{"POST", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"POST", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"PUT", []string{"Origin", "https://evil.example"}, 403},
		{"POST", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"POST", nil, 200}, // a program, not a browser
		{"GET", []string{"Sec-Fetch-Site", "cross-site"}, 200},
	} {
		before := done
		res := send(h, c.method, "/", "", c.header...)
		assert.Equal(t, c.want, res.StatusCode, "%s %v", c.method, c.header)
		assert.Equal(t, c.want == 200, done > before)
	}
	panics := site.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret state") }))
	res := get(panics, "/", "Accept", "application/json")
	assert.Equal(t, 500, res.StatusCode)
	assert.NotContains(t, text(t, res), "secret state")
}

func TestProtect_RefusesAddressesThatAreNoText(t *testing.T) {
	t.Parallel()
	site := newSite(t, web.Config{})
	h := site.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for path, want := range map[string]int{"/%00": 400, "/%ff": 400, "/?q=%00": 400, "/?%ff=1": 400, "/?q=%c3%a4&x=%zz": 200, "/%e2%82%ac": 200, "/": 200} {
		assert.Equal(t, want, get(h, path).StatusCode, path)
	}
}

func TestDecode_FormsAndJSONAlike(t *testing.T) {
	t.Parallel()
	type input struct {
		Email    string `json:"email"`
		Password string `json:"password" trim:"no"`
		Remember bool   `json:"remember"`
		Count    int    `json:"count"`
		Secret   string `json:"-"`

		Kinds []string `json:"kinds"`
	}
	decode := func(kind, body string) (input, error) {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		var in input
		err := web.Decode(httptest.NewRecorder(), r, &in)
		return in, err
	}
	want := input{Email: "a@b.c", Password: " x ", Remember: true, Count: 3, Kinds: []string{"a", "b"}}
	form := url.Values{"email": {" a@b.c "}, "password": {" x "}, "remember": {"on"}, "count": {"3"}, "kinds": {"a", "b"}, "Secret": {"no"}, "-": {"no"}, "submit": {""}}
	got, err := decode("application/x-www-form-urlencoded", form.Encode())
	require.NoError(t, err)
	assert.Equal(t, want, got)
	got, err = decode("application/json; charset=utf-8", `{"email":" a@b.c ","password":" x ","remember":true,"count":3,"kinds":["a","b"]}`)
	require.NoError(t, err)
	assert.Equal(t, want, got)

	for _, c := range []struct{ kind, body, code, field string }{
		{"application/json", `{`, problem.CodeMalformed, ""},
		{"application/json", `{} {}`, problem.CodeMalformed, ""},
		{"application/json", `{"admin":true}`, problem.CodeInvalid, "admin"},
		{"application/json", `{"count":"many"}`, problem.CodeInvalid, "count"},
		{"application/x-www-form-urlencoded", "count=many", problem.CodeInvalid, "count"},
		{"application/x-www-form-urlencoded", "remember=maybe", problem.CodeInvalid, "remember"},
		{"application/json", `{"email":"a\u0000"}`, problem.CodeInvalid, "email"},
		{"application/x-www-form-urlencoded", "email=%ff", problem.CodeInvalid, "email"},
		{"application/x-www-form-urlencoded", "kinds=a&kinds=%00", problem.CodeInvalid, "kinds"},
		{"text/xml", `<a/>`, "unsupported_media_type", ""},
		{"application/json", `{"email":"` + strings.Repeat("a", web.MaxForm) + `"}`, problem.CodeTooLarge, ""},
	} {
		_, err := decode(c.kind, c.body)
		require.NotNil(t, problem.From(err), "%s %.20s: %v", c.kind, c.body, err)
		assert.Equal(t, c.code, problem.From(err).ErrorCode(), "%.20s", c.body)
		if c.field != "" {
			assert.Contains(t, problem.FieldsOf(err), c.field)
		}
	}
}

func TestFlash_IsShownOnce(t *testing.T) {
	t.Parallel()
	site := newSite(t, web.Config{Secure: true})
	views, err := site.Views("test", hello)
	require.NoError(t, err)
	w := httptest.NewRecorder()
	site.Flash(w, web.FlashSuccess, "Saved <b>it</b>.")
	cookie := w.Result().Cookies()[0]
	assert.True(t, cookie.Secure && cookie.HttpOnly && strings.HasPrefix(cookie.Name, "__Host-"))

	show := func(value string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.AddCookie(&http.Cookie{Name: cookie.Name, Value: value})
		w := httptest.NewRecorder()
		views.Render(w, r, 200, "hello", "")
		return w
	}
	w = show(cookie.Value)
	assert.Contains(t, w.Body.String(), "Saved &lt;b&gt;it&lt;/b&gt;.")
	assert.Negative(t, w.Result().Cookies()[0].MaxAge, "the browser forgets it")
	assert.Equal(t, 200, show("garbage%").Code)
}

func TestRedirect_SpeaksToBrowsersProgramsAndHTMX(t *testing.T) {
	t.Parallel()
	site := newSite(t, web.Config{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { site.Redirect(w, r, "/there") })
	res := get(h, "/")
	assert.Equal(t, http.StatusSeeOther, res.StatusCode)
	assert.Equal(t, "/there", res.Header.Get("Location"))
	assert.Equal(t, "/there", get(h, "/", "HX-Request", "true").Header.Get("HX-Redirect"))
	var body struct {
		Data map[string]string `json:"data"`
	}
	require.NoError(t, json.Unmarshal([]byte(text(t, get(h, "/", "Accept", "application/json"))), &body))
	assert.Equal(t, "/there", body.Data["redirect"])
}

func TestLocalPath_StaysHere(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{"/", "/account/", "/a?b=c&d=%2F%2Fx", "/a#b"} {
		assert.Equal(t, ok, web.LocalPath(ok, "/fallback"))
	}
	for _, bad := range []string{"", "//evil", `/\evil`, `\\evil`, "https://evil", "https:evil", "javascript:alert(1)", "/\t/evil", "/\n/evil", "evil",
		"/%09/evil\x00", "http://user@evil", "/%2F/evil/..//", "/%5cevil", "///evil", " /x"} {
		got := web.LocalPath(bad, "/fallback")
		if got != "/fallback" {
			u, err := url.Parse("https://here.example" + got)
			require.NoError(t, err)
			assert.Equal(t, "here.example", u.Host, bad)
			assert.False(t, strings.HasPrefix(u.Path, "//"), bad)
		}
	}
}

func FuzzLocalPath(f *testing.F) {
	f.Add("/a")
	f.Add("//evil")
	f.Add("/\\evil")
	base, err := url.Parse("https://here.example/auth/login")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, next string) {
		got := web.LocalPath(next, "/")
		// Browsers drop tabs and line ends and read a backslash as a slash.
		seen := strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/").Replace(got)
		u, err := base.Parse(seen)
		require.NoError(t, err)
		require.Equal(t, "here.example", u.Host)
		require.Equal(t, "https", u.Scheme)
	})
}

func TestRequestID_IsEmptyOutsideProtect(t *testing.T) {
	t.Parallel()
	assert.Empty(t, web.RequestID(context.Background()))
}
