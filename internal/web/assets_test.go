package web_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/web"
)

func unpack(t *testing.T, encoding string, body io.Reader) []byte {
	t.Helper()
	switch encoding {
	case "br":
		body = brotli.NewReader(body)
	case "gzip":
		var err error
		body, err = gzip.NewReader(body)
		require.NoError(t, err)
	}
	content, err := io.ReadAll(body)
	require.NoError(t, err)
	return content
}

// Whoever changes an asset runs go generate in internal/web.
func TestAssets_AreCompressedAsTheyAreNow(t *testing.T) {
	t.Parallel()
	seen := 0
	require.NoError(t, filepath.WalkDir("assets", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		plain := strings.TrimSuffix(strings.TrimSuffix(name, ".br"), ".gz")
		content, err := os.ReadFile(plain)
		require.NoError(t, err, "%s is compressed from nothing", name)
		switch filepath.Ext(name) {
		case ".css", ".js", ".svg":
			for ending, encoding := range map[string]string{".br": "br", ".gz": "gzip"} {
				compressed, err := os.ReadFile(name + ending)
				require.NoError(t, err, "run go generate in internal/web")
				assert.True(t, bytes.Equal(content, unpack(t, encoding, bytes.NewReader(compressed))), "%s is old: run go generate in internal/web", name+ending)
				seen++
			}
		}
		return nil
	}))
	assert.Greater(t, seen, 8)
}

func TestAssets_LeaveOutOfBulmaNothingButShades(t *testing.T) {
	t.Parallel()
	whole, err := os.ReadFile("assets/bulma-1.0.4/bulma.min.css")
	require.NoError(t, err)
	served, err := os.ReadFile("assets/app/bulma.css")
	require.NoError(t, err)
	shade := regexp.MustCompile(`^\.has-(text|background)-[a-z]+-\d\d(-invert)?\{[^{}]*\}`)
	left := 0
	for len(served) > 0 {
		if served[0] == whole[0] && (served[0] != '.' || bytes.Equal(served[:min(len(served), 60)], whole[:min(len(whole), 60)])) {
			served, whole = served[1:], whole[1:]
			continue
		}
		rule := shade.Find(whole)
		require.NotEmpty(t, rule, "run go generate in internal/web; at %.80s", served)
		whole = whole[len(rule):]
		left++
	}
	assert.Empty(t, whole)
	assert.Greater(t, left, 400)
}

func TestAssets_AreSentAsTheBrowserTakesThem(t *testing.T) {
	t.Parallel()
	site, err := web.New(web.Config{})
	require.NoError(t, err)
	views, err := site.Views("test", hello)
	require.NoError(t, err)
	w := httptest.NewRecorder()
	views.Render(w, httptest.NewRequest(http.MethodGet, "/", nil), http.StatusOK, "hello", nil)
	sheet := regexp.MustCompile(`/static/app/bulma[^"]+`).FindString(w.Body.String())
	require.NotEmpty(t, sheet)
	want, err := os.ReadFile("assets/app/bulma.css")
	require.NoError(t, err)
	for accepted, encoding := range map[string]string{
		"": "", "identity": "", "gzip": "gzip", "gzip, deflate, br, zstd": "br", "br;q=0, gzip;q=0.5": "gzip", "BR": "br", "br;q=0,gzip;q=0.0": "", "br;q=x": "", "brotli": "",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r := httptest.NewRequest(method, sheet, nil)
			r.Header.Set("Accept-Encoding", accepted)
			w := httptest.NewRecorder()
			site.Assets().ServeHTTP(w, r)
			res := w.Result()
			assert.Equal(t, http.StatusOK, res.StatusCode, accepted)
			assert.Equal(t, encoding, res.Header.Get("Content-Encoding"), accepted)
			assert.Equal(t, "text/css; charset=utf-8", res.Header.Get("Content-Type"), accepted)
			assert.Equal(t, "Accept-Encoding", res.Header.Get("Vary"), accepted)
			assert.Equal(t, "public, max-age=31536000, immutable", res.Header.Get("Cache-Control"), accepted)
			assert.Equal(t, "nosniff", res.Header.Get("X-Content-Type-Options"), accepted)
			if method == http.MethodGet {
				assert.True(t, bytes.Equal(want, unpack(t, encoding, res.Body)), accepted)
			} else {
				assert.Zero(t, w.Body.Len(), accepted)
			}
		}
	}
	for _, c := range []struct {
		method, path string
	}{{http.MethodPost, sheet}, {http.MethodGet, sheet + ".br"}, {http.MethodGet, "/static/app/bulma.css"}} {
		w := httptest.NewRecorder()
		site.Assets().ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		assert.Equal(t, http.StatusNotFound, w.Code, "%s %s", c.method, c.path)
	}
}
