package outbound_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/internal/database"
	"github.com/quickscale/quickscale/internal/dbtest"
	"github.com/quickscale/quickscale/webhook/outbound"
)

// desk is the pages as the person in who sees them.
type desk struct {
	*sender

	who     string
	handler http.Handler
}

func newDesk(t *testing.T, s *sender) *desk {
	t.Helper()
	d := &desk{sender: s, who: "ada"}
	pages, err := outbound.NewPages(outbound.PagesConfig{Outbound: s.Outbound, LoginURL: "/login", BackURL: "/account/",
		Account: func(*http.Request) (string, bool) { return d.who, d.who != "" }})
	require.NoError(t, err)
	d.handler = pages.Handler()
	return d
}

// do makes a request of a browser; with a body it is a form.
func (d *desk) do(method, path string, form url.Values, header ...string) (int, string, http.Header) {
	d.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(d.t, err)
	return w.Code, string(body), w.Header()
}

func TestPages_EndpointIsKeptFromItsFirstDayToItsLast(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		r := receive(t)
		d := newDesk(t, start(t, db, nil))
		_, body, _ := d.do(http.MethodGet, "/account/webhooks/", nil)
		assert.Contains(t, body, "No endpoints yet")

		status, body, _ := d.do(http.MethodPost, "/account/webhooks/", url.Values{"url": {"ftp://x"}, "types": {outbound.TypeCreditsLow, "no.such"}, "description": {"my <server>"}})
		assert.Equal(t, http.StatusUnprocessableEntity, status)
		assert.Contains(t, body, "The address must begin with https://.")
		assert.Contains(t, body, "Choose of these")
		assert.Contains(t, body, "my &lt;server&gt;", "what was typed is kept")
		assert.Regexp(t, `value="credits.low" checked`, body)

		status, body, header := d.do(http.MethodPost, "/account/webhooks/", url.Values{"url": {r.URL}, "types": {outbound.TypeCreditsLow, outbound.TypePurchaseCompleted}})
		require.Equal(t, http.StatusCreated, status, body)
		assert.Equal(t, "no-store", header.Get("Cache-Control"))
		secret := regexp.MustCompile(`whsec_[A-Za-z0-9+/=]+`).FindString(strings.ReplaceAll(body, "&#43;", "+"))
		require.NotEmpty(t, secret)
		list, err := d.ListEndpoints(t.Context(), "ada")
		require.NoError(t, err)
		require.Len(t, list, 1)
		assert.Equal(t, []string{outbound.TypeCreditsLow, outbound.TypePurchaseCompleted}, list[0].Types)
		at := "/account/webhooks/" + list[0].ID.String()
		for _, path := range []string{"/account/webhooks/", at} {
			_, body, _ = d.do(http.MethodGet, path, nil)
			assert.NotContains(t, body, "whsec_", "a secret is shown once")
		}

		status, _, header = d.do(http.MethodPost, at+"/test", nil)
		require.Equal(t, http.StatusSeeOther, status)
		log := header.Get("Location")
		d.wait(list[0], outbound.StatusDelivered)
		_, body, _ = d.do(http.MethodGet, log, nil)
		assert.Contains(t, body, "webhook.test")
		assert.Contains(t, body, "<strong>200</strong>")
		status, _, _ = d.do(http.MethodPost, log+"/resend", nil)
		assert.Equal(t, http.StatusSeeOther, status)
		require.Eventually(t, func() bool { return r.count() == 2 }, timeout, tick)

		status, _, _ = d.do(http.MethodPost, at, url.Values{"url": {r.URL + "/hooks"}, "description": {"the second address"}})
		assert.Equal(t, http.StatusSeeOther, status)
		status, body, _ = d.do(http.MethodPost, at+"/roll", nil)
		assert.Equal(t, http.StatusOK, status)
		assert.NotContains(t, strings.ReplaceAll(body, "&#43;", "+"), secret)
		assert.Contains(t, body, "whsec_")
		status, _, _ = d.do(http.MethodPost, at+"/disable", nil)
		assert.Equal(t, http.StatusSeeOther, status)
		status, _, _ = d.do(http.MethodPost, at+"/test", nil)
		assert.Equal(t, http.StatusConflict, status)
		e, err := d.FindEndpoint(t.Context(), "ada", list[0].ID)
		require.NoError(t, err)
		assert.False(t, e.Enabled)
		assert.Equal(t, r.URL+"/hooks", e.URL)
		assert.Empty(t, e.Types, "none ticked: all")
		status, _, _ = d.do(http.MethodPost, at+"/enable", nil)
		assert.Equal(t, http.StatusSeeOther, status)

		status, body, _ = d.do(http.MethodGet, at+"/delete", nil)
		assert.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "cannot be undone")
		status, _, _ = d.do(http.MethodPost, at+"/delete", nil)
		assert.Equal(t, http.StatusSeeOther, status)
		status, _, _ = d.do(http.MethodGet, at, nil)
		assert.Equal(t, http.StatusNotFound, status)
	})
}

