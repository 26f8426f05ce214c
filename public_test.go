package quickscale_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale"
	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/mail"
)

// postbox is a mailer that keeps what it is given.
type postbox struct {
	mu   sync.Mutex
	sent []mail.Message
}

func (p *postbox) Send(_ context.Context, m mail.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, m)
	return nil
}

func (p *postbox) messages() []mail.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]mail.Message{}, p.sent...)
}

// write sends the contact form as a browser does.
func write(h http.Handler, form url.Values, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/contact", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestPublic_SaysTheFoundersWordsAndGeneralOnes(t *testing.T) {
	t.Parallel()
	db := dbtest.SQLite(t, dbtest.Empty)
	app := newApp(t, db, func(c *quickscale.Config) {
		c.Name, c.AdminEmail = "Acme", "boss@example.com"
		c.Public = quickscale.Public{Headline: "Know <your> text", Privacy: []quickscale.Section{{Title: "All of it", Text: "Ours."}}, Questions: []quickscale.Section{}}
	})
	require.NoError(t, app.Migrate(t.Context()))
	for path, want := range map[string]struct{ has, hasNot string }{
		"/":        {"Know &lt;your&gt; text", "Questions"},
		"/about":   {"Acme is a service", ""},
		"/terms":   {"This page is a placeholder", ""},
		"/privacy": {"All of it", "placeholder"},
		"/contact": {`name="message"`, ""},
	} {
		code, page, _ := get(t, app.Handler(), path)
		assert.Equal(t, http.StatusOK, code, path)
		assert.Contains(t, page, want.has, path)
		if want.hasNot != "" {
			assert.NotContains(t, page, want.hasNot, path)
		}
		assert.Equal(t, 1, strings.Count(page, "<h1"), path)
		for _, link := range []string{"/about", "/contact", "/terms", "/privacy"} {
			assert.Contains(t, page, `<li><a href="`+link+`"`, "in the footer of %s", path)
		}
	}
	code, _, header := get(t, app.Handler(), "/pricing")
	assert.Equal(t, http.StatusSeeOther, code)
	assert.Equal(t, "/billing/", header.Get("Location"))
	code, _, header = get(t, app.Handler(), "/robots.txt")
	assert.Equal(t, http.StatusNotFound, code)
	assert.Empty(t, header.Get("Allow"))
	r := httptest.NewRequest(http.MethodPost, "/about", nil)
	w := httptest.NewRecorder()
	app.Handler().ServeHTTP(w, r)
	assert.Equal(t, http.StatusMethodNotAllowed, w.Code)
	assert.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
}

func TestPublic_CanBeLeftOutAndReplaced(t *testing.T) {
	t.Parallel()
	app := newApp(t, dbtest.SQLite(t, dbtest.Empty), func(c *quickscale.Config) { c.WithoutPublicPages = true })
	for _, path := range []string{"/", "/about", "/contact", "/terms", "/privacy", "/pricing"} {
		code, page, _ := get(t, app.Handler(), path)
		assert.Equal(t, http.StatusNotFound, code, path)
		assert.NotContains(t, page, `href="/about"`)
	}

	app = newApp(t, dbtest.SQLite(t, dbtest.Empty), func(c *quickscale.Config) {
		c.Templates = fstest.MapFS{"public/_hero.html": {Data: []byte(`{{define "hero"}}<h1>{{.Data.Headline}}, my way</h1>{{end}}`)}}
	})
	require.NoError(t, app.Migrate(t.Context()))
	_, page, _ := get(t, app.Handler(), "/")
	assert.Contains(t, page, "QuickScale, my way")
	assert.Contains(t, page, "How it works", "the rest stays")
	code, _, _ := get(t, app.Handler(), "/contact")
	assert.Equal(t, http.StatusNotFound, code, "there is nobody to write to")

	_, err := withTemplates(t, nil, func(c *quickscale.Config) { c.Public.Contact = "Boss <boss@example.com>" })
	require.ErrorContains(t, err, "Config.Public.Contact")
}

func TestContact_IsMailedAndTheAnswerGoesToTheVisitor(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, dbtest.Empty, func(t *testing.T, db *database.DB) {
		box := &postbox{}
		app := newApp(t, db, func(c *quickscale.Config) {
			c.Name, c.Mailer, c.Public.Contact, c.JobPoll = "Acme", box, "hello@acme.example", 10*time.Millisecond
		})
		require.NoError(t, app.Migrate(t.Context()))
		require.NoError(t, app.Start(t.Context()))
		t.Cleanup(func() { assert.NoError(t, app.Stop(context.WithoutCancel(t.Context()))) })
		h := app.Handler()
		form := func(changes ...string) url.Values {
			v := url.Values{"name": {"Grace"}, "email": {"grace@example.com"}, "message": {"Hello.\r\n\r\n<b>Do you do refunds?</b>"}, "website": {""}}
			for i := 0; i < len(changes); i += 2 {
				v.Set(changes[i], changes[i+1])
			}
			return v
		}

		// What cannot be sent is told beside its field, and what was written stays.
		for field, bad := range map[string][]string{
			"name":    {"Grace\r\nBcc: all@example.com", strings.Repeat("n", 101)},
			"email":   {"", "grace", "grace@example.com\r\nBcc: all@example.com", "Grace <grace@example.com>", "a@example.com, b@example.com"},
			"message": {"", strings.Repeat("m", 5001)},
		} {
			for _, value := range bad {
				w := write(h, form(field, value))
				assert.Equal(t, http.StatusUnprocessableEntity, w.Code, "%s %q", field, value)
				assert.Contains(t, w.Body.String(), `id="f-`+field+`-error"`, "%s %q", field, value)
			}
		}
		w := write(h, form("email", "no", "name", "Grace Brewster"))
		assert.Contains(t, w.Body.String(), `value="Grace Brewster"`)
		assert.Contains(t, w.Body.String(), "&lt;b&gt;Do you do refunds?")
		assert.Equal(t, http.StatusForbidden, write(h, form(), "Sec-Fetch-Site", "cross-site").Code)

		// A program that fills in everything is told the same, and nothing is sent.
		w = write(h, form("website", "https://spam.example", "message", "spam"))
		assert.Equal(t, http.StatusSeeOther, w.Code)

		w = write(h, form())
		assert.Equal(t, http.StatusSeeOther, w.Code, w.Body.String())
		assert.Equal(t, "/contact", w.Header().Get("Location"))
		require.Eventually(t, func() bool { return len(box.messages()) > 0 }, time.Minute, 10*time.Millisecond)
		m := box.messages()[0]
		assert.Equal(t, "hello@acme.example", m.To)
		assert.Equal(t, "grace@example.com", m.ReplyTo)
		assert.Equal(t, "Grace wrote to Acme", m.Subject)
		assert.Contains(t, m.Text, "<b>Do you do refunds?</b>")
		assert.NotContains(t, m.HTML, "<b>Do you", "escaped")

		// Two were counted; three more are taken from this network address, and none after that.
		for range 3 {
			assert.Equal(t, http.StatusSeeOther, write(h, form()).Code)
		}
		w = write(h, form(), "Accept", "application/json")
		assert.Equal(t, http.StatusTooManyRequests, w.Code)
		assert.NotEmpty(t, w.Header().Get("Retry-After"))
		require.Eventually(t, func() bool { return len(box.messages()) == 4 }, time.Minute, 10*time.Millisecond)
		for _, m := range box.messages() {
			assert.NotContains(t, m.Text, "spam")
		}
	})
}
