package web_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/web"
)

func TestDownload_AFileThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	site, err := web.New(web.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	broken := errors.New("the database is gone")
	for path, write := range map[string]func(w io.Writer) error{
		"/whole": func(w io.Writer) error {
			_, err := io.WriteString(w, "a,b\n")
			return err
		},
		"/early": func(io.Writer) error { return broken },
		"/late": func(w io.Writer) error {
			_, err := io.WriteString(w, "a,b\n")
			return errors.Join(err, broken)
		},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { site.Download(w, r, "x.csv", write) }))
		t.Cleanup(server.Close)
		res, err := http.Get(server.URL + path)
		if path == "/late" {
			if err == nil {
				_, err = io.ReadAll(res.Body)
				require.NoError(t, res.Body.Close())
			}
			server.Close() // when it has, the handler has written its log
			require.Error(t, err, "the connection is cut")
			continue
		}
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		if path == "/whole" {
			assert.Equal(t, "a,b\n", string(body))
			assert.Equal(t, `attachment; filename="x.csv"`, res.Header.Get("Content-Disposition"))
			assert.Equal(t, "text/csv; charset=utf-8", res.Header.Get("Content-Type"))
			continue
		}
		assert.Equal(t, http.StatusInternalServerError, res.StatusCode)
		assert.Empty(t, res.Header.Get("Content-Disposition"), "an error is no file")
		assert.Contains(t, res.Header.Get("Content-Type"), "text/html")
		assert.NotContains(t, string(body), "database")
	}
	assert.Contains(t, log.String(), "a download broke off")
}

func TestCSVText_IsNoFormula(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", "Pack": "Pack", "a=b": "a=b", "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@x": "'@x", "\tx": "'\tx", "\rx": "'\rx", "\nx": "'\nx"} {
		assert.Equal(t, want, web.CSVText(text))
	}
}
