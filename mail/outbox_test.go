package mail_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/mail"
)

func newOutbox(t *testing.T, db *database.DB) *mail.Outbox {
	t.Helper()
	o, err := mail.NewOutbox(mail.OutboxConfig{DB: db.Writer(), ReadDB: db.Reader(), Clock: func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }})
	require.NoError(t, err)
	return o
}

func get(t *testing.T, h http.Handler, path string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)
	return w.Result(), string(body)
}

func numbered(n int) mail.Message {
	return mail.Message{Kind: "test.numbered", To: fmt.Sprintf("p%d@example.com", n%2), Subject: fmt.Sprintf("Number %03d", n), Text: "text"}
}

func TestOutbox_KeepsWhatItIsSentForAllProcesses(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		first, second := newOutbox(t, db), newOutbox(t, db)
		require.NoError(t, first.Send(t.Context(), verify()))
		require.NoError(t, second.Send(t.Context(), numbered(1)))
		listed, more, err := second.List(t.Context(), mail.ListParams{})
		require.NoError(t, err)
		assert.False(t, more)
		require.Len(t, listed, 2)
		assert.Equal(t, "Number 001", listed[0].Subject, "the newest comes first")

		found, err := second.Find(t.Context(), listed[1].ID)
		require.NoError(t, err)
		assert.Equal(t, verify(), found.Message)
		assert.Equal(t, []string{"https://acme.example/auth/verify?token=s3cr3t-t0ken"}, found.Links)
		assert.Equal(t, time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), found.CreatedAt)
		assert.Empty(t, listed[1].HTML, "a list carries no HTML")

		_, err = first.Find(t.Context(), uuid.New())
		require.ErrorIs(t, err, mail.ErrNotFound)
		bad := verify()
		bad.Subject = "a\nb"
		err = first.Send(t.Context(), bad)
		require.ErrorIs(t, err, mail.ErrInvalid)
		assert.True(t, mail.IsPermanent(err))
	})
}

func TestOutbox_KeepsTheLastFiveHundred(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		o := newOutbox(t, db)
		for i := range mail.OutboxKeeps + 3 {
			require.NoError(t, o.Send(t.Context(), numbered(i)))
		}
		all, more, err := o.List(t.Context(), mail.ListParams{Limit: mail.MaxPage + 1})
		require.NoError(t, err)
		assert.False(t, more)
		require.Len(t, all, mail.OutboxKeeps)
		assert.Equal(t, "Number 502", all[0].Subject)
		assert.Equal(t, "Number 003", all[len(all)-1].Subject)
		var group errgroup.Group
		for i := range 20 {
			group.Go(func() error { return o.Send(t.Context(), numbered(i)) })
		}
		require.NoError(t, group.Wait())
		all, _, err = o.List(t.Context(), mail.ListParams{Limit: mail.MaxPage})
		require.NoError(t, err)
		assert.Len(t, all, mail.OutboxKeeps)
	})
}

func TestOutbox_PagesByKeyAndFiltersByAddress(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		o := newOutbox(t, db)
		h := o.Handler()
		const count = 2*mail.DefaultPage + 5
		for i := range count {
			require.NoError(t, o.Send(t.Context(), numbered(i)))
		}
		var seen []string
		for next := mail.DefaultPath; next != ""; {
			_, body := get(t, h, next, "Accept", "application/json")
			var page struct {
				Data struct {
					Messages []mail.Caught `json:"messages"`
					Next     string        `json:"next"`
				} `json:"data"`
			}
			require.NoError(t, json.Unmarshal([]byte(body), &page))
			for _, m := range page.Data.Messages {
				seen = append(seen, m.Subject)
			}
			next = page.Data.Next
		}
		require.Len(t, seen, count)
		for i, subject := range seen {
			assert.Equal(t, fmt.Sprintf("Number %03d", count-1-i), subject)
		}

		_, body := get(t, h, mail.DefaultPath+"?to=P1@example.com")
		assert.Contains(t, body, "Number 103")
		assert.NotContains(t, body, "Number 104")
		next := regexp.MustCompile(`href="([^"]+)" rel="next"`).FindStringSubmatch(body)
		require.NotNil(t, next)
		_, body = get(t, h, strings.ReplaceAll(next[1], "&amp;", "&"))
		assert.Contains(t, body, "Number 003")
		assert.NotContains(t, body, "Number 004", "the filter stays on the next page")
		_, body = get(t, h, mail.DefaultPath+"?to=nobody@example.com")
		assert.Contains(t, body, "No mail")
	})
}

