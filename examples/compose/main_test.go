package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// output is what the program prints while it runs.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// The member enters with the token that was printed, uses the form, and calls the API, all on the host's own router.
func TestSmoke_OwnUsersOwnRouter(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	env := map[string]string{"COMPOSE_ADDR": addr, "COMPOSE_FILE": filepath.Join(t.TempDir(), "compose.db")}
	ctx, stop := context.WithCancel(t.Context())
	var out output
	done := make(chan error, 1)
	go func() { done <- run(ctx, func(name string) string { return env[name] }, &out) }()
	var token string
	require.Eventually(t, func() bool {
		m := regexp.MustCompile(`token\n  (\S+)`).FindStringSubmatch(out.String())
		if m != nil {
			token = m[1]
		}
		return m != nil
	}, time.Minute, 20*time.Millisecond)

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := &http.Client{Jar: jar}
	base := "http://" + addr
	read := func(res *http.Response, err error) (int, string, string) {
		t.Helper()
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, res.Request.URL.Path, string(body)
	}
	status, _, kept := read(client.PostForm(base+"/services/text-analysis", url.Values{"text": {"one two"}, "operation": {"count_words"}}))
	assert.Equal(t, http.StatusUnauthorized, status, "signed out")
	assert.Contains(t, kept, "one two</textarea>", "what was typed is kept")
	status, _, _ = read(client.PostForm(base+"/enter", url.Values{"token": {"wrong"}}))
	assert.Equal(t, http.StatusUnauthorized, status)
	elsewhere, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/enter", strings.NewReader(url.Values{"token": {token}}.Encode()))
	require.NoError(t, err)
	elsewhere.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	elsewhere.Header.Set("Sec-Fetch-Site", "cross-site")
	status, _, _ = read(client.Do(elsewhere))
	assert.Equal(t, http.StatusForbidden, status, "a form of another site signs nobody in")
	status, path, body := read(client.PostForm(base+"/enter", url.Values{"token": {token}}))
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "/services/", path)
	sheet := regexp.MustCompile(`href="(/[^"]+\.css)"`).FindStringSubmatch(body)
	require.NotNil(t, sheet)
	status, _, _ = read(client.Get(base + sheet[1]))
	assert.Equal(t, http.StatusOK, status, "the pages find their style sheet on the host's router")
	status, _, body = read(client.PostForm(base+"/services/text-analysis", url.Values{"text": {"one two"}, "operation": {"count_words"}}))
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "19.5")

	call := func(token string) (status int, charged, balance string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/v1/services/text-analysis", strings.NewReader(`{"text":"one","operation":"analyze"}`))
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		status, _, body := read(http.DefaultClient.Do(r))
		var answer struct {
			Data struct {
				Charged string `json:"credits_charged"`
				Balance string `json:"balance"`
			} `json:"data"`
		}
		require.NoError(t, json.Unmarshal([]byte(body), &answer), body)
		return status, answer.Data.Charged, answer.Data.Balance
	}
	status, charged, balance := call(token)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "2", charged)
	assert.Equal(t, "17.5", balance)
	status, _, _ = call("wrong")
	assert.Equal(t, http.StatusUnauthorized, status)

	stop()
	require.NoError(t, <-done)
}

func TestRun_SaysWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	for want, env := range map[string]map[string]string{
		"COMPOSE_ADDR": {"COMPOSE_ADDR": l.Addr().String(), "COMPOSE_FILE": filepath.Join(t.TempDir(), "c.db")},
		"open":         {"COMPOSE_FILE": filepath.Join(t.TempDir(), "no", "such", "folder", "c.db")},
	} {
		require.ErrorContains(t, run(t.Context(), func(name string) string { return env[name] }, io.Discard), want)
	}
}
