package main

import (
	"io"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// maxWeight is what the first page may take over the network with all that it needs, in bytes.
const maxWeight = 60 << 10

func TestHome_WeighsLittleAndIsKept(t *testing.T) {
	t.Parallel()
	s := serveSite(t)
	fetch := func(path string) (*http.Response, []byte) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.base+path, nil)
		require.NoError(t, err)
		r.Header.Set("Accept-Encoding", "gzip, deflate, br, zstd") // as Chromium says; Go leaves the answer compressed then
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode, path)
		return res, body
	}
	_, page := fetch("/")
	total := len(page)
	links := regexp.MustCompile(`(?:href|src)="(/static/[^"]+)"`).FindAllSubmatch(page, -1)
	require.Greater(t, len(links), 4)
	seen := map[string]bool{}
	for _, link := range links {
		path := string(link[1])
		if seen[path] {
			continue
		}
		seen[path] = true
		res, body := fetch(path)
		assert.Equal(t, "br", res.Header.Get("Content-Encoding"), path)
		assert.Contains(t, res.Header.Get("Cache-Control"), "immutable", path)
		assert.Regexp(t, `-[0-9a-f]{12}\.`, path, "the address changes with the content")
		total += len(body)
	}
	assert.LessOrEqual(t, total, maxWeight)
	t.Logf("%d bytes", total)
}