func TestHandler_ShowsAMessageWithLinksThatCanBeFollowed(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		o := newOutbox(t, db)
		h := o.Handler()
		m := verify()
		m.ToName, m.Subject = `<script>alert("name")</script>`, `<script>alert("subject")</script>`
		m.Text = "See https://acme.example/a?x=1&y=\"<script>alert('text')</script> and javascript:alert(1) or (http://acme.example/b)."
		m.HTML = `<p style="color:red">Hi</p><script>alert("html")</script>`
		require.NoError(t, o.Send(t.Context(), m))
		listed, _, err := o.List(t.Context(), mail.ListParams{})
		require.NoError(t, err)
		at := mail.DefaultPath + "/" + listed[0].ID.String()

		for _, path := range []string{mail.DefaultPath, mail.DefaultPath + "/", at} {
			res, body := get(t, h, path)
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.NotContains(t, body, "<script>alert")
			assert.NotRegexp(t, `\sstyle=|\son[a-z]+=`, body)
			assert.Contains(t, res.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'")
			assert.Equal(t, 1, strings.Count(body, "<h1"))
		}
		_, body := get(t, h, at)
		assert.Contains(t, body, `<a href="https://acme.example/a?x=1&amp;y=">https://acme.example/a?x=1&amp;y=</a>`)
		assert.Contains(t, body, `(<a href="http://acme.example/b">http://acme.example/b</a>).`)
		assert.NotContains(t, body, `href="javascript`)
		assert.Regexp(t, `<iframe title="[^"]+" src="`+at+`/html"[^>]* sandbox="allow-popups allow-popups-to-escape-sandbox">`, body)

		res, body := get(t, h, at+"/html")
		assert.Equal(t, m.HTML, body)
		assert.Equal(t, "text/html; charset=utf-8", res.Header.Get("Content-Type"))
		assert.Equal(t, "SAMEORIGIN", res.Header.Get("X-Frame-Options"))
		assert.Equal(t, "nosniff", res.Header.Get("X-Content-Type-Options"))
		policy := res.Header.Values("Content-Security-Policy")
		require.Len(t, policy, 1, "a second policy would add its own limits")
		for _, part := range []string{"default-src 'none'", "style-src 'unsafe-inline'", "frame-ancestors 'self'", "sandbox allow-popups", "form-action 'none'", "base-uri 'none'"} {
			assert.Contains(t, policy[0], part)
		}
		assert.NotContains(t, policy[0], "script")

		_, body = get(t, h, at, "Accept", "application/json")
		var one struct {
			Data map[string]any `json:"data"`
		}
		require.NoError(t, json.Unmarshal([]byte(body), &one))
		assert.Equal(t, m.Text, one.Data["text"])
		assert.Equal(t, m.HTML, one.Data["html"])
		assert.Equal(t, []any{"https://acme.example/a?x=1&y=", "http://acme.example/b"}, one.Data["links"])
	})
}

func TestHandler_WhatIsNotThereIs404(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		o := newOutbox(t, db)
		require.NoError(t, o.Send(t.Context(), numbered(1))) // without HTML
		listed, _, err := o.List(t.Context(), mail.ListParams{})
		require.NoError(t, err)
		at := mail.DefaultPath + "/" + listed[0].ID.String()
		for _, path := range []string{at + "/html", at + "/other", mail.DefaultPath + "/nonsense", mail.DefaultPath + "/" + uuid.NewString()} {
			res, _ := get(t, o.Handler(), path)
			assert.Equal(t, http.StatusNotFound, res.StatusCode, path)
		}
		_, body := get(t, o.Handler(), at)
		assert.NotContains(t, body, "<iframe")
	})
}

func TestNewOutbox_ChecksItsConfig(t *testing.T) {
	t.Parallel()
	_, err := mail.NewOutbox(mail.OutboxConfig{})
	require.ErrorContains(t, err, "DB is required")
	db := dbtest.SQLite(t, dbtest.Empty)
	_, err = mail.NewOutbox(mail.OutboxConfig{DB: db.Writer(), Path: "mail/"})
	require.ErrorContains(t, err, "Path")
	o, err := mail.NewOutbox(mail.OutboxConfig{DB: db.Writer(), Path: "/x/mail"})
	require.NoError(t, err)
	require.NoError(t, o.Migrate(t.Context()))
	res, _ := get(t, o.Handler(), "/x/mail")
	assert.Equal(t, http.StatusOK, res.StatusCode)
}