func TestPages_AreTheOwnersOnly(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		r := receive(t)
		s := start(t, db, nil)
		d := newDesk(t, s)
		e, _ := s.endpoint(r.URL)
		s.send("a")
		delivery := s.wait(e, outbound.StatusDelivered)
		at := "/account/webhooks/" + e.ID.String()
		log := at + "/deliveries/" + delivery.ID.String()
		other, _ := s.endpoint(r.URL)

		status, _, _ := d.do(http.MethodGet, "/account/webhooks/"+other.ID.String()+"/deliveries/"+delivery.ID.String(), nil)
		assert.Equal(t, http.StatusNotFound, status, "the delivery is of another endpoint")
		d.who = "eve"
		for _, path := range []string{at, at + "/delete", log, "/account/webhooks/none", at + "/deliveries/none"} {
			status, _, _ := d.do(http.MethodGet, path, nil)
			assert.Equal(t, http.StatusNotFound, status, path)
		}
		for _, path := range []string{at, at + "/enable", at + "/disable", at + "/roll", at + "/test", at + "/delete", log + "/resend"} {
			status, _, _ := d.do(http.MethodPost, path, url.Values{"url": {"https://eve.example"}})
			assert.Equal(t, http.StatusNotFound, status, path)
			status, _, _ = d.do(http.MethodPost, path, nil, "Sec-Fetch-Site", "cross-site")
			assert.Equal(t, http.StatusForbidden, status, path)
		}
		_, body, _ := d.do(http.MethodGet, "/account/webhooks/", nil)
		assert.NotContains(t, body, r.URL)
		d.who = ""
		status, _, header := d.do(http.MethodGet, at, nil)
		assert.Equal(t, http.StatusSeeOther, status)
		assert.Equal(t, "/login?next="+url.QueryEscape(at), header.Get("Location"))
		status, _, _ = d.do(http.MethodPost, at+"/delete", nil, "Accept", "application/json")
		assert.Equal(t, http.StatusUnauthorized, status)
		left, err := s.FindEndpoint(t.Context(), "ada", e.ID)
		require.NoError(t, err)
		assert.True(t, left.Enabled)
		assert.Equal(t, 1, r.count())
	})
}

func TestPages_SpeakJSONAndPage(t *testing.T) {
	t.Parallel()
	dbtest.Run(t, schema, func(t *testing.T, db *database.DB) {
		r := receive(t)
		r.text.Store("thank you <b>\x00")
		s := start(t, db, nil)
		d := newDesk(t, s)
		body := fmt.Sprintf(`{"url":%q,"types":["credits.low"],"description":"json"}`, r.URL)
		req := httptest.NewRequest(http.MethodPost, "/account/webhooks/", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json")
		w := httptest.NewRecorder()
		d.handler.ServeHTTP(w, req)
		require.Equal(t, http.StatusCreated, w.Code, w.Body.String())
		var made struct {
			Data struct {
				Endpoint outbound.Endpoint `json:"endpoint"`
				Secret   string            `json:"secret"`
			} `json:"data"`
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &made))
		assert.True(t, strings.HasPrefix(made.Data.Secret, "whsec_"))
		e := made.Data.Endpoint
		const sent = outbound.DefaultPage + 3
		for i := range sent {
			s.send(fmt.Sprint(i))
		}
		require.Eventually(t, func() bool { return r.count() >= sent }, timeout, tick)

		seen := map[string]bool{}
		for next := "/account/webhooks/" + e.ID.String(); next != ""; {
			_, text, _ := d.do(http.MethodGet, next, nil, "Accept", "application/json")
			var page struct {
				Data struct {
					Deliveries []outbound.Delivery `json:"deliveries"`
					Next       string              `json:"next"`
				} `json:"data"`
			}
			require.NoError(t, json.Unmarshal([]byte(text), &page), text)
			for _, one := range page.Data.Deliveries {
				seen[one.ID.String()] = true
			}
			next = page.Data.Next
		}
		assert.Len(t, seen, sent, "each delivery is on one page")

		one := s.wait(e, outbound.StatusDelivered)
		_, html, _ := d.do(http.MethodGet, "/account/webhooks/"+e.ID.String()+"/deliveries/"+one.ID.String(), nil)
		assert.Contains(t, html, "thank you &lt;b&gt;")
		assert.Contains(t, html, "&#34;threshold&#34;:&#34;10&#34;", "the payload is shown")
		_, html, _ = d.do(http.MethodGet, "/account/webhooks/"+e.ID.String()+"?status=failed", nil)
		assert.Contains(t, html, "No deliveries")
	})
}

func TestNewPages_SaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := outbound.NewPages(outbound.PagesConfig{})
	require.ErrorContains(t, err, "PagesConfig.Outbound")
	_, err = outbound.NewPages(outbound.PagesConfig{Outbound: &outbound.Outbound{}})
	require.ErrorContains(t, err, "PagesConfig.Account")
}
