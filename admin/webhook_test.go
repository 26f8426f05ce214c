package admin_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quickscale/quickscale/admin"
	"github.com/quickscale/quickscale/webhook"
)

// post sends a form; pairs are names and values.
func (o *office) post(path string, pairs ...string) (int, string, http.Header) {
	o.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.RemoteAddr = "192.0.2.7:4711"
	w := httptest.NewRecorder()
	o.handler.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(o.t, err)
	return w.Code, string(body), w.Header()
}

func (o *office) status(id string) webhook.Status {
	o.t.Helper()
	r, err := o.inbox.Find(o.t.Context(), id)
	require.NoError(o.t, err)
	return r.Status
}

func TestWebhooks_ActedOnOneByOne(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		o.event("evt_1", "customer.created")
		status, body := o.get("/admin/webhooks/evt_1")
		require.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "cs_1")
		assert.Contains(t, body, "Show personal data")
		status, _, header := o.post("/admin/webhooks/evt_1/skip", "reason", "a <test>")
		assert.Equal(t, http.StatusSeeOther, status)
		assert.Equal(t, "/admin/webhooks/evt_1", header.Get("Location"))
		assert.Equal(t, webhook.StatusSkipped, o.status("evt_1"))
		_, body = o.get("/admin/webhooks/evt_1")
		assert.Contains(t, body, "a &lt;test&gt;")
		assert.Contains(t, body, "ada@example.com")
		status, _, _ = o.post("/admin/webhooks/evt_1/replay")
		assert.Equal(t, http.StatusSeeOther, status)
		assert.Equal(t, webhook.StatusReceived, o.status("evt_1"))
		status, _, _ = o.post("/admin/webhooks/evt_1/retry")
		assert.Equal(t, http.StatusSeeOther, status)
		status, _, _ = o.post("/admin/webhooks/evt_none/retry")
		assert.Equal(t, http.StatusNotFound, status)

		status, body, _ = o.post("/admin/webhooks/evt_1/reveal", "reason", "ticket 7")
		assert.Equal(t, http.StatusOK, status)
		assert.NotContains(t, body, "Show personal data")
		actions, _, err := o.inbox.Actions(t.Context(), webhook.ActionsParams{Event: "evt_1"})
		require.NoError(t, err)
		require.Len(t, actions, 4)
		assert.Equal(t, webhook.VerbReveal, actions[0].Verb)
		assert.Contains(t, actions[0].By, "ada@example.com")
		assert.Equal(t, "ticket 7", actions[0].Reason)
		assert.Equal(t, admin.ActionEventReveal, o.audit()[0].Action)
		assert.Equal(t, "evt_1", o.audit()[0].Subject)
	})
}

func TestWebhooks_ActedOnInBulkAfterADryRun(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		for i := range 3 {
			o.event(fmt.Sprintf("evt_%d", i), "customer.created")
		}
		o.event("evt_other", "price.created")
		status, body, _ := o.post("/admin/webhooks/skip", "status", "received", "type", "customer.created", "dry_run", "true")
		assert.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "Nothing was done")
		assert.Contains(t, body, "evt_2")
		assert.NotContains(t, body, "evt_other")
		assert.Equal(t, webhook.StatusReceived, o.status("evt_2"))
		status, _, header := o.post("/admin/webhooks/skip", "status", "received", "type", "customer.created")
		assert.Equal(t, http.StatusSeeOther, status)
		assert.Equal(t, "/admin/webhooks", header.Get("Location"))
		assert.Equal(t, webhook.StatusSkipped, o.status("evt_2"))
		assert.Equal(t, webhook.StatusReceived, o.status("evt_other"))
		status, _, _ = o.post("/admin/webhooks/retry")
		assert.Equal(t, http.StatusSeeOther, status, "there are no dead ones")
		status, _, _ = o.post("/admin/webhooks/replay")
		assert.Equal(t, http.StatusUnprocessableEntity, status, "everything at once is not meant")
		_, body = o.get("/admin/webhooks?type=price.created")
		assert.Contains(t, body, "evt_other")
		assert.NotContains(t, body, "evt_2")
	})
}

func TestWebhooks_Figures(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		status, body := o.get("/admin/webhooks/stats")
		assert.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, "Nothing happened")
		o.event("evt_1", "customer.created")
		for _, hours := range []string{"", "?hours=168", "?hours=720", "?hours=nonsense"} {
			status, body = o.get("/admin/webhooks/stats" + hours)
			assert.Equal(t, http.StatusOK, status)
			assert.Contains(t, body, "customer.created")
			assert.Equal(t, 1, strings.Count(body, "<rect"))
			assert.NotContains(t, body, "style=")
		}
		status, body = o.get("/admin/webhooks/stats", "Accept", "application/json")
		assert.Equal(t, http.StatusOK, status)
		assert.Contains(t, body, `"waiting":1`)
	})
}

func TestWebhooks_ActionsAreForStaffOnly(t *testing.T) {
	run(t, func(t *testing.T, o *office) {
		o.event("evt_1", "customer.created")
		o.staff = nil
		for _, path := range []string{"/admin/webhooks/evt_1/skip", "/admin/webhooks/evt_1/reveal", "/admin/webhooks/skip", "/admin/webhooks/evt_1/replay"} {
			status, _, _ := o.post(path, "type", "customer.created", "status", "received")
			assert.Equal(t, http.StatusNotFound, status, path)
		}
		status, _ := o.get("/admin/webhooks/stats")
		assert.Equal(t, http.StatusNotFound, status)
		assert.Equal(t, webhook.StatusReceived, o.status("evt_1"))
	})
}
