package web_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/problem"
	"github.com/quickscale/quickscale/internal/web"
)

func gallery(t *testing.T, cfg web.Config) http.Handler {
	t.Helper()
	h, err := newSite(t, cfg).Gallery("/dev/ui")
	require.NoError(t, err)
	return h
}

// Every component is on the page, says what it takes, and is drawn by the source that is shown beside it.
func TestGallery_ShowsEveryComponent(t *testing.T) {
	t.Parallel()
	body := text(t, get(gallery(t, web.Config{}), "/dev/ui"))
	files, err := fs.Glob(web.Templates(), "components/*.html")
	require.NoError(t, err)
	require.Len(t, files, 15)
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		source, err := fs.ReadFile(web.Templates(), file)
		require.NoError(t, err)
		assert.Contains(t, string(source), fmt.Sprintf("{{define %q", name), "a component's file has its name")
		about := regexp.MustCompile(`id="` + name + `">[^<]*</h2>\s*<p[^>]*>([^<]+)</p>`).FindStringSubmatch(body)
		require.NotNil(t, about, name)
		for _, parameter := range regexp.MustCompile(`\{\{-? ?(?:if|with|or)? ?\.([A-Z][A-Za-z]+)`).FindAllStringSubmatch(string(source), -1) {
			if strings.Contains(string(source), ". is a web.") && parameter[1] != "Title" {
				continue // a Go type, whose fields its own comment explains
			}
			assert.Contains(t, about[1], parameter[1], "%s does not say what %s is", name, parameter[1])
		}
		assert.Contains(t, body, `data-example="`+name+`"`, "%s has no example", name)
	}
	assert.Equal(t, 1, strings.Count(body, "<h1"))
	assert.NotRegexp(t, `<style|\sstyle=|\son[a-z]+=`, body)
	ids := map[string]bool{}
	for _, id := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(body, -1) {
		assert.False(t, ids[id[1]], "the id %s is there twice", id[1])
		ids[id[1]] = true
	}
	assert.Contains(t, body, `aria-invalid="true"`)
	assert.Contains(t, body, "Donaudampfschiff")
}

func TestGallery_InEachScheme(t *testing.T) {
	t.Parallel()
	h := gallery(t, web.Config{})
	assert.Contains(t, text(t, get(h, "/dev/ui?scheme=dark")), `<html lang="en" data-theme="dark">`)
	assert.Contains(t, text(t, get(h, "/dev/ui?scheme=light")), `<html lang="en" data-theme="light">`)
	assert.Contains(t, text(t, get(h, "/dev/ui?scheme=other")), `<html lang="en">`)
}

func TestGallery_ShowsTheHostsComponents(t *testing.T) {
	t.Parallel()
	cfg := web.Config{Templates: fstest.MapFS{"web/components/badge.html": {Data: []byte(`{{define "badge"}}<b>my badge</b>{{end}}`)}}}
	assert.Contains(t, text(t, get(gallery(t, cfg), "/dev/ui")), "<b>my badge</b>")
	_, err := newSite(t, web.Config{Templates: fstest.MapFS{"web/components/badge.html": {Data: []byte(`{{define "badge"}}{{.Text.Nope}}{{end}}`)}}}).Gallery("/dev/ui")
	require.ErrorContains(t, err, "web/components/badge.html:1")
}

// Each page says what went wrong and what to do next, and keeps its status; programs read the same in JSON.
func TestErrorPages_SayWhatToDoNext(t *testing.T) {
	t.Parallel()
	h := gallery(t, web.Config{})
	for status, next := range map[int]string{
		403: "another account", 404: "Check it", 405: "Nothing was changed", 413: "smaller", 422: "Enter an address such as", 429: "Wait a little", 500: "this number: <code>", 503: "a few minutes",
	} {
		at := fmt.Sprint("/dev/ui/error/", status)
		res := get(h, at)
		body := text(t, res)
		assert.Equal(t, status, res.StatusCode)
		assert.Contains(t, body, `href="/">Home</a>`, status)
		assert.Equal(t, 1, strings.Count(body, "<h1"), status)
		assert.Equal(t, status == 429 || status >= 500, strings.Contains(body, `href="`+at+`">Try again</a>`), status)
		assert.Contains(t, body, next, status)
		assert.Contains(t, body, http.StatusText(status))
		res = get(h, at, "Accept", "application/json")
		assert.Equal(t, status, res.StatusCode)
		assert.Contains(t, text(t, res), `"success":false`)
	}
	for _, path := range []string{"/dev/ui/error/200", "/dev/ui/error/x", "/dev/ui/other"} {
		assert.Equal(t, 404, get(h, path).StatusCode, path)
	}
	assert.Equal(t, 405, send(h, "POST", "/dev/ui", "").StatusCode)
}

func TestErrorPages_NameTheTimeToWaitAndTheWayIn(t *testing.T) {
	t.Parallel()
	site := newSite(t, web.Config{Chrome: func(*http.Request) web.Chrome { return web.Chrome{LoginURL: "/in"} }})
	for seconds, words := range map[string]string{"1": "in a second.", "90": "in 90 seconds.", "91": "in 2 minutes.", "x": "Wait a little"} {
		h := site.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", seconds)
			site.Fail(w, r, problem.New(problem.CodeTooMany, "Slowly."))
		}))
		assert.Contains(t, text(t, get(h, "/")), words)
	}
	h := site.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site.Fail(w, r, problem.New(problem.CodeUnauthenticated, "Who are you?"))
	}))
	assert.Contains(t, strings.SplitAfter(text(t, get(h, "/")), "<main")[1], `href="/in">Log in</a>`)
	assert.NotContains(t, text(t, send(h, "POST", "/", "")), "Try again</a>", "which would do the deed twice")
}
